"""Somebody who lets servers come and go in a simulated cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from trioraft._errors import (
    MembershipError,
    NotLeaderError,
    OutcomeUnknown,
    ServerStopped,
    TransferFailed,
)
from trioraft._server import Server

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

    @property
    def is_idle(self) -> bool:
        """Whether all servers are voters, and nobody is about to change that."""
        leader = self._cluster.leader
        if self._asking or leader is None or self.strangers:
            return False
        return not leader._core.node.configuration.outgoing

    @property
    def has_lost_no_disk(self) -> bool:
        """Whether every server still has what it has said."""
        return not any(host.lost for host in self._cluster.hosts.values())

    @property
    def strangers(self) -> list[str]:
        """Who is no voter by the leader's word, among those whose disks are whole."""
        leader = self._cluster.leader
        voters = () if leader is None else leader._core.node.configuration.voters
        names = {member.id.name for member in voters}
        hosts = self._cluster.hosts.values()
        return [host.name for host in hosts if not host.lost and host.name not in names]

    async def take_one_in(self) -> bool:
        """Have one more server be a voter, if there is one that is none; says whether there was."""
        leader, strangers = self._cluster.leader, self.strangers
        if leader is None or not strangers:
            return leader is None
        name = strangers[0]
        address = self._cluster.hosts[name].address
        await self._ask(leader, _PATIENCE, lambda leader: leader.add_peer(name, address))
        return True
