"""Log replication: section 5.3, both sides of AppendEntries.

The follower's side verifies, cuts what conflicts, appends what is new, and answers when its disk
has it.  The leader's side keeps a bounded window of requests on the way to each follower, and goes
back to probing when a consistency check fails.
"""

from __future__ import annotations

import math

from trioraft._errors import InternalError
from trioraft._rules import effects as do
from trioraft._rules.commitment import advance_commit, committing, wake_up_at, watch_own_disk
from trioraft._rules.effects import Effect
from trioraft._rules.elections import become_follower, quorum_deadline
from trioraft._rules.events import (
    AnswerDue,
    AppendDue,
    Fetched,
    LinkUp,
    Persisted,
    Proposed,
    QuorumTimeout,
)
from trioraft._rules.evolving import evolve
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.messages import AppendEntries, AppendEntriesReply
from trioraft._rules.node import Following, Leading, Node, Progress
from trioraft._rules.reads import began_round, confirming, owes_round

Outcome = tuple[Node, list[Effect]]


# -- the follower's side -----------------------------------------------------------------------


def on_append_entries(node: Node, now: float, leader: ServerId, request: AppendEntries) -> Outcome:
    """AppendEntries, receiver's side (figure 2)."""
    if request.term < node.term:
        refusal = AppendEntriesReply(
            node.term, request.number, success=False, match_index=0, stickiness=0.0
        )
        return node, [do.Send(leader, refusal, after=node.disk.term_write)]
    node, effects = follow(node, now, leader, request.term, request.number)
    conflict = _consistency_check(node, request)
    if conflict is not None:
        return node, [*effects, do.Send(leader, conflict, after=node.disk.term_write)]
    node, written = _take_entries(node, request.entries)
    assert isinstance(node.role, Following)
    verified = max(node.role.verified, request.entries.last)
    node = evolve(node, role=evolve(node.role, verified=verified))
    # What lies behind the verified part may conflict with the leader's log: commit stops there.
    node, applied = committing(node, min(request.leader_commit, verified))
    node, answer = _answer(node, now, request)
    return node, [*effects, *written, *applied, *answer]


def follow(node: Node, now: float, leader: ServerId, term: int, number: int) -> Outcome:
    """Recognize the sender of request `number` as this term's leader (5.2)."""
    if isinstance(node.role, Leading) and term == node.term:
        raise InternalError(f"{node.me} and {leader} both lead in term {node.term}")
    effects: list[Effect] = [do.ElectionBy(now)]
    if term > node.term or not isinstance(node.role, Following):
        node, more = become_follower(node, now, term, leader)
        effects += [effect for effect in more if not isinstance(effect, do.ElectionBy)]
    role = node.role
    assert isinstance(role, Following)
    if role.leader not in (None, leader):
        raise InternalError(f"{role.leader} and {leader} both lead in term {node.term}")
    return (
        evolve(
            node,
            sticky_until=max(node.sticky_until, now + node.settings.election_timeout),
            fruitless=0,
            role=evolve(role, leader=leader, number=max(role.number, number)),
        ),
        effects,
    )


def _consistency_check(node: Node, request: AppendEntries) -> AppendEntriesReply | None:
    """The refusal if the log does not hold the entry before the new ones, or None (5.3).

    It says where the conflicting term begins, so that the leader skips a term at a time.
    """
    prev = request.prev_log_index
    if prev < node.log.base_index:
        return None  # a snapshot holds it: it is committed, so the leader has it too
    found = node.log.term_at(prev)
    if found == request.prev_log_term:
        return None
    if prev <= node.commit:
        raise InternalError(f"entry {prev} is committed, and the leader has another term there")
    return AppendEntriesReply(
        node.term,
        request.number,
        success=False,
        match_index=0,
        stickiness=node.settings.election_timeout,
        conflict_term=found or 0,
        conflict_index=(
            node.log.last_index + 1 if found is None else node.log.first_of_term_at(prev)
        ),
    )


