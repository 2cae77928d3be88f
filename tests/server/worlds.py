"""Whole clusters in one process and in virtual time, and what must hold between their servers."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, ClassVar

import attrs
import trio

import trioraft
import trioraft._clock
from trioraft import (
    Applied,
    Commit,
    Config,
    NotLeaderError,
    OutcomeUnknown,
    Server,
    StateChange,
    StorageError,
)
from trioraft._storage.memory import MemoryStorage
from trioraft._wire.codec import WireMessage, decode
from trioraft._wire.frames import identity
from trioraft.abc import Batch, Entry, Kind, Recovered, SnapshotStore
from trioraft.testing import MemoryNetwork, MemoryTransport, seeded_run

HEARTBEAT = 0.05
TIMEOUT = 0.15
DELAY = 0.001
"""Seconds that a message travels, unless a test says otherwise."""
DISK = 0.0005
"""Seconds that a write takes, unless a test says otherwise."""

HANGS = 1000.0
"""Virtual seconds after which a test hangs."""


# -- virtual time ----------------------------------------------------------------------------


def run_seeded(seed: int, main: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Run in virtual time, the same way each time."""

    async def bounded() -> Any:
        with trio.fail_after(HANGS):
            return await main(*args)

    return seeded_run(seed, bounded)


def in_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of an async function: every wait is skipped, and a run is like the one before."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            run_seeded(0, functools.partial(test, *args, **kwargs))
        except BaseExceptionGroup as group:
            raise _only(group) from None

    return run


