"""Committed entries, one after the other, into the user's state machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import outcome
import trio

from trioraft._clock import Bell
from trioraft._commands import Applied, Vocabulary, stamped_data, stamped_time
from trioraft._errors import ProtocolError, StorageError
from trioraft._recent import Recent
from trioraft._tickets import Tickets
from trioraft._wire.frames import Entry, Kind, parse_entry
from trioraft.abc import Storage

_PER_TURN: Final = 128
"""Entries between two checkpoints: heartbeats do not wait for a long backlog."""

_READ_BYTES: Final = 1 << 20

_DIFFERS = (MemoryError, RecursionError, OSError)
"""What one server's apply may raise and another's not: no result, the server stops."""


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
    ) -> None:
        self._machine = machine
        self._vocabulary = vocabulary
        self._context = context
        self._tickets = tickets
        self._recent = recent
        self._storage = storage
        self._on_applied = on_applied
        self._target = 0
        self._bell = Bell()
        self.applied = 0
        """The last index that the machine has seen."""

    def advance(self, index: int) -> None:
        """Everything up to `index` may be applied."""
        self._target = index
        self._bell.ring()

    async def run(self) -> None:
        """Apply, for ever."""
        while True:
            await self._bell.wait()
            while self.applied < self._target:
                for frame in await self._next_frames():
                    self._apply(parse_entry(frame))
                await trio.lowlevel.checkpoint()

    async def _next_frames(self) -> Sequence[bytes]:
        """What is due next, from memory if it is there.

        Raises:
            StorageError: the disk failed, or lost what was durable.
        """
        first = self.applied + 1
        last = min(self._target, self.applied + _PER_TURN)
        recent = self._recent.between(first, last)
        if recent is not None:
            return recent
        stored = (await self._storage.read(first, _READ_BYTES))[: last - first + 1]
        if not stored:
            raise StorageError(f"entry {first} is durable here, and the storage lacks it")
        return stored

    def _apply(self, entry: Entry) -> None:
        """Apply one entry; an entry that can't be read stops the server, it is never skipped.

        Raises:
            ProtocolError: the entry can't be read (seed G-12).
        """
        if entry.index != self.applied + 1:
            raise ProtocolError(f"entry {entry.index} came where {self.applied + 1} was due")
        result = self._apply_command(entry) if entry.kind is Kind.COMMAND else None
        self.applied = entry.index
        self._on_applied(entry, result)

    def _apply_command(self, entry: Entry) -> outcome.Outcome[Any]:
        ticket = self._tickets.at(entry.index, entry.term)
        command = self._read(entry) if ticket is None else ticket.command
        time = stamped_time(entry.payload)
        applied = Applied(entry.index, entry.term, time, self._context)
        try:
            result: outcome.Outcome[Any] = outcome.Value(command.apply(self._machine, applied))
        except _DIFFERS as error:
            error.add_note(f"raised by the apply of entry {entry.index}; the server stops")
            raise
        except Exception as error:  # noqa: BLE001  a result like any other, on every server
            result = outcome.Error(error)
        if ticket is not None:
            self._tickets.applied(ticket, result)
        return result

    def _read(self, entry: Entry) -> Any:
        try:
            return self._vocabulary.decode(stamped_data(entry.payload))
        except ProtocolError as error:
            raise ProtocolError(
                f"entry {entry.index} of term {entry.term} can't be applied, and is not skipped: "
                f"{error}.  Does this server run an older program than its cluster?"
            ) from error
