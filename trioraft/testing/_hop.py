"""In place of the disk's threads: each call is made in the event loop, after a virtual wait."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from trioraft._storage.worker import Permit
from trioraft.testing._alarm import Alarm
from trioraft.testing._runs import time_reader

T = TypeVar("T")


class SimulatedHop:
    """One thread of a simulated disk: it makes one call after the other."""

    def __init__(self, latency: Callable[[], float] = lambda: 0.0) -> None:
        """Describe a disk.

        Args:
            latency: gives the seconds that a call takes, for each call anew.
        """
        self._latency = latency
        self._time = time_reader()
        self._free_at = -math.inf
        self._frozen_until = -math.inf
        self._waits: dict[Alarm, float] = {}

    def freeze(self, until: float) -> None:
        """Let no caller learn of the end of its call before this instant of Trio's clock."""
        self._frozen_until = until
        for alarm, done_at in self._waits.items():
            alarm.move(max(done_at, until))

    def hurry(self) -> None:
        """Make the calls under way at once: the process dies, and nothing may wait for it."""
        self._frozen_until = self._free_at = -math.inf
        self._latency = lambda: 0.0
        for alarm in self._waits:
            alarm.move(-math.inf)

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Make the call when the ones before it are done; never cancelled, as no thread is."""
        await self._wait(shielded=True)
        return work(*args)

    async def run_with_permit(self, permit: Permit, work: Callable[..., T], *args: Any) -> T:
        """Make the call as a whole when the ones before it are done, unless that is cancelled."""
        try:
            await self._wait(shielded=False)
        except trio.Cancelled:
            permit.withdraw()
            raise
        permit.check()
        return work(*args)

    async def _wait(self, *, shielded: bool) -> None:
        done_at = max(self._time(), self._free_at) + self._latency()
        self._free_at = done_at
        alarm = Alarm()
        self._waits[alarm] = done_at
        try:
            await alarm.wait(max(done_at, self._frozen_until), shielded=shielded)
        finally:
            del self._waits[alarm]

    def post(self, work: Callable[[], None]) -> None:
        """Make the call at once."""
        work()

    def stop(self, seconds: float) -> None:
        """Nothing is left to end."""

    async def end(self, seconds: float) -> None:
        """Nothing is left to end."""
