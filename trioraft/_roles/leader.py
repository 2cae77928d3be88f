"""The leader: a replicator per follower, and a watch over its own majority."""

from __future__ import annotations

import trio
from attrs import frozen

from trioraft._roles.host import Host
from trioraft._rules.events import QuorumTimeout
from trioraft._rules.ids import ServerId


@frozen
class Leader:
    """Keeps one replicator per follower, and its place only while a majority answers."""

    host: Host

    async def run(self) -> None:
        """Lead, until the rules say otherwise."""
        host, tenure = self.host, self.host.node.tenure
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.recruit, nursery, tenure)
            nursery.start_soon(self.propose, tenure)
            while True:
                await host.quorum.passed()
                host.step(QuorumTimeout(host.clock.now(), tenure))

    async def recruit(self, nursery: trio.Nursery, tenure: int) -> None:
        """Replicate to every follower, to new ones too when the members change (6)."""
        host = self.host
        served: set[ServerId] = set()
        while True:
            for peer in host.node.followers:
                if peer not in served:
                    served.add(peer)
                    nursery.start_soon(self.replicate, peer, tenure, served, name=f"to {peer}")
            await host.reconfigured.wait()

    async def propose(self, tenure: int) -> None:
        """Take all commands that queue as one event; what comes meanwhile makes the next one.

        They leave at once, as far as the windows let them; the rest is the replicators' business.
        """
        host = self.host
        while True:
            await host.proposals.wait()
            proposed = host.proposed()
            if proposed.count:  # else whoever rang has withdrawn its command meanwhile
                host.step(proposed)
                for peer in host.node.followers:
                    host.step(host.append_due(peer, tenure))

    async def replicate(self, peer: ServerId, tenure: int, served: set[ServerId]) -> None:
        """Send what the follower lacks when there is news, else a heartbeat, until it has left.

        Many commands between two turns of this task leave in one message: batching is the
        scheduler's work, not ours.
        """
        host, turn = self.host, self.host.clock.timer(self.host.bell(peer))
        while peer in host.node.followers:
            host.step(host.append_due(peer, tenure))
            turn.move(host.node.heartbeat_at(peer))
            await turn.wait()
        served.discard(peer)
