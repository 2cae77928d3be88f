"""The storage that a server uses unless it is told otherwise: a segment log behind two threads."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio
from attrs import define

from trioraft._errors import StorageError, StorageLocked
from trioraft._storage.files import Files, OsFiles
from trioraft._storage.segments import SegmentLog
from trioraft._storage.worker import Hop, Worker
from trioraft.abc import Batch, Recovered

SEGMENT_BYTES: Final = 8 << 20

GRACE: Final = 1.0
"""Seconds that `aclose` waits for a read, or for a segment in the making."""


def _draw_salt() -> bytes:
    return secrets.token_bytes(8)


@define
class _InUse:
    """What there is from `open` to `aclose`."""

    log: SegmentLog
    writer: Hop
    reader: Hop
    prepares_spare: bool = False

    def prepare_spare(self) -> None:
        try:
            self.log.prepare_spare()
        except StorageError:
            pass  # the log has failed; the next write says so
        finally:
            self.prepares_spare = False


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
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Describe a storage; nothing is touched before `open`.

        Args:
            path: the directory; it is made, for its user alone, if it is not there.
            files: another file system.
            hop: makes another way to run what blocks, given a name.
            draw_salt: another source of 8 random bytes.
            segment_bytes: how large a segment is made; one with a larger batch is larger.
        """
        directory = os.path.abspath(os.fspath(path))
        system = files if files is not None else OsFiles()
        self._make_log = partial(SegmentLog, directory, system, draw_salt, segment_bytes)
        self._hop = hop
        self._in_use: _InUse | None = None

    async def open(self) -> Recovered:
        """Lock the directory and recover what it holds; see `trioraft.abc.Storage`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._in_use is not None:
            raise StorageLocked("this storage is open")
        hops = self._hop("trioraft writer"), self._hop("trioraft reader")
        self._in_use = in_use = _InUse(self._make_log(), *hops)
        try:
            return await in_use.writer.run(in_use.log.open)
        except BaseException:
            await self.aclose()
            raise

    async def write(self, batch: Batch) -> None:
        """Make a batch durable; see `trioraft.abc.Storage`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        in_use = self._must_be_open()
        await in_use.writer.run(in_use.log.write, batch)
        if in_use.log.wants_spare and not in_use.prepares_spare:
            in_use.prepares_spare = True
            in_use.reader.post(in_use.prepare_spare)

    async def read(self, first: int, max_bytes: int) -> Sequence[bytes]:
        """The frames from `first` on; see `trioraft.abc.Storage`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        in_use = self._must_be_open()
        return await in_use.reader.run(in_use.log.read, first, max_bytes)

    async def aclose(self) -> None:
        """Sync the mark, end the threads, release the lock; safe in a cancelled scope.

        Waits for a write in flight, however long that takes, and for a second at most for the rest.

        Raises:
            StorageError: the mark could not be synced; everything has been let go of all the same.
        """
        if self._in_use is None:
            return
        in_use, self._in_use = self._in_use, None
        try:
            # The reader holds nothing that anybody else needs, so it may be left behind.
            await in_use.writer.run(in_use.reader.stop, GRACE)
            await in_use.writer.run(in_use.log.close)
        finally:
            in_use.writer.stop(GRACE)
            in_use.log.unlock()

    def _must_be_open(self) -> _InUse:
        if self._in_use is None:
            raise StorageError("the storage is not open")
        return self._in_use
