"""Deadlines that others move, and bells."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trioraft._clock import Bell, Clock, Deadline


@pytest.fixture
def deadline() -> Deadline:
    return Deadline(Clock())


class Skewed(Clock):
    """Runs at half the speed of Trio's clock, from another start."""

    def now(self) -> float:
        return trio.current_time() / 2 + 1000

    def until(self, instant: float) -> trio.CancelScope:
        return trio.CancelScope(deadline=(instant - 1000) * 2)

    def move(self, scope: trio.CancelScope, instant: float) -> None:
        scope.deadline = (instant - 1000) * 2


async def passing(deadline: Deadline, passed: list[float]) -> None:
    while True:
        await deadline.passed()
        passed.append(trio.current_time())
        deadline.move(math.inf)


# -- deadlines ---------------------------------------------------------------------------------


async def test_nothing_is_waited_for_until_an_instant_is_given(
    autojump_clock: MockClock, deadline: Deadline
) -> None:
    with trio.move_on_after(1e4) as scope:
        await deadline.passed()
    assert scope.cancelled_caught


async def test_it_passes_at_its_instant(autojump_clock: MockClock, deadline: Deadline) -> None:
    start = trio.current_time()
    deadline.move(start + 3)
    await deadline.passed()
    assert trio.current_time() - start == 3


async def test_an_instant_that_is_over_already_passes_at_once(
    autojump_clock: MockClock, deadline: Deadline
) -> None:
    deadline.move(trio.current_time() - 5)
    before = trio.current_time()
    with assert_checkpoints():
        await deadline.passed()
    assert trio.current_time() == before


@pytest.mark.parametrize("to", [1.5, 4.0, 9.0])
async def test_it_can_be_moved_to_either_side_while_it_is_waited_for(
    autojump_clock: MockClock, deadline: Deadline, nursery: trio.Nursery, to: float
) -> None:
    start, passed = trio.current_time(), list[float]()
    deadline.move(start + 4)
    nursery.start_soon(passing, deadline, passed)
    await trio.sleep(1)
    deadline.move(start + to)
    await trio.sleep(20)
    assert passed == [start + to]


async def test_it_can_be_moved_into_the_past(
    autojump_clock: MockClock, deadline: Deadline, nursery: trio.Nursery
) -> None:
    passed: list[float] = []
    nursery.start_soon(passing, deadline, passed)
    await trio.sleep(1)
    now = trio.current_time()
    deadline.move(now - 100)
    await trio.sleep(1)
    assert passed == [now]


async def test_it_can_be_called_off(
    autojump_clock: MockClock, deadline: Deadline, nursery: trio.Nursery
) -> None:
    passed: list[float] = []
    deadline.move(trio.current_time() + 1)
    nursery.start_soon(passing, deadline, passed)
    await wait_all_tasks_blocked()
    deadline.move(math.inf)
    await trio.sleep(1e4)
    assert passed == []


async def test_a_thousand_moves_pass_once(
    autojump_clock: MockClock, deadline: Deadline, nursery: trio.Nursery
) -> None:
    start, passed = trio.current_time(), list[float]()
    deadline.move(start + 0.15)
    nursery.start_soon(passing, deadline, passed)
    for _ in range(1000):
        await trio.sleep(0.05)
        deadline.move(trio.current_time() + 0.15)
    assert passed == []
    await trio.sleep(1)
    assert passed == [pytest.approx(start + 50.15)]


@pytest.mark.parametrize("passes", [1, 2, 3])
async def test_an_instant_that_expired_but_is_moved_in_time_is_not_delivered(
    autojump_clock: MockClock, deadline: Deadline, nursery: trio.Nursery, passes: int
) -> None:
    """What had arrived by then takes a few turns to get through, and counts."""
    start, passed = trio.current_time(), list[float]()
    deadline.move(start + 1)
    nursery.start_soon(passing, deadline, passed)

    async def arrives() -> None:
        await trio.sleep(1)  # the very instant
        for _ in range(passes - 1):
            await trio.lowlevel.checkpoint()
        deadline.move(start + 5)

    nursery.start_soon(arrives)
    await trio.sleep(3)
    assert passed == []
    await trio.sleep(3)
    assert passed == [start + 5]


async def test_an_instant_that_expired_and_is_moved_still_earlier_is_delivered(
    autojump_clock: MockClock, deadline: Deadline, nursery: trio.Nursery
) -> None:
    start, passed = trio.current_time(), list[float]()
    deadline.move(start + 1)
    nursery.start_soon(passing, deadline, passed)
    await trio.sleep(1)
    deadline.move(start + 0.5)
    await trio.sleep(1)
    assert passed == [start + 1]


