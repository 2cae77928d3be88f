"""Typed commands and queries: how they are declared, and how one machine's are written as bytes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar, get_type_hints

import attrs
from attrs import field, frozen

from trioraft._errors import CommandFailed, CommandRejected, ProtocolError
from trioraft._frozen import checked_frozen
from trioraft._limits import (
    MAX_COMMAND_BYTES,
    MAX_ENTRY_CHANGES_BYTES,
    MAX_NESTING,
    MAX_RESULT_BYTES,
)
from trioraft._wire.strict import (
    MALFORMED,
    is_deeper,
    is_flat,
    own_pack,
    strict_converter,
    unpack,
)

C = TypeVar("C")
R_co = TypeVar("R_co", covariant=True)

_NAME: Final = "__trioraft_name__"
_VERB: Final = "__trioraft_verb__"

_CHANGE_OVERHEAD: Final = 8
"""Bytes that a change takes in a message beside itself, at most."""


@checked_frozen
class Applied:
    """The entry that is being applied: the same on every server, whenever it is applied there."""

    index: int
    term: int
    time: float
    """Cluster time in UTC seconds: it never falls, and follows no wall clock's jumps."""
    context: Any = None
    """What this server was given as `context`; the one thing here that is not replicated."""
    announced: list[Any] = field(init=False, factory=list, eq=False, repr=False)
    """What `announce` was given, in order."""
    _take: Callable[[Any], None] | None = field(default=None, eq=False, repr=False)

    def announce(self, change: Any) -> None:
        """Tell those who watch the machine what this entry changes.

        Nobody hears of it if `apply` raises.  A machine whose `changes` names no types can't
        announce: its watchers are told its commands.

        Raises:
            TypeError: the machine's `changes` does not name the type; or as below.
            ValueError, OverflowError: it has no form as bytes, or is too much for one entry.
        """
        if self._take is not None:
            self._take(change)
        self.announced.append(change)


@frozen
class Done:
    """What a command came to, and where it stands."""

    value: Any
    index: int
    term: int


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


def result_type(given: type[Any]) -> Any:
    """What a command's `apply` or a query's `answer` says it returns; Any if it says nothing."""
    method = getattr(given, getattr(given, _VERB))
    try:
        return get_type_hints(method).get("return", Any)
    except (NameError, TypeError):  # what it names is imported for type checkers only
        return Any


def change_name(cls: type[Any]) -> str:
    """The name under which watchers are told of a change: a command's own, else its class's."""
    name: str = cls.__dict__.get(_NAME, cls.__name__)
    return name


_Reader = tuple[type[Any], Callable[[Any, Any], Any], bool]
"""A class, what makes one of it from its fields, and whether no field holds lists or maps."""


