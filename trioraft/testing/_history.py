"""Records what many clients ask at once, and what they get."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import trio
from attrs import frozen

from trioraft.testing._history_file import read, write
from trioraft.testing._operations import Operation as Operation
from trioraft.testing._operations import Raised as Raised


@frozen(eq=False)
class Begun:
    """An operation that is under way."""

    client: str
    called: float
    input: Any


class History:
    """Records operations as they are called and return, those of many clients at once.

    Two events at one instant are told apart by the order in which they are recorded here: the
    later one gets the next number that a float can hold.  Virtual time stands still while much
    happens, and a checker that took all of it for simultaneous would find less.
    """

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        """Begin a history.

        Args:
            clock: what time it is.
        """
        self._clock = clock
        self._latest = -math.inf
        self._operations: dict[Begun, Operation | None] = {}

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations as they were begun; of those under way the outcome is unknown so far."""
        return tuple(
            Operation(begun.client, begun.called, math.inf, begun.input) if ended is None else ended
            for begun, ended in self._operations.items()
        )

    def begin(self, client: str, given: Any) -> Begun:
        """A client calls now; hand what this returns to the method that says how it ended."""
        begun = Begun(client, self._now(), given)
        self._operations[begun] = None
        return begun

    def done(self, begun: Begun, output: Any) -> None:
        """It returned now."""
        self._end(begun, self._now(), output)

    def failed(self, begun: Begun, error: Exception) -> None:
        """It was done now, and its `apply` raised: a result like any other."""
        self._end(begun, self._now(), Raised.of(error))

    def unknown(self, begun: Begun) -> None:
        """Nobody knows what became of it: it may take effect now, later, or never."""
        self._end(begun, math.inf, None)

    def not_done(self, begun: Begun) -> None:
        """It surely did not take effect and never will: it is forgotten."""
        self._check_open(begun)
        del self._operations[begun]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the history to a file.

        Raises:
            TypeError: an input or output has no form in the file.
            OSError: the file can't be written.
        """
        write(path, self.operations)

    @classmethod
    def load(cls, path: str | os.PathLike[str], commands: Sequence[type[Any]] = ()) -> History:
        """Read a history from a file.

        Args:
            path: the file.
            commands: a machine's commands and queries.  Every input must be one of them; without
                any, inputs are plain values.

        Raises:
            HistoryUnreadable: a line is no operation.
            OSError: the file can't be read.
        """
        history = cls()
        for operation in read(path, commands):
            begun = Begun(operation.client, operation.called, operation.input)
            history._operations[begun] = operation
        return history

    def _now(self) -> float:
        self._latest = max(self._clock(), math.nextafter(self._latest, math.inf))
        return self._latest

    def _end(self, begun: Begun, returned: float, output: Any) -> None:
        self._check_open(begun)
        ended = Operation(begun.client, begun.called, returned, begun.input, output)
        self._operations[begun] = ended

    def _check_open(self, begun: Begun) -> None:
        if self._operations.get(begun, begun) is not None:
            raise ValueError("the operation has ended before, or is of another history")
