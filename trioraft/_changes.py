"""The newest changes of the machine, for those who watch it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

from trioraft._limits import MAX_CHANGES_BYTES, MAX_WATCH_BYTES

_OVERHEAD: Final = 128
"""What a change of no bytes costs in memory."""

Change = tuple[int, tuple[bytes, ...]]
"""An entry's index, and what it has changed, in order."""


class ChangeLog:
    """What entries have changed, the newest `MAX_CHANGES_BYTES` of it, entry by entry."""

    def __init__(self) -> None:
        self._changes: deque[Change] = deque()
        self._sizes: deque[int] = deque()
        """Of each of them."""
        self._bytes = 0
        self.first = 1
        """Everything that changed from this entry on is here."""

    @property
    def last(self) -> int:
        """The last entry that has changed anything; 0 if none has."""
        return self._changes[-1][0] if self._changes else 0

    def append(self, index: int, changes: Sequence[bytes]) -> None:
        """An entry has been applied, and has changed this; the oldest may have to go."""
        if not changes:
            return
        size = _size(changes)
        self._changes.append((index, tuple(changes)))
        self._sizes.append(size)
        self._bytes += size
        while self._bytes > MAX_CHANGES_BYTES and len(self._changes) > 1:
            self.first = self._changes.popleft()[0] + 1
            self._bytes -= self._sizes.popleft()

    def skip(self, index: int) -> None:
        """What entries up to `index` have changed came in a snapshot, and can't be told apart."""
        self._changes.clear()
        self._sizes.clear()
        self._bytes = 0
        self.first = index + 1

    def since(self, index: int) -> list[Change] | None:
        """What came behind an entry, oldest first, as much as fits in one message; None: lost.

        All changes of one entry come together.
        """
        if index + 1 < self.first:
            return None
        found: list[Change] = []
        room = MAX_WATCH_BYTES
        start = self._start(index)
        sizes = islice(self._sizes, start, None)
        for change, size in zip(islice(self._changes, start, None), sizes, strict=True):
            room -= size
            if found and room < 0:
                break
            found.append(change)
        return found

    def _start(self, index: int) -> int:
        """Where the first change behind an entry stands: most who ask are not far behind."""
        start = len(self._changes)
        for change in reversed(self._changes):
            if change[0] <= index:
                break
            start -= 1
        return start


def _size(changes: Sequence[bytes]) -> int:
    if len(changes) == 1:  # of most entries
        return len(changes[0]) + _OVERHEAD
    return sum(map(len, changes)) + _OVERHEAD * len(changes)
