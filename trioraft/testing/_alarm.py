"""A wait until an instant that may be moved meanwhile."""

from __future__ import annotations

import math
from functools import partial

import trio

from trioraft.testing._runs import virtual_clock


class Alarm:
    """Wakes the one task that waits for it.

    In a seeded run the clock itself does, at a fraction of a cancel scope's cost; elsewhere a
    cancel scope does.
    """

    def __init__(self) -> None:
        self._clock = virtual_clock()
        self._task: trio.lowlevel.Task | None = None
        self._instant = math.inf
        self._scope: trio.CancelScope | None = None

    def move(self, instant: float) -> None:
        """Wake at this instant instead; nothing happens while nobody waits."""
        if self._scope is not None:
            self._scope.deadline = instant
        elif self._task is not None and instant != self._instant:
            self._set(instant)

    async def wait(self, instant: float, *, shielded: bool = False) -> None:
        """Wait until that instant, or the one that it is moved to; always a checkpoint.

        If it is shielded, no cancellation ends it.
        """
        if self._clock is None:
            with trio.CancelScope(deadline=instant, shield=shielded) as self._scope:
                await trio.sleep_forever()
            self._scope = None
            return
        self._task = trio.lowlevel.current_task()
        self._set(instant)
        await trio.lowlevel.wait_task_rescheduled(_go_on if shielded else self._give_up)

    def _set(self, instant: float) -> None:
        self._instant = instant
        if self._clock is not None and instant < math.inf:
            self._clock.call_at(instant, partial(self._ring, instant))

    def _ring(self, instant: float) -> None:
        if self._task is not None and instant == self._instant:  # else it was moved meanwhile
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


async def sleep(seconds: float) -> None:
    """As `trio.sleep`, and cheaper in a seeded run."""
    await Alarm().wait(trio.current_time() + seconds)


def _go_on(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
