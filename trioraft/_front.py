"""What a server does for those who ask from outside: whoever leads, they are served here.

A command goes to the leader's log if this server leads, and else to the leader, over a line of its
own; it is forwarded once.  Nobody retries here on anybody's behalf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import outcome

from trioraft._answering import Answering
from trioraft._applier import reply_of
from trioraft._client.line import Asked, Line
from trioraft._client.replies import error_of, value_of
from trioraft._clock import Clock
from trioraft._commands import Done, Vocabulary, name_of
from trioraft._core import Core
from trioraft._errors import (
    NotLeaderError,
    OutcomeUnknown,
    ProtocolError,
    ServerStopped,
)
from trioraft._forwarding import Forwarder
from trioraft._handshake import Handshake
from trioraft._limits import MAX_COMMAND_BYTES, MAX_ERROR_CHARACTERS, SESSION_SECONDS
from trioraft._promise import Promise
from trioraft._reads import Answer, Consistency
from trioraft._rules.membership import Configuration
from trioraft._rules.node import Leading
from trioraft._sessions import (
    CALL_BYTES,
    Call,
    Code,
    Kept,
    Opened,
    Reply,
    close_session,
    keep_session,
    open_session,
    pack_call,
    refusal_of,
    unpack_call,
)
from trioraft._snapshots.form import Summary
from trioraft._status import Status
from trioraft._tickets import Lost, Result, Ticket
from trioraft._turns import Turns
from trioraft._web_members import Administrator
from trioraft._wire.asking import Welcome
from trioraft._wire.frames import Kind
from trioraft._wire.strict import pack
from trioraft.abc import SnapshotId, Transport

_TURNS: Final = 32
"""So many messages of clients are read or written in one pass of the loop: some 5 ms."""

Tell = Callable[[Reply], None]
"""Called once, with what became of a command."""


class Front:
    """The cluster, as those see it who are connected to this server."""

    def __init__(
        self,
        *,
        core: Core,
        vocabulary: Vocabulary,
        machine: Any,
        handshake: Handshake,
        transport: Transport,
        address: Callable[[], str],
        status: Callable[[], Status],
        administration: Administrator,
        patience: float,
        clock: Clock,
    ) -> None:
        """Begin.

        Args:
            core: what this server is.
            vocabulary: what its machine understands.
            machine: answers queries.
            handshake: knows what the others understand.
            transport: reaches the leader.
            address: where this server is told to be found.
            status: the server's state at a glance.
            administration: changes the members.
            patience: seconds in which the leader must have answered a first word.
            clock: this server's.
        """
        self.vocabulary = vocabulary
        self.core = core
        self.status = status
        self.administration = administration
        self.machine = machine
        self.answering = Answering(core)
        self.turns = Turns(_TURNS)
        self.forwarder = Forwarder(core, transport, patience, clock)
        self._handshake = handshake
        self._address = address

    @property
    def configuration(self) -> Configuration:
        """The one in force."""
        return self.core.node.configuration

    @property
    def welcome(self) -> Welcome:
        """Who this server is, and who leads."""
        node = self.core.node
        leader, address = node.leader, self.core.not_leader().address
        return Welcome(
            node.configuration.cluster,
            node.me.name,
            None if leader is None else leader.name,
            self._address() if leader == node.me else address,
        )

    # -- commands ------------------------------------------------------------------------------

    def call(self, calls: Iterable[tuple[bytes, Tell]], *, forwarded: bool) -> None:
        """Have commands done, each as `pack_call` has made it."""
        leads, ignorance = self._leads, self._handshake.gate.ignorance
        for data, tell in calls:
            if len(data) > CALL_BYTES + MAX_COMMAND_BYTES:
                size = len(data) - CALL_BYTES
                tell(rejected(f"a command of {size} bytes; the most is {MAX_COMMAND_BYTES}"))
            elif leads:
                self._take(data, tell, ignorance)
            else:
                self._pass_on(lambda line, asked: line.call(asked), data, tell, forwarded=forwarded)

    def manage(self, verb: str, session: int, tell: Tell, *, forwarded: bool) -> None:
        """Open ("open") a session, keep one alive ("keep"), or be done with it ("close").

        Raises:
            ProtocolError: it is none of these; found out before others hear of it.
        """
        match verb:
            case "open":
                data = open_session(SESSION_SECONDS)
            case "keep":
                data = keep_session(session)
            case "close":
                data = close_session(session)
            case _:
                raise ProtocolError(f"nothing about sessions is called {verb!r:.40}")
        if self._leads:
            self._submit(Ticket(data, None, Kind.SESSION, _telling(tell, self.vocabulary)), tell)
        else:
            self._pass_on(
                lambda line, asked: line.manage(verb, session, asked),
                data,
                tell,
                forwarded=forwarded,
            )

    async def settle(self, index: int, term: int, *, forwarded: bool) -> Reply:
        """Say whether an entry is done, `VALUE`, or surely is not, `REJECTED`.

        `FORGOTTEN`: a snapshot holds what became of it, and the log no longer says.
        """
        if not self._leads:
            return await _told(
                lambda tell: self._pass_on(
                    lambda line, asked: line.settle(index, term, asked),
                    b"",
                    tell,
                    forwarded=forwarded,
                )
            )
        try:
            was_committed = await self.answering.was_committed(index, term)
        except NotLeaderError:
            return self.core.refusal()
        except ServerStopped:
            return Reply(Code.STOPPED, 0, 0)
        if was_committed is None:
            return Reply(Code.FORGOTTEN, index, term)
        if was_committed:
            return Reply(Code.VALUE, index, term)
        return rejected(f"entry {index} of term {term} was never committed: it is not done")

    @property
    def _leads(self) -> bool:
        return isinstance(self.core.node.role, Leading)

    def _pass_on(
        self,
        ask: Callable[[Line, Asked], None],
        data: bytes,
        tell: Tell,
        *,
        forwarded: bool,
    ) -> None:
        """Ask the leader, unless there is none, or who asks here is a server itself."""
        if forwarded or self.core.node.leader is None:
            tell(self.core.refusal())
        else:
            self.forwarder.forward(ask, data, tell)

    def _take(self, data: bytes, tell: Tell, ignorance: Mapping[str | None, str | None]) -> None:
        try:
            call, command_data = unpack_call(data)
            command = self.vocabulary.decode(command_data)
        except ProtocolError as error:
            tell(rejected(str(error)))
            return
        name = name_of(command)
        if ignorance[name] is not None:
            tell(rejected(f"{ignorance[name]} does not know the command {name!r} yet"))
        else:
            kind = Kind.CALL if call.session else Kind.COMMAND
            payload = data if call.session else command_data
            ticket = Ticket(payload, command, kind, _telling(tell, self.vocabulary))
            self._submit(ticket, tell)

    def _submit(self, ticket: Ticket, tell: Tell) -> None:
        if self.core.tickets.is_full:
            tell(Reply(Code.BUSY, 0, 0))
        else:
            self.core.tickets.submit(ticket)

    # -- for whoever waits in this process -----------------------------------------------------

    async def do(self, command: Any, call: Call | None) -> Done:
        """Have a command done, by whichever server leads.

        Raises:
            CommandError: what became of it; `CommandFailed` is what its apply raised.
            ServerStopped: this server does not run.
        """
        data, _ = self.vocabulary.encode(command)
        packed = pack_call(Call(0, 0, 0) if call is None else call, data)
        reply = _done(await _told(lambda tell: self.call([(packed, tell)], forwarded=False)))
        return Done(value_of(type(command), reply), reply.index, reply.term)

    async def open_session(self) -> int:
        """Open a session, in which a command can be sent again without being done again.

        Raises:
            CommandError: it was not opened.
            ServerStopped: this server does not run.
        """
        opened = await _told(lambda tell: self.manage("open", 0, tell, forwarded=False))
        return _done(opened).index

    async def take_snapshot(self, least: int | None) -> Summary:
        """Have a snapshot taken, see `Server.take_snapshot`; one that holds entry `least` will do.

        So who came back because it took too long finds it, although more has been applied.
        """
        newest = self.core.keeper.newest
        if least is not None and newest is not None and newest.head.index >= least:
            return newest
        return await self.core.keeper.take()

    async def snapshot_piece(self, snapshot: SnapshotId, offset: int) -> bytes:
        """Some bytes of a snapshot from `offset` on; it stays for a minute after each piece.

        Raises:
            StorageError: it is gone.
        """
        return await self.core.keeper.read(snapshot, offset, MAX_COMMAND_BYTES)

    async def read(self, query: Any, consistency: Consistency) -> Answer[Any]:
        """Have a query answered by this server's machine; see `Answering.answer`."""
        self.vocabulary.check_query(query)
        return await self.answering.answer(lambda: query.answer(self.machine), consistency)


