"""Leader election: section 5.2, the restriction of 5.4.1, and pre-vote (thesis 9.6).

A server that hears no leader first asks whether it would get votes at all, without touching any
term (pre-vote), and campaigns only if a majority says so.  Whoever heard a leader within the
shortest election time-out refuses both, and keeps its term: a server that comes back from a
partition, or was removed and does not know it, unsettles nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from trioraft._rules import effects as do
from trioraft._rules.effects import Effect
from trioraft._rules.events import ElectionTimeout, Persisted, SolicitDue
from trioraft._rules.evolving import evolve
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.messages import PreVote, PreVoteReply, RequestVote, RequestVoteReply
from trioraft._rules.node import (
    FRUITLESS_MOST,
    Campaigning,
    Following,
    Leading,
    Node,
    Progress,
)

Outcome = tuple[Node, list[Effect]]

_SILENCES = (0, 1, 4)
"""Election time-outs in which a server lets others go first, by its reluctance to lead.

In the end it campaigns all the same, for it may hold the only complete log.
"""


# -- becoming ----------------------------------------------------------------------------------


def become_follower(node: Node, now: float, term: int, leader: ServerId | None = None) -> Outcome:
    """Follow in `term`, which is this server's own or a higher one.

    A new term brings a new vote (5.1); within a term the vote stays, or a candidate that steps
    down could vote twice.  Who follows already waits on: a higher term alone is no sign of a
    leader, and whoever asks in it may not be able to win.
    """
    changes = not isinstance(node.role, Following)
    effects: list[Effect] = [do.ElectionBy(now)] if changes else []
    effects.append(do.AnswerBy(math.inf))
    if term > node.term:
        node = save_term(node, term, None, effects)
    return (
        evolve(node, role=Following(leader), tenure=node.tenure + changes),
        effects,
    )


def save_term(node: Node, term: int, voted_for: ServerId | None, effects: list[Effect]) -> Node:
    """Take a term and a vote, and have them written (5.1: both are persistent state)."""
    disk = node.disk.asking(node.log.last_index, node.log.last_index)
    effects.append(do.SaveTerm(disk.asked, term, voted_for))
    return evolve(node, term=term, voted_for=voted_for, disk=evolve(disk, term_write=disk.asked))


def become_pre_candidate(node: Node, now: float) -> Outcome:
    """Ask everybody whether a campaign would have a chance."""
    node = evolve(
        node, role=Campaigning(pre=True, votes=frozenset({node.me})), tenure=node.tenure + 1
    )
    return _count_votes(node, now, [do.ElectionBy(now)])


def become_candidate(node: Node, now: float, *, transfer: bool = False) -> Outcome:
    """Begin an election: a new term, a vote for oneself (5.2).

    The requests leave, and the own vote counts, when the disk has both.  `transfer`: the leader
    has asked for it.
    """
    effects: list[Effect] = []
    node = save_term(node, node.term + 1, node.me, effects)
    role = Campaigning(pre=False, votes=frozenset(), transfer=transfer)
    return (
        evolve(node, role=role, tenure=node.tenure + 1),
        [*effects, _next_campaign(node, now)],
    )


def become_leader(node: Node, now: float) -> Outcome:
    """Lead: append a no-op, so that the entries of earlier terms can commit (5.4.2, 8)."""
    first = node.log.last_index + 1
    # Who may have been removed of late has to learn it from somebody.
    others = dict.fromkeys(p for one in node.possible[::-1] for p in one.others(node.me))
    progress = tuple(Progress(peer, next_index=first, answered_at=now) for peer in others)
    disk = node.disk.asking(first, node.log.last_index)
    node = evolve(
        node,
        log=node.log.extended(Entries(first, first, ((first, node.term),))),
        disk=disk,
        fruitless=0,
        tenure=node.tenure + 1,
        role=Leading(first, progress),
    )
    quorum_by = now + node.settings.election_timeout if progress else math.inf
    return node, [
        do.AppendOwn(disk.asked, first, node.term, 1),
        do.QuorumBy(quorum_by),
    ]


# -- time passes -------------------------------------------------------------------------------


def on_election_timeout(node: Node, event: ElectionTimeout) -> Outcome:
    """No leader was heard in time, or the election was not won."""
    # A campaign is a vote, too: who has just started may have stood by a leader, in times that
    # were longer than today's.
    if event.now < node.sticky_until:
        return node, [do.ElectionBy(event.now)]
    if not may_campaign(node):
        return _leaderless(node, event.now)
    if node.silences < _SILENCES[node.settings.reluctance]:
        return _leaderless(evolve(node, silences=node.silences + 1), event.now)
    if isinstance(node.role, Campaigning) and not node.role.pre:
        if not node.disk.knows_term:
            # The requests have not even left: a slow disk must not burn terms.
            return node, [_next_campaign(node, event.now)]
        node = evolve(node, fruitless=min(node.fruitless + 1, FRUITLESS_MOST))
    return become_pre_candidate(node, event.now)


def _leaderless(node: Node, now: float) -> Outcome:
    """Know of no leader any more, and wait on: nobody is sent to one that is not heard."""
    effects: list[Effect] = [do.ElectionBy(now)]
    if isinstance(node.role, Following) and node.role.leader is not None:
        effects.append(do.AnswerBy(math.inf))
        node = evolve(node, role=evolve(node.role, leader=None, owes=False))
    return node, effects


def on_solicit_due(node: Node, event: SolicitDue) -> Outcome:
    """Ask one peer for its vote, or again: a lost request must not cost a whole election."""
    role, log = node.role, node.log
    assert isinstance(role, Campaigning), "the tenure was checked"
    if event.peer in role.votes:
        return node, []
    if role.pre:
        question = PreVote(node.term + 1, log.last_index, log.last_term)
        return node, [do.Send(event.peer, question)]
    request = RequestVote(node.term, log.last_index, log.last_term, role.transfer)
    return node, [do.Send(event.peer, request, after=node.disk.term_write)]


def on_own_vote_durable(node: Node, event: Persisted) -> Outcome:
    """The own vote counts from now on, and the requests are leaving: the time-out starts anew."""
    return _count_votes(node, event.now, [_next_campaign(node, event.now)])


# -- requests ----------------------------------------------------------------------------------


def on_request_vote(node: Node, now: float, sender: ServerId, request: RequestVote) -> Outcome:
    """RequestVote, receiver's side (figure 2)."""
    # Who campaigns because its leader asked it to takes nothing from that leader (thesis 3.10).
    is_held = is_sticky(node, now) and not request.transfer
    if request.term < node.term or is_held:
        return node, [_reply(node, sender, RequestVoteReply(node.term, vote_granted=False))]
    effects: list[Effect] = []
    if request.term > node.term:
        node, effects = become_follower(node, now, request.term)
    granted = node.voted_for in (None, sender) and _is_up_to_date(node, request)
    if granted:
        if isinstance(node.role, Campaigning):
            node, effects = become_follower(node, now, node.term)
        # Only a granted vote restarts the time-out: who refuses may have to campaign itself.
        effects.append(do.ElectionBy(now))
        node = evolve(node, silences=0)
        if node.voted_for is None:
            node = save_term(node, node.term, sender, effects)
    return node, [*effects, _reply(node, sender, RequestVoteReply(node.term, granted))]


