"""What figures come to beside those of other systems."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmarks.compare import DISTURBED, report
from benchmarks.ratios import (
    GOALS,
    OURS,
    Goal,
    Key,
    Outcome,
    goals_table,
    medians_table,
    outcome,
    rounds,
    short,
    table,
)

MINE = Key(OURS, "put", 64)
OTHER = Key("other", "put", 64)
FASTER = Goal("faster", "rate", (MINE,), (OTHER,), 2.0)
SOONER = Goal("sooner", "p50", (MINE,), (OTHER,), 0.5, more=False)


def point(system: str, number: int, rate: float, p50: float = 1.0, **more: Any) -> dict[str, Any]:
    figures = {"rate": rate, "p50": p50, "p99": 2.0, "nodes": 10.0, "leader": 5.0, "client": None}
    of = {"kind": "point", "system": system, "round": number, "what": "put", "in_flight": 64}
    return {**of, "clients": 1, "value": 128, "others": 0.0, **figures, "memory": 50.0, **more}


LINES = [
    *(point(OURS, number, rate) for number, rate in enumerate((300, 100, 250))),
    *(point("other", number, rate, 4.0) for number, rate in enumerate((100, 100, 100))),
    {"kind": "failover", "system": OURS, "seconds": 0.2},
    {"kind": "failover", "system": OURS, "seconds": 0.4},
]


def test_ratios_are_those_of_a_round() -> None:
    assert outcome(FASTER, rounds(LINES)) == Outcome(FASTER, 250, 100, 2.5, 1.0, 3.0)


def test_less_may_be_better() -> None:
    found = outcome(SOONER, rounds(LINES))
    assert found is not None
    assert (found.ratio, found.is_met) == (0.25, True)


def test_a_round_in_which_only_one_was_measured_does_not_count() -> None:
    lines = [point(OURS, 0, 300), point(OURS, 1, 100), point("other", 1, 100)]
    assert outcome(FASTER, rounds(lines)) == Outcome(FASTER, 100, 100, 1.0, 1.0, 1.0)
    assert outcome(FASTER, rounds(lines[:1])) is None


def test_the_best_of_several_counts() -> None:
    more = Key("other", "put", 1024)
    goal = Goal("best", "rate", (MINE,), (OTHER, more), 2.0)
    found = outcome(goal, rounds([*LINES, point("other", 0, 600, in_flight=1024)]))
    assert found is not None
    assert (found.least, found.most, found.is_met) == (0.5, 2.5, False)


def test_what_nobody_knows_is_not_compared() -> None:
    assert outcome(Goal("", "client", (MINE,), (OTHER,), 1.0), rounds(LINES)) is None


def test_what_others_have_disturbed_is_left_out() -> None:
    lines = [*LINES, point(OURS, 3, 9, others=1.0)]
    assert 3 in rounds(lines)[MINE]
    assert 3 not in rounds(lines, DISTURBED)[MINE]


def test_tables() -> None:
    assert table([["", "b"], ["long", "1"]]) == "      b\nlong  1\n"
    found = outcome(FASTER, rounds(LINES))
    assert found is not None
    assert goals_table([found]).splitlines()[1].split() == [
        *("faster", "250", "100", "2.50x", "1.00..3.00", ">=", "2x", "met"),
    ]
    row = medians_table(rounds(LINES)).splitlines()[2].split()
    assert row == ["trioraft,", "put", "64", "250", "1", "2", "10", "5", "-", "50", "3"]


def test_a_report() -> None:
    told = report([*LINES, point("etcd", 0, 100)], None)
    assert "commits/s, one client : etcd, 64 in flight" in told
    assert ["trioraft", "0.300", "0.400", "2"] in [line.split() for line in told.splitlines()]
    assert report([], None) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1234"), (12.345, "12.3"), (0.1, "0.1"), (math.nan, "-")]
)
def test_short(value: float, text: str) -> None:
    assert short(value) == text


def test_goals_name_what_is_measured() -> None:
    from benchmarks.compare import STEPS

    measured = {key for steps in STEPS.values() for key in steps}
    for goal in GOALS:
        assert {*goal.ours, *goal.theirs} <= measured, goal.title
