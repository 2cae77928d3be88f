"""The storage that a server uses unless it is told otherwise: a segment log behind two threads."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from trioraft._errors import StorageError
from trioraft._storage.files import Files, OsFiles
from trioraft._storage.segments import SegmentLog
from trioraft._storage.worker import Hop, Worker
from trioraft.abc import Batch, Recovered

_SEGMENT_BYTES: Final = 8 << 20


def _draw_salt() -> bytes:
    return secrets.token_bytes(8)


class DiskStorage:
    """A directory with append-only segments; docs/storage-format.md says what is in them.

    One thread writes, one batch at a time; another reads, and prepares the next segment.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        files: Files | None = None,
        hop: Callable[[str], Hop] = Worker,
        draw_salt: Callable[[], bytes] = _draw_salt,
        segment_bytes: int = _SEGMENT_BYTES,
    ) -> None:
        """Describe a storage; nothing is touched before `open`.

        Args:
            path: the directory; it is made, for its user alone, if it is not there.
            files: another file system.
            hop: makes another way to run what blocks, given a name.
            draw_salt: another source of 8 random bytes.
            segment_bytes: how large a segment is made.
        """
        directory = os.path.abspath(os.fspath(path))
        self._log = SegmentLog(
            directory, files if files is not None else OsFiles(), draw_salt, segment_bytes
        )
        self._hop = hop
        self._writer: Hop | None = None
        self._reader: Hop | None = None

    async def open(self) -> Recovered:
        """Lock the directory and recover what it holds; see `trioraft.abc.Storage`."""
        self._writer, self._reader = self._hop("trioraft writer"), self._hop("trioraft reader")
        try:
            return await self._writer.run(self._log.open)
        except BaseException:
            await self.aclose()
            raise

    async def write(self, batch: Batch) -> None:
        """Make a batch durable; see `trioraft.abc.Storage`."""
        if self._writer is None or self._reader is None:
            raise StorageError("the storage is not open")
        await self._writer.run(self._log.write, batch)
        if self._log.wants_spare():
            self._reader.begin(self._log.prepare_spare)

    async def read(self, first: int, max_bytes: int) -> Sequence[bytes]:
        """The frames from `first` on; see `trioraft.abc.Storage`."""
        if self._reader is None:
            raise StorageError("the storage is not open")
        return await self._reader.run(self._log.read, first, max_bytes)

    async def aclose(self) -> None:
        """Sync the mark, end the threads, release the lock; safe in a cancelled scope."""
        writer, reader = self._writer, self._reader
        self._writer = self._reader = None
        if writer is None or reader is None:
            return
        try:
            await writer.run(reader.stop)  # which may take a moment: not on the event loop
            await writer.run(self._log.close)
        finally:
            writer.stop()
