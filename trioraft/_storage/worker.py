"""A thread of its own for what waits for the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import outcome
import trio

T = TypeVar("T")


class Hop(Protocol):
    """How work that blocks leaves the event loop, one piece at a time; the simulation has its own.

    Work is done in the order in which it came.
    """

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Call `work(*args)` elsewhere, and return what it returns or raise what it raises.

        Never cancelled: what the disk has begun it ends.
        """
        ...

    def post(self, work: Callable[[], None]) -> None:
        """Call `work()` elsewhere while nobody waits for it; it must not raise."""
        ...

    def stop(self, seconds: float) -> None:
        """End when all is done that was asked for; block until then, but no longer than this."""
        ...


class Worker:
    """One thread that takes one piece of work after the other.

    A thread that is always there answers in half the time of one out of a pool.
    """

    def __init__(self, name: str) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Call `work(*args)` in the thread; see `Hop`."""
        task = trio.lowlevel.current_task()
        self._jobs.put(lambda: self._wake(task, outcome.capture(work, *args)))
        result: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return result

    def post(self, work: Callable[[], None]) -> None:
        """Call `work()` in the thread some time; see `Hop`."""
        self._jobs.put(work)

    def stop(self, seconds: float) -> None:
        """End the thread; see `Hop`."""
        self._jobs.put(None)
        self._thread.join(seconds)

    def _wake(self, task: trio.lowlevel.Task, result: outcome.Outcome[Any]) -> None:
        with suppress(trio.RunFinishedError):  # then nobody is left who would wait
            self._token.run_sync_soon(trio.lowlevel.reschedule, task, result)

    def _work(self) -> None:
        while (do := self._jobs.get()) is not None:
            do()
