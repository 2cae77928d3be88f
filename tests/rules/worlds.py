"""Nodes for the tests of the rules, and the one way to step them: with the invariants checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from attrs import evolve

from trioraft._rules import effects as do
from trioraft._rules.effects import Effect
from trioraft._rules.elections import become_follower
from trioraft._rules.events import (
    AppendDue,
    ElectionTimeout,
    Event,
    Persisted,
    Proposed,
    Received,
)
from trioraft._rules.ids import ServerId
from trioraft._rules.invariants import check
from trioraft._rules.log import Entries, Log
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
)
from trioraft._rules.node import Campaigning, Disk, Leading, Node, Progress, Settings
from trioraft._rules.step import step

T = TypeVar("T")

A, B, C, D, E, F, G = (ServerId(name, f"{name}-1") for name in "abcdefg")
EVERYBODY = (A, B, C, D, E, F, G)

HEARTBEAT = 1.0
TIMEOUT = 10.0
SETTINGS = Settings(
    heartbeat_interval=HEARTBEAT,
    election_timeout=TIMEOUT,
    append_window=3,
    max_clock_drift=0.1,
    trailing_entries=2,
)


def cluster(size: int) -> Configuration:
    """The first `size` servers."""
    members = (Member(peer, f"ws://{peer}") for peer in EVERYBODY[:size])
    return Configuration("cluster", tuple(members))


def entries(first: int, *terms: int) -> Entries:
    """Entries of these terms from index `first` on, each with a frame that names it."""
    runs: list[tuple[int, int]] = []
    for index, term in enumerate(terms, first):
        if not runs or runs[-1][1] != term:
            runs.append((index, term))
    frames = tuple(f"{index}/{term}".encode() for index, term in enumerate(terms, first))
    return Entries(first, first + len(terms) - 1, tuple(runs), frames)


def log_of(*terms: int) -> Log:
    """A log with entries of these terms."""
    return Log().extended(entries(1, *terms))


def terms_of(log: Log) -> list[int]:
    """The terms of a log's entries, one by one, as far as it still holds them."""
    found = [log.term_at(index) for index in range(log.base_index + 1, log.last_index + 1)]
    assert None not in found
    return found  # type: ignore[return-value]


def follower(*terms: int, me: ServerId = A, size: int = 3, base: int = 0, **state: Any) -> Node:
    """A server that has all of its log on disk and hears nobody.

    Its term is the last entry's, if nothing else is said.  A snapshot holds what lies up to `base`,
    and the log no more.
    """
    log = log_of(*terms).compacted(base)
    fields: dict[str, Any] = {
        "term": log.last_term,
        "settings": SETTINGS,
        "snapshot_index": base,
        "commit": max(base, state.get("snapshot_index", 0)),
    } | state
    return Node(me, configuration=cluster(size), log=log, disk=Disk(index=log.last_index), **fields)


def take(node: Node, event: Event) -> tuple[Node, list[Effect]]:
    """One step, with the invariants checked."""
    after, effects = step(node, event)
    check(node, after)
    return after, effects


def hear(
    node: Node, sender: ServerId, message: Message, now: float = 0.0
) -> tuple[Node, list[Effect]]:
    """A message arrives."""
    return take(node, Received(now, sender, message))


def written(node: Node, now: float = 0.0) -> tuple[Node, list[Effect]]:
    """The disk has done all that it was asked."""
    return take(node, Persisted(now, node.disk.asked))


def settled(node: Node, now: float = 0.0) -> Node:
    """The same server, once the disk has done all that it was asked."""
    return written(node, now)[0]


def pre_candidate(*terms: int, now: float = 0.0, **state: Any) -> Node:
    """A server that asks whether it would be elected."""
    node = follower(*terms, **state)
    node, _ = take(node, ElectionTimeout(now, node.tenure))
    return node


def candidate(*terms: int, now: float = 0.0, durable: bool = True, **state: Any) -> Node:
    """A server that asks for votes; they may leave, unless said otherwise."""
    node = pre_candidate(*terms, now=now, **state)
    for peer in node.configuration.others(node.me):
        if isinstance(node.role, Campaigning) and node.role.pre:
            granted = PreVoteReply(node.term, node.term + 1, vote_granted=True)
            node, _ = hear(node, peer, granted, now)
    return settled(node, now) if durable else node


