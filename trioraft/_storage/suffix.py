"""The entries of a log behind some index, as frames."""

from __future__ import annotations

from attrs import define, field


@define
class Suffix:
    """Entries `before + 1` to `last`."""

    before: int = 0
    """The index of the entry before the first one; it need not be known elsewhere."""
    frames: list[bytes] = field(factory=list)

    @property
    def last(self) -> int:
        """The index of the last entry; `before` if there is none."""
        return self.before + len(self.frames)

    def cut(self, last: int) -> None:
        """Drop the entries behind index `last`, wherever that is."""
        if last < self.before:
            self.before = last
            self.frames.clear()
        else:
            del self.frames[last - self.before :]

    def forget(self, index: int) -> None:
        """Drop the entries up to `index`; what ends before it goes on behind it."""
        if index > self.before:
            del self.frames[: index - self.before]
            self.before = index
