"""All servers of the room, in this process or in one each; any of them can be killed and started.

A server is one task here.  In one process the task runs the server itself; with processes it
minds a child, and to cancel it is to kill that child with SIGKILL: servers must bear that, so
there is no gentler way out, not even when the room is closed.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

import trioraft

from . import web
from .node import HOST, Node, Order, Plan

Run = Callable[[str, Plan, Order, Callable[[], None]], Awaitable[None]]
"""Run the server of that name until cancelled; call the last argument once it is up."""


class CannotOpenError(Exception):
    """The room can't be opened; says why."""


class Cluster:
    def __init__(self, plan: Plan, run: Run, nursery: trio.Nursery) -> None:
        self._plan = plan
        self._run = run
        self._nursery = nursery
        self._lives: dict[str, trio.CancelScope] = {}
        self._turns = {name: trio.Lock() for name in plan.pages}

    async def open(self) -> list[str]:
        """Start all servers; on return those that are named have their pages up."""
        settled = [self._start(name) for name in self._plan.pages]
        for event in settled:
            await event.wait()
        if not self._lives:
            raise CannotOpenError("no server came up")
        return [name for name in self._plan.pages if name in self._lives]

    def order(self, verb: str, name: str) -> None:
        """Kill or start a server; nothing if that is how it is.

        The last one is not killed: nobody would be left to ask for a start.
        """
        if verb == "kill" and name in self._lives and len(self._lives) > 1:
            self._lives.pop(name).cancel()
        if verb == "start" and name not in self._lives:
            self._start(name)

    def _start(self, name: str) -> trio.Event:
        settled = trio.Event()
        self._lives[name] = trio.CancelScope()
        self._nursery.start_soon(self._live, name, self._lives[name], settled)
        return settled

    async def _live(self, name: str, scope: trio.CancelScope, settled: trio.Event) -> None:
        """One life of a server, after the one before.  How it ends must not end the others."""
        async with self._turns[name]:
            with scope:
                try:
                    await self._run(name, self._plan, self.order, settled.set)
                except* (trioraft.TrioraftError, OSError, CannotOpenError) as errors:
                    print(f"{name}: {reason(errors)}", file=sys.stderr)
            if self._lives.get(name) is scope:
                del self._lives[name]
            settled.set()


async def in_this_process(name: str, plan: Plan, order: Order, up: Callable[[], None]) -> None:
    node = Node(name, plan, order)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.server.serve)
        await nursery.start(
            partial(trio.serve_tcp, partial(web.welcome, node), plan.pages[name], host=HOST)
        )
        nursery.start_soon(node.watch)
        up()


async def in_a_child(name: str, plan: Plan, order: Order, up: Callable[[], None]) -> None:
    """Start a child and carry out what its pages order; it says so on its standard output."""
    command = [sys.executable, "-m", "examples.chat", "--child", name, "--data", plan.directory]
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                check=False,
                deliver_cancel=_kill,
                start_new_session=True,  # Ctrl-C is for this process alone
            )
        )
        assert process.stdout is not None
        rest = b""
        async for data in process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                match line.decode().split():
                    case ["up"]:
                        up()
                    case [verb, other]:
                        order(verb, other)
    raise CannotOpenError(f"its process ended with status {process.returncode}")


async def _kill(process: trio.Process) -> None:
    process.kill()
    await process.wait()


async def be_a_child(name: str, directory: Path) -> None:
    """Run one server until standard input ends, as it does when the parent is gone."""

    def order(verb: str, other: str) -> None:
        print(verb, other, flush=True)

    up = partial(print, "up", flush=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_this_process, name, load(directory), order, up)
        async with trio.lowlevel.FdStream(os.dup(0)) as parent:
            async for _ in parent:
                pass
        nursery.cancel_scope.cancel()


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold the directory, so that nobody else opens the same room."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotOpenError(f"the room in {directory} is open already") from None
        yield


def draw(directory: Path, nodes: int | None, port: int) -> Plan:
    """Choose all ports and write them down; a room that is opened again keeps its peers' ports."""
    try:
        known = load(directory).peers
    except FileNotFoundError:
        known = {f"n{number}": 0 for number in range(1, (nodes or 3) + 1)}
    if nodes not in (None, len(known)):
        raise CannotOpenError(f"the room in {directory} has {len(known)} servers, not {nodes}")
    peers: dict[str, int] = {}
    pages: dict[str, int] = {}
    for name, old in known.items():
        # Below the ports that the kernel gives to those who dial: one of those, dialling a server
        # that is down, may get the very port that the server needs to come up again.
        peers[name] = old if _is_free(old) else _next_free(random.randrange(10_000, 30_000), peers)
        pages[name] = _next_free(max(pages.values(), default=port - 1) + 1, peers)
    new = directory / "room.json.new"
    new.write_text(json.dumps({"peers": peers, "pages": pages}))
    new.replace(directory / "room.json")
    return load(directory)


def load(directory: Path) -> Plan:
    return Plan(directory, **json.loads((directory / "room.json").read_text()))


def _next_free(port: int, taken: dict[str, int]) -> int:
    while port in taken.values() or not _is_free(port):
        port += 1
        if port > 65_535:
            raise CannotOpenError("no free port")
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return port != 0


def reason(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(reason(each) for each in error.exceptions)
    return str(error) or type(error).__name__
