"""Runs in virtual time: equal for equal seeds, and the private switch of Trio still works."""

from __future__ import annotations

import gc
import random
import time
from functools import partial

import pytest
import trio
import trio.testing
from trio._core import _run as scheduler

from trioraft.testing import seeded_run
from trioraft.testing._runs import time_reader, virtual_clock


async def race(count: int = 8) -> list[int]:
    """Tasks that are all woken at once: the scheduler alone says in which order."""
    order: list[int] = []
    start = trio.Event()

    async def runner(number: int) -> None:
        await start.wait()
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(runner, number)
        await trio.sleep(1)
        start.set()
    return order


def test_the_switch_that_makes_trio_deterministic_is_still_there() -> None:
    """A canary: the name is private, and without it no seed means anything."""
    assert hasattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING")
    assert isinstance(scheduler._r, random.Random)
    assert hasattr(scheduler.GLOBAL_RUN_CONTEXT, "__dict__")


@pytest.mark.unmeasured
def test_equal_seeds_make_equal_orders_and_others_make_others() -> None:
    orders = [seeded_run(seed, race) for seed in range(30)]
    assert orders == [seeded_run(seed, race) for seed in range(30)]
    assert len({tuple(order) for order in orders}) > 25


def test_what_happened_before_makes_no_difference() -> None:
    first = seeded_run(5, race)
    scheduler._r.random()
    junk = [object() for _ in range(1000)]
    assert seeded_run(5, race) == first
    del junk


def test_time_begins_at_zero_and_jumps() -> None:
    async def main() -> float:
        assert trio.current_time() == 0
        await trio.sleep(86_400)
        return trio.current_time()

    began = time.monotonic()
    assert seeded_run(1, main) == 86_400
    assert time.monotonic() - began < 60


def test_time_stands_still_while_anything_can_run() -> None:
    async def main() -> None:
        with trio.move_on_after(1) as scope:
            for _ in range(1000):
                await trio.lowlevel.checkpoint()
            assert trio.current_time() == 0
        assert not scope.cancelled_caught

    seeded_run(1, main)


def test_waiting_for_all_tasks_to_block_does_not_move_the_clock() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 5)
            await trio.testing.wait_all_tasks_blocked()
            assert trio.current_time() == 0
        assert trio.current_time() == 5

    seeded_run(1, main)


def test_garbage_is_collected_before_and_not_during_a_run() -> None:
    async def main() -> bool:
        return gc.isenabled()

    assert gc.isenabled()
    assert not seeded_run(1, main)
    assert gc.isenabled()
    gc.disable()
    try:
        assert not seeded_run(1, main)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_main_raises_comes_out() -> None:
    async def main() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        seeded_run(1, main)
    assert gc.isenabled()


def test_the_runner_that_the_clock_looks_into_is_as_it_expects() -> None:
    """A canary like the first one: what nothing comes from, or goes to, need not be asked."""

    async def main() -> None:
        await trio.sleep(1)
        runner = scheduler.GLOBAL_RUN_CONTEXT.runner
        assert runner.io_manager.statistics().tasks_waiting_read == 1  # Trio's own
        assert len(runner.runq) == 0
        assert len(runner.waiting_for_idle) == 0

    seeded_run(1, main)


def test_what_comes_from_outside_is_noticed_all_the_same() -> None:
    """Now and then while tasks run, and at once when nothing else could ever happen."""

    async def idle() -> None:
        await trio.to_thread.run_sync(int)

    async def busy() -> None:
        async with trio.open_nursery() as nursery:
            done = trio.Event()

            async def spin() -> None:
                while not done.is_set():
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(spin)
            await trio.to_thread.run_sync(int)
            done.set()

    seeded_run(1, idle)
    seeded_run(1, busy)


def test_time_passes_over_calls_that_wake_nobody() -> None:
    async def main() -> list[float]:
        clock, called = virtual_clock(), []
        assert clock is not None
        for instant in (3.0, 1.0, 2.0):
            clock.call_at(instant, partial(called.append, instant))
        await trio.sleep(2.5)
        assert called == [1.0, 2.0]
        await trio.sleep(2.5)
        return called

    assert seeded_run(1, main) == [1.0, 2.0, 3.0]


async def test_outside_of_a_seeded_run_there_is_no_clock_of_its_own() -> None:
    assert virtual_clock() is None
    assert time_reader() is trio.current_time
