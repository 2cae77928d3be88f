"""Whether a history is linearizable: whether one order of its operations explains all it saw."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final, Literal

from attrs import frozen

from trioraft.testing._counterexample import Counterexample as Counterexample
from trioraft.testing._counterexample import shrink
from trioraft.testing._history import History, Operation
from trioraft.testing._model import MachineModel as MachineModel
from trioraft.testing._model import Model as Model
from trioraft.testing._model import Sequential
from trioraft.testing._ordering import Budget, Part, Search, Start

Kind = Literal["linearizable", "not linearizable", "undecided"]

LIMIT: Final = 2_000_000
"""Some seconds with a simple model, and a few hundred megabytes."""


@frozen
class Verdict:
    """What came of a check."""

    kind: Kind
    operations: int
    keys: int
    steps: int
    """How often an operation was tried at a place in an order."""
    undecided: tuple[Hashable, ...] = ()
    """The keys on which the search was given up."""
    counterexample: Counterexample | None = None

    @property
    def is_linearizable(self) -> bool:
        """Whether the history surely is; an undecided one may be."""
        return self.kind == "linearizable"


def check(history: History | Iterable[Operation], model: Model, *, limit: int = LIMIT) -> Verdict:
    """Say whether a history is linearizable.

    It may take long, and holds Trio up for as long.

    Args:
        history: the operations, in any order.
        model: what they would do one after the other.
        limit: how often an operation is tried on each key before the search is given up.

    Returns:
        The verdict.  The first key that is not linearizable decides it.
    """
    operations = history.operations if isinstance(history, History) else tuple(history)
    by_key: dict[Hashable, list[Operation]] = {}
    for operation in operations:
        by_key.setdefault(model.key(operation.input), []).append(operation)
    sequential = Sequential(model)
    steps = 0
    undecided: list[Hashable] = []
    for key, part in by_key.items():
        budget = Budget(limit)
        search = Search(Part(part, [Start(model.initial())]), sequential, budget)
        in_order = search.run()
        steps += budget.spent
        if in_order is None:
            undecided.append(key)
        elif not in_order:
            found = shrink(key, part, search, limit)
            return Verdict("not linearizable", len(operations), len(by_key), steps, (), found)
    kind: Kind = "undecided" if undecided else "linearizable"
    return Verdict(kind, len(operations), len(by_key), steps, tuple(undecided))
