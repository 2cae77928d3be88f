"""A disk in memory that forgets, tears and refuses as real ones do.

It stands in for the file calls below the segment log, so everything above runs as it is.  What was
written is first in a cache and only a sync moves it to the disk; a power cut keeps any part of the
cache that it likes.  All chance comes from the `Random` that is handed in.
"""

from __future__ import annotations

import copy
import enum
import errno
import os
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeVar

from attrs import define

from trioraft._errors import StorageLocked
from trioraft._storage.files import Bytes
from trioraft.testing._cache import Chance, Directory, File

T = TypeVar("T")


class Crash(BaseException):
    """The process was killed in, or just before, a call of the file system."""


class DiskFault(enum.Enum):
    """What becomes of one call."""

    CRASH_BEFORE = "killed before the call did anything"
    CRASH_AFTER = "killed when the call had done everything"
    TORN = "killed in the middle of a write; any other call is killed before it did anything"
    BROKEN = "EIO"
    FULL = "ENOSPC"
    SHORT = "a write that takes only a part"


_ERRNO: Final = {DiskFault.BROKEN: errno.EIO, DiskFault.FULL: errno.ENOSPC}


class Call(NamedTuple):
    """One call of the file system, for tests to look at."""

    name: str
    path: str


@define
class _Handle:
    path: str
    file: File


