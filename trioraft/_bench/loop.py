"""A closed loop: so many callers, each of which asks again as soon as it has its answer."""

from __future__ import annotations

import time
from array import array
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

import trio

from trioraft._bench.figures import percentile
from trioraft._bench.speaking import tell
from trioraft._errors import TrioraftError

WARM_UP: Final = 0.5
"""Seconds under load before anything counts, at most; no more than those that count."""

KEYS: Final = tuple(f"key-{number:012d}" for number in range(10_000))
"""What is read and written: always the same, so that the map stays as large as it is."""

AFTER_AN_ERROR: Final = 0.01
"""Seconds that a caller waits when it was refused."""

Operation = Callable[[int], Awaitable[object]]
"""Asks for one thing, on behalf of the caller with this number."""


class Tally:
    """What came of a loop, from when it was warm until its end."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._latencies = array("d")
        self._counts = False
        self._began = self._lasted = self._cpu = 0.0
        self.errors = 0

    async def run(self, *tasks: Callable[[], Awaitable[None]]) -> dict[str, Any]:
        """Let the tasks go on until the time is over; says so when they are warm."""
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for task in tasks:
                    nursery.start_soon(task)
                await trio.sleep(min(WARM_UP, self.seconds))
                self._begin()
                with trio.move_on_after(self.seconds):
                    await trio.sleep_forever()
                self._end()
                scope.cancel()
        return self._told()

    def took(self, began: float) -> None:
        """An operation that began then has its answer."""
        if self._counts:
            self._latencies.append(time.perf_counter() - began)

    def _begin(self) -> None:
        self._cpu, self._began = time.process_time(), time.perf_counter()
        self._counts, self.errors = True, 0
        tell({"started": True})

    def _end(self) -> None:
        self._counts = False
        self._lasted = time.perf_counter() - self._began
        self._cpu = time.process_time() - self._cpu

    def _told(self) -> dict[str, Any]:
        ordered = sorted(self._latencies)
        return {
            "count": len(ordered),
            "seconds": self._lasted,
            "p50": 1000 * percentile(ordered, 50),
            "p99": 1000 * percentile(ordered, 99),
            "longest": 1000 * percentile(ordered, 100),
            "cpu": self._cpu,
            "errors": self.errors,
        }


async def closed_loop(operation: Operation, in_flight: int, seconds: float) -> dict[str, Any]:
    """Keep so many operations under way for so long."""
    tally = Tally(seconds)
    now, took = time.perf_counter, tally.took

    def caller(number: int) -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            while True:
                began = now()
                try:
                    await operation(number)
                except TrioraftError:
                    tally.errors += 1
                    await trio.sleep(AFTER_AN_ERROR)
                else:
                    took(began)

        return call

    return await tally.run(*map(caller, range(in_flight)))


def keys(seed: int = 0) -> Callable[[], str]:
    """Draws one of the keys each time."""
    draw, count = Random(seed).random, len(KEYS)
    return lambda: KEYS[int(draw() * count)]
