"""The bytes of a segment: header, marks and batches.  docs/storage-format.md draws them.

    page 0      header: which segment this is, and which one it carries on
    page 1, 2   the mark's two slots: the last batch that is known to be durable
    page 3 ...  batches, one behind the other; zeros behind the last one

All numbers are little-endian.  Nothing here touches a file.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from trioraft._errors import StorageCorrupt, StorageError
from trioraft.abc import Batch

VERSION: Final = 2
"""What is written.  Version 1, which has neither `Own.BASE` nor `Own.FROM`, is read as well."""

MAGIC: Final = b"trioraft"
NO_SALT: Final = bytes(8)
"""What stands for the predecessor's salt in the first segment of all."""

PAGE: Final = 4096
DATA: Final = 3 * PAGE
"""Where the first batch begins."""

_HEADER: Final = struct.Struct("<8sI8sQ8sQ")  # magic, version, salt, number, predecessor, taken
_MARK: Final = struct.Struct("<8sQ")  # salt, batch
_BATCH: Final = struct.Struct("<8sQI")  # salt, number, length of the body
_CRC: Final = struct.Struct("<I")
_RECORD: Final = struct.Struct("<IIQQB")  # as an entry's frame: length, CRC, index, term, kind

HEADER_BYTES: Final = _HEADER.size + _CRC.size
MARK_BYTES: Final = _MARK.size + _CRC.size
BATCH_OVERHEAD: Final = _BATCH.size + _CRC.size
RECORD_OVERHEAD: Final = _RECORD.size
MAX_BODY_BYTES: Final = (1 << 32) - 1


class Own(enum.IntEnum):
    """The kinds of record that never leave the storage; entries have kinds below these."""

    STATE = 128
    CUT = 129
    BASE = 130
    FROM = 131


@frozen
class Header:
    """What a segment says of itself."""

    salt: bytes
    number: int
    predecessor: bytes = NO_SALT
    """The salt of the segment before."""
    taken: int = 0
    """The last batch of the segment before that counts."""
    version: int = VERSION
    """The format's, when the segment was begun."""

    @property
    def stands_alone(self) -> bool:
        """Whether the segment can be read without the ones before it."""
        return self.version > 1 or self.number == 1


@frozen
class Preamble:
    """What a batch says before its entries."""

    entries: int
    """Where these begin."""
    cut: int | None = None
    base: tuple[int, int] | None = None
    behind: tuple[int, int] | None = None
    """Index and term of the entry behind which the entries go, in a segment's first batch."""
    state: bytes | None = None


def pack_header(header: Header) -> bytes:
    """The header as it stands at the start of the file."""
    fields = header.salt, header.number, header.predecessor, header.taken
    head = _HEADER.pack(MAGIC, header.version, *fields)
    return head + _CRC.pack(zlib.crc32(head))


def parse_header(path: str, number: int, data: bytes) -> Header:
    """Read the start of segment `number` of all.

    Raises:
        StorageCorrupt: it is damaged.
        StorageError: a newer trioraft wrote it.
    """
    if len(data) < HEADER_BYTES:
        raise StorageCorrupt(path, len(data), "the segment's header is cut short")
    magic, version, salt, found, predecessor, taken = _HEADER.unpack_from(data)
    (crc,) = _CRC.unpack_from(data, _HEADER.size)
    if magic != MAGIC or crc != zlib.crc32(data[: _HEADER.size]):
        raise StorageCorrupt(path, 0, "the segment's header is damaged")
    if version > VERSION:
        raise StorageError(
            f"{path} has format version {version}; this trioraft knows none beyond {VERSION}"
        )
    if found != number:
        raise StorageCorrupt(path, 0, f"this is segment {found} under another's name")
    return Header(salt, found, predecessor, taken, version)


def pack_mark(salt: bytes, batch: int) -> bytes:
    """'Everything up to this batch is durable.'"""
    mark = _MARK.pack(salt, batch)
    return mark + _CRC.pack(zlib.crc32(mark))


def mark_offset(batch: int) -> int:
    """The slot that this batch's mark goes to: by turns, so that one is always whole."""
    return PAGE * (1 + batch % 2)


def read_mark(salt: bytes, data: bytes) -> int:
    """The last batch that is known to have been durable.

    At least the first: a segment gets its name only once that one is.
    """
    newest = 1
    for slot in (data[PAGE : PAGE + MARK_BYTES], data[2 * PAGE : 2 * PAGE + MARK_BYTES]):
        if len(slot) == MARK_BYTES:
            _, batch = _MARK.unpack_from(slot)
            if slot == pack_mark(salt, batch):
                newest = max(newest, batch)
    return newest


