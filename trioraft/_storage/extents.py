"""Where in which segment each entry lies: a few numbers per batch, no frame."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from attrs import frozen

EXTENT_BYTES: Final = 1 << 18
"""An extent ends with the entry that ends beyond this: reading one entry reads little more."""


@frozen
class Extent:
    """Frames that lie back to back: entries `first` to `last`, and perhaps some that were cut."""

    first: int
    last: int
    segment: int
    start: int
    stop: int


class Extents:
    """The extents of a log, by index, from the entry behind its base on.

    The writer's thread changes it while the reader's thread looks things up.
    """

    def __init__(self) -> None:
        self.base_index = 0
        self.last_index = 0
        self._lock = threading.Lock()
        self._firsts = array("Q")
        self._segments = array("Q")
        self._starts = array("Q")
        self._stops = array("Q")
        self._columns = self._firsts, self._segments, self._starts, self._stops

    def cut(self, last: int) -> None:
        """Forget the entries behind index `last`."""
        with self._lock:
            keep = bisect_right(self._firsts, last)
            for column in self._columns:
                del column[keep:]
            self.last_index = last

    def forget(self, base_index: int) -> None:
        """Forget the entries up to `base_index`; a log that ends before it goes on behind it."""
        with self._lock:
            self.base_index = base_index
            self.last_index = max(self.last_index, base_index)
            gone = bisect_right(self._firsts, base_index + 1) - 1
            if base_index == self.last_index:
                gone = len(self._firsts)
            for column in self._columns:
                del column[: max(gone, 0)]

    @property
    def oldest_segment(self) -> int | None:
        """The one that holds the first entry; None if there is no entry."""
        with self._lock:
            return self._segments[0] if self._segments else None

    def append(self, count: int, segment: int, start: int, stop: int) -> None:
        """`count` entries follow; they lie in `segment` from `start` to `stop`."""
        with self._lock:
            self._firsts.append(self.last_index + 1)
            self._segments.append(segment)
            self._starts.append(start)
            self._stops.append(stop)
            self.last_index += count

    def append_frames(self, frames: Sequence[bytes], segment: int, start: int, stop: int) -> None:
        """As `append`, in as many extents as it takes."""
        if stop - start <= EXTENT_BYTES:
            self.append(len(frames), segment, start, stop)
            return
        count, begin = 0, start
        for end in accumulate(map(len, frames), initial=start):
            if end - begin > EXTENT_BYTES or end == stop:
                self.append(count, segment, begin, end)
                count, begin = 0, end
            count += 1

    def find(self, first: int, max_bytes: int) -> list[Extent]:
        """The extents from entry `first` on, until they hold `max_bytes` beyond the first one."""
        found: list[Extent] = []
        with self._lock:
            if not self.base_index < first <= self.last_index:
                return found
            at = bisect_right(self._firsts, first) - 1
            size = 0
            while at < len(self._firsts) and (len(found) < 2 or size < max_bytes):
                behind = self._firsts[at + 1] if at + 1 < len(self._firsts) else self.last_index + 1
                start, stop = self._starts[at], self._stops[at]
                found.append(Extent(self._firsts[at], behind - 1, self._segments[at], start, stop))
                size += stop - start if len(found) > 1 else 0
                at += 1
        return found
