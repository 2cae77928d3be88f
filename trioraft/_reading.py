"""Readers: from which entry on is an answer not old, and how old is one at most.

Who leads has the rules confirm it, a round for all that wait; who follows asks the leader, one
request for all that wait.  Either way nothing is written anywhere.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from trioraft._clock import Bell, Clock
from trioraft._errors import NotLeaderError, ServerStopped
from trioraft._rules.events import ReadIndexDue
from trioraft._rules.ids import ServerId
from trioraft._rules.node import Leading, Node
from trioraft._rules.reads import lease_until
from trioraft._wire.asking import ReadIndex, ReadIndexReply

_JOLT = 0.001
"""Seconds: what the clocks of one machine may be apart by chance."""


class Host(Protocol):
    """The server, as its readers see it."""

    clock: Clock

    @property
    def node(self) -> Node:
        """The present protocol state."""
        ...

    def step(self, event: ReadIndexDue) -> None:
        """Let the rules take the event."""
        ...

    def not_leader(self) -> NotLeaderError:
        """The error that sends a caller to the leader."""
        ...


class Batch:
    """Readers that wait for the same index."""

    def __init__(self) -> None:
        self.index: int | None = None
        self.over = trio.Event()
        self.asked_at = -math.inf
        """When it was asked for, on this server's clock."""
        self.others: list[Callable[[int | None], None]] = []
        """Followers' requests: each is told the index, or None."""

    def end(self, index: int | None) -> None:
        """Tell all that wait; None: nobody leads here any more."""
        if not self.over.is_set():
            self.index = index
            self.over.set()
            for tell in self.others:
                tell(index)


class Reading:
    """Finds the index for all that wait, in one round after the other."""

    def __init__(self, host: Host, ask: Callable[[ServerId, ReadIndex], None]) -> None:
        self._host = host
        self._ask = ask
        self._bell = Bell()
        self._gathering: Batch | None = None
        self._rounds: deque[tuple[int, Batch]] = deque()
        self._asking: Batch | None = None
        self._first = self._number = 0
        self._known: deque[tuple[int, float]] = deque()
        self._as_of = -math.inf
        self._slept = host.clock.slept()
        self._awake_since = -math.inf
        self._renewal = trio.lowlevel.ParkingLot()
        self._ended = False
        self.leases: set[trio.CancelScope] = set()
        """Each ends with the lease, and is moved with it."""

    # -- what readers ask ----------------------------------------------------------------------

    async def index(self) -> int:
        """Wait for an index that covers all that was done anywhere before this call.

        Raises:
            NotLeaderError: this server follows nobody, or its leader went away meanwhile.
            ServerStopped: the server has ended.
        """
        batch = self._join()
        await batch.over.wait()
        if self._ended:
            raise ServerStopped("the server stopped")
        if batch.index is None:
            raise self._host.not_leader()
        return batch.index

    def refresh(self) -> None:
        """Learn how far the leader is, for `age`, and don't wait for it."""
        self._join()

    def age(self, applied: int) -> float:
        """Seconds that a machine which has applied so much may be behind the cluster."""
        while self._known and self._known[0][0] <= applied:
            self._as_of = max(self._as_of, self._known.popleft()[1])
        return self._host.clock.now() - self._as_of

    def lease(self) -> float:
        """Until when nobody else can lead, on this server's clock; -inf: no lease.

        A machine that slept did not see time go by: what was sent before counts no more.
        """
        clock = self._host.clock
        slept = clock.slept()
        if slept > self._slept + _JOLT:
            self._awake_since = clock.now()
        self._slept = slept
        return lease_until(self._host.node, self._awake_since)

    def _join(self) -> Batch:
        if self._gathering is None:
            self._gathering = Batch()
            self._bell.ring()
        return self._gathering

    # -- finding it ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve one batch after the other, for ever."""
        while True:
            await self._bell.wait()
            batch, self._gathering = self._gathering, None
            if batch is None:
                continue
            batch.asked_at = self._host.clock.now()
            if isinstance(self._host.node.role, Leading):
                self._host.step(ReadIndexDue(batch.asked_at, batch))
            else:
                await self._ask_leader(batch)

    async def _ask_leader(self, batch: Batch) -> None:
        """Ask, and ask again on a new number, as long as the same server leads."""
        node, clock = self._host.node, self._host.clock
        leader, tenure = node.leader, node.tenure
        self._asking, self._first = batch, self._number + 1
        while leader is not None and (leader, tenure) == self._leader():
            self._number += 1
            self._ask(leader, ReadIndex(self._number))
            with clock.until(clock.now() + node.settings.election_timeout):
                await batch.over.wait()
            if batch.over.is_set():
                break
        self._asking = None
        batch.end(None)

    def _leader(self) -> tuple[ServerId | None, int]:
        return self._host.node.leader, self._host.node.tenure

    def answered(self, reply: ReadIndexReply) -> None:
        """The leader has answered."""
        batch = self._asking
        if batch is not None and reply.number >= self._first:
            self._found(batch, reply.index)

    def asked(self, tell: Callable[[int | None], None]) -> None:
        """A follower asks this server."""
        if isinstance(self._host.node.role, Leading):
            self._join().others.append(tell)
        else:
            tell(None)

    # -- what the rules say --------------------------------------------------------------------

    def joined(self, number: int, index: int, batch: object) -> None:
        """The batch has joined a round."""
        assert isinstance(batch, Batch)
        batch.index = index
        self._rounds.append((number, batch))

    def confirmed(self, number: int) -> None:
        """This server led when the round began."""
        while self._rounds and self._rounds[0][0] <= number:
            _, batch = self._rounds.popleft()
            self._found(batch, batch.index)

    def leadership_lost(self) -> None:
        """Nobody's round will be confirmed any more, and no lease stands."""
        while self._rounds:
            self._rounds.popleft()[1].end(None)
        for scope in self.leases:
            scope.cancel()

    def renewed(self) -> None:
        """Followers have answered, or this server has begun to lead: the lease may last longer."""
        if self.leases:
            until = self.lease()
            for scope in self.leases:
                self._host.clock.move(scope, until)
        self._renewal.unpark_all()

    async def renewal(self) -> None:
        """Wait until the lease may last longer.

        Raises:
            ServerStopped: the server has ended.
        """
        if not self._ended:
            await self._renewal.park()
        if self._ended:
            raise ServerStopped("the server stopped")

    def ended(self) -> None:
        """The server ends: nobody waits on."""
        self._ended = True
        self._renewal.unpark_all()
        self.leadership_lost()
        for batch in (self._gathering, self._asking):
            if batch is not None:
                batch.end(None)

    def _found(self, batch: Batch, index: int | None) -> None:
        if index is not None and not batch.over.is_set():
            self._known.append((index, batch.asked_at))
        batch.end(index)
