"""Seed after seed, on all cores, for as long as one likes."""

from __future__ import annotations

import gc
import itertools
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Final

from trioraft.testing._experiment import Trial, library
from trioraft.testing._plan import PROFILES
from trioraft.testing._shorten import shorten
from trioraft.testing._simulation import Report, play
from trioraft.testing._telling import summary, told

_PROGRESS_SECONDS: Final = 10.0
_MOST_FAILURES: Final = 3
"""After so many failing seeds there is enough to look at."""


def fuzz(
    *, profile: str, first: int, seeds: int | None, minutes: float | None, jobs: int
) -> tuple[list[Report], list[Report]]:
    """Run seeds in parallel.

    Args:
        profile: the name of a profile.
        first: the first seed; the others follow it.
        seeds: how many; None: as many as there is time for.
        minutes: of real time, after which no further seed is begun; None: no bound.
        jobs: how many processes.

    Returns:
        All reports in the order of their seeds, without their stories; and those of failures.
    """
    end = None if minutes is None else time.monotonic() + 60 * minutes
    numbers: Iterator[int] = itertools.count(first)
    if seeds is not None:
        numbers = iter(range(first, first + seeds))
    reports: list[Report] = []
    failures: list[Report] = []
    shown = time.monotonic()
    with ProcessPoolExecutor(jobs, initializer=_settle) as pool:
        running: set[Future[Report]] = set()
        while True:
            while len(running) < 2 * jobs and (end is None or time.monotonic() < end):
                seed = next(numbers, None)
                if seed is None or len(failures) >= _MOST_FAILURES:
                    break
                running.add(pool.submit(_one, profile, seed))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                report = future.result()
                reports.append(report)
                if report.failure is not None:
                    failures.append(report)
                    _say(f"seed {report.seed} fails: {_first_line(report)}")
            if time.monotonic() > shown + _PROGRESS_SECONDS:
                shown = time.monotonic()
                _say(f"{len(reports)} seeds, {sum(r.virtual_seconds for r in reports):.0f} s")
    return sorted(reports, key=_seed), sorted(failures, key=_seed)


def shortened(profile: str, seed: int) -> str:
    """What a person needs to know of a failing seed."""
    experiment = library(PROFILES[profile])
    failed = play(experiment.scenario(Trial(seed)))
    if failed.failure is None:
        return f"seed {seed} failed, and does not fail again: something does not replay"
    trial, shortest = shorten(experiment, failed, _say)
    replay = f"python -m trioraft.testing replay --profile {profile} {trial}"
    return told(experiment.scenario(trial), shortest, replay)


def report_of(reports: list[Report], seconds: float) -> str:
    """The summary of a whole fuzzing, with its speed."""
    speed = sum(report.virtual_seconds for report in reports) / seconds
    return f"{summary(reports)}\nin {seconds:.0f} s: {speed:.1f} virtual seconds a second"


def _settle() -> None:
    gc.collect()
    gc.freeze()  # each run begins with a collection, which need not look at the modules


def _one(profile: str, seed: int) -> Report:
    report = play(library(PROFILES[profile]).scenario(Trial(seed)))
    if report.failure is not None:
        report.failure = AssertionError(f"{type(report.failure).__name__}: {report.failure}")
    # The seed brings all of that back.
    report.story, report.history, report.results, report.drawn = [], [], [], []
    return report


def _seed(report: Report) -> int:
    return report.seed


def _first_line(report: Report) -> str:
    return str(report.failure).splitlines()[0]


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
