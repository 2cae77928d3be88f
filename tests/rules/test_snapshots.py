"""Section 7 and figure 13 of the Raft paper, and what others got wrong about them.

Each docstring says the claim in our words, with its section, or what the bug was.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from attrs import evolve

from tests.rules.test_replication import histories
from tests.rules.worlds import (
    HEARTBEAT,
    SETTINGS,
    TIMEOUT,
    A,
    B,
    C,
    acked,
    append,
    candidate,
    cluster,
    entries,
    fed,
    feed,
    follower,
    hear,
    installed,
    leader,
    pre_candidate,
    pre_vote,
    progress_of,
    propose,
    refusal,
    reply_in,
    restarted,
    role_of,
    sent,
    settled,
    snapshot,
    stepped_down,
    success,
    take,
    terms_of,
    these,
    vote,
    with_progress,
    written,
)
from trioraft._errors import InternalError
from trioraft._rules import effects as do
from trioraft._rules.events import (
    AppendDue,
    Fetched,
    LinkUp,
    Persisted,
    ReadIndexDue,
    SnapshotSent,
    SnapshotTaken,
)
from trioraft._rules.log import Log
from trioraft._rules.messages import AppendEntries, InstallSnapshot, InstallSnapshotReply
from trioraft._rules.node import Following, Leading, Node

ALL = evolve(SETTINGS, trailing_entries=0)
"""A snapshot leaves nothing of what it holds in the log."""
ROLES = [follower, pre_candidate, candidate, leader]


def taken(node: Node, index: int, now: float = 0.0) -> tuple[Node, list[do.Effect]]:
    """A snapshot up to `index` is whole."""
    return take(node, SnapshotTaken(now, index, node.snapshot_index))


def based(node: Node) -> tuple[int, int]:
    return node.log.base_index, node.log.base_term


def turn(node: Node, now: float = 0.0, peer: object = B) -> tuple[Node, list[do.Effect]]:
    """The replicator's turn."""
    return take(node, AppendDue(now, node.tenure, peer, 1 << 30))  # type: ignore[arg-type]


def install_reply(effects: list[do.Effect]) -> tuple[InstallSnapshotReply, int]:
    """The one answer, and the write that it waits for."""
    (send,) = these(effects, do.Send)
    assert isinstance(send.message, InstallSnapshotReply)
    return send.message, send.after


def a_leader_that_forgot(last: int = 6, base: int = 4) -> Node:
    """It leads in term 2, and its log of `last` entries and a no-op begins behind `base`."""
    return leader(*[1] * last, base=base)


def lagging(node: Node, next_index: int) -> Node:
    """The leader, of whose follower it knows only what it needs next."""
    return with_progress(node, B, next_index=next_index)


# -- 7: a server's own snapshots ---------------------------------------------------------------


@pytest.mark.parametrize("make", ROLES)
def test_the_log_up_to_a_snapshot_is_discarded(make: Callable[..., Node]) -> None:
    """Once the state is in a snapshot, the log up to there goes (7)."""
    node = make(1, 1, 1, 1, commit=4, settings=ALL)
    after, effects = taken(node, 3, now=99.0)
    assert based(after) == (3, 1)
    assert after.log.last_index == node.log.last_index
    assert after.snapshot_index == 3
    assert effects == [do.Compact(node.disk.asked + 1, 3, 1)]
    assert after.disk.index == node.disk.index, "what is durable stays so"


def test_every_server_takes_snapshots_by_itself() -> None:
    """It covers what is committed, and asks nobody: no message, no new term (7)."""
    node = follower(1, 1, 2, commit=3, settings=ALL)
    after, effects = taken(node, 2)
    assert not sent(effects)
    assert (after.term, after.commit, after.role, after.tenure) == (2, 3, node.role, node.tenure)


def test_the_last_index_and_term_of_a_snapshot_are_known() -> None:
    """The consistency check for the first entry behind it needs them (7)."""
    node, _ = taken(follower(1, 1, 2, 2, commit=3, settings=ALL), 3)
    assert (node.log.term_at(3), node.log.term_at(2), node.log.term_at(4)) == (2, None, 2)
    _, effects = hear(node, B, append(2, 3, 2, 2))
    assert reply_in(effects) == success(2, 1, 4)


def test_a_log_that_is_all_snapshot_votes_by_its_last_term() -> None:
    """It is as up to date as its last entry, wherever that is (5.4.1, 7)."""
    node, _ = taken(follower(1, 1, 3, commit=3, settings=ALL), 3)
    assert (node.log.last_index, node.log.last_term, node.log.runs) == (3, 3, ())
    for last_index, last_term, granted in ((9, 2, False), (2, 3, False), (3, 3, True)):
        _, effects = hear(node, B, vote(4, last_index, last_term))
        assert reply_in(effects).vote_granted is granted
        _, effects = hear(node, B, pre_vote(4, last_index, last_term))
        assert reply_in(effects).vote_granted is granted