class Vocabulary:
    """The commands and queries of one machine.  No table is global (seed G-75)."""

    @classmethod
    def of(cls, machine: Any) -> Vocabulary:
        """What a machine understands.

        Raises:
            TypeError: it is a class and no object, or has no `commands`; or as `Vocabulary`.
        """
        if isinstance(machine, type) or not hasattr(machine, "commands"):
            raise TypeError(f"a state machine must be an object with `commands`, not {machine!r}")
        return cls(machine.commands)

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
        self._pack = own_pack()
        # What is looked up once, and not for each command.
        self._results: dict[type[Any], Callable[[Any], Any]] = {}
        self._changes: dict[type[Any], tuple[str, Callable[[Any], Any]]] = {}
        """The name of a change's class, and what makes such a change plain."""
        self._readers: dict[str, dict[str, _Reader]] = {"apply": {}, "answer": {}}
        """By verb and name: what reads a command or query from its fields."""

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
            data = self._pack([name, self._converter.unstructure(given)])
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
        return self._decode(data, "apply", "command")

    def _decode(self, data: bytes, verb: str, noun: str) -> Any:
        plain = unpack(data)
        # Spelled out: `match` asks whether a list is a sequence, and takes four times as long.
        if type(plain) is not list or len(plain) != 2:
            raise ProtocolError(f"no {noun}: expected a name and its fields")
        name, fields = plain
        if type(name) is not str or type(fields) is not dict:
            raise ProtocolError(f"no {noun}: expected a name and its fields")
        reader = self._readers[verb].get(name)
        if reader is None:
            cls = self.named(name, verb)
            if cls is None:
                raise ProtocolError(f"the {noun} {name!r} is unknown here")
            hook = self._converter.get_structure_hook(cls)
            reader = self._readers[verb][name] = cls, hook, is_flat(cls)
        cls, read, is_flat_ = reader
        if not is_flat_ and is_deeper(fields, MAX_NESTING):
            # What recurses over it in `apply` might reach the end of one server's stack.
            raise ProtocolError(f"the {noun} {name!r} is nested deeper than {MAX_NESTING} levels")
        try:
            return read(fields, cls)
        except Exception as error:  # a class's own validators raise what they like
            raise ProtocolError(f"the {noun} {name!r} can't be read: {error}") from error

    def class_of(self, name: str) -> type[Any] | None:
        """The command or query of that name, if the machine has one."""
        return self._named.get(name)

    def named(self, name: str, verb: str) -> type[Any] | None:
        """The command ("apply") or query ("answer") of that name, if the machine has one."""
        cls = self._named.get(name)
        return cls if cls is not None and getattr(cls, _VERB) == verb else None

    def check_query(self, given: Any) -> None:
        """See that the machine answers this query.

        Raises:
            CommandRejected: it does not.
        """
        cls, name = type(given), name_of(given)
        if name is None or self._named.get(name) is not cls or getattr(cls, _VERB) != "answer":
            raise CommandRejected(f"the machine has no query {name or cls.__name__!r}")

    def decode_query(self, data: bytes) -> Any:
        """The query that the bytes hold.

        Raises:
            ProtocolError: they hold none that the machine knows.
        """
        return self._decode(data, "answer", "query")

    def result_data(self, given: type[Any], value: Any) -> bytes:
        """What a command or query came to, as bytes.

        Raises:
            CommandFailed: it has no form as bytes, or too many of them; the same everywhere.
        """
        try:
            data = self._pack(self._plain_result(given)(value))
        except MALFORMED as error:
            name = given.__name__
            raise CommandFailed("ResultUnreadable", f"what {name} returned: {error}") from error
        if len(data) > MAX_RESULT_BYTES:
            raise CommandFailed(
                "ResultTooLarge",
                f"the result has {len(data)} bytes; the most is {MAX_RESULT_BYTES}",
            )
        return data

    def change_data(self, change: Any) -> bytes:
        """What an entry has changed, as bytes.

        Raises:
            TypeError, ValueError, OverflowError: it has no form as bytes.
        """
        cls = type(change)
        known = self._changes.get(cls)
        if known is None:
            known = change_name(cls), self._converter.get_unstructure_hook(cls)
            self._changes[cls] = known
        name, plain = known
        return self._pack([name, plain(change)])

    def _plain_result(self, given: type[Any]) -> Callable[[Any], Any]:
        """Makes what a command or query returns plain; looked up once."""
        plain = self._results.get(given)
        if plain is None:
            plain = self._converter.get_unstructure_hook(result_type(given))
            self._results[given] = plain
        return plain


class Announcements:
    """What one entry announces: taken while its `apply` runs, so that it can still change its mind.

    A machine that announces first, and changes itself then, has changed nothing if that raises.
    """

    def __init__(self, vocabulary: Vocabulary, types: Sequence[type[Any]]) -> None:
        self._vocabulary = vocabulary
        self._types = types
        self._room = MAX_ENTRY_CHANGES_BYTES
        self.datas: list[bytes] = []
        """Each change as bytes, in order."""

    def __call__(self, change: Any) -> None:
        """Take a change; raises as `Applied.announce`."""
        if type(change) not in self._types:
            name = type(change).__name__
            raise TypeError(f"announced a {name}, which the machine's `changes` does not name")
        data = self._vocabulary.change_data(change)
        self._room -= len(data) + _CHANGE_OVERHEAD
        if self._room < 0:
            most = MAX_ENTRY_CHANGES_BYTES
            raise ValueError(f"the changes of one entry take more than {most} bytes")
        self.datas.append(data)
