"""Snapshots made by hand, a store that may refuse, and a keeper with what is around it."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any, BinaryIO

import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from tests.rules.worlds import take
from tests.server.puppets import Line, Puppet
from tests.services.fakes import Fail, FakeStorage, Machine, Note, Wire, calm, connected
from trioraft import Config, StorageError
from trioraft._applier import Applier
from trioraft._clock import Clock
from trioraft._commands import Vocabulary
from trioraft._events import AnyEvent
from trioraft._recent import Recent
from trioraft._rules import effects as do
from trioraft._rules.events import Persisted
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Log
from trioraft._rules.membership import Configuration
from trioraft._rules.node import Node, Settings
from trioraft._snapshots.form import Head, write_snapshot
from trioraft._snapshots.keeper import Keeper
from trioraft._snapshots.naming import Offered, offer_of
from trioraft._snapshots.receiving import Receiver
from trioraft._snapshots.sending import Sender
from trioraft._stopwatch import Stopwatch
from trioraft._storage.memory import MemorySnapshots
from trioraft._tickets import Tickets
from trioraft._transport.conversation import LOST, bare_errors
from trioraft._wire.codec import Hello, Ping, Pong, decode, encode
from trioraft._wire.frames import Kind, frame
from trioraft._wire.installing import SnapshotOffer
from trioraft._wire.stamps import stamp
from trioraft.abc import Connection, SnapshotId

FULL = StorageError("no space left on device")
VOCABULARY = Vocabulary([Note, Fail])
CLUSTER = "cluster"
ME = ServerId("n1", "aa")
PATIENCE = 1.0

Snapshot = tuple[bytes, Offered]


def note(index: int, value: int = 0, term: int = 1, time: float = 0.0) -> bytes:
    return frame(index, term, Kind.COMMAND, stamp(time, VOCABULARY.encode(Note(value))[0]))


def snapshot_of(index: int, term: int = 1, state: bytes = b"", **options: Any) -> Snapshot:
    """The bytes of a snapshot, and what a leader would say of them."""
    file = io.BytesIO()
    head = Head(options.get("cluster", CLUSTER), index, term, options.get("time", 0.0), None)
    summary = write_snapshot(file, head, options.get("sessions", ()), state, "zlib")
    return file.getvalue(), offer_of(summary)


def damaged(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


class Store(MemorySnapshots):
    """Refuses, or holds up, what a test says."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.refuses: dict[str, Exception] = {}
        """By the method's name; each time until it is taken away."""
        self.gates: dict[str, trio.Event] = {}
        """By the method's name: it waits there before it does anything."""
        self.removed: list[SnapshotId] = []

    def put(self, index: int, data: bytes, term: int = 1) -> SnapshotId:
        self._whole[SnapshotId(index, term)] = data
        return SnapshotId(index, term)

    def file(self, head: Head) -> BinaryIO:
        return io.BytesIO(self._whole[SnapshotId(head.index, head.term)])

    @property
    def held(self) -> list[int]:
        return [one.index for one in sorted(self._whole)]

    async def _before(self, what: str) -> None:
        await trio.lowlevel.checkpoint()
        if what in self.gates:
            await self.gates[what].wait()
        if what in self.refuses:
            raise self.refuses[what]

    async def save(self, snapshot: SnapshotId, write: Any, check: Any) -> None:
        await self._before("save")
        await super().save(snapshot, write, check)

    async def load(self, snapshot: SnapshotId, read: Callable[[BinaryIO], Any]) -> Any:
        await self._before("load")
        return await super().load(snapshot, read)

    async def take_in(self, offset: int, data: bytes) -> None:
        await self._before("take_in")
        await super().take_in(offset, data)

    async def accept(self, snapshot: SnapshotId, check: Any) -> None:
        await self._before("accept")
        await super().accept(snapshot, check)

    async def remove(self, snapshot: SnapshotId) -> None:
        await self._before("remove")
        self.removed.append(snapshot)
        await super().remove(snapshot)


