"""What is counted of a load, and how it is shown."""

from __future__ import annotations

import math
import os

import pytest

from trioraft._bench.figures import (
    COLUMNS,
    Point,
    as_json,
    cpu_seconds,
    heading,
    memory_mib,
    percentile,
    row,
)

POINT = Point(
    what="put",
    in_flight=64,
    rate=12345.6,
    p50=1.234,
    p99=5.678,
    longest=9.1,
    nodes=25.04,
    leader=12.0,
    client=math.nan,
    memory=64.7,
    errors=0,
    elections=0,
)


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1.0), (50, 3.0), (99, 4.0), (100, 4.0), (25, 2.0)]
)
def test_percentiles(percent: float, value: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], percent) == value


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 50))


def test_a_row_stands_under_its_heading() -> None:
    assert row(POINT).split() == ["put", "64", "12346", "1.23", "5.68", "25.0", "12.0", "-", "65"]
    assert len(row(POINT)) == len(heading()) == sum(abs(w) for _, w in COLUMNS) + len(COLUMNS)


def test_what_went_wrong_is_told() -> None:
    import attrs

    odd = attrs.evolve(POINT, errors=3, elections=1)
    assert row(odd).rstrip().endswith("  3 errors   1 elections")


def test_json_has_no_nan() -> None:
    assert as_json({"a": math.nan, "b": 1.5, "c": "x"}) == {"a": None, "b": 1.5, "c": "x"}


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_what_a_process_takes() -> None:
    assert cpu_seconds(os.getpid()) > 0
    assert memory_mib(os.getpid()) > 10


def test_what_nobody_knows_of_a_process() -> None:
    nobody = 2**22 + 1
    assert math.isnan(cpu_seconds(nobody))
    assert math.isnan(memory_mib(nobody))
