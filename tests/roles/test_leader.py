"""The leader keeps its followers fed, and watches its own majority."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioraft._roles import Leader
from trioraft._rules.events import AppendDue, Proposed, QuorumTimeout
from trioraft._rules.ids import ServerId
from trioraft._rules.node import Leading

from .fake_host import HEARTBEAT, TENURE, B, C, FakeHost, children, leading, tenure

D, E = (ServerId(name, f"{name}-1") for name in "de")


def host_of(*peers: ServerId) -> FakeHost:
    return FakeHost(leading(*peers), *peers)


def turns(host: FakeHost, peer: ServerId) -> list[float]:
    return [event.now for event in host.of(AppendDue) if event.peer == peer]


async def test_every_follower_gets_its_first_turn_at_once(autojump_clock: MockClock) -> None:
    host = host_of(B, C, D, E)
    now = trio.current_time()
    async with tenure(Leader(host)):
        assert trio.current_time() == now
        due = sorted(host.events, key=lambda event: event.peer)  # type: ignore[union-attr]
        assert due == [AppendDue(now, TENURE, peer, 9) for peer in (B, C, D, E)]


async def test_without_news_a_follower_gets_heartbeats(autojump_clock: MockClock) -> None:
    host = host_of()
    start = trio.current_time()
    async with tenure(Leader(host)):
        await trio.sleep(3.5 * HEARTBEAT)
        for peer in (B, C):
            expected = [start + number * HEARTBEAT for number in range(4)]
            assert turns(host, peer) == pytest.approx(expected)


async def test_news_gives_a_follower_its_turn_at_once_and_no_other(
    autojump_clock: MockClock,
) -> None:
    host = host_of()
    async with tenure(Leader(host)):
        await trio.sleep(HEARTBEAT / 2)
        now = trio.current_time()
        host.bell(B).ring()
        await wait_all_tasks_blocked()
        assert turns(host, B)[1:] == [now]
        assert len(turns(host, C)) == 1


async def test_a_message_puts_the_next_heartbeat_off(autojump_clock: MockClock) -> None:
    host = host_of()
    start = trio.current_time()
    async with tenure(Leader(host)):
        await trio.sleep(0.8 * HEARTBEAT)
        host.bell(B).ring()
        await trio.sleep(0.8 * HEARTBEAT)
        assert turns(host, B) == pytest.approx([start, start + 0.8 * HEARTBEAT])
        await trio.sleep(0.4 * HEARTBEAT)
        assert turns(host, B)[2:] == pytest.approx([start + 1.8 * HEARTBEAT])


async def test_much_news_between_two_turns_is_one_turn(autojump_clock: MockClock) -> None:
    """Batching is the scheduler's work: what came meanwhile leaves in one message."""
    host = host_of()
    async with tenure(Leader(host)):
        for _ in range(1000):
            host.bell(B).ring()
        await wait_all_tasks_blocked()
        assert len(turns(host, B)) == 2


async def test_a_slow_follower_holds_nobody_up(autojump_clock: MockClock) -> None:
    """A turn in which nothing is sent still ends, and the others go on."""
    host = host_of()

    def never_sends_to_b(event: Any) -> None:
        if event.peer != B:
            host.sent(event.peer, event.now)
        elif len(turns(host, B)) > 1:
            host.sent(B, event.now)

    host.on_event = never_sends_to_b
    async with tenure(Leader(host)):
        await trio.sleep(3.5 * HEARTBEAT)
        assert len(turns(host, C)) == 4


async def test_all_commands_that_queue_are_one_event(autojump_clock: MockClock) -> None:
    host = host_of()
    async with tenure(Leader(host)):
        host.waiting = 5
        for _ in range(5):
            host.proposals.ring()
        await wait_all_tasks_blocked()
        assert host.of(Proposed) == [Proposed(trio.current_time(), 5)]
        host.waiting = 2
        host.proposals.ring()
        await wait_all_tasks_blocked()
        assert [event.count for event in host.of(Proposed)] == [5, 2]


async def test_commands_that_queued_before_the_tenure_are_taken(autojump_clock: MockClock) -> None:
    host = host_of()
    host.waiting = 3
    host.proposals.ring()
    async with tenure(Leader(host)):
        assert [event.count for event in host.of(Proposed)] == [3]


async def test_a_bell_for_a_command_that_was_withdrawn_is_no_event(
    autojump_clock: MockClock,
) -> None:
    host = host_of()
    async with tenure(Leader(host)):
        host.proposals.ring()
        await wait_all_tasks_blocked()
        assert host.of(Proposed) == []
        host.waiting = 1
        host.proposals.ring()
        await wait_all_tasks_blocked()
        assert [event.count for event in host.of(Proposed)] == [1]


async def test_a_majority_that_does_not_answer_is_noticed(autojump_clock: MockClock) -> None:
    host = host_of()
    now = trio.current_time()
    host.quorum.move(now + 0.15)
    async with tenure(Leader(host)):
        await trio.sleep(0.14)
        assert host.of(QuorumTimeout) == []
        await trio.sleep(0.02)
        assert host.of(QuorumTimeout) == [QuorumTimeout(now + 0.15, TENURE)]


