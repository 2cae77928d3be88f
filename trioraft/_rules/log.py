"""The log as the rules see it: terms by runs, never a payload.

A log of a million entries written in five terms is five runs, so a state can be copied, compared
and hashed at no cost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from attrs import field, frozen

from trioraft._rules.membership import Configuration

Runs = tuple[tuple[int, int], ...]
"""(first index, term) pairs, both rising."""


def _first(run: tuple[int, int]) -> int:
    return run[0]


@frozen
class Entries:
    """Entries on their way: their indexes and terms, and the frames, which no rule looks at.

    What a configuration entry says is the one payload that rules see.
    """

    first: int
    """The index of the first entry, or the one that would follow if there is none."""
    last: int
    """The index of the last entry; `first - 1` if there is none."""
    runs: Runs = ()
    """The first run begins at `first`."""
    frames: Sequence[bytes] = field(default=(), eq=False, repr=False)
    """The entries themselves; empty where only the rules are at work."""
    configurations: tuple[Configuration, ...] = ()
    """What the configuration entries among them say, oldest first."""

    def __len__(self) -> int:
        return self.last - self.first + 1

    def since(self, index: int) -> Entries:
        """These entries without those before `index`."""
        if index <= self.first:
            return self
        if index > self.last:
            return Entries(self.last + 1, self.last)
        return Entries(
            index,
            self.last,
            _runs_between(self.runs, index, self.last),
            self.frames[index - self.first :],
            tuple(one for one in self.configurations if one.index >= index),
        )


@frozen
class Log:
    """The term of every entry.  Indexes start at 1; index 0 has term 0 (paper, figure 2).

    What a snapshot holds may be gone from the log: then it begins behind `base_index`.
    """

    runs: Runs = ()
    last_index: int = 0
    base_index: int = 0
    """The entry before the first one; its term is known (section 7)."""
    base_term: int = 0

    @property
    def last_term(self) -> int:
        """The term of the last entry, 0 if there never was one."""
        return self.runs[-1][1] if self.runs else self.base_term

    def term_at(self, index: int) -> int | None:
        """The term of an entry, or None if the log does not hold it, or holds it no more."""
        if index == self.base_index:
            return self.base_term
        if index == 0:
            return 0
        if not self.base_index < index <= self.last_index:
            return None
        return self.runs[bisect_right(self.runs, index, key=_first) - 1][1]

    def first_of_term_at(self, index: int) -> int:
        """The first index of the run that holds entry `index`."""
        return self.runs[bisect_right(self.runs, index, key=_first) - 1][0]

    def last_not_above(self, term: int) -> int:
        """The last index whose term is `term` or lower; the base's if there is none here."""
        for position, (_, found) in enumerate(self.runs):
            if found > term:
                return self.runs[position][0] - 1
        return self.last_index

    def cut(self, last_kept: int) -> Log:
        """The log without what lies behind `last_kept`."""
        if last_kept >= self.last_index:
            return self
        runs = _runs_between(self.runs, self.base_index + 1, last_kept)
        return Log(runs, last_kept, self.base_index, self.base_term)

    def compacted(self, base_index: int) -> Log:
        """The log without what lies up to `base_index`, an entry that it holds."""
        base_term = self.term_at(base_index)
        assert base_term is not None, "a log is compacted up to an entry that it holds"
        runs = _runs_between(self.runs, base_index + 1, self.last_index)
        return Log(runs, self.last_index, base_index, base_term)

    def agrees(self, other: Log, last: int) -> bool:
        """Whether both hold the same entries up to `last`, as far as neither has compacted them."""
        base = max(self.base_index, other.base_index)
        if last < base:
            return True
        if last > min(self.last_index, other.last_index):
            return False
        return self.cut(last).compacted(base) == other.cut(last).compacted(base)

    def extended(self, entries: Entries) -> Log:
        """The log with the entries behind its end."""
        runs = self.runs
        for first, term in entries.runs:
            if not runs or runs[-1][1] != term:
                runs = (*runs, (first, term))
        return Log(runs, entries.last, self.base_index, self.base_term)

    def between(self, first: int, last: int) -> Entries:
        """Entries `first` to `last` by their terms, without frames."""
        return Entries(first, last, _runs_between(self.runs, first, last))

    def first_conflict(self, entries: Entries) -> int | None:
        """The first index at which this log holds another term than the entries, if any.

        What a snapshot holds is committed, so no leader has other entries there.
        """
        end = min(self.last_index, entries.last)
        marks = {entries.first, *(first for first, _ in entries.runs + self.runs)}
        begin = max(entries.first, self.base_index + 1)
        marks.add(begin)
        for index in sorted(mark for mark in marks if begin <= mark <= end):
            if self.term_at(index) != _term_in(entries.runs, index):
                return index
        return None


def _term_in(runs: Runs, index: int) -> int:
    return runs[bisect_right(runs, index, key=_first) - 1][1]


def _runs_between(runs: Runs, first: int, last: int) -> Runs:
    if last < first:
        return ()
    start = bisect_right(runs, first, key=_first) - 1
    stop = bisect_right(runs, last, key=_first)
    return ((first, runs[start][1]), *runs[start + 1 : stop])