def test_who_has_only_a_snapshot_is_elected_and_leads() -> None:
    """Nothing in an election rests on entries that are gone (5.4.1, 7)."""
    node = leader(1, 1, 1, base=3)
    assert (node.log.last_index, terms_of(node.log)) == (4, [2])
    node, request = fed(node, B)
    assert (request.prev_log_index, request.prev_log_term) == (3, 1)
    node, _ = acked(node, B, 4)
    assert node.commit == 4


def test_a_newer_snapshot_replaces_an_older_one() -> None:
    """And what was in the log between them goes (7)."""
    node, _ = taken(follower(1, 1, 1, 2, 2, commit=5, settings=ALL), 2)
    node, _ = taken(node, 4)
    assert (node.snapshot_index, based(node), terms_of(node.log)) == (4, (4, 2), [2])


def test_a_few_entries_stay() -> None:
    """A follower that is only a little behind must not need a snapshot (7)."""
    node, effects = taken(follower(*[1] * 9, commit=9), 8)
    assert (node.snapshot_index, based(node)) == (8, (6, 1))
    assert effects == [do.Compact(1, 6, 1)]


@pytest.mark.parametrize("index", [1, 2])
def test_s13_where_there_is_nothing_to_compact_nothing_is(index: int) -> None:
    """Fewer entries than stay in any case."""
    node, effects = taken(follower(1, 1, 1, commit=3), index)
    assert (node.snapshot_index, based(node), effects) == (index, (0, 0), [])


@pytest.mark.parametrize("index", [3, 4, 5, 6])
def test_s13_what_is_gone_is_not_compacted_again(index: int) -> None:
    """An own snapshot that took long, and is older than the one that came meanwhile."""
    node = follower(*[1] * 8, base=6, settings=ALL)
    after, effects = taken(node, index)
    assert (after, effects) == (node, [])


# -- 7: when the leader sends one --------------------------------------------------------------


def test_a_follower_whose_next_entry_is_gone_is_sent_a_snapshot() -> None:
    """The leader has discarded what it would have to send (7)."""
    node = lagging(a_leader_that_forgot(), 2)
    node, effects = turn(node)
    assert these(effects, do.SendSnapshot) == [do.SendSnapshot(node.tenure, B)]
    assert progress_of(node, B).installing == 4


@pytest.mark.parametrize(
    ("next_index", "needs"), [(1, True), (3, True), (4, True), (5, False), (6, False)]
)
def test_s6_who_needs_the_very_entry_that_a_snapshot_ends_with_is_sent_it(
    next_index: int, needs: bool
) -> None:
    """Behind it the log goes on; the entry itself is gone, and what is before it with it."""
    _, effects = turn(lagging(a_leader_that_forgot(), next_index))
    assert bool(these(effects, do.SendSnapshot)) is needs
    (request,) = sent(effects)
    assert isinstance(request, AppendEntries)
    assert bool(len(request.entries)) is not needs


def test_who_needs_what_stays_behind_a_snapshot_is_sent_entries() -> None:
    """That is what a few of them stay for."""
    node, effects = turn(lagging(leader(*[1] * 6, base=2, snapshot_index=4), 3))
    assert not these(effects, do.SendSnapshot)
    assert sent(effects) == [append(2, 2, 1, 1, 1, 1, 1, 2, commit=4)]
    assert progress_of(node, B).installing == 0


def test_r11_what_is_gone_is_never_asked_about() -> None:
    """Heartbeats go on meanwhile, and follow index 0: no index with a term that is made up."""
    node = lagging(a_leader_that_forgot(), 3)
    for number in range(1, 4):
        node, effects = turn(node, now=number * HEARTBEAT)
        (request,) = sent(effects)
        assert request == append(2, 0, 0, commit=node.commit, number=number)
        assert progress_of(node, B).next_index == 3
        assert bool(these(effects, do.SendSnapshot)) is (number == 1), "one at a time"


def test_such_a_heartbeat_is_answered_as_any_other() -> None:
    """It keeps the follower from campaigning, and the leader in its place."""
    behind = follower(1, me=B, term=2)
    behind, effects = hear(behind, A, append(2, 0, 0, commit=4, number=7), now=3.0)
    assert do.ElectionBy(3.0) in effects
    assert reply_in(effects) == success(2, 7, 0)
    assert behind.commit == 0
    node = lagging(a_leader_that_forgot(), 3)
    node, _ = turn(node, now=5.0)
    node, effects = acked(node, B, 0, now=5.5)
    assert these(effects, do.QuorumBy) == [do.QuorumBy(5.0 + TIMEOUT)]
    assert progress_of(node, B).next_index == 3


def test_a_round_of_reads_reaches_who_needs_a_snapshot() -> None:
    node = lagging(a_leader_that_forgot(), 3)
    node, _ = turn(node)
    node, _ = take(node, ReadIndexDue(0.1))
    node, effects = turn(node, now=0.1)
    assert [message.number for message in sent(effects)] == [2]  # type: ignore[union-attr]
    node, effects = hear(node, B, success(2, 2, 0), now=0.1)
    assert these(effects, do.RoundConfirmed) == [do.RoundConfirmed(1)]