class SimulatedFiles:
    """A file system in memory, with faults.  One process uses it at a time.

    A fault is set for the n-th call from now on, the next one being number 1.  After a crash every
    call raises `Crash` until `kill` (the process alone died) or `crash` (the power failed) have
    made the disk ready for the next process.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        """What was called, since the list was last cleared."""
        self._root = Directory()
        self._handles: dict[int, _Handle] = {}
        self._locked: dict[str, int] = {}
        self._next_handle = 3
        self._faults: dict[int, DiskFault] = {}
        self._next_faults: dict[str, DiskFault] = {}
        self._count = 0
        self._is_down = False

    # What tests do to it

    def fail(self, call: int, fault: DiskFault) -> None:
        """Let the `call`-th call from now on meet a fault."""
        self._faults[self._count + call] = fault

    def fail_next(self, name: str, fault: DiskFault) -> None:
        """Let the next call of this name meet a fault: "fdatasync", "pwrite", ..."""
        self._next_faults[name] = fault

    def go_down(self) -> None:
        """Let every call from now on raise `Crash`: the process is being killed."""
        self._is_down = True

    def kill(self) -> None:
        """End the process: its files are closed, its locks let go, the cache stays."""
        self._handles.clear()
        self._locked.clear()
        self._is_down = False

    def mend(self) -> None:
        """Forget the faults that are still to come."""
        self._faults.clear()
        self._next_faults.clear()

    def crash(self, chance: Chance) -> None:
        """Cut the power: of what was not synced, each page and each name is kept or lost.

        Of a page that was written more than once, any version may have reached the disk.
        """
        self.kill()
        self._root.lose_power(chance)

    def copy(self) -> SimulatedFiles:
        """Another disk with the same contents, cache and faults."""
        return copy.deepcopy(self)

    def contents(self, path: str) -> bytes:
        """What a process would read."""
        return bytes(self._file(path).cache)

    def damage(self, path: str, contents: bytes) -> None:
        """Put other contents in a file, on the disk and in the cache."""
        file = self._file(path)
        file.cache, file.disk = bytearray(contents), bytearray(contents)
        file.dirty.clear()

    def flip(self, path: str, offset: int, bit: int) -> None:
        """Turn one bit over."""
        contents = bytearray(self.contents(path))
        contents[offset] ^= 1 << bit
        self.damage(path, bytes(contents))

    def rot(self, chance: Chance) -> str | None:
        """Turn one bit of what was written, and say where; None if there is nothing yet."""
        written = [
            (path, len(bytes(file.cache).rstrip(b"\0")))
            for path, file in self._files("", self._root)
        ]
        rotten = [(path, size) for path, size in written if size]
        if not rotten:
            return None
        path, size = rotten[chance.randrange(len(rotten))]
        offset = chance.randrange(size)
        self.flip(path, offset, chance.randrange(8))
        return f"{path}, offset {offset}"

    # What the storage does

    def open(self, path: str) -> int:
        """See `trioraft._storage.files.Files`."""
        return self._call("open", path, lambda: self._handle(path, self._file(path)))

    def create(self, path: str) -> int:
        """See `trioraft._storage.files.Files`."""
        return self._call("create", path, lambda: self._create(path))

    def pread(self, file: int, size: int, offset: int) -> bytes:
        """See `trioraft._storage.files.Files`."""
        handle = self._handle_of(file)
        cache = handle.file.cache
        return self._call("pread", handle.path, lambda: bytes(cache[offset : offset + size]))

    def pwrite(self, file: int, data: Bytes, offset: int) -> int:
        """See `trioraft._storage.files.Files`."""
        handle = self._handle_of(file)
        fault = self._next_fault("pwrite")
        taken = len(data) // 2 if fault in (DiskFault.SHORT, DiskFault.TORN) else len(data)

        def act() -> int:
            handle.file.write(data if taken == len(data) else data[:taken], offset)
            return taken

        return self._call("pwrite", handle.path, act)

    def fdatasync(self, file: int) -> None:
        """See `trioraft._storage.files.Files`.

        If it is made to fail, what it was to write is still read, but no longer counts as
        unsynced: a later sync does not write it, as in Linux.
        """
        handle = self._handle_of(file)
        if self._next_fault("fdatasync") in _ERRNO:
            handle.file.dirty.clear()
        self._call("fdatasync", handle.path, handle.file.sync)

    def size(self, file: int) -> int:
        """See `trioraft._storage.files.Files`."""
        handle = self._handle_of(file)
        return self._call("size", handle.path, lambda: len(handle.file.cache))

    def truncate(self, file: int, size: int) -> None:
        """See `trioraft._storage.files.Files`."""
        handle = self._handle_of(file)
        self._call("truncate", handle.path, lambda: handle.file.resize(size))

    def close(self, file: int) -> None:
        """See `trioraft._storage.files.Files`."""
        handle = self._handle_of(file)

        def act() -> None:
            del self._handles[file]
            if self._locked.get(handle.path) == file:
                del self._locked[handle.path]

        self._call("close", handle.path, act)

    def lock(self, path: str) -> int:
        """See `trioraft._storage.files.Files`."""

        def act() -> int:
            if path in self._locked:
                raise StorageLocked(f"{path} is locked: the data directory is in use")
            directory, name = self._parent(path)
            exists = name in directory.cache
            handle = self._handle(path, self._file(path)) if exists else self._create(path)
            self._locked[path] = handle
            return handle

        return self._call("lock", path, act)

    def rename(self, old: str, new: str) -> None:
        """See `trioraft._storage.files.Files`."""

        def act() -> None:
            directory, name = self._parent(old)
            directory.change({name: None, os.path.basename(new): self._file(old)})

        self._call("rename", new, act)

    def unlink(self, path: str) -> None:
        """See `trioraft._storage.files.Files`."""

        def act() -> None:
            self._file(path)
            directory, name = self._parent(path)
            directory.change({name: None})

        self._call("unlink", path, act)

    def exists(self, path: str) -> bool:
        """See `trioraft._storage.files.Files`."""
        return self._call("exists", path, lambda: isinstance(self._node(path), Directory))

    def mkdir(self, path: str) -> None:
        """See `trioraft._storage.files.Files`."""

        def act() -> None:
            directory, name = self._parent(path)
            directory.change({name: Directory()})

        self._call("mkdir", path, act)

    def names(self, directory: str) -> list[str]:
        """See `trioraft._storage.files.Files`."""
        return self._call("names", directory, lambda: sorted(self._directory(directory).cache))

    def sync_directory(self, path: str) -> None:
        """See `trioraft._storage.files.Files`.  If it is made to fail, the names stay unsynced."""
        self._call("sync_directory", path, lambda: self._directory(path).sync())

    # How

    def _call(self, name: str, path: str, act: Callable[[], T]) -> T:
        if self._is_down:
            raise Crash
        self._count += 1
        self.calls.append(Call(name, path))
        if not self._faults and not self._next_faults:
            return act()
        fault = self._faults.pop(self._count, None) or self._next_faults.pop(name, None)
        if fault is DiskFault.CRASH_BEFORE or (fault is DiskFault.TORN and name != "pwrite"):
            self._is_down = True
            raise Crash
        if fault in _ERRNO:
            if name == "close":
                act()  # a file is closed even if that fails
            raise OSError(_ERRNO[fault], os.strerror(_ERRNO[fault]), path)
        try:
            return act()
        finally:
            if fault in (DiskFault.CRASH_AFTER, DiskFault.TORN):
                self._is_down = True
                raise Crash

    def _next_fault(self, name: str) -> DiskFault | None:
        """The fault that the call which begins now will meet."""
        return self._faults.get(self._count + 1) or self._next_faults.get(name)

    def _handle_of(self, file: int) -> _Handle:
        if self._is_down:
            raise Crash
        if file not in self._handles:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._handles[file]

    def _handle(self, path: str, file: File) -> int:
        self._next_handle += 1
        self._handles[self._next_handle] = _Handle(path, file)
        return self._next_handle

    def _create(self, path: str) -> int:
        directory, name = self._parent(path)
        if name in directory.cache:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        file = File()
        directory.change({name: file})
        return self._handle(path, file)

    def _node(self, path: str) -> File | Directory | None:
        node: File | Directory | None = self._root
        for name in filter(None, path.split("/")):
            node = node.cache.get(name) if isinstance(node, Directory) else None
        return node

    def _files(self, path: str, directory: Directory) -> Iterator[tuple[str, File]]:
        """Every file below a directory, by its path, sorted."""
        for name, node in sorted(directory.cache.items()):
            if isinstance(node, Directory):
                yield from self._files(f"{path}/{name}", node)
            else:
                yield f"{path}/{name}", node

    def _directory(self, path: str) -> Directory:
        node = self._node(path)
        if not isinstance(node, Directory):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node

    def _file(self, path: str) -> File:
        node = self._node(path)
        if not isinstance(node, File):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node

    def _parent(self, path: str) -> tuple[Directory, str]:
        return self._directory(os.path.dirname(path)), os.path.basename(path)
