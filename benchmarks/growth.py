"""How figures move with what grows: `python -m benchmarks.growth`.

Commits a second and their latencies against the size of the values, the number of servers, of
client connections, and of entries before them; and with one server of three stopped, or dead.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from trioraft._bench.cluster import Cluster, Load, cluster
from trioraft._bench.figures import Point, as_json, heading, row

VALUES: Final = (0, 128, 1024, 4096, 16384, 65536)
SERVERS: Final = (3, 4, 5, 6, 7)
CLIENTS: Final = (1, 8, 64, 256, 1000)
LENGTHS: Final = (0, 50_000, 100_000, 200_000, 500_000)
PARTS: Final = ("value", "servers", "clients", "length", "fault")
_HEALING: Final = 3.0
"""Seconds in which a server that was stopped catches up."""


class Growth:
    """Measures, and prints as it goes."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given

    async def run(self, parts: Sequence[str]) -> None:
        """Measure all parts."""
        if not self._given.json:
            print(heading(), end="")
        for part in parts:
            await getattr(self, part)()

    async def value(self) -> None:
        """Larger values."""
        async with self._cluster() as servers:
            for value in VALUES:
                await self._tell(f"{value} bytes", servers, self._load(value=value))

    async def servers(self) -> None:
        """More servers."""
        for count in SERVERS:
            async with self._cluster(count) as servers:
                await self._tell(f"{count} servers", servers, self._load())

    async def clients(self) -> None:
        """More connections, at least one caller for each."""
        async with self._cluster() as servers:
            for clients in CLIENTS:
                in_flight = max(clients, self._given.in_flight)
                load = self._load(clients=clients, in_flight=in_flight)
                await self._tell(f"{clients} clients", servers, load)

    async def length(self) -> None:
        """A longer log, of which no snapshot is taken."""
        async with self._cluster(snapshot_entries=None, snapshot_bytes=None) as servers:
            for length in LENGTHS:
                while await servers.length() < length:
                    await servers.measure(Load("put", 1024, 1.0))
                await self._tell(f"from {await servers.length()}", servers, self._load())

    async def fault(self) -> None:
        """A follower that is stopped, and one that is dead."""
        async with self._cluster() as servers:
            await self._tell("all three", servers, self._load())
            leader = await servers.leader()
            follower = next(name for name in servers.servers if name != leader)
            servers.servers[follower].signal(signal.SIGSTOP)
            servers.servers[follower].is_alive = False
            await self._tell("one stopped", servers, self._load())
            servers.servers[follower].signal(signal.SIGCONT)
            servers.servers[follower].is_alive = True
            await trio.sleep(_HEALING)
            await self._tell("it goes on", servers, self._load())
            await servers.servers[follower].kill()
            await self._tell("one dead", servers, self._load())

    @asynccontextmanager
    async def _cluster(self, count: int = 3, **config: Any) -> AsyncGenerator[Cluster]:
        with tempfile.TemporaryDirectory(dir=self._given.dir) as directory:
            async with cluster(Path(directory), count, **config) as servers:
                yield servers

    def _load(self, **more: Any) -> Load:
        load = Load("put", self._given.in_flight, self._given.seconds)
        return attrs.evolve(load, **more)

    async def _tell(self, title: str, servers: Cluster, load: Load) -> None:
        points = [await servers.measure(load) for _ in range(self._given.rounds)]
        for point in points:
            named: Point = attrs.evolve(point, what=title)
            fields = as_json(attrs.asdict(named))
            print(json.dumps(fields) if self._given.json else row(named).rstrip(), flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    option = parser.add_argument
    option("--only", default=",".join(PARTS), metavar="PART,...", help="(%(default)s)")
    option("--in-flight", type=int, default=256, help="(%(default)s)")
    option("--seconds", type=float, default=3.0, help="of each load (%(default)s)")
    option("--rounds", type=int, default=1, help="of each load (%(default)s)")
    option("--dir", help="on the disk to measure")
    option("--json", action="store_true")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {unknown.pop()!r}")
    trio.run(Growth(given).run, parts)


if __name__ == "__main__":
    main()
