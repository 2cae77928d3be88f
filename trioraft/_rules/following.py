"""Log replication (5.3), the follower's side of AppendEntries.

It verifies, cuts what conflicts, appends what is new, and answers when its disk has it.
"""

from __future__ import annotations

import math

from trioraft._errors import InternalError
from trioraft._rules import effects as do
from trioraft._rules.commitment import committing
from trioraft._rules.effects import Effect
from trioraft._rules.elections import become_follower
from trioraft._rules.events import AnswerDue, Persisted
from trioraft._rules.evolving import evolve
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.messages import AppendEntries, AppendEntriesReply
from trioraft._rules.node import Following, Leading, Node
from trioraft._rules.reconfiguration import reconfigured

Outcome = tuple[Node, list[Effect]]


def on_append_entries(node: Node, now: float, leader: ServerId, request: AppendEntries) -> Outcome:
    """AppendEntries, receiver's side (figure 2)."""
    if request.term < node.term:
        # It tells this term, and answers nothing that was sent in it.
        refusal = AppendEntriesReply(
            node.term, number=0, success=False, match_index=0, stickiness=0.0
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
            silences=0,
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
        reluctance=node.settings.reluctance,
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
    node = reconfigured(node, kept, new.configurations)
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
        reluctance=node.settings.reluctance,
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
