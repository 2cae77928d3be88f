"""Between one life of one server and its snapshots: what it keeps, and what may go wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO, TypeVar

from trioraft.abc import Check, SnapshotId, SnapshotStore

T = TypeVar("T")


class Shelf:
    """A `trioraft.abc.SnapshotStore` that tells what it holds, whenever that changes."""

    def __init__(self, store: SnapshotStore, tell: Callable[[Sequence[SnapshotId]], None]) -> None:
        self._store = store
        self._tell = tell
        self._held: set[SnapshotId] = set()
        self.spoils = False
        """Whether a bit of the next piece that is taken in turns on its way."""

    def _changed(self) -> None:
        self._tell(sorted(self._held))

    async def list(self) -> Sequence[SnapshotId]:
        """See `trioraft.abc.SnapshotStore`."""
        found = await self._store.list()
        self._held = set(found)
        self._changed()
        return found

    async def save(
        self, snapshot: SnapshotId, write: Callable[[BinaryIO], None], check: Check
    ) -> None:
        """See `trioraft.abc.SnapshotStore`."""
        await self._store.save(snapshot, write, check)
        self._held.add(snapshot)
        self._changed()

    async def load(self, snapshot: SnapshotId, read: Callable[[BinaryIO], T]) -> T:
        """See `trioraft.abc.SnapshotStore`."""
        return await self._store.load(snapshot, read)

    async def read(self, snapshot: SnapshotId, offset: int, size: int) -> bytes:
        """See `trioraft.abc.SnapshotStore`."""
        return await self._store.read(snapshot, offset, size)

    async def take_in(self, offset: int, data: bytes) -> None:
        """See `trioraft.abc.SnapshotStore`."""
        if self.spoils:
            self.spoils = False
            data = data[:-1] + bytes([data[-1] ^ 1])
        await self._store.take_in(offset, data)

    async def accept(self, snapshot: SnapshotId, check: Check) -> None:
        """See `trioraft.abc.SnapshotStore`."""
        await self._store.accept(snapshot, check)
        self._held.add(snapshot)
        self._changed()

    async def remove(self, snapshot: SnapshotId) -> None:
        """See `trioraft.abc.SnapshotStore`."""
        await self._store.remove(snapshot)
        self._held.discard(snapshot)
        self._changed()
