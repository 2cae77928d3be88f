"""The leader's side of a snapshot's way to a follower: on a stream of its own, piece by piece.

The follower asks for each piece, so it is never sent more than it takes, and goes on where it was
if the stream breaks.  Whether the leader still leads is looked at before each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, NoReturn, Protocol

import trio

from trioraft._clock import Bell, Clock
from trioraft._events import SnapshotProgress
from trioraft._limits import SNAPSHOT_BYTES_PER_SECOND
from trioraft._pace import Pace
from trioraft._rules import effects as fx
from trioraft._rules.events import SnapshotSent
from trioraft._rules.ids import ServerId
from trioraft._rules.node import Node
from trioraft._snapshots.form import Summary
from trioraft._snapshots.keeper import Keeper
from trioraft._snapshots.naming import id_of
from trioraft._snapshots.progress import Progress
from trioraft._transport.conversation import LOST, Conversation, bare_errors
from trioraft._wire.codec import FROM_INSTALLING, WireMessage
from trioraft._wire.installing import SnapshotOffer, SnapshotPiece, SnapshotWanted
from trioraft.abc import Connection

_LOG: Final = logging.getLogger("trioraft.server")

_FIRST_PIECE: Final = 1 << 10
"""Bytes; on a good line the pieces are at their full size after nine of them."""

Aside = Callable[[ServerId], AbstractAsyncContextManager[Connection]]
"""Opens another stream to a peer."""


class Host(Protocol):
    """The server, as its snapshots see it on their way."""

    clock: Clock

    @property
    def node(self) -> Node:
        """The present protocol state."""
        ...

    def step(self, event: SnapshotSent) -> None:
        """Let the rules take the event."""
        ...


class Sender:
    """Sends followers what the log holds no more."""

    def __init__(
        self,
        host: Host,
        keeper: Keeper,
        aside: Aside,
        patience: float,
        emit: Callable[[SnapshotProgress], None],
    ) -> None:
        """Begin; after `patience` seconds of silence, twice, a follower is given up."""
        self._host = host
        self._keeper = keeper
        self._aside = aside
        self._patience = patience
        self._wanted: list[fx.SendSnapshot] = []
        self._bell = Bell()
        self._paces: dict[ServerId, Pace] = {}
        self.progress = Progress(emit)

    def send(self, effect: fx.SendSnapshot) -> None:
        """Send the follower the newest snapshot; never waits."""
        self._wanted.append(effect)
        self._bell.ring()

    async def run(self) -> NoReturn:
        """Serve all who need one, side by side, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._bell.wait()
                wanted, self._wanted = self._wanted, []
                for effect in wanted:
                    nursery.start_soon(self._serve, effect)

    async def _serve(self, effect: fx.SendSnapshot) -> None:
        peer, clock = effect.peer, self._host.clock
        began = clock.now()
        try:
            with self._keeper.lent() as summary, bare_errors():
                async with self._aside(peer) as connection:
                    await self._talk(effect, connection, summary)
        except LOST as error:
            self._pace(peer).broke()
            _LOG.info("%s: a snapshot did not reach %s: %r", self._host.node.me.name, peer, error)
        finally:
            self.progress.ended(peer.name)
        # Who fails at once is not dialled again at once.
        await clock.sleep_until(began + self._patience)
        self._host.step(SnapshotSent(clock.now(), effect.tenure, peer))

    def _pace(self, peer: ServerId) -> Pace:
        """How large a piece may be, so that its line carries it in good time."""
        patience = self._patience
        return self._paces.setdefault(peer, Pace(patience / 10, patience / 3, _FIRST_PIECE))

    async def _talk(
        self, effect: fx.SendSnapshot, connection: Connection, summary: Summary
    ) -> None:
        conversation = Conversation(
            connection, self._host.clock, self._patience / 2, only=FROM_INSTALLING
        )
        requests = _Requests(self._host.clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conversation.run, requests.take)
            await self._answer(effect, conversation, summary, requests)
            nursery.cancel_scope.cancel()

    async def _answer(
        self,
        effect: fx.SendSnapshot,
        conversation: Conversation,
        summary: Summary,
        requests: _Requests,
    ) -> None:
        host, head, name = self._host, summary.head, effect.peer.name
        if host.node.tenure != effect.tenure:
            return  # dialling takes time: by now another one may lead
        offer = SnapshotOffer(
            host.node.term, head.cluster, head.index, head.term, summary.size, summary.digest
        )
        conversation.post(offer)
        one = id_of(head)
        pace, number = self._pace(effect.peer), 0
        sent_at = host.clock.now()
        while (offset := await requests.next()) < summary.size:
            if host.node.tenure != effect.tenure:
                return
            pace.answered(number, requests.come_at - sent_at)
            data = await self._keeper.read(one, offset, pace.bytes)
            conversation.post(SnapshotPiece(offset, data))
            sent_at, number = host.clock.now(), number + 1
            pace.sent(number, len(data))
            self.progress.reached(name, offset, summary.size)
            await host.clock.sleep_until(sent_at + len(data) / SNAPSHOT_BYTES_PER_SECOND)
        _LOG.info("%s: %s has the snapshot of entry %d", host.node.me.name, name, head.index)


class _Requests:
    """What the follower has asked for last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bell = Bell()
        self._offset = 0
        self.come_at = 0.0
        """When it asked."""

    def take(self, message: WireMessage) -> None:
        """A message has come."""
        assert isinstance(message, SnapshotWanted), "the conversation lets in nothing else"
        self._offset, self.come_at = message.offset, self._clock.now()
        self._bell.ring()

    async def next(self) -> int:
        """Where the next piece is to begin."""
        await self._bell.wait()
        return self._offset
