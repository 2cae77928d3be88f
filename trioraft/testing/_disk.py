"""A disk in memory that forgets, tears and refuses as real ones do.

It stands in for the file calls below the segment log, so everything above runs as it is.  What was
written is first in a cache and only a sync moves it to the disk; a power cut keeps any part of the
cache that it likes.  All chance comes from the `Random` that is handed in.
"""

from __future__ import annotations

import copy
import enum
import errno
import math
import os
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import trio
from attrs import define, field, frozen

from trioraft._errors import StorageLocked
from trioraft._storage.files import Bytes

T = TypeVar("T")

PAGE: Final = 4096


class Chance(Protocol):
    """What a power cut draws from; `random.Random` is one."""

    def randrange(self, stop: int, /) -> int:
        """A number from 0 to `stop - 1`."""
        ...


class Crash(BaseException):
    """The process was killed in, or just before, a call of the file system."""


class Fault(enum.Enum):
    """What becomes of one call."""

    CRASH_BEFORE = "killed before the call did anything"
    CRASH_AFTER = "killed when the call had done everything"
    BROKEN = "EIO"
    FULL = "ENOSPC"
    SHORT = "a write that takes only a part"


_ERRNO: Final = {Fault.BROKEN: errno.EIO, Fault.FULL: errno.ENOSPC}


