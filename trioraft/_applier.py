"""Committed entries, one after the other, into the user's state machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import outcome
import trio
from attrs import frozen

from trioraft._changes import ChangeLog
from trioraft._clock import Bell
from trioraft._commands import Announcements, Applied, Vocabulary
from trioraft._errors import CommandFailed, ProtocolError, ServerStopped, StorageError
from trioraft._limits import MAX_ERROR_CHARACTERS
from trioraft._recent import Recent
from trioraft._sessions import Code, Reply, SavedSession, Sessions, unpack_call
from trioraft._stopwatch import Stopwatch
from trioraft._tickets import Ticket, Tickets
from trioraft._wire.frames import Entry, Kind, entry_of, parse_entry
from trioraft._wire.stamps import stamped_data, stamped_time
from trioraft._wire.strict import pack
from trioraft.abc import SavedState, Storage

_PER_TURN: Final = 128
"""Entries between two checkpoints: heartbeats do not wait for a long backlog."""

_READ_BYTES: Final = 1 << 20

_DIFFERS = (MemoryError, RecursionError, OSError)
"""What one server's apply may raise and another's not: no result, the server stops."""


@frozen
class Captured:
    """All that is replicated, as it was when entry `index` had been applied."""

    index: int
    term: int
    time: float
    sessions: Sequence[SavedSession]
    state: bytes | SavedState


class Applier:
    """Applies what is committed and durable here, and answers who waits for it."""

    def __init__(
        self,
        *,
        machine: Any,
        vocabulary: Vocabulary,
        context: Any,
        tickets: Tickets,
        recent: Recent,
        storage: Storage,
        on_applied: Callable[[Entry, outcome.Outcome[Any] | None], None],
        restore: Callable[[], Awaitable[None]],
        stopwatch: Stopwatch,
    ) -> None:
        """Begin with a machine that has seen nothing.

        `restore` is called when an installed snapshot is due, and calls `stands_at` in the end.
        """
        self._machine = machine
        self._vocabulary = vocabulary
        self._announces = tuple(getattr(machine, "changes", ()))
        self._context = context
        self._tickets = tickets
        self._recent = recent
        self._storage = storage
        self._on_applied = on_applied
        self._restore = restore
        self._stopwatch = stopwatch
        self._target = 0
        self._installed = 0
        """The last entry of a snapshot that takes the place of what was to be applied."""
        self._restoring = False
        self._read: Sequence[bytes] = ()
        """What came from the disk last, from `_read_from` on."""
        self._read_from = 0
        self._bell = Bell()
        self._moved = trio.lowlevel.ParkingLot()
        self._ended = False
        self.sessions = Sessions()
        self.changes = ChangeLog()
        self.applied = 0
        """The last index that the machine has seen."""
        self._term = 0
        self._time = 0.0

    def advance(self, index: int) -> None:
        """Everything up to `index` may be applied."""
        self._target = index
        self._bell.ring()

    def installed(self, index: int) -> None:
        """A snapshot has taken the place of all entries up to `index`."""
        self._installed = index

    async def reached(self, index: int) -> None:
        """Return once everything up to `index` has been applied, and the machine can be asked.

        Raises:
            ServerStopped: the server has ended before.
        """
        while self.applied < index or self._restoring:
            if self._ended:
                raise ServerStopped("the server stopped")
            await self._moved.park()

    def end(self) -> None:
        """Nothing more will be applied."""
        self._ended = True
        self._moved.unpark_all()

    async def run(self) -> None:
        """Apply, for ever."""
        while True:
            await self._bell.wait()
            while self.applied < self._target:
                if self.applied < self._installed <= self._target:
                    await self._restore()
                    continue
                frames, parse = await self._next_frames()
                if not frames:
                    break  # a snapshot has taken their place: it is due in a moment
                with self._stopwatch.timing("apply"):
                    for frame in frames:
                        self._apply(parse(frame))
                        if self._stopwatch.turn_is_over:
                            break
                self._moved.unpark_all()
                if self.applied < self._target:
                    await trio.lowlevel.checkpoint()

    async def _next_frames(self) -> tuple[Sequence[bytes], Callable[[bytes], Entry]]:
        """What is due next, and what takes each of them apart; nothing if it was just replaced.

        What memory holds was checked when it came; what the disk holds is checked now.

        Raises:
            StorageError: the disk failed, or lost what was durable.
        """
        first = self.applied + 1
        last = min(self._target, self.applied + _PER_TURN)
        recent = self._recent.between(first, last)
        if recent is not None:
            return recent, entry_of
        if not 0 <= first - self._read_from < len(self._read):
            target = self._target
            read = await self._storage.read(first, _READ_BYTES)
            # What lay behind the target may be cut by now, and something else stand there.
            self._read_from, self._read = first, read[: target - first + 1]
        if not self._read and self._installed < first:
            raise StorageError(f"entry {first} is durable here, and the storage lacks it")
        return self._read[first - self._read_from : last - self._read_from + 1], parse_entry

    def _apply(self, entry: Entry) -> None:
        """Apply one entry; an entry that can't be read stops the server, it is never skipped.

        Raises:
            ProtocolError: the entry can't be read (seed G-12).
        """
        if entry.index != self.applied + 1:
            raise ProtocolError(f"entry {entry.index} came where {self.applied + 1} was due")
        ticket = self._tickets.at(entry.index, entry.term)
        time = stamped_time(entry.payload)
        self.sessions.expire(time)
        result = self._result(entry, time, ticket)
        self.applied, self._term, self._time = entry.index, entry.term, time
        self._on_applied(entry, result)
        if ticket is not None:
            result = outcome.Value(None) if result is None else result
            self._tickets.applied(ticket, result)

    def capture(self) -> Captured:
        """All that is replicated, as it is now: nothing of it is seen half changed.

        Raises:
            Exception: the machine's `save` raised.
        """
        with self._stopwatch.timing("save"):
            state = self._machine.save()
        sessions = self.sessions.capture()
        return Captured(self.applied, self._term, self._time, sessions, state)

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """In the body the machine becomes what a snapshot says: nobody asks it anything."""
        self._restoring = True
        try:
            yield
        finally:
            self._restoring = False
            self._moved.unpark_all()

    def stands_at(self, index: int, term: int, time: float, sessions: Sessions) -> None:
        """The machine is now what a snapshot said."""
        self.sessions = sessions
        self.changes.skip(index)
        self.applied, self._term, self._time = index, term, time

    def _result(
        self, entry: Entry, time: float, ticket: Ticket | None
    ) -> outcome.Outcome[Any] | None:
        match entry.kind:
            case Kind.COMMAND:
                data = stamped_data(entry.payload)
                return self._run(entry, time, self._command(entry, data, ticket), data)
            case Kind.CALL:
                return outcome.Value(self._call(entry, time, ticket))
            case Kind.SESSION:
                data = stamped_data(entry.payload)
                return outcome.Value(self.sessions.manage(entry.index, time, data))
            case _:
                return None

    def _call(self, entry: Entry, time: float, ticket: Ticket | None) -> Reply:
        """A command of a session: applied once, however often it stands in the log."""
        call, data = unpack_call(stamped_data(entry.payload))
        found = self.sessions.find(call, entry.index, entry.term, time)
        if found is not None:
            return found
        command = self._command(entry, data, ticket)
        result = self._run(entry, time, command, data)
        reply = reply_of(self._vocabulary, entry.index, entry.term, command, result)
        self.sessions.keep(call, reply)
        return reply

    def _run(self, entry: Entry, time: float, command: Any, data: bytes) -> outcome.Outcome[Any]:
        announced = Announcements(self._vocabulary, self._announces)
        applied = Applied(entry.index, entry.term, time, self._context, announced)
        try:
            result = outcome.Value(command.apply(self._machine, applied))
        except _DIFFERS as error:
            error.add_note(f"raised by the apply of entry {entry.index}; the server stops")
            raise
        except Exception as error:  # noqa: BLE001  a result like any other, on every server
            return outcome.Error(error)
        self.changes.append(entry.index, announced.datas if self._announces else (data,))
        return result

    def _command(self, entry: Entry, data: bytes, ticket: Ticket | None) -> Any:
        if ticket is not None:
            return ticket.command
        try:
            return self._vocabulary.decode(data)
        except ProtocolError as error:
            raise ProtocolError(
                f"entry {entry.index} of term {entry.term} can't be applied, and is not skipped: "
                f"{error}.  Does this server run an older program than its cluster?"
            ) from error


def reply_of(
    vocabulary: Vocabulary, index: int, term: int, command: Any, result: outcome.Outcome[Any]
) -> Reply:
    """A command's result in the form in which it is kept and sent."""
    try:
        data = vocabulary.result_data(type(command), result.unwrap())
    except CommandFailed as error:
        return _raised(index, term, error.error, error.message)
    except Exception as error:  # noqa: BLE001  what apply raised
        return _raised(index, term, type(error).__name__, error)
    return Reply(Code.VALUE, index, term, data)


def _raised(index: int, term: int, name: str, text: object) -> Reply:
    try:
        message = str(text)
    except Exception as error:  # noqa: BLE001  a user's `__str__`
        message = f"its text can't be told: {type(error).__name__}"
    cut = [part[:MAX_ERROR_CHARACTERS] for part in (name, message)]
    # Half a surrogate pair has no form as bytes, and must not stop every server.
    told = [part.encode(errors="backslashreplace").decode() for part in cut]
    return Reply(Code.RAISED, index, term, pack(told))