def test_a_follower_that_keeps_up_is_sent_none() -> None:
    """What a live follower lacks stays in the log (7)."""
    node, _ = propose(leader(1, settings=ALL), 6)
    node, _ = fed(node, B, reach=4)
    node, _ = acked(settled(node), B, 4)
    node, _ = fed(node, C)
    node, _ = acked(node, C, 8)
    assert node.commit == 8
    node, _ = taken(node, 8)
    assert based(node) == (4, 2)
    assert progress_of(node, B).match_index == 4
    node, effects = turn(node, now=HEARTBEAT)
    assert not these(effects, do.SendSnapshot)


def test_but_nothing_is_kept_from_before_the_snapshot_before() -> None:
    """However little a live follower has: that bounds the log."""
    node, _ = propose(leader(1, settings=ALL), 6)
    for peer, match in ((B, 2), (C, 8)):
        node, _ = fed(node, peer, reach=match)
        node, _ = acked(settled(node), peer, match)
    node, _ = taken(node, 5)
    assert based(node) == (2, 2)
    node, _ = taken(node, 7)
    assert based(node) == (5, 2)


@pytest.mark.parametrize(("now", "base"), [(4 * TIMEOUT, 2), (4 * TIMEOUT + 0.1, 6)])
def test_who_has_not_answered_for_long_holds_up_nothing(now: float, base: int) -> None:
    """It was heard last at instant 0."""
    node, _ = propose(leader(1, settings=ALL), 6)
    node, _ = fed(node, B, reach=2)
    node, _ = acked(settled(node), B, 2)
    node, _ = fed(node, C, now=now)
    node, _ = acked(node, C, 8, now=now)
    node, _ = taken(node, 6, now=now)
    assert based(node)[0] == base


def test_s8_compacted_again_while_a_snapshot_travels() -> None:
    """What follows the snapshot that is on its way stays: the follower goes on by entries."""
    node, _ = propose(a_leader_that_forgot(), 8)
    node, _ = turn(lagging(evolve(node, settings=ALL), 3))
    node, _ = fed(settled(node), C)
    node, _ = acked(node, C, 15)
    node, _ = acked(node, B, 0)
    node, _ = taken(node, 12)
    assert based(node)[0] == 4
    node, _ = hear(node, B, installed(2, 4))
    node, _ = take(node, SnapshotSent(0.0, node.tenure, B))
    node, effects = turn(node)
    assert not these(effects, do.SendSnapshot)
    (request,) = sent(effects)
    assert (request.prev_log_index, request.prev_log_term) == (4, 1)  # type: ignore[union-attr]


def test_s8_compacted_twice_while_a_snapshot_travels() -> None:
    """It was in vain, and the newest one follows."""
    node, _ = propose(a_leader_that_forgot(), 8)
    node, _ = turn(lagging(evolve(node, settings=ALL), 3))
    node, _ = fed(settled(node), C)
    node, _ = acked(node, C, 15)
    for index in (12, 14):
        node, _ = taken(node, index)
    assert based(node)[0] == 12
    node, _ = hear(node, B, installed(2, 4))
    node, _ = take(node, SnapshotSent(0.0, node.tenure, B))
    node, effects = turn(node, now=HEARTBEAT)
    assert these(effects, do.SendSnapshot) == [do.SendSnapshot(node.tenure, B)]
    assert progress_of(node, B).installing == 14
    node, _ = hear(node, B, installed(2, 14))
    node, effects = turn(node, now=HEARTBEAT)
    assert reply_in(effects).entries.first == 15


def test_a_stream_that_ends_in_vain_is_tried_again_but_not_at_once() -> None:
    """Else a peer that refuses it is asked as fast as a machine can, and nothing else is done."""
    node, _ = turn(lagging(a_leader_that_forgot(), 3))
    node, effects = take(node, SnapshotSent(0.1, node.tenure, B))
    assert effects == [do.Wake(B)]
    assert progress_of(node, B).installing == 0
    for now, begun in ((0.1, False), (HEARTBEAT, False), (HEARTBEAT + 0.1, True)):
        node, effects = turn(node, now=now)
        assert bool(these(effects, do.SendSnapshot)) is begun


def test_a_stream_of_an_earlier_tenure_is_nobodys() -> None:
    node, _ = turn(lagging(a_leader_that_forgot(), 3))
    assert take(node, SnapshotSent(0.0, node.tenure - 1, B)) == (node, [])
    assert take(stepped_down(node), SnapshotSent(0.0, node.tenure, B))[1] == []
    alone = leader(1, size=2)
    assert take(alone, SnapshotSent(0.0, alone.tenure, C)) == (alone, [])


def test_a_new_stream_of_messages_begins_no_second_snapshot() -> None:
    node, _ = turn(lagging(a_leader_that_forgot(), 3))
    node, _ = take(node, LinkUp(0.0, B))
    assert progress_of(node, B).installing == 4
    node, effects = turn(node)
    assert not these(effects, do.SendSnapshot)
    assert sent(effects) == [append(2, 0, 0, commit=node.commit, number=2)]


