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
from trioraft._storage.names import SNAPSHOTS
from trioraft._storage.segments import SegmentLog
from trioraft._storage.snapshots import SnapshotDirectory
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
    is_tidying: bool = False

    def post_chores(self) -> None:
        """See to the segments before and behind the one that is written."""
        if not self.is_tidying and (self.log.wants_spare or self.log.has_dead_segments):
            self.is_tidying = True
            self.reader.post(self._tidy)

    def _tidy(self) -> None:
        try:
            self.log.prepare_spare()
            self.log.drop_segments()
        except StorageError:
            pass  # the log has failed; the next write says so
        finally:
            self.is_tidying = False


class DiskStorage:
    """A directory with append-only segments; docs/storage-format.md says what is in them.

    One thread writes, one batch at a time; another reads, prepares the next segment, and removes
    those that a snapshot has made superfluous.  The snapshots lie in a directory of their own in
    it, and have threads of their own.
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
        self._snapshots = SnapshotDirectory(
            os.path.join(directory, SNAPSHOTS), files=system, hop=hop
        )

    @property
    def snapshots(self) -> SnapshotDirectory:
        """The snapshots beside the log; opened and closed with it."""
        return self._snapshots

    async def open(self) -> Recovered:
        """Lock the directory and recover what it holds; see `trioraft.abc.Storage`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._in_use is not None:
            raise StorageLocked("this storage is open")
        hops = self._hop("trioraft writer"), self._hop("trioraft reader")
        self._in_use = in_use = _InUse(self._make_log(), *hops)
        try:
            recovered = await in_use.writer.run(in_use.log.open)
            await self._snapshots.open()
        except BaseException:
            await self.aclose()
            raise
        in_use.post_chores()
        return recovered

    async def write(self, batch: Batch) -> None:
        """Make a batch durable; see `trioraft.abc.Storage`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        in_use = self._must_be_open()
        await in_use.writer.run(in_use.log.write, batch)
        in_use.post_chores()

    async def read(self, first: int, max_bytes: int) -> Sequence[bytes]:
        """The frames from `first` on; see `trioraft.abc.Storage`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        in_use = self._must_be_open()
        return await in_use.reader.run(in_use.log.read, first, max_bytes)

    async def aclose(self) -> None:
        """Sync the mark, end the threads, release the lock; safe in a cancelled scope.

        Waits for a write in flight, however long that takes, and for two seconds at most for the
        rest.

        Raises:
            StorageError: the mark could not be synced; everything has been let go of all the same.
        """
        if self._in_use is None:
            return
        in_use, self._in_use = self._in_use, None
        try:
            await self._snapshots.aclose()
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