def _take_entries(node: Node, entries: Entries) -> Outcome:
    """Cut what conflicts, and only that; append what is new.

    A late copy of an old request must not cut what came after it (seed G-02).
    """
    conflict = node.log.first_conflict(entries)
    if conflict is not None and conflict <= node.commit:
        raise InternalError(f"entry {conflict} is committed, and the leader has another one")
    kept = node.log.last_index if conflict is None else conflict - 1
    new = entries.since(kept + 1)
    if not len(new):
        return node, []
    disk = node.disk.asking(new.last, kept)
    node = evolve(node, log=node.log.cut(kept).extended(new), disk=disk)
    return node, [do.WriteEntries(disk.asked, new, cuts=conflict is not None)]


def _answer(node: Node, now: float, request: AppendEntries) -> Outcome:
    """Answer at once what is durable or carries nothing; owe the answer to the rest.

    An owed answer leaves when the disk has moved, or after half a heartbeat interval with what is
    durable by then: a slow disk must not look like a dead follower.
    """
    assert isinstance(node.role, Following)
    if not len(request.entries) or request.entries.last <= node.disk.index:
        return node, _success(node)
    if node.role.owes:
        return node, []
    owing = evolve(node, role=evolve(node.role, owes=True))
    return owing, [_answer_by(node, now)]


def _answer_by(node: Node, now: float) -> Effect:
    return do.AnswerBy(now + node.settings.heartbeat_interval / 2)


def _success(node: Node) -> list[Effect]:
    """Tell the leader how much is durable here that agrees with its log."""
    role = node.role
    assert isinstance(role, Following)
    assert role.leader is not None
    reply = AppendEntriesReply(
        node.term,
        role.number,
        success=True,
        match_index=min(node.disk.index, role.verified),
        stickiness=node.settings.election_timeout,
    )
    return [do.Send(role.leader, reply, after=node.disk.term_write)]


def on_answer_due(node: Node, event: AnswerDue) -> Outcome:
    """The disk takes its time: say what is durable so far; the rest is still owed."""
    role = node.role
    assert isinstance(role, Following), "the tenure was checked"
    if not role.owes:
        return node, []
    return node, [*_success(node), _answer_by(node, event.now)]


def on_persisted_following(node: Node, event: Persisted) -> Outcome:
    """The disk has moved: answer what was owed."""
    role = node.role
    assert isinstance(role, Following)
    if not role.owes:
        return node, []
    answer = _success(node)
    if node.disk.index < role.verified:
        return node, [*answer, _answer_by(node, event.now)]
    return evolve(node, role=evolve(role, owes=False)), [*answer, do.AnswerBy(math.inf)]


# -- the leader's side -------------------------------------------------------------------------


def on_proposed(node: Node, event: Proposed) -> Outcome:
    """Append the commands of this server's callers; sending and writing go in parallel."""
    if not isinstance(node.role, Leading):
        return node, [do.Refuse(event.batch)]
    assert event.count > 0, "an empty batch would read as a no-op"
    first = node.log.last_index + 1
    last = node.log.last_index + event.count
    disk = node.disk.asking(last, node.log.last_index)
    node = evolve(
        node, disk=disk, log=node.log.extended(Entries(first, last, ((first, node.term),)))
    )
    append = do.AppendOwn(disk.asked, first, node.term, event.count, event.batch)
    return node, [append, *(do.Wake(peer) for peer in node.peers)]


def on_append_due(node: Node, event: AppendDue) -> Outcome:
    """Send the follower what it lacks, or a heartbeat if it is time for one."""
    role = node.role
    assert isinstance(role, Leading), "the tenure was checked"
    progress = role.of(event.peer)
    if progress is None:
        return node, []
    if progress.next_index <= node.log.base_index:
        return _send_snapshot(node, role, progress, event)
    behind = progress.next_index <= node.log.last_index
    window = 1 if progress.probing else node.settings.append_window
    if behind and len(progress.in_flight) < window and not progress.fetching:
        if event.reach is not None:
            last = min(event.reach, node.log.last_index)
            entries = node.log.between(progress.next_index, last)
            return _send(node, role, progress, event.now, entries)
        role = role.with_progress(evolve(progress, fetching=True))
        node = evolve(node, role=role)
        fetch = do.Fetch(node.tenure, event.peer, progress.next_index)
        node, effects = _heartbeat(node, role, event)
        return node, [fetch, *effects]
    return _heartbeat(node, role, event)


