"""A storage that forgets everything with its process."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import BinaryIO, TypeVar

import trio

from trioraft._errors import StorageError, StorageLocked
from trioraft._storage.following import check_follows
from trioraft._storage.suffix import Suffix
from trioraft._wire.frames import Kind, identity, parse_entry
from trioraft.abc import Batch, Check, Recovered, SnapshotId

T = TypeVar("T")


class MemoryStorage:
    """Keeps everything in memory; what it holds survives `aclose` and the next `open`."""

    def __init__(self) -> None:
        self._is_open = False
        self._state: bytes | None = None
        self._base = (0, 0)
        self._log = Suffix()
        self._snapshots = MemorySnapshots(self._must_be_open)

    @property
    def snapshots(self) -> MemorySnapshots:
        """The snapshots, in memory too."""
        return self._snapshots

    async def open(self) -> Recovered:
        """Recover what was written; see `trioraft.abc.Storage`."""
        await trio.lowlevel.checkpoint()
        if self._is_open:
            raise StorageLocked("this memory storage is in use")
        self._is_open = True
        self._snapshots.tidy()
        terms: list[tuple[int, int]] = []
        for index, term in map(identity, self._log.frames):
            if not terms or terms[-1][1] != term:
                terms.append((index, term))
        configurations = [
            whole for whole in self._log.frames if parse_entry(whole).kind is Kind.CONFIGURATION
        ]
        last = self._log.last
        return Recovered(self._state, tuple(terms), last, tuple(configurations), self._base)

    async def write(self, batch: Batch) -> None:
        """Keep the batch; see `trioraft.abc.Storage`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._must_be_open()
        check_follows(batch, self._base, self._log.last)
        if batch.cut is not None:
            self._log.cut(batch.cut)
        if batch.base is not None:
            self._base = batch.base
            self._log.forget(batch.base[0])
        self._log.frames += batch.entries
        if batch.state is not None:
            self._state = batch.state
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def read(self, first: int, max_bytes: int) -> Sequence[bytes]:
        """The frames from `first` on; see `trioraft.abc.Storage`."""
        await trio.lowlevel.checkpoint()
        self._must_be_open()
        found: list[bytes] = []
        size = 0
        if first <= self._log.before:
            return found
        for at in range(first - self._log.before - 1, len(self._log.frames)):
            size += len(self._log.frames[at])
            if found and size > max_bytes:
                break
            found.append(self._log.frames[at])
        return found

    async def aclose(self) -> None:
        """Let the next `open` come."""
        self._is_open = False
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _must_be_open(self) -> None:
        if not self._is_open:
            raise StorageError("the storage is not open")


class MemorySnapshots:
    """Snapshots as bytes; who writes or reads one does so in the event loop."""

    def __init__(self, must_be_open: Callable[[], None]) -> None:
        self._must_be_open = must_be_open
        self._whole: dict[SnapshotId, bytes] = {}
        self._incoming: bytearray | None = None

    def tidy(self) -> None:
        """Forget what an earlier life was taking in."""
        self._incoming = None

    async def list(self) -> Sequence[SnapshotId]:
        """All there are; see `trioraft.abc.SnapshotStore`."""
        await self._begin()
        return sorted(self._whole)

    async def save(
        self, snapshot: SnapshotId, write: Callable[[BinaryIO], None], check: Check
    ) -> None:
        """Keep what `write` writes; see `trioraft.abc.SnapshotStore`."""
        await self._begin()
        file = io.BytesIO()
        write(file)
        self._keep(snapshot, file.getvalue(), check)

    async def load(self, snapshot: SnapshotId, read: Callable[[BinaryIO], T]) -> T:
        """Have `read` read a snapshot; see `trioraft.abc.SnapshotStore`."""
        await self._begin()
        return read(io.BytesIO(self._find(snapshot)))

    async def read(self, snapshot: SnapshotId, offset: int, size: int) -> bytes:
        """A piece of a snapshot; see `trioraft.abc.SnapshotStore`."""
        await self._begin()
        return self._find(snapshot)[offset : offset + size]

    async def take_in(self, offset: int, data: bytes) -> None:
        """Keep a piece that comes from elsewhere; see `trioraft.abc.SnapshotStore`.

        Raises:
            ValueError: there are no `offset` bytes before it.
        """
        await self._begin()
        incoming = bytearray() if offset == 0 or self._incoming is None else self._incoming
        if offset > len(incoming):
            raise ValueError(f"a piece for offset {offset} behind {len(incoming)} bytes")
        incoming[offset:] = data
        self._incoming = incoming

    async def accept(self, snapshot: SnapshotId, check: Check) -> None:
        """Keep what was taken in; see `trioraft.abc.SnapshotStore`.

        Raises:
            ValueError: nothing was taken in.
        """
        await self._begin()
        incoming, self._incoming = self._incoming, None
        if incoming is None:
            raise ValueError("nothing was taken in")
        self._keep(snapshot, bytes(incoming), check)

    async def remove(self, snapshot: SnapshotId) -> None:
        """Forget a snapshot; see `trioraft.abc.SnapshotStore`."""
        await self._begin()
        self._whole.pop(snapshot, None)

    async def _begin(self) -> None:
        await trio.lowlevel.checkpoint()
        self._must_be_open()

    def _keep(self, snapshot: SnapshotId, whole: bytes, check: Check) -> None:
        check(io.BytesIO(whole))
        self._whole[snapshot] = whole

    def _find(self, snapshot: SnapshotId) -> bytes:
        if snapshot not in self._whole:
            raise StorageError(f"there is no snapshot up to {snapshot}")
        return self._whole[snapshot]
