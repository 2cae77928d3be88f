"""Elections: pre-vote, stickiness, votes, campaigns, and a leader that counts its followers."""

from __future__ import annotations

import math

import pytest
from attrs import evolve

from tests.rules.worlds import (
    HEARTBEAT,
    SETTINGS,
    TIMEOUT,
    A,
    B,
    C,
    D,
    E,
    acked,
    append,
    candidate,
    entries,
    fed,
    feed,
    follower,
    hear,
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
    stepped_down,
    success,
    take,
    terms_of,
    these,
    vote,
    written,
)
from trioraft._errors import InternalError
from trioraft._rules import effects as do
from trioraft._rules.elections import is_sticky, quorum_deadline
from trioraft._rules.events import (
    AnswerDue,
    AppendDue,
    ElectionTimeout,
    Fetched,
    LinkUp,
    Persisted,
    Proposed,
    QuorumTimeout,
    SolicitDue,
)
from trioraft._rules.messages import PreVote, PreVoteReply, RequestVote, RequestVoteReply
from trioraft._rules.node import Campaigning, Following, Leading, Node

YES, NO = True, False


def granted(term: int) -> RequestVoteReply:
    return RequestVoteReply(term, vote_granted=YES)


def timeouts(effects: list[do.Effect]) -> list[do.ElectionBy]:
    return these(effects, do.ElectionBy)


# -- stickiness --------------------------------------------------------------------------------


@pytest.mark.parametrize("question", [vote(9, 9, 9), pre_vote(9, 9, 9)])
def test_who_heard_a_leader_lately_refuses_and_keeps_its_term(question: object) -> None:
    node, _ = hear(follower(1), B, append(1, 1, 1), now=100.0)
    assert node.sticky_until == 110.0
    after, effects = hear(node, C, question, now=109.9)  # type: ignore[arg-type]
    assert after == node
    assert reply_in(effects).term == 1
    assert not reply_in(effects).vote_granted
    assert not timeouts(effects)
    _, effects = hear(node, C, question, now=110.0)  # type: ignore[arg-type]
    assert reply_in(effects).vote_granted


@pytest.mark.parametrize("question", [vote(9, 9, 9), pre_vote(9, 9, 9)])
def test_a_leader_whose_majority_answers_refuses_and_keeps_its_term(question: object) -> None:
    node = leader(1)
    node, _ = fed(node, B, now=5.0)
    node, _ = acked(node, B, 2, now=6.0)
    after, effects = hear(node, C, question, now=14.9)  # type: ignore[arg-type]
    assert after == node
    assert not reply_in(effects).vote_granted
    assert is_sticky(node, 14.9)
    assert not is_sticky(node, 15.0), "counted from the sending of what was answered"


def test_a_leader_that_nobody_answers_takes_a_higher_term() -> None:
    node, effects = hear(leader(1), C, vote(5, 9, 4), now=TIMEOUT)
    assert isinstance(node.role, Following)
    assert (node.term, node.voted_for) == (5, C)
    assert reply_in(effects).vote_granted


def test_a_late_heartbeat_never_shortens_the_stickiness() -> None:
    node = follower(1, sticky_until=500.0)
    node, _ = hear(node, B, append(1, 1, 1), now=1.0)
    assert node.sticky_until == 500.0


def test_a_server_that_has_just_started_refuses_votes_for_a_while() -> None:
    node = restarted(follower(1), sticky_until=50.0)
    assert not reply_in(hear(node, B, vote(2, 9, 9), now=49.0)[1]).vote_granted
    assert reply_in(hear(node, B, vote(2, 9, 9), now=50.0)[1]).vote_granted


def test_a_refused_append_entries_of_an_old_term_is_no_leader() -> None:
    node = follower(2)
    after, effects = hear(node, B, append(1, 0, 0), now=5.0)
    assert after == node
    assert reply_in(effects).term == 2
    assert not reply_in(effects).success


# -- pre-vote ----------------------------------------------------------------------------------


