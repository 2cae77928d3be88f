"""What a file system's cache holds of files and directories, and what its disk does."""

from __future__ import annotations

from typing import Final, Protocol

from attrs import define, field

from trioraft._storage.files import Bytes

PAGE: Final = 4096


class Chance(Protocol):
    """What a power cut draws from; `random.Random` is one."""

    def randrange(self, stop: int, /) -> int:
        """A number from 0 to `stop - 1`."""
        ...


@define
class File:
    """What the cache holds of a file, and what the disk does."""

    cache: bytearray = field(factory=bytearray)
    disk: bytearray = field(factory=bytearray)
    dirty: dict[int, list[bytes]] = field(factory=dict)
    """Unsynced pages by number, in all the versions that the disk may have got."""

    def write(self, data: Bytes, offset: int) -> None:
        end = offset + len(data)
        cache, dirty = self.cache, self.dirty
        if offset > len(cache):
            cache.extend(bytes(offset - len(cache)))
        cache[offset:end] = data
        for page in range(offset // PAGE, -(-end // PAGE)):
            dirty.setdefault(page, []).append(bytes(cache[page * PAGE : (page + 1) * PAGE]))

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
        self._fit_disk()
        self.dirty.clear()

    def lose_power(self, chance: Chance) -> None:
        for page, versions in sorted(self.dirty.items()):
            kept = chance.randrange(len(versions) + 1)
            if kept:
                self._put(page, versions[kept - 1])
        if len(self.disk) != len(self.cache) and chance.randrange(2):
            self._fit_disk()
        self.dirty.clear()
        self.cache = bytearray(self.disk)

    def _fit_disk(self) -> None:
        """The file's size reaches the disk."""
        missing = len(self.cache) - len(self.disk)
        if missing > 0:
            self.disk.extend(bytes(missing))
        elif missing < 0:
            del self.disk[missing:]

    def _put(self, page: int, data: bytes) -> None:
        begin = page * PAGE
        if begin > len(self.disk):
            self.disk.extend(bytes(begin - len(self.disk)))
        self.disk[begin : begin + len(data)] = data


Names = dict[str, "File | Directory"]


@define
class Directory:
    """Names in the cache, and those on the disk with what was done since, oldest first."""

    cache: Names = field(factory=dict)
    disk: Names = field(factory=dict)
    pending: list[dict[str, File | Directory | None]] = field(factory=list)

    def change(self, names: dict[str, File | Directory | None]) -> None:
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
    def _apply(target: Names, names: dict[str, File | Directory | None]) -> None:
        for name, node in names.items():
            if node is None:
                target.pop(name, None)
            else:
                target[name] = node
