"""Snapshots and what the log may forget: section 7, and InstallSnapshot.

A snapshot's bytes travel on a stream of their own, and lie in files that no rule ever sees.  Rules
hear of a snapshot once it is whole and durable, and say what becomes of the log.
"""

from __future__ import annotations

from trioraft._errors import InternalError
from trioraft._rules import effects as do
from trioraft._rules.commitment import advance_commit, committing
from trioraft._rules.effects import Effect
from trioraft._rules.events import SnapshotSent, SnapshotTaken
from trioraft._rules.evolving import evolve
from trioraft._rules.following import follow
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Log
from trioraft._rules.messages import InstallSnapshot, InstallSnapshotReply
from trioraft._rules.node import Following, Leading, Node, Progress
from trioraft._rules.reconfiguration import compacted

Outcome = tuple[Node, list[Effect]]


# -- an own snapshot ---------------------------------------------------------------------------


def on_snapshot_taken(node: Node, event: SnapshotTaken) -> Outcome:
    """Forget what the snapshot holds, but for what others may still need as entries."""
    index = _may_go(node, event)
    node = evolve(node, snapshot_index=max(node.snapshot_index, event.index))
    if index <= node.log.base_index:
        return node, []
    log = node.log.compacted(index)
    disk = node.disk.asking(log.last_index, log.last_index)
    node = evolve(compacted(node, index), log=log, disk=disk)
    return node, [do.Compact(disk.asked, index, log.base_term)]


def _may_go(node: Node, event: SnapshotTaken) -> int:
    """The last entry that nobody needs any more.

    A few stay in any case.  What a live follower lacks stays too, so that it need not be sent a
    snapshot, or not another one; but nothing up to the floor, which bounds the log.
    """
    last = event.index - node.settings.trailing_entries
    if isinstance(node.role, Leading):
        live = [p for p in node.role.progress if node.is_live(p, event.now)]
        last = min([last, *(max(_has(progress), event.floor) for progress in live)])
    return last


def _has(progress: Progress) -> int:
    """The last entry that a follower has, or will have once its snapshot has come."""
    return max(progress.match_index, progress.installing)


# -- the follower's side -----------------------------------------------------------------------


def on_install_snapshot(
    node: Node, now: float, leader: ServerId, request: InstallSnapshot
) -> Outcome:
    """InstallSnapshot, receiver's side (figure 13), once its data is durable.

    What is not beyond the commit index is old, and ignored (seed G-08).  If the log holds the
    snapshot's last entry, it agrees up to there: it stays whole, and only the commit index moves.
    Else it conflicts, or ends before, and the snapshot takes its place.
    """
    if request.term < node.term:
        refusal = InstallSnapshotReply(node.term, match_index=0)
        return node, [do.Send(leader, refusal, after=node.disk.term_write)]
    node, effects = follow(node, now, leader, request.term, number=0)
    index, term = request.last_included_index, request.last_included_term
    found = node.log.term_at(index)
    if index <= node.commit and found not in (term, None):
        raise InternalError(f"entry {index} is committed, and the snapshot has another one")
    if index > node.commit and found != term:
        disk = node.disk.asking(index, node.commit)
        effects.append(do.ReplaceLog(disk.asked, node.commit, index, term))
        node = evolve(
            node,
            log=Log((), index, index, term),
            disk=disk,
            snapshot_index=index,
            configuration=request.configuration or node.configurations[0],
            earlier=(),
        )
    assert isinstance(node.role, Following)
    node = evolve(node, role=evolve(node.role, verified=max(node.role.verified, index)))
    node, applied = committing(node, index)
    # It is committed, so whatever is written next, the disk will have it once all is done.
    after = node.disk.term_write if index <= node.disk.index else node.disk.asked
    reply = do.Send(leader, InstallSnapshotReply(node.term, index), after)
    return node, [*effects, *applied, reply]


# -- the leader's side -------------------------------------------------------------------------


def on_install_snapshot_reply(
    node: Node, now: float, sender: ServerId, reply: InstallSnapshotReply
) -> Outcome:
    """InstallSnapshot, sender's side: the follower goes on from there by entries."""
    role = node.role
    progress = role.of(sender) if isinstance(role, Leading) else None
    if not isinstance(role, Leading) or progress is None or reply.term != node.term:
        return node, []
    if progress.expelled:
        return node, []
    if reply.match_index > node.log.last_index:
        return node, [do.Complain(sender, f"answered what was never sent: {reply}")]
    match = max(progress.match_index, reply.match_index)
    progress = evolve(
        progress,
        match_index=match,
        matched_by=progress.number,
        next_index=max(progress.next_index, match + 1),
        in_flight=tuple(flight for flight in progress.in_flight if flight[2] > match),
    )
    role = role.with_progress(progress)
    node, effects = advance_commit(evolve(node, role=role), role, now)
    return node, [*effects, do.Wake(sender)]


def on_snapshot_sent(node: Node, event: SnapshotSent) -> Outcome:
    """If the follower still needs what the log holds no more, it is sent a snapshot anew.

    But not at once: a stream that fails again and again must not be all that the leader does.
    """
    role = node.role
    assert isinstance(role, Leading), "the tenure was checked"
    progress = role.of(event.peer)
    if progress is None:
        return node, []
    install_at = event.now + node.settings.heartbeat_interval
    role = role.with_progress(evolve(progress, installing=0, install_at=install_at))
    return evolve(node, role=role), [do.Wake(event.peer)]
