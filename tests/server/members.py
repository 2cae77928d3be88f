"""Servers that come and go: what the tests of it share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

from tests.server.puppets import state_on
from tests.server.worlds import Cluster, Disk, Say
from trioraft import Config, Server
from trioraft._rules.membership import Configuration

COMPACTING = Config(snapshot_entries=None, snapshot_bytes=None, trailing_entries=0)
"""A snapshot is taken when somebody asks for it, and leaves nothing of the log behind it."""


def address(cluster: Cluster, name: str) -> str:
    """Where a server listens that is no member yet."""
    return cluster.addresses.setdefault(name, f"mem://{name}")


async def newcomer(cluster: Cluster, name: str, **changes: Any) -> str:
    """Start a server that waits to be taken in; returns where it listens."""
    at = address(cluster, name)
    await cluster.start(name, **{"initial_cluster": None} | changes)
    return at


def configuration(server: Server) -> Configuration:
    return server._core.node.configuration


def voters(server: Server) -> list[str]:
    """By name; no change is under way."""
    assert not configuration(server).outgoing
    return [member.id.name for member in configuration(server).voters]


def learners(server: Server) -> list[str]:
    return [member.id.name for member in configuration(server).learners]


def addresses(server: Server) -> dict[str, str]:
    return {member.id.name: member.address for member in configuration(server).members}


def incarnation(disk: Disk) -> str:
    return state_on(disk).incarnation


def copied(disk: Disk) -> Disk:
    """What somebody has made of a disk: a backup, or the start of a double life."""
    copy = Disk()
    copy.seconds = disk.seconds
    copy.kept._state = disk.kept._state
    copy.kept._base = disk.kept._base
    copy.kept._log.before = disk.kept._log.before
    copy.kept._log.frames = [*disk.frames]
    copy.kept._snapshots._whole = dict(disk.kept._snapshots._whole)
    return copy


def wipe(cluster: Cluster, name: str) -> None:
    """An empty disk under an old name."""
    seconds = cluster.disks.pop(name).seconds
    cluster.disks[name] = Disk()
    cluster.disks[name].seconds = seconds


async def talk(cluster: Cluster, count: int, text: str = "said") -> None:
    """Have so many commands done, by whoever leads."""
    leader = await cluster.leader()
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(leader.do, Say(f"{text} {number}"))


async def stays(cluster: Cluster, leader: Server, seconds: float) -> None:
    """Nothing unsettles this leader: no other one, no other term."""
    term, until = leader.term, trio.current_time() + seconds
    while trio.current_time() < until:
        await trio.sleep(0.01)
        assert (leader.state, leader.term) == ("leader", term), cluster.describe()


def told(cluster: Cluster, name: str, *kinds: type[Any]) -> Sequence[Any]:
    """The events of these kinds that a server told, oldest first."""
    return [event for who, event in cluster.events if who == name and isinstance(event, kinds)]
