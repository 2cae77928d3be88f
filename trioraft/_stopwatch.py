"""How long the user's own code holds up the event loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from trioraft._clock import Clock
from trioraft._events import SlowMachine

_LOG: Final = logging.getLogger("trioraft.server")

_TURN: Final = 0.01
"""Seconds of calls in a row after which others have their turn."""


class Stopwatch:
    """Measures the calls into a machine: while one runs, no heartbeat leaves or is answered."""

    def __init__(self, clock: Clock, enough: float, emit: Callable[[SlowMachine], None]) -> None:
        """Begin.

        Args:
            clock: whose time counts.
            enough: seconds from which on a call is worth a warning.
            emit: tells of such calls.
        """
        self._clock = clock
        self._emit = emit
        self._warned: dict[str, float] = {}
        self._enough = enough
        self._began = 0.0
        self.seconds = 0.0
        """How long the last body took."""

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Measure what the body calls; warn if it took long, once for each doubling."""
        self._began = self._clock.now()
        try:
            yield
        finally:
            self.seconds = seconds = self._clock.now() - self._began
            if seconds >= self._enough:
                self._emit(SlowMachine(seconds))
            if seconds >= self._warned.get(what, self._enough):
                self._warned[what] = 2 * seconds
                _LOG.warning(
                    "the machine's %s() took %.3g s: nothing else could happen here meanwhile, "
                    "and from the election time-out on that costs a leader its place",
                    what,
                    seconds,
                )

    @property
    def turn_is_over(self) -> bool:
        """Whether the body has run for so long that others should have their turn."""
        return self._clock.now() >= self._began + _TURN
