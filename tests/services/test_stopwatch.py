"""How long a machine holds up everything else: measured each time, complained of now and then."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from trioraft._clock import Clock
from trioraft._events import SlowMachine
from trioraft._stopwatch import Stopwatch

ENOUGH = 0.05


def calls(watch: Stopwatch, clock: MockClock, what: str, *seconds: float) -> None:
    for each in seconds:
        with watch.timing(what):
            clock.jump(each)


async def test_each_slow_call_is_told_and_one_in_each_doubling_is_complained_of(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[SlowMachine] = []
    watch = Stopwatch(Clock(), ENOUGH, told.append)
    calls(watch, mock_clock, "apply", 0.01, 0.06, 0.1, 0.06, 0.2, 0.3, 0.5)
    assert [round(event.value, 6) for event in told] == [0.06, 0.1, 0.06, 0.2, 0.3, 0.5]
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [message.split(":")[0] for message in warned] == [
        f"the machine's apply() took {seconds} s" for seconds in ("0.06", "0.2", "0.5")
    ]


async def test_each_kind_of_call_is_complained_of_for_itself(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Stopwatch(Clock(), ENOUGH, lambda event: None)
    calls(watch, mock_clock, "save", 1.0)
    calls(watch, mock_clock, "recover", 0.1)
    assert ["save" in caplog.messages[0], "recover" in caplog.messages[1]] == [True, True]


async def test_a_call_that_raises_is_measured_too(mock_clock: MockClock) -> None:
    told: list[SlowMachine] = []
    watch = Stopwatch(Clock(), ENOUGH, told.append)
    with pytest.raises(ValueError, match="no"), watch.timing("save"):
        mock_clock.jump(1.0)
        raise ValueError("no")
    assert len(told) == 1


async def test_others_have_their_turn_after_a_while(mock_clock: MockClock) -> None:
    watch = Stopwatch(Clock(), ENOUGH, lambda event: None)
    with watch.timing("apply"):
        assert not watch.turn_is_over
        mock_clock.jump(0.02)
        assert watch.turn_is_over
    with watch.timing("apply"):
        assert not watch.turn_is_over
    await trio.lowlevel.checkpoint()
