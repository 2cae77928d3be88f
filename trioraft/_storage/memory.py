"""A storage that forgets everything with its process."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from trioraft._errors import StorageError, StorageLocked
from trioraft._storage.following import check_follows
from trioraft._wire.frames import Kind, identity, parse_entry
from trioraft.abc import Batch, Recovered


class MemoryStorage:
    """Keeps state and log in memory; what it holds survives `aclose` and the next `open`."""

    def __init__(self) -> None:
        self._is_open = False
        self._state: bytes | None = None
        self._frames: list[bytes] = []

    async def open(self) -> Recovered:
        """Recover what was written; see `trioraft.abc.Storage`."""
        await trio.lowlevel.checkpoint()
        if self._is_open:
            raise StorageLocked("this memory storage is in use")
        self._is_open = True
        terms: list[tuple[int, int]] = []
        for index, term in map(identity, self._frames):
            if not terms or terms[-1][1] != term:
                terms.append((index, term))
        configurations = [
            whole for whole in self._frames if parse_entry(whole).kind is Kind.CONFIGURATION
        ]
        return Recovered(self._state, tuple(terms), len(self._frames), tuple(configurations))

    async def write(self, batch: Batch) -> None:
        """Keep the batch; see `trioraft.abc.Storage`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._must_be_open()
        check_follows(batch, len(self._frames))
        if batch.cut is not None:
            del self._frames[batch.cut :]
        self._frames += batch.entries
        if batch.state is not None:
            self._state = batch.state
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def read(self, first: int, max_bytes: int) -> Sequence[bytes]:
        """The frames from `first` on; see `trioraft.abc.Storage`."""
        await trio.lowlevel.checkpoint()
        self._must_be_open()
        found: list[bytes] = []
        size = 0
        for at in range(first - 1, len(self._frames)):
            size += len(self._frames[at])
            if found and size > max_bytes:
                break
            found.append(self._frames[at])
        return found

    async def aclose(self) -> None:
        """Let the next `open` come."""
        self._is_open = False
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _must_be_open(self) -> None:
        if not self._is_open:
            raise StorageError("the storage is not open")
