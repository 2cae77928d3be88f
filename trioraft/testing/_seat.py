"""Where the judge sits: between one life of one server and its storage, and beside its rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import outcome

from trioraft._observer import Observer
from trioraft._rules.effects import Effect
from trioraft._rules.events import Event
from trioraft._rules.ids import ServerId
from trioraft._rules.messages import Message
from trioraft._rules.node import Node
from trioraft._wire.frames import Entry
from trioraft.abc import Batch, Recovered, SnapshotId, Storage
from trioraft.testing._disks import Disk, PropertyBroken, broken
from trioraft.testing._judge import Judge
from trioraft.testing._shelf import Shelf


class Seat(Observer):
    """Where one life of one server is watched from; also the storage that the server is given."""

    def __init__(self, judge: Judge, storage: Storage, name: str) -> None:
        self._judge = judge
        self._storage = storage
        self._snapshots = Shelf(storage.snapshots, self._kept)
        self._name = name
        self._disk: Disk | None = None
        self._applied = 0
        self._broken: PropertyBroken | None = None
        """What a snapshot has shown; an error of the store's would be one of a full disk's."""
        self.on_applied: Callable[[str, int], None] = lambda name, index: None

    @property
    def disk(self) -> Disk:
        """What the judge knows of this server's disk."""
        assert self._disk is not None, "a server speaks only after its first write"
        return self._disk

    # The observer

    def restart(self, node: Node, now: float) -> None:
        """See `Observer`."""
        self._applied = node.snapshot_index
        self._judge.restarted(self.disk, node)

    def stepped(
        self, before: Node, event: Event, after: Node, effects: Sequence[Effect], applied: int
    ) -> None:
        """See `Observer`."""
        if self._broken is not None:
            raise self._broken
        self._judge.stepped(self.disk, before, event, after, effects)

    def broken(self, node: Node, event: Event, applied: int) -> None:
        """See `Observer`.  What was raised ends the run without a word from here."""

    def sent(self, node: Node, to: ServerId, message: Message, applied: int) -> None:
        """See `Observer`."""
        self._judge.sent(self.disk, node, to, message)

    def applied(self, node: Node, entry: Entry, result: outcome.Outcome[Any] | None) -> None:
        """See `Observer`."""
        if entry.index != self._applied + 1:
            broken(f"{node.me} applies {entry.index} behind {self._applied}")
        self._applied = entry.index
        self._judge.applied(self.disk, node, entry, result)
        self.on_applied(self._name, entry.index)

    def restored(self, node: Node, index: int, term: int) -> None:
        """See `Observer`."""
        self._applied = index
        self._judge.restored(self.disk, node, index, term)
        self.on_applied(self._name, index)

    def close(self) -> None:
        """See `Observer`."""

    # The storage

    @property
    def snapshots(self) -> Shelf:
        """See `trioraft.abc.Storage`."""
        return self._snapshots

    def _kept(self, ids: Sequence[SnapshotId]) -> None:
        if self._disk is not None:
            try:
                self._judge.snapshots(self._disk, ids)
            except PropertyBroken as error:
                self._broken = error

    async def open(self) -> Recovered:
        """See `trioraft.abc.Storage`."""
        recovered = await self._storage.open()
        self._disk = self._judge.opened(self._name, recovered)
        return recovered

    async def write(self, batch: Batch) -> None:
        """See `trioraft.abc.Storage`."""
        await self._storage.write(batch)
        self._disk = self._judge.written(self._disk, batch)
        self._judge.on_moment("write", self._name)

    async def read(self, first: int, max_bytes: int) -> Sequence[bytes]:
        """See `trioraft.abc.Storage`."""
        return await self._storage.read(first, max_bytes)

    async def aclose(self) -> None:
        """See `trioraft.abc.Storage`."""
        await self._storage.aclose()
