"""A thread of its own for what waits for the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import outcome
import trio

from trioraft._errors import StorageError

T = TypeVar("T")


class Permit:
    """To do something long; whoever asked for it may withdraw it, until the work settles it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_withdrawn = False
        self._is_settled = False

    def check(self) -> None:
        """See that the work is still wanted.

        Raises:
            StorageError: it is not.
        """
        if self._is_withdrawn:
            raise StorageError("this was given up")

    def settle(self) -> None:
        """From here on the work goes to its end.

        Raises:
            StorageError: it has been given up before.
        """
        with self._lock:
            self.check()
            self._is_settled = True

    def withdraw(self) -> bool:
        """Give the work up: does it take note of that?"""
        with self._lock:
            self._is_withdrawn = not self._is_settled
        return self._is_withdrawn


class Hop(Protocol):
    """How work that blocks leaves the event loop, one piece at a time; the simulation has its own.

    Work is done in the order in which it came.
    """

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Call `work(*args)` elsewhere, and return what it returns or raise what it raises.

        Never cancelled: what the disk has begun it ends.
        """
        ...

    async def run_with_permit(self, permit: Permit, work: Callable[..., T], *args: Any) -> T:
        """As `run`, but who is cancelled withdraws the permit, and waits only if it is settled.

        Work that has not begun by then never does.

        Raises:
            StorageError: somebody else has withdrawn the permit.
        """
        ...

    def post(self, work: Callable[[], None]) -> None:
        """Call `work()` elsewhere while nobody waits for it; it must not raise."""
        ...

    def stop(self, seconds: float) -> None:
        """End when all is done that was asked for; block until then, but no longer than this."""
        ...

    async def end(self, seconds: float) -> None:
        """As `stop`, but the event loop goes on meanwhile; never cancelled."""
        ...


class Worker:
    """One thread that takes one piece of work after the other.

    A thread that is always there answers in half the time of one out of a pool.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._token = trio.lowlevel.current_trio_token()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Call `work(*args)` in the thread; see `Hop`."""
        return await self._run(lambda: False, work, *args)

    async def run_with_permit(self, permit: Permit, work: Callable[..., T], *args: Any) -> T:
        """Call `work(*args)` in the thread while it is wanted; see `Hop`."""

        def do() -> T:
            permit.check()
            return work(*args)

        return await self._run(permit.withdraw, do)

    async def _run(self, give_up: Callable[[], bool], work: Callable[..., T], *args: Any) -> T:
        task = trio.lowlevel.current_task()
        is_waiting = True

        def abort(_: object) -> trio.lowlevel.Abort:
            nonlocal is_waiting
            is_waiting = not give_up()
            return trio.lowlevel.Abort.FAILED if is_waiting else trio.lowlevel.Abort.SUCCEEDED

        def wake(result: outcome.Outcome[T]) -> None:
            if is_waiting:
                trio.lowlevel.reschedule(task, result)

        def do() -> None:
            result = outcome.capture(work, *args)
            with suppress(trio.RunFinishedError):  # then nobody is left who would wait
                self._token.run_sync_soon(wake, result)

        self._jobs.put(do)
        result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    def post(self, work: Callable[[], None]) -> None:
        """Call `work()` in the thread some time; see `Hop`."""
        self._jobs.put(work)

    def stop(self, seconds: float) -> None:
        """End the thread; see `Hop`."""
        self._jobs.put(None)
        self._thread.join(seconds)

    async def end(self, seconds: float) -> None:
        """End the thread, while another one waits for that; see `Hop`."""
        closer = Worker(f"{self._name} end")
        await closer.run(self.stop, seconds)
        closer.stop(seconds)

    def _work(self) -> None:
        while (do := self._jobs.get()) is not None:
            do()