@define
class _File:
    """What the cache holds of a file, and what the disk does."""

    cache: bytearray = field(factory=bytearray)
    disk: bytearray = field(factory=bytearray)
    dirty: dict[int, list[bytes]] = field(factory=dict)
    """Unsynced pages by number, in all the versions that the disk may have got."""

    def write(self, data: Bytes, offset: int) -> None:
        end = offset + len(data)
        self.cache.extend(bytes(max(offset - len(self.cache), 0)))
        self.cache[offset:end] = data
        for page in range(offset // PAGE, -(-end // PAGE)):
            version = bytes(self.cache[page * PAGE : (page + 1) * PAGE])
            self.dirty.setdefault(page, []).append(version)

    def resize(self, size: int) -> None:
        del self.cache[size:]
        self.cache.extend(bytes(size - len(self.cache)))
        last = size // PAGE
        for page in [page for page in self.dirty if page >= last]:
            del self.dirty[page]
        self.dirty.setdefault(last, []).append(bytes(self.cache[last * PAGE :]))

    def sync(self) -> None:
        for page, versions in self.dirty.items():
            self._put(page, versions[-1])
        del self.disk[len(self.cache) :]
        self.disk.extend(bytes(len(self.cache) - len(self.disk)))
        self.dirty.clear()

    def lose_power(self, chance: Chance) -> None:
        for page, versions in sorted(self.dirty.items()):
            kept = chance.randrange(len(versions) + 1)
            if kept:
                self._put(page, versions[kept - 1])
        if len(self.disk) != len(self.cache) and chance.randrange(2):
            del self.disk[len(self.cache) :]
            self.disk.extend(bytes(len(self.cache) - len(self.disk)))
        self.dirty.clear()
        self.cache = bytearray(self.disk)

    def _put(self, page: int, data: bytes) -> None:
        self.disk.extend(bytes(max(page * PAGE - len(self.disk), 0)))
        self.disk[page * PAGE : page * PAGE + len(data)] = data


_Names = dict[str, "_File | _Directory"]


@define
class _Directory:
    """Names in the cache, and those on the disk with what was done since, oldest first."""

    cache: _Names = field(factory=dict)
    disk: _Names = field(factory=dict)
    pending: list[dict[str, _File | _Directory | None]] = field(factory=list)

    def change(self, names: dict[str, _File | _Directory | None]) -> None:
        self.pending.append(names)
        self._apply(self.cache, names)

    def sync(self) -> None:
        self.disk = dict(self.cache)
        self.pending.clear()

    def lose_power(self, chance: Chance) -> None:
        for names in self.pending:
            if chance.randrange(2):
                self._apply(self.disk, names)
        self.pending.clear()
        self.cache = dict(self.disk)
        for _, node in sorted(self.cache.items()):
            node.lose_power(chance)

    @staticmethod
    def _apply(target: _Names, names: dict[str, _File | _Directory | None]) -> None:
        for name, node in names.items():
            if node is None:
                target.pop(name, None)
            else:
                target[name] = node


@frozen
class Call:
    """One call of the file system, for tests to look at."""

    name: str
    path: str


@define
class _Handle:
    path: str
    file: _File


class SimulatedFiles:
    """A file system in memory, with faults.  One process uses it at a time.

    A fault is set for the n-th call from now on, the next one being number 1.  After a crash every
    call raises `Crash` until `kill` (the process alone died) or `crash` (the power failed) have
    made the disk ready for the next process.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        """What was called, since the list was last cleared."""
        self._root = _Directory()
        self._handles: dict[int, _Handle] = {}
        self._locked: dict[str, int] = {}
        self._next_handle = 3
        self._faults: dict[int, Fault] = {}
        self._count = 0
        self._is_down = False

    # What tests do to it

    def fail(self, call: int, fault: Fault) -> None:
        """Let the `call`-th call from now on meet a fault."""
        self._faults[self._count + call] = fault

    def kill(self) -> None:
        """End the process: its files are closed, its locks let go, the cache stays."""
        self._handles.clear()
        self._locked.clear()
        self._is_down = False

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

    # What the segment log does

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
        is_short = self._faults.get(self._count + 1) is Fault.SHORT
        taken = len(data) // 2 if is_short else len(data)

        def act() -> int:
            handle.file.write(memoryview(data)[:taken], offset)
            return taken

        return self._call("pwrite", handle.path, act)

    def fdatasync(self, file: int) -> None:
        """See `trioraft._storage.files.Files`.

        If it is made to fail, what it was to write is still read, but no longer counts as
        unsynced: a later sync does not write it, as in Linux.
        """
        handle = self._handle_of(file)
        if self._faults.get(self._count + 1) in _ERRNO:
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
        return self._call("exists", path, lambda: isinstance(self._node(path), _Directory))

    def mkdir(self, path: str) -> None:
        """See `trioraft._storage.files.Files`."""

        def act() -> None:
            directory, name = self._parent(path)
            directory.change({name: _Directory()})

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
        fault = self._faults.get(self._count)
        if fault is Fault.CRASH_BEFORE:
            self._is_down = True
            raise Crash
        if fault in _ERRNO:
            if name == "close":
                act()  # a file is closed even if that fails
            raise OSError(_ERRNO[fault], os.strerror(_ERRNO[fault]), path)
        result = act()
        if fault is Fault.CRASH_AFTER:
            self._is_down = True
            raise Crash
        return result

    def _handle_of(self, file: int) -> _Handle:
        if self._is_down:
            raise Crash
        if file not in self._handles:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._handles[file]

    def _handle(self, path: str, file: _File) -> int:
        self._next_handle += 1
        self._handles[self._next_handle] = _Handle(path, file)
        return self._next_handle

    def _create(self, path: str) -> int:
        directory, name = self._parent(path)
        if name in directory.cache:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        file = _File()
        directory.change({name: file})
        return self._handle(path, file)

    def _node(self, path: str) -> _File | _Directory | None:
        node: _File | _Directory | None = self._root
        for name in filter(None, path.split("/")):
            node = node.cache.get(name) if isinstance(node, _Directory) else None
        return node

    def _directory(self, path: str) -> _Directory:
        node = self._node(path)
        if not isinstance(node, _Directory):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node

    def _file(self, path: str) -> _File:
        node = self._node(path)
        if not isinstance(node, _File):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node

    def _parent(self, path: str) -> tuple[_Directory, str]:
        return self._directory(os.path.dirname(path)), os.path.basename(path)


class SimulatedHop:
    """In place of the disk's thread: each call is made in the event loop, after a virtual wait."""

    def __init__(self, latency: Callable[[], float] = lambda: 0.0) -> None:
        """Describe a disk.

        Args:
            latency: gives the seconds that a call takes, for each call anew.
        """
        self._latency = latency
        self._free_at = -math.inf

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Make the call when the ones before it are done; never cancelled, as no thread is."""
        task = trio.lowlevel.current_task()
        self._free_at = max(trio.current_time(), self._free_at) + self._latency()
        trio.lowlevel.spawn_system_task(self._wake, task, self._free_at)
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return work(*args)

    @staticmethod
    async def _wake(task: trio.lowlevel.Task, instant: float) -> None:
        await trio.sleep_until(instant)
        trio.lowlevel.reschedule(task)

    def post(self, work: Callable[[], None]) -> None:
        """Make the call at once."""
        work()

    def stop(self, seconds: float) -> None:
        """Nothing is left to end."""
