"""A few servers by their rules alone: disks and lines are instant, and may be switched off."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from attrs import evolve

from tests.rules.worlds import SETTINGS, TIMEOUT, A, take
from trioraft._rules import effects as do
from trioraft._rules.effects import Effect
from trioraft._rules.events import (
    AppendDue,
    ChangeDue,
    ElectionTimeout,
    Event,
    LinkUp,
    Persisted,
    Proposed,
    Received,
    SolicitDue,
    TransferDue,
)
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.membership import Configuration, Half, Member
from trioraft._rules.messages import AppendEntries, Message
from trioraft._rules.node import Campaigning, Leading, Node


def members(*servers: ServerId) -> Half:
    return tuple(Member(server, f"ws://{server}") for server in sorted(servers))


class Net:
    """Every message arrives at once, unless its sender or its target is down."""

    def __init__(self, *servers: ServerId, genesis: Collection[ServerId] = ()) -> None:
        configuration = Configuration("cluster", members(*(genesis or servers)))
        self.nodes = {one: Node(one, SETTINGS, configuration) for one in servers}
        self.now = 100.0
        self.down: set[ServerId] = set()
        self.done: list[tuple[ServerId, Effect]] = []
        """Every effect but messages, in order."""
        self.sent: list[tuple[ServerId, ServerId, Message]] = []
        self.free = True
        self._wires: list[tuple[ServerId, ServerId, Message]] = []

    def __getitem__(self, server: ServerId) -> Node:
        return self.nodes[server]

    def add(self, server: ServerId, **changes: object) -> None:
        """A server that is in nobody's configuration yet."""
        first = next(iter(self.nodes.values())).configurations[0]
        self.nodes[server] = evolve(Node(server, SETTINGS, first), **changes)

    def step(self, server: ServerId, event: Event) -> list[Effect]:
        """One step, and what it asks of the disk and of the lines."""
        node, effects = take(self.nodes[server], event)
        self.nodes[server] = node
        for effect in effects:
            if isinstance(effect, do.Send):
                self.sent.append((server, effect.to, effect.message))
                self._wires.append((server, effect.to, effect.message))
            else:
                self.done.append((server, effect))
        return effects

    def settle(self, rounds: int = 12) -> None:
        """Let everything happen that needs no time."""
        for _ in range(rounds):
            for server in self._up():
                if self.nodes[server].disk.done < self.nodes[server].disk.asked:
                    self.step(server, Persisted(self.now, self.nodes[server].disk.asked))
            for server in self._up():
                self._turns(server)
            wires, self._wires = self._wires, []
            for sender, target, message in wires:
                if not {sender, target} & self.down and target in self.nodes:
                    self.step(target, Received(self.now, sender, self._carried(sender, message)))

    def heal(self) -> None:
        """Everybody is up, on lines that are new; and a little time passes."""
        self.down = set()
        for server in self.nodes:
            for peer in self.nodes[server].followers:
                self.step(server, LinkUp(self.now, peer))
        self.pass_time(2)

    def pass_time(self, seconds: float) -> None:
        """Time passes, a heartbeat interval at a time."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + SETTINGS.heartbeat_interval, end)
            self.settle(4)

    def elect(self, server: ServerId) -> None:
        """A time-out passes at one server, long after anybody was heard."""
        self.now += 3 * TIMEOUT
        self.step(server, ElectionTimeout(self.now, self.nodes[server].tenure))
        self.settle()

    def change(
        self, leader: ServerId, voters: Iterable[ServerId], learners: Iterable[ServerId] = ()
    ) -> list[Effect]:
        """The leader is asked for other members; nothing is carried out yet."""
        event = ChangeDue(self.now, members(*voters), members(*learners))
        return self.step(leader, event)

    def transfer(self, leader: ServerId, target: ServerId | None) -> list[Effect]:
        return self.step(leader, TransferDue(self.now, target))

    def propose(self, leader: ServerId, count: int = 1) -> list[Effect]:
        return self.step(leader, Proposed(self.now, count))

    def leads(self, server: ServerId) -> bool:
        return isinstance(self.nodes[server].role, Leading)

    def _up(self) -> list[ServerId]:
        return [server for server in self.nodes if server not in self.down]

    def _turns(self, server: ServerId) -> None:
        node = self.nodes[server]
        if isinstance(node.role, Campaigning):
            for peer in node.configuration.electors(server):
                self.step(server, SolicitDue(self.now, node.tenure, peer))
        for peer in node.followers:
            node = self.nodes[server]
            due = AppendDue(self.now, node.tenure, peer, node.log.last_index, self.free)
            self.step(server, due)

    def _carried(self, sender: ServerId, message: Message) -> Message:
        """Where a leader sends entries that lie in its log, each has its own frame."""
        if not isinstance(message, AppendEntries):
            return message
        lines = message.entries
        return evolve(
            message,
            entries=Entries(lines.first, lines.last, lines.runs, (), lines.configurations),
        )


def three(leader: ServerId = A, *, genesis: Collection[ServerId] = ()) -> Net:
    """A cluster that has elected a leader, whose first entry is committed."""
    net = Net(*genesis, genesis=genesis)
    net.elect(leader)
    assert net.leads(leader)
    return net