def test_what_was_on_its_way_and_is_gone_since_comes_by_snapshot() -> None:
    """The stream broke, and the log was compacted beyond what it had lost."""
    node, _ = propose(leader(1, settings=ALL), 6)
    node, _ = fed(node, B, reach=4)
    node, _ = fed(settled(node), C, now=90.0)
    node, _ = acked(node, C, 8, now=90.0)
    node, _ = taken(node, 6, now=90.0)
    assert based(node)[0] == 6
    assert progress_of(node, B).next_index == 5
    node, _ = take(node, LinkUp(91.0, B))
    node, effects = turn(node, now=91.0)
    assert not these(effects, do.SendSnapshot), "nobody knows yet whether it is there"
    node, _ = acked(node, B, 0, now=91.0)
    node, effects = turn(node, now=91.0)
    assert these(effects, do.SendSnapshot) == [do.SendSnapshot(node.tenure, B)]


def test_what_was_fetched_and_is_gone_since_is_not_sent() -> None:
    """The term before it went with it."""
    node = with_progress(lagging(a_leader_that_forgot(), 4), B, fetching=True)
    node, effects = take(node, Fetched(0.0, node.tenure, B, entries(4, 1, 1)))
    assert effects == [do.Wake(B)]
    assert not progress_of(node, B).fetching
    node = with_progress(lagging(a_leader_that_forgot(), 5), B, fetching=True)
    node, effects = take(node, Fetched(0.0, node.tenure, B, entries(5, 1, 1)))
    assert reply_in(effects).prev_log_index == 4


@pytest.mark.parametrize(
    ("hint", "needs"), [((0, 4), True), ((0, 5), False), ((1, 2), False), ((0, 1), True)]
)
def test_where_a_refusal_leads_behind_the_log_a_snapshot_is_sent(
    hint: tuple[int, int], needs: bool
) -> None:
    """A term that the log begins in is known to be the follower's too, up to there."""
    node, _ = propose(a_leader_that_forgot())
    node, _ = fed(node, B)
    node, _ = hear(node, B, refusal(2, 1, *hint))
    node, effects = turn(node)
    assert bool(these(effects, do.SendSnapshot)) is needs
    if not needs:
        assert reply_in(effects).prev_log_index == 4 + 2 * bool(hint[0])


def test_a_term_from_before_the_log_leads_behind_it() -> None:
    """The follower has term 1 where this log has long forgotten it: only a snapshot helps."""
    node, _ = fed(leader(1, 2, 2, 3, base=3), B)
    node, _ = hear(node, B, refusal(node.term, 1, conflict_term=1, conflict_index=1))
    assert progress_of(node, B).next_index == 1
    node, effects = turn(node)
    assert these(effects, do.SendSnapshot)


# -- figure 13: the receiver -------------------------------------------------------------------


def test_a_snapshot_of_an_old_term_is_refused_at_once() -> None:
    """And nothing changes (figure 13, 1)."""
    node = follower(1, 1, term=3)
    after, effects = hear(node, B, snapshot(2, 9, 2))
    assert after == node
    assert install_reply(effects) == (InstallSnapshotReply(3, 0), 0)


def test_a_refusal_states_no_term_that_is_not_durable() -> None:
    node, effects = hear(follower(1), C, vote(5))
    (*_, save) = these(effects, do.SaveTerm)
    _, effects = hear(node, B, snapshot(4, 9, 2))
    assert install_reply(effects) == (InstallSnapshotReply(5, 0), save.write)


@pytest.mark.parametrize("make", ROLES)
def test_its_sender_leads_from_then_on(make: Callable[..., Node]) -> None:
    """So that clients are sent there; whatever this server was about is over (figure 13, 5.1)."""
    node = make(1)
    after, effects = hear(node, B, snapshot(node.term + 1, 9, 1), now=7.0)
    assert (after.term, after.leader) == (node.term + 1, B)
    assert role_of(after, Following).verified == 9
    assert do.ElectionBy(7.0) in effects
    assert after.sticky_until == 7.0 + TIMEOUT
    save, replace = these(effects, do.SaveTerm)[0], these(effects, do.ReplaceLog)[0]
    assert save.write < replace.write


@pytest.mark.parametrize("make", [pre_candidate, candidate])
def test_a_candidate_follows_who_sends_one_in_its_term(make: Callable[..., Node]) -> None:
    """It has heard from the leader of that term (5.2)."""
    node = make(1)
    after, effects = hear(node, B, snapshot(node.term, 9, 1))
    assert (after.term, after.voted_for, after.leader) == (node.term, node.voted_for, B)
    assert after.tenure == node.tenure + 1
    assert not these(effects, do.SaveTerm)


def test_two_leaders_in_one_term_stop_the_server() -> None:
    node, _ = hear(follower(1), B, append(1, 1, 1))
    for here, sender in ((leader(1), B), (node, C)):
        with pytest.raises(InternalError, match="both lead in term"):
            hear(here, sender, snapshot(here.term, 9, 1))


def test_answers_to_a_new_leader_do_not_name_an_old_ones_requests() -> None:
    """It would take its own later requests for answered, and for heard: leases rest on that."""
    node, _ = hear(follower(1, 1), B, append(1, 2, 1, number=50))
    node, _ = hear(node, C, snapshot(2, 2, 1))
    assert role_of(node, Following).number == 0
    _, effects = hear(node, C, append(2, 2, 1, number=1))
    assert reply_in(effects).number == 1