def leader(*terms: int, now: float = 0.0, durable: bool = True, **state: Any) -> Node:
    """A server that everybody voted for; its no-op is on its disk, unless said otherwise."""
    node = candidate(*terms, now=now, **state)
    for peer in node.configuration.others(node.me):
        if isinstance(node.role, Campaigning):
            node, _ = hear(node, peer, RequestVoteReply(node.term, vote_granted=True), now)
    assert isinstance(node.role, Leading)
    return settled(node, now) if durable else node


def stepped_down(node: Node, now: float = 0.0) -> Node:
    """The same server as a follower of nobody in its term."""
    return become_follower(node, now, node.term)[0]


def restarted(node: Node, **state: Any) -> Node:
    """What is left of a server after a crash, if its disk has done all that it was asked."""
    return Node(
        node.me,
        node.settings,
        node.configuration,
        term=node.term,
        voted_for=node.voted_for,
        log=node.log,
        commit=node.snapshot_index,
        snapshot_index=node.snapshot_index,
        disk=Disk(index=node.log.last_index),
        **state,
    )


# -- messages ----------------------------------------------------------------------------------


def vote(term: int, last_index: int = 0, last_term: int = 0) -> RequestVote:
    return RequestVote(term, last_index, last_term)


def pre_vote(term: int, last_index: int = 0, last_term: int = 0) -> PreVote:
    return PreVote(term, last_index, last_term)


def append(
    term: int, prev: int, prev_term: int, *terms: int, commit: int = 0, number: int = 1
) -> AppendEntries:
    """An AppendEntries with entries of these terms; with none it is a heartbeat."""
    return AppendEntries(term, number, prev, prev_term, commit, entries(prev + 1, *terms))


def success(term: int, number: int, match: int) -> AppendEntriesReply:
    return AppendEntriesReply(term, number, success=True, match_index=match, stickiness=TIMEOUT)


def refusal(
    term: int, number: int, conflict_term: int = 0, conflict_index: int = 0
) -> AppendEntriesReply:
    return AppendEntriesReply(
        term,
        number,
        success=False,
        match_index=0,
        stickiness=TIMEOUT,
        conflict_term=conflict_term,
        conflict_index=conflict_index,
    )


def snapshot(term: int, last_index: int, last_term: int) -> InstallSnapshot:
    """A snapshot that came whole from the leader of `term`."""
    return InstallSnapshot(term, last_index, last_term, None)


def installed(term: int, match: int) -> InstallSnapshotReply:
    return InstallSnapshotReply(term, match)


# -- what a step asked for ---------------------------------------------------------------------


def these(effects: Sequence[Effect], kind: type[T]) -> list[T]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects: Sequence[Effect]) -> list[Message]:
    """The messages, whenever they may leave."""
    return [send.message for send in these(effects, do.Send)]


def reply_in(effects: Sequence[Effect]) -> Any:
    """The one message."""
    (message,) = sent(effects)
    return message


def role_of(node: Node, kind: type[T]) -> T:
    """The role, which must be of that kind."""
    assert isinstance(node.role, kind), node.role
    return node.role


def progress_of(node: Node, peer: ServerId) -> Progress:
    """What the leader knows of the follower."""
    progress = role_of(node, Leading).of(peer)
    assert progress is not None
    return progress


def propose(node: Node, count: int = 1, now: float = 0.0) -> tuple[Node, list[Effect]]:
    return take(node, Proposed(now, count))


def feed(
    node: Node, peer: ServerId, now: float = 0.0, reach: int | None = 1 << 30
) -> tuple[Node, list[AppendEntries]]:
    """The replicator's turn: what it sends."""
    node, effects = take(node, AppendDue(now, node.tenure, peer, reach))
    return node, [m for m in sent(effects) if isinstance(m, AppendEntries)]


def fed(
    node: Node, peer: ServerId, now: float = 0.0, reach: int | None = 1 << 30
) -> tuple[Node, AppendEntries]:
    """The replicator's turn, when it must send."""
    node, (request,) = feed(node, peer, now, reach)
    return node, request


def acked(node: Node, peer: ServerId, match: int, now: float = 0.0) -> tuple[Node, list[Effect]]:
    """The follower answers the newest request: its disk has everything up to `match`."""
    number = progress_of(node, peer).number
    return hear(node, peer, success(node.term, number, match), now)


def with_progress(node: Node, peer: ServerId, **changes: Any) -> Node:
    """The leader, knowing something else of a follower."""
    role = role_of(node, Leading)
    return evolve(node, role=role.with_progress(evolve(progress_of(node, peer), **changes)))
