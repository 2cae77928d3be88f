"""Read rounds and leases: what a leader may answer without a log entry, and for how long."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.worlds import (
    EVERYBODY,
    HEARTBEAT,
    SETTINGS,
    TIMEOUT,
    A,
    B,
    C,
    D,
    acked,
    append,
    candidate,
    fed,
    feed,
    follower,
    hear,
    leader,
    pre_vote,
    progress_of,
    propose,
    refusal,
    reply_in,
    restarted,
    role_of,
    settled,
    stepped_down,
    success,
    take,
    these,
    vote,
)
from trioraft._rules import effects as do
from trioraft._rules.events import ElectionTimeout, LinkUp, QuorumTimeout, ReadIndexDue
from trioraft._rules.ids import ServerId
from trioraft._rules.messages import AppendEntriesReply
from trioraft._rules.node import Campaigning, Following, Leading, Node, Progress
from trioraft._rules.reads import lease_until


def read(node: Node, batch: object = None, now: float = 0.0) -> tuple[Node, list[do.Effect]]:
    """Readers come; `batch` says who."""
    return take(node, ReadIndexDue(now, batch))


def joined(node: Node, now: float = 0.0) -> tuple[Node, int]:
    """Readers come: the round that they have joined."""
    node, effects = read(node, now=now)
    (at,) = these(effects, do.ReadAt)
    return node, at.round


def confirmed(effects: list[do.Effect]) -> list[int]:
    return [effect.round for effect in these(effects, do.RoundConfirmed)]


def woken(effects: list[do.Effect]) -> list[ServerId]:
    return [effect.peer for effect in these(effects, do.Wake)]


def in_office(*terms: int, size: int = 3) -> Node:
    """A leader whose no-op is committed, and that has heard from everybody."""
    node = leader(*terms, size=size)
    for peer in node.configuration.others(node.me):
        node, _ = fed(node, peer)
        node, _ = acked(node, peer, node.log.last_index)
    assert node.commit == node.log.last_index
    return node


# -- joining a round ---------------------------------------------------------------------------


def test_readers_are_answered_at_what_is_committed_when_they_come() -> None:
    node = in_office(1, 1)
    node, _ = propose(node, 3)
    readers = object()
    node, effects = read(node, readers)
    (at,) = these(effects, do.ReadAt)
    assert (at.round, at.index, at.batch) == (1, 3, readers)
    assert woken(effects) == [B, C]


def test_the_index_is_that_of_the_joining_and_not_of_the_confirmation() -> None:
    node, _ = propose(in_office(1))
    node, effects = read(node)
    assert these(effects, do.ReadAt) == [do.ReadAt(1, 2)]
    node = settled(node)
    node, _ = fed(node, B)
    node, effects = acked(node, B, 3)
    assert node.commit == 3
    assert confirmed(effects) == [1]
    assert not these(effects, do.ReadAt)


@pytest.mark.parametrize("known", [0, 1, 2])
def test_before_the_first_commit_of_the_term_readers_wait_for_that_one(known: int) -> None:
    """What the leader knows to be committed may be an old story until then (8)."""
    node = leader(1, 1, commit=known)
    assert node.commit == known
    node, effects = read(node)
    assert these(effects, do.ReadAt) == [do.ReadAt(1, role_of(node, Leading).first_index)]
    assert role_of(node, Leading).first_index == 3


def test_all_that_come_before_anything_is_sent_share_a_round() -> None:
    node = in_office(1)
    for _ in range(5):
        node, number = joined(node)
        assert number == 1
    node, _ = fed(node, B)
    assert role_of(node, Leading).round == 1


def test_a_reader_never_joins_a_round_that_has_been_sent() -> None:
    """The follower may answer what had left before the reader came: that proves nothing."""
    node, number = joined(in_office(1))
    assert number == 1
    node, _ = fed(node, B)
    node, number = joined(node)
    assert number == 2
    node, effects = acked(node, B, 2)
    assert confirmed(effects) == [1], "the second one is still to be sent"
    node, _ = fed(node, C)
    node, number = joined(node)
    assert number == 3
    node, effects = acked(node, C, 2)
    assert confirmed(effects) == [2]


def test_entries_carry_a_round_like_any_heartbeat() -> None:
    node, number = joined(in_office(1))
    node, _ = propose(node)
    node, request = fed(node, B)
    assert len(request.entries) == 1
    assert progress_of(node, B).sent_round == number
    node, number = joined(node)
    assert number == 2
    node, effects = acked(node, B, 2)
    assert confirmed(effects) == [1]


def test_one_round_is_under_way_at_a_time_and_the_next_begins_when_it_is_confirmed() -> None:
    node, _ = joined(in_office(1))
    node, _ = fed(node, B)
    node, effects = read(node)
    assert woken(effects) == [], "it would be sent nothing"
    node, _ = fed(node, C)
    assert role_of(node, Leading).round == 1, "the first one goes on"
    assert feed(node, B)[1] == [], "it has been sent something of it"
    node, effects = acked(node, B, 2)
    assert confirmed(effects) == [1]
    assert woken(effects) == [B, C]
    node, _ = fed(node, C)
    assert role_of(node, Leading).round == 2


def test_a_round_is_a_reason_to_send_though_no_heartbeat_is_due() -> None:
    node = in_office(1)
    assert feed(node, B, now=HEARTBEAT / 2)[1] == []
    node, _ = joined(node)
    node, request = fed(node, B, now=HEARTBEAT / 2)
    assert not len(request.entries)
    assert feed(node, B, now=HEARTBEAT / 2)[1] == [], "once is enough"
    node, _ = fed(node, C, now=HEARTBEAT / 2)


def test_with_a_full_window_the_round_still_leaves() -> None:
    node = in_office(1)
    for _ in range(SETTINGS.append_window + 1):
        node, _ = propose(node)
        node, _ = feed(node, B)
    assert len(progress_of(node, B).in_flight) == SETTINGS.append_window
    node, _ = joined(node)
    node, request = fed(node, B)
    assert not len(request.entries)


def test_no_reader_no_round() -> None:
    node = in_office(1)
    for turn in range(1, 4):
        node, _ = fed(node, B, now=turn * HEARTBEAT)
        node, effects = acked(node, B, 2, now=turn * HEARTBEAT)
        assert confirmed(effects) == []
    assert role_of(node, Leading).round == 0


@pytest.mark.parametrize("node", [follower(1), candidate(1), stepped_down(leader(1))])
def test_nobody_else_is_asked(node: Node) -> None:
    with pytest.raises(AssertionError, match="nobody else"):
        read(node)


# -- confirming a round ------------------------------------------------------------------------


def majorities() -> Iterator[Any]:
    """Each cluster of up to five, and each set of its followers, in each order."""
    for size in range(2, 6):
        others = EVERYBODY[1:size]
        for count in range(size):
            for answering in itertools.permutations(others, count):
                yield pytest.param(
                    size, answering, id=f"{size} {''.join(p.name for p in answering)}"
                )


@pytest.mark.parametrize(("size", "answering"), list(majorities()))
def test_a_round_is_confirmed_once_and_by_no_less_than_a_majority(
    size: int, answering: tuple[ServerId, ...]
) -> None:
    node, number = joined(in_office(1, size=size))
    for peer in node.configuration.others(node.me):
        node, _ = fed(node, peer)
    votes, told = 1, []
    for peer in answering:
        before = 2 * votes > size
        votes += 1
        node, effects = acked(node, peer, 2)
        assert confirmed(effects) == ([number] if 2 * votes > size and not before else [])
        told += confirmed(effects)
    assert told == ([number] if 2 * votes > size else [])


def test_an_answer_to_what_was_sent_before_confirms_nothing() -> None:
    node = in_office(1)
    node, old = fed(node, B, now=HEARTBEAT)
    node, _ = joined(node)
    node, _ = fed(node, B, now=HEARTBEAT)
    node, _ = fed(node, C, now=HEARTBEAT)
    node, effects = hear(node, B, success(node.term, old.number, 2))
    assert confirmed(effects) == []
    node, effects = hear(node, B, success(node.term, old.number + 1, 2))
    assert confirmed(effects) == [1]


def test_one_followers_answers_count_once() -> None:
    node, _ = joined(in_office(1, size=5))
    for turn in range(4):
        node, _ = fed(node, B, now=turn * HEARTBEAT)
        node, effects = acked(node, B, 2)
        assert confirmed(effects) == []
    node, _ = fed(node, C)
    node, effects = acked(node, C, 2)
    assert confirmed(effects) == [1]


def test_a_lost_request_of_a_round_is_made_good_by_the_next_heartbeat() -> None:
    node, _ = joined(in_office(1))
    node, _ = fed(node, B)
    node, later = fed(node, B, now=HEARTBEAT)
    assert role_of(node, Leading).round == 1
    node, effects = hear(node, B, success(node.term, later.number, 2))
    assert confirmed(effects) == [1]


def test_a_new_stream_brings_the_round_again() -> None:
    node, _ = joined(in_office(1))
    node, _ = fed(node, B)
    node, effects = take(node, LinkUp(0.1, B))
    assert woken(effects) == [B]
    node, _ = fed(node, B, now=0.1)
    node, effects = acked(node, B, 2)
    assert confirmed(effects) == [1]


def test_a_follower_that_lacks_entries_still_says_who_leads() -> None:
    node, _ = joined(leader(1, 1))
    node, request = fed(node, B)
    node, effects = hear(node, B, refusal(node.term, request.number, 0, 1))
    assert confirmed(effects) == [1]


def test_an_answer_of_another_term_confirms_nothing() -> None:
    node, _ = joined(in_office(1))
    node, request = fed(node, B)
    after, effects = hear(node, B, success(node.term - 1, request.number, 2))
    assert confirmed(effects) == []
    after, effects = hear(node, B, refusal(node.term + 1, request.number))
    assert confirmed(effects) == []
    assert not isinstance(after.role, Leading)


def test_an_answer_to_what_was_never_sent_confirms_nothing() -> None:
    node, _ = joined(in_office(1))
    node, request = fed(node, B)
    node, effects = hear(node, B, success(node.term, request.number + 1, 2))
    assert confirmed(effects) == []


def test_only_voters_of_the_newest_configuration_count() -> None:
    """Who is sent entries and has no vote, or is another incarnation, confirms nothing."""
    node = in_office(1)
    again = ServerId("b", "b-2")
    role = role_of(node, Leading)
    strangers = tuple(Progress(peer, 3, 0.0) for peer in (D, again))
    node = evolve(node, role=evolve(role, progress=(*role.progress, *strangers)))
    node, _ = joined(node)
    for peer in (D, again):
        node, _ = fed(node, peer)
        node, effects = acked(node, peer, 0)
        assert confirmed(effects) == []
        assert lease_until(node) == pytest.approx(0.9 * TIMEOUT), "what B and C said before"
    node, _ = fed(node, B)
    node, effects = acked(node, B, 2)
    assert confirmed(effects) == [1]


def test_a_round_that_the_last_answer_of_a_tenure_confirms_counts() -> None:
    """The same answer may end the tenure: it led when the round began, all the same."""
    node, _ = joined(in_office(1))
    node, _ = propose(node)
    node, _ = fed(node, B)
    node, _ = fed(node, C)
    node, _ = acked(node, B, 3)
    node, effects = acked(node, C, 3, now=1.0)
    node, effects = take(node, ReadIndexDue(1.0))
    node, _ = fed(node, B, now=1.0)
    node, effects = acked(node, B, 3, now=100.0)
    assert confirmed(effects) == [2]
    assert isinstance(node.role, Following), "its own disk has lagged for too long"


def test_who_is_alone_confirms_at_once() -> None:
    node = leader(1, size=1)
    assert node.commit == 2
    for number in (1, 2, 3):
        node, effects = read(node)
        assert effects == [do.ReadAt(number, 2), do.RoundConfirmed(number)]


def test_who_is_alone_and_has_committed_nothing_yet_waits_for_its_disk() -> None:
    node = leader(1, size=1, durable=False)
    assert node.commit == 0
    _, effects = read(node)
    assert effects == [do.ReadAt(1, 2), do.RoundConfirmed(1)]


def test_a_new_tenure_begins_with_no_round() -> None:
    node, _ = joined(in_office(1))
    node, _ = fed(node, B)
    node, _ = take(node, QuorumTimeout(100.0, node.tenure))
    assert isinstance(node.role, Following)
    again = leader(1, 2)
    assert role_of(again, Leading).round == role_of(again, Leading).confirmed == 0
    assert joined(again)[1] == 1


# -- every order of events ---------------------------------------------------------------------


@frozen
class Scene:
    """A leader, and what really happened, which the leader does not see."""

    node: Node
    clock: int = 0
    sent: tuple[tuple[ServerId, int, int], ...] = ()
    """Unanswered requests: to whom, the number, when."""
    heard: tuple[tuple[ServerId, int], ...] = ()
    """For each answer who gave it, and when what it answers had been sent."""
    readers: tuple[tuple[int, int], ...] = ()
    """Those who wait: the round, and when they came."""
    released: int = field(default=0, eq=False)


def moves(scene: Scene) -> Iterator[Scene]:
    """Readers come; a follower is sent something, or not; one of its requests is answered."""
    scene = evolve(scene, clock=scene.clock + 1)
    node, effects = read(scene.node)
    (at,) = these(effects, do.ReadAt)
    yield evolve(scene, node=node, readers=(*scene.readers, (at.round, scene.clock)))
    for peer in scene.node.configuration.others(scene.node.me):
        # The clock stands still: nothing but a round is a reason to send.
        node, requests = feed(scene.node, peer)
        sent = tuple((peer, request.number, scene.clock) for request in requests)
        if sent:
            yield evolve(scene, node=node, sent=(*scene.sent, *sent))
    for peer, number, when in scene.sent:
        node, effects = hear(scene.node, peer, success(scene.node.term, number, 2))
        rest = tuple(one for one in scene.sent if one[0] != peer or one[1] > number)
        after = evolve(scene, node=node, sent=rest, heard=(*scene.heard, (peer, when)))
        for round_ in confirmed(effects):
            after = released(after, round_)
        yield after


def released(scene: Scene, round_: int) -> Scene:
    """Whoever is released has been confirmed by a majority, after it came."""
    size = len(scene.node.configuration.voters)
    for number, came in scene.readers:
        if number <= round_:
            since = {peer for peer, when in scene.heard if when > came}
            assert 2 * (len(since) + 1) > size, "answered by what was sent before it came"
    waiting = tuple(reader for reader in scene.readers if reader[0] > round_)
    return evolve(scene, readers=waiting, released=len(scene.readers) - len(waiting))


def all_come_home(scene: Scene) -> None:
    """However it began: once everybody answers, nobody waits on."""
    for _ in range(4):
        for peer in scene.node.configuration.others(scene.node.me):
            node, requests = feed(scene.node, peer)
            scene = evolve(scene, node=node)
            for request in requests:
                answer = success(node.term, request.number, 2)
                node, effects = hear(scene.node, peer, answer)
                scene = evolve(scene, node=node, heard=(*scene.heard, (peer, 10**6)))
                for round_ in confirmed(effects):
                    scene = released(scene, round_)
        for peer, number, when in scene.sent:
            node, effects = hear(scene.node, peer, success(scene.node.term, number, 2))
            scene = evolve(scene, node=node, heard=(*scene.heard, (peer, when)), sent=())
            for round_ in confirmed(effects):
                scene = released(scene, round_)
    assert scene.readers == ()


@pytest.mark.parametrize(("size", "depth"), [(2, 10), (3, 8), (4, 6), (5, 6)])
def test_in_every_order_readers_are_released_by_what_was_sent_after_they_came(
    size: int, depth: int
) -> None:
    scenes, released_ever, seen = [Scene(in_office(1, size=size))], 0, 0
    for _ in range(depth):
        scenes = [after for scene in scenes for after in moves(scene)]
        seen += len(scenes)
        released_ever += sum(scene.released for scene in scenes)
    for scene in scenes[:: max(1, len(scenes) // 500)]:
        all_come_home(scene)
    assert seen > 100
    assert size > 3 or released_ever


# -- the lease ---------------------------------------------------------------------------------

DRIFT = SETTINGS.max_clock_drift
LASTS = TIMEOUT * (1 - DRIFT)


def stands(term: int, number: int, seconds: float) -> AppendEntriesReply:
    return evolve(success(term, number, 0), stickiness=seconds)


def test_nobody_holds_a_lease_but_a_leader() -> None:
    for node in (follower(1), candidate(1), stepped_down(in_office(1))):
        assert lease_until(node) == -math.inf


def test_who_is_alone_holds_it_for_ever() -> None:
    assert lease_until(leader(1, size=1)) == math.inf
    assert lease_until(follower(1, size=1)) == -math.inf


def test_a_new_leader_holds_none_before_it_was_answered() -> None:
    """The votes say nothing: a voter of whom nothing more is heard may vote again."""
    node = leader(1, now=5.0)
    assert lease_until(node) == -math.inf
    node, _ = fed(node, B, now=5.0)
    assert lease_until(node) == -math.inf
    node, _ = acked(node, B, 0, now=6.0)
    assert lease_until(node) == 5.0 + LASTS


def test_it_lasts_from_the_sending_and_less_than_the_stickiness_by_the_drift() -> None:
    node = in_office(1)
    node, _ = fed(node, B, now=20.0)
    node, _ = acked(node, B, 2, now=29.0)
    assert lease_until(node) == 20.0 + LASTS < 20.0 + TIMEOUT


@pytest.mark.parametrize("seconds", [0.0, 1.0, 2 * TIMEOUT])
def test_it_is_the_follower_that_says_how_long_it_stands(seconds: float) -> None:
    node = leader(1)
    node, request = fed(node, B, now=20.0)
    node, _ = hear(node, B, stands(node.term, request.number, seconds), now=20.5)
    assert lease_until(node) == 20.0 + seconds * (1 - DRIFT)


@pytest.mark.parametrize("size", range(2, 6))
def test_a_majority_must_stand_by(size: int) -> None:
    """In each order: it ends with the last of the majority that stands longest."""
    for order in itertools.permutations(range(size - 1)):
        node, until = leader(1, size=size), [math.inf]
        for turn in order:
            peer = node.configuration.others(node.me)[turn]
            node, _ = fed(node, peer, now=20.0 + turn)
            node, _ = acked(node, peer, 0, now=30.0)
            until.append(20.0 + turn + LASTS)
            standing = sorted([*until, *[-math.inf] * (size - len(until))], reverse=True)
            assert lease_until(node) == standing[size // 2]


def test_an_old_answer_does_not_prolong_it_and_does_not_shorten_it() -> None:
    node = leader(1)
    node, first = fed(node, B, now=20.0)
    node, second = fed(node, B, now=21.0)
    node, _ = hear(node, B, success(node.term, second.number, 0), now=21.5)
    assert lease_until(node) == 21.0 + LASTS
    node, _ = hear(node, B, success(node.term, first.number, 0), now=25.0)
    assert lease_until(node) == 21.0 + LASTS


def test_what_was_sent_before_the_machine_slept_does_not_count() -> None:
    node = leader(1)
    node, before = fed(node, B, now=20.0)
    node, _ = hear(node, B, success(node.term, before.number, 0), now=20.5)
    assert lease_until(node, since=19.9) == 20.0 + LASTS
    assert lease_until(node, since=20.0) == -math.inf
    node, after = fed(node, B, now=21.0)
    node, _ = hear(node, B, stands(node.term, after.number, 2.0), now=21.5)
    assert lease_until(node, since=20.1) == 21.0 + 2.0 * (1 - DRIFT), "the newest word alone"


def test_it_ends_with_the_tenure() -> None:
    node = in_office(1)
    assert lease_until(node) == LASTS
    deposed, _ = hear(node, C, append(node.term + 1, 2, node.term))
    assert lease_until(deposed) == -math.inf
    stepped, _ = take(node, QuorumTimeout(100.0, node.tenure))
    assert lease_until(stepped) == -math.inf


@given(
    fast=st.floats(1 - DRIFT, 1 + DRIFT),
    offset=st.floats(-1e3, 1e3),
    out=st.floats(0.0, 30.0),
    back=st.floats(0.0, 30.0),
)
def test_while_it_lasts_the_follower_votes_for_nobody_else(
    fast: float, offset: float, out: float, back: float
) -> None:
    """True time is the leader's; the follower's clock runs as fast or slow as it may."""

    def there(now: float) -> float:
        return offset + fast * now

    node, other = in_office(1), follower(1, 2, me=B, term=2)
    node, request = fed(node, B, now=50.0)
    other, effects = hear(other, A, request, there(50.0 + out))
    node, _ = hear(node, B, reply_in(effects), 50.0 + out + back)
    until = lease_until(node)
    assert 50.0 < until <= 50.0 + out + TIMEOUT / fast
    last = math.nextafter(until, 0.0)
    if last >= 50.0 + out:
        for question in (vote(9, 9, 9), pre_vote(9, 9, 9)):
            _, effects = hear(other, C, question, there(last))
            assert not reply_in(effects).vote_granted


def test_who_stands_by_a_leader_does_not_campaign_either() -> None:
    """A restart with shorter times: the time-out passes before what was promised is over."""
    node = restarted(follower(1), sticky_until=50.0)
    after, effects = take(node, ElectionTimeout(49.9, node.tenure))
    assert (after, effects) == (node, [do.ElectionBy(49.9)])
    after, _ = take(node, ElectionTimeout(50.0, node.tenure))
    assert isinstance(after.role, Campaigning)
