"""`python -m tests.planted`: plant each bug in turn, and tell what kills it."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.planted.bug import Bug
from tests.planted.bugs import BUGS
from tests.planted.trying import Verdict, tried

WIDTH = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the bugs that are named, or all; exit code 1 if any survives."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.planted",
        description="Plants bugs that real implementations had, and tells what kills each of them.",
        epilog="exit codes: 0 all were killed; 1 some survive; 2 the command makes no sense",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="bugs to plant (default: all)")
    parser.add_argument("--seeds", type=int, default=300, help="the most seeds for each profile")
    parser.add_argument("--jobs", type=int, default=2, help="bugs at a time")
    parser.add_argument("--list", action="store_true", help="tell the bugs, and plant none")
    given = parser.parse_args(arguments)
    known = {bug.name: bug for bug in BUGS}
    unknown = [name for name in given.names if name not in known]
    if unknown:
        parser.error(f"no such bugs: {', '.join(unknown)}")
    bugs = [known[name] for name in given.names] or list(BUGS)
    if given.list:
        for bug in bugs:
            _tell(f"{bug.name} ({bug.file})\n{_indented(bug.story)}")
        return 0
    verdicts = []
    for verdict in _verdicts(bugs, given.seeds, given.jobs):
        _tell(_line(verdict))
        verdicts.append(verdict)
    survivors = [verdict.bug.name for verdict in verdicts if verdict.killed_by is None]
    by_chance = sum(verdict.by_chance for verdict in verdicts)
    killed = len(verdicts) - len(survivors)
    _tell(
        f"\n{len(verdicts)} bugs, {killed} killed: {by_chance} by seeds, "
        f"{killed - by_chance} by directed tests; {len(survivors)} survive"
    )
    if survivors:
        _tell(_indented(", ".join(survivors)))
    return 1 if survivors else 0


def _verdicts(bugs: Sequence[Bug], seeds: int, jobs: int) -> Iterator[Verdict]:
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda bug: tried(bug, seeds), bugs)


def _line(verdict: Verdict) -> str:
    said = verdict.killed_by or verdict.trouble or "NOT KILLED"
    return f"{verdict.bug.name:<38} {verdict.seconds:6.1f} s  {said:.{WIDTH}}"


def _indented(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="    ", subsequent_indent="    ")


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
