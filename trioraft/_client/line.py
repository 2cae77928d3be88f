"""One stream to one server, for all that is asked of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from trioraft._clock import Clock
from trioraft._errors import ProtocolError
from trioraft._limits import MAX_APPEND_BYTES, MAX_CALLS_PER_MESSAGE
from trioraft._promise import Promise
from trioraft._reads import Consistency
from trioraft._sessions import Code, Reply, code_of
from trioraft._transport.conversation import Conversation
from trioraft._wire.asking import (
    Ask,
    Caller,
    Calls,
    Changes,
    ManageSession,
    Results,
    Settle,
    Told,
    WatchFrom,
    Welcome,
)
from trioraft._wire.codec import (
    FROM_SERVERS,
    PROTOCOL_VERSION,
    Refusal,
    WireMessage,
    decode,
    encode,
)
from trioraft._wire.levels import consistency_of, level_of
from trioraft.abc import Connection

_UNSENT: Final = Reply(Code.NOT_LEADER, 0, 0)
_LOST: Final = Reply(Code.UNKNOWN, 0, 0)
_NO_ANSWERS: Final = (Code.NOT_LEADER, Code.BUSY, Code.STOPPED, Code.REJECTED)
_ANSWERS: Final = (Code.VALUE, Code.RAISED, Code.REJECTED, Code.BUSY)


class Question(Promise[tuple[Told, int]]):
    """A query on its way to its answer: the message, and which of its answers is this one's."""

    __slots__ = ("consistency", "data")

    def __init__(self, data: bytes, consistency: Consistency) -> None:
        super().__init__()
        self.data = data
        self.consistency = consistency


class Asked(Promise[Reply]):
    """A command on its way to what becomes of it."""

    __slots__ = ("data", "number", "tell")

    def __init__(self, data: bytes, tell: Callable[[Reply], None] | None = None) -> None:
        super().__init__()
        self.data = data
        self.number = 0
        """0 as long as it queues."""
        self.tell = tell

    def answer(self, reply: Reply) -> None:
        """This is what became of it."""
        if self.tell is not None:
            self.tell(reply)
        else:
            self.keep(reply)


