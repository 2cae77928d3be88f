"""The streams to and from every peer.

Each server dials each peer: requests go out on that stream, and their answers come back on it.  So
two streams connect two servers, neither side has to wait for the other to dial, and a server that
can only send or only receive is found out.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import trio
from attrs import define

from trioraft._clock import Clock
from trioraft._errors import ProtocolError
from trioraft._handshake import Handshake
from trioraft._limits import MAX_CALLERS
from trioraft._rules.ids import ServerId
from trioraft._rules.messages import Message, Reply
from trioraft._transport.conversation import LOST, Conversation, bare_errors
from trioraft._wire.asking import Caller, ReadIndex, ReadIndexReply
from trioraft._wire.codec import PeerMessage, Refusal, WireMessage, encode
from trioraft.abc import Connection, Transport

_LOG: Final = logging.getLogger("trioraft.transport")

_COMPLAINTS: Final = 64
_COMPLAINTS_SECONDS: Final = 60.0
"""So many different complaints about strangers are made aloud in so many seconds, and no more."""

_FIRST_REDIAL: Final = 0.02
"""Seconds; doubles with each failure, up to half an election time-out."""


@define
class Link:
    """The stream that this server opened to one peer."""

    name: str
    address: str
    peer: ServerId | None = None
    """Who is at the other end, while the stream stands."""
    conversation: Conversation | None = None
    error: str | None = None
    """Why the stream does not stand."""


class Peers:
    """Dials every peer for ever, and answers those who dial."""

    def __init__(
        self,
        *,
        me: str,
        transport: Transport,
        handshake: Handshake,
        addresses: Mapping[str, str],
        patience: float,
        slowest_redial: float,
        clock: Clock,
        random: Random,
        receive: Callable[[ServerId, PeerMessage], None],
        link_up: Callable[[ServerId], None],
        serve: Callable[[Connection], Awaitable[None]],
        install: Callable[[ServerId, Connection], Awaitable[None]],
    ) -> None:
        """Begin.

        `serve` talks to a client until its stream ends, and `install` to a leader that brings a
        snapshot.
        """
        self._me = me
        self._transport = transport
        self._handshake = handshake
        self._clock = clock
        self._random = random
        self._receive = receive
        self._link_up = link_up
        self._serve = serve
        self._install = install
        self._callers = {False: 0, True: 0}
        self._slowest_redial = slowest_redial
        self._patience = patience
        self._incoming: dict[ServerId, Conversation] = {}
        self._complaints: dict[str, float] = {}
        """The newest that were made aloud, and when; the oldest first."""
        self.links = {name: Link(name, addresses[name]) for name in sorted(addresses) if name != me}
        """By name."""

    def post(self, to: ServerId, message: PeerMessage) -> None:
        """Send a message, if there is a stream to send it on; never waits."""
        if isinstance(message, Reply | ReadIndexReply):
            conversation = self._incoming.get(to)
        else:
            link = self.links.get(to.name)
            conversation = link.conversation if link is not None and link.peer == to else None
        if conversation is not None:
            conversation.post(message)

    # -- dialling ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a stream to every peer, for ever."""
        async with trio.open_nursery() as nursery:
            for link in self.links.values():
                nursery.start_soon(self._keep, link, name=f"link to {link.name}")

    async def _keep(self, link: Link) -> None:
        first = pause = min(_FIRST_REDIAL, self._slowest_redial)
        while True:
            try:
                talked = await self._talk_to(link)
            except LOST as error:
                talked = link.peer is not None
                self._lost(link, error)
            finally:
                link.peer = link.conversation = None
            pause = first if talked else min(2 * pause, self._slowest_redial)
            wait = pause * self._random.uniform(0.5, 1)
            await self._clock.sleep_until(self._clock.now() + wait)

    async def _talk_to(self, link: Link) -> bool:
        # A packet into a black hole is answered by nobody: without a bound of its own, dialling
        # would go on long after the network has healed.
        given = self._clock.now() + self._patience
        with bare_errors(), self._clock.until(given) as dialling:
            async with self._transport.connect(link.address) as connection:
                self._clock.move(dialling, math.inf)
                peer = await self._handshake.dial(connection, link.name)
                if peer is None:
                    return True
                conversation = Conversation(connection, self._clock, self._patience / 2)
                link.peer, link.conversation, link.error = peer, conversation, None
                _LOG.info("%s: linked to %s at %s", self._me, link.name, link.address)
                self._link_up(peer)
                await conversation.run(lambda message: self._take_reply(peer, message))
        if dialling.cancelled_caught:
            raise TimeoutError(f"no answer within {self._patience:.3g} s")
        raise AssertionError("a conversation ends by an error")

    @asynccontextmanager
    async def aside(self, to: ServerId) -> AsyncGenerator[Connection]:
        """Another stream to a peer, for a snapshot: heartbeats must not wait behind it.

        Raises:
            LOST: there is none to be had, or it broke.
        """
        link = self.links.get(to.name)
        if link is None:
            raise ProtocolError(f"nobody here knows where {to} is")
        given = self._clock.now() + self._patience
        with bare_errors(), self._clock.until(given) as dialling:
            async with self._transport.connect(link.address) as connection:
                peer = await self._handshake.dial(connection, to.name, installs=True)
                if peer != to:
                    raise ProtocolError(f"{to} is somebody else by now")
                self._clock.move(dialling, math.inf)
                yield connection
        if dialling.cancelled_caught:
            raise TimeoutError(f"no answer within {self._patience:.3g} s")

    def _lost(self, link: Link, error: BaseException) -> None:
        reason = str(error) or type(error).__name__
        if link.peer is not None:
            _LOG.info("%s: lost %s at %s: %s", self._me, link.name, link.address, reason)
        elif reason != link.error:
            _LOG.warning("%s: no link to %s at %s: %s", self._me, link.name, link.address, reason)
        link.error = reason

    def _take_reply(self, peer: ServerId, message: WireMessage) -> None:
        if not isinstance(message, Reply | ReadIndexReply):
            raise ProtocolError(f"{type(message).__name__} where only answers belong")
        self._receive(peer, message)

    # -- answering -----------------------------------------------------------------------------

    async def accept(self, connection: Connection) -> None:
        """Talk to whoever opened this stream, until it ends; nonsense ends it."""
        try:
            with bare_errors():
                first = await self._handshake.first_word(connection)
                if isinstance(first, Caller):
                    await self._handshake.admit(connection, first)
                    await self._receive_caller(connection, first)
                    return
                peer = await self._handshake.accept(connection, first)
                if peer is not None and first.installs:
                    await self._install(peer, connection)
                elif peer is not None:
                    await self._answer(peer, connection)
        except LOST as error:
            reason = str(error) or type(error).__name__
            level = logging.INFO
            if isinstance(error, ProtocolError):
                level = self._level_of(reason)
            _LOG.log(level, "%s: an incoming stream ended: %s", self._me, reason)

    def _level_of(self, reason: str) -> int:
        """How loud to complain: who is refused dials again and again, under many names perhaps."""
        now, told = self._clock.now(), self._complaints
        is_old = reason in told
        is_much = len(told) == _COMPLAINTS and now < next(iter(told.values())) + _COMPLAINTS_SECONDS
        if is_old or is_much:
            return logging.DEBUG
        if len(told) == _COMPLAINTS:
            del told[next(iter(told))]
        told[reason] = now
        return logging.WARNING

    async def _receive_caller(self, connection: Connection, caller: Caller) -> None:
        """Serve a client, unless there are so many that servers might find no place."""
        if self._callers[caller.forwards] >= MAX_CALLERS[caller.forwards]:
            refusal = Refusal(f"{self._me} serves as many clients as it may")
            await connection.send(encode(refusal))
            raise ProtocolError("more clients than are served")
        self._callers[caller.forwards] += 1
        try:
            await self._serve(connection)
        finally:
            self._callers[caller.forwards] -= 1

    async def _answer(self, peer: ServerId, connection: Connection) -> None:
        # The dialler asks for signs of life; this side waits twice as long for any.
        conversation = Conversation(connection, self._clock, self._patience)
        self._incoming[peer] = conversation
        try:
            await conversation.run(lambda message: self._take_request(peer, message))
        finally:
            if self._incoming.get(peer) is conversation:
                del self._incoming[peer]

    def _take_request(self, peer: ServerId, message: WireMessage) -> None:
        is_reply = isinstance(message, Reply)
        if is_reply or not isinstance(message, Message | ReadIndex):
            raise ProtocolError(f"{type(message).__name__} where only requests belong")
        self._receive(peer, message)
