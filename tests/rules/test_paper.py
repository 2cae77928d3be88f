"""Sections 5.1 to 5.4 of the Raft paper: a test for each thing that a server does or never does.

Each docstring says the claim in our words, with its section.
"""

from __future__ import annotations

import itertools

import pytest

from tests.rules.worlds import (
    HEARTBEAT,
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
    vote,
    written,
)
from trioraft._rules import effects as do
from trioraft._rules.events import AppendDue, ElectionTimeout, SolicitDue
from trioraft._rules.messages import (
    AppendEntries,
    AppendEntriesReply,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
)
from trioraft._rules.node import Campaigning, Following, Leading, Node

YES = RequestVoteReply(2, vote_granted=True)


def kinds(node: Node) -> type[object]:
    return type(node.role)


# -- 5.1: the basics ---------------------------------------------------------------------------


def test_five_servers_tolerate_two_failures() -> None:
    """A cluster of five elects and commits with three (5.1)."""
    node = candidate(1, size=5)
    for peer in (B, C):
        node, _ = hear(node, peer, YES)
    node = settled(node)
    for peer in (B, C):
        node, _ = fed(node, peer)
        node, _ = acked(node, peer, 2)
    assert node.commit == 2


def test_a_server_is_in_one_of_three_states() -> None:
    """Leader, follower or candidate; whoever asks for pre-votes is a candidate here (5.1)."""
    assert kinds(follower()) is Following
    assert kinds(pre_candidate()) is kinds(candidate()) is Campaigning
    assert kinds(leader()) is Leading


def test_a_follower_issues_no_requests() -> None:
    """It only responds to those of leaders and candidates (5.1)."""
    node = follower(1)
    for message in (vote(1, 1, 1), append(1, 1, 1, 1), append(1, 9, 1), vote(0), success(1, 1, 1)):
        node, effects = hear(node, B, message)
        node, more = written(node)
        answers = sent([*effects, *more])
        assert all(isinstance(m, RequestVoteReply | AppendEntriesReply) for m in answers)


def test_a_followers_client_is_sent_to_the_leader() -> None:
    """It takes no command itself, and knows who leads (5.1)."""
    node, _ = hear(follower(1), C, append(1, 1, 1))
    after, effects = propose(node)
    assert after == node
    assert effects == [do.Refuse()]
    assert node.leader == C


def test_each_term_begins_with_an_election() -> None:
    """A candidate numbers its election with the next term (5.1)."""
    assert candidate(3).term == 4


def test_a_term_may_end_without_a_leader() -> None:
    """With a split vote a new term, with a new election, begins (5.1)."""
    node = candidate(1)
    node, _ = hear(node, B, RequestVoteReply(2, vote_granted=False))
    node, _ = hear(node, C, RequestVoteReply(2, vote_granted=False))
    assert kinds(node) is Campaigning
    node, _ = take(node, ElectionTimeout(20.0, node.tenure))
    node, _ = hear(node, B, PreVoteReply(2, 3, vote_granted=True))
    assert node.term == 3


def test_a_term_has_one_leader_at_most() -> None:
    """Of two candidates in one term at most one can get a majority's votes (5.1, 5.2)."""
    for order in itertools.product(((A, B), (B, A)), repeat=3):
        votes = {A: 1, B: 1}
        for voter, candidates in zip((C, D, E), order, strict=True):
            node = follower(1, me=voter, size=5)
            for who in candidates:
                node, effects = hear(node, who, vote(2, 1, 1))
                votes[who] += reply_in(effects).vote_granted
        assert sum(count >= 3 for count in votes.values()) == 1


def test_the_current_term_only_grows() -> None:
    """Each server stores it, and it increases over time (5.1)."""
    node, last = follower(1), 1
    for term in (3, 2, 5, 1, 4, 5):
        node, _ = hear(node, B, vote(term, 1, 1))
        assert node.term == max(last, term)
        last = node.term


