"""What every disk of a simulated cluster holds for sure, and what must never be missing there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NoReturn

from attrs import define, field

from trioraft._rules.ids import ServerId
from trioraft._rules.log import Log
from trioraft._rules.membership import Configuration
from trioraft._state import HardState
from trioraft._wire.codec import configuration_of
from trioraft._wire.frames import Entry, Kind, checksum, identity, kind_of
from trioraft.abc import Batch, Recovered, SnapshotId


class PropertyBroken(AssertionError):
    """Something happened that must never happen; the message says what."""


@define
class Disk:
    """What one life of a data directory holds for sure, and what was said on its strength."""

    owner: ServerId
    log: Log = field(factory=Log)
    """The entries that are durable."""
    term: int = 0
    voted_for: ServerId | None = None
    said_term: int = 0
    """The highest term that left the server."""
    said_votes: dict[int, ServerId] = field(factory=dict)
    said_log: Log = field(factory=Log)
    """The entries that were acknowledged, and that nobody has allowed to be cut."""
    stands_by_until: float = -math.inf
    """By the server's own clock: until then it has told a leader that it votes for nobody else."""
    snapshots: set[SnapshotId] = field(factory=set)
    """Those that are whole, and durable with their names."""


class Disks:
    """The disks' side of the judge."""

    def __init__(self) -> None:
        self.disks: dict[ServerId, Disk] = {}
        self.wiped: set[str] = set()
        """Whose disks were replaced by empty ones."""
        self.configurations: dict[tuple[int, int], Configuration] = {}
        """Those that are in anybody's log, by index and term."""
        self.counts: Counter[str] = Counter()
        self.history: list[Entry] = []
        """Every entry that any server has applied, in order."""
        self.on_moment: Callable[[str, str], None] = lambda moment, name: None
        """Told of what faults may be aimed at, with the server's name: a `MOMENTS`."""
        self._entries: dict[tuple[int, int], tuple[int, int]] = {}

    def opened(self, name: str, recovered: Recovered) -> Disk | None:
        """A data directory was opened: no promise made on its strength may be missing.

        Args:
            name: whose it is.
            recovered: what it holds.

        Returns:
            Its record; None if it is empty, and nobody's yet.
        """
        if recovered.state is None:
            owned = [disk for disk in self.disks.values() if disk.owner.name == name]
            if name not in self.wiped and any(disk.said_term for disk in owned):
                broken(f"{name} has made promises, and starts with an empty disk")
            return None
        state = HardState.decode(recovered.state)
        disk = self.disks.setdefault(state.id, Disk(state.id))
        disk.log = Log(recovered.terms, recovered.last_index, *recovered.base)
        disk.term, disk.voted_for = state.term, state.voted_for
        if disk.term < disk.said_term:
            broken(f"{disk.owner} has said term {disk.said_term}, and starts with {disk.term}")
        vote = disk.said_votes.get(disk.term, disk.voted_for)
        if vote != disk.voted_for:
            broken(f"{disk.owner} has voted for {vote}, and starts with {disk.voted_for}")
        said = disk.said_log
        if not disk.log.agrees(said, said.last_index):
            broken(f"{disk.owner} has acknowledged {said.last_index}, and starts without it")
        return disk

    def written(self, disk: Disk | None, batch: Batch) -> Disk | None:
        """A storage has said that a batch is durable."""
        if batch.state is not None:
            state = HardState.decode(batch.state)
            disk = disk or self.disks.setdefault(state.id, Disk(state.id))
            disk.term, disk.voted_for = state.term, state.voted_for
        assert disk is not None, "the first write of all says whose disk it is"
        if batch.cut is not None:
            disk.log = disk.log.cut(batch.cut)
        if batch.base is not None:
            self._forgets(disk, *batch.base)
        if batch.entries:
            self._matches(disk, batch.entries)
        return disk

    def _forgets(self, disk: Disk, index: int, term: int) -> None:
        """The log begins behind an entry: a whole snapshot must hold all that comes before."""
        if disk.log.term_at(index) == term:
            disk.log = disk.log.compacted(index)
        else:
            disk.log = Log((), index, index, term)
        self.counts["compactions"] += 1
        self._is_covered(disk)

    def snapshots(self, disk: Disk, kept: Sequence[SnapshotId]) -> None:
        """A server's store holds these snapshots, whole and durable."""
        disk.snapshots = set(kept)
        for one in kept:
            if one.index > len(self.history):
                broken(f"{disk.owner} has a snapshot of {one.index}, which nobody has applied")
        self._is_covered(disk)
        self.on_moment("snapshot", disk.owner.name)

    def _is_covered(self, disk: Disk) -> None:
        log = disk.log
        if log.base_index and not any(log.term_at(o.index) == o.term for o in disk.snapshots):
            broken(f"{disk.owner} has no snapshot of what comes before {log.base_index}")

    def _matches(self, disk: Disk, frames: Sequence[bytes]) -> None:
        """Log matching: an index and a term are one entry, behind one and the same entry."""
        runs = list(disk.log.runs)
        before = disk.log.last_term
        index = 0
        for frame in frames:
            index, term = identity(frame)
            seen = self._entries.setdefault((index, term), (before, checksum(frame)))
            if seen != (before, checksum(frame)):
                broken(f"{disk.owner} has another entry {index} of term {term} than others have")
            if not runs or term != before:
                runs.append((index, term))
            before = term
            if kind_of(frame) == Kind.CONFIGURATION:
                self.configurations[index, term] = configuration_of(frame)
        disk.log = Log(tuple(runs), index, disk.log.base_index, disk.log.base_term)


def broken(what: str) -> NoReturn:
    """End the run."""
    raise PropertyBroken(what)
