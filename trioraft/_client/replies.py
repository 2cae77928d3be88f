"""What a server's reply comes to for whoever waits for it: a value, or an error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from trioraft._commands import result_type
from trioraft._errors import (
    Busy,
    CommandError,
    CommandFailed,
    CommandRejected,
    NotLeaderError,
    OutcomeUnknown,
    ProtocolError,
    ServerStopped,
    SessionExpired,
)
from trioraft._sessions import Code, Reply
from trioraft._wire.strict import strict_converter, unpack

_CONVERTER: Final = strict_converter(forbid_extra_keys=True)


def _find_reader(given: Any) -> tuple[Callable[[Any, Any], Any], Any]:
    """What reads the results of a command or query, and their type."""
    of = result_type(given)
    return _CONVERTER.get_structure_hook(of), of


_reader: Final[Callable[[Any], tuple[Callable[[Any, Any], Any], Any]]] = cache(_find_reader)


def value_of(given: type[Any] | None, reply: Reply) -> Any:
    """What a command or query of this class came to; without a class in plain form.

    Raises:
        CommandFailed: it can't be read as what the class says that it returns.
    """
    try:
        plain = unpack(reply.data, any_keys=True)
        if given is None:
            return plain
        read, of = _reader(given)
        return read(plain, of)
    except Exception as error:  # a class's own validators raise what they like
        raise CommandFailed("ResultUnreadable", f"the result can't be read: {error}") from error


def error_of(reply: Reply, handle: bytes) -> CommandError | ServerStopped:
    """Why there is no value.

    Args:
        reply: what the server said.
        handle: names the command.
    """
    match reply.code:
        case Code.RAISED:
            return CommandFailed(*_two_texts(reply.data))
        case Code.EXPIRED:
            return SessionExpired("the session is over, or was none", handle)
        case Code.FORGOTTEN:
            return OutcomeUnknown("too long ago: its result is not kept", handle)
        case Code.NOT_LEADER:
            leader, address = _two_texts(reply.data)
            return NotLeaderError(leader or None, address or None, reply.term)
        case Code.REJECTED:
            return CommandRejected(_two_texts(reply.data)[1])
        case Code.BUSY:
            return Busy("the server has as many commands waiting as it takes")
        case Code.STOPPED:
            return ServerStopped("the server stopped; nothing was done")
        case _:
            return OutcomeUnknown("the leader was lost before the command's end was known", handle)


def _two_texts(data: bytes) -> tuple[str, str]:
    """Both are empty where a server speaks nonsense: what it has decided stands all the same."""
    with contextlib.suppress(ProtocolError):
        match unpack(data):
            case [first, second]:
                return str(first or ""), str(second or "")
    return "", ""
