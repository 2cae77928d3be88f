"""The seam to the file system: every call that the segment log makes of it.

The simulation replaces exactly this, and so can lose, tear and refuse each of these calls.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import Final, Protocol

from trioraft._errors import StorageError, StorageLocked

Bytes = bytes | bytearray | memoryview


class Files(Protocol):
    """A file system.  Paths are absolute, offsets and sizes are bytes, files are small integers.

    Whatever it refuses, it refuses with an `OSError`.
    """

    def open(self, path: str) -> int:
        """Open a file that exists, to read and to write."""
        ...

    def create(self, path: str) -> int:
        """Make an empty file that nobody but this user can read, and open it."""
        ...

    def pread(self, file: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes from `offset` on; fewer at the end of the file."""
        ...

    def pwrite(self, file: int, data: Bytes, offset: int) -> int:
        """Write the start of `data` at `offset`, and return how many bytes that was."""
        ...

    def fdatasync(self, file: int) -> None:
        """Make durable what was written, and the size with it."""
        ...

    def size(self, file: int) -> int:
        """How long the file is."""
        ...

    def truncate(self, file: int, size: int) -> None:
        """Drop everything from `size` on."""
        ...

    def close(self, file: int) -> None:
        """Let go of the file; this syncs nothing."""
        ...

    def lock(self, path: str) -> int:
        """Make and lock a file, until it is closed or this process ends.

        Raises:
            StorageLocked: somebody else holds the lock.
        """
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name in the same directory."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a file."""
        ...

    def exists(self, path: str) -> bool:
        """Is there a directory of this name?"""
        ...

    def mkdir(self, path: str) -> None:
        """Make a directory that nobody but this user can enter."""
        ...

    def names(self, directory: str) -> list[str]:
        """What the directory holds, sorted."""
        ...

    def sync_directory(self, path: str) -> None:
        """Make durable which names the directory holds."""
        ...


class OsFiles:
    """The file system of this machine."""

    def open(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def create(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def pread(self, file: int, size: int, offset: int) -> bytes:
        return os.pread(file, size, offset)

    def pwrite(self, file: int, data: Bytes, offset: int) -> int:
        return os.pwrite(file, data, offset)

    def fdatasync(self, file: int) -> None:
        os.fdatasync(file)

    def size(self, file: int) -> int:
        return os.fstat(file).st_size

    def truncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def close(self, file: int) -> None:
        os.close(file)

    def lock(self, path: str) -> int:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise StorageLocked(f"{path} is locked: the data directory is in use") from None
        except OSError:
            os.close(file)
            raise
        return file

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def exists(self, path: str) -> bool:
        return os.path.isdir(path)

    def mkdir(self, path: str) -> None:
        os.mkdir(path, 0o700)

    def names(self, directory: str) -> list[str]:
        return sorted(os.listdir(directory))

    def sync_directory(self, path: str) -> None:
        file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def make_directory(files: Files, path: str) -> None:
    """Make the directory and its parents where they are missing, each one durable.

    The parent is synced even if the directory was there: whoever made it may have been killed
    before it came to that.
    """
    parent = os.path.dirname(path)
    if not files.exists(path):
        make_directory(files, parent)
        try:
            files.mkdir(path)
        except FileExistsError:
            if not files.exists(path):
                raise  # it is something else than a directory
            # another server was quicker: the first three of a cluster make `data/` at once
    with suppress(PermissionError):  # in a directory that we may not read we have made nothing
        files.sync_directory(parent)


def write_all(files: Files, file: int, data: Bytes, offset: int) -> None:
    """Write all of `data`, however little of it is taken at a time."""
    written = files.pwrite(file, data, offset)
    while written < len(data):
        count = files.pwrite(file, memoryview(data)[written:], offset + written)
        if count <= 0:
            raise OSError(errno.EIO, "the file takes no more bytes")
        written += count


def read_all(files: Files, file: int, size: int, offset: int) -> bytes:
    """Read `size` bytes, fewer only if the file ends before."""
    data = files.pread(file, size, offset)
    while data and len(data) < size:
        more = files.pread(file, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def refusal(path: str, error: OSError) -> StorageError:
    """The error that a user sees for one of the file system."""
    if error.errno in _FULL:
        advice = "the disk is full; free some space and start the server again"
        return StorageError(f"{path}: {advice} ({error})")
    return StorageError(f"{path}: {error}")
