"""A whole cluster of rules, explored: every order of what can happen, up to a bound.

A state of the world is what each server has in memory, on its disk and on the way to its disk,
and the set of all messages that ever left.  A message in that set may be delivered at any time, any
number of times or never, so orders, losses and duplicates need no moves of their own.  The set also
holds what has come to pass and can't be undone: who led when and with which log, and what was
committed.  Figure 3 of the paper is a relation between any two such facts.

A snapshot is modelled as all that it holds: the log from the first entry on.  Wherever logs are
compared, what they have forgotten is looked up in a snapshot.

A majority is counted here by this module's own few lines, in the configuration that was in force
when the leader counted.  Worlds in which members change have no snapshots.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator
from functools import cache
from itertools import combinations, pairwise

from attrs import evolve, frozen

from tests.rules.worlds import EVERYBODY
from trioraft._rules import effects as do
from trioraft._rules.elections import become_candidate, may_campaign
from trioraft._rules.events import (
    AnswerDue,
    AppendDue,
    ChangeDue,
    ElectionTimeout,
    Event,
    Fetched,
    LinkUp,
    Persisted,
    Proposed,
    QuorumTimeout,
    Received,
    SnapshotSent,
    SnapshotTaken,
    SolicitDue,
    TransferDue,
)
from trioraft._rules.ids import ServerId
from trioraft._rules.invariants import check
from trioraft._rules.log import Log
from trioraft._rules.membership import Configuration, Half, Member
from trioraft._rules.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
    TimeoutNowReply,
)
from trioraft._rules.node import Campaigning, Disk, Following, Leading, Node, Settings
from trioraft._rules.reads import lease_until
from trioraft._rules.step import step


class Violation(AssertionError):
    """A safety property of the paper does not hold."""


@frozen
class Bounds:
    """Where the exploration ends."""

    servers: int = 3
    term: int = 3
    log: int = 3
    requests: int = 3
    """To each follower in one term."""
    proposals: int = 1
    restarts: int = 1
    links: int = 0
    """How often a stream may be made anew."""
    clock: int = 0
    """The last instant."""
    election_timeout: float = 0.0
    slow_disks: bool = True
    """Else every write is durable at once."""
    pre_votes: bool = True
    """Else a campaign may begin at any time, as if everybody had said yes: pre-votes promise
    nothing, so safety must not rest on them."""
    fetches: bool = False
    """Entries may have to be read from the disk."""
    snapshots: int = 0
    """How many may be taken."""
    slow_snapshots: bool = False
    """A snapshot is durable for a while before its server's rules hear of it."""
    voters: str = ""
    """Who has a vote at first, by their names; empty: all servers."""
    learners: str = ""
    """Who gets the log, and has no vote."""
    memberships: tuple[tuple[str, str], ...] = ()
    """What a leader may be asked for: the names of voters and of learners."""
    changes: int = 0
    """How often it may."""
    transfers: int = 0
    """How often a leader may be asked to hand over."""

    @property
    def leases(self) -> bool:
        """Whether leases hold: nobody campaigns who stands by a leader, and time passes."""
        return self.pre_votes and self.election_timeout > 0


Write = (
    do.SaveTerm
    | do.WriteEntries
    | do.AppendOwn
    | do.AppendConfiguration
    | do.Compact
    | do.ReplaceLog
)


@frozen
class Saved:
    """What a server finds on its disk after a crash."""

    term: int
    voted_for: ServerId | None
    log: Log
    snapshots: tuple[Log, ...] = ()
    """All snapshots that are whole."""
    configurations: tuple[Configuration, ...] = ()
    """What the log says of members, oldest first."""

    @property
    def newest(self) -> Log:
        """The newest snapshot that a start may use: the log goes on from it.

        Raises:
            Violation: the log begins behind what no snapshot holds.
        """
        return newest_of(self.log, self.snapshots)

    @property
    def full(self) -> Log:
        """All that snapshot and log hold together."""
        return lifted(self.log, self.snapshots)