def test_who_hears_no_leader_first_asks_without_touching_its_term() -> None:
    node, effects = take(follower(1, 1, 2), ElectionTimeout(7.0, 0))
    assert role_of(node, Campaigning) == Campaigning(pre=True, votes=frozenset({A}))
    assert (node.term, node.voted_for, node.disk.asked) == (2, None, 0)
    assert effects == [do.ElectionBy(7.0)]
    _, effects = take(node, SolicitDue(7.0, node.tenure, B))
    assert effects == [do.Send(B, PreVote(3, 3, 2))], "it promises nothing: it leaves at once"


def test_granting_a_pre_vote_changes_nothing() -> None:
    node = follower(1)
    after, effects = hear(node, B, pre_vote(2, 1, 1), now=30.0)
    assert after == node
    assert effects == [do.Send(B, PreVoteReply(1, 2, vote_granted=YES), after=0)]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (pre_vote(3, 2, 2), YES),
        (pre_vote(3, 1, 2), NO),
        (pre_vote(3, 9, 1), NO),
        (pre_vote(2, 2, 2), NO),
        (pre_vote(1, 2, 2), NO),
        (pre_vote(4, 1, 3), YES),
    ],
)
def test_a_pre_vote_is_what_the_vote_would_be(question: PreVote, answer: bool) -> None:
    _, effects = hear(follower(1, 2), B, question)
    assert reply_in(effects) == PreVoteReply(2, question.term, vote_granted=answer)


def test_a_pre_vote_refused_for_a_higher_term_hands_that_term_over() -> None:
    _, effects = hear(follower(1, term=7), B, pre_vote(2, 1, 1))
    answer = reply_in(effects)
    assert answer == PreVoteReply(7, 2, vote_granted=NO)
    asker, effects = hear(pre_candidate(1, me=B), A, answer, now=4.0)
    assert isinstance(asker.role, Following)
    assert (asker.term, asker.voted_for) == (7, None)
    assert these(effects, do.SaveTerm) == [do.SaveTerm(1, 7, None)]
    assert do.ElectionBy(4.0) in effects


def test_a_majority_of_pre_votes_begins_the_campaign() -> None:
    node = pre_candidate(1, size=5)
    node, _ = hear(node, B, PreVoteReply(1, 2, vote_granted=YES))
    node, _ = hear(node, B, PreVoteReply(1, 2, vote_granted=YES))
    assert role_of(node, Campaigning).pre, "votes are a set"
    node, _ = hear(node, C, PreVoteReply(1, 2, vote_granted=NO))
    assert role_of(node, Campaigning).pre
    tenure = node.tenure
    node, effects = hear(node, D, PreVoteReply(1, 2, vote_granted=YES), now=3.0)
    assert role_of(node, Campaigning) == Campaigning(pre=False, votes=frozenset())
    assert (node.term, node.voted_for, node.tenure) == (2, A, tenure + 1)
    assert effects == [do.SaveTerm(1, 2, A), do.ElectionBy(3.0, 1)]


def test_a_pre_vote_for_another_term_does_not_count() -> None:
    node = pre_candidate(1, 3)
    for asked in (2, 3, 5):
        after, _ = hear(node, B, PreVoteReply(3, asked, vote_granted=YES))
        assert after == node


def test_pre_votes_do_not_count_as_votes_nor_votes_as_pre_votes() -> None:
    node = candidate(1)
    after, effects = hear(node, B, PreVoteReply(2, 3, vote_granted=YES))
    assert (after, effects) == (node, [])
    node = pre_candidate(1)
    after, effects = hear(node, B, RequestVoteReply(1, vote_granted=YES))
    assert (after, effects) == (node, [])


def test_two_pre_candidates_grant_each_other() -> None:
    node = pre_candidate(1)
    after, effects = hear(node, B, pre_vote(2, 1, 1))
    assert after == node
    assert reply_in(effects).vote_granted


def test_a_pre_candidate_that_votes_follows() -> None:
    for term in (1, 2):
        node, effects = hear(pre_candidate(1), B, vote(term, 1, 1), now=2.0)
        assert isinstance(node.role, Following)
        assert (node.term, node.voted_for) == (term, B)
        assert do.ElectionBy(2.0) in effects
        assert reply_in(effects).vote_granted


def test_a_pre_vote_that_fails_is_asked_again_in_a_new_tenure() -> None:
    node = pre_candidate(1)
    after, effects = take(node, ElectionTimeout(9.0, node.tenure))
    assert role_of(after, Campaigning).pre
    assert after.tenure == node.tenure + 1
    assert after.fruitless == 0, "no campaign was begun"
    assert effects == [do.ElectionBy(9.0)]