@pytest.mark.parametrize(
    "make", [lambda: follower(1, term=2), lambda: candidate(1), lambda: leader(1)]
)
def test_terms_are_exchanged_in_every_message(make: object) -> None:
    """Each request and each answer carries its sender's term (5.1)."""
    node = make()  # type: ignore[operator]
    for message in (vote(1), append(1, 0, 0)):
        _, effects = hear(node, B, message)
        assert reply_in(effects).term == 2


def test_a_smaller_term_is_brought_up_to_the_larger_one() -> None:
    """By any message but a pre-vote, and it is written before it is spoken of (5.1)."""
    for message in (
        vote(9, 0, 0),
        append(9, 0, 0),
        refusal(9, 1),
        RequestVoteReply(9, vote_granted=False),
    ):
        node, effects = hear(follower(1), B, message)
        assert node.term == 9
        assert these(effects, do.SaveTerm)[0].term == 9


@pytest.mark.parametrize("make", [lambda: candidate(1), lambda: leader(1)])
def test_a_candidate_or_leader_whose_term_is_out_of_date_becomes_follower(make: object) -> None:
    """At once, whatever the message (5.1)."""
    late = TIMEOUT + 1  # nobody has answered for so long that no stickiness holds
    for message in (
        vote(9, 9, 9),
        append(9, 0, 0),
        refusal(9, 1),
        RequestVoteReply(9, vote_granted=False),
    ):
        node, _ = hear(make(), B, message, now=late)  # type: ignore[operator]
        assert kinds(node) is Following
        assert node.term == 9


def test_a_request_of_an_old_term_is_rejected() -> None:
    """And changes nothing (5.1)."""
    for node in (follower(4), candidate(4), leader(4)):
        for message in (vote(3, 9, 9), append(3, 1, 3, 3)):
            after, effects = hear(node, B, message)
            assert after == node
            answer = reply_in(effects)
            granted = getattr(answer, "vote_granted", False) or getattr(answer, "success", False)
            assert not granted


def test_a_request_without_an_answer_is_sent_again() -> None:
    """Votes are asked for again, and entries too (5.1)."""
    node = candidate(1)
    for _ in range(3):
        _, effects = take(node, SolicitDue(0.0, node.tenure, B))
        assert reply_in(effects) == vote(2, 1, 1)
    node = leader(1)
    node, request = fed(node, B)
    node, heartbeat = fed(node, B, now=HEARTBEAT)
    other, effects = hear(follower(1, me=B), A, heartbeat)  # the first request was lost
    node, _ = hear(node, B, reply_in(effects), now=HEARTBEAT)
    _, again = fed(node, B, now=HEARTBEAT)
    assert again.entries == request.entries
    assert kinds(other) is Following


def test_requests_go_out_in_parallel() -> None:
    """To all servers at once, and several to each (5.1)."""
    node = candidate(1, size=5)
    for peer in node.configuration.others(node.me):
        _, effects = take(node, SolicitDue(0.0, node.tenure, peer))
        assert these(effects, do.Send)[0].to == peer
    node, _ = propose(leader(1), 3)
    for peer in (B, C):
        node, _ = fed(node, peer, reach=2)
        node, _ = acked(node, peer, 2)
        node, _ = fed(node, peer, reach=3)
        node, _ = fed(node, peer, reach=4)
        assert len(progress_of(node, peer).in_flight) == 2


# -- 5.2: leader election ----------------------------------------------------------------------


def test_servers_start_as_followers() -> None:
    """And after a crash, too, whatever they were before (5.2)."""
    assert kinds(follower()) is Following
    assert kinds(restarted(leader(1))) is Following


def test_a_server_remains_follower_while_it_hears_a_leader_or_a_candidate() -> None:
    """Each valid request of either restarts its time-out (5.2)."""
    node = follower(1)
    for now, message in enumerate([append(1, 1, 1), append(1, 9, 9), vote(2, 1, 1)], 1):
        node, effects = hear(node, B, message, now=20.0 * now)
        assert do.ElectionBy(20.0 * now) in effects
        assert kinds(node) is Following


