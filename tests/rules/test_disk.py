"""What rests on the disk: writes by their numbers, cuts, and a leader whose own disk lags."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.worlds import (
    HEARTBEAT,
    TIMEOUT,
    B,
    C,
    D,
    acked,
    append,
    entries,
    fed,
    follower,
    hear,
    leader,
    log_of,
    progress_of,
    propose,
    reply_in,
    restarted,
    role_of,
    sent,
    success,
    take,
    terms_of,
    these,
    vote,
    written,
)
from trioraft._errors import InternalError
from trioraft._rules import effects as do
from trioraft._rules.events import AnswerDue, AppendDue, ElectionTimeout, Persisted, QuorumTimeout
from trioraft._rules.invariants import check
from trioraft._rules.log import Log
from trioraft._rules.node import Disk, Following, Leading, Node
from trioraft._rules.tenure import watch_own_disk

# -- writes by their numbers -------------------------------------------------------------------


def test_a_cut_voids_an_earlier_writes_completion() -> None:
    """Entry 2 was written, cut and written again: the first write's end says nothing of it."""
    node, _ = hear(follower(1), B, append(2, 1, 1, 2, 2))
    assert node.disk.asked == 2
    node, _ = hear(node, C, append(3, 1, 1, 3, 3))
    assert node.disk.asked == 4
    node, effects = take(node, Persisted(0.0, 2))
    assert node.disk.index == 1
    assert not sent(effects) or reply_in(effects).match_index == 1
    node, effects = take(node, Persisted(0.0, 3))
    assert node.disk.index == 1
    node, effects = take(node, Persisted(0.0, 4))
    assert node.disk.index == 3
    assert reply_in(effects) == success(3, 1, 3)


def test_a_cut_takes_back_what_was_durable() -> None:
    node, _ = hear(follower(1, 2, 2, 2), B, append(3, 2, 2, 3))
    assert terms_of(node.log) == [1, 2, 3]
    assert (node.disk.index, node.log.last_index) == (2, 3)


def test_nothing_is_lost_when_the_cut_itself_is() -> None:
    """What was acknowledged meanwhile stands on the disk before and after the cut."""
    node, _ = hear(follower(1, 2, 2), B, append(3, 1, 1, 3))
    assert node.disk.index == 1
    before = restarted(follower(1, 2, 2))
    assert before.log.cut(1) == node.log.cut(1)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 3)),
            st.tuples(st.just("cut"), st.integers(0, 6)),
            st.tuples(st.just("term"), st.just(0)),
            st.tuples(st.just("done"), st.integers(0, 3)),
        ),
        max_size=24,
    )
)
def test_what_counts_as_durable_is_durable(moves: list[tuple[str, int]]) -> None:
    """Against a disk that holds every entry by the number of the write that brought it."""
    disk, memory, real = Disk(), list[int](), list[int]()
    writes: list[tuple[int, int, list[int]]] = []  # number, entries kept, entries behind them
    for what, count in moves:
        if what == "done":
            for _ in range(min(count, len(writes))):
                number, kept, new = writes.pop(0)
                real = real[:kept] + new
                disk = disk.having(number)
        else:
            number, kept = disk.asked + 1, len(memory)
            if what == "cut":
                kept = min(count, kept)
            new = [number] * (0 if what == "term" else max(1, count if what == "append" else 1))
            memory = memory[:kept] + new
            disk = disk.asking(len(memory), kept)
            writes.append((number, kept, new))
        same = 0
        while same < min(len(real), len(memory)) and real[same] == memory[same]:
            same += 1
        assert disk.index <= same
        if not writes:
            assert disk.index == len(memory)
        assert len(disk.pending) == len(writes)


def test_a_report_that_comes_twice_changes_nothing() -> None:
    node, _ = hear(follower(1), B, append(1, 1, 1, 1))
    node, _ = written(node)
    again, effects = written(node)
    assert (again, effects) == (node, [])


def test_one_report_may_stand_for_many_writes() -> None:
    node, _ = hear(follower(1), B, append(1, 1, 1, 1))
    node, _ = hear(node, B, append(1, 2, 1, 1, number=2))
    node, effects = take(node, Persisted(0.0, 2))
    assert reply_in(effects) == success(1, 2, 3)
    assert node.disk.pending == ()


def test_writes_are_numbered_by_their_place() -> None:
    node, effects = hear(follower(1), B, vote(5, 9, 4))
    assert [save.write for save in these(effects, do.SaveTerm)] == [1, 2]
    node, effects = hear(node, B, append(5, 1, 1, 5))
    assert [write.write for write in these(effects, do.WriteEntries)] == [3]


# -- slow disks --------------------------------------------------------------------------------