def test_e9_a_returning_leader_gets_its_pre_vote_once_nobody_is_heard() -> None:
    """That it was the leader itself is no reason to refuse it; and granting is not hearing."""
    node, _ = hear(follower(1), B, append(1, 1, 1), now=0.0)
    after, effects = hear(node, B, pre_vote(2, 1, 1), now=TIMEOUT)
    assert reply_in(effects).vote_granted
    assert after.sticky_until == node.sticky_until
    assert not timeouts(effects)


def test_e10_a_leader_takes_a_pre_vote_when_its_own_time_is_due() -> None:
    node = evolve(leader(1), settings=evolve(SETTINGS, heartbeat_interval=TIMEOUT))
    after, effects = hear(node, B, pre_vote(2, 1, 1), now=TIMEOUT)
    assert after == node
    assert not reply_in(effects).vote_granted, "the asker lacks the leader's own entry"


def test_e11_g41_who_was_alone_for_long_comes_back_without_a_higher_term() -> None:
    """Fifty time-outs without an answer, and its term is what it was."""
    node = follower(1)
    for turn in range(50):
        node, _ = take(node, ElectionTimeout(turn * TIMEOUT, node.tenure))
    assert (node.term, node.disk.asked) == (1, 0)
    node, effects = hear(node, B, append(1, 1, 1), now=600.0)
    assert role_of(node, Following).leader == B
    assert reply_in(effects).success


def test_e12_a_removed_server_unsettles_nobody() -> None:
    """It asks with ever higher terms; followers and leader stay where they are."""
    followed, _ = hear(follower(1), B, append(1, 1, 1), now=0.0)
    leads = leader(1)
    for node in (followed, leads):
        for term in range(5, 50):
            after, effects = hear(node, E, vote(term, 99, term - 1), now=TIMEOUT - 1)
            assert after == node
            assert not reply_in(effects).vote_granted


# -- votes -------------------------------------------------------------------------------------


def test_e3_g40_terms_of_the_last_entries_are_compared_before_lengths() -> None:
    """Else of the logs 1 1 1 1 and 1 1 2 neither would vote for the other (seed G-40)."""
    assert not reply_in(hear(follower(1, 3), B, vote(4, 9, 2))[1]).vote_granted
    assert reply_in(hear(follower(1, 3), B, vote(4, 2, 3))[1]).vote_granted
    assert reply_in(hear(follower(1, 3), B, vote(5, 1, 4))[1]).vote_granted
    long, late = follower(1, 1, 1, 1, term=2), follower(1, 1, 2)
    assert reply_in(hear(long, B, vote(3, 3, 2))[1]).vote_granted
    assert not reply_in(hear(late, B, vote(3, 4, 1))[1]).vote_granted


def test_of_two_logs_at_least_one_gets_the_others_vote() -> None:
    logs = [(), (1,), (1, 1), (1, 2), (2,), (1, 1, 1, 1), (1, 1, 2), (3,)]
    for one in logs:
        for other in logs:
            mine, theirs = follower(*one, term=5), follower(*other, term=5)
            answers = [
                reply_in(hear(voter, B, vote(6, log.last_index, log.last_term))[1]).vote_granted
                for voter, log in ((mine, theirs.log), (theirs, mine.log))
            ]
            assert any(answers)
            assert all(answers) is (mine.log.last_term == theirs.log.last_term) & (
                mine.log.last_index == theirs.log.last_index
            )


def test_e5_only_a_granted_vote_restarts_the_time_out() -> None:
    node = follower(1, 2)
    _, effects = hear(node, B, vote(2, 9, 1), now=3.0)
    assert not timeouts(effects)
    _, effects = hear(node, B, vote(2, 2, 2), now=3.0)
    assert timeouts(effects) == [do.ElectionBy(3.0)]


def test_a_vote_asked_for_again_is_granted_again() -> None:
    """The first answer may have been lost.  Nothing new is written."""
    node, _ = hear(follower(1), B, vote(2, 1, 1))
    after, effects = hear(node, B, vote(2, 1, 1), now=1.0)
    assert after == node
    assert effects == [do.ElectionBy(1.0), do.Send(B, granted(2), after=node.disk.term_write)]


