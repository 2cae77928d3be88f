"""Runs in virtual time that come out the same every time."""

from __future__ import annotations

import gc
import heapq
import math
from collections.abc import Awaitable, Callable, MutableSequence
from random import Random
from typing import Any, Final, TypeVar

import trio
from trio._core import _run as _scheduler

T = TypeVar("T")

_PASSES: Final = 1000
"""Of Trio's loop, between two looks at what the system has for it."""


class VirtualClock(trio.abc.Clock):
    """Stands still while anything can run, and jumps when nothing can.

    Trio's `MockClock(autojump_threshold=0)` does the same, in two passes of the loop where this one
    takes one; most of what a simulation costs is passes of the loop.
    """

    def __init__(self) -> None:
        self._runner: _scheduler.Runner
        self._now = 0.0
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def start_clock(self) -> None:
        """See `trio.abc.Clock`."""
        _CLOCK.set(self)
        self._runner = runner = _scheduler.GLOBAL_RUN_CONTEXT.runner
        runner.io_manager = _Aloof(runner.io_manager)  # type: ignore[assignment]

    def current_time(self) -> float:
        """See `trio.abc.Clock`."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """See `trio.abc.Clock`: Trio asks when nothing can run, so this is the moment to jump."""
        runner, calls = self._runner, self._calls
        if runner.waiting_for_idle:
            return math.inf  # `wait_all_tasks_blocked` comes first
        while True:
            instant = calls[0][0] if calls and calls[0][0] < deadline else deadline
            if instant == math.inf:
                return math.inf
            now = self._now = max(self._now, instant)
            while calls and calls[0][0] <= now:
                heapq.heappop(calls)[2]()
            if runner.runq or deadline <= now:  # else the calls were about nothing
                return 0

    def call_at(self, instant: float, call: Callable[[], None]) -> None:
        """Call back when that instant comes, before any task runs."""
        self._count += 1
        heapq.heappush(self._calls, (instant, self._count, call))


class _Aloof:
    """Stands before Trio's I/O manager, and asks the system only now and then.

    In a seeded run nothing comes from outside but an interrupt from the keyboard, and to ask at
    each pass of the loop is a good part of what a pass costs.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._passes = 0

    def get_events(self, timeout: float) -> Any:
        self._passes += 1
        if timeout or self._passes % _PASSES == 0:
            return self._manager.get_events(timeout)
        return ()

    def process_events(self, events: Any) -> None:
        if events:
            self._manager.process_events(events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


class _Shuffler(Random):
    """Loses no time over the most frequent batch of all: a single task."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        if len(x) > 1:
            super().shuffle(x)


_CLOCK: Final[trio.lowlevel.RunVar[VirtualClock | None]] = trio.lowlevel.RunVar("clock", None)


def virtual_clock() -> VirtualClock | None:
    """The clock of this run, if there is one and it is seeded."""
    return _CLOCK.get() if trio.lowlevel.in_trio_run() else None


def time_reader() -> Callable[[], float]:
    """What tells the time of this run: in a seeded one its clock itself, else Trio's."""
    clock = virtual_clock()
    return trio.current_time if clock is None else clock.current_time


def seeded_run(seed: int, main: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run an async function in virtual time, the same way each time that the seed is the same.

    Time stands still while anything can run and jumps when nothing can, so hours pass in seconds.
    The order in which tasks run is shuffled by the seed alone: not by addresses, hashes or what
    the process did before.  What `main` draws must come from a `Random` of its own; threads,
    sockets and files have no place in it.

    Args:
        seed: any number; another one is another order of events.
        main: the async function.
        args: what it is given.

    Returns:
        What `main` returns.

    Raises:
        RuntimeError: Trio runs already in this thread.
        Exception: what `main` raises.
    """
    # With this switch Trio sorts each batch of tasks by age and shuffles it with this generator.
    # Both are private, as is the runner that the clock looks into; tests see that they still work.
    before = _scheduler._ALLOW_DETERMINISTIC_SCHEDULING, _scheduler._r
    _scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _scheduler._r = _Shuffler(seed)
    collects = gc.isenabled()
    # An async generator that the collector finds is closed by a task, at whatever moment that is.
    gc.collect()
    gc.disable()
    try:
        return trio.run(main, *args, clock=VirtualClock())
    finally:
        _scheduler._ALLOW_DETERMINISTIC_SCHEDULING, _scheduler._r = before  # type: ignore[misc]
        if collects:
            gc.enable()
