"""A client of a cluster: it finds who leads, and does not let go before the outcome is known."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from typing import Any, Final, Generic, TypeVar

import trio

from trioraft._background import background
from trioraft._client.connection import Connected
from trioraft._client.line import Asked, Line, Question
from trioraft._client.replies import error_of, value_of
from trioraft._client.session import Session, encoded, handle_of, read_handle
from trioraft._client.watching import Watch
from trioraft._clock import Clock
from trioraft._commands import Command, Query
from trioraft._errors import (
    Busy,
    ProtocolError,
)
from trioraft._limits import (
    MAX_CLIENT_BYTES,
    MAX_CLIENT_COMMANDS,
    SESSION_SECONDS,
)
from trioraft._reads import Answer, Consistency, Linearizable, Token
from trioraft._sessions import Call, Code, Reply, pack_call
from trioraft._transport.websocket import WebSocketTransport
from trioraft._wire.levels import consistency_of
from trioraft.abc import Transport

R = TypeVar("R")

_LINEARIZABLE: Final = Linearizable()
_AGAIN: Final = (0.01, 0.05)
"""Seconds before another attempt, at least and at most."""

_GOODBYE_PASSES: Final = 5
"""Passes of the loop in which the last message can leave, if nothing is in its way."""

_ATTEMPTS: Final = 8
"""So many attempts at one server, before another one is asked."""

_SURELY_NOT: Final = (Code.NOT_LEADER, Code.BUSY, Code.STOPPED, Code.REJECTED)
"""This attempt has done nothing, and will not."""


class Pending(Generic[R]):
    """A command that has a name before it is sent, so that its outcome can be asked for later."""

    def __init__(self, client: Client, session: Session, data: bytes, given: type[Any]) -> None:
        self._client = client
        self._session = session
        self._sequence = session.begin()
        self._data = data
        self._given = given

    @property
    def handle(self) -> bytes:
        """Names the command for good: `resume` takes it, in any process, while the session lives.

        That is an hour of the cluster's time after the last sign of life, and for as long as its
        client does not ask for more than 8,000 others meanwhile.
        """
        return handle_of(self._client.cluster, self._session.id, self._sequence, self._data)

    async def do(self) -> R:
        """Have it done; raises like `Client.do`, and may be called again: it happens once."""
        call = Call(self._session.id, self._sequence, self._session.lowest)
        result: R = await self._client._finish(call, self._data, self._given)
        return result


class Client:
    """Talks to a cluster, to its leader if it can be reached; see `open_client`.

    Any number of tasks may use it at once.  What they ask for while a message is on its way leaves
    together in the next one.
    """

    def __init__(self, connected: Connected, clock: Clock, random: Random) -> None:
        self._connected = connected
        self._clock = clock
        self._random = random
        self._session: Session | None = None
        self._renewing = trio.Lock()
        self._index = 0
        self._under_way = 0
        self._bytes = 0
        self._room = trio.lowlevel.ParkingLot()
        self._active_at = clock.now()

    @property
    def cluster(self) -> str:
        """The cluster's id."""
        return self._connected.cluster or ""

    @property
    def token(self) -> Token:
        """Covers all that this client has done and seen; for `AtLeast`, here or elsewhere."""
        return Token(self.cluster, self._index)

    # -- commands ------------------------------------------------------------------------------

    async def do(self, command: Command[R]) -> R:
        """Have a command done, exactly once, and return what its `apply` returned.

        Finds the leader, and waits for one; asks again after every loss.  Cancelling withdraws a
        command that has not left yet; after that its outcome is unknown to the caller: who must
        learn it later holds a handle (`prepare`).

        Raises:
            CommandRejected: malformed, unknown to the machine, or too large; surely not done.
            Busy: the server has as many commands waiting as it takes; surely not done.
            CommandFailed: it is done, and its `apply` raised.
            OutcomeUnknown: see its subclass `SessionExpired`.
        """
        data = encoded(command)
        async with self._admitted(len(data)):
            while True:
                session = await self._an_open_session()
                sequence = session.begin()
                try:
                    call = Call(session.id, sequence, session.lowest)
                    result: R = await self._finish(call, data, type(command), fresh=True)
                    return result
                except _NeverSent:
                    self._over(session)
                finally:
                    # Whoever waited has gone, or knows: nobody has a handle of it.
                    session.done(sequence)

    def prepare(self, command: Command[R]) -> Pending[R]:
        """Give a command a handle before it is sent.  Sends nothing.

        Raises:
            CommandRejected: malformed or too large.
            Busy: the session has just expired, and another one is not open yet.
        """
        data = encoded(command)
        if self._session is None:
            raise Busy("no session is open at the moment; try again")
        return Pending(self, self._session, data, type(command))

    async def resume(self, handle: bytes, command: type[Command[R]] | None = None) -> Any:
        """Learn what became of a command, by its handle; it is done now if it was not.

        Args:
            handle: of a `Pending`, or of an `OutcomeUnknown` that a client raised.
            command: its class, so that the result has the type that it says; else it is plain.

        Raises:
            ValueError: this is no handle.
            ProtocolError: it is another cluster's.
            SessionExpired: too late: whether it was done before is unknown; it will not be done.
            CommandError: as `do`.
        """
        cluster, session, sequence, data = read_handle(handle)
        if cluster != self.cluster:
            raise ProtocolError(f"a handle of the cluster {cluster!r}; this is {self.cluster!r}")
        return await self._finish(Call(session, sequence, 1), data, command)

    async def _finish(
        self, call: Call, data: bytes, given: type[Any] | None, *, fresh: bool = False
    ) -> Any:
        """Ask until the outcome is known.

        Args:
            call: which command of which session.
            data: the encoded command.
            given: its class.
            fresh: it is sent for the first time, and only from here.
        """
        packed = pack_call(call, data)
        handle = handle_of(self.cluster, call.session, call.sequence, data)
        surely_not = fresh
        for attempt in count(1):
            line = await self._connected.line()
            reply = await self._ask(line, packed)
            self._saw(reply.index)
            match reply.code:
                case Code.VALUE:
                    return value_of(given, reply)
                case Code.EXPIRED if surely_not:
                    raise _NeverSent
                case Code.BUSY | Code.REJECTED if surely_not:
                    raise error_of(reply, handle)
                case Code.UNKNOWN:
                    surely_not = False
                case code if code not in _SURELY_NOT:
                    raise error_of(reply, handle)
            await self._pause(line, attempt)
        raise AssertionError("it counts for ever")

    async def _ask(self, line: Line, packed: bytes) -> Reply:
        asked = Asked(packed)
        line.call(asked)
        try:
            return await asked.result()
        except trio.Cancelled:
            line.withdraw(asked)
            raise

    async def _pause(self, line: Line, attempt: int) -> None:
        """Wait before the next attempt; after some of them another server may know more."""
        if attempt % _ATTEMPTS == 0:
            self._connected.leave(line)
        pause = self._random.uniform(*_AGAIN)
        await self._clock.sleep_until(self._clock.now() + pause)

    def _saw(self, index: int) -> None:
        self._index = max(self._index, index)
        self._active_at = self._clock.now()

    @asynccontextmanager
    async def _admitted(self, size: int) -> AsyncGenerator[None]:
        """Wait in front while as much is under way as may be."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._under_way >= MAX_CLIENT_COMMANDS or self._bytes >= MAX_CLIENT_BYTES:
            await self._room.park()
        self._under_way += 1
        self._bytes += size
        try:
            yield
        finally:
            self._under_way -= 1
            self._bytes -= size
            self._room.unpark()

    # -- queries -------------------------------------------------------------------------------

    async def read(self, query: Query[R], consistency: Consistency = _LINEARIZABLE) -> Answer[R]:
        """Have a query answered, by the leader if it can be reached.

        Asks again after every loss, and waits for a leader where it takes one.

        Raises:
            CommandRejected: the machine does not know the query.
            ProtocolError: the token of `AtLeast` is another cluster's.
            CommandFailed: `answer` raised.
        """
        data = encoded(query)
        for attempt in count(1):
            line = await self._connected.line()
            question = Question(data, consistency)
            line.ask(question)
            told, place = await question.result()
            if told.code == Code.VALUE:
                code, answer = told.answers[place]
                if code != Code.BUSY:
                    self._saw(told.index)
                    reply = Reply(Code(code), told.index, 0, answer)
                    if code != Code.VALUE:
                        raise error_of(reply, b"")
                    age = math.inf if told.age is None else told.age
                    level = _level_told(told.level, consistency)
                    return Answer(value_of(type(query), reply), level, told.index, age)
            elif told.code == Code.REJECTED:
                raise ProtocolError(str(error_of(Reply(Code.REJECTED, 0, 0, told.data), b"")))
            await self._pause(line, attempt)
        raise AssertionError("it counts for ever")

    # -- watching ------------------------------------------------------------------------------

    @asynccontextmanager
    async def watch(self, after: Token | None = None, of: Any = None) -> AsyncGenerator[Watch]:
        """Iterate over what changes behind a place in the log: each change once, in order.

        What changes is what the machine announces, if its `changes` names types, else its commands.
        Servers and leaders may come and go meanwhile.  Changes are fetched as they are read: a slow
        reader costs nobody anything, until what it has not read is gone everywhere.

        Args:
            after: where to begin; None: at what this client has seen so far, its `token`.
            of: the type of the changes (attrs classes, a union of them); None: plain values.

        Raises:
            Compacted: by the iteration: no server that can be reached has what comes next.
            ProtocolError: the token is another cluster's.
        """
        token = self.token if after is None else after
        if token.cluster != self.cluster:
            raise ProtocolError(
                f"a token of the cluster {token.cluster!r}; this is {self.cluster!r}"
            )
        yield Watch(self._connected, token, of, self._pause)

    # -- sessions ------------------------------------------------------------------------------

    async def _an_open_session(self) -> Session:
        if self._session is None:
            async with self._renewing:
                if self._session is None:
                    reply = await self._manage("open", 0)
                    self._session = Session(reply.index)
        return self._session

    def _over(self, session: Session) -> None:
        if self._session is session:
            self._session = None

    async def _manage(self, verb: str, session: int) -> Reply:
        """Ask until it is answered."""
        for attempt in count(1):
            line = await self._connected.line()
            asked = Asked(b"")
            line.manage(verb, session, asked)
            reply = await asked.result()
            if reply.code in (Code.VALUE, Code.EXPIRED):
                self._saw(reply.index)
                return reply
            await self._pause(line, attempt)
        raise AssertionError("it counts for ever")

    async def keep_alive(self) -> None:
        """Show the cluster that the session is in use, though nothing is asked for."""
        while True:
            due = self._active_at + SESSION_SECONDS / 3
            await self._clock.sleep_until(due)
            session = self._session
            if self._active_at + SESSION_SECONDS / 3 > due:
                continue
            self._active_at = self._clock.now()
            if session is not None and await self._expired(session):
                self._over(session)

    async def _expired(self, session: Session) -> bool:
        return (await self._manage("keep", session.id)).code is Code.EXPIRED

    def say_goodbye(self) -> None:
        """Let go of the session, if nobody may come back to it; waits for nothing."""
        session, line = self._session, self._connected.now
        if session is not None and line is not None and not session.unanswered:
            line.manage("close", session.id, Asked(b""))


class _NeverSent(Exception):
    """The session had expired before the command was sent for the first time."""


@asynccontextmanager
async def open_client(
    addresses: Iterable[str],
    *,
    transport: Transport | None = None,
    clock: Clock | None = None,
    random: Random | None = None,
) -> AsyncGenerator[Client]:
    """Talk to a cluster; enters once a leader was found and has opened a session.

    Args:
        addresses: of some or all of its servers, in the transport's form.
        transport: how to reach them; websockets by default.
        clock: another clock than Trio's.
        random: another source of chance.

    Raises:
        ValueError: there is no address, or one can't be read.
        ProtocolError: at the addresses are servers of different clusters.
    """
    clock = Clock() if clock is None else clock
    random = Random() if random is None else random
    if transport is None:
        transport = WebSocketTransport("ws://127.0.0.1:0")
    given: Sequence[str] = list(addresses)
    if not given:
        raise ValueError("a client needs the address of at least one server")
    for address in given:
        transport.check_address(address)
    connected = Connected(given, transport, clock, random)
    client = Client(connected, clock, random)
    async with background() as nursery:
        nursery.start_soon(connected.run)
        await client._an_open_session()
        nursery.start_soon(client.keep_alive)
        yield client
        client.say_goodbye()
        for _ in range(_GOODBYE_PASSES):
            await trio.lowlevel.checkpoint()


def _level_told(name: str, asked: Consistency) -> Consistency:
    told = consistency_of(name, "", 0, None)
    return asked if type(told) is type(asked) else told
