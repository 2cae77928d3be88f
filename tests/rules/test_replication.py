"""Replication: what a follower takes and answers, and what a leader concludes from it."""

from __future__ import annotations

import math
import random

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.worlds import (
    HEARTBEAT,
    SETTINGS,
    A,
    B,
    C,
    acked,
    append,
    entries,
    fed,
    feed,
    follower,
    hear,
    leader,
    log_of,
    progress_of,
    propose,
    refusal,
    reply_in,
    restarted,
    role_of,
    sent,
    settled,
    success,
    take,
    terms_of,
    these,
    with_progress,
    written,
)
from trioraft._errors import InternalError
from trioraft._rules import effects as do
from trioraft._rules.events import AnswerDue, AppendDue, Fetched, LinkUp, Persisted, Proposed
from trioraft._rules.messages import AppendEntries
from trioraft._rules.node import Following, Leading, Node

# -- the follower ------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [0.0, 5.0])
def test_a_heartbeat_is_answered_at_once_with_what_is_durable(now: float) -> None:
    node, _ = hear(follower(1), B, append(1, 1, 1, 1, 1))
    assert node.log.last_index == 3
    node, effects = hear(node, B, append(1, 3, 1, number=2), now=now)
    assert these(effects, do.Send) == [do.Send(B, success(1, 2, 1))]
    node, _ = written(node)
    node, effects = hear(node, B, append(1, 3, 1, number=3), now=now)
    assert reply_in(effects) == success(1, 3, 3)


def test_entries_are_answered_when_they_are_durable() -> None:
    node, effects = hear(follower(1), B, append(1, 1, 1, 1, 1), now=3.0)
    assert not sent(effects)
    assert these(effects, do.AnswerBy) == [do.AnswerBy(3.0 + HEARTBEAT / 2)]
    (write,) = these(effects, do.WriteEntries)
    assert (write.write, write.entries, write.cuts) == (1, entries(2, 1, 1), False)
    node, effects = written(node, now=3.1)
    assert effects == [do.Send(B, success(1, 1, 3)), do.AnswerBy(math.inf)]
    assert not role_of(node, Following).owes


@pytest.mark.parametrize("last", [2, 3])
def test_entries_that_are_durable_already_are_answered_at_once(last: int) -> None:
    _, effects = hear(follower(1, 1, 1), B, append(1, 1, 1, *[1] * (last - 1)))
    assert reply_in(effects) == success(1, 1, last)
    assert not these(effects, do.WriteEntries)


def test_an_owed_answer_is_given_in_part_after_half_a_heartbeat_interval() -> None:
    node, _ = hear(follower(1), B, append(1, 1, 1, 1))
    node, effects = hear(node, B, append(1, 2, 1, 1, number=2), now=0.1)
    assert not these(effects, do.AnswerBy), "the first one's time stands"
    node, effects = take(node, AnswerDue(0.5, node.tenure))
    assert effects == [do.Send(B, success(1, 2, 1)), do.AnswerBy(1.0)]
    node, effects = written_up_to(node, 1, now=0.6)
    assert effects == [do.Send(B, success(1, 2, 2)), do.AnswerBy(1.1)]
    assert role_of(node, Following).owes
    node, effects = written(node, now=0.7)
    assert effects == [do.Send(B, success(1, 2, 3)), do.AnswerBy(math.inf)]
    assert take(node, AnswerDue(1.0, node.tenure)) == (node, [])


def written_up_to(node: Node, write: int, now: float) -> tuple[Node, list[do.Effect]]:
    return take(node, Persisted(now, write))


def test_what_was_owed_to_an_earlier_leader_is_owed_no_more() -> None:
    node, _ = hear(follower(1), B, append(1, 1, 1, 1))
    node, _ = hear(node, C, append(2, 1, 1, number=1))
    assert not role_of(node, Following).owes
    after, effects = written(node)
    assert not sent(effects)
    assert role_of(after, Following).verified == 1
    assert take(after, AnswerDue(9.0, after.tenure)) == (after, [])


