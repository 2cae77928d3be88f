"""The one door: a state and an event in, a state and effects out.

Which rule answers which event is written in two tables; the rules themselves stand in the other
modules of this folder.  Nothing here waits, and nothing is half done: if a rule raises, the caller
still holds the state from before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from trioraft._rules.commitment import applying, on_persisted_leading
from trioraft._rules.effects import Effect
from trioraft._rules.elections import (
    become_follower,
    on_election_timeout,
    on_own_vote_durable,
    on_pre_vote,
    on_pre_vote_reply,
    on_request_vote,
    on_request_vote_reply,
    on_solicit_due,
)
from trioraft._rules.events import (
    AnswerDue,
    AppendDue,
    ChangeDue,
    ElectionTimeout,
    Event,
    Fetched,
    LinkUp,
    Persisted,
    Proposed,
    QuorumTimeout,
    ReadIndexDue,
    Received,
    SnapshotSent,
    SnapshotTaken,
    SolicitDue,
    TransferDue,
)
from trioraft._rules.evolving import evolve
from trioraft._rules.following import on_answer_due, on_append_entries, on_persisted_following
from trioraft._rules.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    PreVote,
    PreVoteReply,
    Reply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
    TimeoutNowReply,
)
from trioraft._rules.node import Campaigning, Following, Leading, Node
from trioraft._rules.reads import on_read_index_due
from trioraft._rules.reconfiguration import on_change_due
from trioraft._rules.replication import (
    on_append_due,
    on_append_entries_reply,
    on_fetched,
    on_link_up,
    on_proposed,
)
from trioraft._rules.snapshots import (
    on_install_snapshot,
    on_install_snapshot_reply,
    on_snapshot_sent,
    on_snapshot_taken,
)
from trioraft._rules.transfer import (
    on_quorum_timeout,
    on_timeout_now,
    on_timeout_now_reply,
    on_transfer_due,
)

Outcome = tuple[Node, list[Effect]]


def step(node: Node, event: Event) -> Outcome:
    """Take one event.

    Raises:
        InternalError: an invariant of Raft is broken; the server must stop.
    """
    # What crosses a wait carries the tenure it was born in, and is void once that is over: a task
    # that was already scheduled when its scope was cancelled runs one more turn.
    if isinstance(event, _OF_A_TENURE) and event.tenure != node.tenure:
        return node, []
    return _RULES[type(event)](node, event)


def _on_received(node: Node, event: Received) -> Outcome:
    """A message; an answer of a later term ends whatever this server was about (5.1)."""
    message = event.message
    effects: list[Effect] = []
    if isinstance(message, Reply) and message.term > node.term:
        node, effects = become_follower(node, event.now, message.term)
    node, more = _MESSAGE_RULES[type(message)](node, event.now, event.sender, message)
    return node, [*effects, *more]


def _on_persisted(node: Node, event: Persisted) -> Outcome:
    """The disk has moved: what rested on it may be counted, answered and applied."""
    knew_term, applicable = node.disk.knows_term, node.applicable
    node = evolve(node, disk=node.disk.having(event.write))
    effects = applying(node, applicable)
    more: list[Effect] = []
    match node.role:
        case Following():
            node, more = on_persisted_following(node, event)
        case Campaigning(pre=False) if node.disk.knows_term and not knew_term:
            node, more = on_own_vote_durable(node, event)
        case Leading():
            node, more = on_persisted_leading(node, event)
    return node, [*effects, *more]


_OF_A_TENURE: Final = (
    ElectionTimeout,
    AnswerDue,
    SolicitDue,
    QuorumTimeout,
    AppendDue,
    Fetched,
    SnapshotSent,
)

_RULES: Final[Mapping[type[Any], Callable[..., Outcome]]] = {
    Received: _on_received,
    Persisted: _on_persisted,
    ElectionTimeout: on_election_timeout,
    AnswerDue: on_answer_due,
    SolicitDue: on_solicit_due,
    QuorumTimeout: on_quorum_timeout,
    AppendDue: on_append_due,
    Fetched: on_fetched,
    SnapshotTaken: on_snapshot_taken,
    SnapshotSent: on_snapshot_sent,
    LinkUp: on_link_up,
    Proposed: on_proposed,
    ReadIndexDue: on_read_index_due,
    ChangeDue: on_change_due,
    TransferDue: on_transfer_due,
}

_MESSAGE_RULES: Final[Mapping[type[Any], Callable[..., Outcome]]] = {
    RequestVote: on_request_vote,
    RequestVoteReply: on_request_vote_reply,
    PreVote: on_pre_vote,
    PreVoteReply: on_pre_vote_reply,
    AppendEntries: on_append_entries,
    AppendEntriesReply: on_append_entries_reply,
    InstallSnapshot: on_install_snapshot,
    InstallSnapshotReply: on_install_snapshot_reply,
    TimeoutNow: on_timeout_now,
    TimeoutNowReply: on_timeout_now_reply,
}