def test_e18_a_slow_disk_at_a_follower_brings_no_election() -> None:
    """Heartbeats are answered, and restart the time-out, while a write takes two seconds."""
    node, _ = hear(follower(1), B, append(1, 1, 1, 1))
    boss = leader(1, 1, size=3)
    for turn in range(1, 20):
        now = turn * HEARTBEAT
        node, effects = hear(node, B, append(1, 2, 1, number=1 + turn), now=now)
        assert do.ElectionBy(now) in effects
        assert reply_in(effects) == success(1, 1 + turn, 1)
    assert boss.term == 2


def test_a_followers_slow_disk_deposes_nobody() -> None:
    """Partial answers move the quorum deadline as any other."""
    node, _ = propose(leader(1))
    now = 0.0
    for _ in range(40):
        now += HEARTBEAT
        node, _ = fed(node, B, now=now)
        node, effects = acked(node, B, 1, now=now + HEARTBEAT / 2)
        assert these(effects, do.QuorumBy) == [do.QuorumBy(now + TIMEOUT)]
    after, _ = take(node, QuorumTimeout(now + HEARTBEAT, node.tenure))
    assert isinstance(after.role, Leading)
    assert after.commit == 0


def ahead_of_their_leader(size: int = 3) -> Node:
    """A leader whose followers have entry 3 since instant 1, and whose own disk has only 2."""
    node, _ = propose(leader(1, size=size))
    for peer in node.configuration.others(node.me):
        node, _ = fed(node, peer, now=0.5)
        node, _ = acked(node, peer, 3, now=1.0)
    return node


def answered(node: Node, now: float) -> tuple[Node, list[do.Effect]]:
    """All followers answer a heartbeat sent at this instant."""
    effects: list[do.Effect] = []
    for peer in node.configuration.others(node.me):
        if not isinstance(node.role, Leading):
            break
        node, _ = fed(node, peer, now=now)
        node, effects = acked(node, peer, progress_of(node, peer).match_index, now=now)
    return node, effects


def test_a_leader_whose_own_disk_lags_four_time_outs_steps_down() -> None:
    node = ahead_of_their_leader()
    assert role_of(node, Leading).lagging == (3, 1.0)
    node, effects = answered(node, 36.0)
    assert these(effects, do.QuorumBy)[-1] == do.QuorumBy(41.0), "it will be looked at in time"
    node, effects = take(node, QuorumTimeout(40.9, node.tenure))
    assert effects == [do.QuorumBy(41.0)]
    node, effects = take(node, QuorumTimeout(41.0, node.tenure))
    assert node.role == Following()
    assert do.ElectionBy(41.0) in effects


@pytest.mark.parametrize("how", ["answer", "disk"])
def test_it_steps_down_at_whatever_happens_then(how: str) -> None:
    node, _ = propose(ahead_of_their_leader())
    node, _ = answered(node, 40.0)
    assert isinstance(node.role, Leading)
    if how == "answer":
        node, _ = answered(node, 41.0)
    else:
        node, _ = take(node, Persisted(41.0, 0))
    assert node.role == Following()


def test_who_does_not_lead_any_more_has_nothing_to_step_down_from() -> None:
    """The reply that commits its own removal may have ended its term."""
    assert watch_own_disk(follower(1, 1), 41.0) == (follower(1, 1), [])


def test_a_disk_that_catches_up_is_forgiven() -> None:
    node = ahead_of_their_leader()
    node, _ = written(node, now=30.0)
    assert role_of(node, Leading).lagging is None
    node, _ = answered(node, 60.0)
    assert isinstance(node.role, Leading)


def test_the_clock_starts_anew_for_a_later_entry() -> None:
    """It has what was missed, but lacks what came meanwhile: that is another matter."""
    node = ahead_of_their_leader()
    node, _ = propose(node)
    for peer in node.configuration.others(node.me):
        node, _ = fed(node, peer, now=20.0)
        node, _ = acked(node, peer, 4, now=20.0)
    assert role_of(node, Leading).lagging == (3, 1.0)
    node, _ = take(node, Persisted(30.0, node.disk.asked - 1))
    assert role_of(node, Leading).lagging == (4, 30.0)


def test_where_all_disks_are_slow_nobody_steps_down() -> None:
    node, _ = propose(leader(1))
    now = 0.0
    for _ in range(60):
        now += HEARTBEAT
        node, _ = fed(node, B, now=now)
        node, _ = acked(node, B, 1, now=now)
        node, _ = fed(node, C, now=now)
        node, _ = acked(node, C, 1, now=now)
    after, _ = take(node, QuorumTimeout(now, node.tenure))
    assert isinstance(after.role, Leading)