def test_an_answer_names_the_newest_request_and_what_is_verified() -> None:
    """Match is the lesser of durable and verified; a longer log proves nothing."""
    node, effects = hear(follower(1, 1, 1, 1), B, append(2, 2, 1))
    assert reply_in(effects) == success(2, 1, 2)
    node, effects = hear(node, B, append(2, 1, 1, number=5))
    assert reply_in(effects) == success(2, 5, 2), "verified does not fall"
    node, effects = hear(node, B, append(2, 0, 0, number=3))
    assert reply_in(effects) == success(2, 5, 2), "a late request is answered by the newest number"


def test_what_is_verified_is_verified_for_one_term() -> None:
    node, _ = hear(follower(1, 1, 1), B, append(1, 3, 1))
    assert role_of(node, Following).verified == 3
    node, effects = hear(node, C, append(2, 1, 1))
    assert role_of(node, Following).verified == 1
    assert reply_in(effects) == success(2, 1, 1)


@pytest.mark.parametrize("late", [append(1, 1, 1, 1, 1), append(1, 0, 0), append(1, 1, 1, 1)])
def test_r1_r2_g02_a_late_copy_cuts_nothing(late: AppendEntries) -> None:
    """Seed G-02: a late request with fewer entries, or none, erased what came after it."""
    node, _ = hear(follower(1, 1, 1, 1, 1), B, append(1, 5, 1, commit=5, number=9))
    node, effects = hear(node, B, late)
    assert terms_of(node.log) == [1] * 5
    assert reply_in(effects) == success(1, 9, 5)
    assert node.commit == 5


def test_only_what_conflicts_is_cut() -> None:
    node, effects = hear(follower(1, 1, 2, 2), B, append(3, 1, 1, 1, 3, 3))
    assert terms_of(node.log) == [1, 1, 3, 3]
    (write,) = these(effects, do.WriteEntries)
    assert (write.entries, write.cuts) == (entries(3, 3, 3), True)
    assert list(write.entries.frames) == [b"3/3", b"4/3"]
    assert node.disk.index == 2


def test_entries_behind_the_end_are_no_cut() -> None:
    node, effects = hear(follower(1, 1), B, append(3, 1, 1, 1, 3))
    (write,) = these(effects, do.WriteEntries)
    assert (write.entries, write.cuts) == (entries(3, 3), False)
    assert terms_of(node.log) == [1, 1, 3]


def test_g10_r9_a_gap_is_refused() -> None:
    """Seed G-10: entries that do not follow what is there were accepted."""
    node, effects = hear(follower(1), B, append(1, 4, 1, 1, 1))
    assert terms_of(node.log) == [1]
    assert reply_in(effects) == refusal(1, 1, 0, 2)


def test_g09_the_term_before_the_entries_is_always_compared() -> None:
    """Seed G-09: at the very start of the log it was not."""
    node, effects = hear(follower(1), B, append(5, 1, 5, 5))
    assert terms_of(node.log) == [1]
    assert reply_in(effects) == refusal(5, 1, 1, 1)


def test_a_refusal_says_where_the_conflicting_term_begins() -> None:
    node = follower(1, 1, 2, 2, 2, 3)
    for prev, term, conflict in ((5, 4, (2, 3)), (6, 4, (3, 6)), (2, 2, (1, 1)), (9, 4, (0, 7))):
        after, effects = hear(node, B, append(4, prev, term, number=8))
        assert reply_in(effects) == refusal(4, 8, *conflict)
        assert after.log == node.log


@pytest.mark.parametrize(("prev", "term"), [(1, 2), (2, 5)])
def test_another_term_where_something_is_committed_stops_the_server(prev: int, term: int) -> None:
    node, _ = hear(follower(1, 1, 1), B, append(1, 3, 1, commit=2))
    with pytest.raises(InternalError, match=f"entry {prev} is committed"):
        hear(node, B, append(5, prev, term))
    with pytest.raises(InternalError, match=f"entry {prev} is committed"):
        hear(node, B, append(5, prev - 1, 1 if prev > 1 else 0, term))


# -- commit, as a follower learns of it --------------------------------------------------------


def test_r16_commit_is_the_lesser_of_the_leaders_and_what_is_verified() -> None:
    node, _ = hear(follower(1, 1, 1), B, append(1, 2, 1, commit=9))
    assert node.commit == 2
    node, effects = hear(node, B, append(1, 3, 1, commit=1))
    assert node.commit == 2, "it never falls"
    assert not these(effects, do.Commit)


