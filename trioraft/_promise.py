"""A result that one task waits for."""

from __future__ import annotations

from typing import Generic, TypeVar, cast

import outcome
import trio

T = TypeVar("T")


class Promise(Generic[T]):
    """Given once, waited for by at most one task; the giver never waits."""

    __slots__ = ("_result", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._result: outcome.Outcome[T] | None = None

    def give(self, result: outcome.Outcome[T]) -> None:
        """Hand over the result; wakes whoever waits for it."""
        self._result = result
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def result(self) -> T:
        """Wait for the result.  Cancelling ends the waiting, and nothing else."""

        def stop_waiting(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        if self._result is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(stop_waiting)
        return cast("outcome.Outcome[T]", self._result).unwrap()