def test_a_snapshot_does_not_take_back_the_newest_request() -> None:
    node, _ = hear(follower(1, 1), B, append(1, 2, 1, number=50))
    node, _ = hear(node, B, snapshot(1, 9, 1))
    assert role_of(node, Following).number == 50


def test_the_whole_log_gives_way_to_what_is_new() -> None:
    """A log that ends before the snapshot does is superseded by it (7; figure 13, 7)."""
    node, effects = hear(follower(1, 1, 1, commit=1), B, snapshot(2, 9, 2))
    assert node.log == Log((), 9, 9, 2)
    assert (node.commit, node.snapshot_index) == (9, 9)
    assert these(effects, do.ReplaceLog) == [do.ReplaceLog(2, 1, 9, 2)]


@pytest.mark.parametrize("tail", [(1, 1), (1, 1, 1), (1, 1, 1, 1, 1, 1)])
def test_so_does_one_that_conflicts_with_it(tail: tuple[int, ...]) -> None:
    """Uncommitted entries behind the snapshot's end conflict with it, too (7)."""
    node, effects = hear(follower(1, *tail, commit=1), B, snapshot(3, 3, 2))
    assert node.log == Log((), 3, 3, 2)
    assert these(effects, do.ReplaceLog) == [do.ReplaceLog(2, 1, 3, 2)]


@pytest.mark.parametrize("last", [3, 4, 6])
def test_s2_what_goes_on_behind_a_snapshot_is_kept(last: int) -> None:
    """A snapshot that describes a prefix of the log: what follows is still valid (7)."""
    node = follower(*[1] * last, commit=1)
    after, effects = hear(node, B, snapshot(1, 3, 1))
    assert after.log == node.log
    assert after.disk == node.disk
    assert these(effects, do.Commit) == [do.Commit(3)]
    assert install_reply(effects) == (installed(1, 3), 0)
    assert not these(effects, do.ReplaceLog)


def test_s2_what_is_behind_it_is_not_acknowledged() -> None:
    """That may conflict with the leader's log."""
    node, _ = hear(follower(1, 1, 1, 1, 1), B, snapshot(2, 3, 1))
    assert role_of(node, Following).verified == 3
    _, effects = hear(node, B, append(2, 0, 0))
    assert reply_in(effects).match_index == 3


@pytest.mark.parametrize("index", [1, 3, 4])
@pytest.mark.parametrize("base", [0, 2, 4])
def test_s1_g08_a_late_snapshot_changes_nothing(index: int, base: int) -> None:
    """Seed G-08: one that is older than what was applied took the state and the log back."""
    node = follower(*[1] * 6, base=base, commit=4)
    after, effects = hear(node, B, snapshot(1, index, 1))
    assert (after.log, after.commit, after.disk) == (node.log, 4, node.disk)
    assert after.snapshot_index == node.snapshot_index
    assert install_reply(effects) == (installed(1, index), 0)
    assert not [effect for effect in effects if isinstance(effect, do.Commit | do.ReplaceLog)]


def test_s1_of_two_snapshots_the_older_one_comes_late() -> None:
    """And may not undo the newer one, even while that is not durable."""
    node, _ = hear(follower(1), B, snapshot(1, 9, 1))
    for durable in (False, True):
        node = settled(node) if durable else node
        after, effects = hear(node, B, snapshot(1, 5, 1))
        assert (after.log, after.snapshot_index) == (Log((), 9, 9, 1), 9)
        assert install_reply(effects) == (installed(1, 5), 0 if durable else node.disk.asked)


def test_a_newer_snapshot_comes_while_an_older_one_is_written() -> None:
    node, _ = hear(follower(1), B, snapshot(1, 5, 1))
    node, effects = hear(node, B, snapshot(1, 9, 1))
    assert these(effects, do.ReplaceLog) == [do.ReplaceLog(2, 5, 9, 1)]
    node, effects = take(node, Persisted(0.0, 1))
    assert these(effects, do.Commit) == [do.Commit(5)]
    node, effects = written(node)
    assert these(effects, do.Commit) == [do.Commit(9)]


def test_s5_g08_a_snapshots_last_term_is_no_servers_term() -> None:
    """Seed G-08: a server took over the snapshot's term, and went back by it."""
    node, effects = hear(follower(1, term=7), B, snapshot(7, 9, 3))
    assert (node.term, based(node)) == (7, (9, 3))
    assert install_reply(effects)[0].term == 7
    assert not these(effects, do.SaveTerm)


@pytest.mark.parametrize("base", [0, 2])
def test_another_snapshot_of_what_is_committed_stops_the_server(base: int) -> None:
    node = follower(1, 1, 1, base=base, commit=3, term=5)
    with pytest.raises(InternalError, match="entry 2 is committed"):
        hear(node, B, snapshot(5, 2, 3))