def test_r17_a_stale_tail_is_not_committed() -> None:
    node, effects = hear(follower(1, 1, 2, 2, 2), B, append(3, 1, 1, 1, commit=5))
    assert node.commit == 2
    assert these(effects, do.Commit) == [do.Commit(2)]
    assert terms_of(node.log) == [1, 1, 2, 2, 2]


def test_c10_nothing_is_applied_before_it_is_durable() -> None:
    node, effects = hear(follower(1), B, append(1, 1, 1, 1, 1, commit=3))
    assert node.commit == 3
    assert these(effects, do.Commit) == [do.Commit(1)]
    node, effects = written(node)
    assert these(effects, do.Commit) == [do.Commit(3)]


def test_g32_after_a_restart_nothing_is_committed_until_a_leader_says_so() -> None:
    """The commit index is not promised on disk."""
    node, _ = hear(follower(1, 1), B, append(1, 2, 1, commit=2))
    again = restarted(node)
    assert (again.commit, again.applicable, again.leader) == (0, 0, None)
    again, effects = hear(again, B, append(1, 2, 1, commit=2, number=2))
    assert these(effects, do.Commit) == [do.Commit(2)]


# -- the leader: sending -----------------------------------------------------------------------


def test_g50_commands_are_sent_and_written_at_once() -> None:
    """Seed G-50: a command waited for the next heartbeat."""
    node, effects = propose(leader(1), 3)
    assert these(effects, do.AppendOwn) == [do.AppendOwn(3, 3, 2, 3)]
    assert terms_of(node.log) == [1, 2, 2, 2, 2]
    node, request = fed(node, B)
    assert request == append(2, 1, 1, 2, 2, 2, 2)
    node, request = fed(node, C)
    assert request.number == 1, "numbered for each follower"


def test_the_batch_is_passed_on_untouched() -> None:
    batch = object()
    _, (append_own, *_) = take(leader(1), Proposed(0.0, 2, batch))
    assert isinstance(append_own, do.AppendOwn)
    assert append_own.batch is batch


def test_a_message_reaches_as_far_as_it_may_and_the_next_follows() -> None:
    node, _ = propose(leader(1), 5)
    node, effects = take(node, AppendDue(0.0, node.tenure, B, 3))
    assert sent(effects) == [append(2, 1, 1, 2, 2)]
    assert these(effects, do.Wake) == [do.Wake(B)], "there is more"
    node, _ = acked(node, B, 3)
    node, effects = take(node, AppendDue(0.0, node.tenure, B, 99))
    assert sent(effects) == [append(2, 3, 2, 2, 2, 2, 2, number=2, commit=2)]
    assert not these(effects, do.Wake)


def test_while_probing_one_request_is_on_the_way() -> None:
    node, _ = propose(leader(1), 5)
    node, _ = fed(node, B, reach=2)
    assert feed(node, B)[1] == []
    node, effects = acked(node, B, 2)
    assert do.Wake(B) in effects
    assert not progress_of(node, B).probing


def test_the_window_bounds_what_is_on_the_way() -> None:
    node, _ = propose(leader(1), 20)
    node, _ = fed(node, B, reach=2)
    node, _ = acked(node, B, 2)
    for last in (3, 4, 5):
        node, _ = fed(node, B, reach=last)
    assert len(progress_of(node, B).in_flight) == SETTINGS.append_window
    after, requests = feed(node, B, reach=6)
    assert (after, requests) == (node, [])
    node, (heartbeat,) = feed(node, B, now=HEARTBEAT, reach=6)
    assert len(heartbeat.entries) == 0, "a heartbeat needs no room"
    node, effects = hear(node, B, success(2, 2, 2))
    assert do.Wake(B) in effects, "it still lacks something, and there may be room"
    assert len(progress_of(node, B).in_flight) == 3
    node, effects = hear(node, B, success(2, 3, 4))
    assert do.Wake(B) in effects
    assert len(progress_of(node, B).in_flight) == 1
    node, effects = hear(node, B, success(2, 4, 5))
    assert do.Wake(B) not in effects, "there was room before: the replicator has had its turn"