def test_one_fast_follower_of_two_is_no_majority_without_the_leader() -> None:
    node, _ = propose(leader(1))
    node, _ = fed(node, B, now=0.0)
    node, _ = acked(node, B, 3, now=0.0)
    assert role_of(node, Leading).lagging is None
    node, _ = answered(node, 90.0)
    assert isinstance(node.role, Leading)
    five = ahead_of_their_leader(5)
    assert role_of(five, Leading).lagging == (3, 1.0)
    assert five.configuration.voter(D)


# -- the crash between -------------------------------------------------------------------------


def test_entries_are_sent_while_the_own_write_is_under_way() -> None:
    """A leader's AppendEntries promises nothing: it waits for no disk."""
    node, _ = propose(leader(1, durable=False))
    node, effects = take(node, AppendDue(0.0, node.tenure, B, 99))
    (send,) = these(effects, do.Send)
    assert send.after == 0


def test_an_answer_states_no_term_that_is_not_durable() -> None:
    node, effects = hear(follower(1), B, append(7, 1, 1))
    (send,) = these(effects, do.Send)
    assert send.after == these(effects, do.SaveTerm)[0].write == node.disk.term_write
    node, effects = hear(node, B, append(7, 9, 7, number=2))
    (send,) = these(effects, do.Send)
    assert send.after == node.disk.term_write
    node, _ = hear(node, B, append(7, 1, 1, 7, number=3))
    node, effects = take(node, AnswerDue(1.0, node.tenure))
    assert these(effects, do.Send)[0].after == node.disk.term_write


def test_a_restarted_server_knows_what_its_disk_knew() -> None:
    node, _ = hear(follower(1, 2), B, vote(4, 9, 3))
    again = restarted(node)
    assert (again.term, again.voted_for, terms_of(again.log)) == (4, B, [1, 2])
    assert again.disk.knows_term
    again, _ = take(again, ElectionTimeout(0.0, 0))
    assert again.term == 4


# -- the invariants themselves -----------------------------------------------------------------


def test_a_broken_invariant_is_named() -> None:
    node = leader(1, 1)
    role = role_of(node, Leading)
    ahead = role.with_progress(evolve(role.progress[0], match_index=9, next_index=9))
    astray = role.with_progress(evolve(role.progress[0], match_index=1, next_index=1))
    for broken, what in (
        (evolve(node, term=1), "a term never falls"),
        (evolve(node, voted_for=B), "a vote is cast once a term"),
        (evolve(node, commit=9), "what is committed is in the log"),
        (evolve(node, tenure=node.tenure, role=Following()), "a new role is a new tenure"),
        (evolve(node, role=evolve(role, first_index=1)), "begins with its no-op"),
        (evolve(node, log=Log().extended(entries(1, 1, 2, 2))), "a leader only appends"),
        (evolve(node, role=ahead), "no match is beyond the log"),
        (evolve(node, role=astray), "next follows match"),
        (evolve(node, disk=evolve(node.disk, index=9)), "what is durable is in the log"),
        (evolve(node, disk=evolve(node.disk, done=99)), "no more than it was asked"),
    ):
        with pytest.raises(InternalError, match=what):
            check(node, broken)
    with pytest.raises(InternalError, match="a leader voted for itself"):
        check(evolve(node, voted_for=None), evolve(node, voted_for=B))
    before, _ = hear(follower(1, 1), B, append(1, 2, 1, commit=2))
    for broken, what in (
        (evolve(before, commit=1), "the commit index never falls"),
        (evolve(before, log=Log(((1, 0),), 2)), "what is committed is never cut"),
        (evolve(before, log=Log(((1, 1), (3, 9)), 3)), "no entry is of a later term"),
        (evolve(before, role=Following(verified=9)), "what is verified is in the log"),
        (evolve(before, log=before.log.compacted(1)), "what the log has forgotten is in a snap"),
        (evolve(before, snapshot_index=3), "and that is committed"),
    ):
        with pytest.raises(InternalError, match=what):
            check(before, broken)
    before = follower(1, 1, 1, base=2)
    for broken, what in (
        (evolve(before, log=log_of(1, 1, 1).compacted(1)), "what the log has forgotten"),
        (evolve(before, log=log_of(1, 1, 1), snapshot_index=1), "what the log has forgotten"),
        (evolve(before, snapshot_index=3), "what the log has forgotten"),
    ):
        with pytest.raises(InternalError, match=what):
            check(before, broken)
    before = evolve(follower(1, 1, 1, base=1, commit=3), snapshot_index=2)
    with pytest.raises(InternalError, match="a snapshot never gives way to an older one"):
        check(before, evolve(before, snapshot_index=1))