def test_leaders_send_heartbeats_to_all_followers() -> None:
    """AppendEntries without entries, periodically (5.2)."""
    node = leader(1)
    for peer in (B, C):
        node, _ = fed(node, peer)
        for turn in (1, 2, 3):
            node, request = fed(node, peer, now=turn * HEARTBEAT)
            assert len(request.entries) == 0
            assert isinstance(request, AppendEntries)


def test_a_follower_that_hears_nothing_for_the_election_time_out_begins_an_election() -> None:
    """It assumes that there is no leader; here by a pre-vote first (5.2, thesis 9.6)."""
    node, _ = take(follower(1), ElectionTimeout(20.0, 0))
    assert kinds(node) is Campaigning
    assert node.leader is None


def test_a_candidate_raises_its_term_votes_for_itself_and_asks_all_others() -> None:
    """To begin an election; term and vote are persistent (5.2)."""
    node = candidate(1)
    assert (node.term, node.voted_for) == (2, A)
    for peer in (B, C):
        _, effects = take(node, SolicitDue(0.0, node.tenure, peer))
        assert effects == [do.Send(peer, RequestVote(2, 1, 1), after=node.disk.term_write)]


def test_a_candidate_with_a_majority_of_votes_for_its_term_wins() -> None:
    """Votes of the full cluster, in the same term (5.2)."""
    node = candidate(1, size=5)
    node, _ = hear(node, B, YES)
    node, _ = hear(node, C, RequestVoteReply(1, vote_granted=True))
    assert kinds(node) is Campaigning
    node, _ = hear(node, D, YES)
    assert kinds(node) is Leading


def test_a_server_votes_for_one_candidate_a_term_first_come_first_served() -> None:
    """Never for two, and itself counts (5.2)."""
    node, _ = hear(follower(1), B, vote(2, 1, 1))
    node, effects = hear(node, C, vote(2, 9, 1))
    assert not reply_in(effects).vote_granted
    assert node.voted_for == B
    node, effects = hear(candidate(1), B, vote(2, 9, 1))
    assert not reply_in(effects).vote_granted
    assert node.voted_for == A


def test_a_winner_sends_heartbeats_to_all_at_once() -> None:
    """To establish its authority and prevent new elections (5.2)."""
    node, _ = hear(candidate(1), B, YES)
    for peer in (B, C):
        assert len(feed(node, peer)[1]) == 1


def test_a_candidate_recognizes_a_leader_of_its_term_or_a_later_one() -> None:
    """And returns to follower state (5.2)."""
    for term in (2, 3):
        node, _ = hear(candidate(1), B, append(term, 1, 1))
        assert role_of(node, Following).leader == B
        assert node.term == term


def test_a_candidate_rejects_a_leader_of_an_older_term_and_goes_on() -> None:
    """It stays candidate (5.2)."""
    node = candidate(1)
    after, effects = hear(node, B, append(1, 1, 1))
    assert after == node
    assert not reply_in(effects).success


def test_a_candidate_that_neither_wins_nor_loses_times_out_and_tries_again() -> None:
    """With a new term and new requests (5.2)."""
    node = candidate(1)
    node, _ = take(node, ElectionTimeout(20.0, node.tenure))
    node, _ = hear(node, C, PreVoteReply(2, 3, vote_granted=True))
    node = settled(node)
    assert (node.term, node.voted_for) == (3, A)
    assert role_of(node, Campaigning).votes == frozenset()
    _, effects = take(node, SolicitDue(20.0, node.tenure, B))
    assert reply_in(effects) == vote(3, 1, 1)


def test_each_election_draws_a_new_time_out() -> None:
    """So that split votes are rare and soon resolved; the role draws it by chance (5.2)."""
    node = candidate(1, durable=False)
    _, effects = written(node, now=3.0)
    assert do.ElectionBy(3.0) in effects
    _, effects = take(follower(1), ElectionTimeout(3.0, 0))
    assert do.ElectionBy(3.0) in effects


