"""In place of the disk's threads: each call is made in the event loop, after a virtual wait."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import trio

T = TypeVar("T")


class SimulatedHop:
    """One thread of a simulated disk: it makes one call after the other."""

    def __init__(self, latency: Callable[[], float] = lambda: 0.0) -> None:
        """Describe a disk.

        Args:
            latency: gives the seconds that a call takes, for each call anew.
        """
        self._latency = latency
        self._free_at = -math.inf
        self._frozen_until = -math.inf
        self._hurries = False
        self._waits: list[trio.CancelScope] = []

    def freeze(self, until: float) -> None:
        """Let no caller learn of the end of its call before this instant of Trio's clock."""
        self._frozen_until = until
        for scope in self._waits:
            scope.deadline = max(scope.deadline, until)

    def hurry(self) -> None:
        """Make all calls at once, those under way too: the process dies, and nothing may wait."""
        self._hurries = True
        for scope in self._waits:
            scope.cancel()

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Make the call when the ones before it are done; never cancelled, as no thread is."""
        self._free_at = max(trio.current_time(), self._free_at) + self._latency()
        done_at = max(self._free_at, self._frozen_until)
        if self._hurries:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return work(*args)
        with trio.CancelScope(deadline=done_at, shield=True) as scope:
            self._waits.append(scope)
            await trio.sleep_forever()
        self._waits.remove(scope)
        return work(*args)

    def post(self, work: Callable[[], None]) -> None:
        """Make the call at once."""
        work()

    def stop(self, seconds: float) -> None:
        """Nothing is left to end."""