def _send_snapshot(node: Node, role: Leading, progress: Progress, event: AppendDue) -> Outcome:
    """What the follower needs next is in the log no more: a snapshot brings it up to date (7)."""
    waits = progress.installing or event.now < progress.install_at
    if waits or not node.is_live(progress, event.now):
        return _heartbeat(node, role, event)
    role = role.with_progress(evolve(progress, installing=node.snapshot_index))
    node, effects = _heartbeat(evolve(node, role=role), role, event)
    return node, [do.SendSnapshot(node.tenure, event.peer), *effects]


def _heartbeat(node: Node, role: Leading, event: AppendDue) -> Outcome:
    """An AppendEntries without entries, once nothing was sent for a heartbeat interval (5.2).

    Readers that wait for an answer are a reason, too (thesis 6.4).  To a follower that needs what
    the log holds no more it says nothing of entries: it follows index 0, as anything does.
    """
    progress = role.of(event.peer)
    assert progress is not None
    is_due = event.now >= progress.sent_at + node.settings.heartbeat_interval
    if not is_due and not owes_round(role, progress):
        return node, []
    next_index = progress.next_index if progress.next_index > node.log.base_index else 1
    nothing = Entries(next_index, next_index - 1)
    missed = [do.Missed(progress.peer)] if is_due and progress.unanswered else []
    node, effects = _send(node, role, progress, event.now, nothing)
    return node, [*missed, *effects]


def on_fetched(node: Node, event: Fetched) -> Outcome:
    """Send what the disk brought, if it is still what the follower needs next."""
    role = node.role
    assert isinstance(role, Leading), "the tenure was checked"
    progress = role.of(event.peer)
    if progress is None:
        return node, []
    progress = evolve(progress, fetching=False)
    role = role.with_progress(progress)
    node = evolve(node, role=role)
    if event.entries.first != progress.next_index or not len(event.entries):
        return node, [do.Wake(event.peer)]
    if progress.next_index <= node.log.base_index:
        return node, [do.Wake(event.peer)]  # gone meanwhile, and the term before it with it
    return _send(node, role, progress, event.now, event.entries)


def _send(node: Node, role: Leading, progress: Progress, now: float, entries: Entries) -> Outcome:
    """One AppendEntries; more may follow before it is answered, up to the window."""
    role = began_round(role)
    number = progress.number + 1
    prev = entries.first - 1
    prev_term = node.log.term_at(prev)
    assert prev_term is not None, "the log reaches back to what the follower needs"
    request = AppendEntries(node.term, number, prev, prev_term, node.commit, entries)
    in_flight, next_index = progress.in_flight, progress.next_index
    if len(entries):
        in_flight = (*in_flight, (number, entries.first, entries.last))
        next_index = entries.last + 1
    # An older one, were it answered now, could not move the quorum deadline beyond this instant.
    recent = [
        pair for pair in progress.unanswered if pair[1] > now - node.settings.election_timeout
    ]
    progress = evolve(
        progress,
        number=number,
        sent_at=now,
        next_index=next_index,
        in_flight=in_flight,
        unanswered=(*recent, (number, now, role.round)),
        sent_round=role.round,
    )
    effects: list[Effect] = [do.Send(progress.peer, request)]
    if len(entries) and entries.last < node.log.last_index:
        effects.append(do.Wake(progress.peer))
    return evolve(node, role=role.with_progress(progress)), effects


def on_append_entries_reply(
    node: Node, now: float, sender: ServerId, reply: AppendEntriesReply
) -> Outcome:
    """AppendEntries, sender's side (figure 2)."""
    role = node.role
    if not isinstance(role, Leading) or reply.term != node.term:
        return node, []
    progress = role.of(sender)
    if progress is None:
        return node, []
    if reply.number > progress.number or reply.match_index > node.log.last_index:
        # Seed G-47: a follower that claims more than there is must not bring the leader down.
        return node, [do.Complain(sender, f"answered what was never sent: {reply}")]
    progress, effects = _note_answer(node, progress, now, reply)
    role = role.with_progress(progress)
    node, confirmed = confirming(evolve(node, role=role), role)
    role = node.role
    assert isinstance(role, Leading)
    effects += [*confirmed, do.QuorumBy(wake_up_at(node, role))]
    if reply.success:
        node, more = _on_success(node, role, progress, now, reply)
    else:
        node, more = _on_conflict(node, role, progress, reply)
    return node, [*effects, *more]


