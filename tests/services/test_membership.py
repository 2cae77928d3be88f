"""What the members' coming and going means for one server: streams, events, and its own end."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from trio.testing import MockClock

from trioraft._events import Hub, PeerAdded, PeerRemoved
from trioraft._membership import Membership, configured, described, linked
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Log
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.node import Following, Leading, Node, Progress, Settings

A, B, C, D = (ServerId(name, f"{name}-1") for name in "abcd")


def members(*ids: ServerId) -> tuple[Member, ...]:
    return tuple(Member(server, f"mem://{server.name}") for server in ids)


def configuration(index: int, *voters: ServerId, **more: Any) -> Configuration:
    halves = {key: members(*value) for key, value in more.items()}
    return Configuration("c1", members(*voters), index=index, **halves)


def node_of(*known: Configuration, commit: int = 0, me: ServerId = A, **more: Any) -> Node:
    """A follower whose log holds these."""
    return Node(
        me,
        Settings(0.05, 0.15, 4, 0.1, 200),
        known[-1],
        earlier=known[:-1],
        term=1,
        log=Log(((1, 1),), 50),
        commit=commit,
        **more,
    )


def leading(*peers: ServerId) -> Leading:
    return Leading(1, tuple(Progress(peer, 10, 0.0) for peer in peers))


class World:
    """A membership, and what it does."""

    def __init__(self, node: Node, invited: int = 0) -> None:
        self.hub, self.followed = Hub(), 0
        self.told: list[Any] = []
        self.hub._subscriptions.append(self)  # type: ignore[arg-type]
        self.node = node
        self.membership = Membership(self.hub, lambda: self.node, self._follow)
        if invited:
            self.membership.invite(invited)
        self.membership.begin(node)

    def tell(self, event: Any) -> None:
        self.told.append(event)

    def end(self) -> None:
        """Nothing is left to tell."""

    def _follow(self) -> None:
        self.followed += 1

    @property
    def is_out(self) -> bool:
        return self.membership.is_out(self.node)

    def hears(self) -> bool:
        """Whether the server has been woken to look whether it is out."""
        was_rung, self.membership.removed._rung = self.membership.removed._rung, False
        return was_rung

    def goes_on(self, **changes: Any) -> None:
        """The rules have taken an event."""
        before, self.node = self.node, evolve(self.node, **changes)
        self.membership.stepped(before, self.node)

    def appends(self, new: Configuration, **changes: Any) -> None:
        earlier = (*self.node.earlier, self.node.configuration)
        self.goes_on(configuration=new, earlier=earlier, **changes)


GENESIS = configuration(0, A, B, C)


# -- removed for certain -----------------------------------------------------------------------


def test_who_is_left_out_ends_once_that_is_committed() -> None:
    world = World(node_of(GENESIS))
    world.appends(configuration(5, B, C, outgoing=(A, B, C)))
    world.goes_on(commit=5)
    assert not world.is_out, "it has a vote yet"
    world.appends(configuration(6, B, C))
    assert not world.is_out, "it may yet be cut"
    world.goes_on(commit=6)
    assert world.is_out
    assert world.hears()
    world.goes_on(commit=7)
    assert world.is_out
    assert not world.hears(), "once"


def test_a_removal_that_is_cut_is_none() -> None:
    world = World(node_of(GENESIS))
    world.appends(configuration(5, B, C))
    world.goes_on(configuration=GENESIS, earlier=())
    world.goes_on(commit=50)
    assert not world.is_out


def test_a_leader_hands_over_first() -> None:
    world = World(node_of(GENESIS, role=leading(B, C)))
    world.appends(configuration(5, B, C), commit=5)
    assert not world.is_out
    world.goes_on(role=Following())
    assert world.is_out
    assert world.hears()


def test_who_starts_as_no_member_waits() -> None:
    """It was removed in an earlier life, or has yet to read of itself."""
    world = World(node_of(configuration(5, B, C), commit=9))
    world.goes_on(commit=20)
    assert not world.is_out


def test_who_catches_up_is_not_removed_by_what_was_long_ago() -> None:
    """It is a member by entry 30; entry 10 says that it was taken out once."""
    world = World(node_of(GENESIS), invited=30)
    world.appends(configuration(10, B, C), commit=10)
    assert not world.is_out
    world.appends(configuration(30, A, B, C), commit=30)
    assert not world.is_out
    world.appends(configuration(40, B, C))
    world.goes_on(commit=40)
    assert world.is_out
    assert world.hears()


def test_an_invitation_that_came_to_nothing_holds_no_longer_than_it_says() -> None:
    world = World(node_of(GENESIS), invited=30)
    world.appends(configuration(10, B, C), commit=10)
    world.goes_on(commit=29)
    assert not world.is_out
    world.goes_on(commit=30)
    assert world.is_out, "entry 30 was to name it, and does not"
    assert world.hears()


def test_only_the_newest_invitation_counts() -> None:
    world = World(node_of(GENESIS))
    world.membership.invite(30)
    world.membership.invite(20)
    assert world.membership.invited == 30


def test_a_learner_that_is_left_out_ends_too() -> None:
    world = World(node_of(configuration(3, B, C, learners=(A,))))
    world.appends(configuration(5, B, C), commit=5)
    assert world.is_out
    assert world.hears()


def test_another_incarnation_under_its_name_leaves_it_out() -> None:
    world = World(node_of(GENESIS))
    world.appends(configuration(5, ServerId("a", "a-2"), B, C), commit=5)
    assert world.is_out
    assert world.hears()


# -- events and streams ------------------------------------------------------------------------


def test_at_first_all_others_are_told() -> None:
    world = World(node_of(configuration(3, A, B, learners=(D,))))
    assert world.told == [PeerAdded("b"), PeerAdded("d")]
    assert world.followed == 1


def test_who_comes_and_who_goes_is_told_once() -> None:
    world = World(node_of(GENESIS))
    world.told.clear()
    world.appends(configuration(5, A, B, C, learners=(D,)))
    assert world.told == [PeerAdded("d")]
    world.appends(configuration(6, A, B, D, outgoing=(A, B, C)))
    assert world.told == [PeerAdded("d")], "c is there until the change is over"
    world.appends(configuration(7, A, B, D))
    assert world.told == [PeerAdded("d"), PeerRemoved("c")]
    world.goes_on(commit=7)
    assert len(world.told) == 2


def test_what_is_cut_is_told_the_other_way_round() -> None:
    world = World(node_of(GENESIS))
    world.told.clear()
    world.appends(configuration(5, A, B, C, learners=(D,)))
    world.goes_on(configuration=GENESIS, earlier=())
    assert world.told == [PeerAdded("d"), PeerRemoved("d")]


def test_a_server_is_no_peer_of_its_own() -> None:
    world = World(node_of(configuration(3, B, C)))
    world.told.clear()
    world.appends(configuration(5, A, B, C))
    assert world.told == []


def test_streams_and_replicators_follow_each_change_and_nothing_else() -> None:
    world = World(node_of(GENESIS))
    assert (world.followed, world.membership.reconfigured._rung) == (1, False)
    world.goes_on(commit=3)
    assert world.followed == 1
    world.appends(configuration(5, A, B, C, learners=(D,)))
    assert world.followed == 2
    assert world.membership.reconfigured._rung


# -- whom to keep a stream to ------------------------------------------------------------------


def streams(node: Node) -> str:
    found = linked(node)
    assert found == {name: f"mem://{name}" for name in found}
    return "".join(sorted(found))


def test_a_stream_leads_to_every_member() -> None:
    assert streams(node_of(GENESIS)) == "abc"
    assert streams(node_of(configuration(5, A, B, outgoing=(A, C), learners=(D,)))) == "abcd"


def test_who_waits_to_be_taken_in_knows_that_it_is_no_member() -> None:
    node = node_of(GENESIS, configuration(5, B, C), commit=5)
    membership = Membership(Hub(), lambda: node, lambda: None)
    assert not membership.waits(), "its snapshot may say otherwise"
    membership.begin(node)
    assert membership.waits()
    membership.invite(6)
    assert not membership.waits(), "it may be one by what it has yet to hear"
    assert not World(node_of(GENESIS)).membership.waits()


def test_a_member_whose_removal_may_yet_be_cut_does_not_wait() -> None:
    gone = configuration(5, B, C)
    assert not World(node_of(GENESIS, gone, commit=4)).membership.waits()
    assert World(node_of(GENESIS, gone, commit=5)).membership.waits()
    again = node_of(gone, configuration(9, B, C), commit=8)
    assert not World(again, invited=8).membership.waits(), "9 may be cut, and 8 names it"


def test_a_follower_keeps_none_to_who_has_left() -> None:
    assert streams(node_of(GENESIS, configuration(5, A, B), commit=5)) == "ab"


def test_a_leader_keeps_one_to_who_leaves_until_that_one_knows_it() -> None:
    node = node_of(GENESIS, configuration(5, A, B), commit=5, role=leading(B, C))
    assert streams(node) == "abc"
    assert streams(evolve(node, role=leading(B))) == "ab"


def test_who_was_removed_and_knows_it_disturbs_nobody() -> None:
    assert streams(node_of(GENESIS, configuration(5, B, C), commit=5)) == ""


def test_who_does_not_know_whether_it_was_removed_takes_part() -> None:
    """It may be the only one that holds that very entry (thesis 4.2.2)."""
    assert streams(node_of(GENESIS, configuration(5, B, C), commit=4)) == "bc"


def test_a_leader_that_is_no_member_any_more_reaches_those_who_are() -> None:
    node = node_of(GENESIS, configuration(5, B, C), commit=5, role=leading(B, C))
    assert streams(node) == "bc"


def test_of_two_addresses_the_newer_one_counts() -> None:
    moved = evolve(GENESIS, index=5, voters=(*members(A, B), Member(C, "mem://moved")))
    assert linked(node_of(GENESIS, moved))["c"] == "mem://moved"


def test_of_two_incarnations_the_one_that_is_taken_in_is_dialled() -> None:
    anew = Member(ServerId("c", "c-2"), "mem://anew")
    both = evolve(GENESIS, index=5, learners=(anew,))
    assert linked(node_of(GENESIS, both))["c"] == "mem://anew"


# -- what a snapshot brings --------------------------------------------------------------------


def test_what_goes_on_from_a_snapshot_has_its_members_and_those_behind_it() -> None:
    second, fifth, ninth = (configuration(index, A, B) for index in (2, 5, 9))
    node = node_of(GENESIS, second, ninth)
    after = configured(node, fifth)
    assert after.configurations == (fifth, ninth)
    assert configured(node, ninth).configurations == (ninth,)
    assert configured(node_of(GENESIS), fifth).configurations == (fifth,)
    assert configured(node, None) is node


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (GENESIS, "(voters a, b, c) since entry 0"),
        (
            configuration(7, A, B, outgoing=(A, C), learners=(D,)),
            "(voters a, b; outgoing a, c; learners d) since entry 7",
        ),
    ],
)
def test_a_configuration_in_a_line(given: Configuration, expected: str) -> None:
    assert described(given) == expected


async def test_a_leader_is_woken_by_a_change(autojump_clock: MockClock) -> None:
    world = World(node_of(GENESIS))
    world.appends(configuration(5, A, B, C, learners=(D,)))
    await world.membership.reconfigured.wait()