def test_what_is_not_in_memory_is_fetched_and_heartbeats_go_on() -> None:
    node, _ = propose(leader(1), 3)
    node, effects = take(node, AppendDue(0.0, node.tenure, B, None))
    assert these(effects, do.Fetch) == [do.Fetch(node.tenure, B, 2)]
    assert sent(effects) == [append(2, 1, 1)]
    assert not these(effects, do.Wake), "there is nothing to do until it comes"
    again = take(node, AppendDue(0.0, node.tenure, B, None))
    assert again == (node, []), "fetched once"
    node, effects = take(node, Fetched(0.5, node.tenure, B, entries(2, 2, 2)))
    (request,) = sent(effects)
    assert request == append(2, 1, 1, 2, 2, number=2)
    assert do.Wake(B) in effects
    assert not progress_of(node, B).fetching


def test_a_fetch_is_remembered_when_no_heartbeat_is_due() -> None:
    node, _ = propose(fed(leader(1), B)[0], 3)
    node, _ = acked(node, B, 2)
    node, effects = take(node, AppendDue(0.1, node.tenure, B, None))
    assert effects == [do.Fetch(node.tenure, B, 3)]
    assert take(node, AppendDue(0.2, node.tenure, B, None)) == (node, [])


def test_who_has_everything_wakes_nobody() -> None:
    node, _ = fed(leader(1), B)
    _, effects = acked(node, B, 2)
    assert not these(effects, do.Wake)


def test_a_late_success_does_not_bring_back_the_probing() -> None:
    node, _ = propose(leader(1, 1), 2)
    node, _ = fed(node, B)
    node, _ = hear(node, B, refusal(2, 1, 0, 2))
    node, _ = fed(node, B, reach=3)
    node, _ = acked(node, B, 3)
    assert not progress_of(node, B).probing
    node, _ = hear(node, B, success(2, 1, 1))
    assert not progress_of(node, B).probing


def test_a_refusal_that_is_old_news_still_shows_that_the_follower_is_there() -> None:
    node, _ = propose(leader(1), 2)
    node, request = fed(node, B, now=4.0)
    node, _ = take(node, LinkUp(5.0, B))
    node, _ = hear(node, B, refusal(2, request.number, 0, 1), now=6.0)
    assert progress_of(node, B).answered_at == 4.0


def test_what_was_fetched_for_nothing_is_not_sent() -> None:
    """The follower may have moved meanwhile, or the disk may have found nothing."""
    node, _ = take(leader(1), AppendDue(0.0, 3, B, None))
    node, _ = take(node, AppendDue(0.0, node.tenure, B, None))
    for brought in (entries(1, 1, 2), entries(2)):
        after, effects = take(node, Fetched(0.0, node.tenure, B, brought))
        assert effects == [do.Wake(B)]
        assert not progress_of(after, B).fetching


def test_who_is_no_member_is_sent_nothing() -> None:
    node = leader(1, size=2)
    assert take(node, AppendDue(0.0, node.tenure, C, 2)) == (node, [])
    assert take(node, Fetched(0.0, node.tenure, C, entries(2, 2))) == (node, [])
    assert take(node, LinkUp(0.0, C)) == (node, [])
    assert hear(node, C, success(2, 0, 2)) == (node, [])


def test_on_a_new_stream_what_was_on_the_way_is_sent_again() -> None:
    node, _ = propose(leader(1), 4)
    node, _ = fed(node, B, reach=2)
    node, _ = acked(node, B, 2)
    for last in (3, 4):
        node, _ = fed(node, B, reach=last)
    node, effects = take(node, LinkUp(0.0, B))
    assert effects == [do.Wake(B)]
    progress = progress_of(node, B)
    assert (progress.next_index, progress.probing, progress.in_flight) == (3, True, ())
    node, request = fed(node, B)
    assert (request.prev_log_index, request.entries.last) == (2, 6)


def test_on_a_new_stream_what_was_answered_in_part_is_not_sent_again() -> None:
    node, _ = propose(leader(1), 4)
    node, _ = fed(node, B)
    node, _ = acked(node, B, 4)
    assert progress_of(node, B).in_flight == ((1, 2, 6),)
    node, _ = take(node, LinkUp(0.0, B))
    assert progress_of(node, B).next_index == 5


