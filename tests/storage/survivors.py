"""Data directories of servers of a cluster that is no more."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from attrs import evolve, field, frozen

from trioraft._recovery.choosing import survivor_of
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Member
from trioraft._sessions import Sessions, open_session, saved_pieces
from trioraft._snapshots.form import Head, Reader, verify, write_snapshot
from trioraft._state import HardState
from trioraft._storage.files import OsFiles
from trioraft._storage.inspection import entries_in
from trioraft._storage.segments import SegmentLog
from trioraft._storage.shelf import Shelf
from trioraft._storage.worker import Permit
from trioraft._wire.codec import configuration_data
from trioraft._wire.frames import Entry, Kind, frame, parse_entry
from trioraft._wire.stamps import stamp
from trioraft.abc import Batch, SnapshotId

SEGMENT_BYTES = 16 << 10
BEGAN = 1_700_000_000.0


def member(name: str, incarnation: str = "") -> Member:
    return Member(
        ServerId(name, incarnation or f"old {name}"), f"ws://{name}.old:1", ("get", "put")
    )


GENESIS = Configuration("c0ffee", tuple(map(member, ("n1", "n2", "n3"))))
BIGGER = evolve(GENESIS, voters=(*GENESIS.voters, member("n4")), outgoing=GENESIS.voters, index=4)


def time_of(index: int) -> float:
    return BEGAN + index


def entry(index: int, term: int, kind: Kind = Kind.COMMAND, data: bytes = b"") -> bytes:
    return frame(index, term, kind, stamp(time_of(index), data or b"command %d" % index))


def opening(index: int, term: int = 1) -> bytes:
    """A client opens a session."""
    return entry(index, term, Kind.SESSION, open_session(3600.0))


def changing(configuration: Configuration, term: int = 1) -> bytes:
    data = configuration_data(configuration)
    return entry(configuration.index, term, Kind.CONFIGURATION, data)


def a_log(count: int, term: int = 1, first: int = 1) -> list[bytes]:
    """Commands, one of them with a session before it, and a change of the members."""
    special = {2: opening(2, term), 4: changing(BIGGER, term)}
    return [special.get(index, entry(index, term)) for index in range(first, first + count)]


@frozen
class Old:
    """What a server of the old cluster has left."""

    name: str = "n1"
    frames: Sequence[bytes] = field(factory=lambda: a_log(5))
    base: tuple[int, int] = (0, 0)
    snapshots: Sequence[tuple[int, int]] = ()
    configuration: Configuration | None = None
    """What the snapshots say of the members."""
    state: dict[str, Any] = field(factory=dict)

    def put(self, path: Path) -> Path:
        """Write it."""
        os.makedirs(path)
        for one in self.snapshots:
            a_snapshot(path, SnapshotId(*one), self.configuration)
        log = SegmentLog(str(path), Watched(), lambda: random.randbytes(8), SEGMENT_BYTES)
        log.open()
        given: dict[str, Any] = {"starts": 3, "genesis": GENESIS, "term": 1, "stickiness": 0.5}
        state = HardState(self.name, f"old {self.name}", **given | self.state)
        log.write(Batch(state=state.encode(), base=self.base if self.base[0] else None))
        for frames in self.frames:
            log.write(Batch(entries=[frames]))
        log.close()
        log.unlock()
        return path


def a_snapshot(path: Path, one: SnapshotId, configuration: Configuration | None = None) -> None:
    sessions = Sessions()
    sessions.manage(2, time_of(one.index), open_session(3600.0))
    head = Head("c0ffee", one.index, one.term, time_of(one.index), configuration)

    def write(file: BinaryIO) -> None:
        write_snapshot(file, head, saved_pieces(sessions.capture(), 1000), b"state" * 99, "zlib")

    Shelf(str(path / "snapshots"), Watched()).save(Permit(), one, write, lambda _: None)


@frozen
class New:
    """What there is in a directory of the new cluster."""

    state: HardState
    entries: Sequence[Entry]
    base: tuple[int, int]
    head: Head | None
    sessions: Sessions
    machine: bytes


def read_back(path: Path) -> New:
    """Everything that a start would find."""
    survivor = survivor_of(str(path))
    holding = survivor.holding
    assert not holding.flaws
    pages = entries_in(str(path), holding.log)
    entries = [parse_entry(whole) for page in pages for whole in page]
    sessions, machine = Sessions(), b""
    if holding.used is not None:
        with open(holding.used.file, "rb") as file:
            verify(file)
            file.seek(0)
            reader = Reader(file)
            sessions = Sessions.restored(reader.sessions())
            machine = reader.state().read()
    base = holding.log.recovered.base
    return New(survivor.state, entries, base, survivor.head, sessions, machine)


class Killed(BaseException):
    """The process is no more."""


class Watched(OsFiles):
    """Notes the calls, and dies before or after one of them; its syncs cost nothing."""

    def __init__(self, last: int | None = None, *, after: bool = False) -> None:
        self.calls: list[tuple[str, str]] = []
        self._last = last
        self._after = after
        self.is_dead = False

    def _do(self, name: str, path: str, act: Callable[[], Any]) -> Any:
        if self.is_dead:
            raise Killed
        self.calls.append((name, path))
        self.is_dead = len(self.calls) == self._last
        if self.is_dead and not self._after:
            raise Killed
        result = act()
        if self.is_dead:
            raise Killed
        return result

    def create(self, path: str) -> int:
        made: int = self._do("create", path, lambda: OsFiles.create(self, path))
        return made

    def pwrite(self, file: int, data: Any, offset: int) -> int:
        count: int = self._do("pwrite", "", lambda: OsFiles.pwrite(self, file, data, offset))
        return count

    def fdatasync(self, file: int) -> None:
        self._do("fdatasync", "", lambda: None)

    def mkdir(self, path: str) -> None:
        self._do("mkdir", path, lambda: OsFiles.mkdir(self, path))

    def rename(self, old: str, new: str) -> None:
        self._do("rename", new, lambda: OsFiles.rename(self, old, new))

    def sync_directory(self, path: str) -> None:
        self._do("sync_directory", path, lambda: None)