async def test_the_next_wait_needs_no_new_instant(
    autojump_clock: MockClock, deadline: Deadline
) -> None:
    deadline.move(trio.current_time())
    await deadline.passed()
    with assert_checkpoints():
        await deadline.passed()


async def test_cancelling_the_wait_leaves_the_deadline_usable(
    autojump_clock: MockClock, deadline: Deadline
) -> None:
    start = trio.current_time()
    deadline.move(start + 5)
    with trio.move_on_after(1) as scope:
        await deadline.passed()
    assert scope.cancelled_caught
    deadline.move(start + 3)
    await deadline.passed()
    assert trio.current_time() == start + 3


async def test_it_goes_by_its_own_clock(autojump_clock: MockClock) -> None:
    clock = Skewed()
    deadline = Deadline(clock)
    start, began = trio.current_time(), clock.now()
    deadline.move(began + 4)
    await deadline.passed()
    assert trio.current_time() - start == 8
    assert clock.now() == began + 4


async def test_a_load_that_never_lets_up_puts_no_time_out_off(mock_clock: MockClock) -> None:
    """A queue that is preferred at every turn starves the time-out; here time passes meanwhile."""
    deadline, passed = Deadline(Clock()), list[float]()
    turns = 0

    async def spin() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        start = trio.current_time()
        deadline.move(start + 0.15)
        nursery.start_soon(passing, deadline, passed)
        for _ in range(50):
            nursery.start_soon(spin)
        for _ in range(160):
            assert passed == []
            mock_clock.jump(0.001)
            await trio.lowlevel.checkpoint()
            if passed:
                break
        assert passed == [pytest.approx(start + 0.15, abs=0.01)]
        assert turns > 50 * 100
        nursery.cancel_scope.cancel()


async def test_late_news_that_never_ends_does_not_put_it_off_either(
    mock_clock: MockClock,
) -> None:
    """Whoever moves the deadline to where it already is, or was, wins no time."""
    deadline, passed = Deadline(Clock()), list[float]()
    start = trio.current_time()
    deadline.move(start + 1)

    async def nag() -> None:
        while True:
            deadline.move(min(deadline.instant, start + 1))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(passing, deadline, passed)
        nursery.start_soon(nag)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert passed == []
        mock_clock.jump(1)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        assert passed[:1] == [start + 1]
        nursery.cancel_scope.cancel()


# -- bells -------------------------------------------------------------------------------------


async def test_a_bell_wakes_who_waits() -> None:
    bell, heard = Bell(), trio.Event()

    async def listen() -> None:
        await bell.wait()
        heard.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        assert not heard.is_set()
        bell.ring()
        await heard.wait()


async def test_a_bell_that_rang_while_nobody_listened_is_heard_later_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    with assert_checkpoints():
        await bell.wait()
    with trio.move_on_after(0) as scope:
        await bell.wait()
    assert scope.cancelled_caught


async def test_a_ring_is_not_lost_when_the_listener_is_cancelled() -> None:
    bell = Bell()
    bell.ring()
    with trio.CancelScope() as scope:
        scope.cancel()
        await bell.wait()
    assert scope.cancelled_caught
    await bell.wait()


async def test_a_ring_and_a_cancel_in_one_turn_lose_nothing() -> None:
    bell, woken = Bell(), 0

    async def listen(scope: trio.CancelScope) -> None:
        nonlocal woken
        with scope:
            await bell.wait()
            woken += 1

    for ring_first in (True, False):
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, scope)
            await wait_all_tasks_blocked()
            for act in (bell.ring, scope.cancel) if ring_first else (scope.cancel, bell.ring):
                act()
        if scope.cancelled_caught:
            await bell.wait()
            woken += 1
    assert woken == 2


async def test_rings_between_two_waits_are_one() -> None:
    bell, turns = Bell(), 0

    async def listen() -> None:
        nonlocal turns
        while True:
            await bell.wait()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        for _ in range(3):
            await wait_all_tasks_blocked()
            for _ in range(100):
                bell.ring()
        await wait_all_tasks_blocked()
        assert turns == 3
        nursery.cancel_scope.cancel()


async def test_only_one_task_at_a_time_waits_for_a_bell() -> None:
    bell = Bell()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bell.wait)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await bell.wait()
        bell.ring()
    with trio.move_on_after(0):
        await bell.wait()  # whoever gave up is in nobody's way
    bell.ring()
    await bell.wait()
