"""Who waits for the result of which command.

Callers queue in front of the rules.  The leader takes all that wait at once; from then on a
command has an index and a term, and exactly one of four ends: the applier answers it, leadership
is lost, it is withdrawn while it still queues, or the server ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import outcome
import trio
from attrs import define

from trioraft._clock import Bell
from trioraft._errors import InternalError, NotLeaderError, OutcomeUnknown, ServerStopped
from trioraft._limits import (
    MAX_APPEND_BYTES,
    MAX_LOG_ENTRIES_PER_REQUEST,
    MAX_PENDING_BYTES,
    MAX_PENDING_COMMANDS,
)
from trioraft._promise import Promise
from trioraft._sessions import Reply
from trioraft._wire.frames import Kind
from trioraft._wire.strict import pack

Lost = NotLeaderError | OutcomeUnknown | ServerStopped
Result = outcome.Outcome[Any] | Reply
"""What came of an entry: of a session's command it is in the form in which it is kept."""


@define(eq=False)
class Ticket:
    """One entry, most often a command, on its way to its result."""

    data: bytes
    """The payload of the entry, without the time."""
    command: Any = None
    """What a command's bytes hold."""
    kind: Kind = Kind.COMMAND
    tell: Callable[[Ticket, Result | Lost], None] | None = None
    """Called once, with the result or with why there is none; None: nobody wants to know."""
    index: int = 0
    """Of the entry; 0 as long as it queues."""
    term: int = 0

    def resolve(self, result: Result | Lost) -> None:
        """This came of it, or nobody here will learn what did."""
        if self.tell is not None:
            self.tell(self, result)


class Tickets:
    """Every command that this server's callers wait for."""

    def __init__(self) -> None:
        self.bell = Bell()
        """Rung when a command queues."""
        self._queue: deque[Ticket] = deque()
        self._appended: dict[int, Ticket] = {}
        self._count = 0
        self._bytes = 0
        self._in_front = trio.lowlevel.ParkingLot()

    @property
    def count(self) -> int:
        """How many commands queue, or have no result yet."""
        return self._count

    async def room(self) -> None:
        """Wait in front until another command may queue."""
        while self.is_full:
            await self._in_front.park()
        self._let_one_in()  # and that one lets the next one in, as long as there is room

    @property
    def is_full(self) -> bool:
        """Whether nothing more may queue for now."""
        return self._count >= MAX_PENDING_COMMANDS or self._bytes >= MAX_PENDING_BYTES

    def _let_one_in(self) -> None:
        if self._in_front and not self.is_full:
            self._in_front.unpark()

    async def answer(self, ticket: Ticket) -> Any:
        """Queue the command, and wait for its result.

        A caller that is cancelled while the command still queues withdraws it.
        """
        promise: Promise[Any] = Promise()

        def give(_: Ticket, result: Result | Lost) -> None:
            match result:
                case outcome.Value(value):
                    promise.keep(value)
                case outcome.Error(error):
                    promise.fail(error)
                case Exception():
                    promise.fail(result)
                case reply:
                    promise.keep(reply)

        ticket.tell = give
        self.submit(ticket)
        try:
            return await promise.result()
        except trio.Cancelled:
            if not ticket.index and ticket in self._queue:
                self._queue.remove(ticket)
                self._leave(ticket)
            raise

    def submit(self, ticket: Ticket) -> None:
        """Queue it; its `tell` is called with the result."""
        self._count += 1
        self._bytes += len(ticket.data)
        self._queue.append(ticket)
        self.bell.ring()

    def take(self) -> tuple[Ticket, ...]:
        """All that queue, up to the bounds of one request; the bell rings again for the rest."""
        taken: list[Ticket] = []
        size = 0
        while self._queue and len(taken) < MAX_LOG_ENTRIES_PER_REQUEST and size < MAX_APPEND_BYTES:
            ticket = self._queue.popleft()
            size += len(ticket.data)
            taken.append(ticket)
        if self._queue:
            self.bell.ring()
        return tuple(taken)

    def appended(self, tickets: Sequence[Ticket], first: int, term: int) -> None:
        """The commands stand in the log, from index `first` on."""
        for index, ticket in enumerate(tickets, first):
            ticket.index = index
            ticket.term = term
            self._appended[index] = ticket

    def at(self, index: int, term: int) -> Ticket | None:
        """The command that was appended as this very entry, if somebody here did."""
        ticket = self._appended.get(index)
        return ticket if ticket is not None and ticket.term == term else None

    def applied(self, ticket: Ticket, result: Result) -> None:
        """The command's entry was applied."""
        del self._appended[ticket.index]
        self._leave(ticket)
        ticket.resolve(result)

    def refuse(self, tickets: Sequence[Ticket], error: NotLeaderError) -> None:
        """The commands were taken from the queue, and not appended."""
        for ticket in tickets:
            self._leave(ticket)
            ticket.resolve(_copy_of(error))

    def leadership_lost(self, commit: int, cluster: str, error: NotLeaderError) -> None:
        """Answer all that the tenure held, but for what is committed: the applier answers that."""
        queued = tuple(self._queue)
        self._queue.clear()
        self.refuse(queued, error)
        for index in [index for index in self._appended if index > commit]:
            self._give_up(self._appended.pop(index), cluster, "leadership was lost")

    def skipped(self, index: int, cluster: str) -> None:
        """A snapshot holds what became of the commands up to `index`, and tells nobody."""
        for one in [one for one in self._appended if one <= index]:
            self._give_up(self._appended.pop(one), cluster, "a snapshot was installed")

    def server_stopped(self, cluster: str) -> None:
        """Answer everybody: the server ends."""
        for ticket in self._queue:
            self._leave(ticket)
            ticket.resolve(ServerStopped("the server stopped; nothing was done"))
        self._queue.clear()
        for ticket in self._appended.values():
            self._give_up(ticket, cluster, "the server stopped")
        self._appended.clear()

    def _give_up(self, ticket: Ticket, cluster: str, why: str) -> None:
        handle = handle_of(cluster, ticket.index, ticket.term)
        entry = f"entry {ticket.index} of term {ticket.term}"
        error = OutcomeUnknown(f"{why} before {entry} was known to be committed", handle)
        self._leave(ticket)
        ticket.resolve(error)

    def _leave(self, ticket: Ticket) -> None:
        self._count -= 1
        self._bytes -= len(ticket.data)
        self._let_one_in()


def handle_of(cluster: str, index: int, term: int) -> bytes:
    """What names an entry for good."""
    return pack([cluster, index, term])


def _copy_of(error: NotLeaderError) -> NotLeaderError:
    """Every caller raises an exception of its own, with its own traceback."""
    return NotLeaderError(error.leader, error.address, error.term)


def tickets_of(batch: object) -> tuple[Ticket, ...]:
    """The batch of commands that the rules have handed back; nothing stands for none."""
    if batch is None:
        return ()
    if not isinstance(batch, tuple):
        raise InternalError(f"a batch of commands came back as {batch!r}")
    return batch
