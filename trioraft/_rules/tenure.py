"""How long a leader leads: while a majority answers it, and its own disk keeps up."""

from __future__ import annotations

import math

from trioraft._rules.effects import Effect
from trioraft._rules.elections import become_follower, quorum_deadline
from trioraft._rules.evolving import evolve
from trioraft._rules.node import Leading, Node

Outcome = tuple[Node, list[Effect]]

LAGGING_MOST = 4
"""Election time-outs for which a leader's disk may lack what a majority has."""


def watch_own_disk(node: Node, now: float) -> Outcome:
    """Step down if the others have long had what this server's own disk still lacks.

    Where all disks are slow nobody is ahead, and nobody steps down; nor does who does not lead.
    """
    role = node.role
    if not isinstance(role, Leading):
        return node, []
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


def wake_up_at(node: Node, role: Leading) -> float:
    """The next instant at which the leader may have to step down, or to give up a transfer."""
    instant = quorum_deadline(node, role)
    if role.lagging is not None:
        instant = min(instant, role.lagging[1] + LAGGING_MOST * node.settings.election_timeout)
    if role.transfer is not None:
        instant = min(instant, role.transfer.until)
    return instant
