"""However many clients talk at once, a pass of the loop stays short."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from trioraft._turns import Turns


class Passes(trio.abc.Instrument):
    """Counts the passes of the loop."""

    def __init__(self) -> None:
        self.count = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_so_many_have_a_turn_in_one_pass_and_all_have_one_in_order() -> None:
    turns, passes = Turns(4), Passes()
    had: list[tuple[int, int]] = []

    async def one(number: int) -> None:
        await turns.take()
        had.append((passes.count, number))

    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(one, number)
        await wait_all_tasks_blocked()
        for number in range(4, 40):
            nursery.start_soon(one, number)
            await wait_all_tasks_blocked()
        assert len(had) == 4, "nobody gives out new ones yet"
        nursery.start_soon(turns.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(passes)
    together = [{number for when, number in had if when == one} for one, _ in had]
    assert sorted(number for _, number in had) == list(range(40))
    assert all(max(some) - min(some) < 8 for some in together), "nobody overtakes by far"
    by_pass = [sum(1 for when, _ in had if when == one) for one in {when for when, _ in had}]
    assert max(by_pass) <= 4


async def test_who_asks_again_and_again_overtakes_nobody() -> None:
    turns, passes = Turns(4), Passes()
    waited: list[int] = []

    async def hog() -> None:
        while True:
            await turns.take()

    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        for _ in range(20):
            nursery.start_soon(hog)
        for _ in range(20):
            before = passes.count
            await turns.take()
            waited.append(passes.count - before)
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(passes)
    assert max(waited) <= 8, "all twenty before it, four at a time, and a pass or two"


async def test_who_is_cancelled_while_waiting_takes_nothing() -> None:
    turns = Turns(1)
    async with trio.open_nursery() as nursery:
        await turns.take()
        with trio.move_on_after(0) as scope:
            await turns.take()
        assert scope.cancelled_caught
        nursery.start_soon(turns.run)
        for _ in range(3):
            with trio.fail_after(1):
                await turns.take()
        nursery.cancel_scope.cancel()