def test_e1_g01_a_vote_is_on_disk_before_the_answer_leaves_and_survives_a_crash() -> None:
    """Seed G-01: two servers got a vote of one term because it was kept in memory only."""
    node, effects = hear(follower(4), B, vote(5, 1, 4))
    save = these(effects, do.SaveTerm)[-1]
    (send,) = these(effects, do.Send)
    assert (save.term, save.voted_for) == (5, B)
    assert send.after == save.write
    assert effects.index(save) < effects.index(send)
    again = restarted(node)
    after, effects = hear(again, C, vote(5, 9, 4))
    assert after == again
    assert reply_in(effects) == RequestVoteReply(5, vote_granted=NO)


def test_a_refusal_too_tells_a_term_only_once_it_is_durable() -> None:
    node, effects = hear(follower(1, 2), B, vote(7, 9, 1))
    (send,) = these(effects, do.Send)
    assert send == do.Send(B, RequestVoteReply(7, vote_granted=NO), after=node.disk.term_write)
    _, effects = hear(node, B, pre_vote(3))
    assert these(effects, do.Send)[0].after == node.disk.term_write
    _, effects = hear(node, B, append(3, 0, 0))
    assert these(effects, do.Send)[0].after == node.disk.term_write


def test_e6_hearing_the_leader_of_the_own_term_leaves_the_vote() -> None:
    node = follower(1, term=2, voted_for=C)
    node, _ = hear(node, B, append(2, 1, 1))
    assert node.voted_for == C
    assert role_of(node, Following).leader == B


def test_e13_a_higher_term_in_any_answer_is_written_and_ends_the_role() -> None:
    answers = [
        RequestVoteReply(9, vote_granted=YES),
        PreVoteReply(9, 2, vote_granted=YES),
        refusal(9, 1),
        success(9, 1, 1),
    ]
    for node in (pre_candidate(1), candidate(1), leader(1)):
        for answer in answers:
            after, effects = hear(node, B, answer, now=6.0)
            assert after.role == Following()
            assert (after.term, after.voted_for) == (9, None)
            assert after.tenure == node.tenure + 1
            assert effects == [
                do.ElectionBy(6.0),
                do.AnswerBy(math.inf),
                do.SaveTerm(node.disk.asked + 1, 9, None),
            ]


def test_a_followers_new_term_is_no_new_tenure() -> None:
    node, _ = hear(follower(1), B, append(1, 1, 1))
    after, _ = hear(node, C, RequestVoteReply(2, vote_granted=NO))
    assert after.tenure == node.tenure
    assert after.role == Following(), "who led before leads no more, and nothing is verified"


# -- campaigns ---------------------------------------------------------------------------------


def test_requests_leave_and_the_own_vote_counts_once_it_is_durable() -> None:
    node = candidate(1, durable=False)
    _, effects = take(node, SolicitDue(0.0, node.tenure, B))
    assert effects == [do.Send(B, RequestVote(2, 1, 1), after=node.disk.term_write)]
    # Even if an answer comes first, and with the own vote it would be a majority:
    node, _ = hear(node, B, granted(2))
    assert isinstance(node.role, Campaigning)
    node, effects = written(node, now=4.0)
    assert isinstance(node.role, Leading)
    assert timeouts(effects) == [do.ElectionBy(4.0)]


def test_other_writes_do_not_make_the_own_vote_count() -> None:
    node, _ = hear(follower(1), B, append(1, 1, 1, 1))
    node, _ = take(node, ElectionTimeout(20.0, 0))
    node, _ = hear(node, B, PreVoteReply(1, 2, vote_granted=YES), now=20.0)
    assert node.disk.asked == 2
    node, effects = take(node, Persisted(21.0, 1))
    assert not effects
    assert not node.disk.knows_term
    node, effects = take(node, Persisted(22.0, 2))
    assert effects == [do.ElectionBy(22.0)]
    assert isinstance(node.role, Campaigning)


def test_a_report_that_comes_twice_does_not_prolong_the_campaign() -> None:
    node = candidate(1)
    assert written(node, now=5.0) == (node, [])


