"""The time of one server, and deadlines that others may move.

Every instant in this library is read from the server's own `Clock`, so that a simulation can give
each server a clock of its own rate and offset.
"""

from __future__ import annotations

import math
import time

import trio

_GRACE_PASSES = 3
"""Passes of the loop between an expired deadline and belief in it: what had arrived by then gets
through the websocket's and the link's tasks first, and may move the deadline.  A fixed number, so
that no load can put a time-out off for ever."""


class Clock:
    """Trio's clock: monotonic seconds, from no particular instant."""

    def now(self) -> float:
        """The present instant."""
        return trio.current_time()

    def deadline(self, instant: float) -> float:
        """The same instant by Trio's clock, for a cancel scope."""
        return instant

    def utc(self) -> float:
        """Seconds since 1970; read once in a cluster's life, to give its own time a start."""
        return time.time()


class Deadline:
    """An instant that is waited for and may be moved meanwhile, to either side."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._scope: trio.CancelScope | None = None
        self.instant = math.inf

    def move(self, instant: float) -> None:
        """Wait for this instant instead."""
        self.instant = instant
        if self._scope is not None:
            self._scope.deadline = self._clock.deadline(instant)

    async def passed(self) -> None:
        """Return once the instant is over and was not moved; one task waits at a time."""
        while True:
            with trio.CancelScope(deadline=self._clock.deadline(self.instant)) as self._scope:
                await trio.sleep_forever()
            self._scope = None
            for _ in range(_GRACE_PASSES):
                await trio.lowlevel.checkpoint()
            if self._clock.now() >= self.instant:
                return


class Bell:
    """Wakes the one task that waits for it; rung while nobody waits, it is heard later, once."""

    def __init__(self) -> None:
        self._rung = False
        self._lot = trio.lowlevel.ParkingLot()

    def ring(self) -> None:
        """Let the waiting task, or the next to wait, go on."""
        self._rung = True
        self._lot.unpark_all()

    async def wait(self) -> None:
        """Return once the bell has been rung since the last return; always a checkpoint."""
        if self._rung:
            await trio.lowlevel.checkpoint()
        while not self._rung:
            await self._lot.park()
        self._rung = False
