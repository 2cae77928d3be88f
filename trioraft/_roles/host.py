"""What a role may ask of the server that it runs in.  Only deadlines and bells wait."""

from __future__ import annotations

from typing import Protocol

from trioraft._clock import Bell, Clock, Deadline
from trioraft._rules.events import AppendDue, Event, Proposed
from trioraft._rules.ids import ServerId
from trioraft._rules.node import Node


class Host(Protocol):
    """The server, as its roles see it."""

    clock: Clock
    election: Deadline
    """Moved by the rules whenever a leader is heard or a vote is granted."""
    answer: Deadline
    """Moved by the rules when a leader waits for an answer that the disk holds up."""
    quorum: Deadline
    """Moved by the rules with each answer of a follower."""

    @property
    def node(self) -> Node:
        """The present state; replaced, never edited."""
        ...

    @property
    def proposals(self) -> Bell:
        """Rung when a command queues."""
        ...

    @property
    def reconfigured(self) -> Bell:
        """Rung when the members have changed."""
        ...

    def step(self, event: Event) -> None:
        """Let the rules take one event; the only way to change `node`."""
        ...

    def bell(self, peer: ServerId) -> Bell:
        """Rung when there is news for a follower."""
        ...

    def append_due(self, peer: ServerId, tenure: int) -> AppendDue:
        """A turn for a follower, with what a message to it may hold."""
        ...

    def proposed(self) -> Proposed:
        """All commands that queue."""
        ...
