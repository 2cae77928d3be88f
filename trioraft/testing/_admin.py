"""Somebody who lets servers come and go in a simulated cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Final

import trio

from trioraft._errors import (
    MembershipError,
    NotLeaderError,
    OutcomeUnknown,
    ServerStopped,
    TransferFailed,
)
from trioraft._rules.membership import Configuration
from trioraft._server import Server
from trioraft.testing._alarm import sleep
from trioraft.testing._disks import broken
from trioraft.testing._host import SimulatedHost
from trioraft.testing._judge import holds

if TYPE_CHECKING:
    from trioraft.testing._cluster import SimulatedCluster

_UNCHANGED: Final = (
    MembershipError,
    NotLeaderError,
    OutcomeUnknown,
    ServerStopped,
    TransferFailed,
)
"""Why a change that was asked for may not come about."""

_FEW: Final = 3
"""Members of whom one may be removed for no reason."""

_PAUSE: Final = 0.01
"""Virtual seconds before it is asked for again."""

_PATIENCE: Final = 5.0
"""Virtual seconds that taking one server in may take, once nothing goes wrong any more."""


class Administrator:
    """Asks whoever leads, and takes no for an answer."""

    def __init__(self, cluster: SimulatedCluster, nursery: trio.Nursery) -> None:
        self._cluster = cluster
        self._nursery = nursery
        self._asking = 0

    def ask(self, seconds: float, verb: Callable[[Server], Awaitable[object]]) -> None:
        """Ask for a change, and give it so long; wait for nothing."""
        leader = self._cluster.leader
        if leader is not None:
            self._nursery.start_soon(self._ask, leader, seconds, verb)

    async def _ask(
        self, leader: Server, seconds: float, verb: Callable[[Server], Awaitable[object]]
    ) -> None:
        self._asking += 1
        try:
            with suppress(*_UNCHANGED), trio.move_on_after(seconds):
                await verb(leader)
        finally:
            self._asking -= 1
            self._find_again()

    @property
    def is_idle(self) -> bool:
        """Whether all servers are voters for good, and nobody is about to change that."""
        judge = self._cluster.judge
        settled = judge.members.settled
        if self._asking or settled is None or settled.outgoing or self._outside(settled):
            return False
        in_logs = [
            index
            for (index, term) in judge.configurations
            if index > settled.index
            and any(disk.log.term_at(index) == term for disk in judge.disks.values())
        ]
        newest = [server._core.node.configuration.index for server in self._cluster.servers]
        return not in_logs and max(newest, default=0) <= settled.index

    @property
    def has_lost_no_disk(self) -> bool:
        """Whether every server still has what it has said."""
        return not any(host.lost for host in self._cluster.hosts.values())

    def can_do_without(self, name: str) -> bool:
        """Whether a disk may be destroyed: all that is committed has a majority without it."""
        hosts, judge = self._cluster.hosts, self._cluster.judge
        settled, end = judge.members.settled, len(judge.committed)
        if settled is None or not end or not self.is_idle:
            return False
        holders = [
            member.id
            for member in settled.voters
            if member.id.name != name
            and not hosts[member.id.name].lost
            and (disk := judge.disks.get(member.id)) is not None
            and holds(disk.log, end, judge.committed[end - 1])
        ]
        return settled.is_quorum(holders)

    @property
    def strangers(self) -> list[str]:
        """Who is no voter by the leader's word, among those of whom something is expected."""
        leader = self._cluster.leader
        return [] if leader is None else self._outside(leader._core.node.configuration)

    def _outside(self, configuration: Configuration) -> list[str]:
        return [
            host.name
            for host in self._cluster.hosts.values()
            if not host.is_given_up and (host.is_wiped or not is_voter(host, configuration))
        ]

    def take_in(self, name: str) -> None:
        """Ask for a server to be a voter; wait for nothing."""
        address = self._cluster.hosts[name].address
        self.ask(_PATIENCE, lambda leader: leader.add_peer(name, address))

    async def take_one_in(self) -> bool:
        """Have one more server be a voter where it is, if there is one that is none, or elsewhere.

        Says whether there was.
        """
        leader, strangers = self._cluster.leader, self.strangers
        if leader is None:
            return True
        moved = self._moved(leader._core.node.configuration)
        if moved is not None:
            await self._ask(
                leader, _PATIENCE, lambda leader: leader.change_address(moved.name, moved.address)
            )
        elif strangers:
            name = strangers[0]
            address = self._cluster.hosts[name].address
            await self._ask(leader, _PATIENCE, lambda leader: leader.add_peer(name, address))
        return moved is not None or bool(strangers)

    def _moved(self, configuration: Configuration) -> SimulatedHost | None:
        """A member that is not where the leader takes it to be: the leader may never hear of that
        from a server that was away when the members changed, and does not know who leads."""
        for host in self._cluster.hosts.values():
            member = configuration.named(host.name)
            is_elsewhere = member is not None and member.address != host.address
            if is_elsewhere and host.runs and not host.lost and is_voter(host, configuration):
                return host
        return None

    async def remove_one(self, chance: Random, within: float) -> None:
        """Have a member removed, now that nothing goes wrong, unless a disk is lost.

        Raises:
            PropertyBroken: it can't be done within so many virtual seconds.
        """
        members, end = self._cluster.judge.members, trio.current_time() + within
        if members.settled is None or len(members.settled.voters) < _FEW:
            return
        name = chance.choice([member.id.name for member in members.settled.voters])
        while self.has_lost_no_disk and name in members.settled.names:
            if trio.current_time() > end:
                broken(f"{name} can't be removed\n{self._cluster.describe()}")
            leader = self._cluster.leader
            if leader is not None:
                await self._ask(leader, _PATIENCE, lambda leader: leader.remove_peer(name))
            await sleep(_PAUSE)

    def _find_again(self) -> None:
        """Whoever was wiped, and is a voter now, counts again."""
        settled = self._cluster.judge.members.settled
        for host in self._cluster.hosts.values():
            if host.is_wiped and host.up and settled is not None and is_voter(host, settled):
                host.lost, host.is_wiped = None, False


def is_voter(host: SimulatedHost, configuration: Configuration) -> bool:
    """Whether the server on this machine has a vote, in its present incarnation."""
    server = host.server
    return server is not None and any(
        member.id == server._core.state.id for member in configuration.voters
    )
