"""A directory of snapshots: what is asked of the file system, in which order.

Each snapshot is a file.  It is written under another name, and gets its own once all of it is
durable and has been read back.  Nothing here waits for an event loop: workers' threads call it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final, TypeVar

from trioraft._storage.files import Files, make_directory, read_all
from trioraft._storage.names import snapshot_id, snapshot_name
from trioraft._storage.streams import reading, telling, write_piece, writing
from trioraft._storage.worker import Permit
from trioraft.abc import Check, SnapshotId

T = TypeVar("T")

_TAKING: Final = "taking.part"
_INCOMING: Final = "incoming.part"


class Shelf:
    """The files of one directory, in one life.  One thread changes what is there, another reads.

    Every method raises `StorageError` for what the file system refuses; what else it does is said
    in `trioraft.abc.SnapshotStore`.
    """

    def __init__(self, directory: str, files: Files) -> None:
        self._directory = directory
        self._files = files
        self._is_made = False
        self._is_over = False

    def tidy(self) -> None:
        """Remove what an earlier life left in the making."""
        for name in {_TAKING, _INCOMING}.intersection(self._names()):
            with telling(self._path(name)):
                self._files.unlink(self._path(name))

    def end(self) -> None:
        """From here on another life may use the directory, so its files are none of ours."""
        self._is_over = True

    def snapshots(self) -> list[SnapshotId]:
        """All that are whole, by index and term, as numbers."""
        found = sorted(filter(None, map(snapshot_id, self._names())))
        if found:
            # Whoever made one may have died, or been refused, before its name was durable.
            with telling(self._directory):
                self._files.sync_directory(self._directory)
        return found

    def save(
        self, permit: Permit, snapshot: SnapshotId, write: Callable[[BinaryIO], None], check: Check
    ) -> None:
        """Make a snapshot of what `write` writes."""
        path = self._path(_TAKING)
        file = self._create(path)
        with self._making(file, path):
            with writing(self._files, file, path, permit) as stream:
                write(stream)
            self._finish(permit, file, path, snapshot, check)

    def take_in(self, offset: int, data: bytes) -> None:
        """Write a piece of a snapshot that comes from elsewhere.

        Raises:
            ValueError: it would leave a gap.
        """
        path = self._path(_INCOMING)
        file = self._reopen(path, offset) if offset else self._create(path)
        with self._making(file, path), telling(path):
            self._files.truncate(file, offset)
            write_piece(self._files, file, data, offset)

    def accept(self, permit: Permit, snapshot: SnapshotId, check: Check) -> None:
        """Make a snapshot of what was taken in.

        Raises:
            ValueError: nothing was.
        """
        path = self._path(_INCOMING)
        file = self._reopen(path, 0)
        with self._making(file, path):
            self._finish(permit, file, path, snapshot, check)

    def load(self, permit: Permit, snapshot: SnapshotId, read: Callable[[BinaryIO], T]) -> T:
        """Let `read` have the snapshot as a file."""
        with self._opened(snapshot) as (file, path):  # noqa: SIM117
            with reading(self._files, file, path, permit) as stream:
                return read(stream)

    def read(self, snapshot: SnapshotId, offset: int, size: int) -> bytes:
        """A piece of a snapshot."""
        with self._opened(snapshot) as (file, path), telling(path):
            return read_all(self._files, file, size, offset)

    def remove(self, snapshot: SnapshotId) -> None:
        """Forget a snapshot.  If a power cut brings it back, it is whole."""
        path = self._snapshot_path(snapshot)
        with telling(path), suppress(FileNotFoundError):
            self._files.unlink(path)

    # How

    def _finish(
        self, permit: Permit, file: int, path: str, snapshot: SnapshotId, check: Check
    ) -> None:
        """Make durable and verify what is written; only then does it get its name."""
        permit.check()
        with telling(path):
            self._files.fdatasync(file)
        with reading(self._files, file, path, permit) as stream:
            check(stream)
        permit.settle()
        with telling(path):
            self._files.rename(path, self._snapshot_path(snapshot))
            self._files.sync_directory(self._directory)

    @contextmanager
    def _making(self, file: int, path: str) -> Iterator[None]:
        """Close the file at the end, and remove it if it has not become what it was to be."""
        try:
            try:
                yield
            finally:
                with telling(path):
                    self._files.close(file)
        except BaseException:
            if not self._is_over:  # and if that fails, the next one or the next start removes it
                with suppress(OSError):
                    self._files.unlink(path)
            raise

    def _create(self, path: str) -> int:
        with telling(path):
            if not self._is_made:
                make_directory(self._files, self._directory)
                self._is_made = True
            with suppress(FileNotFoundError):
                self._files.unlink(path)
            return self._files.create(path)

    def _reopen(self, path: str, least: int) -> int:
        """Open a file in the making that has `least` bytes already."""
        with telling(path):
            try:
                file = self._files.open(path)
            except FileNotFoundError:
                raise ValueError("nothing was taken in") from None
            try:
                size = self._files.size(file)
                if size < least:
                    raise ValueError(f"a piece for offset {least} behind {size} bytes")
            except BaseException:
                self._files.close(file)
                raise
            return file

    @contextmanager
    def _opened(self, snapshot: SnapshotId) -> Iterator[tuple[int, str]]:
        path = self._snapshot_path(snapshot)
        with telling(path):
            file = self._files.open(path)
        try:
            yield file, path
        finally:
            with telling(path):
                self._files.close(file)

    def _names(self) -> list[str]:
        with telling(self._directory):
            there = self._files.exists(self._directory)
            return self._files.names(self._directory) if there else []

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _snapshot_path(self, snapshot: SnapshotId) -> str:
        return self._path(snapshot_name(snapshot))
