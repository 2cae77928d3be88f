"""Everything that is asked of the storage, one batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from trioraft._clock import Bell
from trioraft.abc import Batch, Storage


class DiskWriter:
    """Turns all that queued since its last turn into one batch (group commit)."""

    def __init__(self, storage: Storage, on_persisted: Callable[[int], None]) -> None:
        self._storage = storage
        self._on_persisted = on_persisted
        self._bell = Bell()
        self._write = 0
        self._clear()
        self._rested = trio.Event()
        self._rested.set()

    def _clear(self) -> None:
        self._state: bytes | None = None
        self._cut: int | None = None
        self._base: tuple[int, int] | None = None
        self._entries: list[bytes] = []
        self._next = 0
        """The index behind the last queued entry."""

    def save(self, write: int, state: bytes) -> None:
        """Queue write number `write`: a new state in place of the old one."""
        self._state = state
        self._queued(write)

    def append(self, write: int, first: int, frames: Sequence[bytes], *, cuts: bool) -> None:
        """Queue write number `write`: entries from `first` on, in place of what stands there."""
        if cuts:
            kept = max(len(self._entries) - (self._next - first), 0)
            del self._entries[kept:]
            # A cut reaches the storage only if it goes behind what is queued.
            if not self._entries:
                self._cut = first - 1 if self._cut is None else min(self._cut, first - 1)
        self._entries += frames
        self._next = first + len(frames)
        self._queued(write)

    def compact(self, write: int, base: tuple[int, int]) -> None:
        """Queue write number `write`: the log begins behind entry `base`, which is durable."""
        self._base = base
        self._queued(write)

    def replace(self, write: int, kept: int, base: tuple[int, int]) -> None:
        """Queue write number `write`: what lies behind `kept` is cut, the log goes on at `base`."""
        if self._entries:  # the storage has none of these
            kept = min(kept, self._next - len(self._entries) - 1)
            self._entries.clear()
        self._cut = kept if self._cut is None else min(self._cut, kept)
        self._base = base
        self._next = base[0] + 1
        self._queued(write)

    def _queued(self, write: int) -> None:
        self._write = write
        self._bell.ring()
        if self._rested.is_set():
            self._rested = trio.Event()

    @property
    def rests(self) -> bool:
        """Whether there is nothing to write."""
        return self._rested.is_set()

    async def rest(self) -> None:
        """Return once there was a moment with nothing to write."""
        await self._rested.wait()

    async def run(self) -> None:
        """Write, for ever; a failure is final and ends the server.

        Raises:
            StorageError: the storage failed.
        """
        while True:
            await self._bell.wait()
            batch, write = Batch(self._state, self._cut, self._entries, self._base), self._write
            self._clear()
            await self._storage.write(batch)
            self._on_persisted(write)
            if self._write == write:
                self._rested.set()