def _note_answer(
    node: Node, progress: Progress, now: float, reply: AppendEntriesReply
) -> tuple[Progress, list[Effect]]:
    """Remember when what was answered had been sent; answers may overtake each other.

    The newest word counts: what was promised before may rest on a clock that has stood still since.
    """
    answered = [request for request in progress.unanswered if request[0] <= reply.number]
    if not answered:
        return progress, []
    _, sent_at, round_ = answered[-1]
    stands = sent_at + reply.stickiness * (1 - node.settings.max_clock_drift)
    progress = evolve(
        progress,
        answered_at=sent_at,
        answered_round=round_,
        stands_until=stands,
        unanswered=progress.unanswered[len(answered) :],
    )
    return progress, [do.Answered(progress.peer, reply.number, now - sent_at)]


def _on_success(
    node: Node, role: Leading, progress: Progress, now: float, reply: AppendEntriesReply
) -> Outcome:
    """The logs agree; an older answer never lowers a match, and next stays above it."""
    match = max(progress.match_index, reply.match_index)
    had_room = len(progress.in_flight) < node.settings.append_window and not progress.probing
    # A success to anything sent since the last refusal ends the probing.
    probing = progress.probing and reply.number <= progress.floor
    progress = evolve(
        progress,
        match_index=match,
        next_index=max(progress.next_index, match + 1),
        in_flight=tuple(flight for flight in progress.in_flight if flight[2] > match),
        probing=probing,
    )
    role = role.with_progress(progress)
    node, effects = advance_commit(evolve(node, role=role), role)
    node, more = watch_own_disk(node, role, now)
    if not had_room and progress.next_index <= node.log.last_index:
        more = [*more, do.Wake(progress.peer)]
    return node, [*effects, *more]


def _on_conflict(
    node: Node, role: Leading, progress: Progress, reply: AppendEntriesReply
) -> Outcome:
    """Go back to where the logs may agree: a term at a time, not an entry at a time (5.3)."""
    if reply.number <= progress.floor:
        return node, []  # an answer to what was on the way when the first refusal came
    hint = reply.conflict_index
    if reply.conflict_term:
        # All logs that hold a term hold it from the same index on.  So if this log has that term,
        # its entries of it are the follower's too; else the follower's run of it must go.
        agreed = node.log.last_not_above(reply.conflict_term)
        has_term = node.log.term_at(agreed) == reply.conflict_term
        hint = agreed + 1 if has_term else min(agreed + 1, hint)
    progress = evolve(
        progress,
        next_index=max(progress.match_index + 1, min(hint, progress.next_index)),
        probing=True,
        floor=progress.number,
        in_flight=(),
    )
    return evolve(node, role=role.with_progress(progress)), [do.Wake(progress.peer)]


def on_link_up(node: Node, event: LinkUp) -> Outcome:
    """Send again what was on the way in the stream that broke."""
    role = node.role
    progress = role.of(event.peer) if isinstance(role, Leading) else None
    if not isinstance(role, Leading) or progress is None:
        return node, []
    lost = [first for _, first, _ in progress.in_flight]
    progress = evolve(
        progress,
        next_index=max(progress.match_index + 1, min([progress.next_index, *lost])),
        probing=True,
        floor=progress.number,
        in_flight=(),
        sent_at=-math.inf,
    )
    return evolve(node, role=role.with_progress(progress)), [do.Wake(event.peer)]


def on_quorum_timeout(node: Node, event: QuorumTimeout) -> Outcome:
    """Step down if no majority has answered in time (thesis 6.2), or if only this disk lags."""
    role = node.role
    assert isinstance(role, Leading), "the tenure was checked"
    if event.now >= quorum_deadline(node, role):
        return become_follower(node, event.now, node.term)
    node, effects = watch_own_disk(node, role, event.now)
    if not isinstance(node.role, Leading):
        return node, effects
    return node, [do.QuorumBy(wake_up_at(node, node.role))]
