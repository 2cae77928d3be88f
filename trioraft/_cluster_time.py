"""The time that entries carry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from trioraft._clock import Clock

_LOOK: Final = 60.0
"""Seconds between two looks at what is due, at most."""


class ClusterTime:
    """UTC seconds of the first leader's start, advanced by the leaders' monotonic clocks.

    It never falls, follows no jump of a wall clock, and stands still without a leader.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._newest = 0.0
        self._led_from = 0.0
        self._led_since = 0.0

    def saw(self, time: float) -> None:
        """An entry carries this time."""
        self._newest = max(self._newest, time)

    def lead(self) -> None:
        """This server begins to give entries their time."""
        self._led_from = self._newest or self._clock.utc()
        self._led_since = self._clock.now()

    def stamp(self) -> float:
        """The time for the leader's next entry."""
        self.saw(self._led_from + self._clock.now() - self._led_since)
        return self._newest

    async def tick(self, due: Callable[[], float | None], append: Callable[[], None]) -> NoReturn:
        """Let an idle log tell the time when something is due by it.

        Args:
            due: the time after which something happens; None: nothing does, or others lead.
            append: appends an entry without a command.
        """
        while True:
            pause, instant = _LOOK, due()
            if instant is not None:
                pause = min(max(instant - self.stamp(), 1.0), _LOOK)
                if self._newest > instant:
                    append()
            await self._clock.sleep_until(self._clock.now() + pause)