def test_the_machine_becomes_what_the_snapshot_holds_once_the_log_has_given_way() -> None:
    """Nothing of it is applied before it is durable (figure 13, 8)."""
    node, effects = hear(follower(1, 1), B, snapshot(1, 9, 1))
    assert not these(effects, do.Commit)
    assert (node.commit, node.applicable) == (9, 0)
    node, effects = written(node)
    assert these(effects, do.Commit) == [do.Commit(9)]


def test_the_configuration_is_the_snapshots() -> None:
    """The latest one before its end; none but the genesis is said by None (7; figure 13, 8)."""
    node = follower(1, size=3)
    five = cluster(5)
    after, _ = hear(node, B, InstallSnapshot(1, 9, 1, five))
    assert after.configuration == five
    after, _ = hear(node, B, snapshot(1, 9, 1))
    assert after.configuration == node.configuration


# -- durability --------------------------------------------------------------------------------


def test_a_snapshot_is_acknowledged_when_the_log_has_given_way_on_disk() -> None:
    node, effects = hear(follower(1), B, snapshot(1, 9, 1))
    assert install_reply(effects) == (installed(1, 9), 1)
    assert node.disk.asked == 1
    node, effects = hear(node, B, append(1, 0, 0, number=2))
    assert reply_in(effects).match_index == 0, "nor is it in any other answer"
    node, _ = written(node)
    _, effects = hear(node, B, append(1, 0, 0, number=3))
    assert reply_in(effects).match_index == 9


def test_entries_that_agree_but_are_not_durable_yet_are_acknowledged_when_they_are() -> None:
    """Else the leader would send it all once more."""
    node, effects = hear(follower(1), B, append(1, 1, 1, 1, 1))
    (write,) = these(effects, do.WriteEntries)
    node, effects = hear(node, B, snapshot(1, 3, 1))
    assert install_reply(effects) == (installed(1, 3), write.write)
    assert node.disk.index == 1
    assert these(effects, do.Commit) == [do.Commit(1)]


def test_what_was_durable_is_no_part_of_what_replaces_it() -> None:
    """Entries 2 to 4 are durable, and conflict: of the snapshot's they say nothing."""
    node, _ = hear(follower(1, 1, 1, 1, commit=1), B, snapshot(3, 4, 2))
    assert node.disk.index == 1
    assert settled(node).disk.index == 4


def test_writes_on_their_way_count_no_more_once_the_log_is_replaced() -> None:
    """An index is no identity: entry 3 is the snapshot's now."""
    node, _ = hear(follower(1, commit=1), B, append(1, 1, 1, 1, 1, 1, 1))
    node, _ = hear(node, C, snapshot(3, 3, 2))
    assert node.disk.asked == 3
    for write, index in ((1, 1), (2, 1), (3, 3)):
        node, effects = take(node, Persisted(0.0, write))
        assert node.disk.index == index
        assert bool(these(effects, do.Commit)) is (write == 3)


def test_what_was_committed_and_on_its_way_still_counts() -> None:
    node, _ = hear(follower(1), B, append(1, 1, 1, 1, 1, commit=2))
    node, _ = hear(node, B, snapshot(1, 9, 1))
    node, effects = take(node, Persisted(0.0, 1))
    assert (node.disk.index, these(effects, do.Commit)) == (2, [do.Commit(2)])


def test_entries_behind_a_snapshot_that_is_being_written() -> None:
    node, _ = hear(follower(1), B, snapshot(1, 9, 1))
    node, effects = hear(node, B, append(1, 9, 1, 1, commit=10, number=2))
    assert these(effects, do.WriteEntries)[0].entries.first == 10
    assert not sent(effects)
    node, effects = take(node, Persisted(0.0, 1))
    assert reply_in(effects) == success(1, 2, 9)
    node, effects = take(node, Persisted(0.0, 2))
    assert reply_in(effects) == success(1, 2, 10)
    assert these(effects, do.Commit) == [do.Commit(10)]


def test_what_was_owed_for_entries_that_are_gone_is_answered() -> None:
    node, _ = hear(follower(1), B, append(1, 1, 1, 1, number=4))
    assert role_of(node, Following).owes
    node, _ = hear(node, B, snapshot(1, 9, 1))
    node, effects = written(node)
    assert reply_in(effects) == success(1, 4, 9)
    assert not role_of(node, Following).owes


def test_a_crash_before_the_log_has_given_way_leaves_the_old_one() -> None:
    """And the snapshot that is there already is none of it: nothing of it counts."""
    before = follower(1, 1, 1, commit=2)
    node, _ = hear(before, B, snapshot(1, 9, 1))
    again = restarted(before)
    assert (again.commit, again.log) == (0, before.log)
    again, effects = hear(again, B, snapshot(1, 9, 1))
    assert again.log == node.log
    assert these(effects, do.ReplaceLog) == [do.ReplaceLog(1, 0, 9, 1)]


def test_a_crash_before_the_log_is_compacted_costs_nothing() -> None:
    """The snapshot counts, and the log still begins where it did; the next one compacts it."""
    before = follower(1, 1, 1, 1, commit=4, settings=ALL)
    assert these(taken(before, 3)[1], do.Compact)
    again = restarted(evolve(before, snapshot_index=3))
    assert (again.commit, again.applicable, based(again)) == (3, 3, (0, 0))
    again, _ = hear(again, B, append(1, 4, 1, commit=4))
    assert these(taken(again, 4)[1], do.Compact) == [do.Compact(1, 4, 1)]


