"""`trioraft snapshot`: have a server take a snapshot, and bring it home."""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import trio

from trioraft._cli.common import Unusable
from trioraft._cli.http import Answer, add_parser, ask, fetch, problem, tell
from trioraft._snapshots.form import Damaged, verify
from trioraft._transport.addresses import Address

_ABOUT: Final = """\
Have a server take a snapshot of all that it has applied, and compact its log.  With --save the
snapshot is brought here, verified, and written to a file that a new cluster can start from:
trioraft serve --restore FILE.
"""
_EXITS: Final = """\
exit status:
  0  there is a snapshot, and with --save it is in the file
  1  the server could not take one, or the file could not be written, or what came is damaged
  2  the arguments can't be used, or the file is there already
  3  no such server, or it has nothing to save yet, or it took too long; try again
"""

_ROUNDS: Final = 40
"""How often a server is asked that is still at it."""

_LOOKS: Final = 60
"""How often its status is looked at in between, once a second."""

_TRIES: Final = 5
"""How often a snapshot is fetched that makes way for a newer one before all of it has come."""

_SUMMARY: Final[dict[str, type[object]]] = {"index": int, "term": int, "size": int, "digest": str}


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_parser(commands, "snapshot", "have a snapshot taken", _ABOUT, _EXITS)
    parser.add_argument("--save", metavar="FILE", help="where it is written to; must not be there")
    parser.set_defaults(run=_snapshot)


def pause(seconds: float) -> None:
    """Do nothing for so long."""
    trio.run(trio.sleep, seconds)


def _snapshot(given: argparse.Namespace) -> int:
    answer = _take(given.address) if given.save is None else _save(given.address, given.save)
    return tell(answer, as_json=given.json)


def _take(address: Address) -> Answer:
    """Have a snapshot taken of all that is applied by now, however long that takes."""
    status = ask(address, "GET", "/status", expect={"last_applied": int})
    if status.status != 200:
        return status
    applied = status.told["last_applied"]
    if applied == 0:
        return Answer(503, problem("Busy", "the server has applied nothing yet", "not done"))
    for _ in range(_ROUNDS):
        answer = ask(address, "POST", f"/snapshot?index={applied}", expect=_SUMMARY)
        if (answer.status, answer.told.get("error")) != (503, "Busy"):
            return answer
        for _ in range(_LOOKS):
            pause(1.0)
            status = ask(address, "GET", "/status", expect={"snapshot_index": int})
            if status.status != 200:
                return status
            if status.told["snapshot_index"] >= applied:
                break
    return answer


# -- bringing it home ------------------------------------------------------------------------------


def _save(address: Address, name: str) -> Answer:
    path = Path(name)
    if os.path.lexists(path):
        raise Unusable(f"--save: {path} is there already")
    try:
        number, beside = tempfile.mkstemp(".part", f".{path.name}.", path.parent)
    except OSError as error:
        raise Unusable(f"--save: {path}: {error.strerror}") from error
    try:
        with open(number, "w+b") as file:
            answer = _bring(address, file)
            if answer.status == 200:
                file.flush()
                os.fsync(file.fileno())
                _name(Path(beside), path)
                answer = Answer(200, {**answer.told, "file": str(path)})
    except FileExistsError:
        raise Unusable(f"--save: {path} is there by now") from None
    except OSError as error:
        what = f"{path} can't be written: {error.strerror}"
        answer = Answer(500, problem(type(error).__name__, what, "not done"))
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)
    return answer


def _bring(address: Address, file: BinaryIO) -> Answer:
    """Write a snapshot to the file, and verify it."""
    for _ in range(_TRIES):
        answer = _take(address)
        if answer.status != 200:
            return answer
        file.seek(0)
        file.truncate()
        refusal = _fetch_all(address, answer, file)
        if refusal is None:
            return _verified(answer, file)
        if refusal.status != 404:
            return refusal
    what = f"the snapshot made way for a newer one before all of it had come, {_TRIES} times"
    return Answer(503, problem("Busy", what, "not done"))


def _fetch_all(address: Address, taken: Answer, file: BinaryIO) -> Answer | None:
    """Write all of it, piece by piece; the answer is why that can't be done."""
    told, offset = taken.told, 0
    where = f"/snapshot/piece?index={told['index']}&term={told['term']}"
    while offset < told["size"]:
        piece = fetch(address, f"{where}&offset={offset}")
        if isinstance(piece, Answer):
            return piece
        if not piece:
            break
        file.write(piece)
        offset += len(piece)
    return None


def _verified(taken: Answer, file: BinaryIO) -> Answer:
    """The answer, if the file holds what it names."""
    told = taken.told
    file.seek(0)
    try:
        found = verify(file)
    except Damaged as error:
        return Answer(500, problem("ProtocolError", f"what came is damaged: {error}", "not done"))
    if (found.size, found.digest.hex()) != (told["size"], told["digest"]):
        what = "what came is another snapshot than the one that was taken"
        return Answer(500, problem("ProtocolError", what, "not done"))
    return taken


def _name(beside: Path, path: Path) -> None:
    """Give the file its name, for good.

    Raises:
        FileExistsError: somebody else has that name by now.
    """
    try:
        os.link(beside, path)  # a rename would take the name away from another file
    except FileExistsError:
        raise
    except OSError:  # some file systems have no links
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(beside, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