async def _told(ask: Callable[[Tell], None]) -> Reply:
    """Ask, and wait for what is told."""
    promise: Promise[Reply] = Promise()
    ask(promise.keep)
    return await promise.result()


def _done(reply: Reply) -> Reply:
    """The reply, if it is about something that was done; else its error is raised."""
    if reply.code is not Code.VALUE:
        raise error_of(reply, b"")
    return reply


def rejected(why: str) -> Reply:
    """It is not done, and why; the words may be a stranger's."""
    return Reply(Code.REJECTED, 0, 0, pack(["CommandRejected", why[:MAX_ERROR_CHARACTERS]]))


def _telling(tell: Tell, vocabulary: Vocabulary) -> Callable[[Ticket, Result | Lost], None]:
    """What a ticket calls with its result: tells it in the form in which it is sent."""

    def told(ticket: Ticket, result: Result | Lost) -> None:
        if isinstance(result, Reply):  # first, and no `match`: this is what every call comes to
            tell(result)
            return
        index, term = ticket.index, ticket.term
        match result:
            case outcome.Value(Opened()):
                tell(Reply(Code.VALUE, index, term))
            case outcome.Value(Kept(was_open)):
                tell(Reply(Code.VALUE if was_open else Code.EXPIRED, index, term))
            case NotLeaderError():
                tell(refusal_of(result))
            case OutcomeUnknown():
                tell(Reply(Code.UNKNOWN, index, term))
            case ServerStopped():
                tell(Reply(Code.STOPPED, 0, 0))
            case outcome.Error(error):
                tell(reply_of(vocabulary, index, term, type(ticket.command), None, error))
            case outcome.Value(value):
                tell(reply_of(vocabulary, index, term, type(ticket.command), value, None))

    return told
