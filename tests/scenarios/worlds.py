"""What the scenarios need beside whole clusters: disks that lose what was not synced, and spies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import trio

from tests.server.worlds import Cluster, Disk
from trioraft import Server
from trioraft._rules.messages import RequestVote, RequestVoteReply
from trioraft._storage.disk import DiskStorage
from trioraft._wire.codec import WireMessage
from trioraft.abc import Batch, Recovered, SnapshotStore
from trioraft.testing import Crash, SimulatedFiles, SimulatedHop
from trioraft.testing._cache import Chance

DIRECTORY = "/data"
SEGMENT_BYTES = 16 << 10
ALL = 1 << 30

Heard = list[tuple[float, str, str, WireMessage]]


# -- disks -----------------------------------------------------------------------------------


class SegmentDisk(Disk):
    """The real segment log over a simulated file system.

    `kept` is what was durable when it was last heard of, so all that looks at a `Disk` can look at
    this one.
    """

    def __init__(self, seed: str = "") -> None:
        super().__init__()
        self.files = SimulatedFiles()
        self._salts = Random(f"salts {seed}")
        self._storage: DiskStorage | None = None

    @property
    def snapshots(self) -> SnapshotStore:
        return super().snapshots if self._storage is None else self._storage.snapshots

    async def open(self) -> Recovered:
        self._storage = storage = DiskStorage(
            DIRECTORY,
            files=self.files,
            hop=lambda name: SimulatedHop(lambda: self.seconds),
            draw_salt=lambda: self._salts.randbytes(8),
            segment_bytes=SEGMENT_BYTES,
        )
        recovered = await storage.open()
        self.kept._state = recovered.state
        self.kept._log.frames = list(await storage.read(1, ALL))
        return recovered

    async def write(self, batch: Batch) -> None:
        assert self._storage is not None
        await self._storage.write(batch)
        self.writes += 1
        if batch.cut is not None:
            del self.kept._log.frames[batch.cut :]
        self.kept._log.frames += batch.entries
        if batch.state is not None:
            self.kept._state = batch.state

    async def read(self, first: int, max_bytes: int) -> Sequence[bytes]:
        assert self._storage is not None
        self.reads += 1
        return await self._storage.read(first, max_bytes)

    async def aclose(self) -> None:
        assert self._storage is not None
        await self._storage.aclose()


class Machines(Cluster):
    """A cluster on segment logs, whose machines may be killed or lose their power."""

    def __init__(self, nursery: trio.Nursery, size: int, **options: Any) -> None:
        super().__init__(nursery, size, **options)
        for name in self.names:
            self.put_disk(name, SegmentDisk(f"{options.get('seed', 0)} {name}"))

    def put_disk(self, name: str, disk: SegmentDisk) -> None:
        disk.seconds = self.disks[name].seconds
        self.disks[name] = disk

    def files(self, name: str) -> SimulatedFiles:
        disk = self.disks[name]
        assert isinstance(disk, SegmentDisk)
        return disk.files

    async def _live(self, server: Server, key: str, *rest: Any) -> None:
        with suppress(Crash):  # the machine is down; the test says what becomes of its disk
            await super()._live(server, key, *rest)

    async def kill(self, *names: str) -> None:
        """End servers as SIGKILL does: whatever is under way ends where it stands."""
        await self._down(names)
        for name in names:
            self.files(name).kill()

    async def lose_power(self, chance: Chance, *names: str) -> None:
        """End servers as a power cut does: of what was not synced, anything may be gone."""
        await self._down(names)
        for name in names:
            self.files(name).crash(chance)

    async def _down(self, names: Iterable[str]) -> None:
        for name in names:
            self.files(name).mend()
            self.files(name).go_down()
        await self.crash(*[name for name in names if name in self._scopes])


@asynccontextmanager
async def some_machines(size: int, **options: Any) -> AsyncGenerator[Machines]:
    """Machines that are yet to be started; at the end everything is checked."""
    async with trio.open_nursery() as nursery:
        machines = Machines(nursery, size, **options)
        yield machines
        machines.check()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def running_machines(size: int, **options: Any) -> AsyncGenerator[Machines]:
    """Machines that have formed a cluster and settled."""
    async with some_machines(size, **options) as machines:
        await machines.formed()
        yield machines


# -- the network -----------------------------------------------------------------------------

Fate = Callable[[str, str, WireMessage], Sequence[float]]
"""What becomes of a message by sender, receiver and content: how late each copy of it comes."""


def befall(cluster: Cluster, fate_of: Fate) -> Heard:
    """Let something befall single messages until the network is healed; their streams live on.

    Returns what is said from now on, arrived or not.
    """
    heard = cluster.overhear()
    told = cluster.network.tap
    assert told is not None
    fates: dict[tuple[str, str], Sequence[float]] = {}

    def tap(source: str, destination: str, data: bytes) -> None:
        told(source, destination, data)
        _, sender, receiver, message = heard[-1]
        fates[source, destination] = fate_of(sender, receiver, message)

    cluster.network.tap = tap
    for source in cluster.addresses.values():
        for destination in cluster.addresses.values():
            link = source, destination
            cluster.network.disorder(*link, lambda link=link: fates[link])
    return heard


def lose(cluster: Cluster, is_lost: Callable[[str, str, WireMessage], bool]) -> Heard:
    """Lose single messages by what they say; as `befall`."""
    return befall(
        cluster, lambda sender, receiver, m: () if is_lost(sender, receiver, m) else (0.0,)
    )


def said_by(heard: Heard, name: str, *kinds: type[Any]) -> list[Any]:
    """What one server said, of these kinds."""
    return [message for _, sender, _, message in heard if sender == name and type(message) in kinds]


def votes_in(heard: Heard) -> dict[tuple[str, int], set[str]]:
    """Whom each server gave its vote in each term, as far as it was said."""
    votes: dict[tuple[str, int], set[str]] = defaultdict(set)
    for _, sender, receiver, message in heard:
        if isinstance(message, RequestVoteReply) and message.vote_granted:
            votes[sender, message.term].add(receiver)
        elif isinstance(message, RequestVote):
            votes[sender, message.term].add(sender)
    return votes


def nobody_voted_twice(heard: Heard) -> None:
    for (voter, term), candidates in votes_in(heard).items():
        assert len(candidates) == 1, f"{voter} voted in term {term} for {candidates}"
