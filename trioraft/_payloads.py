"""Which command an entry holds, behind the cluster's time."""

from __future__ import annotations

from trioraft._sessions import unpack_call
from trioraft._wire.frames import Entry, Kind
from trioraft._wire.stamps import stamped_data
from trioraft._wire.strict import unpack


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
