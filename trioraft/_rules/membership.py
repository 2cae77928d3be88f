"""Who belongs to the cluster, and what a majority of it is (section 6).

While the voters change there are two majorities to win: one of those that go, one of those that
come (joint consensus).  Any two configurations that follow each other thus share a server in all
of their majorities, however many servers change at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from attrs import frozen

from trioraft._rules.ids import ServerId


@frozen
class Member:
    """A server as the configuration knows it."""

    id: ServerId
    address: str
    commands: tuple[str, ...] = ()
    """The names of the commands that the member is known to understand, sorted."""


Half = tuple[Member, ...]
"""Servers of which a majority must agree, sorted by name."""


@frozen
class Configuration:
    """The cluster's members.  Index 0 is the genesis, which lies before the log."""

    cluster: str
    voters: Half
    outgoing: Half = ()
    """The voters before this change, while it is under way (C_old); else empty."""
    learners: tuple[Member, ...] = ()
    """Those who get the log and have no vote, sorted by name; one that is an outgoing voter has
    its vote until the change is over."""
    index: int = 0
    """Where it stands in the log."""

    @property
    def halves(self) -> tuple[Half, ...]:
        """Each set of servers of which a majority must agree."""
        return (self.voters, self.outgoing) if self.outgoing else (self.voters,)

    @property
    def members(self) -> tuple[Member, ...]:
        """Every server once: voters, then those who go, then learners."""
        found: dict[ServerId, Member] = {}
        for member in (*self.voters, *self.outgoing, *self.learners):
            found.setdefault(member.id, member)
        return tuple(found.values())

    def voter(self, server: ServerId) -> bool:
        """Whether the server has a vote: its name and its incarnation must both match."""
        return any(member.id == server for half in self.halves for member in half)

    def member(self, server: ServerId) -> Member | None:
        """What is known of a server; None if it is no member."""
        return next((member for member in self.members if member.id == server), None)

    @property
    def names(self) -> frozenset[str]:
        """All members' names."""
        return frozenset(member.id.name for member in self.members)

    def named(self, name: str) -> Member | None:
        """The member of that name; of two incarnations the one that is being taken in."""
        found = [member for member in self.members if member.id.name == name]
        taken_in = [member for member in found if member in self.learners]
        return next(iter(taken_in or found), None)

    def others(self, me: ServerId) -> tuple[ServerId, ...]:
        """Every member but one."""
        return tuple(member.id for member in self.members if member.id != me)

    def electors(self, me: ServerId) -> tuple[ServerId, ...]:
        """Every server but one whose vote counts."""
        return tuple(other for other in self.others(me) if self.voter(other))

    @property
    def quorum(self) -> int:
        """How many voters are a majority: 2 of 3, 3 of 4."""
        return len(self.voters) // 2 + 1

    def is_quorum(self, servers: Collection[ServerId]) -> bool:
        """Whether these servers are a majority of each half; who has no vote counts for nobody."""
        return all(
            2 * sum(member.id in servers for member in half) > len(half) for half in self.halves
        )

    def agreed(self, values: Mapping[ServerId, float]) -> float:
        """The greatest value that a majority of each half has reached; -inf for who is missing."""
        if not self.outgoing:  # nearly always, and often
            return _agreed(self.voters, values)
        return min(_agreed(half, values) for half in self.halves)


def _agreed(half: Half, values: Mapping[ServerId, float]) -> float:
    reached = sorted((values.get(member.id, float("-inf")) for member in half), reverse=True)
    return reached[len(half) // 2]