class Saver(Machine):
    """A machine that can be saved, and may refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: Exception | None = None
        self.saves = 0

    def save(self) -> Any:
        self.saves += 1
        if self.refuses is not None:
            raise self.refuses
        return bytes(self.values)

    def recover(self, state: bytes) -> None:
        self.seen = [(0, 0, 0.0, value) for value in state]


class Fixed(Random):
    """Draws the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Host:
    """The server, as its snapshots see it; the rules are the test's."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.node = Node(ME, Settings(0.05, 0.15, 4, 0.1, 200), Configuration(CLUSTER, ()))
        self.events: list[Any] = []
        self.on_step: Callable[[Any], None] = self.events.append

    def step(self, event: Any) -> None:
        self.on_step(event)


class World:
    """A keeper and what is around it."""

    def __init__(
        self,
        machine: Any = None,
        *,
        store: Store | None = None,
        random: Any = None,
        host: Host | None = None,
        **config: Any,
    ) -> None:
        self.machine = Saver() if machine is None else machine
        self.store = Store() if store is None else store
        self.host = Host() if host is None else host
        self.told: list[Any] = []
        self.recent = Recent(0)
        self.storage = FakeStorage()
        stopwatch = Stopwatch(self.host.clock, 0.05, self.told.append)
        self.applier = Applier(
            machine=self.machine,
            vocabulary=VOCABULARY,
            context=None,
            tickets=Tickets(),
            recent=self.recent,
            storage=self.storage,
            on_applied=lambda entries, size: self.keeper.applied(entries, size),
            watcher=lambda: None,
            calm=calm,
            restore=self._restore,
            stopwatch=stopwatch,
        )
        self.keeper = Keeper(
            host=self.host,
            store=self.store,
            machine=self.machine,
            applier=self.applier,
            config=Config(**config),
            random=Fixed() if random is None else random,
            stopwatch=stopwatch,
            emit=self.told.append,
        )
        self.restored: list[int] = []

    async def _restore(self) -> None:
        self.restored.append((await self.keeper.restore()).index)

    async def apply(self, count: int, value: int = 0, time: float = 0.0) -> None:
        """Let so many more entries be applied."""
        first = self.recent.last + 1
        self.recent.append(first, [note(first + n, value, time=time) for n in range(count)])
        self.applier.advance(self.recent.last)
        await wait_all_tasks_blocked()

    def told_of(self, kind: type[AnyEvent]) -> list[Any]:
        return [event for event in self.told if type(event) is kind]

    async def bring(self, data: bytes) -> None:
        """All of an incoming snapshot, in one piece."""
        await self.keeper.take_in(0, data)

    def installs(self, head: Head) -> bool:
        """What the rules do with one that takes the log's place."""
        self.recent.clear(head.index)
        self.applier.installed(head.index)
        return True

    async def install(self, data: bytes, offered: Offered) -> None:
        """One comes from a leader, and takes the log's place; what is due then is yet to come."""
        await self.bring(data)
        await self.keeper.accept(offered, lambda: True, self.installs)


