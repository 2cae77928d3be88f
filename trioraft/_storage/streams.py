"""A file behind the seam as Python's own kind of file, for those who write and read a snapshot."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

from trioraft._errors import StorageError
from trioraft._storage.files import Bytes, Files, read_all, refusal, write_all
from trioraft._storage.worker import Permit

BUFFER_BYTES: Final = 1 << 18
"""What goes to the file system at a time."""

SYNC_BYTES: Final = 1 << 23
"""What waits for a sync at most: a gigabyte that goes to the disk at once holds up the log's."""


class _Raw(io.RawIOBase):
    """An open file, from its start on.

    What the file system refuses is a `StorageError` here, so that nobody takes it for an error of
    who reads or writes.
    """

    def __init__(self, files: Files, file: int, path: str, permit: Permit) -> None:
        super().__init__()
        self._files = files
        self._file = file
        self._path = path
        self._permit = permit
        self._offset = 0

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._permit.check()
        with telling(self._path):
            yield

    def tell(self) -> int:
        return self._offset


class _RawWriter(_Raw):
    failure: StorageError | None = None
    """Why not all that was written has gone to the file system."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if self.failure is not None:  # the buffer would try the same bytes again
            raise self.failure
        size = len(data)
        try:
            with self._asking():
                write_piece(self._files, self._file, data, self._offset)
        except StorageError as error:
            self.failure = error
            raise
        self._offset += size
        return size


class _RawReader(_Raw):
    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END:
            with self._asking():
                offset += self._files.size(self._file)
        elif whence == os.SEEK_CUR:
            offset += self._offset
        if offset < 0:
            raise ValueError(f"there is no offset {offset}")
        self._offset = offset
        return offset

    def readinto(self, buffer: Any, /) -> int:
        with self._asking():
            data = self._files.pread(self._file, len(buffer), self._offset)
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)

    def readall(self) -> bytes:
        with self._asking():
            size = self._files.size(self._file) - self._offset
            data = read_all(self._files, self._file, max(size, 0), self._offset)
        self._offset += len(data)
        return data


def write_piece(files: Files, file: int, data: Bytes, offset: int) -> None:
    """Write a part of something large."""
    write_all(files, file, data, offset)
    if offset // SYNC_BYTES != (offset + len(data)) // SYNC_BYTES:
        files.fdatasync(file)


@contextmanager
def telling(path: str) -> Iterator[None]:
    """What the file system refuses in here, it refuses to the user.

    Raises:
        StorageError: it refused something.
    """
    try:
        yield
    except OSError as error:
        raise refusal(path, error) from error


@contextmanager
def opened(files: Files, path: str) -> Iterator[int]:
    """A file that exists, until the context is left.

    Raises:
        StorageError: the file system refuses anything in here.
    """
    with telling(path):
        file = files.open(path)
        try:
            yield file
        finally:
            files.close(file)


@contextmanager
def writing(files: Files, file: int, path: str, permit: Permit) -> Iterator[BinaryIO]:
    """An empty open file to write to; at the end all has gone to the file system, but no sync.

    Raises:
        StorageError: the file system refuses, or the permit was withdrawn.
    """
    raw = _RawWriter(files, file, path, permit)
    stream = io.BufferedWriter(raw, BUFFER_BYTES)
    try:
        yield stream
        stream.close()
        if raw.failure is not None:  # whoever wrote has hushed it up
            raise raw.failure
    finally:
        raw.close()  # so that nobody tries once more to write what may still be buffered


@contextmanager
def reading(files: Files, file: int, path: str, permit: Permit) -> Iterator[BinaryIO]:
    """An open file to read from its start on.

    Raises:
        StorageError: the file system refuses, or the permit was withdrawn.
    """
    with io.BufferedReader(_RawReader(files, file, path, permit), BUFFER_BYTES) as stream:
        yield stream