@frozen
class Host:
    """A server: its memory, its disk, and what waits between."""

    node: Node
    saved: Saved
    queue: tuple[Write, ...] = ()
    held: tuple[do.Send, ...] = ()
    fetches: tuple[do.Fetch, ...] = ()
    taking: int = 0
    """A snapshot of which the rules have yet to hear."""

    @property
    def full(self) -> Log:
        """The log from its first entry on, with what is in snapshots only."""
        return lifted(self.node.log, self.saved.snapshots)

    def pruned(self) -> Host:
        """Without the snapshots that nobody needs: neither from now on, nor after a crash."""
        if not self.saved.snapshots:
            return self
        needed = {self.saved.newest, newest_of(self.node.log, self.saved.snapshots)}
        kept = tuple(one for one in self.saved.snapshots if one in needed)
        return evolve(self, saved=evolve(self.saved, snapshots=kept))

    def keeping(self, snapshot: Log) -> Host:
        """With one more snapshot."""
        others = [one for one in self.saved.snapshots if one.last_index != snapshot.last_index]
        snapshots = tuple(sorted([*others, snapshot], key=lambda one: one.last_index))
        return evolve(self, saved=evolve(self.saved, snapshots=snapshots))


@frozen
class Letter:
    """A message that left."""

    sender: ServerId
    to: ServerId
    message: Message
    snapshot: Log = Log()
    """What an InstallSnapshot brings."""


@frozen
class Led:
    """A server came to lead, with this log."""

    term: int
    server: ServerId
    log: Log


@frozen
class Committed:
    """A server came to know, in this term, that this part of its log is committed."""

    term: int
    log: Log
    by: Configuration | None = None
    """By whose majority, if that server has counted itself."""


NOTHING = Log()

Token = Letter | Led | Committed
Move = tuple[str, int, object]
"""What happens, to which server, and with what."""


@frozen
class World:
    """One state; servers and tokens by their numbers."""

    hosts: tuple[int, ...]
    tokens: int
    """A bit for each."""
    now: int = 0
    proposals: int = 0
    restarts: int = 0
    links: int = 0
    snapshots: int = 0
    changes: int = 0
    transfers: int = 0


def members(names: str) -> Half:
    """The servers of these names."""
    return tuple(Member(one, f"ws://{one}") for one in EVERYBODY if one.name in names)


def has_majority(configuration: Configuration, servers: set[ServerId]) -> bool:
    """Whether these servers are more than half of the voters, of the old ones and of the new."""
    halves = [{member.id for member in half} for half in (configuration.voters,)]
    if configuration.outgoing:
        halves.append({member.id for member in configuration.outgoing})
    return all(2 * len(half & servers) > len(half) for half in halves)


@cache
def overlap(one: Configuration, other: Configuration) -> bool:
    """Whether any two majorities of the two share a server: who lacks one leaves none over."""
    everybody = {member.id for member in (*one.members, *other.members)}
    return not any(
        has_majority(one, set(chosen)) and has_majority(other, everybody - set(chosen))
        for count in range(len(everybody) + 1)
        for chosen in combinations(sorted(everybody), count)
    )


def written(saved: Saved, write: Write) -> Saved:
    """The disk after one more write."""
    match write:
        case do.SaveTerm(term=term, voted_for=voted_for):
            return evolve(saved, term=term, voted_for=voted_for)
        case do.WriteEntries(entries=entries):
            assert entries.first <= saved.log.last_index + 1, "a gap on disk"
            assert write.cuts == (entries.first <= saved.log.last_index), "a cut must be named"
            kept = tuple(one for one in saved.configurations if one.index < entries.first)
            return evolve(
                saved,
                log=saved.log.cut(entries.first - 1).extended(entries),
                configurations=(*kept, *entries.configurations),
            )
        case do.AppendOwn(first=first, term=term, count=count):
            assert first == saved.log.last_index + 1, "a leader only appends"
            last = first + count - 1
            own = Log(((first, term),), last).between(first, last)
            return evolve(saved, log=saved.log.extended(own))
        case do.AppendConfiguration(term=term, configuration=configuration):
            index = configuration.index
            assert index == saved.log.last_index + 1, "a leader only appends"
            own = Log(((index, term),), index).between(index, index)
            known = (*saved.configurations, configuration)
            return evolve(saved, log=saved.log.extended(own), configurations=known)
        case do.Compact(index=index, term=term):
            assert saved.log.term_at(index) == term, "what is forgotten was there"
            after = evolve(saved, log=saved.log.compacted(index))
        case do.ReplaceLog(kept=kept, index=index, term=term):
            assert saved.log.base_index <= kept < index, "it goes on behind what there is"
            assert saved.log.term_at(index) != term, "what agrees must stay"
            after = evolve(saved, log=Log((), index, index, term))
    require(after.newest.last_index >= index, f"no snapshot holds what is gone: {write}")
    return after


