"""Callers of a simulated cluster: each asks for one command after the other, and notes the outcome.

They are honest bookkeepers: what they were told must agree, to the last command, with what the
servers have applied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import trio

from trioraft._commands import Vocabulary
from trioraft._errors import CommandRejected, NotLeaderError, OutcomeUnknown, ServerStopped
from trioraft._payloads import stamped_data
from trioraft._server import Server
from trioraft._wire.frames import Kind
from trioraft.testing._cluster import SimulatedCluster
from trioraft.testing._history import History
from trioraft.testing._judge import broken

PATIENCE: Final = 1.0
"""Virtual seconds after which a caller gives a command up."""

_MOST_TRIES: Final = 8


class Clients:
    """All callers of one run, and what they were told."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        draw: Callable[[Random], Any],
        commands: tuple[type[Any], ...],
        *,
        pause: float,
        kept: Sequence[int] | None,
    ) -> None:
        """Describe them.

        Args:
            cluster: whom they ask.
            draw: draws a command.
            commands: the machine's.
            pause: virtual seconds between two commands of a caller, on average.
            kept: which of the commands that they draw they ask for; None: all.  The k-th command
                of the i-th of n callers has the number k * n + i, all counted from 0.
        """
        self.history = History(trio.current_time)
        self.counts: Counter[str] = Counter()
        """How many commands came to "done", "unknown" and "not done"."""
        self.tell: Callable[[str, str], None] = lambda who, what: None
        self._cluster = cluster
        self._draw = draw
        self._vocabulary = Vocabulary(commands)
        self._pause = pause
        self.drawn: list[int] = []
        """The numbers of the commands that they have drawn."""
        self._kept = None if kept is None else frozenset(kept)
        self._done: Counter[bytes] = Counter()
        self._unknown: Counter[bytes] = Counter()

    async def run(self, seed: int, number: int, of: int) -> None:
        """Be one caller of so many, until cancelled.

        What it asks for follows from the seed and its number alone, whatever becomes of it.
        """
        name = f"c{number + 1}"
        drawing, chance = Random(f"{seed} commands {name}"), Random(f"{seed} caller {name}")
        hint: str | None = None
        while True:
            await trio.sleep(chance.uniform(0, 2 * self._pause))
            command = self._draw(drawing)
            self.drawn.append(number)
            if self._kept is None or number in self._kept:
                hint = await self.ask(name, command, chance, hint)
            number += of

    async def ask(
        self, name: str, command: Any, chance: Random, hint: str | None = None
    ) -> str | None:
        """Have one command done, by whichever server leads; returns whom to ask next."""
        data, _ = self._vocabulary.encode(command)
        for _ in range(_MOST_TRIES):
            servers = {server.name: server for server in self._cluster.servers}
            if not servers:
                return None
            asked = hint if hint in servers else chance.choice(sorted(servers))
            assert asked is not None
            try:
                await self._try(name, servers[asked], command, data)
            except NotLeaderError as error:
                hint = error.leader
                await trio.sleep(chance.uniform(0, 0.02))
            except (CommandRejected, ServerStopped):
                hint = None
                await trio.sleep(chance.uniform(0, 0.02))
            else:
                return asked
        return None

    async def _try(self, name: str, server: Server, command: Any, data: bytes) -> None:
        """Ask one server once.

        Raises:
            NotLeaderError, CommandRejected, ServerStopped: the command is surely not done.
        """
        operation = self.history.begin(name, command)
        scope = trio.CancelScope(deadline=trio.current_time() + PATIENCE)
        try:
            with scope:
                result = await server.do(command)
        except (NotLeaderError, CommandRejected, ServerStopped):
            self.history.not_done(operation)
            self.counts["not done"] += 1
            raise
        except OutcomeUnknown:
            self._note_unknown(name, command, data)
        except trio.Cancelled:
            self._note_unknown(name, command, data)
            raise
        except Exception as error:  # noqa: BLE001  what apply raised is a result
            self.history.failed(operation, error)
            self._note_done(name, command, data, f"raised {error!r}")
        else:
            if scope.cancelled_caught:
                self._note_unknown(name, command, data)
            else:
                self.history.done(operation, result)
                self._note_done(name, command, data, repr(result))

    def _note_done(self, name: str, command: Any, data: bytes, what: str) -> None:
        self.counts["done"] += 1
        self._done[data] += 1
        self.tell(name, f"{command} -> {what}")

    def _note_unknown(self, name: str, command: Any, data: bytes) -> None:
        self.counts["unknown"] += 1
        self._unknown[data] += 1
        self.tell(name, f"{command} -> unknown")

    def check(self) -> None:
        """Nothing that was acknowledged is lost, nothing is done twice, or done though refused.

        Raises:
            PropertyBroken: the servers have applied something else than the callers were told.
        """
        history = self._cluster.judge.history
        applied = Counter(
            stamped_data(entry.payload) for entry in history if entry.kind is Kind.COMMAND
        )
        for data in sorted(applied.keys() | self._done.keys()):
            least, found = self._done[data], applied[data]
            if found < least:
                broken(f"{self._read(data)} was acknowledged {least} times, applied {found} times")
            if found > least + self._unknown[data]:
                broken(
                    f"{self._read(data)} was applied {found} times; {least} were acknowledged, "
                    f"and {self._unknown[data]} are unknown"
                )

    def _read(self, data: bytes) -> Any:
        return self._vocabulary.decode(data)