@pytest.mark.parametrize("index", [2, 3])
def test_g08_after_a_restart_what_a_snapshot_holds_is_committed(index: int) -> None:
    """Else one that comes late took the log back behind its own beginning."""
    node, _ = hear(follower(*[1] * 6, base=3), B, append(1, 6, 1, commit=6))
    again = restarted(node)
    assert again.commit == 3
    again, effects = hear(again, B, snapshot(1, index, 1))
    assert (again.log, again.commit) == (node.log, 3)
    assert not these(effects, do.ReplaceLog)


# -- requests that begin within what is gone ---------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        append(1, 0, 0, 1, 1, 1, 1, 1, 1, commit=6),
        append(1, 2, 1, 1, commit=2),
        append(1, 2, 1, 1, 1, 1),
        append(1, 1, 1),
        append(1, 3, 1, 1, 1, 1, 1),
    ],
)
def test_r13_a_request_that_begins_within_what_is_gone_is_no_conflict(
    request_: AppendEntries,
) -> None:
    """A snapshot holds it: it is committed, so it is the leader's too, and nothing is deleted."""
    node = follower(*[1] * 6, base=4)
    after, effects = hear(node, B, request_)
    after, more = written(after)
    assert after.log.cut(6) == node.log
    assert after.log.last_index == max(6, request_.entries.last)
    answer = sent([*effects, *more])[-1]
    assert answer.success  # type: ignore[union-attr]
    assert role_of(after, Following).verified == request_.entries.last


def test_r13_only_what_conflicts_behind_the_snapshot_is_cut() -> None:
    node = follower(1, 1, 1, 2, 2, base=2)
    after, effects = hear(node, B, append(3, 1, 1, 1, 1, 3))
    assert (based(after), terms_of(after.log)) == ((2, 1), [1, 3])
    (write,) = these(effects, do.WriteEntries)
    assert (write.entries, write.cuts) == (entries(4, 3), True)
    assert after.disk.index == 3


def test_g09_the_term_is_compared_where_the_snapshot_ends() -> None:
    """Seed G-09: there it was not, and entries were put behind another leader's."""
    node = follower(1, 1, 2, base=3)
    _, effects = hear(node, B, append(3, 3, 2, 3))
    assert not sent(effects)
    assert these(effects, do.WriteEntries)
    with pytest.raises(InternalError, match="entry 3 is committed"):
        hear(node, B, append(3, 3, 1, 3))


def test_a_gap_behind_a_snapshot_is_refused() -> None:
    node, effects = hear(follower(1, 1, 2, base=3), B, append(3, 5, 3, 3))
    assert reply_in(effects) == refusal(3, 1, 0, 4)
    assert node.log.last_index == 3


def test_a_conflicting_term_begins_at_the_snapshots_end_at_most() -> None:
    """What is before is committed, and can't conflict."""
    _, effects = hear(follower(1, 2, 2, 2, 2, base=3), B, append(4, 5, 3))
    assert reply_in(effects) == refusal(4, 1, 2, 4)


# -- figure 13: the leader's side --------------------------------------------------------------


def test_after_a_snapshot_the_follower_goes_on_by_entries() -> None:
    node, _ = turn(lagging(a_leader_that_forgot(), 3))
    node, effects = hear(node, B, installed(2, 4))
    assert do.Wake(B) in effects
    progress = progress_of(node, B)
    assert (progress.match_index, progress.next_index) == (4, 5)
    node, effects = turn(node)
    assert sent(effects) == [append(2, 4, 1, 1, 1, 2, number=2, commit=node.commit)]


def test_a_snapshot_counts_for_what_is_committed() -> None:
    """The leader took it in its own term, and then who has it has the no-op (5.4.2)."""
    node = settled(propose(leader(1, 1, settings=ALL, size=5), 2)[0])
    node = with_progress(node, C, match_index=5, next_index=6)
    assert node.commit == 0
    node, effects = hear(node, B, installed(2, 4))
    assert node.commit == 4
    assert these(effects, do.Commit) == [do.Commit(4)]


def test_a_higher_term_in_the_answer_ends_the_leading() -> None:
    """The answer's term is there for the leader to update itself (figure 13)."""
    node, effects = hear(a_leader_that_forgot(), B, InstallSnapshotReply(9, 0))
    assert (node.term, node.role) == (9, Following())
    assert these(effects, do.SaveTerm)


def test_answers_that_overtake_each_other_never_lower_a_match() -> None:
    node, _ = turn(lagging(a_leader_that_forgot(), 3))
    node, _ = hear(node, B, installed(2, 4))
    node, _ = fed(node, B)
    node, _ = acked(node, B, 7)
    for late in (4, 1, 0):
        node, _ = hear(node, B, installed(2, late))
        progress = progress_of(node, B)
        assert (progress.match_index, progress.next_index) == (7, 8)