def test_a_single_entry_that_is_left_is_reason_enough_to_go_on() -> None:
    node, _ = propose(leader(1), 1)
    node, _ = fed(node, B, reach=2)
    _, effects = acked(node, B, 2)
    assert do.Wake(B) in effects


def test_a_new_stream_brings_a_heartbeat_at_once() -> None:
    node = leader(1)
    node, _ = fed(node, B)
    node, _ = acked(node, B, 2)
    assert feed(node, B)[1] == []
    node, _ = take(node, LinkUp(0.0, B))
    assert progress_of(node, B).next_index == 3
    assert feed(node, B)[1] == [append(2, 2, 2, commit=2, number=2)]


def test_a_refusal_from_before_the_new_stream_is_old_news() -> None:
    node, _ = propose(leader(1), 2)
    node, request = fed(node, B)
    node, _ = take(node, LinkUp(0.0, B))
    after, effects = hear(node, B, refusal(2, request.number, 0, 1))
    assert progress_of(after, B).next_index == progress_of(node, B).next_index
    assert not these(effects, do.Wake)


# -- the leader: answers -----------------------------------------------------------------------


def test_r5_an_older_answer_never_lowers_a_match() -> None:
    node, _ = propose(leader(1), 5)
    node, _ = fed(node, B, reach=3)
    node, _ = acked(node, B, 3)
    node, _ = fed(node, B, reach=6)
    node, _ = acked(node, B, 6)
    node, _ = hear(node, B, success(2, 1, 3))
    assert progress_of(node, B).match_index == 6


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 6), st.booleans()), max_size=8))
def test_r6_next_stays_above_match_and_within_the_log(
    answers: list[tuple[int, int, bool]],
) -> None:
    """Whatever the answers say, in whatever order; the invariants are checked at each step."""
    node, _ = propose(leader(1), 4)
    for reach in (2, 3, 4, 5):
        node, _ = feed(node, B, reach=reach)
        node = with_progress(node, B, probing=False)
    match = 0
    for number, value, good in answers:
        answer = success(2, number, value) if good else refusal(2, number, value, value)
        node, _ = hear(node, B, answer)
        progress = progress_of(node, B)
        if progress.expelled:  # it says that it has lost what it had said it had
            return
        assert match <= progress.match_index < progress.next_index <= node.log.last_index + 1
        match = progress.match_index


@pytest.mark.parametrize("answer", [success(2, 1, 99), success(2, 2, 1), refusal(2, 7, 0, 1)])
def test_g47_a_follower_that_claims_too_much_is_ignored(answer: object) -> None:
    """Seed G-47: a match beyond the log stopped the leader; so might answers to nothing."""
    node, _ = fed(leader(1), B)
    after, effects = hear(node, B, answer)  # type: ignore[arg-type]
    assert after == node
    (complaint,) = these(effects, do.Complain)
    assert complaint.peer == B


def test_answers_of_an_earlier_term_are_void() -> None:
    node, _ = fed(leader(1), B)
    assert hear(node, B, success(1, 1, 2)) == (node, [])


def test_a_refusal_is_tried_again_at_once_without_raising_next() -> None:
    node, _ = propose(leader(1, 1, 1), 2)
    node, _ = fed(node, B)
    node, effects = hear(node, B, refusal(2, 1, 0, 2))
    assert do.Wake(B) in effects
    progress = progress_of(node, B)
    assert (progress.next_index, progress.probing, progress.in_flight) == (2, True, ())
    node, request = fed(node, B)
    assert request.prev_log_index == 1
    node, _ = hear(node, B, refusal(2, 2, 0, 90))
    assert progress_of(node, B).next_index == 7, "at most what was next"


def test_a_refusal_never_goes_below_the_match() -> None:
    node, _ = propose(leader(1, 1, 1), 2)
    node, _ = fed(node, B, reach=4)
    node, _ = acked(node, B, 4)
    node, request = fed(node, B)
    node, _ = hear(node, B, refusal(2, request.number, 1, 1))
    assert progress_of(node, B).next_index == 5


