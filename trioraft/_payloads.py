"""What the payload of an entry holds: the cluster's time, and what the entry is about."""

from __future__ import annotations

import struct
from typing import Final

from trioraft._errors import ProtocolError
from trioraft._sessions import unpack_call
from trioraft._wire.frames import Entry, Kind
from trioraft._wire.strict import unpack

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


def command_data(entry: Entry) -> bytes | None:
    """The encoded command of an entry; None if it holds no command.

    Raises:
        ProtocolError: it should hold one, and is cut short.
    """
    match entry.kind:
        case Kind.COMMAND:
            return stamped_data(entry.payload)
        case Kind.CALL:
            return unpack_call(stamped_data(entry.payload))[1]
        case _:
            return None


def command_name(entry: Entry) -> str | None:
    """The name of the command in an entry; None if it holds no command."""
    data = command_data(entry)
    name: str | None = None if data is None else unpack(data)[0]
    return name
