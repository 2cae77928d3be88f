"""What is committed: section 5.3, and the rule of figure 8 (5.4.2); and who is too slow to lead."""

from __future__ import annotations

import math

from trioraft._rules import effects as do
from trioraft._rules.effects import Effect
from trioraft._rules.elections import become_follower, quorum_deadline
from trioraft._rules.events import Persisted
from trioraft._rules.evolving import evolve
from trioraft._rules.node import Leading, Node

Outcome = tuple[Node, list[Effect]]

LAGGING_MOST = 4
"""Election time-outs for which a leader's disk may lack what a majority has."""


def committing(node: Node, commit: int) -> Outcome:
    """Know that everything up to `commit` is committed; apply what is durable here, too."""
    before = node.applicable
    node = evolve(node, commit=max(node.commit, commit))
    return node, applying(node, before)


def applying(node: Node, before: int) -> list[Effect]:
    """Have applied what was not applicable before."""
    return [do.Commit(node.applicable)] if node.applicable > before else []


def advance_commit(node: Node, role: Leading) -> Outcome:
    """Commit what a majority has durable, the leader's own disk counted like any other.

    Replicas are counted only for entries of the leader's own term; those before them follow by
    log matching (5.4.2).
    """
    replicated = node.agreed(node.disk.index, {p.peer: p.match_index for p in role.progress})
    if replicated < role.first_index:
        return node, []
    return committing(node, int(replicated))


def watch_own_disk(node: Node, role: Leading, now: float) -> Outcome:
    """Step down if the others have long had what this server's own disk still lacks.

    Where all disks are slow nobody is ahead, and nobody steps down.
    """
    others = node.agreed(-math.inf, {p.peer: p.match_index for p in role.progress})
    lagging = role.lagging
    if lagging is not None and node.disk.index >= lagging[0]:
        lagging = None
    if lagging is None and others > node.disk.index:
        lagging = (int(others), now)
    node = evolve(node, role=evolve(role, lagging=lagging))
    patience = LAGGING_MOST * node.settings.election_timeout
    if lagging is not None and now >= lagging[1] + patience:
        return become_follower(node, now, node.term)
    return node, []


def on_persisted_leading(node: Node, event: Persisted) -> Outcome:
    """The leader's own disk counts like any other, once it has the entries (thesis 10.2.1)."""
    role = node.role
    assert isinstance(role, Leading)
    node, effects = advance_commit(node, role)
    node, more = watch_own_disk(node, role, event.now)
    return node, [*effects, *more]


def wake_up_at(node: Node, role: Leading) -> float:
    """The next instant at which the leader may have to step down."""
    deadline = quorum_deadline(node, role)
    if role.lagging is None:
        return deadline
    return min(deadline, role.lagging[1] + LAGGING_MOST * node.settings.election_timeout)
