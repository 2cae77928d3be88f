"""`python -m trioraft.testing`: the simulation from the command line."""

from __future__ import annotations

import argparse
import os
import sys
import time

from trioraft.testing._experiment import library, trial_of_argument
from trioraft.testing._fuzz import fuzz, report_of, shortened
from trioraft.testing._plan import PROFILES
from trioraft.testing._simulation import play
from trioraft.testing._telling import story, summary

EXITS = "exit codes: 0 nothing was found; 1 a seed fails; 2 the command makes no sense"


def main(arguments: list[str] | None = None) -> int:
    """Run a command, and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trioraft.testing",
        description="Simulated clusters, against which this library is tested.",
        epilog=EXITS,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("fuzz", help="run seed after seed", epilog=EXITS)
    run.add_argument("--minutes", type=float, help="how long; without it, --seeds says how many")
    run.add_argument("--seeds", type=_positive, help="how many (default: 100 without --minutes)")
    run.add_argument("--first", type=int, help="the first seed (default: drawn from the time)")
    run.add_argument("--jobs", type=_positive, default=os.cpu_count(), help="processes")
    again = commands.add_parser("replay", help="run one trial again, and tell all", epilog=EXITS)
    again.add_argument("trial", type=trial_of_argument, help="a seed, or what a report printed")
    for command in (run, again):
        command.add_argument("--profile", choices=sorted(PROFILES), default="harsh")
    given = parser.parse_args(arguments)
    return _fuzz(given) if given.command == "fuzz" else _replay(given)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than one")
    return number


def _fuzz(given: argparse.Namespace) -> int:
    first = time.time_ns() // 1_000_000 if given.first is None else given.first
    seeds = 100 if given.seeds is None and given.minutes is None else given.seeds
    began = time.monotonic()
    reports, failures = fuzz(
        profile=given.profile, first=first, seeds=seeds, minutes=given.minutes, jobs=given.jobs
    )
    sys.stdout.write(f"{report_of(reports, time.monotonic() - began)}\n")
    for failed in failures:
        sys.stdout.write(f"\n{shortened(given.profile, failed.seed)}\n")
    return 1 if failures else 0


def _replay(given: argparse.Namespace) -> int:
    report = play(library(PROFILES[given.profile]).scenario(given.trial))
    lines = [*story(report, len(report.story)), "", summary([report]), f"digest: {report.digest}"]
    if report.failure is not None:
        lines += ["", f"{type(report.failure).__name__}: {report.failure}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if report.failure is None else 1


if __name__ == "__main__":
    sys.exit(main())
