"""Carries a plan of faults out."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import attrs
import trio

from trioraft.testing import _disk
from trioraft.testing._cluster import SimulatedCluster
from trioraft.testing._host import SimulatedHost
from trioraft.testing._kinds import FAULTS, Undo
from trioraft.testing._plan import LEADER, Fault, Plan


class Mischief:
    """Does to a cluster what the plan says, and puts it right in the end."""

    def __init__(self, cluster: SimulatedCluster, plan: Plan, seed: int) -> None:
        self.cluster = cluster
        self.counts: Counter[str] = Counter()
        """How many faults of each kind have begun."""
        self.on_begin: Callable[[str, Fault], None] = lambda server, fault: None
        self._chance = Random(f"{seed} mischief")
        self._plan = sorted(plan, key=lambda fault: fault.at)
        self._aimed: list[Fault] = []
        self._starts: dict[str, float] = {}
        self._after_death: dict[str, Callable[[str], None]] = {}
        self._moving: dict[str, Callable[[str], None]] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._scope = trio.CancelScope()
        self._is_over = False
        cluster.on_end = self._has_ended
        cluster.judge.on_moment = self._moment

    async def run(self, seconds: float) -> None:
        """Let everything go wrong that the plan holds for so long; then put all of it right."""
        began = trio.current_time()
        for fault in self._plan:
            self._at(began + fault.at, self._beginning(fault))
        while (now := trio.current_time()) < began + seconds:
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            next_at = self._due[0][0] if self._due else began + seconds
            with trio.CancelScope(deadline=min(next_at, began + seconds)) as self._scope:
                await trio.sleep_forever()
        self._is_over = True
        self._put_right()

    def _put_right(self) -> None:
        """Undo everything: all lines, clocks and disks are good, and all servers are up."""
        cluster = self.cluster
        self._aimed.clear()
        cluster.heal_all()
        for host in cluster.hosts.values():
            host.disk_seconds = cluster.disk_seconds
            host.clock.set_rate(1.0)
            host.files.mend()
            host.freeze(0.0)
            cluster.network.pause(host.address, 0.0)
        cluster.start(*[host.name for host in cluster.hosts.values() if not host.is_given_up])

    def _beginning(self, fault: Fault) -> Callable[[], None]:
        def begin() -> None:
            if fault.moment is not None:
                self._aimed.append(fault)
            else:
                self._begin(fault, self._whom(fault.server))

        return begin

    def _whom(self, server: str) -> str:
        if server != LEADER:
            return server
        leader = self.cluster.leader
        return self.cluster.names[0] if leader is None else leader.name

    def _moment(self, moment: str, server: str) -> None:
        for fault in [fault for fault in self._aimed if fault.moment == moment]:
            self._aimed.remove(fault)
            self._begin(fault, server)

    def _begin(self, fault: Fault, server: str) -> None:
        if self._is_over:
            return
        fault = attrs.evolve(fault, server=server, others=self._others(fault, server))
        self.counts[fault.kind] += 1
        self.on_begin(server, fault)
        undo = FAULTS[fault.kind].begin(self, server, fault)
        if undo is not None:
            self.later(fault.seconds, undo)

    def _others(self, fault: Fault, server: str) -> tuple[str, ...]:
        """Whom it befalls besides, now that it is known whom it befalls first."""
        kind = FAULTS[fault.kind]
        named = tuple(name for name in fault.others if name != server)
        if fault.kind == "split" or not (kind.is_of_links or kind.is_of_a_pair):
            return named
        missing = [name for name in self.cluster.names if name not in (server, *named)]
        return (*named, *missing)[: 1 if kind.is_of_a_pair else None]

    def _at(self, instant: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (instant, self._count, act))
        self._scope.deadline = min(self._scope.deadline, instant)

    # What kinds have in common

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Does something after so many seconds, unless the time of faults is over by then."""
        self._at(trio.current_time() + seconds, act)

    def links(self, server: str, others: Sequence[str]) -> list[tuple[str, str]]:
        """Both directions between a server and some others."""
        return [link for other in others for link in ((server, other), (other, server))]

    def healing(self, server: str, others: Sequence[str]) -> Undo:
        """Undoes whatever befell the links between a server and some others."""
        return self.healing_all([server], others)

    def healing_all(self, here: Sequence[str], there: Sequence[str]) -> Undo:
        """Undoes whatever befell the links between two groups."""

        def undo() -> None:
            for one in here:
                for other in there:
                    self.cluster.heal(one, other)

        return undo

    def disordering(
        self,
        server: str,
        fault: Fault,
        *,
        lose: float = 0.0,
        repeat: float = 0.0,
        reorder: float = 0.0,
    ) -> Undo:
        """Treats each message from and to a server for itself."""
        for link in self.links(server, fault.others):
            self.cluster.disorder(*link, lose=lose, repeat=repeat, reorder=reorder)
        return self.healing(server, fault.others)

    def break_disk(
        self, server: str, call: str, fault: _disk.DiskFault, *, loses: bool = False
    ) -> None:
        """Lets the next such call fail; if the server dies of it, its machine may lose power."""
        if self.cluster.hosts[server].up:
            self.cluster.break_disk(server, call, fault, loses_power=loses)

    @property
    def has_all_disks(self) -> bool:
        """Whether no disk is lost, or about to be."""
        return not self._after_death and self.cluster.admin.has_lost_no_disk

    def lose_disk(self, server: str, seconds: float, how: Callable[[str], None]) -> bool:
        """Destroys a disk, if the cluster can do without it, once its server is down."""
        host = self.cluster.hosts[server]
        others = [name for name in self._after_death if name != server]
        may = host.up and not host.lost and not others and self.cluster.may_lose(server)
        if may:
            self._after_death[server] = how
            self.cluster.kill(server)
            self.start_after(server, seconds)
        return may

    def move(self, seconds: float, server: str, other: str | None) -> None:
        """Kills one server, or two, and starts it at another address, or both at each other's."""
        hosts = self.cluster.hosts
        moving = [server] if other is None else [server, other]

        def rehouse(_: str) -> None:
            if not any(hosts[name].up for name in moving):
                self.cluster.rehouse(server, other)

        if all(hosts[name].up for name in moving) and not self._after_death.keys() & {*moving}:
            for name in moving:
                self._moving[name] = rehouse
            self.cluster.kill(*moving)
            for name in moving:
                self.start_after(name, seconds)

    def start_after(self, server: str, seconds: float) -> None:
        """Starts a server again."""
        instant = trio.current_time() + seconds
        self._starts[server] = max(instant, self._starts.get(server, 0.0))
        self._at(self._starts[server], lambda: self._start(server))

    def _start(self, server: str) -> None:
        if trio.current_time() >= self._starts.get(server, 0.0) and not self._is_over:
            self._starts.pop(server, None)
            self.cluster.start(server)

    def _has_ended(self, host: SimulatedHost) -> None:
        lose = self._after_death.pop(host.name, None)
        if lose is not None:
            lose(host.name)
        move = self._moving.pop(host.name, None)
        if move is not None:
            move(host.name)
        if self._is_over and not host.is_given_up:
            self.cluster.start(host.name)
        elif host.name not in self._starts and not host.is_given_up:
            self.start_after(host.name, self._chance.uniform(0.02, 0.5))
