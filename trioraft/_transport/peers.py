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
from attrs import define, field

from trioraft._clock import Bell, Clock
from trioraft._errors import ProtocolError
from trioraft._gate import Objection
from trioraft._handshake import Handshake, Refused
from trioraft._limits import MAX_CALLERS
from trioraft._rules.ids import ServerId
from trioraft._rules.messages import Message, Reply
from trioraft._transport.conversation import LOST, Conversation, bare_errors
from trioraft._wire.asking import Caller, ReadIndex, ReadIndexReply
from trioraft._wire.codec import Hello, PeerMessage, Refusal, WireMessage, encode
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
    """Where it is dialled, or was dialled last."""
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    """Ends with the membership."""
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
        members: Callable[[], Mapping[str, str]],
        hints: Mapping[str, str],
        patience: float,
        slowest_redial: float,
        clock: Clock,
        random: Random,
        receive: Callable[[ServerId, PeerMessage], None],
        link_up: Callable[[ServerId], None],
        serve: Callable[[Connection], Awaitable[None]],
        install: Callable[[ServerId, Connection], Awaitable[None]],
        expelled: Callable[[str], None],
    ) -> None:
        """Begin.

        Args:
            me: this server's name.
            transport: how others are dialled.
            handshake: who they are.
            members: name and address of everybody that there should be a stream to.
            hints: addresses that come before those.
            patience: seconds that an answer may take.
            slowest_redial: the longest pause before a server is dialled again, in seconds.
            clock: this server's clock.
            random: spreads the pauses.
            receive: takes a message from a server.
            link_up: told of a new stream to one.
            serve: talks to a client until its stream ends.
            install: talks to a leader that brings a snapshot.
            expelled: told why this server must never take part again.
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
        self._members = members
        self._hints = hints
        self._expelled = expelled
        self._moved = Bell()
        self._callers = {False: 0, True: 0}
        self._slowest_redial = slowest_redial
        self._patience = patience
        self._incoming: dict[ServerId, Conversation] = {}
        self._complaints: dict[str, float] = {}
        """The newest that were made aloud, and when; the oldest first."""
        self.links: dict[str, Link] = {}
        """By name."""
        self._look_at_members()

    def post(self, to: ServerId, message: PeerMessage) -> None:
        """Send a message, if there is a stream to send it on; never waits."""
        if isinstance(message, Reply | ReadIndexReply):
            conversation = self._incoming.get(to)
        else:
            link = self.links.get(to.name)
            conversation = link.conversation if link is not None and link.peer == to else None
        if conversation is not None:
            conversation.post(message)

    def address_of(self, name: str) -> str | None:
        """Where a server was reached last; None if nobody here knows it."""
        link = self.links.get(name)
        return None if link is None else link.address

    def expel(self, peer: ServerId, reason: str) -> None:
        """Tell a peer that it must never take part again, and believe nothing more it says."""
        _LOG.error("%s: %s must not take part any more: %s", self._me, peer, reason)
        self._handshake.gate.ban(peer)
        link = self.links.get(peer.name)
        outgoing = None if link is None or link.peer != peer else link.conversation
        conversation = outgoing or self._incoming.get(peer)
        if conversation is not None:
            conversation.post(Refusal(reason, self._handshake.me))

    # -- dialling ------------------------------------------------------------------------------

    def follow(self) -> None:
        """The members have changed: so do the streams."""
        self._moved.ring()

    def _look_at_members(self) -> list[Link]:
        """Forget who has left, and return who is new."""
        members = self._members()
        for name in self.links.keys() - members.keys():
            self.links.pop(name).scope.cancel()
        new = [
            Link(name, members[name])
            for name in sorted(members.keys() - self.links.keys())
            if name != self._me
        ]
        self.links = dict(sorted([*self.links.items(), *((link.name, link) for link in new)]))
        return new

    async def run(self) -> None:
        """Keep a stream to every peer, for ever.

        A server that comes back dials nobody before `follow` is called: until it has read its
        snapshot it does not know who was removed.
        """
        async with trio.open_nursery() as nursery:
            if self._handshake.formed.is_set():
                await self._moved.wait()
                self._look_at_members()
            new = [*self.links.values()]
            while True:
                for link in new:
                    nursery.start_soon(self._keep, link, name=f"link to {link.name}")
                await self._moved.wait()
                new = self._look_at_members()

    async def _keep(self, link: Link) -> None:
        first = pause = min(_FIRST_REDIAL, self._slowest_redial)
        with link.scope:
            failures = 0
            while True:
                link.address = self._address_to_dial(link, failures)
                slowest = self._slowest_redial
                try:
                    talked = await self._talk_to(link)
                except LOST as error:
                    talked = link.peer is not None
                    self._lost(link, error)
                    if isinstance(error, Refused):
                        slowest = self._patience  # who has been removed disturbs nobody
                finally:
                    link.peer = link.conversation = None
                failures += not talked
                pause = first if talked else min(2 * pause, slowest)
                wait = pause * self._random.uniform(0.5, 1)
                await self._clock.sleep_until(self._clock.now() + wait)

    def _address_to_dial(self, link: Link, failures: int) -> str:
        """As told, as the cluster has it, as the peer says itself; another one after a failure.

        A cluster that has yet to form is formed as told, or not at all.
        """
        formed = self._handshake.formed.is_set()
        hello = self._handshake.gate.newest_hello_of(link.name) if formed else None
        places = [
            self._hints.get(link.name),
            self._members().get(link.name),
            None if hello is None else hello.address,
        ]
        usable = [place for place in dict.fromkeys(places) if place and self._can_dial(place)]
        return usable[failures % len(usable)] if usable else link.address

    def _can_dial(self, address: str) -> bool:
        try:
            self._transport.check_address(address)
        except ValueError:
            return False
        return True

    async def probe(self, name: str, address: str) -> Hello:
        """Who answers at an address, if it is the one named.

        Raises:
            LOST: nobody, or somebody else.
            ValueError: the address can't be read.
        """
        given = self._clock.now() + self._patience
        with bare_errors(), self._clock.until(given) as dialling:
            async with self._transport.connect(address) as connection:
                return await self._handshake.probe(connection, name)
        assert dialling.cancelled_caught
        raise TimeoutError(f"no answer within {self._patience:.3g} s")

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
        self._heed(peer, message)
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
                await self._see_that_it_is_alone(connection, first)
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

    async def _see_that_it_is_alone(self, connection: Connection, hello: Hello) -> None:
        """Let no second process of one disk in while the first one answers."""
        before = self._handshake.gate.hello_of(hello.id)
        link = self.links.get(hello.name)
        if before is None or before.nonce == hello.nonce or link is None or link.peer != hello.id:
            return
        if link.conversation is not None and await link.conversation.answers():
            reason = f"another process runs on a copy of the disk of {hello.name}"
            await self._handshake.refuse(connection, Objection(reason))

    def _heed(self, peer: ServerId, message: WireMessage) -> None:
        """Take it when a peer says that this server is not welcome, or even that it never is."""
        if isinstance(message, Refusal):
            if self._handshake.gate.knows(message.expelled_by):
                self._expelled(f"{peer} says: {message.reason}")
            raise Refused(f"{peer} refused: {message.reason}")

    def _take_request(self, peer: ServerId, message: WireMessage) -> None:
        self._heed(peer, message)
        if self._handshake.gate.is_banned(peer):
            return  # it is being told
        is_reply = isinstance(message, Reply)
        if is_reply or not isinstance(message, Message | ReadIndex):
            raise ProtocolError(f"{type(message).__name__} where only requests belong")
        self._receive(peer, message)
