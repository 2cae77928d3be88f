"""Typed commands and queries: how they are declared, and how one machine's are written as bytes."""

from __future__ import annotations

import inspect
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import attrs
from attrs import frozen

from trioraft._errors import CommandRejected, ProtocolError
from trioraft._limits import MAX_COMMAND_BYTES
from trioraft._wire.strict import MALFORMED, pack, strict_converter, unpack

C = TypeVar("C")
R_co = TypeVar("R_co", covariant=True)

_NAME: Final = "__trioraft_name__"
_VERB: Final = "__trioraft_verb__"
_TIME: Final = struct.Struct("<Q")
_MICROSECONDS: Final = 1_000_000
_LATEST: Final = 1 << 62
"""Some 146,000 years; a later time could not be counted on from."""


@frozen
class Applied:
    """The entry that is being applied: the same on every server, whenever it is applied there."""

    index: int
    term: int
    time: float
    """Cluster time in UTC seconds: it never falls, and follows no wall clock's jumps."""
    context: Any = None
    """What this server was given as `context`; the one thing here that is not replicated."""


class Command(Protocol[R_co]):
    """What `Server.do` takes: an attrs class under `@command`."""

    def apply(self, machine: Any, applied: Applied, /) -> R_co:
        """Change the machine, and return the command's result."""
        ...


class Query(Protocol[R_co]):
    """What `Server.read` takes: an attrs class under `@query`."""

    def answer(self, machine: Any, /) -> R_co:
        """Read from the machine, and change nothing."""
        ...


def command(name: str) -> Callable[[type[C]], type[C]]:
    """Declare an attrs class to be a command that travels under a stable name.

    The name is what stands in the log: the class may be renamed or moved, the name may not.

    Raises:
        TypeError: the class is no attrs class, or has no plain method `apply`.
        ValueError: the name is empty.
    """
    return _declare(name, "apply")


def query(name: str) -> Callable[[type[C]], type[C]]:
    """Declare an attrs class to be a query, under a stable name.

    Raises:
        TypeError: the class is no attrs class, or has no plain method `answer`.
        ValueError: the name is empty.
    """
    return _declare(name, "answer")


def _declare(name: str, verb: str) -> Callable[[type[C]], type[C]]:
    if not isinstance(name, str):
        raise TypeError(f"the name of a command must be a string, not {name!r}")
    if not name:
        raise ValueError("the name of a command must not be empty")

    def declare(cls: type[C]) -> type[C]:
        method = getattr(cls, verb, None)
        is_attrs: bool = attrs.has(cls)
        if not is_attrs:
            raise TypeError(f"{cls.__name__} must be an attrs class: put @attrs.frozen below")
        if not callable(method) or inspect.iscoroutinefunction(method):
            raise TypeError(f"{cls.__name__} must have a plain method {verb}()")
        setattr(cls, _NAME, name)
        setattr(cls, _VERB, verb)
        return cls

    return declare


def name_of(given: Any) -> str | None:
    """The name under which a command or query was declared; None if its class was not."""
    name: str | None = type(given).__dict__.get(_NAME)
    return name


class Vocabulary:
    """The commands and queries of one machine.  No table is global (seed G-75)."""

    def __init__(self, classes: Sequence[type[Any]]) -> None:
        """Take a machine's `commands`.

        Raises:
            TypeError: one is no command or query.
            ValueError: two have one name.
        """
        self._named: dict[str, type[Any]] = {}
        for cls in classes:
            name = cls.__dict__.get(_NAME) if isinstance(cls, type) else None
            if name is None:
                raise TypeError(f"{cls!r} is no command: it lacks @trioraft.command(...)")
            if name in self._named:
                raise ValueError(f"two commands have the name {name!r}")
            self._named[name] = cls
        self._converter = strict_converter(forbid_extra_keys=True)

    @property
    def commands(self) -> tuple[str, ...]:
        """The names of the commands, sorted."""
        return tuple(sorted(n for n, c in self._named.items() if getattr(c, _VERB) == "apply"))

    def encode(self, given: Any) -> tuple[bytes, Any]:
        """A caller's command as bytes, and the command that the bytes hold.

        What is applied here is what every other server reads, so it is read back strictly before
        it may enter the log: no client can poison it.

        Raises:
            CommandRejected: the machine does not know the command, or its fields are not what
                their types say, or it is too large.
        """
        cls, name = type(given), name_of(given)
        if name is None or self._named.get(name) is not cls or getattr(cls, _VERB) != "apply":
            raise CommandRejected(f"the machine has no command {name or cls.__name__!r}")
        try:
            data = pack([name, self._converter.unstructure(given)])
            fresh = self.decode(data)
        except (ProtocolError, *MALFORMED) as error:
            raise CommandRejected(f"a malformed command {name!r}: {error}") from error
        if len(data) > MAX_COMMAND_BYTES:
            raise CommandRejected(
                f"the command {name!r} has {len(data)} bytes; the most is {MAX_COMMAND_BYTES}"
            )
        return data, fresh

    def decode(self, data: bytes) -> Any:
        """The command that the bytes hold.

        Raises:
            ProtocolError: they hold none that the machine knows.
        """
        match unpack(data):
            case [str(name), dict(fields)]:
                pass
            case _:
                raise ProtocolError("no command: expected a name and its fields")
        cls = self._named.get(name)
        if cls is None or getattr(cls, _VERB) != "apply":
            raise ProtocolError(f"the command {name!r} is unknown here")
        try:
            return self._converter.structure(fields, cls)
        except MALFORMED as error:
            raise ProtocolError(f"the command {name!r} can't be read: {error}") from error

    def check_query(self, given: Any) -> None:
        """See that the machine answers this query.

        Raises:
            CommandRejected: it does not.
        """
        cls, name = type(given), name_of(given)
        if name is None or self._named.get(name) is not cls or getattr(cls, _VERB) != "answer":
            raise CommandRejected(f"the machine has no query {name or cls.__name__!r}")


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


def command_name(payload: bytes) -> str:
    """The name of the command in an entry's payload."""
    name: str = unpack(stamped_data(payload))[0]
    return name
