"""How much a message may hold follows from how quickly the ones before it were answered."""

from __future__ import annotations

import pytest

from trioraft._limits import MAX_APPEND_BYTES
from trioraft._pace import LEAST, START, Pace

QUICK, LATE = 0.05, 0.15


@pytest.fixture
def pace() -> Pace:
    return Pace(QUICK, LATE)


def exchange(pace: Pace, seconds: float, *sizes: int, first: int = 1) -> int:
    for number, size in enumerate(sizes, first):
        pace.sent(number, size)
    pace.answered(first + len(sizes) - 1, seconds)
    return pace.bytes


def test_a_good_line_is_at_full_speed_within_five_answers(pace: Pace) -> None:
    for number in range(1, 6):
        exchange(pace, 0.01, pace.bytes, first=number)
    assert pace.bytes == MAX_APPEND_BYTES
    assert exchange(pace, 0.01, pace.bytes, first=6) == MAX_APPEND_BYTES


def test_small_messages_prove_nothing(pace: Pace) -> None:
    assert exchange(pace, 0.001, 0, 10, START // 2 - 1) == START


def test_the_largest_of_what_was_answered_together_counts(pace: Pace) -> None:
    assert exchange(pace, 0.001, 1, START // 2, 1) == 2 * START


@pytest.mark.parametrize(
    ("seconds", "becomes"),
    [(QUICK, 2 * START), (0.051, START), (0.149, START), (LATE, START // 2), (9.0, START // 2)],
)
def test_late_answers_slow_it_down_and_middling_ones_do_not(
    pace: Pace, seconds: float, becomes: int
) -> None:
    assert exchange(pace, seconds, START) == becomes


def test_a_stream_that_breaks_with_something_on_it_slows_it_down(pace: Pace) -> None:
    pace.broke()
    assert pace.bytes == START
    pace.sent(1, 10)
    pace.broke()
    assert pace.bytes == START // 2
    pace.broke()
    assert pace.bytes == START // 2, "nothing was on its way"


def test_it_never_falls_below_the_least(pace: Pace) -> None:
    for number in range(20):
        exchange(pace, 1.0, pace.bytes, first=number)
    assert pace.bytes == LEAST


def test_one_that_begins_with_less_than_the_least_is_not_made_larger_by_a_slow_line() -> None:
    pace = Pace(1.0, 2.0, 100)
    pace.sent(1, 100)
    pace.answered(1, 3.0)
    assert pace.bytes == 100
