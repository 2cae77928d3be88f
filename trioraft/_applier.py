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
from trioraft._wire.frames import Entry, Kind, check_frame, entry_of
from trioraft._wire.stamps import opened
from trioraft._wire.strict import pack
from trioraft.abc import SavedState, Storage

_PER_TURN: Final = 128
"""Entries between two checkpoints: heartbeats do not wait for a long backlog."""

_LOOK: Final = 8
"""So many entries of a turn are timed one by one, and then every so many at once."""

_FEW: Final = 4
_QUICK: Final = 0.0001
"""So few entries, applied in so many seconds each or less, by the last turn's mean, are applied in
less time than it takes to wait for what goes first."""

_READ_BYTES: Final = 1 << 20

_COMMAND: Final = int(Kind.COMMAND)
_CALL: Final = int(Kind.CALL)
_SESSION: Final = int(Kind.SESSION)

Told = Callable[[Entry, outcome.Outcome[Any] | None], None]
"""Is told of an entry that was applied, and of what a command's `apply` returned or raised."""

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
        on_applied: Callable[[int, int], None],
        watcher: Callable[[], Told | None],
        calm: Callable[[], Awaitable[None]],
        restore: Callable[[], Awaitable[None]],
        stopwatch: Stopwatch,
    ) -> None:
        """Begin with a machine that has seen nothing.

        `on_applied` is told how many entries have just been applied, and of how many bytes.
        `watcher` gives who is told of each of them, if anybody is.
        `calm` is waited for before each turn that is no short one: what others wait for goes first.
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
        self._watcher = watcher
        self._calm = calm
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
        self._is_quick = True
        """Whether the machine's `apply` was, when it was called last."""
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
                if self._target - self.applied > _FEW or not self._is_quick:
                    await self._calm()
                if self.applied < self._installed <= self._target:
                    await self._restore()
                    continue
                frames, are_good = await self._next_frames()
                if not frames:
                    break  # a snapshot has taken their place: it is due in a moment
                self._apply_some(frames, are_good=are_good)
                self._moved.unpark_all()
                if self.applied < self._target:
                    await trio.lowlevel.checkpoint()

    def _apply_some(self, frames: Sequence[bytes], *, are_good: bool) -> None:
        """Apply as many of these as have their turn, at least one."""
        told, before, size = self._watcher(), self.applied, 0
        try:
            with self._stopwatch.timing("apply"):
                for place, frame in enumerate(frames):
                    if not are_good:
                        check_frame(frame)
                    self._apply(frame, told)
                    size += len(frame)
                    # A look at the clock costs as much as a tenth of a quick command.
                    if (place < _LOOK or place % _LOOK == 0) and self._stopwatch.turn_is_over:
                        break
        finally:
            count = self.applied - before
            self._is_quick = self._stopwatch.seconds <= _QUICK * count
            self._on_applied(count, size)

    async def _next_frames(self) -> tuple[Sequence[bytes], bool]:
        """What is due next, nothing if it was just replaced; and whether it is known to be good.

        What memory holds was checked when it came.

        Raises:
            StorageError: the disk failed, or lost what was durable.
        """
        first = self.applied + 1
        last = min(self._target, self.applied + _PER_TURN)
        recent = self._recent.between(first, last)
        if recent is not None:
            return recent, True
        if not 0 <= first - self._read_from < len(self._read):
            target = self._target
            read = await self._storage.read(first, _READ_BYTES)
            # What lay behind the target may be cut by now, and something else stand there.
            self._read_from, self._read = first, read[: target - first + 1]
        if not self._read and self._installed < first:
            raise StorageError(f"entry {first} is durable here, and the storage lacks it")
        return self._read[first - self._read_from : last - self._read_from + 1], False

    def _apply(self, frame: bytes, told: Told | None) -> None:
        """Apply one entry; an entry that can't be read stops the server, it is never skipped.

        Raises:
            ProtocolError: the entry can't be read (seed G-12).
        """
        index, term, kind, time, data = opened(frame)
        if index != self.applied + 1:
            raise ProtocolError(f"entry {index} came where {self.applied + 1} was due")
        ticket = self._tickets.at(index, term)
        if time != self._time:  # the entries of one batch have one time: nothing more expires
            self.sessions.expire(time)
        result: outcome.Outcome[Any] | Reply | None = None
        if kind == _CALL:
            result = self._call(index, term, time, data, ticket)
        elif kind == _COMMAND:
            command = self._command(index, term, data, ticket)
            value, error = self._run(index, term, time, command, data)
            result = outcome.Value(value) if error is None else outcome.Error(error)
        elif kind == _SESSION:
            result = outcome.Value(self.sessions.manage(index, time, data))
        self.applied, self._term, self._time = index, term, time
        if told is not None:
            told(entry_of(frame), outcome.Value(result) if isinstance(result, Reply) else result)
        if ticket is not None:
            self._tickets.applied(ticket, outcome.Value(None) if result is None else result)

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
        """In the body the machine becomes what a snapshot says: nobody asks it anything.

        If the body raises, nobody does ever again: half of a machine has no answers.
        """
        self._restoring = True
        yield
        self._restoring = False
        self._moved.unpark_all()

    def stands_at(self, index: int, term: int, time: float, sessions: Sessions) -> None:
        """The machine is now what a snapshot said."""
        self.sessions = sessions
        self.changes.skip(index)
        self.applied, self._term, self._time = index, term, time

    def _call(
        self, index: int, term: int, time: float, data: bytes, ticket: Ticket | None
    ) -> Reply:
        """A command of a session: applied once, however often it stands in the log."""
        call, data = unpack_call(data)
        found = self.sessions.find(call, index, term, time)
        if found is not None:
            return found
        command = self._command(index, term, data, ticket)
        value, error = self._run(index, term, time, command, data)
        reply = reply_of(self._vocabulary, index, term, type(command), value, error)
        self.sessions.keep(call, reply)
        return reply

    def _run(
        self, index: int, term: int, time: float, command: Any, data: bytes
    ) -> tuple[Any, Exception | None]:
        """What `apply` has returned, or what it raised."""
        announced = Announcements(self._vocabulary, self._announces)
        applied = Applied(index, term, time, self._context, announced)
        try:
            value = command.apply(self._machine, applied)
        except _DIFFERS as error:
            error.add_note(f"raised by the apply of entry {index}; the server stops")
            raise
        except Exception as error:  # noqa: BLE001  a result like any other, on every server
            return None, error
        self.changes.append(index, announced.datas if self._announces else (data,))
        return value, None

    def _command(self, index: int, term: int, data: bytes, ticket: Ticket | None) -> Any:
        if ticket is not None:
            return ticket.command
        try:
            return self._vocabulary.decode(data)
        except ProtocolError as error:
            raise ProtocolError(
                f"entry {index} of term {term} can't be applied, and is not skipped: "
                f"{error}.  Does this server run an older program than its cluster?"
            ) from error


def reply_of(
    vocabulary: Vocabulary,
    index: int,
    term: int,
    given: type[Any],
    value: Any,
    error: BaseException | None,
) -> Reply:
    """What a command or query of that class has returned or raised, as it is kept and sent."""
    if error is None:
        try:
            return Reply(Code.VALUE, index, term, vocabulary.result_data(given, value))
        except Exception as failure:  # noqa: BLE001  a user's own class raises what it likes
            error = failure
    if isinstance(error, CommandFailed):
        return _raised(index, term, error.error, error.message)
    return _raised(index, term, type(error).__name__, error)


def _raised(index: int, term: int, name: str, text: object) -> Reply:
    try:
        message = str(text)
    except Exception as error:  # noqa: BLE001  a user's `__str__`
        message = f"its text can't be told: {type(error).__name__}"
    cut = [part[:MAX_ERROR_CHARACTERS] for part in (name, message)]
    # Half a surrogate pair has no form as bytes, and must not stop every server.
    told = [part.encode(errors="backslashreplace").decode() for part in cut]
    return Reply(Code.RAISED, index, term, pack(told))
