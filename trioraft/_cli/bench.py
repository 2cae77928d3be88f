"""`trioraft bench`: what a cluster does on this machine."""

from __future__ import annotations

import argparse
import json
import math
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from trioraft._bench.cluster import Cluster, Load, cluster
from trioraft._bench.figures import as_json, heading, row
from trioraft._cli.common import Unusable, complain, say
from trioraft._transport.conversation import bare_errors

_ABOUT: Final = """\
Start a cluster on this machine, each server a process with the key-value recipe, default settings
and its log on this disk, and measure what callers get out of it.  Each caller asks again once it
has its answer.  The servers and the callers share the machine: have nothing else run meanwhile,
and compare ratios.
"""
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "commits": ("put",),
    "reads": ("linearizable", "lease"),
    "inside": ("inside",),
    "single": ("single",),
}
"""What can be measured under load, and what the callers then ask for."""

_FAILOVER: Final = "failover"
_ALL: Final = (*_PARTS, _FAILOVER)

_PARTS_TOLD: Final = """\
parts:
  commits   commands of one client, each of which puts a value under one of 10,000 keys
  reads     of one client, linearizable ones and those under the leader's lease
  inside    commands that the leader's own program asks for, by server.do
  single    commands of a client that sends each in a message of its own
  failover  the leader is killed; how long a client's next command takes
exit status:
  0  all was measured
  1  a server or a caller failed, or this was told to stop
  2  the arguments can't be used
"""


def add(commands: Any) -> None:
    """Add the command `bench`."""
    parser = commands.add_parser(
        "bench",
        help="measure a cluster on this machine",
        description=_ABOUT,
        epilog=_PARTS_TOLD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("--only", metavar="PART,...", default=",".join(_ALL), help="(%(default)s)")
    option(
        "--in-flight",
        metavar="N,...",
        default="1,8,64,256,1024",
        help="how many callers there are (%(default)s)",
    )
    option("--seconds", type=float, default=3.0, help="of each load (%(default)s)")
    option("--value", metavar="BYTES", type=int, default=128, help="of each put (%(default)s)")
    option("--clients", metavar="N", type=int, default=1, help="connections (%(default)s)")
    option("--servers", metavar="N", type=int, default=3, help="(%(default)s)")
    option("--failover", metavar="N", type=int, default=5, help="times (%(default)s)")
    option("--dir", help="where the data are kept meanwhile (where temporary files are)")
    option("--json", action="store_true", help="print a JSON line for each figure")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    parts = given.only.split(",")
    if unknown := [part for part in parts if part not in _ALL]:
        raise Unusable(f"--only: there is no part {unknown[0]!r}")
    try:
        in_flight = [int(number) for number in given.in_flight.split(",")]
    except ValueError as error:
        raise Unusable(f"--in-flight: {error}") from error
    if min(*in_flight, given.clients, given.servers, given.failover) < 1 or given.value < 0:
        raise Unusable("callers, clients, servers and times are counted from 1")
    if not 0 < given.seconds < math.inf:
        raise Unusable("--seconds: a load takes some time, and has an end")
    if _FAILOVER in parts and given.servers < 3:
        raise Unusable("--servers: without its leader a cluster of fewer than 3 does nothing")
    try:
        with bare_errors():
            return trio.run(_unless_told, given, parts, in_flight)
    except (RuntimeError, OSError) as error:
        complain(str(error))
        return 1


async def _unless_told(given: argparse.Namespace, parts: list[str], in_flight: list[int]) -> int:
    """Measure until all is done, or a signal says no; all processes have ended then."""
    status = 1
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed, signals, nursery.cancel_scope)
            await _measure(given, parts, in_flight)
            status = 0
            nursery.cancel_scope.cancel()
    if status:
        complain("told to stop")
    return status


async def _heed(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


async def _measure(given: argparse.Namespace, parts: list[str], in_flight: list[int]) -> None:
    with tempfile.TemporaryDirectory(dir=given.dir, prefix="trioraft-bench-") as directory:
        async with cluster(Path(directory), given.servers) as servers:
            await _loads(servers, given, parts, in_flight)
            if _FAILOVER in parts:
                await _failover(servers, given)


async def _loads(
    servers: Cluster, given: argparse.Namespace, parts: list[str], in_flight: list[int]
) -> None:
    loads = [
        Load(what, number, given.seconds, given.value, given.clients)
        for part in parts
        for what in _PARTS.get(part, ())
        for number in in_flight
    ]
    if loads and not given.json:
        _tell(heading())
    for load in loads:
        point = await servers.measure(load)
        if given.json:
            fields = {"clients": given.clients, "value": given.value, "servers": given.servers}
            _tell(json.dumps(as_json({**attrs.asdict(point), **fields})) + "\n")
        else:
            _tell(row(point))


async def _failover(servers: Cluster, given: argparse.Namespace) -> None:
    seconds = [await servers.failover() for _ in range(given.failover)]
    if given.json:
        _tell(json.dumps({"what": _FAILOVER, "seconds": seconds}) + "\n")
    else:
        median, worst = statistics.median(seconds), max(seconds)
        _tell(f"failover: median {median:.3f} s, worst {worst:.3f} s of {len(seconds)}\n")


def _tell(text: str) -> None:
    """Print at once: the next line may take a while."""
    say(text)
    sys.stdout.flush()