def test_who_has_granted_is_not_asked_again() -> None:
    node = candidate(1, size=5)
    node, _ = hear(node, B, granted(2))
    assert take(node, SolicitDue(0.0, node.tenure, B))[1] == []
    assert take(node, SolicitDue(0.0, node.tenure, C))[1]


def test_no_second_campaign_before_the_first_ones_requests_have_left() -> None:
    """A slow disk must not burn terms."""
    node = candidate(1, durable=False)
    after, effects = take(node, ElectionTimeout(9.0, node.tenure))
    assert after == node
    assert effects == [do.ElectionBy(9.0, 1)]


def test_time_outs_double_with_each_fruitless_campaign_up_to_eight_times() -> None:
    node, times, now = candidate(1), [], 0.0
    for _ in range(6):
        now += 100.0
        node, _ = take(node, ElectionTimeout(now, node.tenure))
        assert role_of(node, Campaigning).pre
        asked = PreVoteReply(node.term, node.term + 1, vote_granted=YES)
        node, effects = hear(node, B, asked, now=now)
        begun = timeouts(effects)
        node, effects = written(node, now=now + 1)
        assert timeouts(effects) == [evolve(begun[0], now=now + 1)]
        times.append(begun[0].times)
    assert times == [2, 4, 8, 8, 8, 8]
    led, _ = hear(node, B, granted(node.term))
    assert led.fruitless == 0
    heard, _ = hear(node, B, append(node.term, 0, 0))
    assert heard.fruitless == 0


def test_a_candidate_that_hears_the_terms_leader_follows_it() -> None:
    node = candidate(1)
    after, effects = hear(node, B, append(2, 1, 1), now=3.0)
    assert role_of(after, Following).leader == B
    assert (after.term, after.voted_for, after.tenure) == (2, A, node.tenure + 1)
    assert do.ElectionBy(3.0) in effects


def test_votes_of_another_term_or_after_the_election_do_not_count() -> None:
    node = candidate(1)
    assert hear(node, B, granted(1))[0] == node
    assert hear(node, B, RequestVoteReply(2, vote_granted=NO))[0] == node
    led = leader(1)
    assert hear(led, B, granted(2)) == (led, [])


def test_a_new_leader_appends_a_no_op_and_counts_it_when_durable() -> None:
    node, effects = hear(candidate(1, 1), B, granted(2), now=5.0)
    role = role_of(node, Leading)
    assert role.first_index == 3
    assert terms_of(node.log) == [1, 1, 2]
    assert [p.peer for p in role.progress] == [B, C]
    assert all((p.next_index, p.match_index, p.probing) == (3, 0, True) for p in role.progress)
    assert effects == [do.AppendOwn(2, 3, 2, 1), do.QuorumBy(15.0)]
    assert node.disk.index == 2


def test_g11_two_leaders_in_one_term_stop_the_server() -> None:
    """Seed G-11: it can't be; if it is seen, nothing is overwritten."""
    with pytest.raises(InternalError, match="both lead in term 2"):
        hear(leader(1), B, append(2, 0, 0))
    node, _ = hear(follower(1), B, append(2, 1, 1))
    with pytest.raises(InternalError, match="both lead in term 2"):
        hear(node, C, append(2, 1, 1, 2))


# -- the leader counts its followers -----------------------------------------------------------


def test_g42_a_leader_that_no_majority_answers_steps_down() -> None:
    """Seed G-42: it stayed leader for ever."""
    node = leader(1)
    after, effects = take(node, QuorumTimeout(TIMEOUT, node.tenure))
    assert after.role == Following()
    assert (after.term, after.voted_for, after.tenure) == (2, A, node.tenure + 1)
    assert effects == [do.ElectionBy(TIMEOUT), do.AnswerBy(math.inf)]


