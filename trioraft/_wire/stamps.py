"""The cluster's time, which begins the payload of every entry."""

from __future__ import annotations

import struct
from typing import Final

from trioraft._errors import ProtocolError
from trioraft._wire.frames import FRAME_OVERHEAD

_TIME: Final = struct.Struct("<Q")
_FRAME: Final = struct.Struct("<8xQQBQ")
"""A frame's index, term and kind, and the time that its payload begins with."""
_DATA: Final = FRAME_OVERHEAD + _TIME.size
_MICROSECONDS: Final = 1_000_000
_LATEST: Final = 1 << 62
"""Some 146,000 years; a later time could not be counted on from."""


def stamp(time: float, data: bytes = b"") -> bytes:
    """An entry's payload: the cluster time, then the command."""
    return _TIME.pack(round(time * _MICROSECONDS)) + data


def stamped_time(payload: bytes) -> float:
    """The cluster time of an entry's payload.

    Raises:
        ProtocolError: it carries none.
    """
    if len(payload) < _TIME.size:
        raise ProtocolError("an entry without a time")
    microseconds: int = _TIME.unpack_from(payload)[0]
    if microseconds >= _LATEST:
        raise ProtocolError("an entry from beyond the end of time")
    return microseconds / _MICROSECONDS


def opened(frame: bytes) -> tuple[int, int, int, float, bytes]:
    """A frame that is known to be good: its index, term and kind, its time, and what comes behind.

    At one go, since every server does this for every entry.

    Raises:
        ProtocolError: it carries no time.
    """
    if len(frame) < _DATA:
        raise ProtocolError("an entry without a time")
    index, term, kind, microseconds = _FRAME.unpack_from(frame)
    if microseconds >= _LATEST:
        raise ProtocolError("an entry from beyond the end of time")
    return index, term, kind, microseconds / _MICROSECONDS, frame[_DATA:]


def stamped_data(payload: bytes) -> bytes:
    """The command behind the time."""
    return payload[_TIME.size :]