def pack_batch(
    salt: bytes, number: int, batch: Batch, behind: tuple[int, int] | None = None
) -> bytearray:
    """The batch as it goes to disk; the entries' frames go in as they are.

    `behind` is what the first batch of a segment says beside: see `Preamble`.
    """
    parts: list[bytes] = [bytes(BATCH_OVERHEAD)]
    if batch.cut is not None:
        parts.append(_pack_record(Own.CUT, batch.cut))
    if batch.base is not None:
        parts.append(_pack_record(Own.BASE, *batch.base))
    if behind is not None:
        parts.append(_pack_record(Own.FROM, *behind))
    if batch.state is not None:
        parts.append(_pack_record(Own.STATE, payload=batch.state))
    parts += batch.entries
    whole = bytearray().join(parts)
    length = len(whole) - BATCH_OVERHEAD
    if length > MAX_BODY_BYTES:
        raise ValueError(f"a batch of {length} bytes is too large")
    _BATCH.pack_into(whole, 0, salt, number, length)
    _CRC.pack_into(whole, _BATCH.size, _batch_crc(memoryview(whole)))
    return whole


def _pack_record(kind: Own, index: int = 0, term: int = 0, payload: bytes = b"") -> bytes:
    crc = zlib.crc32(payload, zlib.crc32(struct.pack("<QQB", index, term, kind)))
    return _RECORD.pack(len(payload), crc, index, term, kind) + payload


def _batch_crc(whole: memoryview) -> int:
    return zlib.crc32(whole[BATCH_OVERHEAD:], zlib.crc32(whole[: _BATCH.size]))


def check_batch(data: bytes, offset: int, salt: bytes) -> tuple[int, int] | None:
    """The number and the end of the batch at `offset`; None if there is no whole one."""
    if offset + BATCH_OVERHEAD > len(data):
        return None
    found, number, length = _BATCH.unpack_from(data, offset)
    end = offset + BATCH_OVERHEAD + length
    if found != salt or end > len(data):
        return None
    (crc,) = _CRC.unpack_from(data, offset + _BATCH.size)
    if _batch_crc(memoryview(data)[offset:end]) != crc:
        return None
    return number, end


def find_batches(data: bytes, salt: bytes, limit: int | None = None) -> Iterator[tuple[int, int]]:
    """Start and end of each batch, in order, up to batch `limit` or the first that is not whole."""
    offset, expected = DATA, 1
    while limit is None or expected <= limit:
        found = check_batch(data, offset, salt)
        if found is None or found[0] != expected:
            return
        yield offset, found[1]
        offset, expected = found[1], expected + 1


def has_later_batch(data: bytes, salt: bytes, offset: int, number: int) -> bool:
    """Is a whole batch behind `offset` whose number is above `number`?"""
    hit = data.find(salt, offset)
    while hit >= 0:
        found = check_batch(data, hit, salt)
        if found is not None and found[0] > number:
            return True
        hit = data.find(salt, hit + 1)
    return False


def read_preamble(path: str, data: bytes | bytearray, start: int, end: int) -> Preamble:
    """What stands before the entries of the whole batch from `start` to `end`.

    Raises:
        StorageCorrupt: the records make no sense, whatever their checksum says.
    """
    cut: int | None = None
    state: bytes | None = None
    pairs: dict[int, tuple[int, int]] = {}
    offset = start + BATCH_OVERHEAD
    while offset + RECORD_OVERHEAD <= end:
        length, _, index, term, kind = _RECORD.unpack_from(data, offset)
        stop = offset + RECORD_OVERHEAD + length
        if kind < Own.STATE:
            break
        if stop > end:
            raise StorageCorrupt(path, offset, "a record is longer than its batch")
        if kind == Own.STATE:
            state = bytes(data[offset + RECORD_OVERHEAD : stop])
        elif kind == Own.CUT:
            cut = index
        elif kind in (Own.BASE, Own.FROM):
            pairs[kind] = (index, term)
        else:
            raise StorageCorrupt(path, offset, f"a record of the unknown kind {kind}")
        offset = stop
    return Preamble(offset, cut, pairs.get(Own.BASE), pairs.get(Own.FROM), state)


unpack_record: Final = _RECORD.unpack_from
"""Length, CRC, index, term and kind of the record at an offset."""
