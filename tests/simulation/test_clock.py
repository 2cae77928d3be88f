"""A clock that runs wrong: whoever waits by it follows."""

from __future__ import annotations

from random import Random

import pytest
import trio
from trio.testing import MockClock

from tests.server.worlds import in_virtual_time
from trioraft._clock import Bell, Timer
from trioraft.testing import SimulatedClock, seeded_run


@in_virtual_time
async def test_it_says_what_it_was_set_to() -> None:
    clock = SimulatedClock(offset=100, utc=1e9)
    await trio.sleep(2)
    assert (clock.now(), clock.utc()) == (102, 1e9 + 2)


@pytest.mark.parametrize("rate", [0.25, 1.0, 4.0])
def test_a_wait_takes_as_long_as_its_rate_says(rate: float) -> None:
    async def main() -> float:
        clock = SimulatedClock(offset=7, rate=rate)
        await clock.sleep_until(clock.now() + 8)
        return trio.current_time()

    assert seeded_run(0, main) == pytest.approx(8 / rate)


@in_virtual_time
async def test_a_new_rate_moves_what_is_being_waited_for() -> None:
    clock = SimulatedClock()
    with clock.until(10) as scope:
        await trio.sleep(2)
        clock.set_rate(4)
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert clock.now() == pytest.approx(10)
    assert trio.current_time() == pytest.approx(4)


@in_virtual_time
async def test_a_jump_ends_the_waits_that_it_jumps_over() -> None:
    clock = SimulatedClock()
    with clock.until(10):
        await trio.sleep(1)
        clock.jump(100)
        await trio.sleep_forever()
    assert trio.current_time() == 1
    assert clock.now() == 101


@in_virtual_time
async def test_a_frozen_process_sees_all_its_time_outs_pass_when_it_goes_on() -> None:
    clock = SimulatedClock()
    passed: list[float] = []

    async def wait(instant: float) -> None:
        await clock.sleep_until(instant)
        passed.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for instant in (1, 2, 9):
            nursery.start_soon(wait, instant)
        await trio.sleep(0.5)
        clock.freeze(until=5)
        nursery.start_soon(wait, 3)
    assert passed == [5, 5, 5, 9]


@in_virtual_time
async def test_a_frozen_clock_can_be_thawed_early() -> None:
    clock = SimulatedClock()
    clock.freeze(until=100)
    with clock.until(3):
        await trio.sleep(1)
        clock.freeze(until=0)
        await trio.sleep_forever()
    assert trio.current_time() == 3


@in_virtual_time
async def test_the_wall_clock_is_another_one() -> None:
    clock = SimulatedClock()
    before = clock.utc()
    clock.set_wall(-3600)
    assert clock.utc() == before - 3600
    assert clock.now() == 0


@in_virtual_time
async def test_a_scope_can_be_moved_and_never_ends_by_itself_at_infinity() -> None:
    clock = SimulatedClock(rate=2)
    with trio.move_on_after(500) as outer, clock.until(float("inf")) as scope:
        clock.move(scope, 4)
        clock.move(scope, float("inf"))
        await trio.sleep_forever()
    assert outer.cancelled_caught


@pytest.mark.parametrize("seed", range(20))
def test_an_instant_is_over_when_its_scope_ends_however_odd_the_figures(seed: int) -> None:
    """Else whoever looks at the clock again would wait for ever at one instant."""
    chance = Random(seed)

    async def main() -> None:
        clock = SimulatedClock(offset=chance.uniform(0, 1e6), rate=chance.uniform(0.1, 7))
        for _ in range(50):
            instant = clock.now() + chance.expovariate(10)
            await clock.sleep_until(instant)
            assert clock.now() >= instant
            clock.set_rate(chance.uniform(0.1, 7))

    seeded_run(seed, main)


async def test_it_works_under_trios_mock_clock_too(autojump_clock: MockClock) -> None:
    clock = SimulatedClock(rate=2)
    began = trio.current_time()
    await clock.sleep_until(clock.now() + 6)
    assert trio.current_time() - began == pytest.approx(3)


def timers(clock: SimulatedClock, count: int) -> list[tuple[Timer, Bell]]:
    bells = [Bell() for _ in range(count)]
    return [(clock.timer(bell), bell) for bell in bells]


@in_virtual_time
async def test_a_timer_rings_when_its_instant_comes_wherever_it_was_moved_meanwhile() -> None:
    clock = SimulatedClock(rate=2)
    rang: dict[int, float] = {}

    async def wait(number: int, timer: Timer) -> None:
        await timer.wait()
        rang[number] = trio.current_time()

    made = timers(clock, 4)
    async with trio.open_nursery() as nursery:
        for number, (timer, _) in enumerate(made):
            timer.move(8)
            nursery.start_soon(wait, number, timer)
        await trio.sleep(1)
        made[0][0].move(4)  # earlier
        made[1][0].move(20)  # later: the first call finds nothing to ring for
        made[2][0].move(4)
        made[2][0].move(12)  # both
        made[3][1].ring()  # by hand
    assert rang == {3: 1, 0: 2, 2: 6, 1: 10}


@in_virtual_time
async def test_a_timer_follows_its_clock() -> None:
    clock = SimulatedClock()
    ((timer, _),) = timers(clock, 1)
    timer.move(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timer.wait)
        await trio.sleep(2)
        clock.set_rate(4)
    assert trio.current_time() == pytest.approx(4)
    timer.move(clock.now() + 4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timer.wait)
        clock.freeze(until=9)
    assert trio.current_time() == 9


@in_virtual_time
async def test_a_timer_whose_instant_nobody_awaits_rings_no_bell() -> None:
    clock = SimulatedClock()
    ((timer, bell),) = timers(clock, 1)
    timer.move(1)
    with trio.move_on_after(0.5):
        await timer.wait()
    await trio.sleep(2)
    with trio.move_on_after(5) as scope:
        await bell.wait()
    assert scope.cancelled_caught
    before = trio.current_time()
    await timer.wait()  # its instant is long over
    assert trio.current_time() == before