def test_the_quorum_deadline_counts_from_the_sending_of_what_was_answered() -> None:
    node = leader(1, size=5)
    for peer, at in ((B, 2.0), (C, 3.0), (D, 4.0)):
        node, _ = fed(node, peer, now=at)
    node, effects = acked(node, D, 0, now=9.0)
    assert these(effects, do.QuorumBy) == [do.QuorumBy(TIMEOUT)]
    node, effects = acked(node, B, 0, now=9.5)
    assert these(effects, do.QuorumBy) == [do.QuorumBy(2.0 + TIMEOUT)]
    node, effects = acked(node, C, 0, now=9.7)
    assert these(effects, do.QuorumBy) == [do.QuorumBy(3.0 + TIMEOUT)], "the third newest is 3.0"
    early, effects = take(node, QuorumTimeout(12.9, node.tenure))
    assert isinstance(early.role, Leading)
    assert effects == [do.QuorumBy(13.0)]
    late, _ = take(node, QuorumTimeout(13.0, node.tenure))
    assert isinstance(late.role, Following)


def test_any_answer_counts_for_the_quorum() -> None:
    """A refusal, too: the follower is there."""
    node = leader(1, 1)
    node, _ = fed(node, B, now=6.0)
    node, _ = hear(node, B, refusal(node.term, 1, 0, 1), now=7.0)
    assert quorum_deadline(node, role_of(node, Leading)) == 16.0


def test_the_same_answer_twice_counts_once() -> None:
    node = leader(1)
    node, _ = fed(node, B, now=1.0)
    node, effects = acked(node, B, 1, now=2.0)
    assert these(effects, do.Answered) == [do.Answered(B, 1, 1.0)]
    again, effects = acked(node, B, 1, now=8.0)
    assert not these(effects, do.Answered)
    assert progress_of(again, B).answered_at == 1.0


def test_an_answer_to_a_later_request_answers_those_before_it() -> None:
    node = leader(1)
    node, _ = fed(node, B, now=1.0)
    for now in (2.5, 4.0):
        node, _ = feed(node, B, now=now)
    assert [number for number, *_ in progress_of(node, B).unanswered] == [1, 2, 3]
    node, effects = hear(node, B, success(2, 2, 1), now=5.0)
    assert these(effects, do.Answered) == [do.Answered(B, 2, 2.5)]
    assert progress_of(node, B).answered_at == 2.5
    node, effects = hear(node, B, success(2, 1, 1), now=5.0)
    assert progress_of(node, B).answered_at == 2.5
    assert [number for number, *_ in progress_of(node, B).unanswered] == [3]


def test_answers_that_take_many_heartbeats_keep_a_leader() -> None:
    """However many requests are on the way: what counts is the election time-out alone."""
    settings = evolve(SETTINGS, heartbeat_interval=0.1, election_timeout=10.0)
    node = leader(1, settings=settings)
    now, asked = 0.0, []
    for turn in range(1, 120):
        now = turn * 0.1
        node, requests = feed(node, B, now=now)
        asked += [(now, request.number) for request in requests]
    assert len(progress_of(node, B).unanswered) <= 101, "bounded by the time-out"
    sent_at, number = asked[59]
    node, effects = hear(node, B, success(node.term, number, 2), now=now)
    assert these(effects, do.QuorumBy) == [do.QuorumBy(sent_at + 10.0)]


def test_a_single_server_needs_no_answers() -> None:
    node = leader(1, size=1)
    assert quorum_deadline(node, role_of(node, Leading)) == math.inf
    after, effects = take(node, QuorumTimeout(1e9, node.tenure))
    assert after == node
    assert effects == [do.QuorumBy(math.inf)]


# -- tenures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("node", [follower(1, tenure=4), candidate(1), leader(1)])
def test_g48_what_comes_from_an_earlier_tenure_is_void(node: Node) -> None:
    """Seed G-48: stepping down must not wait for what the old role has on the way."""
    old = node.tenure - 1
    for event in (
        ElectionTimeout(0.0, old),
        AnswerDue(0.0, old),
        SolicitDue(0.0, old, B),
        QuorumTimeout(99.0, old),
        AppendDue(99.0, old, B, 9),
        Fetched(0.0, old, B, entries(1, 1)),
    ):
        assert take(node, event) == (node, [])


def test_what_belongs_to_no_tenure() -> None:
    """A new stream and an answer about a follower concern only a leader; a vote is not awaited."""
    node = stepped_down(leader(1))
    for event in (LinkUp(0.0, B), Persisted(0.0, node.disk.done)):
        assert take(node, event) == (node, [])
    assert hear(node, B, success(2, 1, 1)) == (node, [])
    assert hear(node, B, granted(2)) == (node, [])
    assert hear(node, B, PreVoteReply(2, 3, vote_granted=YES)) == (node, [])
    assert take(node, LinkUp(0.0, D)) == (node, [])