# -- 5.3: log replication ----------------------------------------------------------------------


def test_a_command_is_appended_as_a_new_entry_and_sent_to_all() -> None:
    """In parallel, to each of the other servers (5.3)."""
    node, effects = propose(leader(1), 1)
    assert terms_of(node.log) == [1, 2, 2]
    assert these(effects, do.AppendOwn) == [do.AppendOwn(node.disk.asked, 3, 2, 1)]
    assert [fed(node, peer)[1].entries.last for peer in (B, C)] == [3, 3]


def test_an_entry_is_applied_once_it_is_safely_replicated() -> None:
    """Not before a majority has it (5.3)."""
    node, effects = propose(leader(1))
    node, more = written(node)
    assert not these([*effects, *more], do.Commit)
    node, _ = fed(node, B)
    node, effects = acked(node, B, 3)
    assert these(effects, do.Commit) == [do.Commit(3)]


def test_a_leader_retries_without_end_until_all_have_all_entries() -> None:
    """Even after it has committed and answered (5.3)."""
    node = leader(1)
    node, _ = fed(node, B)
    node, _ = acked(node, B, 2)
    assert node.commit == 2
    for turn in range(1, 30):
        node, requests = feed(node, C, now=turn * HEARTBEAT)
        assert len(requests) == 1
    node, _ = hear(node, C, refusal(2, progress_of(node, C).number, 0, 2))
    node, request = fed(node, C, now=99.0)
    assert request.entries == entries(2, 2)


def test_every_entry_has_the_term_in_which_the_leader_got_it() -> None:
    """And an index that says where it is (5.3)."""
    node, _ = propose(leader(1, 1, 3), 2)
    assert [(index, node.log.term_at(index)) for index in range(1, 7)] == [
        (1, 1),
        (2, 1),
        (3, 3),
        (4, 4),
        (5, 4),
        (6, 4),
    ]


def test_committing_an_entry_commits_all_before_it() -> None:
    """Those of earlier leaders, too (5.3)."""
    node, _ = fed(leader(1, 1, 3), B)
    node, effects = acked(node, B, 4)
    assert node.commit == 4
    assert these(effects, do.Commit) == [do.Commit(4)]


def test_a_leader_tells_the_highest_committed_index_with_every_request() -> None:
    """Heartbeats included, so that the others find out (5.3)."""
    node, _ = fed(leader(1), B)
    node, _ = acked(node, B, 2)
    node, request = fed(node, B, now=HEARTBEAT)
    assert request.leader_commit == 2
    assert fed(node, C)[1].leader_commit == 2


def test_a_follower_applies_what_it_learns_to_be_committed() -> None:
    """In log order (5.3)."""
    node, applied = follower(1, 1, 1), []
    for commit in (1, 1, 3):
        node, effects = hear(node, B, append(1, 3, 1, commit=commit))
        applied += [effect.index for effect in these(effects, do.Commit)]
    assert applied == [1, 3]


def test_a_leader_creates_one_entry_for_an_index_and_never_changes_it() -> None:
    """It appends only (5.3, figure 3)."""
    node = leader(1)
    seen = terms_of(node.log)
    for _ in range(3):
        node, _ = propose(node, 2)
        node, _ = hear(node, B, refusal(2, 0, 0, 1))
        assert terms_of(node.log)[: len(seen)] == seen
        seen = terms_of(node.log)


def test_a_request_names_the_entry_just_before_its_own() -> None:
    """By index and term (5.3)."""
    node, request = fed(leader(1, 1, 3), B)
    assert (request.prev_log_index, request.prev_log_term) == (3, 3)
    node, _ = hear(node, B, refusal(4, 1, 0, 3))
    _, request = fed(node, B)
    assert (request.prev_log_index, request.prev_log_term) == (2, 1)


