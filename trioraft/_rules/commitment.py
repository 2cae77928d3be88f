"""What is committed: section 5.3, and the rule of figure 8 (5.4.2)."""

from __future__ import annotations

from trioraft._rules import effects as do
from trioraft._rules.effects import Effect
from trioraft._rules.events import Persisted
from trioraft._rules.evolving import evolve
from trioraft._rules.node import Leading, Node
from trioraft._rules.reconfiguration import after_commit
from trioraft._rules.tenure import watch_own_disk

Outcome = tuple[Node, list[Effect]]


def committing(node: Node, commit: int) -> Outcome:
    """Know that everything up to `commit` is committed; apply what is durable here, too."""
    before = node.applicable
    node = evolve(node, commit=max(node.commit, commit))
    return node, applying(node, before)


def applying(node: Node, before: int) -> list[Effect]:
    """Have applied what was not applicable before."""
    return [do.Commit(node.applicable)] if node.applicable > before else []


def advance_commit(node: Node, role: Leading, now: float) -> Outcome:
    """Commit what a majority has durable, the leader's own disk counted like any other.

    Replicas are counted only for entries of the leader's own term; those before them follow by
    log matching (5.4.2).
    """
    replicated = node.agreed(node.disk.index, {p.peer: p.match_index for p in role.progress})
    if replicated < role.first_index or replicated <= node.commit:
        return node, []
    before = node.commit
    node, effects = committing(node, int(replicated))
    node, more = after_commit(node, before, now)
    return node, [*effects, *more]


def on_persisted_leading(node: Node, event: Persisted) -> Outcome:
    """The leader's own disk counts like any other, once it has the entries (thesis 10.2.1)."""
    role = node.role
    assert isinstance(role, Leading)
    node, effects = advance_commit(node, role, event.now)
    node, more = watch_own_disk(node, event.now)
    return node, [*effects, *more]
