"""A result that one task waits for."""

from __future__ import annotations

from typing import Generic, TypeVar, cast

import trio

T = TypeVar("T")


class Promise(Generic[T]):
    """Kept or broken once, waited for by at most one task; who keeps it never waits."""

    __slots__ = ("_error", "_is_over", "_task", "_value")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._is_over = False
        self._value: T | None = None
        self._error: BaseException | None = None

    def keep(self, value: T) -> None:
        """Hand over the result; wakes whoever waits for it."""
        self._value = value
        self._end()

    def fail(self, error: BaseException) -> None:
        """Let whoever waits for the result raise this instead."""
        self._error = error
        self._end()

    def _end(self) -> None:
        self._is_over = True
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def result(self) -> T:
        """Wait for the result.  Cancelling ends the waiting, and nothing else."""
        if not self._is_over:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)
        if self._error is not None:
            # Not kept here: its traceback holds this very frame.
            error, self._error = self._error, None
            raise error
        return cast("T", self._value)

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
