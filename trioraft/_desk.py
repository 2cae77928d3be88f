"""Where one client is served: what it asks, and what it is told.

Results are sent as they come; all that are known when the stream is free leave in one message.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Final

import trio

from trioraft._applier import reply_of
from trioraft._changes import Change
from trioraft._clock import Clock
from trioraft._errors import NotLeaderError, ProtocolError, ServerStopped
from trioraft._front import Front, rejected
from trioraft._limits import (
    LINK_QUEUE_MESSAGES,
    MAX_ANSWERS_BYTES,
    MAX_APPEND_BYTES,
    MAX_CALLS_PER_MESSAGE,
    MAX_PENDING_COMMANDS,
    MAX_PENDING_QUERIES,
    MAX_WATCHES,
)
from trioraft._reads import Answer
from trioraft._sessions import Code, Reply, refusal_of
from trioraft._transport.conversation import Conversation
from trioraft._wire.asking import (
    Ask,
    Calls,
    Changes,
    ManageSession,
    Result,
    Results,
    Settle,
    Told,
    WatchFrom,
)
from trioraft._wire.codec import FROM_CLIENTS, WireMessage, encode
from trioraft._wire.levels import LEVELS, consistency_of
from trioraft.abc import Connection

PATIENCE: Final = 5.0
"""Seconds of silence, twice, after which a client is given up."""

TURN_SECONDS: Final = 0.002
"""So long queries are answered one behind the other before others have their turn: heartbeats, and
the client, which takes the first answers while the next ones are found."""

IDLE_SECONDS: Final = 1.0
"""After so long a watcher is told how far the log is, though nothing has changed."""

Answers = tuple[tuple[int, bytes], ...]


class Desk:
    """Serves one client, until its stream ends.

    What it asked for goes on: a command that is under way has no way back.
    """

    def __init__(self, front: Front, connection: Connection, clock: Clock) -> None:
        """Begin.

        Args:
            front: what this server can do.
            connection: to the client.
            clock: whose time counts.
        """
        self._front = front
        self._connection = connection
        self._clock = clock
        self._conversation = Conversation(
            connection,
            clock,
            PATIENCE,
            too_much=self._too_much,
            only=FROM_CLIENTS,
            turn=front.turns.take,
        )
        self._results: deque[Result] = deque()
        self._told = front.welcome
        self._calls = 0
        """How many are under way, or have a result that has not left yet."""
        self._unread = 0
        """Bytes of results and answers that have not left yet."""
        self._queries = 0
        self._watches = 0

    def _too_much(self, waiting: int) -> bool:
        """Whether the client must read some of its answers before it may ask on."""
        return (
            waiting >= LINK_QUEUE_MESSAGES
            or self._calls >= MAX_PENDING_COMMANDS
            or self._unread >= MAX_ANSWERS_BYTES
        )

    async def serve(self) -> None:
        """Talk until the stream ends.

        Raises:
            LOST: the stream is over, or the client spoke nonsense.
        """
        self._told = self._front.welcome
        await self._connection.send(encode(self._told))
        async with trio.open_nursery() as nursery:

            def take(message: WireMessage) -> None:
                match message:
                    case Calls():
                        self._call(message)
                    case ManageSession(number, verb, session, forwarded):
                        tell = self._telling(number)
                        self._front.manage(verb, session, tell, forwarded=forwarded)
                    case Settle(number):
                        nursery.start_soon(self._settle, message, self._telling(number))
                    case Ask(_, ()):
                        raise ProtocolError("a question without a query")
                    case Ask(first, queries):
                        if self._queries + len(queries) > MAX_PENDING_QUERIES:
                            self._conversation.post(Told(first, Code.BUSY))
                        else:
                            self._queries += len(queries)
                            nursery.start_soon(self._ask, message)
                    case WatchFrom(number):
                        if self._watches >= MAX_WATCHES:
                            self._conversation.post(Changes(number, Code.BUSY))
                        else:
                            self._watches += 1
                            nursery.start_soon(self._watch, message)
                    case other:
                        raise ProtocolError(f"{type(other).__name__} from a client")

            nursery.start_soon(self._tell_who_leads)
            await self._conversation.run(take)

    async def _tell_who_leads(self) -> None:
        while True:
            changed, welcome = self._front.core.leader_changed, self._front.welcome
            if welcome != self._told:
                self._told = welcome
                self._conversation.post(welcome)
            await changed.wait()

    # -- commands ------------------------------------------------------------------------------

    def _call(self, calls: Calls) -> None:
        tells = map(self._telling, count(calls.first))
        self._front.call(zip(calls.calls, tells, strict=False), forwarded=calls.forwarded)

    def _telling(self, number: int) -> Callable[[Reply], None]:
        def tell(reply: Reply) -> None:
            if not self._results:
                self._conversation.post(self._next_results)
            code, data = reply.code, reply.data
            if self._unread >= MAX_ANSWERS_BYTES:  # it comes back for it, once it reads again
                code, data = Code.UNKNOWN, b""
            self._unread += len(data)
            self._results.append((number, code, reply.index, reply.term, data))

        self._calls += 1
        return tell

    def _next_results(self) -> WireMessage | None:
        taken: list[Result] = []
        size = 0
        while self._results and len(taken) < MAX_CALLS_PER_MESSAGE:
            size += len(self._results[0][-1])
            if taken and size > MAX_APPEND_BYTES:
                break
            taken.append(self._results.popleft())
            self._calls -= 1
            self._unread -= len(taken[-1][-1])
        if self._results:
            self._conversation.post(self._next_results)
        return Results(tuple(taken))

    async def _settle(self, settle: Settle, tell: Callable[[Reply], None]) -> None:
        index, term = settle.index, settle.term
        tell(await self._front.settle(index, term, forwarded=settle.forwarded))

    # -- queries -------------------------------------------------------------------------------

    async def _ask(self, ask: Ask) -> None:
        """Answer a few at a time: heartbeats do not wait for all that somebody wants to know."""
        rest = ask.queries
        try:
            consistency = consistency_of(ask.level, ask.cluster, ask.index, ask.seconds)
            some = partial(self._answers, rest)
            answer = await self._front.answering.answer(some, consistency)
            self._tell(ask.first, answer)
            while rest := rest[len(answer.value) :]:
                await trio.lowlevel.checkpoint()
                some = partial(self._answers, rest)
                answer = await self._front.answering.go_on(some, answer, consistency)
                self._tell(ask.first, answer)
        except NotLeaderError as error:
            where = refusal_of(error).data
            self._conversation.post(Told(ask.first, Code.NOT_LEADER, data=where))
        except ServerStopped:
            self._conversation.post(Told(ask.first, Code.STOPPED))
        except ProtocolError as error:
            why = rejected(str(error)).data
            self._conversation.post(Told(ask.first, Code.REJECTED, data=why))
        finally:
            self._queries -= len(ask.queries)

    def _answers(self, queries: Sequence[bytes]) -> Answers:
        answers: list[tuple[int, bytes]] = []
        room = MAX_ANSWERS_BYTES - self._unread
        until = self._clock.now() + TURN_SECONDS
        for data in queries:
            answers.append(self._answer(data) if room > 0 else (Code.BUSY, b""))
            room -= len(answers[-1][1])
            if self._clock.now() > until:
                break
        return tuple(answers)

    def _answer(self, data: bytes) -> tuple[int, bytes]:
        vocabulary = self._front.vocabulary
        try:
            query = vocabulary.decode_query(data)
        except ProtocolError as why:
            return Code.REJECTED, rejected(str(why)).data
        value, error = None, None
        try:
            value = query.answer(self._front.machine)
        except Exception as raised:  # noqa: BLE001  it is told
            error = raised
        reply = reply_of(vocabulary, 0, 0, type(query), value, error)
        return reply.code, reply.data

    def _tell(self, first: int, answer: Answer[Answers]) -> None:
        """Send the answers, in as many messages as it takes."""
        some: list[tuple[int, bytes]] = []
        size = 0
        for one in answer.value:
            if some and size + len(one[1]) > MAX_APPEND_BYTES:
                self._post_answers(first, answer, some, size)
                some, size = [], 0
            some.append(one)
            size += len(one[1])
        self._post_answers(first, answer, some, size)

    def _post_answers(
        self, first: int, answer: Answer[Answers], some: list[tuple[int, bytes]], size: int
    ) -> None:
        level, index = LEVELS[type(answer.consistency)], answer.index
        age = None if math.isinf(answer.age) else answer.age
        told = Told(first, Code.VALUE, tuple(some), level, index, age)

        def leaves() -> Told:
            self._unread -= size
            return told

        self._unread += size
        self._conversation.post(leaves)

    # -- watching ------------------------------------------------------------------------------

    async def _watch(self, watch: WatchFrom) -> None:
        """Answer once something has changed, or after a while with nothing but a newer index."""
        applier = self._front.core.applier
        seen, code = watch.index, Code.VALUE
        changes: list[Change] | None = []
        try:
            with self._clock.until(self._clock.now() + IDLE_SECONDS):
                while not changes:
                    await applier.reached(seen + 1)
                    changes = applier.changes.since(watch.index)
                    if changes is None:
                        break
                    seen = applier.applied
        except ServerStopped:
            code = Code.STOPPED
        finally:
            self._watches -= 1
        if changes is None:
            self._conversation.post(Changes(watch.number, Code.FORGOTTEN))
        else:
            # What there was no room for comes with the next request.
            all_told = not changes or changes[-1][0] == applier.changes.last
            upto = seen if all_told else changes[-1][0]
            self._conversation.post(Changes(watch.number, code, upto, tuple(changes)))
