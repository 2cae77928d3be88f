"""The cluster's time, which begins the payload of every entry."""

from __future__ import annotations

import struct
from typing import Final

from trioraft._errors import ProtocolError

_TIME: Final = struct.Struct("<Q")
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


def stamped_data(payload: bytes) -> bytes:
    """The command behind the time."""
    return payload[_TIME.size :]
