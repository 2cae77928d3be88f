"""trioraft beside other systems on this machine: `python -m benchmarks.compare`.

Each load is put on one system after the other, each of them started anew for it and ended before
the next, round by round, so that whatever else befalls the machine befalls all of them.  What
counts are the ratios within a round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from benchmarks import plot, recovery
from benchmarks.anchors import System, failed_over, installed, measured
from benchmarks.quiet import Others, quiet
from benchmarks.ratios import (
    GOALS,
    OURS,
    Key,
    goals_table,
    medians_table,
    outcome,
    rounds,
    table,
)
from benchmarks.results import Results, read
from trioraft._bench.cluster import Load
from trioraft._bench.figures import as_json

DISTURBED: Final = 0.35
"""Cores that are busy with other things while a point is measured: then it does not count."""
ATTEMPTS: Final = 3
"""How often a point is measured that others disturb."""

_INSIDE: Final = ("trioraft", "hashicorp", "pysyncobj", "pysyncobj at once")
STEPS: Final[Mapping[str, list[Key]]] = {
    "commits": [
        Key(system, "put", in_flight)
        for in_flight in (1, 8, 64, 256, 1024)
        for system in ("etcd", OURS)
    ],
    "large": [
        Key(system, "put", in_flight, value=4096)
        for in_flight in (1, 8, 64, 256, 1024)
        for system in ("etcd", OURS)
    ],
    "eight": [Key(OURS, "put", in_flight, clients=8) for in_flight in (64, 1024)],
    "single": [Key(OURS, "single", in_flight) for in_flight in (64, 1024)],
    "inside": [
        *(Key(system, "inside", in_flight) for in_flight in (64, 1024) for system in _INSIDE),
        Key("pysyncobj", "inside", 16384),
    ],
    "reads": [
        Key(system, what, in_flight)
        for in_flight in (64, 1024)
        for system, what in (("etcd", "linearizable"), (OURS, "linearizable"), (OURS, "lease"))
    ],
}
PARTS: Final = (*STEPS, "failover", "recovery")
FAILOVER_GOALS: Final = (0.3, 0.8)
"""Seconds: the median, and the worst."""


class Comparison:
    """All systems that are installed, and how they are measured."""

    def __init__(self, given: argparse.Namespace, systems: Mapping[str, System]) -> None:
        self._given = given
        self._systems = systems
        self.results = Results(given.out)

    async def run(self, parts: list[str]) -> None:
        """Measure all parts, round by round."""
        steps = [step for part in parts for step in STEPS.get(part, ())]
        for number in range(self._given.rounds):
            for key in steps:
                if key.system in self._systems:
                    seconds = self._given.seconds
                    load = Load(key.what, key.in_flight, seconds, key.value, key.clients)
                    await self._point(number, self._systems[key.system], load)
        if "failover" in parts:
            await self._failover()
        if "recovery" in parts:
            with tempfile.TemporaryDirectory(dir=self._given.scratch) as directory:
                told = await trio.to_thread.run_sync(
                    recovery.measure, Path(directory), recovery.ENTRIES
                )
            self.results.add(kind="recovery", **told)

    async def _point(self, number: int, system: System, load: Load) -> None:
        for _ in range(ATTEMPTS):
            async with self._quietly() as (directory, others):
                point = await measured(system, directory, load)
            cores = others()
            if cores <= DISTURBED:
                break
        line = {"system": system.name, "round": number, "others": cores}
        line |= {"clients": load.clients, "value": load.value}
        self.results.add(kind="point", **line, **as_json(attrs.asdict(point)))
        say(
            f"{number + 1}: {system.name}, {load.what}, {load.in_flight} in flight, "
            f"{load.value} bytes: "
            f"{point.rate:.0f}/s, p50 {point.p50:.2f} ms"
            + f" ({cores:.1f} cores busy with other things)"
            * (cores > DISTURBED)
        )

    async def _failover(self) -> None:
        for trial in range(self._given.failover):
            for name in ("etcd", "trioraft", "hashicorp", "pysyncobj"):
                # Others need no more trials than it takes to see what they do.
                if name in self._systems and (trial < 5 or name == "trioraft"):
                    async with self._quietly() as (directory, _):
                        seconds = await failed_over(self._systems[name], directory)
                    self.results.add(kind="failover", system=name, seconds=seconds)
                    say(f"{trial + 1}: {name}, failover: {seconds:.3f} s")

    @asynccontextmanager
    async def _quietly(self) -> AsyncGenerator[tuple[Path, Callable[[], float]]]:
        """A directory for servers, once this machine has nothing else to do."""
        with trio.move_on_after(self._given.patience):
            await quiet()
        others = Others()
        with tempfile.TemporaryDirectory(dir=self._given.scratch) as directory:
            yield Path(directory), others.cores


def report(lines: list[dict[str, Any]], picture: Path | None) -> str:
    """All tables; draws the picture."""
    points = rounds(lines)
    quiet_ones = rounds(lines, DISTURBED)
    told = [medians_table(points), "\n"] if points else []
    outcomes = [
        found
        for goal in GOALS
        if (found := outcome(goal, quiet_ones) or outcome(goal, points)) is not None
    ]
    if outcomes:
        told += [goals_table(outcomes), "\n"]
    told += [_failovers(lines), _recoveries(lines)]
    if picture is not None and outcomes and plot.is_possible():
        plot.ratios(outcomes, picture)
    return "".join(told)


def _failovers(lines: list[dict[str, Any]]) -> str:
    found: dict[str, list[float]] = {}
    for line in lines:
        if line["kind"] == "failover":
            found.setdefault(line["system"], []).append(line["seconds"])
    rows = [["failover", "median s", "worst s", "of"]]
    for name, trials in found.items():
        cells = f"{statistics.median(trials):.3f}", f"{max(trials):.3f}", str(len(trials))
        rows.append([name, *cells])
    rows.append(["goal", *(f"<= {goal:g}" for goal in FAILOVER_GOALS), ""])
    return table(rows) + "\n" if found else ""


def _recoveries(lines: list[dict[str, Any]]) -> str:
    return "".join(recovery.told(line) for line in lines if line["kind"] == "recovery")


def say(text: str) -> None:
    """How far this has come."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    option = parser.add_argument
    option("--only", default=",".join(PARTS), metavar="PART,...", help="(%(default)s)")
    option("--rounds", type=int, default=5, help="(%(default)s)")
    option("--seconds", type=float, default=3.0, help="of each load (%(default)s)")
    option("--failover", type=int, default=20, metavar="TRIALS", help="(%(default)s)")
    option("--patience", type=float, default=60.0, help="seconds to wait for a quiet machine")
    option("--systems", metavar="NAME,...", help="no others than these")
    option("--scratch", type=Path, help="a directory on the disk to measure")
    option("--cache", type=Path, default=Path(tempfile.gettempdir()) / "trioraft-anchors")
    option("--pysyncobj", default=sys.executable, metavar="PYTHON", help="that has PySyncObj")
    option("--out", type=Path, metavar="FILE", help="append what is measured, as JSON lines")
    option("--read", type=Path, nargs="+", metavar="FILE", help="measure nothing, read these")
    option("--plot", type=Path, metavar="FILE.svg", help="draw the ratios, if matplotlib is there")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {unknown.pop()!r}")
    if given.read:
        print(report(read(given.read), given.plot), end="")
        return
    systems, missing = installed(given.cache, given.pysyncobj)
    for why in missing:
        say(f"skipped: {why}")
    if given.systems is not None:
        systems = {name: systems[name] for name in given.systems.split(",") if name in systems}
    comparison = Comparison(given, systems)
    try:
        trio.run(comparison.run, parts)
    finally:
        print(report(comparison.results.lines, given.plot), end="")


if __name__ == "__main__":
    main()