def test_refusals_of_what_was_on_the_way_are_old_news() -> None:
    """A whole window is refused; only the first one counts."""
    node, _ = propose(leader(1, 1, 1), 6)
    node = with_progress(node, B, probing=False)
    for reach in (5, 6, 7):
        node, _ = fed(node, B, reach=reach)
    node, _ = hear(node, B, refusal(2, 1, 0, 2))
    node, request = fed(node, B)
    assert (request.number, request.prev_log_index) == (4, 1)
    for number in (2, 3):
        after, effects = hear(node, B, refusal(2, number, 0, 1))
        assert progress_of(after, B).next_index == progress_of(node, B).next_index
        assert not these(effects, do.Wake)
    after, _ = hear(node, B, success(2, 3, 1))
    assert progress_of(after, B).probing, "nor does an answer from before end the probing"
    after, _ = hear(node, B, success(2, 4, 1))
    assert not progress_of(after, B).probing


# -- the leader: commitment --------------------------------------------------------------------


def test_c2_entries_of_old_terms_do_not_block_what_follows_them() -> None:
    node = leader(1, 1, 2)
    node, _ = fed(node, B)
    node, effects = acked(node, B, 4)
    assert node.commit == 4
    assert these(effects, do.Commit) == [do.Commit(4)]


def test_replicas_of_old_terms_are_not_counted() -> None:
    """Figure 8: an entry of an old term is committed only by one of the own term behind it."""
    node, _ = fed(leader(1, 1, 2), B, reach=4)
    node, effects = acked(node, B, 3)
    assert node.commit == 0
    assert not these(effects, do.Commit)
    assert acked(node, B, 4)[0].commit == 4


def test_the_leader_counts_itself_only_when_durable() -> None:
    node, _ = propose(leader(1), 2)
    node, _ = fed(node, B)
    node, _ = acked(node, B, 4)
    assert (node.commit, node.disk.index) == (2, 2)
    node, effects = written(node)
    assert node.commit == 4
    assert these(effects, do.Commit) == [do.Commit(4)]


def test_what_others_have_is_committed_but_not_applied_while_the_own_disk_lags() -> None:
    node, _ = propose(leader(1), 2)
    for peer in (B, C):
        node, _ = fed(node, peer)
        node, effects = acked(node, peer, 4)
    assert (node.commit, node.applicable) == (4, 2)
    assert these(effects, do.Commit) == []
    node, effects = written(node)
    assert these(effects, do.Commit) == [do.Commit(4)]


def test_c12_refused_proposals_leave_nothing_behind() -> None:
    node = follower(1)
    for _ in range(1000):
        after, _ = propose(node)
        assert after == node


# -- conflicts: how many rounds ----------------------------------------------------------------


def rounds_to_agree(mine: list[int], theirs: list[int]) -> int:
    """Bring a follower's log to the leader's; how often it had to refuse."""
    boss = leader(*mine, term=max([*mine, *theirs, 0]))
    other = follower(*theirs, me=B, term=boss.term)
    refused = 0
    for now in range(100):
        if other.log == boss.log:
            return refused
        boss, request = fed(boss, B, now=float(now))
        other, effects = hear(other, A, request, now=float(now))
        other, more = written(other, now=float(now))
        (answer, *_) = sent([*effects, *more])
        refused += not answer.success  # type: ignore[union-attr]
        boss, _ = hear(boss, B, answer, now=float(now))
    raise AssertionError("a livelock")


