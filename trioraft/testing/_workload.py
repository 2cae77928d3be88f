"""What the simulation replicates when it tests the library itself: a few registers."""

from __future__ import annotations

import io
import json
from collections.abc import Hashable
from random import Random
from typing import Any, BinaryIO, ClassVar, Final

from attrs import frozen

from trioraft._commands import Applied, command, query
from trioraft.testing._operations import Raised

KEYS: Final = tuple("abcde")
_NOWHERE: Final = Applied(0, 0, 0.0)
_BALLAST_BYTES: Final = 4_000


@command("put")
@frozen
class Put:
    """Set a register; comes to what it held."""

    key: str
    value: int

    def apply(self, registers: Registers, applied: Applied) -> int | None:
        before = registers.values.get(self.key)
        registers.values[self.key] = self.value
        return before


@command("get")
@frozen
class Get:
    """Comes to what a register holds; through the log, so it is never old."""

    key: str

    def apply(self, registers: Registers, applied: Applied) -> int | None:
        return registers.values.get(self.key)


@command("add")
@frozen
class Add:
    """Add to a register, and come to the sum; an empty one refuses."""

    key: str
    amount: int

    def apply(self, registers: Registers, applied: Applied) -> int:
        registers.values[self.key] += self.amount  # KeyError: a result like any other
        return registers.values[self.key]


@command("swap")
@frozen
class Swap:
    """Set a register if it holds what is expected; comes to whether it did."""

    key: str
    expected: int | None
    value: int

    def apply(self, registers: Registers, applied: Applied) -> bool:
        if registers.values.get(self.key) != self.expected:
            return False
        registers.values[self.key] = self.value
        return True


@query("look")
@frozen
class Look:
    """Comes to what a register holds; not through the log."""

    key: str

    def answer(self, registers: Registers) -> int | None:
        return registers.values.get(self.key)


class Registers:
    """Numbers under keys."""

    commands: ClassVar = (Put, Get, Add, Swap, Look)

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def save(self) -> _Saved:
        """See `trioraft.abc.StateMachine`."""
        return _Saved(json.dumps(self.values, sort_keys=True).encode())

    def recover(self, state: bytes) -> None:
        """See `trioraft.abc.StateMachine`."""
        self.recover_from(io.BytesIO(state))

    def recover_from(self, file: BinaryIO) -> None:
        """See `trioraft.abc.StateMachine`."""
        line = file.readline()
        assert file.read() == _ballast(line), "a piece of it is missing, or is another one's"
        self.values = json.loads(line)


@frozen
class _Saved:
    """A captured state, with a ballast that makes it travel in several pieces."""

    line: bytes

    def write(self, file: BinaryIO, /) -> None:
        """See `trioraft.abc.SavedState`."""
        line = self.line + b"\n"
        file.write(line)
        file.write(_ballast(line))


def _ballast(line: bytes) -> bytes:
    return Random(line).randbytes(_BALLAST_BYTES)


def draw_command(chance: Random) -> Any:
    """Any command or query on any register; a swap often finds what it expects, of so few."""
    key = chance.choice(KEYS)
    value = chance.randrange(6)
    match chance.randrange(7):
        case 0:
            return Get(key)
        case 5 | 6:
            return Look(key)
        case 1:
            return Add(key, chance.choice((-1, 1)))
        case 2:
            return Swap(key, chance.choice((None, *range(6))), value)
        case _:
            return Put(key, value)


class RegisterModel:
    """What the registers would do one command after the other; each is checked for itself."""

    def initial(self) -> int | None:
        """See `Model`."""
        return None

    def apply(self, state: int | None, given: Any) -> tuple[int | None, Any]:
        """See `Model`."""
        registers = Registers()
        if state is not None:
            registers.values[given.key] = state
        if isinstance(given, Look):
            return state, given.answer(registers)
        try:
            output = given.apply(registers, _NOWHERE)
        except KeyError as error:
            output = Raised.of(error)
        return registers.values.get(given.key), output

    def key(self, given: Any) -> Hashable:
        """See `Model`."""
        key: Hashable = given.key
        return key

    def is_read(self, given: Any) -> bool:
        """See `Model`: what surely changes nothing is tried last."""
        return isinstance(given, Get | Look)
