"""Readers: from which entry on is an answer not old, and how old is one at most.

Who leads has the rules confirm it, a round for all that wait; who follows asks the leader, one
request for all that wait.  Either way nothing is written anywhere.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
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
        """When it was asked for, on this server's clock, the time that it slept included."""
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

    def __init__(
        self,
        host: Host,
        ask: Callable[[ServerId, ReadIndex], None],
        applied: Callable[[], int],
        life: int,
    ) -> None:
        """Begin.

        Args:
            host: the server.
            ask: sends a request to the leader.
            applied: the last entry that the machine has seen.
            life: how often this server has been started: an answer to what it asked in an earlier
                life must not pass for one to what it asks in this one.
        """
        self._host = host
        self._ask = ask
        self._applied = applied
        self._bell = Bell()
        self._gathering: Batch | None = None
        self._rounds: deque[tuple[int, Batch]] = deque()
        self._asking: Batch | None = None
        self._first = self._number = life << 32
        self._known: deque[tuple[int, float]] = deque()
        """Confirmed and not applied yet: the index, and when it was asked for; both rise."""
        self._as_of = -math.inf
        self._slept = host.clock.slept()
        self._awake_since = -math.inf
        self._renewal = trio.lowlevel.ParkingLot()
        self._began = False
        self._ended = False
        self._led: set[trio.CancelScope] = set()
        self.leases: set[trio.CancelScope] = set()
        """Each ends with the lease, and is moved with it."""

    # -- what readers ask ----------------------------------------------------------------------

    async def index(self) -> int:
        """Wait for an index that covers all that was done anywhere before this call.

        Raises:
            NotLeaderError: this server follows nobody, or its leader went away meanwhile.
            ServerStopped: the server has ended.
        """
        self.must_run()
        batch = self._join()
        await batch.over.wait()
        self.must_run()
        if batch.index is None:
            raise self._host.not_leader()
        return batch.index

    def must_run(self) -> None:
        """See that this server takes part in its cluster.

        Raises:
            NotLeaderError: it does not take part yet.
            ServerStopped: it does no more.
        """
        if self._ended:
            raise ServerStopped("the server stopped")
        if not self._began:
            raise self._host.not_leader()

    @contextmanager
    def led(self) -> Generator[None]:
        """Wait, in the body, for what the present leader brings; no longer than it leads.

        Raises:
            NotLeaderError: it leads no more.
            ServerStopped: the server has ended.
        """
        with trio.CancelScope() as scope:
            self._led.add(scope)
            try:
                yield
            finally:
                self._led.discard(scope)
        if scope.cancelled_caught:
            self.must_run()
            raise self._host.not_leader()

    def refresh(self) -> None:
        """Learn how far the leader is, for `age`, and don't wait for it."""
        self._join()

    def age(self) -> float:
        """Seconds that this server's machine may be behind the cluster."""
        self._forget_applied()
        return max(self._instant() - self._as_of, 0.0)

    def lease(self) -> float:
        """Until when nobody else can lead, on this server's clock; -inf: no lease.

        A machine that slept did not see time go by: what was sent before counts no more.
        """
        if self._ended:
            return -math.inf
        clock = self._host.clock
        slept = clock.slept()
        if slept > self._slept + _JOLT:
            self._awake_since = clock.now()
        # Two clocks are read one behind the other: who is held up in between reads too little.
        self._slept = max(self._slept, slept)
        return lease_until(self._host.node, self._awake_since)

    def _join(self) -> Batch:
        if self._gathering is None:
            self._gathering = Batch()
            self._bell.ring()
        return self._gathering

    # -- finding it ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve one batch after the other, for ever."""
        self._began = True
        while True:
            await self._bell.wait()
            batch, self._gathering = self._gathering, None
            if batch is None:
                continue
            batch.asked_at = self._instant()
            if isinstance(self._host.node.role, Leading):
                self._host.step(ReadIndexDue(self._host.clock.now(), batch))
            else:
                await self._ask_leader(batch)

    async def _ask_leader(self, batch: Batch) -> None:
        """Ask, and ask again on a new number, as long as the same server leads."""
        node, clock = self._host.node, self._host.clock
        if node.leader is None:
            batch.end(None)
            return
        self._asking, self._first = batch, self._number + 1
        while not batch.over.is_set():
            self._number += 1
            self._ask(node.leader, ReadIndex(self._number))
            with clock.until(clock.now() + node.settings.election_timeout):
                await batch.over.wait()
        self._asking = None

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

    def leader_changed(self) -> None:
        """Another one leads, or nobody, or in another term: what the last one owed never comes.

        No round of an earlier tenure will be confirmed any more, and none of its leases stands.
        """
        while self._rounds:
            self._rounds.popleft()[1].end(None)
        if self._asking is not None:
            self._asking.end(None)
        for scope in (*self._led, *self.leases):
            scope.cancel()
        self.renewed()

    def renewed(self) -> None:
        """Followers have answered, or this server has begun to lead: the lease may last longer."""
        self.look_at_lease()
        self._renewal.unpark_all()

    def look_at_lease(self) -> None:
        """Have what is done under the lease end with it: at once if this machine has slept."""
        if self.leases:
            until = self.lease()
            for scope in self.leases:
                self._host.clock.move(scope, until)

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
        self.leader_changed()
        if self._gathering is not None:
            self._gathering.end(None)

    # -- how old the machine is ----------------------------------------------------------------

    def _found(self, batch: Batch, index: int | None) -> None:
        if index is not None and not batch.over.is_set():
            # What was known before of this index, or a later one, says less.
            while self._known and self._known[-1][0] >= index:
                self._known.pop()
            self._known.append((index, batch.asked_at))
            self._forget_applied()
        batch.end(index)

    def _forget_applied(self) -> None:
        applied = self._applied()
        while self._known and self._known[0][0] <= applied:
            self._as_of = self._known.popleft()[1]

    def _instant(self) -> float:
        """The present instant on a clock that goes on while the machine sleeps: things age."""
        return self._host.clock.now() + self._host.clock.slept()
