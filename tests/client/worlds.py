"""Clients of clusters in virtual time, and the two ends of a line played by hand."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import trio

from tests.server.worlds import Cluster
from trioraft import Client, open_client
from trioraft._forwarding import Forwarder
from trioraft._sessions import Call, Code, Reply, pack_call, unpack_call
from trioraft._wire.asking import Caller, Calls, ManageSession, Results, Welcome
from trioraft._wire.codec import PROTOCOL_VERSION, Ping, Pong, WireMessage, decode, encode
from trioraft._wire.strict import pack
from trioraft.abc import Connection
from trioraft.testing import MemoryNetwork, MemoryTransport

HERE = "mem://client"


@asynccontextmanager
async def client_of(
    cluster: Cluster, *names: str, here: str = HERE, seed: int = 0
) -> AsyncGenerator[Client]:
    """A client that knows these servers, or all."""
    addresses = [cluster.addresses[name] for name in names or cluster.names]
    transport = MemoryTransport(cluster.network, here)
    async with open_client(addresses, transport=transport, random=Random(seed)) as client:
        yield client


def forwarders(cluster: Cluster, *names: str) -> list[Forwarder]:
    """The forwarders of these servers; nobody hands them out."""
    cores = [cluster[name]._core for name in names]
    found = [o for o in gc.get_objects() if isinstance(o, Forwarder)]
    return [forwarder for forwarder in found if forwarder._core in cores]


def leftovers(cluster: Cluster) -> dict[str, Any]:
    """What a server still counts as under way; nothing, once all callers have gone."""
    found = {}
    for server in cluster.up:
        tickets = server._core.tickets
        found[server.name] = (tickets._count, tickets._bytes, len(tickets._appended))
    return found


# -- a client by hand --------------------------------------------------


class Stranger:
    """Says to a server whatever the test likes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def send(self, message: WireMessage | bytes) -> None:
        data = message if isinstance(message, bytes) else encode(message)
        await self.connection.send(data)

    async def receive(self) -> Any:
        """The next message; answers for its own life."""
        while True:
            message = decode(await self.connection.receive())
            if not isinstance(message, Ping):
                return message
            await self.send(Pong())

    async def of(self, kind: type[Any]) -> Any:
        """The next message of a kind."""
        while not isinstance(message := await self.receive(), kind):
            pass
        return message


@asynccontextmanager
async def stranger(
    cluster: Cluster, name: str, *, greets: bool = True, here: str = "mem://stranger"
) -> AsyncGenerator[Stranger]:
    """A stream to a server, on which a client has been let in."""
    transport = MemoryTransport(cluster.network, here)
    async with transport.connect(cluster.addresses[name]) as connection:
        speaker = Stranger(connection)
        if greets:
            await speaker.send(Caller(PROTOCOL_VERSION))
            assert isinstance(await speaker.receive(), Welcome)
        yield speaker


# -- a server by hand --------------------------------------------------

Script = Callable[[WireMessage], Iterable[WireMessage | bytes] | None]
"""What is said to a message; None: the stream ends."""


class FakeServer:
    """Answers a client as a script says; sessions are opened with the numbers 100, 101, ..."""

    def __init__(
        self,
        network: MemoryNetwork,
        name: str,
        script: Script,
        *,
        cluster: str = "fake",
        leader: str | None = None,
    ) -> None:
        self.address = f"mem://{name}"
        self.script = script
        self.welcome = Welcome(cluster, name, leader or name, f"mem://{leader or name}")
        self.sessions = 99
        self.heard: list[WireMessage] = []
        self.dialled: list[float] = []
        self.silent = False
        self._transport = MemoryTransport(network, self.address)

    @property
    def calls(self) -> list[Call]:
        """All commands that came."""
        messages = [m for m in self.heard if isinstance(m, Calls)]
        return [unpack_call(data)[0] for m in messages for data in m.calls]

    async def listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self._transport.listen(self._handle, task_status=task_status)

    async def _handle(self, connection: Connection) -> None:
        self.dialled.append(trio.current_time())
        speaker = Stranger(connection)
        try:
            assert isinstance(await speaker.receive(), Caller)
            if self.silent:
                await trio.sleep_forever()
            await speaker.send(self.welcome)
            while True:
                message = decode(await connection.receive())
                if self.silent:
                    continue
                if isinstance(message, Ping):
                    await speaker.send(Pong())
                    continue
                self.heard.append(message)
                answers = self._answer(message)
                if answers is None:
                    return
                for answer in answers:
                    await speaker.send(answer)
        except (trio.EndOfChannel, trio.BrokenResourceError):
            pass

    def _answer(self, message: WireMessage) -> Iterable[WireMessage | bytes] | None:
        if isinstance(message, ManageSession) and message.verb == "open":
            self.sessions += 1
            return [Results(((message.number, Code.VALUE, self.sessions, 1, b""),))]
        return self.script(message)


def told(message: WireMessage, *replies: Reply | Code) -> list[Results]:
    """What became of the commands in a message; the last one of `replies` stands for the rest."""
    assert isinstance(message, Calls)
    full = [r if isinstance(r, Reply) else Reply(r, 0, 0) for r in replies]
    results = []
    for place in range(len(message.calls)):
        reply = full[min(place, len(full) - 1)]
        results.append(
            (message.first + place, int(reply.code), reply.index, reply.term, reply.data)
        )
    return [Results(tuple(results))]


def value(what: Any, index: int = 7) -> Reply:
    return Reply(Code.VALUE, index, 1, pack(what))


def one_after_the_other(*replies: Reply | Code | None) -> Script:
    """Each message of commands gets the next reply; None breaks the line; the last one stays."""
    left = list(replies)

    def script(message: WireMessage) -> Iterable[WireMessage | bytes] | None:
        if not isinstance(message, Calls):
            return []
        reply = left.pop(0) if len(left) > 1 else left[0]
        return None if reply is None else told(message, reply)

    return script


@asynccontextmanager
async def fakes(*scripts: Script, **options: Any) -> AsyncGenerator[list[FakeServer]]:
    """Servers by hand: f1, f2, ..."""
    network = MemoryNetwork()
    servers = [
        FakeServer(network, f"f{number}", script, **options)
        for number, script in enumerate(scripts, 1)
    ]
    async with trio.open_nursery() as nursery:
        for server in servers:
            await nursery.start(server.listen)
        yield servers
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def client_of_fakes(*servers: FakeServer) -> AsyncGenerator[Client]:
    network = servers[0]._transport._network
    transport = MemoryTransport(network, HERE)
    addresses = [server.address for server in servers]
    async with open_client(addresses, transport=transport, random=Random(0)) as client:
        yield client


def calls_of(session: int, *datas: bytes, first: int = 1) -> Calls:
    """Commands of a session, numbered and sequenced from 1 on."""
    packed = [pack_call(Call(session, n, 1), data) for n, data in enumerate(datas, 1)]
    return Calls(first, tuple(packed))
