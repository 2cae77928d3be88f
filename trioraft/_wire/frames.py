"""An entry as bytes: the one form in which it goes to disk, to each follower and into memory.

A frame is `length u32 | crc32 u32 | index u64 | term u64 | kind u8 | payload`, little-endian.
`length` counts the payload.  The checksum covers everything behind itself, so index, term and kind
are as safe as the payload.  A frame is made once, where the entry enters the leader, and never
changes.
"""

from __future__ import annotations

import enum
import struct
import zlib
from typing import Final

from trioraft._errors import ProtocolError
from trioraft._frozen import checked_frozen

_HEADER: Final = struct.Struct("<IIQQB")
_LENGTH: Final = struct.Struct("<II")
_IDENTITY: Final = struct.Struct("<QQB")
_CHECKED: Final = 8  # the checksum covers what lies behind length and itself

FRAME_OVERHEAD: Final = _HEADER.size


class Kind(enum.IntEnum):
    """What an entry is.  The numbers are on disk: never reuse one."""

    NOOP = 0
    COMMAND = 1
    CONFIGURATION = 2
    SESSION = 3
    """A session is opened, kept alive or closed."""
    CALL = 4
    """A command of a session."""


KINDS: Final = frozenset(int(kind) for kind in Kind)
_KIND: Final = {int(kind): kind for kind in Kind}


@checked_frozen
class Entry:
    """One entry of the log, taken apart."""

    index: int
    term: int
    kind: Kind
    payload: bytes


class FrameError(ProtocolError):
    """Bytes that are no frame.

    Attributes:
        offset: where the bad frame begins.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"{reason} at byte {offset}")
        self.offset = offset
        self.reason = reason


def frame(index: int, term: int, kind: Kind, payload: bytes) -> bytes:
    """The entry as bytes."""
    names = _IDENTITY.pack(index, term, kind)
    crc = zlib.crc32(payload, zlib.crc32(names))
    return _LENGTH.pack(len(payload), crc) + names + payload


def identity(whole: bytes) -> tuple[int, int]:
    """The index and the term of a frame that is known to be good."""
    _, _, index, term, _ = _HEADER.unpack_from(whole)
    return index, term


def kind_of(whole: bytes) -> int:
    """The kind of a frame that is known to be good, as a number."""
    return whole[FRAME_OVERHEAD - 1]


def checksum(whole: bytes) -> int:
    """The checksum of a frame that is known to be good."""
    crc: int = _HEADER.unpack_from(whole)[1]
    return crc


def payload_of(whole: bytes) -> bytes:
    """The payload of a frame that is known to be good."""
    return whole[FRAME_OVERHEAD:]


def entry_of(whole: bytes) -> Entry:
    """A frame that is known to be good, taken apart."""
    _, _, index, term, kind = _HEADER.unpack_from(whole)
    return Entry(index, term, _KIND[kind], whole[FRAME_OVERHEAD:])


def parse_entry(whole: bytes) -> Entry:
    """Take one good frame apart.

    Raises:
        FrameError: it is none.
    """
    check_frame(whole)
    return entry_of(whole)


def check_frame(whole: bytes) -> None:
    """See that this is one good frame.

    Raises:
        FrameError: it is none.
    """
    frames = cut_frames(whole)
    if len(frames) != 1:
        raise FrameError(0, f"expected one frame, got {len(frames)}")


def cut_frames(data: bytes) -> list[bytes]:
    """Cut a run of frames apart, each one's checksum verified.

    Indexes must rise by one and terms must not fall (seed G-10: a gap breaks all arithmetic).

    Raises:
        FrameError: anything is not as it should be.
    """
    frames: list[bytes] = []
    offset, end = 0, len(data)
    expected, newest = 0, 0
    unpack, crc32, view = _HEADER.unpack_from, zlib.crc32, memoryview(data)
    while offset < end:
        if end - offset < FRAME_OVERHEAD:
            raise FrameError(offset, "a frame's header is cut short")
        length, crc, index, term, kind = unpack(data, offset)
        stop = offset + FRAME_OVERHEAD + length
        if stop > end:
            raise FrameError(offset, "a frame is cut short")
        if crc32(view[offset + _CHECKED : stop]) != crc:
            raise FrameError(offset, "a frame's checksum does not match")
        if kind not in KINDS:
            raise FrameError(offset, f"a frame of the unknown kind {kind}")
        if index == 0 or term == 0 or (frames and (index != expected or term < newest)):
            raise FrameError(offset, f"entry {index} of term {term} does not follow")
        frames.append(data[offset:stop])
        expected, newest, offset = index + 1, term, stop
    return frames
