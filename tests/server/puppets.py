"""Members moved by hand: what a real server makes of exact messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from tests.server.worlds import Cluster, Disk, Room, Say
from trioraft._commands import Vocabulary
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.messages import AppendEntries, Message
from trioraft._state import HardState
from trioraft._wire.codec import (
    PROTOCOL_VERSION,
    Hello,
    Ping,
    Pong,
    WireMessage,
    decode,
    encode,
    entries_of,
)
from trioraft._wire.frames import Kind, frame
from trioraft._wire.stamps import stamp
from trioraft.abc import Connection
from trioraft.testing import MemoryTransport

VOCABULARY = Vocabulary(Room.commands)
TIME = 1_700_000_000.0


def state_on(disk: Disk) -> HardState:
    """What a disk says of its server."""
    assert disk.kept._state is not None
    return HardState.decode(disk.kept._state)


def commands(first: int, *said: tuple[int, str]) -> list[bytes]:
    """Frames from index `first` on, each of a term and a text."""
    return [
        frame(index, term, Kind.COMMAND, stamp(TIME, VOCABULARY.encode(Say(text))[0]))
        for index, (term, text) in enumerate(said, first)
    ]


def append(
    term: int,
    prev: tuple[int, int],
    *said: tuple[int, str],
    commit: int = 0,
    number: int = 1,
) -> AppendEntries:
    """An AppendEntries behind the entry `prev`, (index, term)."""
    frames = commands(prev[0] + 1, *said)
    entries = entries_of(frames) if frames else Entries(prev[0] + 1, prev[0])
    return AppendEntries(term, number, prev[0], prev[1], commit, entries)


class Line:
    """A stream on which both sides have said who they are."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def send(self, message: WireMessage) -> None:
        await self._connection.send(encode(message))

    async def receive(self) -> Any:
        while True:
            message = decode(await self._connection.receive())
            if not isinstance(message, Ping):
                return message
            await self.send(Pong())

    async def ask(self, message: WireMessage) -> Any:
        """Send a request, and return its answer."""
        await self.send(message)
        return await self.receive()


class Puppet:
    """A member of a formed cluster whose server does not run: the test speaks in its place."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        disk = cluster.disks[name]
        state = attrs.evolve(state_on(disk), starts=state_on(disk).starts + 1)
        disk.kept._state = state.encode()  # or its next real start would look like a copy's
        self.id: ServerId = state.id
        assert state.genesis is not None
        self._cluster_id = state.genesis.cluster
        self._starts = state.starts
        self.transport = MemoryTransport(cluster.network, cluster.addresses[name])

    def hello(self, to: str | None) -> Hello:
        return Hello(
            cluster=self._cluster_id,
            name=self.name,
            incarnation=self.id.incarnation,
            starts=self._starts,
            nonce="puppet",
            address=self.cluster.addresses[self.name],
            version=PROTOCOL_VERSION,
            commands=("refuse", "say"),
            initial=tuple(self.cluster.names),
            expected=to,
        )

    @asynccontextmanager
    async def dial(self, to: str) -> AsyncGenerator[Line]:
        async with self.transport.connect(self.cluster.addresses[to]) as connection:
            await connection.send(encode(self.hello(to)))
            answer = decode(await connection.receive())
            assert isinstance(answer, Hello), answer
            yield Line(connection)

    async def answer(
        self,
        answering: Callable[[Message], Sequence[Message]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen, and answer requests as `answering` says."""

        async def handle(connection: Connection) -> None:
            try:
                decode(await connection.receive())
                await connection.send(encode(self.hello(None)))
                line = Line(connection)
                while True:
                    for reply in answering(await line.receive()):
                        await line.send(reply)
            except (trio.EndOfChannel, trio.BrokenResourceError):
                pass

        await self.transport.listen(handle, task_status=task_status)
