"""`trioraft inspect`: what a stopped server's data directory holds, and whether it is whole."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final

from trioraft._cli.common import Unusable, complain, say
from trioraft._cli.http import one_line, readable
from trioraft._directory import Holding, look_at
from trioraft._errors import StorageCorrupt, StorageError
from trioraft._snapshots.form import Summary
from trioraft._state import HardState
from trioraft._storage.inspection import LogFound, SnapshotFound, is_data_directory, is_in_use
from trioraft._wire.frames import Kind

_ABOUT: Final = """\
Say what the data directory of a stopped server holds, and verify every checksum in it.  Nothing in
it is changed.
"""
_EXITS: Final = """\
exit status:
  0  all of it is whole
  1  something is damaged, or can't be read; one line for each says which file, and where
  2  the arguments can't be used: there is no data directory
  3  it is in use: stop the server first
"""
_RUNS: Final = 10
"""How many of the last terms are told."""

_ROWS: Final = ("members", "terms", "segments", "snapshots")


class Exit(IntEnum):
    """What the status of the process says."""

    WHOLE = 0
    DAMAGED = 1
    UNUSABLE = 2
    IN_USE = 3


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "inspect",
        help="say what a stopped server's data directory holds",
        description=_ABOUT,
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", metavar="DIR", help="the data directory")
    parser.add_argument("--json", action="store_true", help="print what is found as JSON")
    parser.set_defaults(run=_inspect)


def _inspect(given: argparse.Namespace) -> int:
    directory = os.path.abspath(given.directory)
    try:
        if not is_data_directory(directory):
            raise Unusable(f"{directory} is no data directory")
        found = None if is_in_use(directory) else look_at(directory)
        if found is None or is_in_use(directory):  # one that has just started changes what is read
            complain(f"{directory} is in use: stop the server first")
            return Exit.IN_USE
    except OSError as error:
        raise Unusable(str(error)) from error
    if given.json:
        say(json.dumps(_told(found)) + "\n")
    else:
        _print(found)
    return Exit.DAMAGED if found.flaws else Exit.WHOLE


def _print(found: Holding) -> None:
    told = _told(found)
    damage = told.pop("damage")
    for snapshot in told["snapshots"]:
        snapshot["time"] = _date(snapshot["time"])
    say(readable(told, _ROWS))
    for flaw in damage:
        complain(one_line(flaw["message"]))
    if not damage:
        say("all of it is whole\n")


# -- telling ---------------------------------------------------------------------------------------


def _told(found: Holding) -> dict[str, Any]:
    """The same as JSON has it."""
    log = found.log
    return {
        **_identity(found.state),
        **_extent(log),
        "segments": [{"file": s.file, "size": s.size, "batches": s.batches} for s in log.segments],
        "torn": None if log.torn is None else {"file": log.torn.file, "offset": log.torn.offset},
        "snapshots": [{**_about(s), "used": s is found.used} for s in found.snapshots],
        "damage": list(map(_flaw, found.flaws)),
    }


def _identity(state: HardState | None) -> Mapping[str, Any]:
    if state is None:
        names = ("name", "incarnation", "cluster", "starts", "term", "voted_for", "restored")
        return {**dict.fromkeys(names), "members": []}
    return {
        "name": state.name,
        "incarnation": state.incarnation,
        "cluster": None if state.genesis is None else state.genesis.cluster,
        "starts": state.starts,
        "term": state.term,
        "voted_for": None if state.voted_for is None else state.voted_for.name,
        "restored": state.restored or None,
        "members": [
            {"name": m.id.name, "incarnation": m.id.incarnation, "address": m.address}
            for m in (() if state.genesis is None else state.genesis.voters)
        ],
    }


def _extent(log: LogFound) -> Mapping[str, Any]:
    recovered = log.recovered
    base_index, base_term = recovered.base
    return {
        "base_index": base_index,
        "base_term": base_term,
        "first_index": log.first_index if recovered.last_index >= log.first_index else None,
        "last_index": recovered.last_index,
        "last_term": recovered.terms[-1][1] if recovered.terms else base_term,
        "entries": {Kind(kind).name.lower(): log.kinds[kind] for kind in sorted(log.kinds)},
        "terms": [{"first_index": first, "term": term} for first, term in recovered.terms[-_RUNS:]],
    }


def _about(one: SnapshotFound[Summary]) -> dict[str, Any]:
    about = {"file": one.file, "index": one.id.index, "term": one.id.term, "size": one.size}
    if isinstance(one.read, StorageError):
        return {**about, "digest": None, "cluster": None, "time": None}
    head = one.read.head
    return {**about, "digest": one.read.digest.hex(), "cluster": head.cluster, "time": head.time}


def _flaw(error: StorageError) -> Mapping[str, Any]:
    where = (error.file, error.offset) if isinstance(error, StorageCorrupt) else (None, None)
    return {"file": where[0], "offset": where[1], "message": str(error)}


def _date(seconds: float | None) -> str | float | None:
    """The cluster's time as people write it."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):  # no cluster of this world
        return seconds
