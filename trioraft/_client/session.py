"""What a client keeps of its commands: a session, a sequence in it, and handles."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from trioraft._commands import name_of
from trioraft._errors import CommandRejected, ProtocolError
from trioraft._limits import MAX_COMMAND_BYTES, SESSION_WINDOW
from trioraft._wire.strict import MALFORMED, pack, strict_converter, unpack

_CONVERTER: Final = strict_converter(forbid_extra_keys=True)
_MOST: Final = 1 << 63


def _find_writer(given: Any) -> Callable[[Any], Any]:
    """What makes a command or query of a class plain."""
    return _CONVERTER.get_unstructure_hook(given)


_writer: Final[Callable[[Any], Callable[[Any], Any]]] = cache(_find_writer)


class Session:
    """What the servers know this client by."""

    def __init__(self, id: int) -> None:
        self.id = id
        self.newest = 0
        self.unanswered: OrderedDict[int, None] = OrderedDict()
        """The sequences of commands whose outcome somebody may still want, oldest first.

        A `dict` that loses its oldest keys takes ever longer to find the next one.
        """

    @property
    def lowest(self) -> int:
        """Nothing before this one is of interest any more."""
        bound = self.newest + 1 - SESSION_WINDOW
        while self.unanswered and (oldest := next(iter(self.unanswered))) < bound:
            del self.unanswered[oldest]
        return next(iter(self.unanswered), self.newest + 1)

    def begin(self) -> int:
        """The sequence of the next command."""
        self.newest += 1
        self.unanswered[self.newest] = None
        return self.newest

    def done(self, sequence: int) -> None:
        """Nobody will ask for this one again."""
        self.unanswered.pop(sequence, None)


def encoded(given: Any) -> bytes:
    """A command or query as bytes.

    Raises:
        CommandRejected: it is none, or malformed, or too large.
    """
    name = name_of(given)
    if name is None:
        raise CommandRejected(f"{type(given).__name__} lacks @trioraft.command or @trioraft.query")
    try:
        data = pack([name, _writer(type(given))(given)])
    except MALFORMED as error:
        raise CommandRejected(f"a malformed {name!r}: {error}") from error
    if len(data) > MAX_COMMAND_BYTES:
        raise CommandRejected(f"{name!r} has {len(data)} bytes; the most is {MAX_COMMAND_BYTES}")
    return data


def handle_of(cluster: str, session: int, sequence: int, data: bytes) -> bytes:
    """Names a command of a session for good, and holds it."""
    return pack([cluster, session, sequence, data])


def read_handle(handle: bytes) -> tuple[str, int, int, bytes]:
    """What `handle_of` was given.

    Raises:
        ValueError: it was not made there.
    """
    with contextlib.suppress(ProtocolError):
        match unpack(handle):
            case [str(cluster), int(session), int(sequence), bytes(data)] if (
                0 < session < _MOST and 0 < sequence < _MOST and len(data) <= MAX_COMMAND_BYTES
            ):
                return cluster, session, sequence, data
    raise ValueError("this is no handle of a command")


def read_entry_handle(handle: bytes) -> tuple[str, int, int] | None:
    """The cluster, the index and the term in a handle that `Server.do` has raised; None: others."""
    with contextlib.suppress(ProtocolError):
        match unpack(handle):
            case [str(cluster), int(index), int(term)] if 0 < index < _MOST and 0 < term < _MOST:
                return cluster, index, term
    return None