def on_pre_vote(node: Node, now: float, sender: ServerId, request: PreVote) -> Outcome:
    """PreVote, receiver's side: say whether a vote would be granted, and change nothing."""
    granted = (
        request.term > node.term and not is_sticky(node, now) and _is_up_to_date(node, request)
    )
    return node, [_reply(node, sender, PreVoteReply(node.term, request.term, granted))]


# -- replies -----------------------------------------------------------------------------------


def on_request_vote_reply(
    node: Node, now: float, sender: ServerId, reply: RequestVoteReply
) -> Outcome:
    """A vote, for this very term, from whoever it may be: votes are a set, not a count."""
    role = node.role
    counts = isinstance(role, Campaigning) and not role.pre and reply.term == node.term
    return _take_vote(node, now, sender) if counts and reply.vote_granted else (node, [])


def on_pre_vote_reply(node: Node, now: float, sender: ServerId, reply: PreVoteReply) -> Outcome:
    """A promise of a vote for the term that would come next."""
    role = node.role
    counts = isinstance(role, Campaigning) and role.pre and reply.asked_term == node.term + 1
    return _take_vote(node, now, sender) if counts and reply.vote_granted else (node, [])


def may_campaign(node: Node) -> bool:
    """Whether this server has a vote in a configuration that may be in force.

    One whose removal is not known to be committed must be able to win: it may be the only one that
    holds that very entry, without which nobody's log is complete (thesis 4.2.2).  Whose votes count
    is said by the newest one alone.
    """
    return any(one.voter(node.me) for one in node.possible)


# -- shared ------------------------------------------------------------------------------------


def is_sticky(node: Node, now: float) -> bool:
    """Whether this server stands by a leader, itself perhaps, and refuses its vote to others."""
    return now < node.sticky_until or (
        isinstance(node.role, Leading) and now < quorum_deadline(node, node.role)
    )


def quorum_deadline(node: Node, role: Leading) -> float:
    """Until when the leader may believe that a majority follows it.

    Counted from the sending of what was answered, not from the receipt of the answer.
    """
    answered = node.agreed(math.inf, {p.peer: p.answered_at for p in role.progress})
    return answered + node.settings.election_timeout


def _is_up_to_date(node: Node, request: RequestVote | PreVote) -> bool:
    """Whether the candidate's log holds all that may be committed (5.4.1).

    Terms are compared first, and lengths only within one term (seed G-40).
    """
    theirs = (request.last_log_term, request.last_log_index)
    return theirs >= (node.log.last_term, node.log.last_index)


def _take_vote(node: Node, now: float, voter: ServerId) -> Outcome:
    assert isinstance(node.role, Campaigning)
    role = evolve(node.role, votes=node.role.votes | {voter})
    return _count_votes(evolve(node, role=role), now, [])


def _count_votes(node: Node, now: float, effects: Sequence[Effect]) -> Outcome:
    """Go on to the next stage once a majority stands behind this one."""
    role = node.role
    assert isinstance(role, Campaigning)
    votes = role.votes | {node.me} if node.disk.knows_term else role.votes
    if not node.configuration.is_quorum(votes):
        return node, [*effects]
    node, more = become_candidate(node, now) if role.pre else become_leader(node, now)
    return node, [*effects, *more]


def _next_campaign(node: Node, now: float) -> Effect:
    return do.ElectionBy(now, 1 << node.fruitless)


def _reply(node: Node, to: ServerId, reply: RequestVoteReply | PreVoteReply) -> Effect:
    """An answer states a term, and may state a vote: both must be durable first."""
    return do.Send(to, reply, after=node.disk.term_write)
