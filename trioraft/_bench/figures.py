"""Figures of one measurement, and tables of them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MIB: Final = 1 << 20


@frozen
class Point:
    """What came of one closed loop: so many callers, each asking again once it has its answer."""

    what: str
    in_flight: int
    rate: float
    """Operations a second."""
    p50: float
    """Milliseconds."""
    p99: float
    """Milliseconds."""
    longest: float
    """Milliseconds."""
    nodes: float
    """Microseconds of CPU that all servers took, for each operation; NaN: not known here."""
    leader: float
    """Microseconds of CPU that the leader took, for each operation."""
    client: float
    """Microseconds of CPU that the callers' process took, for each operation; NaN: it was the
    leader's own."""
    memory: float
    """Mebibytes of memory that the leader has in use."""
    errors: int
    """How many operations were refused, or came to nothing."""
    elections: int
    """By how many the term rose meanwhile."""


COLUMNS: Final = (
    *(("", -22), ("in flight", 9), ("/s", 8), ("p50 ms", 8), ("p99 ms", 8)),
    *(("CPU µs: all nodes", 17), ("leader", 7), ("client", 7), ("leader MiB", 10)),
)
"""The heading of each column and its width; negative: to the left."""


def heading() -> str:
    """The line above all rows."""
    return _line([name for name, _ in COLUMNS])


def row(point: Point) -> str:
    """A point as a line under `heading`; what went wrong stands at its end."""
    cells = [
        point.what,
        str(point.in_flight),
        _number(point.rate, 0),
        _number(point.p50, 2),
        _number(point.p99, 2),
        *(_number(value, 1) for value in (point.nodes, point.leader, point.client)),
        _number(point.memory, 0),
    ]
    odd = [(point.errors, "errors"), (point.elections, "elections")]
    return _line([*cells, *(f"  {count} {name}" for count, name in odd if count)])


def as_json(point: Mapping[str, Any]) -> dict[str, Any]:
    """Fields for JSON, which has no NaN."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in point.items()
    }


def _line(cells: Sequence[str]) -> str:
    widths = [width for _, width in COLUMNS]
    widths += [0] * (len(cells) - len(widths))
    aligned = (
        cell.ljust(-width) if width < 0 else cell.rjust(width)
        for cell, width in zip(cells, widths, strict=True)
    )
    return " ".join(aligned).rstrip() + "\n"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value below which so much of a sorted sequence lies; NaN of an empty one."""
    if not ordered:
        return math.nan
    return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, user and system; NaN where `/proc` does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return math.nan
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_mib(pid: int) -> float:
    """What a process has in memory; NaN where `/proc` does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return math.nan
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB
