"""Reads without a log entry: ReadIndex (thesis 6.4), and the leader's lease (6.4.1).

A leader that was deposed does not know it.  So before it answers a read it has a majority answer
something that was sent after the read had come: then nobody else can have committed anything by
the time the read began.  Requests to followers belong to numbered rounds; a read joins a round of
which nothing has been sent yet, and all that wait share one.  A new round begins when the one
before is confirmed.

A lease spares the round.  A follower that answers votes for nobody else for a while, its
stickiness, and nobody can be elected without one of the majority that has answered.
"""

from __future__ import annotations

import math

from trioraft._rules import effects as do
from trioraft._rules.effects import Effect
from trioraft._rules.events import ReadIndexDue
from trioraft._rules.evolving import evolve
from trioraft._rules.node import Leading, Node, Progress

Outcome = tuple[Node, list[Effect]]


def on_read_index_due(node: Node, event: ReadIndexDue) -> Outcome:
    """Let readers join the next round, at what is committed now.

    Until the no-op of this term is committed the leader does not know what is (8): they wait for
    that one.
    """
    role = node.role
    assert isinstance(role, Leading), "nobody else is asked"
    round_, index = role.round + 1, max(node.commit, role.first_index)
    joined = do.ReadAt(round_, index, event.batch)
    role = evolve(role, wanted=round_)
    node = evolve(node, role=role)
    if node.configuration.is_quorum((node.me,)):
        node, confirmed = confirming_again(node, role)
        return node, [joined, *confirmed]
    return node, [joined, *_wake_if_due(role)]


def began_round(role: Leading) -> Leading:
    """Something is being sent: if readers wait and no round is under way, theirs begins."""
    return evolve(role, round=role.wanted) if _is_due(role) else role


def owes_round(role: Leading, progress: Progress) -> bool:
    """Whether a follower has been sent nothing of the round that is under way, or due."""
    return progress.sent_round < role.round or _is_due(role)


def confirming(node: Node, role: Leading) -> Outcome:
    """Release the readers of a round once a majority has answered something of it."""
    if role.confirmed == role.round:
        return node, []
    answered = node.agreed(math.inf, {p.peer: p.answered_round for p in role.progress})
    if answered < role.round:
        return node, []
    role = evolve(role, confirmed=role.round)
    node = evolve(node, role=role)
    return node, [do.RoundConfirmed(role.round), *_wake_if_due(role)]


def confirming_again(node: Node, role: Leading) -> Outcome:
    """The same when nobody has answered anything: this server may be a majority by itself."""
    if node.configuration.is_quorum((node.me,)):
        role = evolve(role, round=max(role.round, role.wanted))
        node = evolve(node, role=role)
    return confirming(node, role)


def lease_until(node: Node, since: float = -math.inf) -> float:
    """Until when nobody else can lead, if clocks drift within the bound; -inf: no lease.

    Counted from the sending of what was answered: the follower stands by its leader from a later
    instant on.  What was sent up to `since` does not count.
    """
    role = node.role
    if not isinstance(role, Leading) or role.transfer is not None:
        return -math.inf
    stand = {p.peer: p.stands_until for p in role.progress if p.answered_at > since}
    return node.agreed(math.inf, stand)


def _is_due(role: Leading) -> bool:
    return role.wanted > role.round == role.confirmed


def _wake_if_due(role: Leading) -> list[Effect]:
    return [do.Wake(p.peer) for p in role.progress] if _is_due(role) else []
