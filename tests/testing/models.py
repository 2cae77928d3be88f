"""Models that are easily seen to be right, and the checker that needs no cleverness."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Sequence
from random import Random
from typing import Any

from trioraft.testing._model import Model
from trioraft.testing._operations import Operation, Raised


class Registers:
    """Registers by name.  An input is the name, the verb, and what the verb needs."""

    states: tuple[Hashable, ...] = (None, 0, 1, 2, 3)

    def initial(self) -> Hashable:
        return None

    def apply(self, state: Any, given: Any) -> tuple[Hashable, Any]:
        match given[1:]:
            case ("get",):
                return state, state
            case ("put", value):
                return value, None
            case ("cas", old, new):
                return (new, True) if state == old else (state, False)
            case ("add", amount):
                total = (state or 0) + amount
                return total, total
            case ("drop",):
                return (None, state) if state is not None else (None, Raised("KeyError", "empty"))
        raise AssertionError(given)

    def key(self, given: Any) -> Hashable:
        name: Hashable = given[0]
        return name

    def some_input(self, chance: Random) -> Any:
        verbs = [
            ("get",),
            ("get",),
            ("put", chance.randrange(3)),
            ("cas", chance.randrange(3), chance.randrange(3)),
            ("add", chance.randrange(1, 3)),
            ("drop",),
        ]
        return ("x", *chance.choice(verbs))


class ReadingRegisters(Registers):
    """The same, and it tells what reads are."""

    def is_read(self, given: Any) -> bool:
        return bool(given[1] == "get")


class Lists:
    """A list to which things are appended: here no two orders come to the same."""

    states: tuple[Hashable, ...] = ((), (7,), (0, 7), (7, 7))

    def initial(self) -> Hashable:
        return ()

    def apply(self, state: Any, given: Any) -> tuple[Hashable, Any]:
        match given:
            case ("append", item):
                return (*state, item), None
            case ("pop",):
                return state[:-1], state[-1] if state else None
            case ("all",):
                return state, state
        raise AssertionError(given)

    def key(self, given: Any) -> Hashable:
        return None

    def is_read(self, given: Any) -> bool:
        return bool(given == ("all",))

    def some_input(self, chance: Random) -> Any:
        return chance.choice([("append", chance.randrange(3)), ("append", 7), ("pop",), ("all",)])


def has_order(operations: Iterable[Operation], model: Model, state: Hashable) -> bool:
    """Whether the operations, all of one key, can be ordered: tries all orders there are."""
    every = list(operations)
    unknown = [o for o in every if o.is_unknown]
    required = [o for o in every if not o.is_unknown]
    return any(
        _explains(order, model, state)
        for count in range(len(unknown) + 1)
        for used in itertools.combinations(unknown, count)
        for order in itertools.permutations([*required, *used])
    )


def _explains(order: Sequence[Operation], model: Model, state: Hashable) -> bool:
    for earlier, later in itertools.combinations(order, 2):
        if later.returned < earlier.called:
            return False
    for operation in order:
        state, output = model.apply(state, operation.input)
        if not operation.is_unknown and output != operation.output:
            return False
    return True


def some_history(
    chance: Random, model: Registers | Lists, *, size: int, doubt: float, lies: float
) -> list[Operation]:
    """Operations at random times, as an honest machine answers them, but for some lies."""
    span = chance.choice((2, 5, 10))
    drawn = []
    for _ in range(size):
        called = chance.randrange(span)
        returned: float = called + chance.randrange(1, 4)
        point = chance.uniform(called, returned)
        if chance.random() < doubt:
            returned = math.inf
            point = chance.choice((point, point + 4, math.inf))  # soon, late or never
        drawn.append((point, called, returned, model.some_input(chance)))
    state = model.initial()
    told = []
    for number, (point, called, returned, given) in enumerate(sorted(drawn, key=_point)):
        output = None
        if point < math.inf:
            state, output = model.apply(state, given)
        if chance.random() < lies:
            _, output = model.apply(chance.choice(model.states), given)
        known = None if returned == math.inf else output
        told.append(Operation(f"c{number}", called, returned, given, known))
    chance.shuffle(told)
    return told


def _point(drawn: tuple[float, float, float, Any]) -> float:
    return drawn[0]