def _only(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


# -- a machine -------------------------------------------------------------------------------


@trioraft.command("say")
@attrs.frozen
class Say:
    text: str

    def apply(self, room: Room, applied: Applied) -> int:
        room.heard(self.text, applied)
        return len(room.lines)


@trioraft.command("refuse")
@attrs.frozen
class Refuse:
    """Its apply raises, the same on every server."""

    text: str

    def apply(self, room: Room, applied: Applied) -> int:
        room.heard(f"refused {self.text}", applied)
        raise ValueError(self.text)


@trioraft.command("shout")
@attrs.frozen
class Shout:
    """A newer command, which an older machine does not know."""

    text: str

    def apply(self, room: Room, applied: Applied) -> str:
        room.heard(self.text.upper(), applied)
        return self.text.upper()


@trioraft.query("lines")
@attrs.frozen
class Lines:
    def answer(self, room: Room) -> list[str]:
        return list(room.lines)


@trioraft.query("stranger")
@attrs.frozen
class Stranger:
    """No machine here answers it."""

    def answer(self, room: Room) -> None:
        raise AssertionError("nobody asks this")


class Room:
    """Remembers what was said, in order."""

    commands: ClassVar[Sequence[type[Any]]] = (Say, Refuse, Lines)

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.applied: list[Applied] = []

    def heard(self, text: str, applied: Applied) -> None:
        self.lines.append(text)
        self.applied.append(applied)

    def save(self) -> bytes:
        return "\n".join(self.lines).encode()

    def recover(self, state: bytes) -> None:
        self.lines = state.decode().split("\n") if state else []


class LoudRoom(Room):
    """The next version of the room."""

    commands: ClassVar[Sequence[type[Any]]] = (Say, Refuse, Shout, Lines)


# -- a disk ----------------------------------------------------------------------------------


class Disk:
    """Outlives the servers on it.  A crash in the middle of a write loses that write."""

    def __init__(self) -> None:
        self.kept = MemoryStorage()
        self.seconds = DISK
        self.broken: str | None = None
        self.writes = 0
        self.reads = 0

    async def open(self) -> Recovered:
        return await self.kept.open()

    async def write(self, batch: Batch) -> None:
        await trio.sleep(self.seconds)
        if self.broken is not None:
            raise StorageError(self.broken)
        self.writes += 1
        await self.kept.write(batch)

    async def read(self, first: int, max_bytes: int) -> Sequence[bytes]:
        self.reads += 1
        return await self.kept.read(first, max_bytes)

    @property
    def snapshots(self) -> SnapshotStore:
        return self.kept.snapshots

    async def aclose(self) -> None:
        await self.kept.aclose()

    @property
    def frames(self) -> list[bytes]:
        """What is durable."""
        return self.kept._log.frames

    def holds(self, entry: Entry) -> bool:
        """Whether an entry is durable here, or in the snapshot that the log goes on from."""
        frames, at = self.frames, entry.index - self.kept._log.before - 1
        if at < 0:
            return True
        return len(frames) > at and identity(frames[at]) == (entry.index, entry.term)


class Clock(trioraft._clock.Clock):
    """A world that began at a known instant, and never sleeps."""

    def slept(self) -> float:
        return 0.0

    def utc(self) -> float:
        return 1_700_000_000.0 + self.now()


# -- a cluster -------------------------------------------------------------------------------


class Watch:
    """Sees all events of one server the moment they happen."""

    def __init__(self, cluster: Cluster, server: Server) -> None:
        self.cluster, self.server = cluster, server

    def tell(self, event: Any) -> None:
        self.cluster.events.append((self.server.name, event))
        match event:
            case StateChange(value="leader"):
                self.cluster.leads(self.server.name, self.server.term)
            case Commit(value=entry):
                self.cluster.applies(self.server, entry)

    def end(self) -> None:
        """Nothing is left to see."""


class Cluster:
    """Servers, their disks and the network between them; checks figure 3 all the time."""

    def __init__(
        self,
        nursery: trio.Nursery,
        size: int,
        *,
        seed: int = 0,
        config: Config | None = None,
        machine: Callable[[], Any] = Room,
        delay: float = DELAY,
        disk: float = DISK,
    ) -> None:
        self.names = [f"n{number}" for number in range(1, size + 1)]
        self.addresses = {name: f"mem://{name}" for name in self.names}
        self.network = MemoryNetwork()
        self.disks = {name: Disk() for name in self.names}
        for kept in self.disks.values():
            kept.seconds = disk
        self.config = Config() if config is None else config
        self.machine = machine
        self.chance = Random(f"cluster {seed}")
        self.servers: dict[str, Server] = {}
        self.failures: dict[str, BaseException] = {}
        self.events: list[tuple[str, Any]] = []
        self.history: dict[int, Entry] = {}
        self.acknowledged: list[str] = []
        self.leaders: dict[int, str] = {}
        self._seed = seed
        self._delay = delay
        self._lives = 0
        self._rooms: list[tuple[str, Any]] = []
        self._scopes: dict[str, trio.CancelScope] = {}
        self._ended: dict[str, trio.Event] = {}
        self._nursery = nursery
        self._set_delays()

    # -- lives ---------------------------------------------------------------------------------

    def make(self, name: str, **changes: Any) -> Server:
        """A server that nobody runs yet."""
        self._lives += 1
        given: dict[str, Any] = {
            "transport": MemoryTransport(self.network, self.addresses.get(name, f"mem://{name}")),
            "state_machine": self.machine(),
            "initial_cluster": self.addresses,
            "config": self.config,
            "storage": self.disks.setdefault(name, Disk()),
            "clock": Clock(),
            "random": Random(f"{self._seed} {name} {self._lives}"),
        } | changes
        server = Server(name, None, **given)
        server._hub._subscriptions.append(Watch(self, server))  # type: ignore[arg-type]
        return server

    async def start(self, *names: str, **changes: Any) -> None:
        """Start these servers, or all that do not run, and wait until they listen."""
        for name in names or [name for name in self.names if not self.is_up(name)]:
            await self.run(self.make(name, **changes))

    async def run(self, server: Server, key: str | None = None) -> None:
        """Run a server until it is crashed or ends; what it raises is kept in `failures`."""
        key = server.name if key is None else key
        scope, listening, ended = trio.CancelScope(), trio.Event(), trio.Event()
        self.servers[key], self._scopes[key], self._ended[key] = server, scope, ended
        self._rooms.append((key, server.state_machine))
        self._nursery.start_soon(self._live, server, key, scope, listening, ended)
        await listening.wait()

    async def _live(
        self,
        server: Server,
        key: str,
        scope: trio.CancelScope,
        listening: trio.Event,
        ended: trio.Event,
    ) -> None:
        class Status:
            def started(self, value: object = None) -> None:
                listening.set()

        try:
            with scope:
                await server.serve(task_status=Status())
        except Exception as error:  # noqa: BLE001  the test looks at it
            self.failures[key] = error
        finally:
            listening.set()
            ended.set()

    async def crash(self, *names: str) -> None:
        """End servers in the middle of whatever they do."""
        for name in names:
            self._scopes[name].cancel()
        for name in names:
            await self._ended[name].wait()

    async def restart(self, *names: str, **changes: Any) -> None:
        """Crash servers, all at once, and start them on what their disks hold."""
        await self.crash(*[name for name in names if self.is_up(name)])
        await self.start(*names, **changes)

    async def ended(self, name: str) -> BaseException | None:
        """Wait for a server's end, and forgive what it raised."""
        await self._ended[name].wait()
        return self.failures.pop(name, None)

    def is_up(self, name: str) -> bool:
        return name in self.servers and self.servers[name].running

    @property
    def up(self) -> list[Server]:
        return [server for server in self.servers.values() if server.running]

    def __getitem__(self, name: str) -> Server:
        return self.servers[name]

    # -- network -------------------------------------------------------------------------------

    def _set_delays(self) -> None:
        everybody = self.addresses.values()
        for source in everybody:
            for destination in everybody:
                self.network.delay(source, destination, self._delay)

    def slow(self, source: str, destination: str, seconds: float) -> None:
        """Let messages from one to the other take so long."""
        self.network.delay(self.addresses[source], self.addresses[destination], seconds)

    def cut(self, one: str, other: str) -> None:
        """Cut two servers off each other, with a notice to both."""
        self.network.cut(self.addresses[one], self.addresses[other])
        self.network.cut(self.addresses[other], self.addresses[one])

    def mute(self, source: str, destination: str) -> None:
        """Lose in silence what one sends to the other; the other way stays as it is."""
        self.network.hold(self.addresses[source], self.addresses[destination])

    def isolate(self, name: str) -> None:
        """Cut one server off all others."""
        self.network.isolate(self.addresses[name])

    def split(self, *groups: Iterable[str]) -> None:
        """Cut every link between servers of different groups."""
        parts = [list(group) for group in groups]
        for number, part in enumerate(parts):
            for other in parts[number + 1 :]:
                for one in part:
                    for two in other:
                        self.cut(one, two)

    def heal(self) -> None:
        """Undo every fault of the network."""
        self.network.heal_all()
        self._set_delays()

    def overhear(self) -> list[tuple[float, str, str, WireMessage]]:
        """Every message from now on: when, from, to and what."""
        heard: list[tuple[float, str, str, WireMessage]] = []
        names = {address: name for name, address in self.addresses.items()}

        def tap(source: str, destination: str, data: bytes) -> None:
            there = (names.get(source, source), names.get(destination, destination))
            heard.append((trio.current_time(), *there, decode(data)))

        self.network.tap = tap
        return heard

    # -- waiting -------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], Any], within: float = 60.0) -> Any:
        """Wait until something holds, and return what it says."""
        with trio.move_on_after(within):
            while not (found := holds()):
                await trio.sleep(0.002)
            return found
        raise AssertionError(f"it did not come to hold within {within} s\n{self.describe()}")

    async def leader(self, *among: str, within: float = 60.0) -> Server:
        """Wait for a leader that knows what is committed, and whom all of `among` know."""

        def find() -> Server | None:
            asked = [self.servers[name] for name in among] if among else self.up
            newest = max((server.term for server in asked), default=0)
            for server in asked:
                known = self.leaders.get(newest) == server.name and server.state == "leader"
                if known and server.last_applied and server.term == newest:
                    entry = self.history.get(server.last_applied)
                    return server if entry is not None and entry.term == newest else None
            return None

        found: Server = await self.until(find, within)
        return found

    async def settled(self, within: float = 60.0) -> Server:
        """Wait until all that run follow one leader and have applied all that it has."""

        def same() -> Server | None:
            leaders = [server for server in self.up if server.state == "leader"]
            if len(leaders) != 1:
                return None
            end = leaders[0].status().last_index
            agree = all(
                server.leader == leaders[0].name and server.last_applied == end
                for server in self.up
            )
            return leaders[0] if agree else None

        leader: Server = await self.until(same, within)
        return leader

    async def formed(self, **options: Any) -> Server:
        """Start all, and wait until all follow one leader."""
        await self.start(**options)
        return await self.settled()

    def followers(self) -> list[str]:
        """Who runs and does not lead, sorted."""
        return sorted(server.name for server in self.up if server.state != "leader")

    async def say(self, text: str, within: float = 60.0) -> int:
        """Have something said, by whichever server leads; the text must be new."""
        with trio.fail_after(within):
            while True:
                for server in self.up:
                    try:
                        result = await server.do(Say(text))
                    except NotLeaderError:
                        continue
                    self.acknowledged.append(text)
                    return result
                await trio.sleep(0.01)

    async def chatter(self, name: str, stop: trio.Event, pause: float = 0.01) -> None:
        """Say one thing after the other, and remember what was acknowledged."""
        number = 0
        while not stop.is_set():
            text = f"{name} {number}"
            number += 1
            for server in sorted(self.up, key=lambda server: server.state != "leader"):
                try:
                    await server.do(Say(text))
                except NotLeaderError:
                    continue
                except (OutcomeUnknown, trioraft.ServerStopped):
                    break
                self.acknowledged.append(text)
                break
            await trio.sleep(pause)

    # -- figure 3 ------------------------------------------------------------------------------

    def leads(self, name: str, term: int) -> None:
        """Election safety: at most one leader in a term."""
        assert self.leaders.setdefault(term, name) == name, f"two leaders in term {term}"

    def applies(self, server: Server, entry: Entry) -> None:
        """State machine safety, and nothing is applied that a majority's disks lack."""
        name = server.name
        assert self.history.setdefault(entry.index, entry) == entry, (
            f"{name} applied another entry {entry.index}: {entry}, {self.history[entry.index]}"
        )
        holders = [kept.holds(entry) for kept in self.disks.values()]
        halves = [h for one in server._core.node.configurations for h in one.halves]
        needed = min(len(half) // 2 + 1 for half in halves)
        assert sum(holders) >= needed, f"{name} applied {entry} on {sum(holders)} disks"

    def check(self) -> None:
        """What must hold at the end: one sequence for all, and nothing promised is lost."""
        assert not self.failures, f"servers ended with errors: {self.failures}"
        longest = max((room.lines for _, room in self._rooms), key=len, default=[])
        for name, room in self._rooms:
            assert room.lines == longest[: len(room.lines)], f"the machine of {name} diverged"
        said = [text for text in longest if text in set(self.acknowledged)]
        assert len(said) == len(set(said)), "something was applied twice"
        assert set(said) == set(self.acknowledged), (
            f"lost: {set(self.acknowledged) - set(said)}\n{self.describe()}"
        )
        indexes = sorted(self.history)
        assert indexes == list(range(1, len(indexes) + 1)), "an entry was skipped"

    def describe(self) -> str:
        """Every server in a line, for a message that somebody has to understand."""
        lines = [str(server.status()) for server in self.servers.values()]
        return "\n".join([*lines, str(self.failures)])


@asynccontextmanager
async def a_cluster(size: int, **options: Any) -> AsyncGenerator[Cluster]:
    """A cluster whose servers are yet to be started; at the end everything is checked."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(nursery, size, **options)
        yield cluster
        cluster.check()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def a_running_cluster(size: int, **options: Any) -> AsyncGenerator[Cluster]:
    """A cluster that has formed and settled."""
    async with a_cluster(size, **options) as cluster:
        await cluster.formed()
        yield cluster


def commands_in(history: Mapping[int, Entry]) -> int:
    """How many entries are commands."""
    return sum(entry.kind is Kind.COMMAND for entry in history.values())
