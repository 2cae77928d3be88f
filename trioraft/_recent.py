"""The end of the log in memory, as frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trioraft._limits import LOG_CACHE_BYTES, MAX_LOG_ENTRIES_PER_REQUEST

_OVERHEAD: Final = 64
"""What an entry costs in memory besides its frame."""


class Recent:
    """The newest entries; older ones are on disk only."""

    def __init__(self, last_index: int) -> None:
        self._frames: list[bytes] = []
        self._first = last_index + 1
        self._bytes = 0

    @property
    def frames(self) -> Sequence[bytes]:
        """All that memory holds, oldest first."""
        return self._frames

    @property
    def last(self) -> int:
        """The index of the newest entry; `first - 1` if memory holds none."""
        return self._first + len(self._frames) - 1

    def append(self, first: int, frames: Sequence[bytes]) -> None:
        """Add entries from index `first` on, in place of what stood there."""
        if first <= self.last:
            self._bytes -= _size(self._frames[max(first - self._first, 0) :])
            del self._frames[max(first - self._first, 0) :]
        if first < self._first:
            self._first = first
        self._frames += frames
        self._bytes += _size(frames)

    def clear(self, last_index: int) -> None:
        """A snapshot has taken the log's place, and goes up to this entry."""
        self._frames.clear()
        self._first = last_index + 1
        self._bytes = 0

    def between(self, first: int, last: int) -> list[bytes] | None:
        """Entries `first` to `last`, or None if memory lacks some of them."""
        if first < self._first or last > self.last:
            return None
        return self._frames[first - self._first : last - self._first + 1]

    def reach(self, first: int, most: int) -> int | None:
        """The last index that a message of `most` bytes from `first` on may hold, at least one.

        None if `first` is not here.
        """
        if not self._first <= first <= self.last:
            return None
        size, index = 0, first
        for frame in self._frames[
            first - self._first : first - self._first + MAX_LOG_ENTRIES_PER_REQUEST
        ]:
            size += len(frame)
            if size > most and index > first:
                break
            index += 1
        return index - 1

    def trim(self, durable: int) -> None:
        """Forget entries beyond the bound that are on disk, oldest first, many at a time."""
        if self._bytes <= LOG_CACHE_BYTES:
            return
        forget = 0
        for frame in self._frames[: max(durable - self._first + 1, 0)]:
            if self._bytes <= LOG_CACHE_BYTES * 3 // 4:
                break
            self._bytes -= len(frame) + _OVERHEAD
            forget += 1
        del self._frames[:forget]
        self._first += forget


def _size(frames: Sequence[bytes]) -> int:
    return sum(map(len, frames)) + _OVERHEAD * len(frames)
