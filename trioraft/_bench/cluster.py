"""Servers as processes on this machine, and what is measured of them."""

from __future__ import annotations

import math
import signal
import socket
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

import trio
from attrs import frozen

from trioraft._bench.figures import Point, cpu_seconds, memory_mib
from trioraft._bench.speaking import Child, child, python

_PORTS: Final = range(10_000, 30_000)
"""Below those that a system gives to whoever connects: nobody else takes one meanwhile."""

_LOOK: Final = 0.02
"""Seconds between two looks at who leads."""

_SETTLING: Final = 1.0
"""Seconds that a server has between its start and the next death of a leader."""

Command = Callable[[str], list[str]]
"""How the server with this name is started."""

CALLERS: Final = "trioraft._bench.callers"
INSIDE: Final = "inside"


@frozen
class Load:
    """What is asked of a cluster for a while."""

    what: str
    """`put`, `linearizable`, `lease`, `single` or `inside`."""
    in_flight: int
    seconds: float
    value: int = 128
    """Bytes."""
    clients: int = 1
    """Connections."""
    batch: int = 1
    """Commands in a message of `single`, at most as many as are in flight."""


class Cluster:
    """Servers under measurement; each is a process that takes orders."""

    stderr: int | None = None
    """Where what they complain of goes; None: to this process's."""

    def __init__(
        self, stack: AsyncExitStack, command: Command, addresses: Mapping[str, str]
    ) -> None:
        """Begin; the processes end with the stack."""
        self.addresses = dict(addresses)
        self.servers: dict[str, Child] = {}
        self._command = command
        self._stack = stack
        self._is_filled = False

    async def start(self, name: str) -> None:
        """Start a server; comes back once it listens."""
        server = await self._stack.enter_async_context(child(self._command(name), self.stderr))
        await server.hear()
        self.servers[name] = server

    async def leader(self) -> str:
        """The name of the server that leads; waits for one that all others know."""
        return (await self._leader())[0]

    async def length(self) -> int:
        """How many entries the leader has applied."""
        status = await self.servers[await self.leader()].ask({"order": "status"})
        applied: int = status["applied"]
        return applied

    async def _leader(self) -> tuple[str, int]:
        """Who leads, and in which term."""
        while True:
            told = {
                name: await server.ask({"order": "status"})
                for name, server in self.servers.items()
                if server.is_alive
            }
            leading = [name for name, status in told.items() if status["leads"]]
            if len(leading) == 1 and all(s["leader"] == leading[0] for s in told.values()):
                return leading[0], told[leading[0]]["term"]
            await trio.sleep(_LOOK)

    async def measure(self, load: Load) -> Point:
        """Keep a load up for a while.

        Raises:
            RuntimeError: a process failed; what it said is on stderr.
        """
        leader, term = await self._leader()
        if load.what == INSIDE:
            server = self.servers[leader]
            order = {"order": "load", "in_flight": load.in_flight}
            await server.tell({**order, "seconds": load.seconds, "value": load.value})
            return await self._watched(load, server, leader, term)
        if load.what in ("linearizable", "lease") and not self._is_filled:
            async with self._callers("fill", leader, value=load.value) as callers:
                await callers.hear()
            self._is_filled = True
        given = {"in_flight": load.in_flight, "seconds": load.seconds, "value": load.value}
        given |= {"clients": load.clients, "batch": load.batch}
        async with self._callers(load.what, leader, **given) as callers:
            return await self._watched(load, callers, leader, term)

    async def _watched(self, load: Load, callers: Child, leader: str, term: int) -> Point:
        """What comes of a load that has begun, and what it costs the servers."""
        pids = {name: server.pid for name, server in self.servers.items() if server.is_alive}
        await callers.hear()
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        told = await callers.hear()
        used = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
        memory = memory_mib(pids[leader])
        each = 1e6 / told["count"] if told["count"] else math.nan
        return Point(
            what=load.what,
            in_flight=load.in_flight,
            rate=told["count"] / told["seconds"],
            p50=told["p50"],
            p99=told["p99"],
            longest=told["longest"],
            nodes=sum(used.values()) * each,
            leader=used[leader] * each,
            client=math.nan if load.what == INSIDE else told["cpu"] * each,
            memory=memory,
            errors=told["errors"],
            elections=(await self._leader())[1] - term,
        )

    @asynccontextmanager
    async def _callers(self, what: str, leader: str, **given: Any) -> AsyncGenerator[Child]:
        where = {"addresses": list(self.addresses.values()), "leader": self.addresses[leader]}
        async with child(
            python(CALLERS, {"what": what, "clients": 1, "batch": 1, **where, **given})
        ) as callers:
            yield callers

    async def failover(self) -> float:
        """Kill the leader; seconds until a command is done that a client asks for at that moment.

        The server that was killed is started again, so this can be done again.
        """
        leader = await self.leader()
        async with self._callers("failover", leader) as callers:
            await callers.hear()
            began = time.perf_counter()
            self.servers[leader].signal(signal.SIGKILL)
            await callers.tell({"order": "go"})
            await callers.hear()
            seconds = time.perf_counter() - began
        await self.servers[leader].kill()
        await self.start(leader)
        await self.leader()
        await trio.sleep(_SETTLING)
        return seconds


@asynccontextmanager
async def cluster(directory: Path, size: int, **config: Any) -> AsyncGenerator[Cluster]:
    """A cluster with its data in this directory; its processes end with the context."""
    names = [f"n{number}" for number in range(1, size + 1)]
    ports = free_ports(size)
    members = {name: f"ws://127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}

    def command(name: str) -> list[str]:
        given = {"name": name, "directory": str(directory / name), "cluster": members}
        return python("trioraft._bench.node", {**given, "config": config})

    async with running(Cluster, command, members) as started:
        yield started


@asynccontextmanager
async def running(
    kind: type[Cluster], command: Command, addresses: Mapping[str, str]
) -> AsyncGenerator[Cluster]:
    """Servers that are started so, and have a leader; their processes end with the context."""
    async with AsyncExitStack() as stack:
        started = kind(stack, command, addresses)
        for name in addresses:
            await started.start(name)
        await started.leader()
        yield started


def free_ports(count: int) -> list[int]:
    """So many ports on which nobody listens."""
    found: list[int] = []
    while len(found) < count:
        port = SystemRandom().choice(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found
