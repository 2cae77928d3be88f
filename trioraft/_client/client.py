"""A client of a cluster: it finds who leads, and does not let go before the outcome is known."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final, Generic, NoReturn, TypeVar

import trio

from trioraft._client.connection import Connected
from trioraft._client.line import Asked, Line, Question
from trioraft._client.replies import error_of, value_of
from trioraft._client.room import Room
from trioraft._client.session import (
    Session,
    encoded,
    handle_of,
    read_entry_handle,
    read_handle,
)
from trioraft._client.watching import Watch
from trioraft._clock import Bell, Clock
from trioraft._commands import Command, Query
from trioraft._errors import Busy, OutcomeUnknown, ProtocolError, ResultLost
from trioraft._limits import SESSION_SECONDS
from trioraft._reads import (
    Answer,
    AtLeast,
    Consistency,
    Linearizable,
    Token,
    no_consistency,
)
from trioraft._sessions import Call, Code, Reply, code_of, pack_call
from trioraft._wire.asking import Told
from trioraft._wire.levels import level_told

R = TypeVar("R")

_LINEARIZABLE: Final = Linearizable()
_AGAIN: Final = (0.02, 0.5)
"""Seconds before another attempt, at first and at most; drawn from half to the whole of it."""

_ATTEMPTS: Final = 8
"""So many attempts at one server, before another one is asked."""

_APPLIED: Final = (Code.VALUE, Code.RAISED, Code.EXPIRED, Code.FORGOTTEN)
"""What came of a committed entry; the index that goes with it is one that was seen."""


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
    together in the next one.  Once its context is left, calls raise `trio.ClosedResourceError`.
    """

    def __init__(self, connected: Connected, clock: Clock, random: Random) -> None:
        self._connected = connected
        self._clock = clock
        self._random = random
        self._session: Session | None = None
        self._renewing = trio.Lock()
        self._is_over = Bell()
        self._index = 0
        self._room = Room()
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
        await trio.lowlevel.checkpoint_if_cancelled()
        # Nothing else here waits, unless it must, before the command is on its way: a call of an
        # asynchronous function costs as much as a tenth of the whole.
        if self._room.is_full:
            await self._room.wait()
        self._room.take(len(data))
        try:
            result: R = await self._do(data, type(command))
            return result
        finally:
            self._room.give_back(len(data))

    async def _do(self, data: bytes, given: type[Any]) -> Any:
        attempt, forgot = 0, None
        while True:
            attempt += 1
            session = self._session or await self._an_open_session()
            sequence = session.begin()
            named = False
            try:
                call = Call(session.id, sequence, session.lowest)
                return await self._finish(call, data, given, fresh=True)
            except _NeverSent:
                if session is forgot and self._session is session:
                    self._session = None  # not its window: somebody else has used it up
                forgot = session
            except OutcomeUnknown:
                named = True
                raise
            finally:
                if not named:  # whoever waited has gone, or knows, and nobody has a handle
                    session.done(sequence)
            await self._pause(await self._connected.line(), attempt, Code.BUSY)

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

        A command of `Server.do` has no session: it is not done now, and its result is not kept, but
        whether it was done is known.

        Args:
            handle: of a `Pending`, or of an `OutcomeUnknown` that a client or a server raised.
            command: its class, so that the result has the type that it says; else it is plain.

        Raises:
            ValueError: this is no handle.
            ProtocolError: it is another cluster's.
            SessionExpired: too late: whether it was done before is unknown; it will not be done.
            ResultLost: a command of `Server.do` is done.
            CommandRejected: a command of `Server.do` is surely not done.
            OutcomeUnknown: too long ago: the log no longer says which entry stood there.
            CommandError: as `do`.
        """
        entry = read_entry_handle(handle)
        if entry is not None:
            self._check_cluster("a handle", entry[0])
            return await self._settle(handle, *entry[1:])
        cluster, session, sequence, data = read_handle(handle)
        self._check_cluster("a handle", cluster)
        return await self._finish(Call(session, sequence, 1), data, command)

    def _check_cluster(self, what: str, cluster: str) -> None:
        if cluster != self.cluster:
            raise ProtocolError(f"{what} of the cluster {cluster!r:.40}; this is {self.cluster!r}")

    async def _settle(self, handle: bytes, index: int, term: int) -> NoReturn:
        reply = await self._until_told(
            lambda line, asked: line.settle(index, term, asked),
            (Code.VALUE, Code.REJECTED, Code.FORGOTTEN),
        )
        if reply.code is Code.VALUE:
            raise ResultLost(f"entry {index} of term {term} is committed; its result is not kept")
        raise error_of(reply, handle)

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
        surely_not, attempt = fresh, 0
        while True:
            attempt += 1
            line = self._connected.now
            if line is None or not line.is_open:
                line = await self._connected.line()
            asked = Asked(packed)
            line.call(asked)
            try:
                reply = await asked.result()
            except trio.Cancelled:
                line.withdraw(asked)
                raise
            if reply.code in _APPLIED:
                self._took_part(call.session, reply)
            match reply.code:
                case Code.VALUE:
                    return value_of(given, reply)
                case Code.EXPIRED | Code.FORGOTTEN if surely_not:
                    raise _NeverSent
                case Code.BUSY if surely_not:
                    raise error_of(reply, b"")
                case Code.NOT_LEADER | Code.STOPPED | Code.BUSY:
                    pass  # this attempt has done nothing, and will not
                case Code.UNKNOWN:
                    surely_not = False
                case _:
                    raise self._why_none(call, data, reply, surely_not=surely_not)
            await self._pause(line, attempt, reply.code)

    def _why_none(self, call: Call, data: bytes, reply: Reply, *, surely_not: bool) -> Exception:
        handle = handle_of(self.cluster, call.session, call.sequence, data)
        error = error_of(reply, handle)
        if reply.code is Code.REJECTED and not surely_not:
            return OutcomeUnknown(f"{error}; whether it was done before is unknown", handle)
        return error

    async def _pause(self, line: Line, attempt: int, code: int) -> None:
        """Wait before the next attempt; after some of them another server may know more.

        Who is merely busy is not left.  News of a line or a leader end the pause early.
        """
        if attempt % _ATTEMPTS == 0 and code != Code.BUSY:
            self._connected.leave(line)
        pause = min(_AGAIN[0] * 2 ** min(attempt - 1, _ATTEMPTS), _AGAIN[1])
        pause *= self._random.uniform(0.5, 1)
        with self._clock.until(self._clock.now() + pause):
            await self._connected.news()

    def _took_part(self, session: int, reply: Reply) -> None:
        """An entry of a session has been applied: a sign of life, or the news that it is over."""
        self._saw(reply.index)
        if self._session is not None and self._session.id == session:
            if reply.code is Code.EXPIRED:
                self._session = None
                self._is_over.ring()
            else:
                self._active_at = self._clock.now()

    def _saw(self, index: int) -> None:
        self._index = max(self._index, index)

    # -- queries -------------------------------------------------------------------------------

    async def read(self, query: Query[R], consistency: Consistency = _LINEARIZABLE) -> Answer[R]:
        """Have a query answered, by the leader if it can be reached.

        Asks again after every loss, and waits for a leader where it takes one.

        Raises:
            CommandRejected: the machine does not know the query.
            ProtocolError: the token of `AtLeast` is another cluster's.
            CommandFailed: `answer` raised.
            TypeError: `consistency` is none.
        """
        data = encoded(query)
        if not isinstance(consistency, Consistency):
            raise TypeError(no_consistency(consistency))
        if isinstance(consistency, AtLeast):
            self._check(consistency.token)
        attempt = 0
        while True:
            attempt += 1
            line = self._connected.now
            if line is None or not line.is_open:
                line = await self._connected.line()
            told, place = await self._question(line, Question(data, consistency))
            code, answer = told.code, told.data
            if told.code == Code.VALUE:
                code, answer = told.answers[place]
                if code != Code.BUSY:
                    self._saw(told.index)
                    reply = Reply(code_of(code), told.index, 0, answer)
                    if code != Code.VALUE:
                        raise error_of(reply, b"")
                    age = math.inf if told.age is None else told.age
                    level = level_told(told.level, consistency)
                    return Answer(
                        value_of(type(query), reply), level, told.index, age, self.cluster
                    )
            elif code == Code.REJECTED:
                raise ProtocolError(str(error_of(Reply(Code.REJECTED, 0, 0, answer), b"")))
            await self._pause(line, attempt, code)

    async def _question(self, line: Line, question: Question) -> tuple[Told, int]:
        line.ask(question)
        try:
            return await question.result()
        except trio.Cancelled:
            line.forget(question)
            raise

    def _check(self, token: Token) -> None:
        if not isinstance(token, Token):
            raise TypeError(f"{token!r:.100} is no Token: see Token.parse")
        self._check_cluster("a token", token.cluster)

    # -- watching ------------------------------------------------------------------------------

    @asynccontextmanager
    async def watch(self, after: Token | None = None, of: Any = None) -> AsyncGenerator[Watch]:
        """Iterate over what changes behind a place in the log: each change once, in order.

        What changes is what the machine announces, if its `changes` names types, else its commands.
        Servers and leaders may come and go meanwhile.  Changes are fetched as they are read: a slow
        reader costs nobody anything, until what it has not read is gone everywhere.

        Args:
            after: where to begin; None: at what this client has seen so far, its `token`.
            of: all types of the changes, a union of attrs classes; None: they come as
                `{name: fields}`, with the name of the class or command.

        Raises:
            Compacted: by the iteration: no server that can be reached has what comes next.
            ProtocolError: the token is another cluster's; by the iteration: a change is of a type
                that `of` does not name.
            TypeError: `of` is no such type, or `after` no token.
        """
        token = self.token if after is None else after
        self._check(token)
        yield Watch(self._connected, token, of, self._pause, self._clock)

    # -- sessions ------------------------------------------------------------------------------

    async def _an_open_session(self) -> Session:
        if self._session is None:
            async with self._renewing:
                if self._session is None:
                    reply = await self._manage("open", 0)
                    self._session = Session(reply.index)
                    self._took_part(reply.index, reply)
        return self._session

    async def _manage(self, verb: str, session: int) -> Reply:
        return await self._until_told(
            lambda line, asked: line.manage(verb, session, asked), (Code.VALUE, Code.EXPIRED)
        )

    async def _until_told(
        self, ask: Callable[[Line, Asked], None], told: tuple[Code, ...]
    ) -> Reply:
        """Ask until the answer is one of these."""
        attempt = 0
        while True:
            attempt += 1
            line = await self._connected.line()
            asked = Asked(b"")
            ask(line, asked)
            reply = await asked.result()
            if reply.code in told:
                return reply
            await self._pause(line, attempt, reply.code)

    async def keep_alive(self) -> None:
        """Have a session, and show the cluster that it is in use, though nothing is asked for."""
        while True:
            session = await self._an_open_session()
            with self._clock.until(self._active_at + SESSION_SECONDS / 3):
                await self._is_over.wait()
            if self._session is session and self._silent_for_long():
                self._took_part(session.id, await self._manage("keep", session.id))

    def _silent_for_long(self) -> bool:
        return self._clock.now() >= self._active_at + SESSION_SECONDS / 3

    def say_goodbye(self) -> None:
        """Let go of the session, if nobody may come back to it; waits for nothing."""
        session, line = self._session, self._connected.now
        if session is not None and line is not None and not session.unanswered:
            line.manage("close", session.id, Asked(b""))


class _NeverSent(Exception):
    """The session was over before the command was in any log, or had gone on without it."""
