"""What was measured stays in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import plot
from benchmarks.growth import AXES, Growth
from benchmarks.results import Results, read

LINES = [
    {"part": part, "at": at, "rate": 10.0 * at, "p99": 1.0, "memory": 50.0}
    for part in ("value", "servers")
    for at in (0, 1, 100)
]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    for line in LINES:
        results.add(**line)
    assert results.lines == LINES
    assert read([tmp_path / "results.jsonl", tmp_path / "results.jsonl"]) == LINES * 2


def test_every_part_of_growth_can_be_measured() -> None:
    for part in AXES:
        assert callable(getattr(Growth, part))


def test_a_picture_of_what_grows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot.growth([*LINES, LINES[0] | {"part": "fault", "at": "one dead"}], AXES, tmp_path / "a.svg")
    assert AXES["value"] in (tmp_path / "a.svg").read_text()
