"""The follower waits for a leader's silence, and for its own disk."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioraft._roles import Follower
from trioraft._rules.events import AnswerDue, ElectionTimeout

from .fake_host import TENURE, FakeHost, children, tenure


async def test_silence_becomes_an_election_time_out_of_this_tenure(
    autojump_clock: MockClock,
) -> None:
    host = FakeHost()
    now = trio.current_time()
    host.election.move(now + 0.2)
    async with tenure(Follower(host)):
        await trio.sleep(0.19)
        assert host.events == []
        await trio.sleep(0.02)
        assert host.events == [ElectionTimeout(now + 0.2, TENURE)]


async def test_each_sign_of_the_leader_moves_the_deadline(autojump_clock: MockClock) -> None:
    host = FakeHost()
    host.election.move(trio.current_time() + 0.2)
    async with tenure(Follower(host)):
        for _ in range(50):
            await trio.sleep(0.1)
            host.election.move(trio.current_time() + 0.2)
        assert host.events == []
        await trio.sleep(0.21)
        assert len(host.of(ElectionTimeout)) == 1


async def test_a_deadline_that_is_moved_closer_passes_sooner(autojump_clock: MockClock) -> None:
    host = FakeHost()
    now = trio.current_time()
    host.election.move(now + 100)
    async with tenure(Follower(host)):
        host.election.move(now + 1)
        await trio.sleep(2)
        assert host.events == [ElectionTimeout(now + 1, TENURE)]


async def test_time_outs_come_again_and_again_as_long_as_the_tenure_lasts(
    autojump_clock: MockClock,
) -> None:
    """The rules may decide to go on following, with a new deadline."""
    host = FakeHost()
    host.on_event = lambda event: host.election.move(event.now + 1)
    start = trio.current_time()
    host.election.move(start + 1)
    async with tenure(Follower(host)):
        await trio.sleep(3.5)
        assert [event.now - start for event in host.of(ElectionTimeout)] == [1, 2, 3]


async def test_a_slow_disk_becomes_an_answer_that_is_due(autojump_clock: MockClock) -> None:
    host = FakeHost()
    now = trio.current_time()
    host.election.move(now + 1)
    async with tenure(Follower(host)):
        host.answer.move(now + 0.025)
        await trio.sleep(0.1)
        assert host.events == [AnswerDue(now + 0.025, TENURE)]
        host.answer.move(now + 0.2)
        await trio.sleep(0.2)
        assert host.of(AnswerDue)[1:] == [AnswerDue(now + 0.2, TENURE)]


async def test_an_answer_that_the_disk_gave_in_time_is_not_due(autojump_clock: MockClock) -> None:
    host = FakeHost()
    async with tenure(Follower(host)):
        host.answer.move(trio.current_time() + 0.025)
        await trio.sleep(0.01)
        host.answer.move(math.inf)
        await trio.sleep(10)
        assert host.events == []


async def test_the_tenure_is_the_one_in_which_the_role_began(autojump_clock: MockClock) -> None:
    """Whatever comes late carries the old one, and the rules drop it."""
    host = FakeHost()
    now = trio.current_time()
    async with tenure(Follower(host)):
        host.node = attrs.evolve(host.node, tenure=TENURE + 1)
        host.election.move(now + 1)
        host.answer.move(now + 1)
        await trio.sleep(2)
        assert {event.tenure for event in host.events} == {TENURE}  # type: ignore[union-attr]
        assert len(host.events) == 2


async def test_one_cancel_ends_everything_in_the_same_instant(autojump_clock: MockClock) -> None:
    host = FakeHost()
    async with tenure(Follower(host)) as scope:
        assert children() == 2
        before = trio.current_time()
        host.election.move(before + 0.001)
        scope.cancel()
        await wait_all_tasks_blocked()
        assert children() == 0
        assert trio.current_time() == before
        await trio.sleep(10)
    assert host.events == []


async def test_a_role_that_is_cancelled_by_its_own_step_takes_no_further_one(
    autojump_clock: MockClock,
) -> None:
    host = FakeHost()
    host.election.move(trio.current_time())
    async with tenure(Follower(host)) as scope:
        pass
    host.events.clear()
    host.election.move(trio.current_time() + 1)
    async with tenure(Follower(host)) as scope:

        def ends(_: Any) -> None:
            scope.cancel()

        host.on_event = ends  # the deadline stays where it is: it has passed
        await trio.sleep(10)
    assert len(host.events) == 1


def test_a_follower_holds_nothing_but_its_host() -> None:
    assert [field.name for field in attrs.fields(Follower)] == ["host"]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Follower(FakeHost()).host = FakeHost()  # type: ignore[misc]