class Line:
    """Asks one server; what queues while a message is on its way leaves in the next one.

    When the stream ends, what never left is surely not done, and the rest is unknown.
    """

    def __init__(
        self, connection: Connection, clock: Clock, patience: float, *, forwards: bool = False
    ) -> None:
        """Begin.

        Args:
            connection: to the server.
            clock: whose time counts.
            patience: seconds of silence after which the server is asked for a sign of life, and
                after a second time given up.
            forwards: a server asks on behalf of its own clients.
        """
        self._connection = connection
        self._conversation = Conversation(
            connection, clock, patience, too_much=lambda waiting: False, only=FROM_SERVERS
        )
        self._forwards = forwards
        self._number = 0
        self._calls: deque[Asked] = deque()
        self._questions: deque[Question] = deque()
        self._asked: dict[int, Asked] = {}
        self._told: dict[int, list[Question]] = {}
        self._watching: dict[int, Promise[Changes]] = {}
        self.welcome: Welcome | None = None
        """What the server has said of itself, and of who leads."""
        self.is_open = True

    # -- asking --------------------------------------------------------------------------------

    def call(self, asked: Asked) -> None:
        """Ask for a command; `pack_call` has made its bytes."""
        if not self.is_open:
            asked.answer(_UNSENT)
            return
        if not self._calls:
            self._conversation.post(self._next_calls)
        self._calls.append(asked)

    def withdraw(self, asked: Asked) -> None:
        """Take a command back, if it has not left yet; else nobody waits for its outcome."""
        if not asked.number and asked in self._calls:
            self._calls.remove(asked)

    def manage(self, verb: str, session: int, asked: Asked) -> None:
        """Open, keep or close a session."""
        self._post(asked, lambda number: ManageSession(number, verb, session, self._forwards))

    def settle(self, index: int, term: int, asked: Asked) -> None:
        """Ask whether an entry was committed."""
        self._post(asked, lambda number: Settle(number, index, term, self._forwards))

    def _post(self, asked: Asked, message: Callable[[int], WireMessage]) -> None:
        """Ask by a message of its own, which is made when it has a number."""
        if not self.is_open:
            asked.answer(_UNSENT)
            return
        number = asked.number = self._next_number()
        self._asked[number] = asked
        self._conversation.post(message(number))

    def ask(self, question: Question) -> None:
        """Ask a query."""
        if not self.is_open:
            question.keep((_no_answer(), 0))
            return
        if not self._questions:
            self._conversation.post(self._next_questions)
        self._questions.append(question)

    def forget(self, question: Question) -> None:
        """Take a query back, if it has not left yet; else nobody waits for its answer."""
        if question in self._questions:
            self._questions.remove(question)

    async def changes(self, index: int) -> Changes:
        """Wait for what changes behind an index."""
        number = self._next_number()
        if not self.is_open:
            return Changes(number, Code.NOT_LEADER)
        promise = self._watching[number] = Promise()
        self._conversation.post(WatchFrom(number, index))
        try:
            return await promise.result()
        finally:
            self._watching.pop(number, None)

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _next_calls(self) -> WireMessage | None:
        """All commands that queue, as much as one message takes."""
        first, size = self._number + 1, 0
        calls: list[bytes] = []
        while self._calls and len(calls) < MAX_CALLS_PER_MESSAGE and size < MAX_APPEND_BYTES:
            asked = self._calls.popleft()
            asked.number = self._next_number()
            self._asked[asked.number] = asked
            calls.append(asked.data)
            size += len(asked.data)
        if self._calls:
            self._conversation.post(self._next_calls)
        return Calls(first, tuple(calls), self._forwards) if calls else None

    def _next_questions(self) -> WireMessage | None:
        """All queries that queue and ask for the same consistency."""
        if not self._questions:
            return None
        consistency, size = self._questions[0].consistency, 0
        together: list[Question] = []
        while (
            self._questions
            and self._questions[0].consistency == consistency
            and len(together) < MAX_CALLS_PER_MESSAGE
            and size < MAX_APPEND_BYTES
        ):
            question = self._questions.popleft()
            size += len(question.data)
            together.append(question)
        if self._questions:
            self._conversation.post(self._next_questions)
        first = self._next_number()
        self._told[first] = together
        queries = tuple(question.data for question in together)
        return Ask(first, queries, *level_of(consistency))

    # -- the stream ----------------------------------------------------------------------------

    async def greet(self, cluster: str | None) -> Welcome:
        """Say who speaks, and hear who answers.

        Raises:
            ProtocolError: the server refuses, or is none.
            LOST: the stream is over.
        """
        await self._connection.send(encode(Caller(PROTOCOL_VERSION, cluster, self._forwards)))
        match decode(await self._connection.receive()):
            case Welcome() as welcome:
                self.welcome = welcome
                return welcome
            case Refusal(reason):
                raise ProtocolError(reason)
            case other:
                raise ProtocolError(f"expected a Welcome, got {type(other).__name__}")

    async def run(self, on_welcome: Callable[[Welcome], None]) -> None:
        """Talk until the stream ends; everything that was asked is answered then.

        Raises:
            LOST: the stream is over.
        """

        def take(message: WireMessage) -> None:
            match message:
                case Results(results):
                    for number, code, index, term, data in results:
                        reply = Reply(code_of(code), index, term, data)
                        asked = self._asked.pop(number, None)
                        if asked is not None:
                            asked.answer(reply)
                case Told() as told:
                    self._take_answers(told)
                case Changes() as changes:
                    promise = self._watching.pop(changes.number, None)
                    if promise is not None:
                        promise.keep(changes)
                case Welcome() as welcome:
                    self.welcome = welcome
                    on_welcome(welcome)
                case other:
                    raise ProtocolError(f"{type(other).__name__} from a server to its client")

        try:
            await self._conversation.run(take)
        finally:
            self._end()

    def _take_answers(self, told: Told) -> None:
        """Some of the answers to one `Ask`, or the reason why there are none.

        Raises:
            ProtocolError: they are nothing that a server says.
        """
        if told.code not in (Code.VALUE, *_NO_ANSWERS):
            raise ProtocolError(f"a query came to {told.code}")
        if told.code == Code.VALUE:
            consistency_of(told.level, "", 0, None)
        for code, _ in told.answers:
            if code not in _ANSWERS:
                raise ProtocolError(f"a query came to {code}")
        questions = self._told.pop(told.first, [])
        count = len(told.answers) if told.code == Code.VALUE else len(questions)
        for place, question in enumerate(questions[:count]):
            question.keep((told, place))
        if count < len(questions):
            self._told[told.first] = questions[count:]

    def _end(self) -> None:
        self.is_open = False
        unsent, sent = list(self._calls), list(self._asked.values())
        self._calls.clear()
        self._asked.clear()
        for asked in unsent:
            asked.answer(_UNSENT)
        for asked in sent:
            asked.answer(_LOST)
        questions = [*self._questions, *(q for qs in self._told.values() for q in qs)]
        self._questions.clear()
        self._told.clear()
        for question in questions:
            question.keep((_no_answer(), 0))
        for number, promise in self._watching.items():
            promise.keep(Changes(number, Code.NOT_LEADER))
        self._watching.clear()


def _no_answer() -> Told:
    return Told(0, Code.NOT_LEADER)
