"""Changes of the cluster's members: section 6, by joint consensus.

A change of voters is two entries.  The first one, C_old,new, has both the old and the new voters;
once it is committed by majorities of both, the leader appends the second one, C_new.  A change
that leaves the voters as they are is one entry.  Each is in force from the moment when it stands
in the log, committed or not, and no more once it is cut (seed G-03).
"""

from __future__ import annotations

from collections.abc import Sequence

from trioraft._rules import effects as do
from trioraft._rules.effects import Effect
from trioraft._rules.events import ChangeDue
from trioraft._rules.evolving import evolve
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.node import Leading, Node, Progress
from trioraft._rules.reads import confirming_again
from trioraft._rules.tenure import wake_up_at
from trioraft._rules.transfer import retire

Outcome = tuple[Node, list[Effect]]

_LEAVING = 16
"""Election time-outs in which a server that is removed can still learn of it from the leader: its
stream may have to be opened anew."""


# -- what the log says -------------------------------------------------------------------------


def reconfigured(node: Node, kept: int, new: Sequence[Configuration]) -> Node:
    """What is in force once the log is cut behind `kept`, and `new` is appended."""
    if not new and node.configuration.index <= kept:
        return node
    *earlier, newest = (*(one for one in node.configurations if one.index <= kept), *new)
    return evolve(node, configuration=newest, earlier=tuple(earlier))


def compacted(node: Node, base: int) -> Node:
    """Forget what was in force only up to `base`."""
    if not node.earlier:
        return node
    in_force = node.configuration_at(base)
    kept = tuple(one for one in node.earlier if one.index >= in_force.index)
    return evolve(node, earlier=kept)


# -- a change ----------------------------------------------------------------------------------


def why_no_change(node: Node, change: ChangeDue) -> str | None:
    """Why the members can't be changed to these now; None: they can."""
    role, configuration = node.role, node.configuration
    if not isinstance(role, Leading):
        return "it does not lead"
    if node.commit < role.first_index:
        return "its first entry is not committed yet"
    if configuration.outgoing or configuration.index > node.commit:
        return "another change is under way"  # seed G-13
    if role.transfer is not None:
        return f"it is handing over to {role.transfer.target}"
    return _flaw(change) or _no_majority(node, role, change)


def _flaw(change: ChangeDue) -> str | None:
    """What is wrong with a membership wherever it is asked for."""
    if not change.voters:
        return "a cluster needs a voter"
    both = {member.id for member in change.voters} & {member.id for member in change.learners}
    if both:
        return f"{min(both)} can't be voter and learner"
    for half in (change.voters, change.learners):
        names = [member.id.name for member in half]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            return f"two members have the name {twice}"
    return None


def _no_majority(node: Node, role: Leading, change: ChangeDue) -> str | None:
    """Whether the new voters could not even commit the change (seed G-45)."""
    # Who was only just added has yet to answer anything; who has been silent for longer would not
    # even keep this leader in its place.
    heard_since = change.now - node.settings.election_timeout
    live = {
        progress.peer
        for progress in role.progress
        if progress.answered and progress.answered_at > heard_since and not progress.expelled
    }
    new = Configuration(node.configuration.cluster, change.voters)
    if new.is_quorum(live | {node.me}):
        return None
    silent = [str(m.id) for m in change.voters if m.id not in live and m.id != node.me]
    return f"of the new voters {', '.join(silent)} do not answer: the others are no majority"


def on_change_due(node: Node, event: ChangeDue) -> Outcome:
    """Begin a change, if that can be."""
    if why_no_change(node, event) is not None:
        return node, []
    old = node.configuration
    same = {member.id for member in event.voters} == {member.id for member in old.voters}
    outgoing = () if same else old.voters
    return _append(node, event.now, event.voters, outgoing, event.learners)


def after_commit(node: Node, before: int, now: float) -> Outcome:
    """Go on with the change that has just been committed, one's own or inherited (6).

    A new leader may do so only once an entry of its own term is committed.
    """
    role, configuration = node.role, node.configuration
    assert isinstance(role, Leading)
    due = max(configuration.index, role.first_index)
    if not before < due <= node.commit:
        return node, []
    if configuration.outgoing:
        return _append(node, now, configuration.voters, (), configuration.learners)
    leaves_at = now + _LEAVING * node.settings.election_timeout
    leaving = {
        progress.peer
        for progress in role.progress
        if not progress.leaves_after and configuration.member(progress.peer) is None
    }
    progress = tuple(
        evolve(one, leaves_after=one.number + 1, leaves_at=leaves_at)
        if one.peer in leaving
        else one
        for one in role.progress
    )
    node = evolve(node, role=evolve(role, progress=progress))
    wakes: list[Effect] = [do.Wake(one.peer) for one in progress if one.peer in leaving]
    if configuration.voter(node.me):
        return node, wakes
    node, effects = retire(node, now)  # seed G-06: it went on leading
    return node, [*wakes, *effects]


def _append(
    node: Node,
    now: float,
    voters: tuple[Member, ...],
    outgoing: tuple[Member, ...],
    learners: tuple[Member, ...],
) -> Outcome:
    """Append a configuration; it is in force at once, and whom it names gets the log at once."""
    role, index = node.role, node.log.last_index + 1
    assert isinstance(role, Leading)
    configuration = Configuration(node.configuration.cluster, voters, outgoing, learners, index)
    entry = Entries(index, index, ((index, node.term),), (), (configuration,))
    disk = node.disk.asking(index, node.log.last_index)
    node = reconfigured(node, node.log.last_index, (configuration,))
    progress = _progress(role, configuration.others(node.me), index, now)
    role = evolve(role, progress=progress)
    node = evolve(node, log=node.log.extended(entry), disk=disk, role=role)
    append = do.AppendConfiguration(disk.asked, node.term, configuration)
    # What waits for a majority may have one now, and what needed none may need one.
    node, confirmed = confirming_again(node, role)
    role = node.role
    assert isinstance(role, Leading)
    wakes = [do.Wake(peer) for peer in node.followers]
    return node, [append, do.QuorumBy(wake_up_at(node, role)), *confirmed, *wakes]


def _progress(
    role: Leading, members: tuple[ServerId, ...], next_index: int, now: float
) -> tuple[Progress, ...]:
    """Those who were followers before still get entries: who leaves has to learn that."""
    known = {progress.peer: progress for progress in role.progress}
    # One that is taken in again may hold answers to requests of its time before.
    number = max([role.numbered, *(progress.number for progress in role.progress)])
    for peer in members:
        new = Progress(peer, next_index, answered_at=now, number=number, floor=number)
        stays = evolve(known.get(peer, new), leaves_after=0, leaves_at=float("inf"))
        known[peer] = stays
    return tuple(known.values())


# -- who leaves --------------------------------------------------------------------------------


def is_gone(node: Node, progress: Progress, now: float) -> bool:
    """Whether a follower that is no member any more knows it, or had the time to learn it."""
    if not progress.leaves_after:
        return False
    told = progress.answered >= progress.leaves_after
    return now >= progress.leaves_at or (told and progress.match_index >= node.configuration.index)


def dismiss(node: Node, role: Leading, peer: ServerId) -> Outcome:
    """Send nothing more to who has left."""
    left = tuple(progress for progress in role.progress if progress.peer != peer)
    gone = role.of(peer)
    numbered = role.numbered if gone is None else max(role.numbered, gone.number)
    return evolve(node, role=evolve(role, progress=left, numbered=numbered)), [do.Dismiss(peer)]