def test_server_deny_command_execution_when_follower() -> None:
    """Seed TestServerDenyCommandExecutionWhenFollower; a candidate refuses as well."""
    batch = object()
    for node in (follower(1), pre_candidate(1), candidate(1)):
        after, effects = take(node, Proposed(0.0, 3, batch))
        assert after == node
        (refused,) = effects
        assert isinstance(refused, do.Refuse)
        assert refused.batch is batch


# -- the seed's votes --------------------------------------------------------------------------


def test_server_request_vote() -> None:
    node, effects = hear(follower(), B, vote(1, 1, 0))
    assert reply_in(effects) == granted(1)
    assert node.term == 1


def test_server_request_vote_denied_for_stale_term() -> None:
    node, effects = hear(follower(term=2), B, vote(1, 1, 0))
    assert reply_in(effects) == RequestVoteReply(2, vote_granted=NO)
    assert (node.term, node.voted_for) == (2, None)


def test_server_request_vote_denied_if_already_voted() -> None:
    node, effects = hear(follower(term=2), B, vote(2, 1, 0))
    assert reply_in(effects) == granted(2)
    node, effects = hear(node, C, vote(2, 1, 0))
    assert reply_in(effects) == RequestVoteReply(2, vote_granted=NO)
    assert node.voted_for == B


def test_server_request_vote_approved_if_already_voted_in_older_term() -> None:
    node, effects = hear(follower(0, 1, term=2), B, vote(2, 2, 1))
    assert reply_in(effects) == granted(2)
    assert node.voted_for == B
    node, effects = hear(node, C, vote(3, 2, 1))
    assert reply_in(effects) == granted(3)
    assert node.voted_for == C


def test_server_request_vote_deny_if_candidate_log_is_behind() -> None:
    node = follower(1, 1, 2)
    for request, answer in (
        (vote(3, 2, 2), NO),
        (vote(2, 3, 2), NO),
        (vote(3, 3, 2), YES),
        (vote(3, 4, 2), YES),
    ):
        node, effects = hear(node, B, request)
        assert reply_in(effects) == RequestVoteReply(3, vote_granted=answer)


def test_process_vote_response() -> None:
    """A grant of a higher term makes a follower; one of the own term counts for a candidate."""
    node, _ = hear(leader(0, size=3), B, granted(2))
    assert isinstance(node.role, Following)
    assert node.term == 2
    node, _ = hear(node, B, granted(3))
    assert isinstance(node.role, Following)
    assert node.term == 3
    node = candidate(1)
    node, _ = hear(node, B, granted(2))
    assert isinstance(node.role, Leading)


def test_server_promote_self() -> None:
    assert isinstance(leader(1, size=1).role, Leading)


def test_server_promote() -> None:
    """Three servers with one log: whoever times out first leads, the others follow it."""
    node = leader(1)
    node, request = fed(node, B)
    for peer in (B, C):
        other, _ = hear(follower(1, me=peer), A, request)
        assert role_of(other, Following).leader == A
        assert terms_of(other.log) == [1, 2]


# -- heartbeats --------------------------------------------------------------------------------


def test_heartbeats_go_out_only_after_an_interval_of_silence() -> None:
    node = leader(1)
    node, first = fed(node, B, now=1.0)
    assert len(first.entries) == 1
    assert feed(node, B, now=1.0 + HEARTBEAT / 2)[1] == []
    node, effects = take(node, AppendDue(1.0 + HEARTBEAT, node.tenure, B, 2))
    (request,) = sent(effects)
    assert request == append(2, 2, 2, number=2)
    assert these(effects, do.Missed) == [do.Missed(B)]
    node, _ = acked(node, B, 2, now=2.5)
    node, effects = take(node, AppendDue(3.0, node.tenure, B, 2))
    assert len(sent(effects)) == 1
    assert not these(effects, do.Missed)


def test_the_leader_is_known_by_whoever_knows_it() -> None:
    assert leader(1).leader == A
    assert candidate(1).leader is None
    assert hear(follower(1), C, append(1, 1, 1))[0].leader == C
    assert settled(propose(leader(1))[0]).leader == A
