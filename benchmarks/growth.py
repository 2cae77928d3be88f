"""How figures move with what grows: `python -m benchmarks.growth --plot growth.svg`.

Commits a second, their latencies and the leader's memory against the commands in a message, the
size of the values, the number of servers, of client connections, and of entries in the log; and
with one server of three stopped, or dead.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from benchmarks import plot
from benchmarks.results import Results, read
from trioraft._bench.cluster import Cluster, Load, cluster
from trioraft._bench.figures import as_json, heading, row

BATCHES: Final = (1, 4, 16, 64, 256, 1024)
VALUES: Final = (0, 128, 1024, 4096, 16384, 65536)
SERVERS: Final = (3, 4, 5, 6, 7)
CLIENTS: Final = (1, 8, 64, 256, 1000)
LENGTHS: Final = (10_000, 100_000, 1_000_000, 3_000_000, 10_000_000)
AXES: Final = {
    "batch": "commands in a message",
    "value": "bytes of a value",
    "servers": "servers",
    "clients": "client connections",
    "length": "entries in the log",
    "fault": "",
}
"""What grows, in each part."""

_HEALING: Final = 3.0
"""Seconds in which a server that was stopped catches up."""


class Growth:
    """Measures, and prints as it goes."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._part = ""
        self.results = Results(given.out)

    async def run(self, parts: Sequence[str]) -> None:
        """Measure all parts."""
        print(heading(), end="")
        for self._part in parts:
            await getattr(self, self._part)()

    async def batch(self) -> None:
        """More commands in each message of a client, as many in flight as ever."""
        async with self._cluster() as servers:
            for batch in BATCHES:
                load = self._load(what="single", in_flight=max(BATCHES), batch=batch)
                await self._tell(batch, servers, load)

    async def value(self) -> None:
        """Larger values."""
        async with self._cluster() as servers:
            for value in VALUES:
                await self._tell(value, servers, self._load(value=value))

    async def servers(self) -> None:
        """More servers."""
        for count in SERVERS:
            async with self._cluster(count) as servers:
                await self._tell(count, servers, self._load())

    async def clients(self) -> None:
        """More connections, at least one caller for each."""
        async with self._cluster() as servers:
            for clients in CLIENTS:
                in_flight = max(clients, self._given.in_flight)
                await self._tell(clients, servers, self._load(clients=clients, in_flight=in_flight))

    async def length(self) -> None:
        """A longer log, of which no snapshot is taken."""
        async with self._cluster(snapshot_entries=None, snapshot_bytes=None) as servers:
            for length in (each for each in LENGTHS if each <= self._given.longest):
                while await servers.length() < length:
                    await servers.measure(Load("inside", 1024, 5.0, value=16))
                await self._tell(length, servers, self._load())

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

    async def _tell(self, at: int | str, servers: Cluster, load: Load) -> None:
        """Measure at one place of the part's axis."""
        title = f"{at} {AXES[self._part]}".rstrip()
        for _ in range(self._given.rounds):
            point = attrs.evolve(await servers.measure(load), what=title)
            print(row(point), end="", flush=True)
            self.results.add(part=self._part, at=at, **as_json(attrs.asdict(point)))


def main() -> None:
    """Measure, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    option = parser.add_argument
    option("--only", default=",".join(AXES), metavar="PART,...", help="(%(default)s)")
    option("--in-flight", type=int, default=256, help="(%(default)s)")
    option("--seconds", type=float, default=3.0, help="of each load (%(default)s)")
    option("--rounds", type=int, default=1, help="of each load (%(default)s)")
    option("--longest", type=int, default=LENGTHS[-1], help="log, in entries (%(default)s)")
    option("--dir", help="on the disk to measure")
    option("--out", type=Path, metavar="FILE", help="append what is measured, as JSON lines")
    option("--read", type=Path, nargs="+", metavar="FILE", help="measure nothing, draw these")
    option("--plot", type=Path, metavar="FILE.svg", help="a picture, if matplotlib is there")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - set(AXES):
        parser.error(f"there is no part {unknown.pop()!r}")
    growth = Growth(given)
    if given.read:
        growth.results.lines += read(given.read)
    else:
        trio.run(growth.run, parts)
    if given.plot is not None and plot.is_possible():
        plot.growth(growth.results.lines, AXES, given.plot)


if __name__ == "__main__":
    main()
