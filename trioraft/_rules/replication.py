"""Log replication (5.3), the leader's side of AppendEntries.

It keeps a bounded window of requests on the way to each follower, and goes back to probing when a
consistency check fails.
"""

from __future__ import annotations

import math

from trioraft._rules import effects as do
from trioraft._rules.commitment import advance_commit
from trioraft._rules.effects import Effect
from trioraft._rules.events import AppendDue, Fetched, LinkUp, Proposed
from trioraft._rules.evolving import evolve
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.messages import AppendEntries, AppendEntriesReply
from trioraft._rules.node import Leading, Node, Progress
from trioraft._rules.reads import began_round, confirming, owes_round
from trioraft._rules.reconfiguration import dismiss, is_gone
from trioraft._rules.tenure import wake_up_at, watch_own_disk
from trioraft._rules.transfer import hand_over_if_reluctant, is_handing_over, transferring

Outcome = tuple[Node, list[Effect]]


def on_proposed(node: Node, event: Proposed) -> Outcome:
    """Append the commands of this server's callers; sending and writing go in parallel.

    Whoever has proposed them gives every follower its turn at once: nobody has to be woken.
    """
    if not isinstance(node.role, Leading) or is_handing_over(node.role):
        return node, [do.Refuse(event.batch)]
    assert event.count > 0, "an empty batch would read as a no-op"
    first = node.log.last_index + 1
    last = node.log.last_index + event.count
    disk = node.disk.asking(last, node.log.last_index)
    node = evolve(
        node, disk=disk, log=node.log.extended(Entries(first, last, ((first, node.term),)))
    )
    return node, [do.AppendOwn(disk.asked, first, node.term, event.count, event.batch)]


def on_append_due(node: Node, event: AppendDue) -> Outcome:
    """Send the follower what it lacks, or a heartbeat if it is time for one."""
    role = node.role
    assert isinstance(role, Leading), "the tenure was checked"
    progress = role.of(event.peer)
    if progress is None:
        return node, []
    if is_gone(node, progress, event.now):
        return dismiss(node, role, event.peer)
    if progress.expelled:
        return node, []
    node, effects = transferring(node, role, event)
    role = node.role
    assert isinstance(role, Leading)
    node, more = _append_due(node, role, progress, event)
    return node, [*effects, *more]


def _append_due(node: Node, role: Leading, progress: Progress, event: AppendDue) -> Outcome:
    if progress.next_index <= node.log.base_index:
        return _send_snapshot(node, role, progress, event)
    behind = progress.next_index <= node.log.last_index
    window = 1 if progress.probing else node.settings.append_window
    if behind and len(progress.in_flight) < window and not progress.fetching:
        if event.reach is not None:
            last = min(event.reach, node.log.last_index)
            entries = _entries(node, progress.next_index, last)
            return _send(node, role, progress, event.now, entries)
        role = role.with_progress(evolve(progress, fetching=True))
        node = evolve(node, role=role)
        fetch = do.Fetch(node.tenure, event.peer, progress.next_index)
        node, effects = _heartbeat(node, role, event)
        return node, [fetch, *effects]
    return _heartbeat(node, role, event)


def _entries(node: Node, first: int, last: int) -> Entries:
    """Entries of the log, and what those among them say that change the members."""
    entries = node.log.between(first, last)
    if node.configuration.index < first:
        return entries
    configurations = tuple(one for one in node.configurations if first <= one.index <= last)
    return Entries(first, last, entries.runs, (), configurations)


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
    if progress is None or progress.expelled:
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
    if progress is None or progress.expelled:
        return node, []
    if reply.number > progress.number or reply.match_index > node.log.last_index:
        # Seed G-47: a follower that claims more than there is must not bring the leader down.
        return node, [do.Complain(sender, f"answered what was never sent: {reply}")]
    if _has_lost(progress, reply):
        return _expel(node, role, progress)
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
        answered=reply.number,
        answered_round=round_,
        reluctance=reply.reluctance,
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
        matched_by=max(progress.matched_by, reply.number),
        next_index=max(progress.next_index, match + 1),
        in_flight=tuple(flight for flight in progress.in_flight if flight[2] > match),
        probing=probing,
    )
    role = role.with_progress(progress)
    node, effects = advance_commit(evolve(node, role=role), role, now)
    node, more = _after_success(node, progress, now)
    if not had_room and progress.next_index <= node.log.last_index:
        more = [*more, do.Wake(progress.peer)]
    return node, [*effects, *more]


def _after_success(node: Node, progress: Progress, now: float) -> Outcome:
    """What else hangs on how far a follower is: whether this server goes on leading."""
    node, effects = watch_own_disk(node, now)
    role = node.role
    if not isinstance(role, Leading):
        return node, effects
    node, more = hand_over_if_reluctant(node, role, progress, now)
    if is_gone(node, progress, now) or (
        role.transfer is not None and role.transfer.target == progress.peer
    ):
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


def _has_lost(progress: Progress, reply: AppendEntriesReply) -> bool:
    """Whether a follower lacks what it had acknowledged: its disk is an old copy of itself.

    Its answer is newer than the one that proved the match.  While probing, requests follow the
    entry before the next one.
    """
    if reply.success or reply.number <= max(progress.matched_by, progress.floor):
        return False
    if not reply.conflict_term:
        return reply.conflict_index <= progress.match_index
    return progress.probing and progress.next_index - 1 <= progress.match_index


def _expel(node: Node, role: Leading, progress: Progress) -> Outcome:
    """Count nothing more that this follower has said: its disk has forgotten it."""
    reason = f"it had entry {progress.match_index}, and has it no more"
    expelled = evolve(
        progress,
        expelled=True,
        match_index=0,
        answered_at=-math.inf,
        answered_round=0,
        stands_until=-math.inf,
    )
    role = role.with_progress(expelled)
    node = evolve(node, role=role)
    return node, [do.Expel(progress.peer, reason), do.QuorumBy(wake_up_at(node, role))]


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