def newest_of(log: Log, snapshots: tuple[Log, ...]) -> Log:
    """The newest of these snapshots that the log goes on from; an empty one if it needs none."""
    usable = [one for one in snapshots if log.term_at(one.last_index) == one.last_term]
    require(bool(usable) or not log.base_index, f"no snapshot for {log}")
    return usable[-1] if usable else Log()


def lifted(log: Log, snapshots: tuple[Log, ...]) -> Log:
    """The log from its first entry on: what is no more in it is taken from a snapshot."""
    if not log.base_index:
        return log
    for snapshot in reversed(snapshots):
        if snapshot.term_at(log.base_index) == log.base_term:
            rest = log.between(log.base_index + 1, log.last_index)
            return snapshot.cut(log.base_index).extended(rest)
    raise Violation(f"no snapshot for {log}")


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Violation(what)


def prefix(longer: Log, shorter: Log) -> bool:
    """Whether one log begins with the other."""
    return longer.last_index >= shorter.last_index and longer.cut(shorter.last_index) == shorter


class Exploration:
    """Moves between worlds, each checked.

    What one server does depends on itself and on the event alone, so each such step is run once and
    remembered.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        assert not (bounds.changes and bounds.snapshots), "snapshots hold no members here"
        voters = bounds.voters or "".join(one.name for one in EVERYBODY[: bounds.servers])
        self.configuration = Configuration(
            "cluster", members(voters), learners=members(bounds.learners)
        )
        self.settings = Settings(
            heartbeat_interval=0.0,
            election_timeout=bounds.election_timeout,
            append_window=2,
            max_clock_drift=0.0,
            trailing_entries=0,
        )
        self.servers = EVERYBODY[: bounds.servers]
        self.hosts: list[Host] = []
        self.tokens: list[Token] = []
        self.steps = 0
        self._host_numbers: dict[Host, int] = {}
        self._token_numbers: dict[Token, int] = {}
        self._inboxes = [0] * bounds.servers
        self._facts = 0
        self._snapshots = 0
        self._done: dict[tuple[int, Move, int], tuple[int, tuple[int, ...]] | None] = {}
        self._moves: dict[int, tuple[Move, ...]] = {}
        self._matching: set[tuple[int, int]] = set()
        self._agreeing: set[tuple[int, int]] = set()

    # -- worlds --------------------------------------------------------------------------------

    def start(
        self, *logs: tuple[int, ...], term: int | None = None, bases: tuple[int, ...] = ()
    ) -> World:
        """All servers after a restart, with these logs, and the greatest term among them.

        What lies up to a server's base is in a snapshot, and no more in its log.
        """
        term = max((log[-1] for log in logs if log), default=0) if term is None else term
        hosts = []
        bits = 0
        for index, me in enumerate(self.servers):
            log = Log()
            for entry_term in logs[index] if logs else ():
                first = log.last_index + 1
                log = log.extended(Log(((first, entry_term),), first).between(first, first))
            saved = Saved(term, None, log)
            if bases and bases[index]:
                snapshot = log.cut(bases[index])
                saved = Saved(term, None, log.compacted(bases[index]), (snapshot,))
                bits |= 1 << self._token(Committed(term, snapshot, self.configuration))
            hosts.append(self._host(self._boot(me, saved)))
        return World(tuple(hosts), bits)

    def _boot(self, me: ServerId, saved: Saved, sticky_until: float = -math.inf) -> Host:
        snapshot = saved.newest.last_index
        *earlier, newest = (self.configuration, *saved.configurations)
        node = Node(
            me,
            self.settings,
            newest,
            term=saved.term,
            voted_for=saved.voted_for,
            log=saved.log,
            commit=snapshot,
            snapshot_index=snapshot,
            disk=Disk(index=saved.log.last_index),
            sticky_until=sticky_until,
            earlier=tuple(earlier),
        )
        return Host(node, saved).pruned()

    def _host(self, host: Host) -> int:
        number = self._host_numbers.setdefault(host, len(self.hosts))
        if number == len(self.hosts):
            self.hosts.append(host)
        return number

    def _token(self, token: Token) -> int:
        number = self._token_numbers.setdefault(token, len(self.tokens))
        if number == len(self.tokens):
            self.tokens.append(token)
            if isinstance(token, Letter):
                self._inboxes[self.servers.index(token.to)] |= 1 << number
                if isinstance(token.message, InstallSnapshot):
                    self._snapshots |= 1 << number
            else:
                self._facts |= 1 << number
        return number

    def host(self, world: World, index: int) -> Host:
        return self.hosts[world.hosts[index]]

    def without_letters(self, world: World) -> World:
        """The same, with everything lost that was on its way."""
        return evolve(world, tokens=world.tokens & self._facts)

    # -- moves ---------------------------------------------------------------------------------

    def moves(self, world: World) -> Iterator[Move]:
        """All that can happen next."""
        bounds = self.bounds
        for index in range(bounds.servers):
            number = world.hosts[index]
            if number not in self._moves:
                self._moves[number] = tuple(self._moves_of(index, self.hosts[number]))
            for move in self._moves[number]:
                match move[0]:
                    case "propose" if world.proposals == bounds.proposals:
                        continue
                    case "restart" if world.restarts == bounds.restarts:
                        continue
                    case "link" if world.links == bounds.links:
                        continue
                    case "save" if world.snapshots == bounds.snapshots:
                        continue
                    case "change" if world.changes == bounds.changes:
                        continue
                    case "transfer" if world.transfers == bounds.transfers:
                        continue
                yield move
            letters = world.tokens & self._inboxes[index]
            while letters:
                lowest = letters & -letters
                letters ^= lowest
                yield "deliver", index, lowest.bit_length() - 1
                if bounds.slow_snapshots and self._snapshots & lowest:
                    yield "accept", index, lowest.bit_length() - 1
        if world.now < bounds.clock:
            yield "tick", 0, None

    def _moves_of(self, index: int, host: Host) -> Iterator[Move]:
        node = host.node
        for count in {1, len(host.queue)} if host.queue else ():
            yield "disk", index, count
        for count in range(len(host.queue) + 1):
            yield "restart", index, count
        if host.taking:
            yield "taken", index, None
        else:
            for last in range(node.snapshot_index + 1, node.applicable + 1):
                yield "save", index, last
        match node.role:
            case Leading(progress=progress):
                yield "quorum", index, None
                yield "propose", index, None
                for membership in self.bounds.memberships:
                    yield "change", index, membership
                for one in progress:
                    yield "link", index, one.peer
                    yield "transfer", index, one.peer
                    if one.installing:
                        yield "sent", index, one.peer
                    if one.number < self.bounds.requests:
                        for reach in sorted({one.next_index, node.log.last_index}):
                            yield "append", index, (one.peer, reach)
                        if self.bounds.fetches:
                            yield "append", index, (one.peer, None)
                for fetch in host.fetches:
                    yield "fetched", index, fetch
            case Following(owes=True):
                yield "answer", index, None
        if (
            not isinstance(node.role, Leading)
            and node.term < self.bounds.term
            and may_campaign(node)
        ):
            yield ("timeout" if self.bounds.pre_votes else "campaign"), index, None

    def go(self, world: World, move: Move) -> World | None:
        """The world after a move; None beyond the bounds.

        Raises:
            Violation: the rules broke a property of figure 3.
            InternalError: or one of their own invariants.
        """
        what, index, _ = move
        self.steps += 1
        if what == "tick":
            return evolve(world, now=world.now + 1)
        before = world.hosts[index]
        key = before, move, world.now
        if key not in self._done:
            self._done[key] = self._act(before, move, world.now)
        done = self._done[key]
        if done is None:
            return None
        after, tokens = done
        if after == before and all(world.tokens >> token & 1 for token in tokens):
            return world
        hosts = (*world.hosts[:index], after, *world.hosts[index + 1 :])
        bits = world.tokens
        for token in tokens:
            if not bits >> token & 1:
                bits |= 1 << token
                if self._facts >> token & 1:
                    self._check_fact(token, bits, hosts)
        self._check_logs(index, hosts)
        if self.bounds.leases:
            self._check_leases(hosts, bits, world.now)
        return World(
            hosts,
            bits,
            world.now,
            world.proposals + (what == "propose"),
            world.restarts + (what == "restart"),
            world.links + (what == "link"),
            world.snapshots + (what == "save"),
            world.changes + (what == "change"),
            world.transfers + (what == "transfer"),
        )

    # -- one server ----------------------------------------------------------------------------

    def _act(self, number: int, move: Move, now: int) -> tuple[int, tuple[int, ...]] | None:
        what, index, detail = move
        host, me = self.hosts[number], self.servers[index]
        tokens: list[Token] = []
        if what == "restart":
            # The disk may have done more than it came to tell: the crash is between.
            assert isinstance(detail, int)
            saved = host.saved
            for write in host.queue[:detail]:
                saved = written(saved, write)
            stickiness = self.settings.election_timeout
            host = self._boot(me, saved, now + stickiness if stickiness else -math.inf)
            if host.node.commit:
                tokens.append(Committed(host.node.term, host.full.cut(host.node.commit)))
        elif what == "disk":
            assert isinstance(detail, int)
            host = self._sync(host, detail, now, tokens)
        elif what == "campaign":
            node, effects = become_candidate(host.node, now)
            host = self._carry_out(host, node, effects, tokens)
        elif what == "save":
            assert isinstance(detail, int)
            host = evolve(host.keeping(host.full.cut(detail)), taking=detail)
            if not self.bounds.slow_snapshots:
                host = self._taken(host, now, tokens)
        elif what == "taken":
            host = self._taken(host, now, tokens)
        elif what == "accept":
            host = self._accept(host, detail)
        else:
            if what == "fetched":
                host = evolve(host, fetches=tuple(f for f in host.fetches if f != detail))
            if what == "deliver":
                host = self._accept(host, detail)
            host = self._take(host, self._event(host, what, detail, now), tokens)
            host = host.pruned() if what == "deliver" else host
        host = self._run_on(host, now, tokens)
        node = host.node
        if (
            node.term > self.bounds.term
            or node.log.last_index > self.bounds.log
            or len(host.queue) > 3
        ):
            return None
        return self._host(host), tuple(self._token(token) for token in tokens)

    def _run_on(self, host: Host, now: int, tokens: list[Token]) -> Host:
        """What may just as well happen at once: fast disks, and asking for votes.

        A message is delivered whenever it may be, so it is no loss to send it early.
        """
        while host.queue and not self.bounds.slow_disks:
            host = self._sync(host, len(host.queue), now, tokens)
        node = host.node
        if isinstance(node.role, Campaigning):
            for peer in node.configuration.others(node.me):
                host = self._take(host, SolicitDue(now, node.tenure, peer), tokens)
        return host

    def _taken(self, host: Host, now: int, tokens: list[Token]) -> Host:
        """The rules hear of a snapshot."""
        host = self._take(host, SnapshotTaken(now, host.taking, host.node.snapshot_index), tokens)
        return evolve(host, taking=0).pruned()

    def _accept(self, host: Host, detail: object) -> Host:
        """A snapshot that comes is on the disk before the rules hear of it; an old one is not."""
        assert isinstance(detail, int)
        letter = self.tokens[detail]
        assert isinstance(letter, Letter)
        new = letter.snapshot.last_index > host.node.snapshot_index
        return host.keeping(letter.snapshot) if new else host

    def _event(self, host: Host, what: str, detail: object, now: int) -> Event:
        node = host.node
        match what, detail:
            case "deliver", int(token):
                letter = self.tokens[token]
                assert isinstance(letter, Letter)
                return Received(now, letter.sender, letter.message)
            case "timeout", _:
                return ElectionTimeout(now, node.tenure)
            case "quorum", _:
                return QuorumTimeout(now, node.tenure)
            case "answer", _:
                return AnswerDue(now, node.tenure)
            case "propose", _:
                return Proposed(now, 1)
            case "append", (ServerId() as peer, int() | None as reach):
                return AppendDue(now, node.tenure, peer, reach)
            case "link", ServerId() as peer:
                return LinkUp(now, peer)
            case "fetched", do.Fetch(tenure=tenure, peer=peer, first=first):
                last = max(node.log.last_index, first)
                found = host.full.between(first, last)
                known = tuple(one for one in node.configurations if first <= one.index <= last)
                return Fetched(now, tenure, peer, evolve(found, configurations=known))
            case "change", (str() as voters, str() as learners):
                # Asked for just before, so that who answers now counts as one that does.
                return ChangeDue(now - 0.5, members(voters), members(learners))
            case "transfer", ServerId() as peer:
                return TransferDue(now, peer)
            case "sent", ServerId() as peer:
                return SnapshotSent(now, node.tenure, peer)
        raise AssertionError((what, detail))

    def _sync(self, host: Host, count: int, now: int, tokens: list[Token]) -> Host:
        """The disk has done `count` more writes, and says so; what waited for them leaves."""
        saved = host.saved
        for write in host.queue[:count]:
            saved = written(saved, write)
        based = saved.log.base_index > host.saved.log.base_index
        done = host.queue[count - 1].write
        free = [send for send in host.held if send.after <= done]
        host = evolve(
            host,
            saved=saved,
            queue=host.queue[count:],
            held=tuple(send for send in host.held if send.after > done),
        )
        for send in free:
            self._leave(host, send, tokens)
        host = self._take(host, Persisted(now, done), tokens)
        if not host.queue and not self.bounds.snapshots:
            found = (self.configuration, *host.saved.configurations)
            self._check(
                host.node.configurations == found,
                f"{host.node.me} has other configurations in force than its log says",
            )
        return host.pruned() if based else host

    def _take(self, host: Host, event: Event, tokens: list[Token]) -> Host:
        node, effects = step(host.node, event)
        return self._carry_out(host, node, effects, tokens)

    def _carry_out(
        self, host: Host, node: Node, effects: list[do.Effect], tokens: list[Token]
    ) -> Host:
        before = host.node
        check(before, node)
        host = evolve(host, node=node)
        for effect in effects:
            match effect:
                case (
                    do.SaveTerm()
                    | do.WriteEntries()
                    | do.AppendOwn()
                    | do.AppendConfiguration()
                    | do.Compact()
                    | do.ReplaceLog()
                ):
                    host = evolve(host, queue=(*host.queue, effect))
                case do.Send(message=message, after=after):
                    self._check_said(host, message)
                    if host.queue and host.queue[0].write <= after:
                        host = evolve(host, held=(*host.held, effect))
                    else:
                        self._leave(host, effect, tokens)
                case do.Fetch():
                    host = evolve(host, fetches=(*host.fetches, effect))
                case do.SendSnapshot(peer=peer):
                    self._send_snapshot(host, peer, tokens)
                case do.Commit(index=index):
                    self._check(
                        prefix(host.saved.full, host.full.cut(index)) and index <= node.commit,
                        f"{node.me} applies what is not durable there, or not committed",
                    )
                case do.Expel() | do.Complain():
                    # Here what was on the way to a server outlives it, as on no stream.
                    self._check(
                        isinstance(effect, do.Expel) and self.bounds.restarts > 0,
                        f"{node.me} finds fault with who has none: {effect}",
                    )
        if isinstance(node.role, Leading) and not isinstance(before.role, Leading):
            tokens.append(Led(node.term, node.me, host.full))
        if node.commit > before.commit:
            counted = before.configuration if isinstance(before.role, Leading) else None
            tokens.append(Committed(node.term, host.full.cut(node.commit), counted))
        if node.configuration is not before.configuration:
            self._check(
                all(overlap(one, next_) for one, next_ in pairwise(node.configurations)),
                f"two majorities may decide apart: {node.configurations}",
            )
        numbers = [write.write for write in host.queue]
        self._check(
            all(b == a + 1 for a, b in pairwise(numbers))
            and (not numbers or numbers[-1] == node.disk.asked),
            "writes are numbered one by one",
        )
        return host

    def _send_snapshot(self, host: Host, peer: ServerId, tokens: list[Token]) -> None:
        """The newest one; it takes its time, and is said to be from this term's leader."""
        node, snapshot = host.node, newest_of(host.node.log, host.saved.snapshots)
        index, term = snapshot.last_index, snapshot.last_term
        self._check(
            index >= node.snapshot_index > 0, f"{node.me} has no such snapshot as it says it has"
        )
        message = InstallSnapshot(node.term, index, term, None)
        self._leave(host, do.Send(peer, message), tokens, snapshot)

    # -- what must hold ------------------------------------------------------------------------

    _check = staticmethod(require)

    def _check_said(self, host: Host, message: Message) -> None:
        """An acknowledgement is of what is on this very disk."""
        if isinstance(message, AppendEntriesReply) and message.success:
            said = host.full.cut(message.match_index)
            self._check(
                said.last_index == message.match_index and prefix(host.saved.full, said),
                f"{host.node.me} acknowledges what is not durable: {message}",
            )

    def _leave(
        self, host: Host, send: do.Send, tokens: list[Token], snapshot: Log = NOTHING
    ) -> None:
        """A promise leaves only once it is kept even after a crash."""
        saved, message = host.saved, send.message
        me, holds = host.node.me, True
        match message:
            case RequestVote(term=term):
                holds = saved.term > term or (saved.term, saved.voted_for) == (term, me)
            case RequestVoteReply(term=term, vote_granted=True):
                holds = saved.term > term or (saved.term, saved.voted_for) == (term, send.to)
            case RequestVoteReply(term=term) | PreVoteReply(term=term):
                holds = saved.term >= term
            case InstallSnapshotReply(term=term, match_index=match):
                said = host.full.cut(match)
                holds = saved.term >= term and said.last_index == match
                holds = holds and prefix(saved.full, said)
            case AppendEntriesReply(term=term) | AppendEntries(term=term):
                holds = saved.term >= term
            case InstallSnapshot(term=term) | TimeoutNow(term=term) | TimeoutNowReply(term=term):
                holds = saved.term >= term
            case PreVote():
                pass
        self._check(holds, f"{me} promised before it was durable: {message}")
        tokens.append(Letter(me, send.to, message, snapshot))

    def _check_fact(self, new: int, bits: int, hosts: tuple[int, ...]) -> None:
        facts = bits & self._facts
        while facts:
            lowest = facts & -facts
            facts ^= lowest
            other = lowest.bit_length() - 1
            if (new, other) not in self._agreeing:
                self._check_two(self.tokens[new], self.tokens[other])
                self._check_two(self.tokens[other], self.tokens[new])
                self._agreeing |= {(new, other), (other, new)}
        fact = self.tokens[new]
        if isinstance(fact, Committed):
            self._check_committed(fact, bits, hosts)

    def _check_committed(self, fact: Committed, bits: int, hosts: tuple[int, ...]) -> None:
        """Whoever has counted found a majority, which has it on disk still."""
        having = {
            self.hosts[number].node.me
            for number in hosts
            if prefix(self.hosts[number].saved.full, fact.log)
        }
        counted = [
            other
            for number in range(bits.bit_length())
            if bits >> number & self._facts >> number & 1
            and isinstance(other := self.tokens[number], Committed)
            and other.by is not None
            and prefix(other.log, fact.log)
        ]
        self._check(bool(counted), f"nobody has counted what is {fact}")
        for other in counted:
            assert other.by is not None
            self._check(
                has_majority(other.by, having), f"no majority has on disk what is {fact}: {other}"
            )

    def _check_leases(self, hosts: tuple[int, ...], bits: int, now: int) -> None:
        """While a leader has a lease, nobody has come to lead after it."""
        for number in hosts:
            node = self.hosts[number].node
            if not isinstance(node.role, Leading) or lease_until(node) <= now:
                continue
            facts = bits & self._facts
            while facts:
                lowest = facts & -facts
                facts ^= lowest
                fact = self.tokens[lowest.bit_length() - 1]
                self._check(
                    not isinstance(fact, Led) or fact.term <= node.term,
                    f"{node.me} has a lease in term {node.term}, and there is {fact}",
                )

    def _check_two(self, one: Token, other: Token) -> None:
        """Figure 3, but for log matching, which is about logs."""
        match one, other:
            case Led(), Led():
                self._check(
                    one.term != other.term or one == other, f"election safety: {one}, {other}"
                )
            case Committed(), Led():
                self._check(
                    other.term <= one.term or prefix(other.log, one.log),
                    f"leader completeness: {one}, {other}",
                )
            case Committed(), Committed():
                end = min(one.log.last_index, other.log.last_index)
                self._check(
                    one.log.cut(end) == other.log.cut(end),
                    f"state machine safety: {one}, {other}",
                )

    def _check_logs(self, index: int, hosts: tuple[int, ...]) -> None:
        """Log matching: two logs with one entry in common are one up to there."""
        for number in hosts:
            pair = hosts[index], number
            if pair in self._matching:
                continue
            one, other = (self.hosts[host].full for host in pair)
            for last in range(min(one.last_index, other.last_index), 0, -1):
                if one.term_at(last) == other.term_at(last):
                    ours, theirs = (
                        [c for c in self.hosts[host].node.configurations if 0 < c.index <= last]
                        for host in pair
                    )
                    self._check(
                        one.cut(last) == other.cut(last)
                        and (ours == theirs or bool(self.bounds.snapshots)),
                        f"log matching: {one}, {other}, {ours}, {theirs}",
                    )
                    break
            self._matching.add(pair)

    # -- searches ------------------------------------------------------------------------------

    def breadth_first(self, start: World, most: int) -> int:
        """Visit up to `most` worlds, the nearest first; returns how many there were."""
        origin: dict[World, tuple[World, Move] | None] = {start: None}
        waiting = deque([start])
        while waiting:
            world = waiting.popleft()
            for move in self.moves(world):
                try:
                    after = self.go(world, move)
                except Exception as error:
                    path = [self._say(move)]
                    while (step_back := origin[world]) is not None:
                        world, move = step_back
                        path.append(self._say(move))
                    error.add_note("\n".join(["after:", *reversed(path)]))
                    raise
                if after is not None and after not in origin:
                    if len(origin) == most:
                        return most
                    origin[after] = world, move
                    waiting.append(after)
        return len(origin)

    def walk(self, start: World, seed: int, length: int) -> World:
        """One long way through the worlds, by chance; fresh messages more often than old ones."""
        chance = random.Random(seed)
        world, path, been = start, list[Move](), set[Move]()
        for _ in range(length):
            kinds: dict[tuple[str, int], list[Move]] = {}
            for move in self.moves(world):
                kinds.setdefault(move[:2], []).append(move)
            weights = [_WEIGHTS[what] for what, _ in kinds]
            (choices,) = chance.choices(list(kinds.values()), weights)
            if choices[0][0] == "deliver" and chance.random() < 0.9:
                choices = [move for move in choices if move not in been] or choices
            move = chance.choice(choices)
            path.append(move)
            been.add(move)
            try:
                world = self.go(world, move) or world
            except Exception as error:
                error.add_note("\n".join([f"seed {seed}, after:", *map(self._say, path)]))
                raise
        return world

    def _say(self, move: Move) -> str:
        what, index, detail = move
        if what == "deliver" and isinstance(detail, int):
            detail = self.tokens[detail]
        return f"  {self.servers[index]}: {what} {detail}"


_WEIGHTS = {
    "deliver": 30,
    "disk": 20,
    "append": 12,
    "propose": 2,
    "fetched": 8,
    "timeout": 1,
    "campaign": 1,
    "answer": 1,
    "quorum": 0.2,
    "restart": 0.3,
    "link": 0.5,
    "save": 1,
    "taken": 8,
    "accept": 1,
    "sent": 4,
    "tick": 2,
    "change": 2,
    "transfer": 2,
}
