"""The time that entries carry: it never falls, whatever wall clocks do."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trioraft._clock import Clock
from trioraft._cluster_time import ClusterTime


class Hands(Clock):
    """A clock that is moved by hand: monotonic seconds, and the wall clock beside them."""

    def __init__(self, now: float = 0.0, utc: float = 0.0) -> None:
        self.monotonic = now
        self.wall = utc

    def now(self) -> float:
        return self.monotonic

    def utc(self) -> float:
        return self.wall


def test_the_first_leader_begins_with_the_wall_clock() -> None:
    clock = Hands(now=100.0, utc=1_790_000_000.0)
    time = ClusterTime(clock)
    time.lead()
    assert time.stamp() == 1_790_000_000.0
    clock.monotonic += 2.5
    assert time.stamp() == 1_790_000_002.5


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_the_wall_clock_may_jump_as_it_likes_afterwards(jump: float) -> None:
    clock = Hands(utc=1_790_000_000.0)
    time = ClusterTime(clock)
    time.lead()
    clock.monotonic, clock.wall = 1.0, 1_790_000_000.0 + jump
    assert time.stamp() == 1_790_000_001.0
    time.lead()
    assert time.stamp() == 1_790_000_001.0


def test_a_later_leader_goes_on_where_the_log_stands_and_asks_no_wall_clock() -> None:
    clock = Hands(now=7.0, utc=5.0)
    time = ClusterTime(clock)
    time.saw(1_790_000_050.0)
    clock.monotonic = 1000.0  # no leader for long: the time stands still
    time.lead()
    assert time.stamp() == 1_790_000_050.0
    clock.monotonic += 1.0
    assert time.stamp() == 1_790_000_051.0


def test_what_another_leader_stamped_is_not_gone_below() -> None:
    clock = Hands(utc=100.0)
    time = ClusterTime(clock)
    time.lead()
    time.saw(500.0)
    clock.monotonic = 1.0
    assert time.stamp() == 500.0
    time.lead()
    clock.monotonic = 2.0
    assert time.stamp() == 501.0


@given(st.data())
@settings(deadline=None)
def test_it_never_falls(data: st.DataObject) -> None:
    clock = Hands(utc=data.draw(st.floats(1, 2e9)))
    time = ClusterTime(clock)
    time.lead()
    newest = 0.0
    for _ in range(data.draw(st.integers(1, 20))):
        match data.draw(st.integers(0, 3)):
            case 0:
                clock.monotonic += data.draw(st.floats(0, 1e6))
            case 1:
                clock.wall = data.draw(st.floats(-2e9, 2e9))
            case 2:
                time.lead()
            case _:
                seen = data.draw(st.floats(0, 4e9))
                time.saw(seen)
                newest = max(newest, seen)
        stamped = time.stamp()
        assert stamped >= newest
        newest = stamped


async def test_trios_clock_is_the_default(autojump_clock: MockClock) -> None:
    clock = Clock()
    before = clock.now()
    await trio.sleep(5)
    assert clock.now() - before == 5
    assert clock.utc() > 1_700_000_000
    with clock.until(clock.now() + 1) as scope:
        clock.move(scope, clock.now() + 2)
        await trio.sleep_forever()
    assert clock.now() - before == 7
    await clock.sleep_until(clock.now() + 3)
    assert clock.now() - before == 10
