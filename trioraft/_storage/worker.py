"""A thread of its own for what waits for the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import outcome
import trio

T = TypeVar("T")


class Hop(Protocol):
    """How blocking work leaves the event loop; the simulation replaces it."""

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Call `work(*args)` elsewhere, one call at a time, and return what it returns.

        Not cancelled while it is under way: what the disk has begun it ends.
        """
        ...

    def begin(self, work: Callable[[], None]) -> None:
        """Have `work`, which raises nothing, done some time; nobody waits for it."""
        ...

    def stop(self) -> None:
        """End, once everything begun is done."""
        ...


class Worker:
    """One thread that takes one piece of work after the other.

    A thread that is always there answers in half the time of one out of a pool.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Call `work(*args)` in the thread; see `Hop`."""
        task = trio.lowlevel.current_task()
        token = trio.lowlevel.current_trio_token()

        def job() -> None:
            result = outcome.capture(work, *args)
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)

        self._jobs.put(job)
        result: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return result

    def begin(self, work: Callable[[], None]) -> None:
        """Have `work` done some time; see `Hop`."""
        self._jobs.put(work)

    def stop(self) -> None:
        """End the thread, once everything begun is done."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