def histories(chance: random.Random) -> tuple[list[int], list[int]]:
    """Two logs as real elections make them: each term was led by one server, and an entry that
    follows another is in no log without that one."""
    logs: list[list[int]] = [[], []]
    for term in range(1, chance.randint(2, 9)):
        who = chance.randrange(2)
        other = logs[1 - who]
        logs[who] += [term] * chance.choice((0, 1, 1, 2, 7))
        if chance.random() < 0.4:
            # The other one follows for a while: it gets a part of the leader's log.
            logs[1 - who] = logs[who][: chance.randint(len(logs[who]) // 2, len(logs[who]))]
            if len(logs[1 - who]) < len(other) and other == logs[who][: len(other)]:
                logs[1 - who] = other
    return logs[0], logs[1]


def wrong_terms(mine: list[int], theirs: list[int]) -> int:
    """Of how many terms the follower's wrong tail is, by brute force."""
    agreed = 0
    while agreed < min(len(mine), len(theirs)) and mine[agreed] == theirs[agreed]:
        agreed += 1
    return len(set(theirs[agreed:]))


@pytest.mark.parametrize("seed", range(100))
def test_r8_g46_a_follower_agrees_within_a_round_a_term(seed: int) -> None:
    """Seed G-46: it went back an entry at a time.

    Longer, shorter or divergent, both ways: one refusal for each wrong term, and one for the length
    if the log is the shorter one.
    """
    one, other = histories(random.Random(seed))
    for mine, theirs in ((one, other), (other, one)):
        refused = rounds_to_agree(mine, theirs)
        shorter = len(theirs) < len(mine)
        assert refused <= wrong_terms(mine, theirs) + shorter, (seed, mine, theirs)


def test_r8_two_hundred_conflicting_entries_of_one_term() -> None:
    assert rounds_to_agree([1, 1, 3], [1, 1] + [2] * 200) <= 1
    assert rounds_to_agree([1] + [3] * 200, [1] + [2] * 200) <= 1
    assert rounds_to_agree([1] * 200, []) <= 1
    assert rounds_to_agree([1] * 200 + [4], [1] * 100 + [2, 3]) <= 3


def test_a_term_that_both_have_is_kept_as_far_as_the_leader_has_it() -> None:
    """The follower's term 2 is longer: what the leader has of it is not sent again."""
    node = leader(1, 2, 2, 4, 4)
    node, _ = hear(*asked(node), refusal(node.term, 1, 2, 2))
    assert progress_of(node, B).next_index == 4
    node = leader(1, 1, 1, 4, 4)
    node, _ = hear(*asked(node), refusal(node.term, 1, 3, 3))
    assert progress_of(node, B).next_index == 3, "the leader has no such term: its run must go"


def asked(node: Node) -> tuple[Node, object]:
    return fed(node, B)[0], B


# -- the seed's entries ------------------------------------------------------------------------


def test_server_append_entries() -> None:
    node = follower()
    for request, commit in (
        (append(1, 0, 0, 1, commit=0), 0),
        (append(1, 1, 1, 1, 1, commit=1, number=2), 1),
        (append(2, 3, 1, commit=3), 3),
    ):
        node, effects = hear(node, B, request)
        node, more = written(node)
        assert all(answer.success for answer in sent([*effects, *more]))  # type: ignore[union-attr]
        assert node.term == request.term
        assert node.commit == commit
    assert terms_of(node.log) == [1, 1, 1]


def test_server_append_entries_with_stale_terms_are_rejected() -> None:
    node = follower(term=2)
    after, effects = hear(node, B, append(1, 0, 0, 1))
    assert after == node
    assert reply_in(effects) == evolve(refusal(2, 0), stickiness=0.0), (
        "it answers nothing of term 2"
    )


def test_server_append_entries_rejected_if_already_committed() -> None:
    """The seed refused this by its index; here another entry there is a breach of Raft."""
    node, _ = hear(follower(), B, append(1, 0, 0, 1, 1, commit=2))
    node, _ = hear(node, B, append(1, 2, 1, number=2))
    again, _ = hear(node, B, append(1, 1, 1, 1, commit=1))
    assert again.log == node.log
    with pytest.raises(InternalError):
        hear(node, B, append(2, 1, 1, 2))


def test_server_append_entries_overwrites_uncommitted_entries() -> None:
    node, _ = hear(follower(), B, append(1, 0, 0, 1, 1, commit=1))
    assert (node.commit, terms_of(node.log)) == (1, [1, 1])
    node, effects = hear(node, C, append(2, 1, 1, 2, commit=2))
    assert (node.commit, node.term, terms_of(node.log)) == (2, 2, [1, 2])
    assert node.log == log_of(1, 2)
    assert settled(node).applicable == 2
    assert role_of(node, Following).leader == C
    assert these(effects, do.WriteEntries)[0].cuts


def test_a_leader_of_a_higher_term_takes_over() -> None:
    node, _ = propose(leader(1), 3)
    after, effects = hear(node, B, append(3, 2, 2, 3))
    assert role_of(after, Following).leader == B
    assert terms_of(after.log) == [1, 2, 3]
    assert after.tenure == node.tenure + 1
    assert these(effects, do.SaveTerm)[0].write < these(effects, do.WriteEntries)[0].write
    assert not isinstance(after.role, Leading)
