"""A whole cluster in one process and in virtual time, with real servers on machines that fail."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import combinations, permutations
from random import Random
from typing import Any, Final, TypeVar

import trio
from attrs import evolve

from trioraft._client.client import Client
from trioraft._client.opening import open_client
from trioraft._config import Config, Leads
from trioraft._errors import ServerStopped, StorageError
from trioraft._server import Server
from trioraft._transport.conversation import bare_errors
from trioraft.abc import StateMachine
from trioraft.testing._admin import Administrator
from trioraft.testing._alarm import sleep
from trioraft.testing._disk import Crash, DiskFault, SimulatedFiles
from trioraft.testing._holders import Holders
from trioraft.testing._host import SimulatedHost
from trioraft.testing._judge import Judge
from trioraft.testing._looking import agree, described
from trioraft.testing._network import MemoryNetwork, MemoryTransport
from trioraft.testing._seat import Seat
from trioraft.testing._shelf import Shelf
from trioraft.testing._websockets import MemoryWebSocketTransport

T = TypeVar("T")

_LOOK: Final = 0.005
"""Virtual seconds between two looks at what `until` waits for."""


class NotInTime(AssertionError):
    """What had to come to hold did not, within the virtual time that it was given."""


class SimulatedCluster:
    """Servers, the machines that they run on, the network between them, and a judge over all.

    Use `simulated_cluster`.  Nothing here waits unless it says so; every draw comes from the seed.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        machine: Callable[[], StateMachine],
        *,
        servers: int = 3,
        seed: int = 0,
        config: Config | None = None,
        websockets: bool = False,
        leads: Mapping[str, Leads] | None = None,
    ) -> None:
        """Describe a cluster whose servers are yet to be started.

        Args:
            nursery: where its servers run.
            machine: makes a state machine, one for each life of each server.
            servers: how many.
            seed: what everything is drawn from.
            config: as each server gets it.
            websockets: whether messages go through the real websocket code; slower.
            leads: which servers are to lead otherwise than `config` says, by name.
        """
        names = [f"n{number}" for number in range(1, servers + 1)]
        self.hosts = {name: SimulatedHost(name, f"ws://{name}:7000", seed) for name in names}
        self.network = MemoryNetwork()
        self.judge = Judge()
        self.config = Config() if config is None else config
        self.leads = {} if leads is None else dict(leads)
        self.delay = (0.0005, 0.002)
        """Seconds that a message travels, at least and at most."""
        self.disk_seconds = (0.0002, 0.001)
        """What a call of each disk takes, at least and at most, in seconds."""
        self.on_end: Callable[[SimulatedHost], None] = _nothing
        """Told when a server process has ended, however."""
        self.check: Callable[[Any], None] | None = None
        """Told each state machine after each entry; raises when something is wrong with it."""
        self.admin = Administrator(self, nursery)
        """Asks for changes of the members."""
        self.holders = Holders()
        """Watches who acts as the leader."""
        self._founders = tuple(names)
        self._has_moved = False
        self._machine = machine
        self._shelves: dict[str, Shelf] = {}
        self._seed = seed
        self._nursery = nursery
        self._transport = MemoryWebSocketTransport if websockets else MemoryTransport
        self._chance = Random(f"{seed} network")
        self.heal_all()

    def __getitem__(self, name: str) -> Server:
        """The server of that name, in its present or last life."""
        server = self.hosts[name].server
        assert server is not None, f"{name} was never started"
        return server

    @property
    def names(self) -> Sequence[str]:
        """All servers' names, sorted."""
        return tuple(self.hosts)

    @property
    def servers(self) -> Sequence[Server]:
        """Those that run, and are not paused."""
        return [self[host.name] for host in self.hosts.values() if host.runs]

    @property
    def leader(self) -> Server | None:
        """Who leads in the newest term, among those that run."""
        leaders = [server for server in self.servers if server.state == "leader"]
        return max(leaders, key=lambda server: server.term, default=None)

    # -- processes -------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Start these servers, or all, unless they are up."""
        for host in self._those(names):
            if not host.up:
                self._reconnect(host)
                host.ended = trio.Event()
                host.server = self._new_server(host)
                self._nursery.start_soon(self._live, host, host.server)
                if self.holders.watches:
                    self._nursery.start_soon(self.holders.watch, host, host.server)

    def join(self) -> str:
        """Start one more server, which belongs to no cluster; returns its name."""
        name = f"n{len(self.hosts) + 1}"
        self.hosts[name] = SimulatedHost(name, f"ws://{name}:7000", self._seed)
        self._plug_in(name)
        self.start(name)
        return name

    def rehouse(self, name: str, other: str | None = None) -> None:
        """Let a server have another address once it is down, or two have each other's."""
        self._has_moved = True
        self.hosts[name].move(None if other is None else self.hosts[other])
        if other is None:
            self._plug_in(name)

    def _plug_in(self, name: str) -> None:
        """Nothing is wrong with the lines to an address that is new."""
        for other in self.hosts:
            if other != name:
                self.heal(name, other)

    def kill(self, *names: str) -> None:
        """Kill these processes, or all, as SIGKILL does."""
        for host in self._those(names):
            if host.up:
                host.die()

    def power_off(self, *names: str) -> None:
        """Cut the power of these machines, or of all at once: what was not synced may be lost.

        Nobody over there tells the others: their connections are half-open.
        """
        for host in self._those(names):
            if host.up:
                host.loses_power = True
                self.network.unplug(host.address)
                host.die()

    def stop(self, *names: str) -> None:
        """Let these servers, or all, stop in good order."""
        for host in self._those(names):
            if host.up:
                self._nursery.start_soon(self[host.name].stop)

    def take_snapshot(self, name: str) -> None:
        """Ask a server for a snapshot, and wait for nothing."""
        if self.hosts[name].runs:
            self._nursery.start_soon(_take_snapshot, self[name])

    def spoil(self, name: str) -> None:
        """Turn a bit in the next piece of a snapshot that comes to a server."""
        if self.hosts[name].up:
            self._shelves[name].spoils = True

    def pause(self, name: str, seconds: float) -> None:
        """Stop a process for so long, as SIGSTOP and SIGCONT do."""
        host = self.hosts[name]
        if host.up:
            until = trio.current_time() + seconds
            host.freeze(until)
            self.network.pause(host.address, until)

    async def ended(self, *names: str) -> None:
        """Wait until these processes, or all, are gone."""
        for host in self._those(names):
            await host.ended.wait()

    def client(self, name: str) -> AbstractAsyncContextManager[Client]:
        """A client of all servers, on a machine of its own which nothing befalls."""
        here = f"ws://{name}:1"
        chance = self._chance
        for host in self.hosts.values():
            for source, destination in permutations((here, host.address)):
                self.network.delay(source, destination, lambda: chance.uniform(*self.delay))
        return open_client(
            [host.address for host in self.hosts.values()],
            transport=self._transport(self.network, here),
            random=Random(f"{self._seed} client {name}"),
        )

    def _new_server(self, host: SimulatedHost) -> Server:
        host.lives += 1
        seat = Seat(self.judge, host.storage(), host.name)
        seat.on_applied = self._look_at
        self._shelves[host.name] = seat.snapshots
        return Server(
            host.name,
            None,
            self._transport(self.network, host.address),
            self._machine(),
            initial_cluster=self._addresses(self._founders if host.name in self._founders else ()),
            peers=self._addresses(self.hosts) if self._has_moved else None,
            config=evolve(self.config, leads=self.leads.get(host.name, self.config.leads)),
            storage=seat,
            clock=host.clock,
            random=Random(f"{self._seed} server {host.name} {host.lives}"),
            observer=seat,
        )

    def _addresses(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self.hosts[name].address for name in names}

    async def _live(self, host: SimulatedHost, server: Server) -> None:
        try:
            with bare_errors(), trio.CancelScope() as host.scope:
                await server.serve()
        except Crash:
            host.fell_to_a_fault()
        except StorageError:
            if not host.excused:
                raise
            host.fell_to_a_fault()
        finally:
            host.buried()
        self.on_end(host)

    def _look_at(self, name: str, index: int) -> None:
        if self.check is not None:
            self.check(self[name].state_machine)

    def _those(self, names: Iterable[str]) -> list[SimulatedHost]:
        return [self.hosts[name] for name in (list(names) or self.hosts)]

    # -- disks -----------------------------------------------------------------------------------

    def break_disk(
        self, name: str, call: str, fault: DiskFault, *, loses_power: bool = False
    ) -> None:
        """Let the next call of that name ("fdatasync", "pwrite", ...) meet a fault.

        If the server dies of it, its machine may lose its power as well.
        """
        host = self.hosts[name]
        host.excused, host.falls_with_power = True, loses_power
        host.files.fail_next(call, fault)

    def wipe(self, name: str) -> None:
        """Replace a dead machine's disk by an empty one; its server has to be taken in anew."""
        host = self.hosts[name]
        assert not host.up, "a disk is replaced while its server is down"
        host.files, host.lost, host.is_wiped = SimulatedFiles(), "its disk was wiped", True
        self.judge.wiped.add(name)

    def rot(self, name: str) -> None:
        """Turn a bit on a dead machine's disk; nothing may be expected of it any more."""
        host = self.hosts[name]
        assert not host.up, "bits turn while the server is down"
        where = host.files.rot(host.chance)
        host.lost, host.excused = f"its disk is rotten: {where}", True

    def may_lose(self, name: str) -> bool:
        """Whether this disk may be destroyed: a minority, and no committed entry's last quorum."""
        return self.admin.can_do_without(name)

    # -- network ---------------------------------------------------------------------------------

    def cut(self, one: str, other: str) -> None:
        """Cut two servers off each other, with a notice to both."""
        for source, destination in permutations((one, other)):
            self.network.cut(self._at(source), self._at(destination))

    def silence(self, source: str, destination: str) -> None:
        """Lose in silence what one sends to the other; the other way stays as it is."""
        self.network.hold(self._at(source), self._at(destination))

    def slow(self, source: str, destination: str, least: float, most: float) -> None:
        """Let messages from one to the other take so many seconds."""
        chance = self._chance
        self.network.delay(
            self._at(source), self._at(destination), lambda: chance.uniform(least, most)
        )

    def throttle(self, source: str, destination: str, bytes_per_second: float) -> None:
        """Let a slow line carry what one sends to the other."""
        self.network.throttle(self._at(source), self._at(destination), bytes_per_second)

    def disorder(
        self, source: str, destination: str, *, lose: float, repeat: float, reorder: float
    ) -> None:
        """Treat each message for itself: these are the chances of what befalls it."""
        chance = self._chance

        def fate() -> Sequence[float]:
            if chance.random() < lose:
                return ()
            copies = 2 if chance.random() < repeat else 1
            late = [chance.random() < reorder for _ in range(copies)]
            return [chance.uniform(0, 0.05) if is_late else 0.0 for is_late in late]

        self.network.disorder(self._at(source), self._at(destination), fate)

    def reset(self, one: str, other: str) -> None:
        """Break the connections between two servers; they may open new ones at once."""
        for source, destination in permutations((one, other)):
            self.network.reset(self._at(source), self._at(destination))

    def isolate(self, name: str) -> None:
        """Cut one server off all others, with a notice."""
        for other in self.hosts:
            if other != name:
                self.cut(name, other)

    def split(self, *groups: Iterable[str]) -> None:
        """Cut every link between servers of different groups, with a notice."""
        for one, other in combinations([list(group) for group in groups], 2):
            for near in one:
                for far in other:
                    self.cut(near, far)

    def heal(self, one: str, other: str) -> None:
        """Undo every fault of the network between two servers."""
        for source, destination in permutations((one, other)):
            self.network.heal(self._at(source), self._at(destination))
            self.slow(source, destination, *self.delay)

    def heal_all(self) -> None:
        """Undo every fault of the network."""
        for one, other in combinations(self.hosts, 2):
            self.heal(one, other)

    def _at(self, name: str) -> str:
        return self.hosts[name].address

    def _reconnect(self, host: SimulatedHost) -> None:
        """A machine comes back: its system tells whoever still talks to it that nobody is there."""
        self.network.pause(host.address, 0.0)
        self.network.plug(host.address)
        for other in self.hosts:
            if other != host.name:
                self.reset(host.name, other)

    # -- waiting ---------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], T | None], within: float) -> T:
        """Wait until something holds, and return what it says.

        Raises:
            NotInTime: it does not within so many virtual seconds; tells how the servers are.
        """
        end = trio.current_time() + within
        while not (found := holds()):
            if trio.current_time() >= end:
                raise NotInTime(f"it did not come to hold within {within:g} s\n{self.describe()}")
            await sleep(_LOOK)
        return found

    async def settled(self, within: float) -> Server:
        """Wait until all whose disks are whole follow one leader and have applied all of its log.

        Raises:
            NotInTime: they don't within so many virtual seconds.
        """
        return await self.until(self._agreed, within)

    def _agreed(self) -> Server | None:
        leader = self.leader
        return leader if agree(self.hosts.values(), leader) else None

    def describe(self) -> str:
        """Every server in a line."""
        return described(self.hosts.values())


@asynccontextmanager
async def simulated_cluster(
    machine: Callable[[], StateMachine], **options: Any
) -> AsyncGenerator[SimulatedCluster]:
    """A cluster whose servers are yet to be started; the options are `SimulatedCluster`'s.

    At the end all servers are killed.  What went wrong in a server comes out as it is.
    """
    with bare_errors():
        async with trio.open_nursery() as nursery:
            cluster = SimulatedCluster(nursery, machine, **options)
            yield cluster
            cluster.on_end = _nothing
            cluster.kill()
            await cluster.ended()


def _nothing(host: SimulatedHost) -> None:
    pass


async def _take_snapshot(server: Server) -> None:
    with suppress(ServerStopped, StorageError):
        await server.take_snapshot()
