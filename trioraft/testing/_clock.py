"""A server's own idea of time: it may run fast or slow, jump, and stand still for a while."""

from __future__ import annotations

import math
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary

import trio

from trioraft._clock import Bell, Clock, Timer
from trioraft.testing._runs import VirtualClock, time_reader, virtual_clock

WORLD_BEGAN: Final = 1_700_000_000.0
"""UTC seconds at virtual time 0, by a clock that nobody has set wrong."""


class SimulatedClock(Clock):
    """Reads Trio's clock through faults; whatever waits for an instant follows the faults.

    A process that is stopped (`freeze`) does not notice when its time-outs pass: they all do so
    when it goes on.
    """

    def __init__(self, *, offset: float = 0.0, rate: float = 1.0, utc: float = WORLD_BEGAN) -> None:
        """Describe a clock.

        Args:
            offset: what it says at virtual time 0, in seconds.
            rate: its seconds per true second.
            utc: what its wall clock says at virtual time 0.
        """
        self._time = time_reader()
        self._rate = rate
        self._since = 0.0
        self._then = offset
        self._utc = utc
        self._frozen_until = -math.inf
        self._scopes: WeakKeyDictionary[trio.CancelScope, float] = WeakKeyDictionary()
        self._timers: WeakKeyDictionary[VirtualTimer, None] = WeakKeyDictionary()

    # What befalls it

    def set_rate(self, rate: float) -> None:
        """Run at another speed from now on: `rate` seconds per true second."""
        self._then, self._since = self.now(), self._time()
        self._rate = rate
        self._move_all()

    def jump(self, seconds: float) -> None:
        """Be so much later at once, as after a sleep that the clock counts; it never goes back."""
        self._then += seconds
        self._move_all()

    def set_wall(self, seconds: float) -> None:
        """Put the wall clock forward, or back if it is negative; the other time is untouched."""
        self._utc += seconds

    def freeze(self, until: float) -> None:
        """Let no time-out pass before the true instant `until`; the clock itself goes on."""
        self._frozen_until = until
        self._move_all()

    # What the server asks

    def now(self) -> float:
        """See `Clock`."""
        return self._then + (self._time() - self._since) * self._rate

    def slept(self) -> float:
        """See `Clock`: a simulated machine is never suspended."""
        return 0.0

    def utc(self) -> float:
        """See `Clock`."""
        return self._utc + self._time()

    def until(self, instant: float) -> trio.CancelScope:
        """See `Clock`."""
        scope = trio.CancelScope(deadline=self.true(instant))
        self._scopes[scope] = instant
        return scope

    def move(self, scope: trio.CancelScope, instant: float) -> None:
        """See `Clock`."""
        self._scopes[scope] = instant
        scope.deadline = self.true(instant)

    def timer(self, bell: Bell) -> Timer:
        """See `Clock`."""
        virtual = virtual_clock()
        if virtual is None:
            return Timer(self, bell)
        timer = VirtualTimer(self, bell, virtual)
        self._timers[timer] = None
        return timer

    def true(self, instant: float) -> float:
        """Trio's time of an instant of this clock."""
        if instant == math.inf:
            return instant
        true = self._since + (instant - self._then) / self._rate
        step = 1e-12  # rounded down, the instant would not be over yet, and time stands still
        while self._then + (true - self._since) * self._rate < instant:
            true, step = true + step, 2 * step
        return max(true, self._frozen_until)

    def _move_all(self) -> None:
        for scope, instant in list(self._scopes.items()):
            scope.deadline = self.true(instant)
        for timer in list(self._timers):
            timer.move(timer.instant)


class VirtualTimer(Timer):
    """A timer of a seeded run: the run's clock rings, at a fraction of a cancel scope's cost."""

    _clock: SimulatedClock

    def __init__(self, clock: SimulatedClock, bell: Bell, virtual: VirtualClock) -> None:
        super().__init__(clock, bell)
        self._virtual = virtual
        self._true = self._called_at = math.inf

    def move(self, instant: float) -> None:
        """See `Timer`."""
        self.instant = instant
        self._true = self._clock.true(instant)
        if self._bell.is_listened_for:
            self._set()

    async def wait(self) -> None:
        """See `Timer`."""
        self._set()
        await self._bell.wait()

    def _set(self) -> None:
        if self._true < self._called_at:  # else the call that is to come is early enough
            self._called_at = self._true
            self._virtual.call_at(self._true, partial(self._call, self._true))

    def _call(self, instant: float) -> None:
        if instant != self._called_at:
            return  # an earlier call has taken the place of this one
        self._called_at = math.inf
        if not self._bell.is_listened_for:
            return
        if self._true <= instant:
            self._bell.ring()
        else:
            self._set()
