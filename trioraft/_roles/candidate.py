"""The candidate: a question to everybody, and a time-out."""

from __future__ import annotations

import trio
from attrs import frozen

from trioraft._roles.host import Host
from trioraft._rules.events import ElectionTimeout, SolicitDue
from trioraft._rules.ids import ServerId


@frozen
class Candidate:
    """Asks every voter for its vote, in a pre-vote or for real, until it wins, loses or times out.

    All three ends look the same from here: the rules change the role inside `step`, the server
    cancels this tenure's scope, and the nursery takes the solicitations with it.
    """

    host: Host

    async def run(self) -> None:
        """Campaign, until the rules say otherwise."""
        host, tenure = self.host, self.host.node.tenure
        async with trio.open_nursery() as nursery:
            for peer in host.node.configuration.electors(host.node.me):
                nursery.start_soon(self.solicit, peer, tenure, name=f"solicit {peer}")
            while True:
                await host.election.passed()
                host.step(ElectionTimeout(host.clock.now(), tenure))

    async def solicit(self, peer: ServerId, tenure: int) -> None:
        """Ask, and ask again: one lost message must not cost a whole election.

        A vote's request waits in the outbox until the new term is on disk; this task neither
        knows nor waits for that.
        """
        clock = self.host.clock
        while True:
            now = clock.now()
            self.host.step(SolicitDue(now, tenure, peer))
            again = now + self.host.node.settings.heartbeat_interval
            await clock.sleep_until(again)
