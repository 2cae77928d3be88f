"""The snapshots in a directory, behind two threads: one changes what is there, one reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Final, TypeVar

import trio
from attrs import define, field

from trioraft._errors import StorageError, StorageLocked
from trioraft._storage.files import Files, OsFiles
from trioraft._storage.shelf import Shelf
from trioraft._storage.worker import Hop, Permit, Worker
from trioraft.abc import Check, SnapshotId

T = TypeVar("T")

GRACE: Final = 1.0
"""Seconds that `aclose` waits for what is under way, at most."""


@define
class _InUse:
    """What there is from `open` to `aclose`."""

    shelf: Shelf
    maker: Hop
    reader: Hop
    permits: set[Permit] = field(factory=set)
    """Of what is under way and may take long."""


class SnapshotDirectory:
    """Snapshots as files of one directory; docs/storage-format.md says how they are named.

    It is a `trioraft.abc.SnapshotStore` for a storage of your own, which opens and closes it with
    itself, and lets no other process use the directory meanwhile.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        files: Files | None = None,
        hop: Callable[[str], Hop] = Worker,
    ) -> None:
        """Describe a place for snapshots; nothing is touched before `open`.

        Args:
            path: the directory; it is made, for its user alone, with the first snapshot.
            files: another file system.
            hop: makes another way to run what blocks, given a name.
        """
        self._path = os.path.abspath(os.fspath(path))
        self._files = files if files is not None else OsFiles()
        self._hop = hop
        self._in_use: _InUse | None = None

    async def open(self) -> None:
        """Make the snapshots usable; what an earlier life left in the making is removed.

        Raises:
            StorageLocked: they are open.
            StorageError: the file system refuses that.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._in_use is not None:
            raise StorageLocked("these snapshots are open")
        hops = self._hop("trioraft snapshots"), self._hop("trioraft snapshot reader")
        self._in_use = in_use = _InUse(Shelf(self._path, self._files), *hops)
        try:
            await in_use.maker.run(in_use.shelf.tidy)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Give up what is under way; safe in a cancelled scope, and over within a second."""
        if self._in_use is None:
            return
        in_use, self._in_use = self._in_use, None
        for permit in in_use.permits:
            permit.withdraw()
        await in_use.maker.end(GRACE / 2)
        await in_use.reader.end(GRACE / 2)
        in_use.shelf.end()

    async def list(self) -> Sequence[SnapshotId]:
        """All that are whole, oldest first; see `trioraft.abc.SnapshotStore`."""
        in_use = await self._begin()
        with _permit(in_use) as permit:
            return await in_use.reader.run_with_permit(permit, in_use.shelf.snapshots)

    async def save(
        self, snapshot: SnapshotId, write: Callable[[BinaryIO], None], check: Check
    ) -> None:
        """Make a snapshot of what `write` writes; see `trioraft.abc.SnapshotStore`."""
        in_use = await self._begin()
        with _permit(in_use) as permit:
            work = in_use.shelf.save
            await in_use.maker.run_with_permit(permit, work, permit, snapshot, write, check)

    async def load(self, snapshot: SnapshotId, read: Callable[[BinaryIO], T]) -> T:
        """Have `read` read a snapshot; see `trioraft.abc.SnapshotStore`."""
        in_use = await self._begin()
        with _permit(in_use) as permit:
            work = in_use.shelf.load
            return await in_use.reader.run_with_permit(permit, work, permit, snapshot, read)

    async def read(self, snapshot: SnapshotId, offset: int, size: int) -> bytes:
        """A piece of a snapshot; see `trioraft.abc.SnapshotStore`."""
        in_use = await self._begin()
        with _permit(in_use) as permit:
            work = in_use.shelf.read
            return await in_use.reader.run_with_permit(permit, work, snapshot, offset, size)

    async def take_in(self, offset: int, data: bytes) -> None:
        """Keep a piece that comes from elsewhere; see `trioraft.abc.SnapshotStore`.

        Raises:
            ValueError: there are no `offset` bytes before it.
        """
        in_use = await self._begin()
        with _permit(in_use) as permit:
            await in_use.maker.run_with_permit(permit, in_use.shelf.take_in, offset, data)

    async def accept(self, snapshot: SnapshotId, check: Check) -> None:
        """Make a snapshot of what was taken in; see `trioraft.abc.SnapshotStore`.

        Raises:
            ValueError: nothing was taken in.
        """
        in_use = await self._begin()
        with _permit(in_use) as permit:
            work = in_use.shelf.accept
            await in_use.maker.run_with_permit(permit, work, permit, snapshot, check)

    async def remove(self, snapshot: SnapshotId) -> None:
        """Forget a snapshot; see `trioraft.abc.SnapshotStore`."""
        in_use = await self._begin()
        with _permit(in_use) as permit:
            await in_use.maker.run_with_permit(permit, in_use.shelf.remove, snapshot)

    async def _begin(self) -> _InUse:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._in_use is None:
            raise StorageError("the storage is not open")
        return self._in_use


@contextmanager
def _permit(in_use: _InUse) -> Iterator[Permit]:
    permit = Permit()
    in_use.permits.add(permit)
    try:
        yield permit
    finally:
        in_use.permits.discard(permit)