def test_a_follower_that_lacks_the_entry_before_refuses() -> None:
    """Whether its log ends there or holds another term there (5.3)."""
    for prev, term in ((4, 2), (2, 2), (3, 1)):
        node, effects = hear(follower(1, 1, 2), B, append(3, prev, term, 3))
        assert not reply_in(effects).success
        assert terms_of(node.log) == [1, 1, 2]


def test_a_success_tells_the_leader_that_the_logs_are_one_up_to_there() -> None:
    """Through the new entries (5.3)."""
    node, request = fed(leader(1), B)
    other, _ = hear(follower(1, me=B), A, request)
    other, effects = written(other)
    assert other.log == node.log
    node, _ = hear(node, B, reply_in(effects))
    assert progress_of(node, B).match_index == 2


def test_a_leader_makes_the_others_duplicate_its_log() -> None:
    """Their conflicting entries are overwritten with its own (5.3, figure 7)."""
    mine = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    for theirs in (
        (1, 1, 1, 4, 4, 5, 5, 6, 6),
        (1, 1, 1, 4),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
        (1, 1, 1, 4, 4, 4, 4),
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
    ):
        boss, other = leader(*mine, term=7), follower(*theirs, me=B, term=7)
        for now in range(8):
            boss, request = fed(boss, B, now=float(now))
            other, effects = hear(other, A, request, now=float(now))
            other, more = written(other, now=float(now))
            boss, _ = hear(boss, B, sent([*effects, *more])[0], now=float(now))
        assert other.log == boss.log
        assert progress_of(boss, B).match_index == 11


def test_a_new_leader_begins_with_the_entry_behind_its_last() -> None:
    """next_index is its last index plus one, match_index 0 (5.3, figure 2)."""
    node, _ = hear(candidate(1, 1), B, YES)
    assert (progress_of(node, B).next_index, progress_of(node, B).match_index) == (3, 0)


def test_a_leader_goes_back_after_a_refusal_and_tries_again() -> None:
    """Until the logs meet (5.3)."""
    node, _ = fed(leader(1, 1, 3), B)
    node, effects = hear(node, B, refusal(4, 1, 0, 2))
    assert progress_of(node, B).next_index == 2
    assert do.Wake(B) in effects


def test_a_leader_goes_back_over_a_whole_term_at_a_time() -> None:
    """By the conflicting term and its first index (5.3, the optimization)."""
    node, effects = hear(follower(1, 2, 2, 2), B, append(4, 4, 3))
    assert reply_in(effects) == refusal(4, 1, 2, 2)
    boss, _ = fed(leader(1, 1, 1, 3), B)
    boss, _ = hear(boss, B, refusal(4, 1, 2, 2))
    assert progress_of(boss, B).next_index == 2
    assert node.log.last_index == 4


def test_a_new_leader_does_nothing_special_to_restore_the_others_logs() -> None:
    """The logs meet by AppendEntries alone; it deletes nothing of its own (5.3)."""
    node, _ = hear(candidate(1, 1), B, YES)
    assert terms_of(node.log)[:2] == [1, 1]
    assert {type(m) for m in sent(take(node, AppendDue(0.0, node.tenure, B, 9))[1])} == {
        AppendEntries
    }


def test_one_slow_follower_does_not_slow_the_others() -> None:
    """A majority is enough (5.3)."""
    node, _ = propose(leader(1, size=5), 5)
    node = settled(node)
    for peer in (B, C):
        node, _ = fed(node, peer)
        node, _ = acked(node, peer, 7)
    assert node.commit == 7
    assert progress_of(node, D).match_index == 0


def test_requests_are_idempotent() -> None:
    """A follower that gets a request again ignores what it has already (5.5, used by 5.3)."""
    request = append(1, 1, 1, 1, 1)
    node, _ = hear(follower(1), B, request)
    again, effects = hear(node, B, request)
    assert again.log == node.log
    assert not these(effects, do.WriteEntries)
    vote_once, _ = hear(follower(1), B, vote(2, 1, 1))
    vote_twice, effects = hear(vote_once, B, vote(2, 1, 1))
    assert vote_twice == vote_once
    assert reply_in(effects).vote_granted


