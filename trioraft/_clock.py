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

    def until(self, instant: float) -> trio.CancelScope:
        """A scope that is cancelled at this instant."""
        return trio.CancelScope(deadline=instant)

    def move(self, scope: trio.CancelScope, instant: float) -> None:
        """Let a scope that `until` gave end at another instant."""
        scope.deadline = instant

    def timer(self, bell: Bell) -> Timer:
        """What rings a bell at an instant of this clock."""
        return Timer(self, bell)

    async def sleep_until(self, instant: float) -> None:
        """Return at this instant, or at once if it is over; always a checkpoint."""
        timer = self.timer(Bell())
        timer.move(instant)
        await timer.wait()

    def slept(self) -> float:
        """Seconds that this machine has been suspended, in which `now` stood still."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()

    def utc(self) -> float:
        """Seconds since 1970; read once in a cluster's life, to give its own time a start."""
        return time.time()


class Bell:
    """Wakes the one task that waits for it; rung while nobody waits, it is heard later, once."""

    def __init__(self) -> None:
        self._rung = False
        self._task: trio.lowlevel.Task | None = None

    @property
    def is_listened_for(self) -> bool:
        """Whether a task waits, and has not been woken."""
        return self._task is not None

    def ring(self) -> None:
        """Let the waiting task, or the next to wait, go on."""
        self._rung = True
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Return once the bell has been rung since the last return; always a checkpoint.

        Raises:
            BusyResourceError: another task waits.
        """
        if self._task is not None:
            raise trio.BusyResourceError("another task waits for this bell")
        if self._rung:
            await trio.lowlevel.checkpoint()
        while not self._rung:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        self._rung = False

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Timer:
    """Rings a bell at an instant that may be moved meanwhile; heard by who waits here only."""

    def __init__(self, clock: Clock, bell: Bell) -> None:
        self._clock = clock
        self._bell = bell
        self._scope: trio.CancelScope | None = None
        self.instant = math.inf

    def move(self, instant: float) -> None:
        """Ring at this instant instead."""
        self.instant = instant
        if self._scope is not None:
            self._clock.move(self._scope, instant)

    async def wait(self) -> None:
        """Return once the bell was rung or the instant is over; always a checkpoint."""
        with self._clock.until(self.instant) as self._scope:
            await self._bell.wait()
        self._scope = None


class Deadline:
    """An instant that is waited for and may be moved meanwhile, to either side."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer = clock.timer(Bell())

    @property
    def instant(self) -> float:
        """What is waited for."""
        return self._timer.instant

    def move(self, instant: float) -> None:
        """Wait for this instant instead."""
        self._timer.move(instant)

    async def passed(self) -> None:
        """Return once the instant is over and was not moved; one task waits at a time."""
        while True:
            await self._timer.wait()
            for _ in range(_GRACE_PASSES):
                await trio.lowlevel.checkpoint()
            if self._clock.now() >= self.instant:
                return
