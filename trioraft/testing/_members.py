"""What must hold when members change and leadership moves, in a simulated cluster."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Final

from trioraft._rules.elections import quorum_deadline
from trioraft._rules.events import Received
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Half
from trioraft._rules.messages import PreVote, RequestVote, TimeoutNow, TimeoutNowReply
from trioraft._rules.node import Leading, Node, Transfer
from trioraft._rules.reads import lease_until
from trioraft.testing._disks import broken

_SMALL: Final = 8
"""Servers of two neighbouring configurations whose majorities are all looked at."""


class Members:
    """The configurations that were ever in force, and who was asked to campaign."""

    def __init__(self) -> None:
        self.genesis: Configuration | None = None
        self._asked: set[tuple[int, ServerId]] = set()
        """Term and target of every TimeoutNow that has left a leader."""
        self._attempts: dict[tuple[int, ServerId], int] = {}
        """The number of the newest one of these."""
        self._refused: dict[tuple[int, ServerId], int] = {}
        """And of the newest one that the target has said it will not obey."""
        self._overlap: set[tuple[Configuration, Configuration]] = set()
        self._committed: Configuration | None = None
        """The newest one that is committed."""

    # -- configurations ------------------------------------------------------------------------

    def restarted(self, node: Node, written: Mapping[tuple[int, int], Configuration]) -> None:
        """A server starts with the newest configuration that its log or its snapshot holds.

        Args:
            node: the server's state.
            written: the configurations that are in anybody's log, by index and term.
        """
        oldest = node.configurations[0]
        if oldest.index == 0:
            self.genesis = self.genesis or oldest
            if oldest != self.genesis:
                broken(f"{node.me} starts with another genesis than the others: {oldest}")
        held = [
            (index, configuration)
            for (index, term), configuration in written.items()
            if index > node.log.base_index and node.log.term_at(index) == term
        ]
        newest = max(held, key=lambda pair: pair[0], default=None)
        if newest is not None and node.configuration != newest[1]:
            broken(f"{node.me} starts in {node.configuration}; its log holds {newest[1]}")

    def stepped(self, before: Node, after: Node) -> None:
        """The rules have taken an event that changed the configuration that a leader follows."""
        if not isinstance(before.role, Leading) or not isinstance(after.role, Leading):
            return
        old, new = before.configuration, after.configuration
        if old.index > after.commit or after.commit < after.role.first_index:
            broken(f"{after.me} changes the members before the last change is committed")
        if not _is_next(old, new):
            broken(f"{after.me} goes from {old} to {new}, which is no step")
        self._share_majorities(old, new)

    def committed(self, new: Configuration) -> None:
        """A configuration is committed, the first time that any is of this entry."""
        old = self._committed or self.genesis
        if old is not None:
            if not _is_next(old, new):
                broken(f"{new} is committed behind {old}, which is no step")
            self._share_majorities(old, new)
        self._committed = new

    def _share_majorities(self, old: Configuration, new: Configuration) -> None:
        """Any two majorities of neighbours have a server in common: by brute force."""
        pair = _bare(old), _bare(new)
        servers = sorted({member.id for one in pair for member in one.members})
        if pair in self._overlap or len(servers) > _SMALL:
            return
        self._overlap.add(pair)
        subsets = [
            frozenset(chosen)
            for size in range(1, len(servers) + 1)
            for chosen in combinations(servers, size)
        ]
        ours, theirs = ([s for s in subsets if one.is_quorum(s)] for one in pair)
        if not all(one & other for one in ours for other in theirs):
            broken(f"majorities of {old} and {new} can decide apart")

    @property
    def settled(self) -> Configuration | None:
        """The newest configuration that is committed; None: the cluster is yet to form."""
        return self._committed or self.genesis

    # -- elections -----------------------------------------------------------------------------

    def campaigns(self, node: Node) -> None:
        """Who knows that it has no vote any more does not ask for others'."""
        if not any(one.voter(node.me) for one in node.possible):
            broken(f"{node.me} campaigns, and has no vote")

    def deposed(self, before: Node, event: Received, after: Node) -> None:
        """A server outside of the cluster ends nobody's term, while a majority stands by it."""
        role, message = before.role, event.message
        if not isinstance(role, Leading) or isinstance(after.role, Leading):
            return
        is_asked = isinstance(message, RequestVote) and message.transfer
        if is_asked or not isinstance(message, RequestVote | PreVote):
            return
        is_known = any(one.member(event.sender) is not None for one in before.possible)
        if not is_known and event.now < quorum_deadline(before, role):
            broken(f"{event.sender}, which is no member, ends the term of {before.me}")

    def leads(self, before: Node, after: Node) -> None:
        """A leader that has asked another one to lead has no lease until that is resolved."""
        if not isinstance(after.role, Leading) or after.role is before.role:
            return
        now, then = after.role.transfer, None
        if isinstance(before.role, Leading):
            then = before.role.transfer
        if now is not None and lease_until(after) > float("-inf"):
            broken(f"{after.me} hands over to {now.target}, and has a lease")
        if then is not None and now is None and self._may_obey(then, before.term):
            broken(f"{after.me} leads on, and {then.target} may yet obey it")

    def refused(self, message: TimeoutNowReply, target: ServerId) -> None:
        """A follower has said that it will not obey."""
        newest = max(message.number, self._refused.get((message.term, target), 0))
        self._refused[message.term, target] = newest

    def _may_obey(self, transfer: Transfer, term: int) -> bool:
        """Whether the target was asked to campaign in this attempt, and has not refused."""
        asked = self._attempts.get((term, transfer.target), 0) >= transfer.number
        return asked and self._refused.get((term, transfer.target), 0) < transfer.number

    def asked(self, message: TimeoutNow, target: ServerId) -> None:
        """A leader has asked a follower to campaign."""
        if not message.withdrawn:
            self._asked.add((message.term, target))
            newest = max(message.number, self._attempts.get((message.term, target), 0))
            self._attempts[message.term, target] = newest

    def was_asked(self, candidate: ServerId, term: int) -> bool:
        """Whether a candidate of `term` campaigns because the leader before asked it to."""
        return (term - 1, candidate) in self._asked

    def may_vote(self, request: RequestVote, candidate: ServerId) -> bool:
        """Whether somebody who stands by a leader may vote for this candidate all the same."""
        return request.transfer and self.was_asked(candidate, request.term)


def _is_next(old: Configuration, new: Configuration) -> bool:
    """Whether one configuration may follow another one (section 6)."""
    if old.outgoing:
        return not new.outgoing and _ids(new.voters) == _ids(old.voters)
    if new.outgoing:
        return _ids(new.outgoing) == _ids(old.voters)
    return _ids(new.voters) == _ids(old.voters)


def _ids(half: Half) -> set[ServerId]:
    return {member.id for member in half}


def _bare(configuration: Configuration) -> Configuration:
    return Configuration("", configuration.voters, configuration.outgoing)
