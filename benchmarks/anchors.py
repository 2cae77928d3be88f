"""Other systems to compare with, each of which is skipped where it is not installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio
from attrs import frozen

from trioraft._bench.cluster import Cluster, Load, cluster, free_ports, running
from trioraft._bench.figures import Point
from trioraft._bench.speaking import Child, child

HERE: Final = Path(__file__).parent
DEBIAN: Final = "/usr/share/gocode"
"""Where Debian's packages put the sources of Go libraries."""
NAMES: Final = ("n1", "n2", "n3")


class Missing(Exception):
    """A system is not installed here."""


Start = Callable[[Path], AbstractAsyncContextManager[Cluster]]


@frozen
class System:
    """Something that can be measured."""

    name: str
    start: Start
    """Starts three servers with their data in a directory."""


def trioraft() -> System:
    """What is measured here."""
    return System("trioraft", lambda directory: cluster(directory, 3))


# -- systems whose servers take the same orders ----------------------------------------------------


class Embedded(Cluster):
    """The load is in the leader's own process, and so are those who wait for another leader."""

    stderr = subprocess.DEVNULL

    async def failover(self) -> float:
        """Kill the leader; seconds until one of the others has done a command."""
        leader = await self.leader()
        others = [server for name, server in self.servers.items() if name != leader]
        for server in others:
            await server.tell({"order": "wait"})
        began = time.perf_counter()
        self.servers[leader].signal(signal.SIGKILL)
        async with trio.open_nursery() as nursery:
            for server in others:
                nursery.start_soon(_first, server, nursery.cancel_scope)
        return time.perf_counter() - began


async def _first(server: Child, scope: trio.CancelScope) -> None:
    await server.hear()
    scope.cancel()


def _embedded(name: str, program: list[str], **config: Any) -> System:
    @asynccontextmanager
    async def start(directory: Path) -> AsyncGenerator[Cluster]:
        ports = zip(NAMES, free_ports(3), strict=True)
        addresses = {member: f"127.0.0.1:{port}" for member, port in ports}

        def command(member: str) -> list[str]:
            given = {"name": member, "directory": str(directory / member), "cluster": addresses}
            return [*program, json.dumps({**given, "config": config})]

        async with running(Embedded, command, addresses) as started:
            yield started

    return System(name, start)


def hraft(cache: Path) -> System:
    """hashicorp/raft with raft-boltdb.

    Raises:
        Missing: it can't be built here.
    """
    return _embedded("hashicorp", [str(_build("hraft", cache))])


def pysyncobj(python: str, *, batch: bool = True) -> System:
    """PySyncObj with a journal.

    Raises:
        Missing: this Python does not have it.
    """
    asked = [python, "-c", "import pysyncobj"]
    if subprocess.run(asked, check=False, capture_output=True).returncode:
        raise Missing(f"{python} has no pysyncobj (pip install pysyncobj, or --pysyncobj PYTHON)")
    name = "pysyncobj" if batch else "pysyncobj at once"
    return _embedded(name, [python, str(HERE / "pysyncobj_node.py")], appendEntriesUseBatch=batch)


