"""The follower's side of a snapshot's way: piece by piece to the disk, then to the rules.

Of what has come of a snapshot the rest is asked for, whoever offers the very same one: the stream
may break, and another server may lead.  A start forgets it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

import trio

from trioraft._applier import Applier
from trioraft._clock import Bell, Clock
from trioraft._errors import ProtocolError, ServerStopped, StorageError
from trioraft._events import SnapshotProgress
from trioraft._limits import LAST_TERM, MAX_APPEND_BYTES
from trioraft._rules.events import Received
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration
from trioraft._rules.messages import InstallSnapshot
from trioraft._rules.node import Node
from trioraft._snapshots.form import Damaged, Head
from trioraft._snapshots.keeper import Keeper
from trioraft._snapshots.naming import Offered
from trioraft._snapshots.progress import Progress
from trioraft._transport.conversation import Conversation
from trioraft._wire.codec import FROM_OFFERING, WireMessage
from trioraft._wire.installing import SnapshotOffer, SnapshotPiece, SnapshotWanted
from trioraft.abc import Connection

_LOG: Final = logging.getLogger("trioraft.server")


class Host(Protocol):
    """The server, as a snapshot sees it that comes."""

    clock: Clock

    @property
    def takes_part(self) -> bool:
        """Whether the rules are at work."""
        ...

    @property
    def node(self) -> Node:
        """The present protocol state."""
        ...

    def step(self, event: Received) -> None:
        """Let the rules take the event."""
        ...


class Receiver:
    """Takes in one snapshot at a time: the newest offer counts."""

    def __init__(
        self,
        host: Host,
        keeper: Keeper,
        applier: Applier,
        patience: float,
        saw: Callable[[float], None],
        emit: Callable[[SnapshotProgress], None],
    ) -> None:
        """Begin; after `patience` seconds of silence, twice, a leader is given up.

        `saw` is told the cluster's time of what is installed.
        """
        self._host = host
        self._keeper = keeper
        self._applier = applier
        self._patience = patience
        self._saw = saw
        self._present = trio.CancelScope()
        self._one_at_a_time = trio.Lock()
        self._coming: Offered | None = None
        self._offset = 0
        """How much of it is there."""
        self.progress = Progress(emit)

    async def receive(self, leader: ServerId, connection: Connection) -> None:
        """Talk to a leader that brings a snapshot, until there is nothing more to say.

        Raises:
            LOST: the stream is over, or what came over it was nonsense.
        """
        if not self._host.takes_part:
            return  # as good as lost: it is offered again
        conversation = Conversation(
            connection, self._host.clock, self._patience, only=FROM_OFFERING
        )
        messages = _Messages()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conversation.run, messages.take)
            offer = self._checked(leader, await messages.next())
            with trio.CancelScope() as scope:
                if self._is_wanted(offer):  # else a deposed leader ends what the new one sends
                    self._present.cancel()
                    self._present = scope
                await self._take_in(leader, offer, conversation, messages)
            nursery.cancel_scope.cancel()

    def _checked(self, leader: ServerId, offer: WireMessage) -> SnapshotOffer:
        if not isinstance(offer, SnapshotOffer):
            raise ProtocolError("a piece of a snapshot that nobody offered")
        if offer.term > LAST_TERM:
            raise ProtocolError(f"{leader} says term {offer.term}: no cluster gets that far")
        if offer.last_included_term > offer.term:
            raise ProtocolError(f"{leader} offers a snapshot of a later term than its own")
        if offer.cluster not in (None, self._host.node.configuration.cluster):
            raise ProtocolError(f"{leader} offers a snapshot of the cluster {offer.cluster:.40}")
        return offer

    async def _take_in(
        self,
        leader: ServerId,
        offer: SnapshotOffer,
        conversation: Conversation,
        messages: _Messages,
    ) -> None:
        if self._is_wanted(offer):
            try:
                async with self._one_at_a_time:  # the one before may still wait for the disk
                    await self._take_all(leader, offer, conversation, messages)
            finally:
                self.progress.ended(leader.name)
        else:
            self._tell_rules(leader, offer, None)
        conversation.post(SnapshotWanted(offer.size))
        await messages.next()  # nothing comes: the leader ends the stream

    async def _take_all(
        self,
        leader: ServerId,
        offer: SnapshotOffer,
        conversation: Conversation,
        messages: _Messages,
    ) -> None:
        """Take in what is still lacking of it, and have it installed."""
        offered = Offered(
            offer.cluster,
            offer.last_included_index,
            offer.last_included_term,
            offer.size,
            offer.digest,
        )
        if self._coming != offered:
            self._coming, self._offset = offered, 0
        while self._is_wanted(offer) and self._offset < offer.size:
            conversation.post(SnapshotWanted(self._offset))
            self.progress.reached(leader.name, self._offset, offer.size)
            await self._take_piece(await messages.next(), offer)
        await self._finish(leader, offer, offered)

    def _is_wanted(self, offer: SnapshotOffer) -> bool:
        """Whether the offer is of this term, and the log lacks what it holds."""
        node, index = self._host.node, offer.last_included_index
        has = index <= node.commit or node.log.term_at(index) == offer.last_included_term
        return offer.term >= node.term and not has

    async def _take_piece(self, piece: WireMessage, offer: SnapshotOffer) -> None:
        if not isinstance(piece, SnapshotPiece) or piece.offset != self._offset:
            raise ProtocolError("not the piece of the snapshot that was asked for")
        behind = self._offset + len(piece.data)
        if not 0 < len(piece.data) <= MAX_APPEND_BYTES or behind > offer.size:
            raise ProtocolError(f"a piece of {len(piece.data)} bytes of a snapshot")
        try:
            await self._keeper.take_in(self._offset, piece.data)
        except StorageError as error:
            self._coming = None
            raise ProtocolError(f"the snapshot can't be kept: {error}") from error
        self._offset = behind

    async def _finish(self, leader: ServerId, offer: SnapshotOffer, offered: Offered) -> None:
        """Have it verified, and let the rules decide; they hear of what is not wanted, too."""
        if not self._is_wanted(offer):
            self._tell_rules(leader, offer, None)
            return

        def install(head: Head) -> bool:
            self._saw(head.time)  # who is elected before its machine is restored gives it to others
            return self._tell_rules(leader, offer, head.configuration)

        self._coming = None
        try:
            await self._keeper.accept(offered, lambda: self._is_wanted(offer), install)
        except (Damaged, StorageError) as error:
            _LOG.warning("%s: a snapshot from %s: %s", self._host.node.me.name, leader, error)
            raise ProtocolError(f"the snapshot can't be used: {error}") from error
        if self._host.node.snapshot_index == offered.index:
            with suppress(ServerStopped):
                await self._applier.reached(offered.index)

    def _tell_rules(
        self, leader: ServerId, offer: SnapshotOffer, configuration: Configuration | None
    ) -> bool:
        """Let the rules take the offer; is the snapshot now what this server's log begins with?"""
        if not self._host.takes_part:
            return False
        index, term = offer.last_included_index, offer.last_included_term
        request = InstallSnapshot(offer.term, index, term, configuration)
        self._host.step(Received(self._host.clock.now(), leader, request))
        return self._host.node.snapshot_index == index


class _Messages:
    """What has come, and was not looked at yet: at most one more than was asked for."""

    def __init__(self) -> None:
        self._bell = Bell()
        self._queue: deque[WireMessage] = deque(maxlen=2)

    def take(self, message: WireMessage) -> None:
        """A message has come."""
        self._queue.append(message)
        self._bell.ring()

    async def next(self) -> WireMessage:
        """The next one."""
        while not self._queue:
            await self._bell.wait()
        return self._queue.popleft()
