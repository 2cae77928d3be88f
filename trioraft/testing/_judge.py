"""Sees every step of every server, and what every disk really holds; knows what may never happen.

The properties are those of figure 3 of the paper and what a server owes to its disk.  The first
one that is broken ends the run, at the very step that broke it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import outcome
import trio

from trioraft._membership import described
from trioraft._rules import effects as do
from trioraft._rules.effects import Effect
from trioraft._rules.events import Event, Received
from trioraft._rules.ids import ServerId
from trioraft._rules.invariants import check
from trioraft._rules.log import Log
from trioraft._rules.membership import Configuration
from trioraft._rules.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshotReply,
    Message,
    PreVote,
    Reply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
    TimeoutNowReply,
)
from trioraft._rules.node import Campaigning, Leading, Node
from trioraft._wire.frames import Entry
from trioraft.testing._disks import Disk, Disks, broken
from trioraft.testing._members import Members
from trioraft.testing._operations import Raised, plain

_NUMBERS: Final = struct.Struct("<dQQQ")


class Judge(Disks):
    """What all servers have done so far, and the one verdict on it."""

    def __init__(self) -> None:
        super().__init__()
        self.leaders: dict[int, ServerId] = {}
        self.committed: list[int] = []
        """The term of every entry that any server has ever taken for committed."""
        self.results: list[object] = []
        """What each of them came to, in a form that can be compared."""
        self.applied_at: list[float] = []
        """When the first server applied each of them."""
        self.tell: Callable[[str, str], None] = _nothing
        """Told what is worth telling, with the server's name."""
        self._committed_in: list[int] = []
        self._logs: dict[int, Log] = {}
        """The leader's log, by its term."""
        self.members = Members()
        self._digest = hashlib.blake2b(digest_size=8)

    @property
    def digest(self) -> str:
        """A fingerprint of all that has happened: equal runs have equal ones."""
        return self._digest.hexdigest()

    def note(self, *what: object) -> None:
        """Let something count for the fingerprint."""
        self._digest.update(repr((_now(), *what)).encode())

    # -- what is seen of the protocol ------------------------------------------------------------

    def restarted(self, disk: Disk, node: Node) -> None:
        """A server takes part from now on."""
        self.counts["starts"] += 1
        self.note("start", node.me.name, node.term, node.log.last_index)
        self.tell(node.me.name, f"starts in term {node.term} with {node.log.last_index} entries")
        self.members.restarted(node, self.configurations)
        if (node.term, node.voted_for) != (disk.term, disk.voted_for) or node.log != disk.log:
            broken(f"{node.me} starts with something else than its disk holds")

    def stepped(
        self, disk: Disk, before: Node, event: Event, after: Node, effects: Sequence[Effect]
    ) -> None:
        """One server has taken one event."""
        check(before, after)
        numbers = _NUMBERS.pack(event.now, after.term, after.commit, after.log.last_index)
        self._digest.update(f"{after.me.name} {type(event).__name__}".encode() + numbers)
        self.counts["steps"] += 1
        for effect in effects:
            if isinstance(effect, do.WriteEntries) and effect.cuts:
                self._cuts(disk, before, after, effect.entries.first)
            elif isinstance(effect, do.ReplaceLog):
                self._replaces(disk, after, effect)
        if isinstance(event, Received):
            self.members.deposed(before, event, after)
            self._heard(disk, event, after, effects)
        if isinstance(after.role, Leading):
            self._logs[after.term] = after.log
        if after.role is not before.role:
            self._changed_role(before, after)
            is_held = event.now < disk.stands_by_until
            is_asked = self.members.was_asked(after.me, after.term)
            if isinstance(after.role, Campaigning) and is_held and not is_asked:
                broken(f"{after.me} campaigns while it stands by a leader")
        if after.configuration is not before.configuration:
            self.members.stepped(before, after)
            if isinstance(before.role, Leading):
                self.on_moment("change", after.me.name)
        self.members.leads(before, after)
        if after.commit > before.commit:
            self._commits(before, after)

    def _heard(self, disk: Disk, event: Received, after: Node, effects: Sequence[Effect]) -> None:
        """Stickiness: who has heard a leader votes for nobody else for an election time-out."""
        self.counts["messages"] += 1
        message, me = event.message, after.me
        if isinstance(message, Reply) and after.term < message.term:
            broken(f"{me} is told of term {message.term}, and stays in {after.term}")
        if isinstance(message, AppendEntries) and message.term == after.term:
            until = event.now + after.settings.election_timeout
            disk.stands_by_until = max(disk.stands_by_until, until)
        for effect in effects:
            answer = effect.message if isinstance(effect, do.Send) else None
            votes = isinstance(answer, RequestVoteReply) and answer.vote_granted
            is_asked = isinstance(message, RequestVote) and self.members.may_vote(
                message, event.sender
            )
            if votes and event.now < disk.stands_by_until and not is_asked:
                broken(f"{me} votes for {event.sender} while it stands by a leader")

    def _cuts(self, disk: Disk, before: Node, after: Node, first: int) -> None:
        """What a later leader lacks may go, committed entries never: a later leader has them."""
        self.counts["cuts"] += 1
        disk.said_log = disk.said_log.cut(first - 1)
        known = self.committed[first - 1 : first]
        if known == [before.log.term_at(first)] and self._committed_in[first - 1] <= after.term:
            broken(f"{after.me} cuts {first} of term {known[0]}, which is committed")

    def _replaces(self, disk: Disk, after: Node, effect: do.ReplaceLog) -> None:
        """An installed snapshot holds committed entries, and so what was acknowledged of them."""
        self.counts["installs"] += 1
        self.tell(after.me.name, f"installs the snapshot of entry {effect.index}")
        disk.said_log = disk.said_log.cut(min(effect.kept, disk.said_log.last_index))
        if self.committed[effect.index - 1 : effect.index] != [effect.term]:
            broken(f"{after.me} installs a snapshot of {effect.index}, which is not committed so")
        self.on_moment("install", after.me.name)

    def _changed_role(self, before: Node, after: Node) -> None:
        if isinstance(after.role, Campaigning):
            self.members.campaigns(after)
        if isinstance(after.role, Campaigning) and after.term > before.term:
            self.counts["campaigns"] += 1
            self.tell(after.me.name, f"campaigns in term {after.term}")
        if isinstance(after.role, Leading) and not isinstance(before.role, Leading):
            self.counts["elections"] += 1
            self.tell(after.me.name, f"leads in term {after.term}")
            if self.leaders.setdefault(after.term, after.me) != after.me:
                broken(f"{self.leaders[after.term]} and {after.me} both lead in term {after.term}")
            self._is_elected(after)
            self._is_complete(after)
            self.on_moment("elected", after.me.name)

    def _is_elected(self, leader: Node) -> None:
        """A majority has voted, and every vote is on its voter's disk."""
        voters = [
            member.id
            for member in leader.configuration.members
            if (disk := self.disks.get(member.id)) is not None
            and leader.me in (disk.said_votes.get(leader.term), _voted(disk, leader.term))
        ]
        if not leader.configuration.is_quorum(voters):
            names = ", ".join(voter.name for voter in voters) or "nobody"
            broken(f"{leader.me} leads in term {leader.term} by the votes of {names} alone")

    def _is_complete(self, leader: Node) -> None:
        """Leader completeness: what was committed in an earlier term is in a later leader's log."""
        for index in range(len(self.committed), 0, -1):
            if self._committed_in[index - 1] < leader.term:
                # One look is enough: by log matching all that comes before is there as well.
                if not holds(leader.log, index, self.committed[index - 1]):
                    broken(f"{leader.me} leads in term {leader.term} without committed {index}")
                return

    def _commits(self, before: Node, node: Node) -> None:
        """State machine safety starts here: an index is committed with one term only, ever."""
        if isinstance(node.role, Leading):
            self._may_commit(node, before.configuration)
        elif node.commit > len(self.committed):
            broken(f"{node.me} takes {node.commit} for committed, and no leader has committed it")
        for index in range(before.commit + 1, node.commit + 1):
            term = node.log.term_at(index)
            if term is None:
                if index > min(len(self.committed), node.log.base_index):
                    broken(f"{node.me} takes {index} for committed, and does not hold it")
            elif index > len(self.committed):
                self.committed.append(term)
                self._committed_in.append(node.term)
                if (new := self.configurations.get((index, term))) is not None:
                    self.members.committed(new)
                    self.counts["configurations"] += 1
                    self.tell(node.me.name, f"commits {described(new)}")
            elif self.committed[index - 1] != term:
                broken(f"{node.me} takes {index} of term {term} for committed; it is of another")
        if isinstance(node.role, Leading):
            self.on_moment("commit", node.me.name)

    def _may_commit(self, leader: Node, in_force: Configuration) -> None:
        """A leader counts replicas of its own term's entries only, and on disks only (5.4.2)."""
        index, term = leader.commit, leader.log.term_at(leader.commit)
        if term != leader.term:
            broken(f"{leader.me} commits {index} of term {term} in term {leader.term}, by counting")
        holders = [server for server, disk in self.disks.items() if holds(disk.log, index, term)]
        if not in_force.is_quorum(holders):
            names = ", ".join(holder.name for holder in holders) or "nobody"
            broken(f"{leader.me} commits {index} of term {term}, which only {names} has on disk")

    def sent(self, disk: Disk, node: Node, to: ServerId, message: Message) -> None:
        """A message leaves: whatever it promises is on disk by now."""
        if isinstance(message, PreVote):
            return
        term, me = message.term, node.me
        if term > disk.term:
            broken(f"{me} says term {term} in {type(message).__name__}; its disk has {disk.term}")
        disk.said_term = max(disk.said_term, term)
        match message:
            case RequestVoteReply(vote_granted=True):
                self._votes(disk, term, to)
                self.on_moment("vote", me.name)
            case RequestVote():
                self._votes(disk, term, me)
            # An answer that was held while its term passed tells what was durable back then.
            case (
                AppendEntriesReply(success=True, match_index=match)
                | InstallSnapshotReply(match_index=match)
            ) if term == disk.term:
                if match > disk.log.last_index or not disk.log.agrees(node.log, match):
                    broken(f"{me} acknowledges {match}; its disk ends at {disk.log.last_index}")
                if not self._logs.get(term, node.log).agrees(node.log, match):
                    broken(f"{me} acknowledges {match} to {to}, whose log is another one")
                if match > disk.said_log.last_index and match >= node.log.base_index:
                    disk.said_log = node.log.cut(match)
                    self.on_moment("ack", me.name)
            case TimeoutNow():
                self.members.asked(message, to)
                self.on_moment("transfer", me.name)
            case TimeoutNowReply():
                self.members.refused(message, me)
            case AppendEntries():
                if self.leaders.get(term) != me:
                    broken(f"{me} sends entries in term {term}, which it does not lead")

    def _votes(self, disk: Disk, term: int, candidate: ServerId) -> None:
        if disk.said_votes.setdefault(term, candidate) != candidate:
            broken(f"{disk.owner} votes for {candidate} in term {term}, and for another one")
        if term == disk.term and disk.voted_for != candidate:
            broken(f"{disk.owner} votes for {candidate}; its disk has {disk.voted_for}")

    def applied(
        self, disk: Disk, node: Node, entry: Entry, result: outcome.Outcome[Any] | None
    ) -> None:
        """State machine safety: all servers apply the same entry at an index, to the same end."""
        index, me = entry.index, node.me
        if index > disk.log.last_index:
            broken(f"{me} applies {index}; its own disk ends at {disk.log.last_index}")
        if index > len(self.committed) or self.committed[index - 1] != entry.term:
            broken(f"{me} applies {index} of term {entry.term}, which is not committed")
        if index > len(self.history):
            if index != len(self.history) + 1:
                broken(f"{me} applies {index} before {len(self.history) + 1}")
            self.history.append(entry)
            self.applied_at.append(_now())
            self.results.append(_comes_to(result))
            self.note("applied", me.name, index, entry.term)
            return
        if self.history[index - 1] != entry:
            broken(f"{me} applies another entry {index} than the first server that did")
        one, other = self.results[index - 1], _comes_to(result)
        if one != other and repr(one) != repr(other):  # a NaN equals nothing
            broken(
                f"entry {index} came to {one} on one server and to {other} on {me.name}: "
                "its apply is not deterministic"
            )

    def restored(self, disk: Disk, node: Node, index: int, term: int) -> None:
        """A machine has become what a snapshot says: of what other machines have applied."""
        if index > len(self.history) or self.committed[index - 1] != term:
            broken(f"{node.me} is restored to {index} of term {term}, which nobody has applied")
        self.note("restored", node.me.name, index)


MOMENTS = ("elected", "commit", "vote", "ack", "write", "snapshot", "install", "change", "transfer")
"""What a fault may wait for: a server was elected, has committed, is about to say that it votes or
acknowledges, has something on disk and has not said so yet, has or has no more a snapshot and the
log does not know yet, is about to install one, has appended other members, or asks another one to
lead."""


def holds(log: Log, index: int, term: int | None) -> bool:
    """Whether a log has an entry, or a snapshot before it has."""
    return index < log.base_index or log.term_at(index) == term


def _voted(disk: Disk, term: int) -> ServerId | None:
    """Whom a disk says that its server voted for."""
    return disk.voted_for if disk.term == term else None


def _nothing(*_: object) -> None:
    pass


def _comes_to(result: outcome.Outcome[Any] | None) -> object:
    """A result in a form that can be compared, and that later commands can't change."""
    match result:
        case outcome.Value(value):
            return plain(value)
        case outcome.Error(Exception() as error):
            return Raised.of(error)
    return None


def _now() -> float:
    return trio.current_time()
