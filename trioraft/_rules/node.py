"""One server's state, frozen: what figure 2 of the paper lists, and what this library adds.

Grouped by who may have it: `Following`, `Campaigning` and `Leading` hold what only that role knows,
so no rule can read a `next_index` that is not there.  What steps change has no slots, for `evolve`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from attrs import frozen

from trioraft._rules.evolving import evolve
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Log
from trioraft._rules.membership import Configuration

FRUITLESS_MOST = 3
"""Election time-outs double with each fruitless campaign, at most this often: up to eight times."""

LIVE_FOR = 4
"""Election time-outs from a follower's last answer in which it counts as there."""


@frozen
class Settings:
    """The figures that rules need.  Times are seconds."""

    heartbeat_interval: float
    election_timeout: float
    """The least time without a leader after which a follower campaigns, and the stickiness."""
    append_window: int
    """The most AppendEntries with entries that are unanswered at one follower."""
    max_clock_drift: float
    """How much faster another server's clock may run than this one's: a fraction, no time."""
    trailing_entries: int
    """How many entries stay in the log behind a snapshot."""
    reluctance: int = 0
    """How little this server is to lead: 0 like any, 1 rarely, 2 never if it can be."""


@frozen(slots=False)
class Disk:
    """What was asked of the disk and what it has reported, by the numbers of the writes."""

    asked: int = 0
    done: int = 0
    index: int = 0
    """The last entry that is durable here."""
    term_write: int = 0
    """The write that makes the present term and vote durable."""
    pending: tuple[tuple[int, int], ...] = ()
    """Writes under way: the number, and the last index that is durable once it is done."""

    @property
    def knows_term(self) -> bool:
        """Whether the present term and vote are durable."""
        return self.done >= self.term_write

    def asking(self, last_index: int, kept: int) -> Disk:
        """One more write is asked for.

        Entries behind `kept` are cut by it.  An index alone is no identity: what an earlier write
        had brought there counts no more, even if its completion is still to come.
        """
        pending = tuple((write, min(last, kept)) for write, last in self.pending)
        return evolve(
            self,
            asked=self.asked + 1,
            index=min(self.index, kept),
            pending=(*pending, (self.asked + 1, last_index)),
        )

    def having(self, write: int) -> Disk:
        """Everything up to write number `write` is durable."""
        reached = [last for number, last in self.pending if number <= write]
        return evolve(
            self,
            done=max(self.done, write),
            index=reached[-1] if reached else self.index,
            pending=tuple(pair for pair in self.pending if pair[0] > write),
        )


@frozen(slots=False)
class Following:
    """Listens to a leader, or waits for one."""

    leader: ServerId | None = None
    verified: int = 0
    """The highest prev + count accepted from this term's leader: so far the logs are one."""
    number: int = 0
    """The newest request taken from the leader."""
    owes: bool = False
    """A request with entries waits for the disk, and for its answer."""


@frozen(slots=False)
class Campaigning:
    """Asks for votes; in a pre-vote, whether it would get them."""

    pre: bool
    votes: frozenset[ServerId]
    """Who granted; in a real campaign without the own vote, which counts once it is durable."""
    transfer: bool = False
    """The leader has asked for this campaign."""


@frozen(slots=False)
class Progress:
    """What the leader knows of one follower."""

    peer: ServerId
    next_index: int
    answered_at: float
    """When the newest answered request was sent; the start of the tenure before any was."""
    match_index: int = 0
    probing: bool = True
    """No agreement found yet: one request at a time."""
    number: int = 0
    """The last request sent."""
    floor: int = 0
    """Rejections of requests up to this one are old news."""
    sent_at: float = -math.inf
    in_flight: tuple[tuple[int, int, int], ...] = ()
    """Requests with entries that are unanswered: number, first and last index."""
    unanswered: tuple[tuple[int, float, int], ...] = ()
    """Unanswered requests of the last election time-out: number, instant of sending, round."""
    sent_round: int = 0
    """The newest round of reads that a request to it belongs to."""
    answered_round: int = 0
    """The newest round of reads of which it has answered a request."""
    stands_until: float = -math.inf
    """It votes for nobody else before: when what it answered was sent, and its stickiness."""
    fetching: bool = False
    """Its next entries are being read from the disk."""
    installing: int = 0
    """The index of the snapshot that is on its way to it; 0: none."""
    install_at: float = -math.inf
    """No snapshot is begun before."""
    answered: int = 0
    """The newest request that it has answered."""
    matched_by: int = 0
    """The newest request whose answer has proved the match."""
    reluctance: int = 0
    """How little it wants to lead, by its newest answer."""
    expelled: bool = False
    """It has lost what it had acknowledged: nothing it says counts any more."""
    leaves_after: int = 0
    """It is no member any more, and gone once it has answered this request; 0: it stays."""
    leaves_at: float = math.inf
    """Then it is gone, whatever it has answered."""


