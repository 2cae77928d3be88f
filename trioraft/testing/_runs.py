"""Runs in virtual time that come out the same every time."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from trio._core import _run as _scheduler
from trio.testing import MockClock

T = TypeVar("T")


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
    # Trio sorts each batch of tasks by age and shuffles it with this very generator.  The switch
    # is private; a test of this project sees that it still works.
    _scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _scheduler._r.seed(seed)
    collects = gc.isenabled()
    # An async generator that the collector finds is closed by a task, at whatever moment that is.
    gc.collect()
    gc.disable()
    try:
        return trio.run(main, *args, clock=MockClock(autojump_threshold=0))
    finally:
        if collects:
            gc.enable()
