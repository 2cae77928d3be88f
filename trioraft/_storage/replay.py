"""Reading the log back at a start: what counts, what is torn, what is damaged."""

from __future__ import annotations

from typing import Final

from attrs import define, field

from trioraft._errors import StorageCorrupt
from trioraft._storage import layout
from trioraft._storage.extents import EXTENT_BYTES, Extents
from trioraft._wire.frames import KINDS, FrameError, Kind, cut_frames
from trioraft.abc import Batch, Recovered

_OPAQUE: Final = KINDS - {Kind.CONFIGURATION}
"""The kinds of entries that no storage looks into."""


@define
class Image:
    """What the log says, as far as it has been read."""

    extents: Extents = field(factory=Extents)
    state: bytes | None = None
    runs: list[tuple[int, int]] = field(factory=list)
    configurations: list[tuple[int, bytes]] = field(factory=list)
    """(index, frame) each."""

    def recovered(self) -> Recovered:
        """The same for the one who opens the storage."""
        return Recovered(
            self.state,
            tuple(self.runs),
            self.extents.last_index,
            tuple(whole for _, whole in self.configurations),
        )

    def replay(
        self, path: str, segment: int, data: bytes | bytearray, start: int, end: int, shift: int = 0
    ) -> None:
        """Add the whole batch that lies in `data` from `start` to `end`.

        `shift` is where in the file `data` begins.

        Raises:
            StorageCorrupt: it does not follow what came before.
        """
        cut, state, offset = layout.split_body(path, data, start, end)
        if cut is not None:
            self._cut(path, start + shift, cut)
        if state is not None:
            self.state = state
        if offset < end:
            self._append(path, segment, data, offset, end, shift)

    def _cut(self, path: str, offset: int, last: int) -> None:
        if last > self.extents.last_index:
            reason = f"a cut behind {last} in a log that ends at {self.extents.last_index}"
            raise StorageCorrupt(path, offset, reason)
        self.extents.cut(last)
        while self.runs and self.runs[-1][0] > last:
            self.runs.pop()
        while self.configurations and self.configurations[-1][0] > last:
            self.configurations.pop()

    def _append(
        self, path: str, segment: int, data: bytes | bytearray, offset: int, end: int, shift: int
    ) -> None:
        # A million entries pass through here at a start.  Their checksums need no second look: the
        # batch's own covers them; whoever reads an entry checks the entry's.
        unpack, overhead, opaque = layout.unpack_record, layout.RECORD_OVERHEAD, _OPAQUE
        expected = self.extents.last_index + 1
        newest = self.runs[-1][1] if self.runs else 0
        begin, first = offset, expected
        while offset + overhead <= end:
            length, _, index, term, kind = unpack(data, offset)
            stop = offset + overhead + length
            if index != expected or term < newest or term == 0 or stop > end:
                break
            if term != newest:
                self.runs.append((index, term))
                newest = term
            if kind not in opaque:
                if kind != Kind.CONFIGURATION:
                    break
                self.configurations.append((index, bytes(data[offset:stop])))
            expected += 1
            offset = stop
            if offset - begin > EXTENT_BYTES:
                self.extents.append(expected - first, segment, begin + shift, offset + shift)
                begin, first = offset, expected
        if offset != end:
            raise StorageCorrupt(path, offset + shift, f"entry {expected} is not what follows here")
        if first < expected:
            self.extents.append(expected - first, segment, begin + shift, end + shift)


def replay_taken(image: Image, path: str, data: bytes, header: layout.Header, taken: int) -> int:
    """Add the segment up to batch `taken`, the last one that counts; return where that one ends.

    Raises:
        StorageCorrupt: one of them is damaged or missing.
    """
    count, end = 0, layout.DATA
    for start, end in layout.find_batches(data, header.salt, taken):
        image.replay(path, header.number, data, start, end)
        count += 1
    if count < taken:
        reason = f"batch {count + 1} is damaged or missing, and it had been durable"
        raise StorageCorrupt(path, min(end, len(data)), reason)
    return end


def read_tail(
    image: Image, path: str, data: bytes, header: layout.Header, mark: int, offset: int
) -> Batch:
    """What the last segment holds beyond its mark, where the mark's own batch ends at `offset`.

    These batches are whole, but perhaps no disk holds them yet, so they are returned as one that
    does what they all did.  What is left of one more is a torn write: nobody was ever told that it
    is durable.

    Raises:
        StorageCorrupt: a whole batch follows one that is not, which must have been durable then.
    """
    kept: int | None = None
    entries: list[bytes] = []
    number = mark
    while (found := layout.check_batch(data, offset, header.salt)) and found[0] == number + 1:
        number, end = found
        kept = image.extents.last_index if kept is None else kept
        image.replay(path, header.number, data, offset, end)
        cut, _, begin = layout.split_body(path, data, offset, end)
        if cut is not None:
            del entries[max(cut - kept, 0) :]
            kept = min(kept, cut)
        try:
            entries += cut_frames(data[begin:end])
        except FrameError as error:
            raise StorageCorrupt(path, begin + error.offset, error.reason) from None
        offset = end
    if layout.has_later_batch(data, header.salt, offset, number + 1):
        reason = f"batch {number + 1} is damaged, and it had been durable: whole ones follow"
        raise StorageCorrupt(path, offset, reason)
    return Batch(image.state, kept, entries)