@frozen(slots=False)
class Transfer:
    """The leader's attempt to have another server lead (thesis 3.10)."""

    target: ServerId
    number: int
    """Of the TimeoutNow; each attempt of a term has its own."""
    until: float
    """Then it is given up; once it is, the leader waits no longer for an answer."""
    sent: bool = False
    withdrawn: bool = False
    """It is given up, but the target may not know that yet: no lease until it has said so."""
    again_at: float = -math.inf
    """When the target is told so again."""


@frozen(slots=False)
class Leading:
    """Replicates its log, for as long as a majority answers."""

    first_index: int
    """The no-op that began this term; only from here on may replicas be counted (5.4.2)."""
    progress: tuple[Progress, ...]
    """One for each other member, and for those who leave and may not know it."""
    lagging: tuple[int, float] | None = None
    """An entry that a majority has without this server's own disk, and since when."""
    round: int = 0
    """The newest round of reads of which something has been sent."""
    wanted: int = 0
    """The newest round that readers have joined: at most one behind `round`."""
    confirmed: int = 0
    """The newest round of which a majority has answered something."""
    transfer: Transfer | None = None
    """The attempt that is under way, or was given up and may be obeyed yet."""
    transfers: int = 0
    """How many attempts there were."""
    numbered: int = 0
    """The highest number of a request to a follower that has been dismissed."""
    hand_over_at: float = -math.inf
    """No attempt is begun before, unless somebody asks for it."""

    def of(self, peer: ServerId) -> Progress | None:
        """What is known of that follower; None if it is no member."""
        return next((progress for progress in self.progress if progress.peer == peer), None)

    def with_progress(self, new: Progress) -> Leading:
        """The same, with one follower's progress replaced."""
        return evolve(
            self, progress=tuple(new if old.peer == new.peer else old for old in self.progress)
        )


Role = Following | Campaigning | Leading


@frozen(slots=False)
class Node:
    """The whole protocol state of one server."""

    me: ServerId
    settings: Settings
    configuration: Configuration
    """The newest in the log, committed or not: it is in force (section 6)."""
    term: int = 0
    voted_for: ServerId | None = None
    log: Log = Log()
    commit: int = 0
    snapshot_index: int = 0
    """The last entry that this server's newest snapshot holds."""
    disk: Disk = Disk()
    sticky_until: float = -math.inf
    """Until then votes are refused: a leader was heard, or this server has just started."""
    fruitless: int = 0
    """Campaigns since a leader was last known."""
    tenure: int = 0
    """Rises with each change of role; whatever crosses a wait carries it."""
    role: Role = Following()
    earlier: tuple[Configuration, ...] = ()
    """The configurations before the newest one, oldest first: the log may be cut (seed G-03)."""
    silences: int = 0
    """Election time-outs in which a server that is not to lead has let others go first."""
    withdrawn: tuple[int, int] = (0, 0)
    """The newest TimeoutNow, by term and number, that this server will not obey."""

    @property
    def leader(self) -> ServerId | None:
        """Who leads in this term, as far as this server knows."""
        if isinstance(self.role, Leading):
            return self.me
        return self.role.leader if isinstance(self.role, Following) else None

    @property
    def followers(self) -> tuple[ServerId, ...]:
        """Whom this server replicates to: nobody, unless it leads."""
        role = self.role
        return tuple(p.peer for p in role.progress) if isinstance(role, Leading) else ()

    @property
    def configurations(self) -> tuple[Configuration, ...]:
        """All that the log holds or goes on from, oldest first."""
        return (*self.earlier, self.configuration)

    def configuration_at(self, index: int) -> Configuration:
        """The one in force at an entry that is committed, and not long compacted."""
        known = self.configurations
        return next((one for one in reversed(known) if one.index <= index), known[0])

    @property
    def possible(self) -> tuple[Configuration, ...]:
        """Those that may be in force somewhere, as far as this server knows: the committed one,
        and all that came after it."""
        if self.configuration.index <= self.commit:
            return (self.configuration,)
        committed = self.configuration_at(self.commit)
        return tuple(one for one in self.configurations if one.index >= committed.index)

    @property
    def applicable(self) -> int:
        """The last entry that may be applied here: committed, and durable on this very disk."""
        return min(self.commit, self.disk.index)

    def is_live(self, progress: Progress, now: float) -> bool:
        """Whether a follower has answered of late: the log is kept for it, and snapshots sent."""
        return progress.answered_at >= now - LIVE_FOR * self.settings.election_timeout

    def next_index(self, peer: ServerId) -> int:
        """The first entry that the leader has not sent to the follower; 0 if there is no such."""
        progress = self.role.of(peer) if isinstance(self.role, Leading) else None
        return 0 if progress is None else progress.next_index

    def heartbeat_at(self, peer: ServerId) -> float:
        """When the follower is due a heartbeat, if nothing else is sent to it until then."""
        progress = self.role.of(peer) if isinstance(self.role, Leading) else None
        if progress is None:
            return math.inf
        if progress.expelled:
            return progress.leaves_at
        return progress.sent_at + self.settings.heartbeat_interval

    def agreed(self, mine: float, others: Mapping[ServerId, float]) -> float:
        """What a majority has reached, this server's own value included."""
        return self.configuration.agreed({**others, self.me: mine})
