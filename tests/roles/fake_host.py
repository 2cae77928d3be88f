"""A host without rules: it notes every event, and lets the test decide what follows."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from trioraft._clock import Bell, Clock, Deadline
from trioraft._rules.events import (
    AnswerDue,
    AppendDue,
    ElectionTimeout,
    Event,
    Proposed,
    QuorumTimeout,
)
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Log
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.node import Following, Leading, Node, Progress, Role, Settings

HEARTBEAT = 0.05
ELECTION = 0.15
A, B, C = (ServerId(name, f"{name}-1") for name in "abc")
TENURE = 7


class FakeHost:
    """What a role may ask of its server."""

    def __init__(self, role: Role | None = None, *peers: ServerId) -> None:
        members = (A, *(peers or (B, C)))
        self.clock = Clock()
        self.election = Deadline(self.clock)
        self.answer = Deadline(self.clock)
        self.quorum = Deadline(self.clock)
        self.proposals = Bell()
        self.reconfigured = Bell()
        self.waiting = 0
        self.bells: dict[ServerId, Bell] = {}
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] = self._move_on
        self.node = Node(
            A,
            Settings(HEARTBEAT, ELECTION, 4, 0.1, 200),
            Configuration("c1", tuple(Member(member, f"mem://{member}") for member in members)),
            term=3,
            log=Log(((1, 1),), 9),
            tenure=TENURE,
            role=Following() if role is None else role,
        )

    def _move_on(self, event: Event) -> None:
        """Do the least that keeps the wait from passing again at once."""
        match event:
            case ElectionTimeout():
                self.election.move(math.inf)
            case AnswerDue():
                self.answer.move(math.inf)
            case QuorumTimeout():
                self.quorum.move(math.inf)
            case AppendDue(now, _, peer):
                self.sent(peer, now)

    def sent(self, peer: ServerId, now: float) -> None:
        """A request went to the follower."""
        assert isinstance(self.node.role, Leading)
        progress = self.node.role.of(peer)
        assert progress is not None
        role = self.node.role.with_progress(evolve(progress, sent_at=now))
        self.node = evolve(self.node, role=role)

    def step(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def bell(self, peer: ServerId) -> Bell:
        return self.bells.setdefault(peer, Bell())

    def append_due(self, peer: ServerId, tenure: int) -> AppendDue:
        return AppendDue(self.clock.now(), tenure, peer, 9)

    def proposed(self) -> Proposed:
        count, self.waiting = self.waiting, 0
        return Proposed(self.clock.now(), count)

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of one kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]


def leading(*peers: ServerId) -> Leading:
    return Leading(10, tuple(Progress(peer, 10, 0.0) for peer in peers or (B, C)))


class Runs(Protocol):
    async def run(self) -> None: ...


@asynccontextmanager
async def tenure(role: Runs) -> AsyncIterator[trio.CancelScope]:
    """The role runs in a scope of its own, as it does in its server."""
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            await role.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        yield scope
        scope.cancel()
    assert scope.cancelled_caught, "a role never ends by itself"


def children() -> int:
    """How many tasks there are below the test's own."""
    task = trio.lowlevel.current_task()
    waiting, count = list(task.child_nurseries), 0
    while waiting:
        for child in waiting.pop().child_tasks:
            count += 1
            waiting += child.child_nurseries
    return count
