"""A thread of its own for what waits for the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar, cast

import trio
from attrs import define

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


@define
class _Job:
    """One call, and what became of it."""

    work: Callable[[], Any]
    result: Any = None
    error: BaseException | None = None

    def do(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the work was asked for
            self.error = error


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
        job = _Job(lambda: work(*args))

        def do() -> None:
            job.do()
            with suppress(trio.RunFinishedError):  # then nobody is left who would wait
                self._token.run_sync_soon(trio.lowlevel.reschedule, task)

        self._jobs.put(do)
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        if job.error is not None:
            try:
                raise job.error
            finally:
                del job  # no cycle of job, error and frame
        return cast(T, job.result)

    def post(self, work: Callable[[], None]) -> None:
        """Call `work()` in the thread some time; see `Hop`."""
        self._jobs.put(work)

    def stop(self, seconds: float) -> None:
        """End the thread; see `Hop`."""
        self._jobs.put(None)
        self._thread.join(seconds)

    def _work(self) -> None:
        while (do := self._jobs.get()) is not None:
            do()
