"""What the log says: its state, where it begins, and what each entry's term is."""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter

from attrs import define, field

from trioraft._storage.extents import Extents
from trioraft._wire.frames import identity
from trioraft.abc import Batch, Recovered


@define
class Image:
    """What the log says, as far as it has been read or written."""

    extents: Extents = field(factory=Extents)
    state: bytes | None = None
    base: tuple[int, int] = (0, 0)
    start: int | None = None
    """What has been read begins behind this index: behind `base` if entries are missing.

    None: nothing has been read.
    """
    runs: list[tuple[int, int]] = field(factory=list)
    """(first index, term) each, from the entry behind `base` on; at first perhaps that of the entry
    at `start`."""
    configurations: list[tuple[int, bytes]] = field(factory=list)
    """(index, frame) each; kept while the log is read at a start."""

    @property
    def last_index(self) -> int:
        """The index of the last entry; that of `base` if there is none."""
        return self.extents.last_index

    def recovered(self) -> Recovered:
        """The same for the one who opens the storage."""
        return Recovered(
            self.state,
            tuple(self.runs),
            self.last_index,
            tuple(whole for _, whole in self.configurations),
            self.base,
        )

    def begin(self, behind: tuple[int, int]) -> None:
        """What is read begins behind this entry, (index, term)."""
        self.start, _ = behind
        self.extents.cut(self.start)
        self.runs = [behind] if self.start else []

    def cut(self, last: int) -> None:
        """Drop the entries behind index `last`."""
        if self.start is not None:
            # What lay between `last` and a later start is gone with its segment, and was cut.
            self.start = min(self.start, last)
        self.extents.cut(last)
        while self.runs and self.runs[-1][0] > last:
            self.runs.pop()
        while self.configurations and self.configurations[-1][0] > last:
            self.configurations.pop()

    def forget(self, base: tuple[int, int]) -> None:
        """Drop the entries up to `base`; a log that ends before it goes on behind it."""
        self.base = base
        self.extents.forget(base[0])
        first = base[0] + 1
        if self.last_index < first:
            self.runs.clear()
        elif holds := bisect_right(self.runs, first, key=itemgetter(0)):
            self.runs[:holds] = [(first, self.runs[holds - 1][1])]
        self.configurations = [pair for pair in self.configurations if pair[0] >= first]

    def take(self, batch: Batch) -> None:
        """All that a batch does, but where its entries lie: that comes next."""
        if batch.state is not None:
            self.state = batch.state
        if batch.cut is not None:
            self.cut(batch.cut)
        if batch.base is not None:
            self.forget(batch.base)
        newest = self.runs[-1][1] if self.runs else 0
        if batch.entries and identity(batch.entries[-1])[1] != newest:
            for index, term in map(identity, batch.entries):
                if term != newest:
                    self.runs.append((index, term))
                    newest = term

    def behind(self, batch: Batch) -> tuple[int, int]:
        """Index and term of the entry behind which the entries of a batch go."""
        base = batch.base or self.base
        kept = self.last_index if batch.cut is None else batch.cut
        if kept <= base[0]:
            return base
        holds = bisect_right(self.runs, kept, key=itemgetter(0))
        return kept, self.runs[holds - 1][1]
