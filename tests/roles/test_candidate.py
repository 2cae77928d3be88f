"""The candidate asks everybody, again and again, until its time is over."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioraft._roles import Candidate
from trioraft._rules.events import ElectionTimeout, SolicitDue
from trioraft._rules.ids import ServerId
from trioraft._rules.node import Campaigning

from .fake_host import HEARTBEAT, TENURE, A, B, C, FakeHost, children, tenure

D, E = (ServerId(name, f"{name}-1") for name in "de")


def host_of(*peers: ServerId) -> FakeHost:
    return FakeHost(Campaigning(pre=True, votes=frozenset({A})), *peers)


async def test_every_peer_is_asked_at_once(autojump_clock: MockClock) -> None:
    host = host_of(B, C, D, E)
    now = trio.current_time()
    async with tenure(Candidate(host)):
        assert trio.current_time() == now
        asked = sorted(host.events, key=lambda event: event.peer)  # type: ignore[union-attr]
        assert asked == [SolicitDue(now, TENURE, peer) for peer in (B, C, D, E)]


async def test_each_is_asked_again_after_a_heartbeat_interval(autojump_clock: MockClock) -> None:
    """One lost message must not cost a whole election."""
    host = host_of()
    start = trio.current_time()
    async with tenure(Candidate(host)):
        await trio.sleep(3.5 * HEARTBEAT)
        for peer in (B, C):
            asked = [event.now - start for event in host.of(SolicitDue) if event.peer == peer]
            assert asked == pytest.approx([0, HEARTBEAT, 2 * HEARTBEAT, 3 * HEARTBEAT])
        assert {event.tenure for event in host.of(SolicitDue)} == {TENURE}


async def test_a_campaign_that_takes_too_long_times_out(autojump_clock: MockClock) -> None:
    host = host_of()
    now = trio.current_time()
    host.election.move(now + 0.25)
    async with tenure(Candidate(host)):
        await trio.sleep(0.24)
        assert host.of(ElectionTimeout) == []
        await trio.sleep(0.02)
        assert host.of(ElectionTimeout) == [ElectionTimeout(now + 0.25, TENURE)]


async def test_the_deadline_of_a_campaign_can_be_moved(autojump_clock: MockClock) -> None:
    host = host_of()
    now = trio.current_time()
    host.election.move(now + 1)
    async with tenure(Candidate(host)):
        await trio.sleep(0.5)
        host.election.move(now + 2)
        await trio.sleep(1)
        assert host.of(ElectionTimeout) == []
        host.election.move(now + 1.6)
        await trio.sleep(1)
        assert host.of(ElectionTimeout) == [ElectionTimeout(now + 1.6, TENURE)]


async def test_a_candidate_without_peers_only_waits(autojump_clock: MockClock) -> None:
    host = host_of()
    host.node = attrs.evolve(
        host.node,
        configuration=attrs.evolve(
            host.node.configuration, voters=host.node.configuration.voters[:1]
        ),
    )
    async with tenure(Candidate(host)):
        assert children() == 1
        await trio.sleep(10)
    assert host.events == []


async def test_one_cancel_ends_everything_in_the_same_instant(autojump_clock: MockClock) -> None:
    host = host_of(B, C, D, E)
    async with tenure(Candidate(host)) as scope:
        assert children() == 5
        before, asked = trio.current_time(), len(host.events)
        scope.cancel()
        await wait_all_tasks_blocked()
        assert children() == 0
        assert trio.current_time() == before
        await trio.sleep(10)
    assert len(host.events) == asked


async def test_winning_on_the_first_answer_asks_nobody_else(autojump_clock: MockClock) -> None:
    """A cancel within `step` is seen at the next checkpoint; the rules drop what came before."""
    host = host_of(B, C, D, E)
    role = Candidate(host)
    ended: list[Any] = []
    with trio.CancelScope() as scope:

        def ends(_: Any) -> None:
            scope.cancel()

        host.on_event = ends
        await role.run()
    ended.append(scope.cancelled_caught)
    assert ended == [True]
    assert len(host.events) <= 4
    assert {event.tenure for event in host.of(SolicitDue)} == {TENURE}


def test_a_candidate_holds_nothing_but_its_host() -> None:
    assert [field.name for field in attrs.fields(Candidate)] == ["host"]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Candidate(host_of()).host = host_of()  # type: ignore[misc]
