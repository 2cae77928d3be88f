"""The follower: a wait for a leader's silence."""

from __future__ import annotations

import trio
from attrs import frozen

from trioraft._roles.host import Host
from trioraft._rules.events import AnswerDue, ElectionTimeout


@frozen
class Follower:
    """Listens.  Starts nothing, promises only what the rules promise.

    The election time-out is a cancel scope round the wait and nothing but the wait; each sign of
    the leader moves its deadline.
    """

    host: Host

    async def run(self) -> None:
        """Follow, until the rules say otherwise."""
        host, tenure = self.host, self.host.node.tenure
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.answer_for_slow_disk, tenure)
            while True:
                await host.election.passed()
                host.step(ElectionTimeout(host.clock.now(), tenure))

    async def answer_for_slow_disk(self, tenure: int) -> None:
        """Tell the leader what is durable so far, when that takes long."""
        host = self.host
        while True:
            await host.answer.passed()
            host.step(AnswerDue(host.clock.now(), tenure))