# -- 5.4: safety -------------------------------------------------------------------------------


def test_a_candidate_tells_of_its_log_and_is_refused_by_who_has_more() -> None:
    """RequestVote carries last index and term; the voter compares (5.4.1)."""
    node = candidate(1, 1)
    _, effects = take(node, SolicitDue(0.0, node.tenure, B))
    assert reply_in(effects) == vote(2, 2, 1)
    assert not reply_in(hear(follower(1, 1, 1), B, vote(2, 2, 1))[1]).vote_granted


def test_of_logs_with_different_last_terms_the_later_is_more_up_to_date() -> None:
    """However short it is (5.4.1)."""
    assert reply_in(hear(follower(1, 1, 1), B, vote(4, 1, 2))[1]).vote_granted
    assert not reply_in(hear(follower(2), B, vote(4, 9, 1))[1]).vote_granted


def test_of_logs_with_the_same_last_term_the_longer_is_more_up_to_date() -> None:
    """And equal ones are as good (5.4.1)."""
    assert reply_in(hear(follower(1, 1), B, vote(4, 3, 1))[1]).vote_granted
    assert reply_in(hear(follower(1, 1), B, vote(4, 2, 1))[1]).vote_granted
    assert not reply_in(hear(follower(1, 1), B, vote(4, 1, 1))[1]).vote_granted


def test_a_winner_holds_every_committed_entry() -> None:
    """An entry that a majority has, no candidate without it can get past (5.4.1)."""
    having = [follower(1, 2, me=peer) for peer in (A, B)]
    granted = [reply_in(hear(node, C, vote(3, 1, 1))[1]).vote_granted for node in having]
    assert not any(granted)


def test_entries_flow_only_from_leader_to_follower() -> None:
    """An answer never brings entries to the leader (5.4.1)."""
    node, _ = fed(leader(1), B)
    after, _ = hear(node, B, success(2, 1, 2))
    assert after.log == node.log


def test_an_entry_of_an_earlier_term_is_never_committed_by_counting() -> None:
    """Only one of the leader's own term; those before it follow indirectly (5.4.2)."""
    node, _ = fed(leader(1, 2), B, reach=2)
    for match in (1, 2):
        node, effects = acked(node, B, match)
        assert node.commit == 0
        assert not these(effects, do.Commit)
    node, _ = fed(node, B, now=HEARTBEAT)
    node, effects = acked(node, B, 3)
    assert node.commit == 3


def test_entries_keep_their_terms_when_a_later_leader_replicates_them() -> None:
    """Which makes them easy to reason about (5.4.2)."""
    node, _ = fed(leader(1, 2, 3), B)
    node, _ = hear(node, B, refusal(node.term, 1, 0, 1))
    _, request = fed(node, B)
    assert request.entries == entries(1, 1, 2, 3, 4)


def test_servers_apply_the_same_entries_in_the_same_order() -> None:
    """What is applied at an index is what everybody applies there (5.4.3)."""
    boss = leader(1, 2)
    others = {B: follower(1, me=B, term=2), C: follower(1, 1, me=C, term=2)}
    for turn in range(1, 8):
        now = turn * HEARTBEAT
        for peer, other in others.items():
            boss, requests = feed(boss, peer, now=now)
            for request in requests:
                other, effects = hear(other, A, request, now=now)
                other, more = written(other, now=now)
                for answer in sent([*effects, *more]):
                    boss, _ = hear(boss, peer, answer, now=now)
            others[peer] = other
    applied = [node.log.cut(node.applicable) for node in (boss, *others.values())]
    assert applied[0] == applied[1] == applied[2]
    assert applied[0].last_index == 3
