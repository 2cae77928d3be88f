"""Processes that are given orders: JSON lines on their stdin, and JSON lines back.

Such a process ends when its stdin does, so none outlives whoever has started it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from trioraft._background import background

# -- whoever starts it -----------------------------------------------------------------------------


class Child:
    """A process that takes orders."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._read = b""
        self.is_alive = True

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    async def tell(self, order: Mapping[str, Any]) -> None:
        """Give it an order."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(order).encode() + b"\n")

    async def hear(self) -> dict[str, Any]:
        """The next thing that it says.

        Raises:
            RuntimeError: it has ended.
        """
        assert self._process.stdout is not None
        while b"\n" not in self._read:
            more = await self._process.stdout.receive_some()
            if not more:
                raise RuntimeError(f"a process has failed: {self._process.args!r:.200}")
            self._read += more
        line, self._read = self._read.split(b"\n", 1)
        told: dict[str, Any] = json.loads(line)
        return told

    async def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Give it an order, and hear what comes of it."""
        await self.tell(order)
        return await self.hear()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.is_alive = False
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def child(command: Sequence[str], stderr: int | None = None) -> AsyncGenerator[Child]:
    """Start a process; it is killed at the end of the context if it is still there."""
    async with background() as nursery:
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                check=False,
                deliver_cancel=_kill,
                start_new_session=True,  # Ctrl-C is for whoever has started it
            )
        )
        assert process.stdin is not None
        assert process.stdout is not None
        async with process.stdin, process.stdout:
            yield Child(process)


async def _kill(process: trio.Process) -> None:
    process.kill()
    await trio.lowlevel.checkpoint()


def python(module: str, given: Mapping[str, Any]) -> list[str]:
    """The command that runs a module which takes one JSON object."""
    return [sys.executable, "-m", module, json.dumps(given)]


# -- the process itself ----------------------------------------------------------------------------


async def orders(stdin: trio.abc.ReceiveStream) -> AsyncGenerator[dict[str, Any]]:
    """What this process is told, until nobody is there to tell it anything."""
    rest = b""
    async for chunk in stdin:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)


def own_stdin() -> trio.abc.ReceiveStream:
    """Where this process is told what to do."""
    return trio.lowlevel.FdStream(os.dup(0))


def tell(told: Mapping[str, Any]) -> None:
    """Say something to whoever has started this process."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