@asynccontextmanager
async def running(world: World) -> AsyncGenerator[World]:
    """Let its tasks run."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.applier.run)
        nursery.start_soon(world.keeper.run)
        yield world
        nursery.cancel_scope.cancel()


async def recovered(
    store: Store, log: Log, machine: Any = None, cluster: str = CLUSTER, **config: Any
) -> World:
    """A keeper that has found its way at a start."""
    world = World(machine, store=store, **config)
    await world.keeper.recover(log, cluster)
    return world


# -- two ends of a stream ----------------------------------------------------------------------


class Rules(Host):
    """The real rules, over a disk that is done at once with whatever it is asked."""

    takes_part = True

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node
        self.on_step = self._take
        self.on_effect: Callable[[Any], None] = lambda effect: None
        self.said: list[Any] = []
        self.disk_is_slow = False

    def _take(self, event: Any) -> None:
        self.events.append(event)
        self.node, effects = take(self.node, event)
        for effect in effects:
            self.on_effect(effect)
            if isinstance(effect, do.Send):
                self.said.append(effect.message)
        if self.node.disk.asked > self.node.disk.done and not self.disk_is_slow:
            self.step(Persisted(self.clock.now(), self.node.disk.asked))


class Follower(World):
    """A server that takes snapshots in."""

    def __init__(self, node: Node, **options: Any) -> None:
        self.rules = Rules(node)
        super().__init__(host=self.rules, **{"snapshot_entries": None, **options})
        self.saw: list[float] = []
        self.receiver = Receiver(
            self.rules, self.keeper, self.applier, PATIENCE, self.saw.append, self.told.append
        )
        self.rules.on_effect = self._perform
        log = node.log
        frames = [note(i, term=log.term_at(i) or 0) for i in range(1, log.last_index + 1)]
        self.recent.append(1, frames)

    def _perform(self, effect: Any) -> None:
        match effect:
            case do.ReplaceLog(index=index):
                self.recent.clear(index)
                self.applier.installed(index)
            case do.Commit(index):
                self.applier.advance(index)


class End:
    """The test's end of a stream."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.error: BaseException | None = None
        """What the other end has raised."""
        self.over = trio.Event()

    async def say(self, message: Any) -> None:
        await self.wire.send(encode(message))

    async def hear(self) -> Any:
        with trio.fail_after(100):
            while True:
                message = decode(await self.wire.receive())
                if not isinstance(message, Ping):
                    return message
                await self.say(Pong())

    async def ask(self, message: Any) -> Any:
        await self.say(message)
        return await self.hear()

    async def end(self) -> BaseException | None:
        with trio.fail_after(100):
            await self.over.wait()
        return self.error


@asynccontextmanager
async def offering(world: Follower, leader: ServerId) -> AsyncGenerator[End]:
    """A stream on which a leader may offer a snapshot; broken at the end."""
    mine, theirs = connected()
    end = End(mine)

    async def receive() -> None:
        try:
            with bare_errors():
                await world.receiver.receive(leader, theirs)
        except LOST as error:
            end.error = error
        finally:
            await theirs.aclose()
            end.over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        yield end
        await mine.aclose()


def offer(offered: Offered, term: int, /, **changes: Any) -> SnapshotOffer:
    """What the leader of that term says of it."""
    made = SnapshotOffer(
        term, offered.cluster, offered.index, offered.term, offered.size, offered.digest
    )
    return evolve(made, **changes)


class Sending(World):
    """A leader that has a snapshot of ten entries, and sends it."""

    def __init__(self, node: Node, state: bytes, **options: Any) -> None:
        self.rules = Rules(node)
        super().__init__(host=self.rules, **{"snapshot_entries": None, **options})
        self.data, offered = snapshot_of(10, 2, state)
        self.store.put(10, self.data, term=2)
        self.offered = offered
        self.dialled: list[float] = []
        self.dials: Callable[[], AbstractAsyncContextManager[Connection]]
        self.sender = Sender(self.rules, self.keeper, self._aside, PATIENCE, self.told.append)

    @asynccontextmanager
    async def _aside(self, peer: ServerId) -> AsyncGenerator[Connection]:
        self.dialled.append(trio.current_time())
        async with self.dials() as connection:
            yield connection

    def send(self, peer: ServerId) -> None:
        self.sender.send(do.SendSnapshot(self.rules.node.tenure, peer))


@asynccontextmanager
async def sending(node: Node, state: bytes) -> AsyncGenerator[tuple[Sending, End]]:
    """A sender that runs, and the end of its stream at the follower."""
    world = Sending(node, state)
    await world.keeper.recover(Log(((11, 2),), 20, 10, 2), CLUSTER)
    mine, theirs = connected()

    @asynccontextmanager
    async def dial() -> AsyncGenerator[Connection]:
        try:
            yield theirs
        finally:
            await theirs.aclose()

    world.dials = dial
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.sender.run)
        yield world, End(mine)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def bringing(puppet: Puppet, to: str) -> AsyncGenerator[Line]:
    """A stream on which a member played by hand brings a snapshot."""
    async with puppet.transport.connect(puppet.cluster.addresses[to]) as connection:
        await connection.send(encode(evolve(puppet.hello(to), installs=True)))
        assert isinstance(decode(await connection.receive()), Hello)
        yield Line(connection)
