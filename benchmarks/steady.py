"""Full load for minutes: does the leader stay?  `python -m benchmarks.steady --minutes 10`.

Prints a line for each stretch of some seconds, and at the end how often another server led, how
long the longest wait was, and what was refused.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import attrs
import trio

from trioraft._bench.cluster import Load, cluster
from trioraft._bench.figures import heading, row


async def run(given: argparse.Namespace) -> int:
    """Keep the load up; the number of elections."""
    load = Load("put", given.in_flight, given.seconds, given.value, given.clients)
    elections = errors = 0
    longest = 0.0
    print(heading(), end="")
    with tempfile.TemporaryDirectory(dir=given.dir) as directory:
        async with cluster(Path(directory), given.servers) as servers:
            began = time.perf_counter()
            while (at := time.perf_counter() - began) < 60 * given.minutes:
                point = await servers.measure(load)
                elections, errors = elections + point.elections, errors + point.errors
                longest = max(longest, point.longest)
                title = f"after {at:.0f} s"
                print(row(attrs.evolve(point, what=title)), end="", flush=True)
    print(f"{elections} elections, {errors} errors, the longest wait was {longest:.0f} ms")
    return elections


def main() -> None:
    """Measure; fails if the leader did not stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    option = parser.add_argument
    option("--minutes", type=float, default=10.0, help="(%(default)s)")
    option("--seconds", type=float, default=10.0, help="of a stretch (%(default)s)")
    option("--in-flight", type=int, default=1024, help="(%(default)s)")
    option("--clients", type=int, default=1, help="(%(default)s)")
    option("--value", type=int, default=128, metavar="BYTES", help="(%(default)s)")
    option("--servers", type=int, default=3, help="(%(default)s)")
    option("--dir", help="on the disk to measure")
    raise SystemExit(1 if trio.run(run, parser.parse_args()) else 0)


if __name__ == "__main__":
    main()
