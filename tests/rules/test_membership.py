"""Majorities, and who is counted for them.

In these tests a name with e, r or c and a number is a scenario of the catalogue of bugs that other
Raft libraries had; one with g is a bug or weakness of the seed.
"""

from __future__ import annotations

import itertools
import math

import pytest
from attrs import evolve

from tests.rules.worlds import (
    EVERYBODY,
    A,
    B,
    C,
    D,
    acked,
    candidate,
    cluster,
    fed,
    follower,
    hear,
    leader,
    pre_candidate,
    propose,
    reply_in,
    role_of,
    settled,
    success,
    take,
    these,
    vote,
    written,
)
from trioraft._rules import effects as do
from trioraft._rules.events import ElectionTimeout
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration
from trioraft._rules.messages import PreVoteReply, RequestVoteReply
from trioraft._rules.node import Campaigning, Following, Leading


@pytest.mark.parametrize(
    ("size", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)]
)
def test_c3_quorum_of_every_size(size: int, quorum: int) -> None:
    """An even number needs one more than its half."""
    configuration = cluster(size)
    assert configuration.quorum == quorum
    for count in range(size + 1):
        for some in itertools.combinations(EVERYBODY[:size], count):
            assert configuration.is_quorum(some) is (count >= quorum)


@pytest.mark.parametrize("size", range(1, 8))
def test_any_two_majorities_have_a_server_in_common(size: int) -> None:
    configuration = cluster(size)
    groups = [
        frozenset(some)
        for count in range(size + 1)
        for some in itertools.combinations(EVERYBODY[:size], count)
    ]
    majorities = [group for group in groups if configuration.is_quorum(group)]
    assert all(one & other for one in majorities for other in majorities)


@pytest.mark.parametrize("size", range(1, 6))
def test_c5_agreed_is_what_a_majority_has_reached(size: int) -> None:
    """The middle, never the least or the greatest."""
    configuration = cluster(size)
    for values in itertools.product((0, 1, 2), repeat=size):
        reached = configuration.agreed(dict(zip(EVERYBODY, values, strict=False)))
        assert sum(value >= reached for value in values) >= configuration.quorum
        assert sum(value >= reached + 1 for value in values) < configuration.quorum


def test_who_is_missing_has_reached_nothing() -> None:
    assert cluster(3).agreed({A: 7}) == -math.inf
    assert cluster(3).agreed({A: 7, B: 5}) == 5


def test_a_name_under_another_incarnation_is_somebody_else() -> None:
    """A wiped disk under an old name has no vote and no match."""
    wiped = ServerId("b", "b-2")
    configuration = cluster(3)
    assert configuration.voter(B)
    assert not configuration.voter(wiped)
    assert not configuration.is_quorum({A, wiped})
    node, _ = hear(candidate(), wiped, RequestVoteReply(1, vote_granted=True))
    assert isinstance(node.role, Campaigning)
    node = leader()
    node, _ = fed(node, B)
    node, effects = hear(node, wiped, success(node.term, 1, 1))
    assert not effects
    assert node.commit == 0


def test_named() -> None:
    member = cluster(2).named("b")
    assert member is not None
    assert member.id == B
    assert cluster(2).named("c") is None


def test_others() -> None:
    assert cluster(3).others(B) == (A, C)
    assert str(B) == "b"


def test_e15_a_single_voter_elects_itself() -> None:
    """At once, without a message, as soon as its vote is durable."""
    node, effects = take(follower(1, size=1), ElectionTimeout(0.0, 0))
    assert role_of(node, Campaigning).pre is False
    assert node.voted_for == A
    assert not these(effects, do.Send)
    node = settled(node)
    assert role_of(node, Leading).progress == ()
    assert settled(node).commit == 2
    _, effects = written(candidate(size=1, durable=False))
    assert these(effects, do.QuorumBy) == [do.QuorumBy(math.inf)]


def test_two_servers_need_both() -> None:
    node = pre_candidate(size=2)
    assert role_of(node, Campaigning).pre
    node = candidate(size=2)
    assert isinstance(node.role, Campaigning)
    node, _ = hear(node, B, RequestVoteReply(1, vote_granted=True))
    assert settled(node).commit == 0
    node, _ = fed(settled(node), B)
    assert acked(node, B, 1)[0].commit == 1


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7])
def test_commit_needs_a_majority(size: int) -> None:
    """One answer after the other: committed exactly when a majority, the leader with it, has it."""
    node = leader(size=size)
    for having, peer in enumerate(node.configuration.others(node.me), 2):
        node, _ = fed(node, peer)
        node, _ = acked(node, peer, 1)
        assert node.commit == (1 if having >= node.configuration.quorum else 0)


def test_a_server_without_a_vote_does_not_campaign() -> None:
    """Only its own configuration says whether a server may campaign."""
    node = follower(1, me=D, size=3)
    after, effects = take(node, ElectionTimeout(5.0, node.tenure))
    assert after == node
    assert effects == [do.ElectionBy(5.0)]
    reborn = evolve(follower(1), me=ServerId("a", "a-2"))
    assert take(reborn, ElectionTimeout(5.0, 0))[0] == reborn


def test_a_server_without_a_vote_forgets_a_leader_that_is_silent() -> None:
    """Whoever asks it would be sent to that leader, or wait for it, for ever."""
    node = evolve(follower(1, me=D, size=3), role=Following(A, verified=1, number=7, owes=True))
    after, effects = take(node, ElectionTimeout(5.0, node.tenure))
    assert after.leader is None
    assert after.role == Following(None, verified=1, number=7)
    assert effects == [do.ElectionBy(5.0), do.AnswerBy(math.inf)]
    assert take(after, ElectionTimeout(9.0, node.tenure)) == (after, [do.ElectionBy(9.0)])


def test_a_vote_is_granted_to_whoever_asks() -> None:
    """The voter's own configuration may be the older one: only the candidate counts."""
    _, effects = hear(follower(1), ServerId("z", "z-1"), vote(2, 1, 1))
    assert reply_in(effects).vote_granted
    stranger = follower(1, me=D, size=3)
    assert reply_in(hear(stranger, A, vote(2, 1, 1))[1]).vote_granted


def test_the_votes_of_strangers_do_not_count() -> None:
    node = candidate(size=5)
    for name in ("x", "y", "z"):
        node, _ = hear(node, ServerId(name, f"{name}-1"), RequestVoteReply(1, vote_granted=True))
    assert isinstance(node.role, Campaigning)


def test_the_pre_votes_of_strangers_do_not_count() -> None:
    node = pre_candidate()
    node, _ = hear(node, ServerId("z", "z-1"), PreVoteReply(0, 1, vote_granted=True))
    assert role_of(node, Campaigning).pre


def test_c6_without_voters_nobody_leads() -> None:
    """Who is in nobody's configuration stays quiet."""
    node = evolve(follower(), configuration=Configuration("cluster", ()))
    node, _ = take(node, ElectionTimeout(0.0, 0))
    assert isinstance(node.role, Following)


def test_what_is_known_of_a_stranger() -> None:
    """A leader asked about a server that is no member has nothing to send to it."""
    node = leader()
    assert role_of(node, Leading).of(D) is None
    assert node.next_index(D) == 0
    assert node.heartbeat_at(D) == math.inf
    assert node.next_index(B) == 1
    assert node.heartbeat_at(B) == -math.inf
    node, _ = fed(node, B, now=3.0)
    assert node.heartbeat_at(B) == 4.0
    assert follower().next_index(B) == 0
    assert follower().heartbeat_at(B) == math.inf
    assert these(propose(node)[1], do.Wake) == [], "who proposes gives them their turns"