def _build(program: str, cache: Path) -> Path:
    if shutil.which("go") is None:
        raise Missing("there is no Go compiler (golang-go)")
    cache.mkdir(parents=True, exist_ok=True)
    made = cache / program
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": DEBIAN}
    command = ["go", "build", "-o", str(made), "."]
    built = subprocess.run(
        command,
        cwd=HERE / "go" / program,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if built.returncode:
        why = built.stderr.strip().splitlines()
        raise Missing(f"{program} can't be built: {why[0] if why else 'go says nothing'}")
    return made


# -- etcd ------------------------------------------------------------------------------------------


class Etcd(Cluster):
    """Three servers of etcd; the load is a Go client's, all of it to the leader."""

    stderr = subprocess.DEVNULL
    program: Path
    clients: dict[str, str]
    """Where the servers listen for clients."""

    async def start(self, name: str) -> None:
        """Start a server; comes back at once."""
        server = child(self._command(name), self.stderr)
        self.servers[name] = await self._stack.enter_async_context(server)

    async def _leader(self) -> tuple[str, int]:
        while True:
            for name, server in self.servers.items():
                told = await self._status(name) if server.is_alive else None
                if told and told.get("leader") == told["header"]["member_id"]:
                    return name, int(told["raftTerm"])
            await trio.sleep(0.05)

    async def _status(self, name: str) -> dict[str, Any] | None:
        def ask() -> dict[str, Any] | None:
            url = f"{self.clients[name]}/v3/maintenance/status"
            try:
                with urllib.request.urlopen(url, data=b"{}", timeout=1) as answer:
                    told: dict[str, Any] = json.load(answer)
                    return told
            except OSError:
                return None

        return await trio.to_thread.run_sync(ask)

    @asynccontextmanager
    async def _callers(self, what: str, leader: str, **given: Any) -> AsyncGenerator[Child]:
        others = [name for name in self.servers if name != leader]
        asked = others if what == "failover" else [leader]
        where = {"what": what, "endpoints": [self.clients[n].split("//")[1] for n in asked]}
        # More than one connection is what etcd does best with, once there is more to do.
        least = 1 if given.get("in_flight", 1) < 64 else 4
        given["clients"] = max(given.get("clients", 1), least)
        command = [str(self.program), json.dumps({**where, **given})]
        async with child(command, self.stderr) as callers:
            yield callers

    async def failover(self) -> float:
        """Kill the leader; seconds until another one has done a command of a client."""
        leader = await self.leader()
        async with self._callers("failover", leader, value=128) as callers:
            await callers.hear()
            began = time.perf_counter()
            self.servers[leader].signal(signal.SIGKILL)
            await callers.tell({"order": "go"})
            await callers.hear()
            return time.perf_counter() - began


def etcd(cache: Path) -> System:
    """etcd, as Debian has it.

    Raises:
        Missing: it is not there, or the load for it can't be built.
    """
    if shutil.which("etcd") is None:
        raise Missing("there is no etcd (etcd-server)")
    program = _build("etcdload", cache)

    @asynccontextmanager
    async def start(directory: Path) -> AsyncGenerator[Cluster]:
        ports = free_ports(6)
        peers = {n: f"http://127.0.0.1:{p}" for n, p in zip(NAMES, ports[:3], strict=True)}
        clients = {n: f"http://127.0.0.1:{p}" for n, p in zip(NAMES, ports[3:], strict=True)}
        members = ",".join(f"{name}={address}" for name, address in peers.items())

        def command(name: str) -> list[str]:
            options = {
                "name": name,
                "data-dir": str(directory / name),
                "listen-peer-urls": peers[name],
                "initial-advertise-peer-urls": peers[name],
                "listen-client-urls": clients[name],
                "advertise-client-urls": clients[name],
                "initial-cluster": members,
                "logger": "zap",
                "log-level": "error",
                "log-outputs": str(directory / f"{name}.log"),
            }
            return ["etcd", *(f"--{option}={value}" for option, value in options.items())]

        async with AsyncExitStack() as stack:
            started = Etcd(stack, command, peers)
            started.program, started.clients = program, clients
            for name in NAMES:
                await started.start(name)
            await started.leader()
            yield started

    return System("etcd", start)


async def measured(system: System, scratch: Path, load: Load) -> Point:
    """Start a system anew, measure one load, and end it."""
    directory = scratch / system.name.replace(" ", "-")
    directory.mkdir(parents=True)
    try:
        async with system.start(directory) as servers:
            await trio.sleep(0.5)
            return await servers.measure(load)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def failed_over(system: System, scratch: Path) -> float:
    """Start a system anew, and kill its leader."""
    directory = scratch / system.name.replace(" ", "-")
    directory.mkdir(parents=True)
    try:
        async with system.start(directory) as servers:
            await trio.sleep(1.5)
            return await servers.failover()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def installed(cache: Path, python: str = sys.executable) -> tuple[dict[str, System], list[str]]:
    """All that can be measured here, by name, and why others can't."""
    found, missing = {"trioraft": trioraft()}, []
    makers: list[Callable[[], System]] = [
        lambda: etcd(cache),
        lambda: hraft(cache),
        lambda: pysyncobj(python),
        lambda: pysyncobj(python, batch=False),
    ]
    for make in makers:
        try:
            system = make()
        except Missing as error:
            missing.append(str(error))
        else:
            found[system.name] = system
    return found, list(dict.fromkeys(missing))
