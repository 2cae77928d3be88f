"""Reading the log back at a start: what counts, what is torn, what is damaged."""

from __future__ import annotations

from typing import Final

from trioraft._errors import StorageCorrupt
from trioraft._storage import layout
from trioraft._storage.extents import EXTENT_BYTES
from trioraft._storage.following import check_base
from trioraft._storage.image import Image
from trioraft._storage.suffix import Suffix
from trioraft._wire.frames import KINDS, FrameError, Kind, cut_frames
from trioraft.abc import Batch

_OPAQUE: Final = KINDS - {Kind.CONFIGURATION}
"""The kinds of entries that no storage looks into."""


def replay(
    image: Image,
    path: str,
    segment: int,
    data: bytes | bytearray,
    start: int,
    end: int,
    shift: int = 0,
) -> None:
    """Add the whole batch that lies in `data` from `start` to `end`.

    `shift` is where in the file `data` begins.

    Raises:
        StorageCorrupt: it does not follow what came before.
    """
    said = layout.read_preamble(path, data, start, end)
    try:
        _follow(image, said)
    except ValueError as error:
        raise StorageCorrupt(path, start + shift, str(error)) from None
    if said.state is not None:
        image.state = said.state
    if said.entries < end:
        _append(image, path, segment, data, said.entries, end, shift)


def _follow(image: Image, said: layout.Preamble) -> None:
    """Do all that a batch says before its entries.

    Raises:
        ValueError: that can't be done.
    """
    if image.start is None:
        image.begin(said.behind or (0, 0))
    last = image.last_index
    if said.cut is not None:
        if said.cut > last:
            raise ValueError(f"a cut behind {said.cut} in a log that ends at {last}")
        image.cut(said.cut)
    if said.base is not None:
        check_base(said.base, image.base)
        image.forget(said.base)
    if image.last_index < image.base[0]:
        raise ValueError(f"a cut behind {said.cut} in a log that begins behind {image.base[0]}")
    if said.behind is not None and said.behind[0] != image.last_index:
        raise ValueError(
            f"a segment behind entry {said.behind[0]} in a log that ends at {image.last_index}"
        )


def _append(
    image: Image,
    path: str,
    segment: int,
    data: bytes | bytearray,
    offset: int,
    end: int,
    shift: int,
) -> None:
    # A million entries pass through here at a start.  Their checksums need no second look: the
    # batch's own covers them; whoever reads an entry checks the entry's.
    unpack, overhead, opaque = layout.unpack_record, layout.RECORD_OVERHEAD, _OPAQUE
    expected = image.last_index + 1
    newest = image.runs[-1][1] if image.runs else 0
    lowest = newest or max(image.base[1], 1)
    begin, first = offset, expected
    while offset + overhead <= end:
        length, _, index, term, kind = unpack(data, offset)
        stop = offset + overhead + length
        if index != expected or term < lowest or stop > end:
            break
        if term != newest:
            image.runs.append((index, term))
            newest = lowest = term
        if kind not in opaque:
            if kind != Kind.CONFIGURATION:
                break
            image.configurations.append((index, bytes(data[offset:stop])))
        expected += 1
        offset = stop
        if offset - begin > EXTENT_BYTES:
            image.extents.append(expected - first, segment, begin + shift, offset + shift)
            begin, first = offset, expected
    if offset != end:
        raise StorageCorrupt(path, offset + shift, f"entry {expected} is not what follows here")
    if first < expected:
        image.extents.append(expected - first, segment, begin + shift, end + shift)


def replay_taken(image: Image, path: str, data: bytes, header: layout.Header, taken: int) -> int:
    """Add the segment up to batch `taken`, the last one that counts; return where that one ends.

    Raises:
        StorageCorrupt: one of them is damaged or missing.
    """
    count, end = 0, layout.DATA
    for start, end in layout.find_batches(data, header.salt, taken):
        replay(image, path, header.number, data, start, end)
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
    tail = Suffix(image.last_index)
    number = mark
    while (found := layout.check_batch(data, offset, header.salt)) and found[0] == number + 1:
        number, end = found
        kept = image.last_index if kept is None else kept
        replay(image, path, header.number, data, offset, end)
        said = layout.read_preamble(path, data, offset, end)
        if said.cut is not None:
            tail.cut(said.cut)
            kept = min(kept, said.cut)
        if said.base is not None:
            tail.forget(said.base[0])
        try:
            tail.frames += cut_frames(data[said.entries : end])
        except FrameError as error:
            raise StorageCorrupt(path, said.entries + error.offset, error.reason) from None
        offset = end
    if layout.has_later_batch(data, header.salt, offset, number + 1):
        reason = f"batch {number + 1} is damaged, and it had been durable: whole ones follow"
        raise StorageCorrupt(path, offset, reason)
    return Batch(image.state, kept, tail.frames, image.base)
