"""What a history is checked against: a machine that does one thing after the other."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Protocol

from trioraft._commands import Applied, Vocabulary, name_of
from trioraft.abc import StateMachine
from trioraft.testing._operations import Raised, plain
from trioraft.testing._states import bring_back, state_of

_DIFFERS: Final = (MemoryError, RecursionError, OSError)
"""What stops a server, and is no result."""
_NOWHERE: Final = Applied(0, 0, 0.0)
_REMEMBERED: Final = 100_000


class Model(Protocol):
    """What the operations would do one after the other.

    A model may also have a method `is_read`, which takes an input and says whether it surely
    changes nothing in any state.  Histories with much in flight on one key are checked faster so.
    """

    def initial(self) -> Hashable:
        """The state at the beginning."""
        ...

    def apply(self, state: Any, given: Any, /) -> tuple[Hashable, Any]:
        """The state behind an operation, and what the operation returns; changes nothing."""
        ...

    def key(self, given: Any, /) -> Hashable:
        """Which part of the state an operation touches.

        Operations with different keys never touch the same part: they are checked apart.
        """
        ...


class MachineModel:
    """The model that a state machine makes when it runs alone.

    A state is what `save` gives, so machines that save equal states alike are checked the fastest.
    `Applied` says 0 for index, term and time, every time: what follows from these can't be checked.
    """

    def __init__(
        self,
        machine_class: Callable[[], StateMachine],
        key: Callable[[Any], Hashable] | None = None,
    ) -> None:
        """Make a model of a machine.

        Args:
            machine_class: makes the machine as it is before its first command.
            key: which part of the state a command or query touches; without it all touch one.
        """
        machine = machine_class()
        self.commands: Sequence[type[Any]] = machine.commands
        """What the inputs of a history may be."""
        self._new = machine_class
        self._key = key
        self._initial = state_of(machine)
        self._vocabulary = Vocabulary(self.commands)
        self._changes = frozenset(self._vocabulary.commands)

    def initial(self) -> bytes:
        """The state of a machine before its first command."""
        return self._initial

    def key(self, given: Any) -> Hashable:
        """Which part of the state a command or query touches."""
        return None if self._key is None else self._key(given)

    def is_read(self, given: Any) -> bool:
        """Whether it is a query."""
        return name_of(given) not in self._changes

    def apply(self, state: bytes, given: Any) -> tuple[bytes, Any]:
        """Give a command or query to a machine that is in this state.

        Raises:
            CommandRejected: the machine does not know it.
        """
        is_command = name_of(given) in self._changes
        if not is_command:
            self._vocabulary.check_query(given)
        machine = self._new()
        if state != self._initial:
            bring_back(machine, state)
        try:
            output = given.apply(machine, _NOWHERE) if is_command else given.answer(machine)
        except _DIFFERS:
            raise
        except Exception as error:  # noqa: BLE001  a result like any other
            output = Raised.of(error)
        return (state_of(machine) if is_command else state), plain(output)


class Sequential:
    """A model with a memory, and outputs in plain form."""

    def __init__(self, model: Model) -> None:
        self.is_read: Callable[[Any], bool] = getattr(model, "is_read", _nobody_knows)
        self._model = model
        self._known: dict[tuple[Hashable, int], tuple[Any, Hashable, Any]] = {}

    def apply(self, state: Hashable, given: Any) -> tuple[Hashable, Any]:
        """What the model says."""
        # Inputs go by identity: they may be unhashable, or equal and yet do different things.  The
        # memory holds them, so none of them can leave its identity to another one.
        known = self._known.get((state, id(given)))
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            after, output = self._model.apply(state, given)
            known = self._known[state, id(given)] = (given, after, plain(output))
        return known[1], known[2]


def _nobody_knows(_: Any) -> bool:
    return False
