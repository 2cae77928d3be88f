"""Callers of a simulated cluster: each asks for one thing after the other, and notes the outcome.

Some ask the servers themselves, in their processes; others are clients, from outside.  They are
honest bookkeepers: what they were told must agree, to the last command, with what the servers have
applied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, Final

import trio

from trioraft._client.client import Client
from trioraft._commands import Vocabulary, name_of
from trioraft._errors import (
    Busy,
    CommandRejected,
    NotLeaderError,
    OutcomeUnknown,
    ServerStopped,
)
from trioraft._server import Server
from trioraft.testing._alarm import sleep
from trioraft.testing._bookkeeping import Bookkeeping
from trioraft.testing._cluster import SimulatedCluster
from trioraft.testing._disks import broken
from trioraft.testing._history import Begun, History
from trioraft.testing._reads import Reads

PATIENCE: Final = 1.0
"""Virtual seconds after which a caller gives a command up."""

_MOST_TRIES: Final = 8
_NOT_DONE: Final = (NotLeaderError, CommandRejected, ServerStopped)


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
        clocks_agree: bool,
    ) -> None:
        """Describe them.

        Args:
            cluster: whom they ask.
            draw: draws a command or a query.
            commands: the machine's.
            pause: virtual seconds between two questions of a caller, on average.
            kept: which of those that they draw they ask; None: all.  The k-th of the i-th of n
                callers has the number k * n + i, all counted from 0.
            clocks_agree: whether the servers' clocks stay within what leases and ages rest on.
        """
        self.history = History(trio.current_time)
        self.counts: Counter[str] = Counter()
        """How many commands came to "done", "unknown" and "not done", and how many "reads"."""
        self.tell: Callable[[str, str], None] = lambda who, what: None
        self._cluster = cluster
        self._draw = draw
        self._vocabulary = Vocabulary(commands)
        self._pause = pause
        self.drawn: list[int] = []
        """The numbers of what they have drawn."""
        self._kept = None if kept is None else frozenset(kept)
        self._books = Bookkeeping(self._vocabulary)
        self._reads = Reads(cluster.judge, clocks_agree=clocks_agree)

    async def run(self, seed: int, number: int, of: int) -> None:
        """Be one caller of so many, until cancelled.

        What it asks follows from the seed and its number alone, whatever becomes of it.  Every
        other one is a client.
        """
        name = f"c{number + 1}"
        drawing, chance = Random(f"{seed} commands {name}"), Random(f"{seed} caller {name}")
        if number % 2 == 0:
            await self._ask_on(name, number, of, drawing, chance, None)
        else:
            async with self._cluster.client(name) as client:
                await self._ask_on(name, number, of, drawing, chance, client)

    async def _ask_on(
        self,
        name: str,
        number: int,
        of: int,
        drawing: Random,
        chance: Random,
        client: Client | None,
    ) -> None:
        hint: str | None = None
        while True:
            await sleep(chance.uniform(0, 2 * self._pause))
            given = self._draw(drawing)
            self._must_be_known(given)
            self.drawn.append(number)
            number += of
            if self._kept is not None and number - of not in self._kept:
                continue
            if client is not None:
                await self._ask_client(name, client, given, chance)
            else:
                hint = await self.ask(name, given, chance, hint)

    def _must_be_known(self, given: Any) -> None:
        name = name_of(given)
        if name is None or self._vocabulary.class_of(name) is not type(given):
            broken(f"a caller drew {given!r:.100}, which is none of the machine's `commands`")

    # -- in a server's process -------------------------------------------------------------------

    async def ask(
        self, name: str, given: Any, chance: Random, hint: str | None = None
    ) -> str | None:
        """Have one thing done, by whichever server can; returns whom to ask next."""
        for _ in range(_MOST_TRIES):
            servers = {server.name: server for server in self._cluster.servers}
            if not servers:
                return None
            asked = hint if hint in servers else chance.choice(sorted(servers))
            assert asked is not None
            try:
                await self._ask_server(name, servers[asked], given, chance)
            except NotLeaderError as error:
                hint = error.leader
                await sleep(chance.uniform(0, 0.02))
            except (CommandRejected, ServerStopped):
                hint = None
                await sleep(chance.uniform(0, 0.02))
            else:
                return asked
        return None

    async def _ask_server(self, name: str, server: Server, given: Any, chance: Random) -> None:
        """Ask one server once.

        Raises:
            NotLeaderError, CommandRejected, ServerStopped: it is surely not done.
        """
        if self._is_query(given):
            await self._read(name, server.read, given, chance, server.status().cluster or "")
        else:
            await self._settle(name, given, lambda: server.do(given))

    # -- from outside ----------------------------------------------------------------------------

    async def _ask_client(self, name: str, client: Client, given: Any, chance: Random) -> None:
        try:
            if self._is_query(given):
                await self._read(name, client.read, given, chance, client.cluster)
            elif chance.random() < 0.3:
                await self._prepared(name, client, given)
            else:
                await self._settle(name, given, lambda: client.do(given))
        except _NOT_DONE:
            pass  # noted; a client tries by itself what there is to be tried

    async def _prepared(self, name: str, client: Client, given: Any) -> None:
        """Hold a handle: who gave up comes back to it, and learns what became of the command."""
        try:
            pending = client.prepare(given)
        except Busy:
            return
        handle = pending.handle

        async def come_back() -> Any:
            with trio.move_on_after(PATIENCE / 2):
                return await pending.do()
            return await client.resume(handle, type(given))

        await self._settle(name, given, come_back, 3 * PATIENCE)

    # -- what comes of it ------------------------------------------------------------------------

    def _is_query(self, given: Any) -> bool:
        name = name_of(given)
        return name is not None and self._vocabulary.named(name, "answer") is not None

    async def _read(
        self,
        name: str,
        read: Callable[[Any, Any], Awaitable[Any]],
        given: Any,
        chance: Random,
        cluster: str,
    ) -> None:
        consistency = self._reads.draw(chance, name, cluster)
        begun = self._reads.begin(self.history, name, given, consistency)
        began = trio.current_time()
        try:
            with trio.move_on_after(PATIENCE) as scope:
                answer = await read(given, consistency)
        except (NotLeaderError, ServerStopped, trio.Cancelled):
            self._forget(begun)
            raise
        except Exception as error:  # noqa: BLE001  what the query raised is its answer
            if begun is not None:
                self.history.failed(begun, error)
            self.counts["reads"] += 1
            return
        if scope.cancelled_caught:
            self._forget(begun)
            return
        self.counts["reads"] += 1
        self._reads.answered(name, given, consistency, answer, began)
        if begun is not None:
            self.history.done(begun, answer.value)
        self.tell(name, f"{given} -> {answer.value!r} ({answer.consistency})")

    def _forget(self, begun: Begun | None) -> None:
        """A read that was not answered has read nothing."""
        if begun is not None:
            self.history.not_done(begun)

    async def _settle(
        self,
        name: str,
        command: Any,
        do: Callable[[], Awaitable[Any]],
        patience: float = PATIENCE,
    ) -> None:
        """Have a command done once, and note what is known of it.

        Raises:
            NotLeaderError, CommandRejected, ServerStopped: it is surely not done.
        """
        begun = self.history.begin(name, command)
        scope = trio.CancelScope(deadline=trio.current_time() + patience)
        try:
            with scope:
                result = await do()
        except _NOT_DONE:
            self.history.not_done(begun)
            self.counts["not done"] += 1
            raise
        except OutcomeUnknown:
            self._note_unknown(name, command)
        except trio.Cancelled:
            self._note_unknown(name, command)
            raise
        except Exception as error:  # noqa: BLE001  what apply raised is a result
            self.history.failed(begun, error)
            self._note_done(name, command, f"raised {error!r}")
        else:
            if scope.cancelled_caught:
                self._note_unknown(name, command)
            else:
                self.history.done(begun, result)
                self._note_done(name, command, repr(result))

    def _note_done(self, name: str, command: Any, what: str) -> None:
        self.counts["done"] += 1
        self._books.done(command)
        self.tell(name, f"{command} -> {what}")

    def _note_unknown(self, name: str, command: Any) -> None:
        self.counts["unknown"] += 1
        self._books.unknown(command)
        self.tell(name, f"{command} -> unknown")

    def check(self, machine: Any) -> None:
        """Nothing that was acknowledged is lost, nothing is done twice, or done though refused.

        What was read without the log is what the machine held at that very entry.

        Args:
            machine: one that has seen nothing yet.

        Raises:
            PropertyBroken: the servers have applied something else than the callers were told.
        """
        judge = self._cluster.judge
        applied = self._books.applied(judge.history, judge.results)
        self._books.check([command for command in applied if command is not None])
        self._reads.check(machine, judge.history, applied)