def test_an_answer_leaves_what_is_on_its_way_behind_it() -> None:
    node, _ = propose(a_leader_that_forgot(), 3)
    node = with_progress(node, B, probing=False, next_index=5, number=3)
    for reach in (5, 6, 8):
        node, _ = fed(node, B, reach=reach)
    node, _ = hear(node, B, installed(2, 6))
    progress = progress_of(node, B)
    assert (progress.in_flight, progress.next_index) == (((6, 7, 8),), 9)


def test_a_refusal_from_before_the_snapshot_leads_nowhere() -> None:
    node, _ = propose(a_leader_that_forgot(), 3)
    node, request = fed(node, B)
    node, _ = hear(node, B, installed(2, 4))
    node, _ = hear(node, B, refusal(2, request.number, 0, 2))
    assert progress_of(node, B).next_index == 5


@pytest.mark.parametrize("answer", [installed(1, 4), installed(2, 4)])
def test_answers_that_are_for_nobody_are_void(answer: InstallSnapshotReply) -> None:
    """Of an earlier term, from a server that is no member, to one that does not lead."""
    node = a_leader_that_forgot()
    sender = B if answer.term == 1 else evolve(B, name="z")
    assert hear(node, sender, answer) == (node, [])
    here = follower(1, term=2)
    assert hear(here, B, answer) == (here, [])


def test_who_claims_too_much_is_ignored() -> None:
    node = a_leader_that_forgot()
    after, effects = hear(node, B, installed(2, 8))
    assert after == node
    (complaint,) = these(effects, do.Complain)
    assert complaint.peer == B


def test_a_leader_that_has_forgotten_how_its_term_began_leads_on() -> None:
    """Its no-op is gone, and what it appends follows all the same."""
    node, _ = propose(leader(1, settings=ALL, size=1), 6)
    node, _ = taken(settled(node), 7)
    assert role_of(node, Leading).first_index < node.log.base_index
    node, effects = propose(node, 2)
    assert these(effects, do.AppendOwn)[0].first == 9
    node, effects = written(node)
    assert these(effects, do.Commit) == [do.Commit(10)]


# -- both sides --------------------------------------------------------------------------------


def brought_together(boss: Node, other: Node) -> tuple[Node, int, int]:
    """Bring a follower's log to the leader's: what it has then, and how often it refused and took
    a snapshot."""
    refused = snapshots = 0
    for turns in range(60):
        now = turns * HEARTBEAT
        boss, effects = turn(boss, now=now)
        messages = sent(effects)
        if these(effects, do.SendSnapshot):
            snapshots += 1
            index = boss.snapshot_index
            messages.append(snapshot(boss.term, index, boss.log.term_at(index) or 0))
        for message in messages:
            other, effects = hear(other, A, message, now=now)
            other, more = written(other, now=now)
            for answer in sent([*effects, *more]):
                refused += getattr(answer, "success", True) is False
                boss, _ = hear(boss, B, answer, now=now)
        if progress_of(boss, B).installing:
            boss, _ = take(boss, SnapshotSent(now, boss.tenure, B))
        if progress_of(boss, B).match_index == boss.log.last_index:
            return other, refused, snapshots
    raise AssertionError("a livelock")


def agreed(mine: list[int], theirs: list[int]) -> int:
    """How many first entries are the same."""
    same = [one == other for one, other in zip(mine, theirs, strict=False)]
    return same.index(False) if False in same else len(same)


@pytest.mark.parametrize("seed", range(150))
def test_whatever_both_have_forgotten_they_agree_in_a_few_rounds(seed: int) -> None:
    """One refusal for each wrong term and one for the length, as without snapshots; and one
    snapshot at most, only if the follower lacks what is gone."""
    chance = random.Random(seed)
    for mine, theirs in (histories(chance), histories(chance)[::-1]):
        common = agreed(mine, theirs)
        kept = chance.randint(0, len(mine))
        base = chance.randint(0, kept)
        term = max([*mine, *theirs, 1])
        boss = leader(*mine, term=term, base=base, snapshot_index=kept)
        theirs_base = chance.randint(0, common)
        other = follower(*theirs, me=B, term=boss.term, base=theirs_base)
        other, refused, snapshots = brought_together(boss, other)
        assert other.log.agrees(boss.log, boss.log.last_index), (mine, theirs)
        wrong = len(set(theirs[common:]))
        assert refused <= wrong + (len(theirs) < len(mine) + 1)
        assert snapshots <= (common < base)


def test_no_server_speaks_of_entries_it_has_forgotten() -> None:
    """However the follower answers, each request begins where the leader knows the term."""
    chance = random.Random(7)
    for _ in range(100):
        node, _ = propose(a_leader_that_forgot(last=9, base=6), 3)
        for now in range(12):
            node, requests = feed(node, B, now=float(now))
            for request in requests:
                known = node.log.term_at(request.prev_log_index)
                assert known == request.prev_log_term
            number = progress_of(node, B).number
            first = chance.randint(1, 12)
            answer = chance.choice(
                [refusal(2, number, chance.randint(0, 1), first), success(2, number, 0)]
            )
            node, _ = hear(node, B, answer, now=float(now))
            assert isinstance(node.role, Leading)
