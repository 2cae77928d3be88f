"""What was measured, and what it comes to beside other systems and the goals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

OURS: Final = "trioraft"


@frozen
class Key:
    """What a figure is of."""

    system: str
    what: str
    in_flight: int
    clients: int = 1
    value: int = 128
    """Bytes."""


@frozen
class Goal:
    """How one of our figures is to compare with another system's in the same round."""

    title: str
    field: str
    ours: tuple[Key, ...]
    """The best of these counts."""
    theirs: tuple[Key, ...]
    bound: float
    more: bool = True
    """More is better: the ratio is to be no less than the bound."""


def _beside(
    title: str,
    bounds: Mapping[int, float],
    *,
    field: str = "rate",
    what: str = "put",
    clients: int = 1,
    system: str = "etcd",
    theirs: str = "put",
    more: bool = True,
) -> list[Goal]:
    return [
        Goal(
            f"{title}, {in_flight} in flight",
            field,
            (Key(OURS, what, in_flight, clients),),
            (Key(system, theirs, in_flight),),
            bound,
            more,
        )
        for in_flight, bound in bounds.items()
    ]


BEST_OF_PYSYNCOBJ: Final = (
    Key("pysyncobj", "inside", 1024),
    Key("pysyncobj", "inside", 16384),
    Key("pysyncobj at once", "inside", 64),
    Key("pysyncobj at once", "inside", 1024),
)

GOALS: Final[tuple[Goal, ...]] = (
    *_beside("commits/s, one client : etcd", {64: 2.5, 256: 4.5, 1024: 6}),
    *_beside("commits/s, eight clients : etcd", {64: 1.2, 1024: 4.5}, clients=8),
    *_beside("commits/s, one a message : etcd", {64: 0.7, 1024: 0.6}, what="single"),
    *_beside(
        "commits/s, in the leader : hashicorp",
        {64: 3.5, 1024: 4},
        what="inside",
        system="hashicorp",
        theirs="inside",
    ),
    *_beside(
        "commits/s, in the leader : PySyncObj",
        {64: 40, 1024: 12},
        what="inside",
        system="pysyncobj",
        theirs="inside",
    ),
    Goal(
        "commits/s, best : PySyncObj's best",
        "rate",
        (Key(OURS, "inside", 64), Key(OURS, "inside", 1024), Key(OURS, "put", 1024)),
        BEST_OF_PYSYNCOBJ,
        2,
    ),
    *_beside(
        "p50, one client : etcd", {1: 1.8, 8: 0.8, 64: 0.4, 1024: 0.18}, field="p50", more=False
    ),
    *_beside("CPU of all nodes : etcd", {1: 1.7, 64: 0.3, 1024: 0.12}, field="nodes", more=False),
    *_beside(
        "linearizable reads/s, one client : etcd",
        {1024: 5},
        what="linearizable",
        theirs="linearizable",
    ),
)

Rounds = Mapping[Key, Mapping[int, Mapping[str, Any]]]
"""What was measured of each, by round."""


def rounds(lines: Iterable[Mapping[str, Any]], disturbed: float = math.inf) -> Rounds:
    """Sort points by what they are of.

    Those that others have disturbed are left out: more than so many cores were busy with other
    things.
    """
    found: dict[Key, dict[int, Mapping[str, Any]]] = {}
    for line in lines:
        if line["kind"] == "point" and line["others"] <= disturbed:
            of = (line[name] for name in ("system", "what", "in_flight", "clients", "value"))
            key = Key(*of)
            found.setdefault(key, {})[line["round"]] = line
    return found


@frozen
class Outcome:
    """What a goal has come to; medians, and the spread of the ratio over all rounds."""

    goal: Goal
    ours: float
    theirs: float
    ratio: float
    least: float
    most: float

    @property
    def is_met(self) -> bool:
        """Whether the median is on the right side of the bound."""
        return self.ratio >= self.goal.bound if self.goal.more else self.ratio <= self.goal.bound


def outcome(goal: Goal, measured: Rounds) -> Outcome | None:
    """Compare, round by round; None: there is no round in which both were measured."""
    ours = _best(goal, goal.ours, measured)
    theirs = _best(goal, goal.theirs, measured)
    both = sorted(set(ours) & set(theirs))
    ratios = [ours[number] / theirs[number] for number in both if theirs[number]]
    if not ratios:
        return None
    return Outcome(
        goal,
        statistics.median(ours[number] for number in both),
        statistics.median(theirs[number] for number in both),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
    )


def _best(goal: Goal, keys: Sequence[Key], measured: Rounds) -> dict[int, float]:
    """The best figure of each round."""
    found: dict[int, float] = {}
    better = max if goal.more else min
    for key in keys:
        for number, point in measured.get(key, {}).items():
            value = point[goal.field]
            if value is not None:
                found[number] = better(found.get(number, value), value)
    return found


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns that stand under each other: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        + "\n"
        for row in rows
    )


def goals_table(outcomes: Sequence[Outcome]) -> str:
    """All ratios beside their goals."""
    rows = [["", "ours", "theirs", "ratio", "min..max", "goal", ""]]
    rows += [
        [
            each.goal.title,
            short(each.ours),
            short(each.theirs),
            f"{each.ratio:.2f}x",
            f"{each.least:.2f}..{each.most:.2f}",
            f"{'>=' if each.goal.more else '<='} {each.goal.bound:g}x",
            "met" if each.is_met else "missed",
        ]
        for each in outcomes
    ]
    return table(rows)


FIGURES: Final = ("rate", "p50", "p99", "nodes", "leader", "client", "memory")


def medians_table(measured: Rounds) -> str:
    """The median of each figure of each system."""
    rows = [
        ["", "in flight", "/s", "p50 ms", "p99 ms", "nodes µs", "leader", "client", "MiB", "of"]
    ]
    for key, points in sorted(measured.items(), key=lambda item: _order(item[0])):
        title = f"{key.system}, {key.what}" + (f", {key.clients} clients" * (key.clients > 1))
        title += f", {key.value} bytes" * (key.value != 128)
        cells = [short(median(point[name] for point in points.values())) for name in FIGURES]
        rows.append([title, str(key.in_flight), *cells, str(len(points))])
    return table(rows)


def _order(key: Key) -> tuple[str, int, int, str, int]:
    return key.what, key.value, key.clients, key.system, key.in_flight


def median(values: Iterable[float | None]) -> float:
    """Of those that are known; NaN: of none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else math.nan


def short(value: float) -> str:
    """Three or more digits."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
