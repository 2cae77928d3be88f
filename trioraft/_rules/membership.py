"""Who belongs to the cluster, and what a majority of it is."""

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


@frozen
class Configuration:
    """The cluster's members.  Index 0 is the genesis, which lies before the log."""

    cluster: str
    voters: tuple[Member, ...]
    """Sorted by name."""

    def voter(self, server: ServerId) -> bool:
        """Whether the server has a vote: its name and its incarnation must both match."""
        return any(member.id == server for member in self.voters)

    @property
    def names(self) -> frozenset[str]:
        """All members' names."""
        return frozenset(member.id.name for member in self.voters)

    def named(self, name: str) -> Member | None:
        """The member of that name."""
        return next((member for member in self.voters if member.id.name == name), None)

    def others(self, me: ServerId) -> tuple[ServerId, ...]:
        """Every member but one."""
        return tuple(member.id for member in self.voters if member.id != me)

    @property
    def quorum(self) -> int:
        """How many voters are a majority: 2 of 3, 3 of 4."""
        return len(self.voters) // 2 + 1

    def is_quorum(self, servers: Collection[ServerId]) -> bool:
        """Whether these servers are a majority of the voters; who has no vote counts for nobody."""
        return sum(member.id in servers for member in self.voters) >= self.quorum

    def agreed(self, values: Mapping[ServerId, float]) -> float:
        """The greatest value that a majority of the voters has reached; -inf for who is missing."""
        reached = sorted((values.get(m.id, float("-inf")) for m in self.voters), reverse=True)
        return reached[self.quorum - 1]