async def test_each_answer_moves_the_deadline_of_the_majority(autojump_clock: MockClock) -> None:
    host = host_of()
    host.quorum.move(trio.current_time() + 0.15)
    async with tenure(Leader(host)):
        for _ in range(50):
            await trio.sleep(0.1)
            host.quorum.move(trio.current_time() + 0.15)
        assert host.of(QuorumTimeout) == []
        await trio.sleep(0.16)
        assert len(host.of(QuorumTimeout)) == 1


async def test_the_election_time_out_of_a_follower_is_nothing_to_a_leader(
    autojump_clock: MockClock,
) -> None:
    host = host_of()
    host.election.move(trio.current_time())
    host.answer.move(trio.current_time())
    async with tenure(Leader(host)):
        await trio.sleep(1)
        assert {type(event) for event in host.events} == {AppendDue}


async def test_every_event_carries_the_tenure_in_which_the_role_began(
    autojump_clock: MockClock,
) -> None:
    host = host_of()
    async with tenure(Leader(host)):
        host.node = attrs.evolve(host.node, tenure=TENURE + 1)
        host.quorum.move(trio.current_time() + 0.01)
        await trio.sleep(3 * HEARTBEAT)
        timed = [*host.of(AppendDue), *host.of(QuorumTimeout)]
        assert {event.tenure for event in timed} == {TENURE}
        assert len(timed) > 6


async def test_one_cancel_ends_everything_in_the_same_instant(autojump_clock: MockClock) -> None:
    host = host_of(B, C, D, E)
    async with tenure(Leader(host)) as scope:
        assert children() == 7
        before, count = trio.current_time(), len(host.events)
        for peer in (B, C, D, E):
            host.bell(peer).ring()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert children() == 0
        assert trio.current_time() == before
        await trio.sleep(10)
    # A turn that had been given before the cancel may still be taken; the rules drop it.
    assert len(host.events) <= count + 4


async def test_a_leader_of_itself_alone_takes_commands(autojump_clock: MockClock) -> None:
    host = host_of()
    alone = attrs.evolve(host.node.configuration, voters=host.node.configuration.voters[:1])
    host.node = attrs.evolve(host.node, configuration=alone, role=Leading(10, ()))
    host.waiting = 1
    host.proposals.ring()
    async with tenure(Leader(host)):
        assert children() == 3
        await trio.sleep(10)
    assert host.events == [Proposed(host.events[0].now, 1)]


# -- who comes and who goes --------------------------------------------------------------------


def follow(host: FakeHost, *peers: ServerId) -> None:
    """The rules have changed whom this leader replicates to."""
    host.node = attrs.evolve(host.node, role=leading(*peers))
    host.reconfigured.ring()


async def test_a_new_member_gets_its_first_turn_at_once_and_then_heartbeats(
    autojump_clock: MockClock,
) -> None:
    host = host_of(B, C)
    async with tenure(Leader(host)):
        await trio.sleep(HEARTBEAT / 2)
        joined = trio.current_time()
        follow(host, B, C, D)
        await wait_all_tasks_blocked()
        assert turns(host, D) == [joined]
        await trio.sleep(2.5 * HEARTBEAT)
        assert turns(host, D) == pytest.approx([joined + n * HEARTBEAT for n in range(3)])


async def test_nobody_is_served_twice_however_often_the_members_change(
    autojump_clock: MockClock,
) -> None:
    host = host_of(B, C)
    async with tenure(Leader(host)):
        before = children()
        for _ in range(10):
            host.reconfigured.ring()
            await wait_all_tasks_blocked()
        assert children() == before
        assert len(turns(host, B)) == 1


async def test_who_has_left_gets_nothing_more_and_its_task_ends(autojump_clock: MockClock) -> None:
    host = host_of(B, C)
    async with tenure(Leader(host)):
        before = children()
        follow(host, B)
        host.bell(C).ring()
        await wait_all_tasks_blocked()
        assert children() == before - 1
        count = len(turns(host, C))
        await trio.sleep(10 * HEARTBEAT)
        assert len(turns(host, C)) == count


async def test_who_has_left_and_comes_again_is_served_again(autojump_clock: MockClock) -> None:
    host = host_of(B, C)
    async with tenure(Leader(host)):
        before = children()
        follow(host, B)
        host.bell(C).ring()
        await trio.sleep(HEARTBEAT)
        again = trio.current_time()
        follow(host, B, C)
        await wait_all_tasks_blocked()
        assert turns(host, C)[-1] == again
        assert children() == before


async def test_who_leaves_and_comes_again_before_its_task_has_looked_is_served_by_one(
    autojump_clock: MockClock,
) -> None:
    host = host_of(B, C)
    async with tenure(Leader(host)):
        before = children()
        follow(host, B)
        host.bell(C).ring()
        follow(host, B, C)
        await trio.sleep(3.5 * HEARTBEAT)
        assert children() == before
        later = [instant for instant in turns(host, C) if instant > trio.current_time() - HEARTBEAT]
        assert len(later) == 1


def test_a_leader_holds_nothing_but_its_host() -> None:
    assert [field.name for field in attrs.fields(Leader)] == ["host"]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Leader(host_of()).host = host_of()  # type: ignore[misc]
