"""A long log: how soon it is open, and what it takes in memory: `python -m benchmarks.recovery`.

A server forms a cluster by itself; behind what it has written, entries are added through the
storage.  Then the log is opened in processes of their own: by a storage alone, and by a server that
applies all of it.  No snapshot is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import trio

from trioraft import Config, Server, WebSocketTransport
from trioraft._bench.loop import KEYS
from trioraft._client.session import encoded
from trioraft._garbage import collect_seldom
from trioraft._storage.disk import DiskStorage
from trioraft._wire.frames import Kind, frame
from trioraft._wire.stamps import stamp
from trioraft.abc import Batch
from trioraft.recipes.kv import KeyValues, Put

ENTRIES: Final = 1_000_000
BYTES: Final = 128
"""Of each entry, without its header."""
GOALS: Final = (0.8, 220.0)
"""Seconds until a million entries are open, and bytes of memory that each takes."""
_OPENINGS: Final = 5
_BATCH: Final = 10_000
_NOBODY: Final = "ws://127.0.0.1:0"


def _server(path: Path) -> Server:
    never = Config(snapshot_entries=None, snapshot_bytes=None)
    transport = WebSocketTransport(_NOBODY)
    members = {"n1": _NOBODY}
    return Server("n1", path, transport, KeyValues(), initial_cluster=members, config=never)


async def _form(path: Path) -> None:
    """Make a cluster of one."""
    server = _server(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await _applied(server, 1)
        await server.stop()


async def _applied(server: Server, index: int) -> None:
    while server.state != "leader" or server.last_applied < index:  # noqa: ASYNC110
        await trio.sleep(0.005)


def _payloads() -> list[bytes]:
    room = BYTES - len(stamp(0.0, encoded(Put(KEYS[0], ""))))
    return [stamp(0.001, encoded(Put(key, "v" * (room - 1)))) for key in KEYS]


async def fill(path: Path, entries: int) -> float:
    """Write so many entries; the seconds that the writing takes."""
    await _form(path)
    storage = DiskStorage(path)
    recovered = await storage.open()
    first, (_, term), payloads = recovered.last_index + 1, recovered.terms[-1], _payloads()
    seconds = 0.0
    for begin in range(first, first + entries, _BATCH):
        numbers = range(begin, min(begin + _BATCH, first + entries))
        frames = [frame(n, term, Kind.COMMAND, payloads[n % len(payloads)]) for n in numbers]
        began = time.perf_counter()
        await storage.write(Batch(entries=frames))
        seconds += time.perf_counter() - began
    await storage.aclose()
    return seconds


async def _open(path: Path) -> dict[str, float]:
    """Open the log alone."""
    collect_seldom()
    before, began = resident(), time.perf_counter()
    storage = DiskStorage(path)
    recovered = await storage.open()
    seconds, after = time.perf_counter() - began, resident()
    await storage.aclose()
    return {"seconds": seconds, "bytes": (after - before) / recovered.last_index}


async def _serve(path: Path) -> dict[str, float]:
    """Have a server open the log, and apply all of it."""
    async with trio.open_nursery() as nursery:  # what the modules take is not the entries'
        server = _server(path.with_name("empty"))
        await nursery.start(server.serve)
        await _applied(server, 1)
        await server.stop()
    storage = DiskStorage(path)
    last = (await storage.open()).last_index
    await storage.aclose()
    collect_seldom()
    before, began = resident(), time.perf_counter()
    server = _server(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await _applied(server, last)
        seconds, after = time.perf_counter() - began, resident()
        await server.stop()
    return {"seconds": seconds, "bytes": (after - before) / last}


def resident() -> int:
    """Bytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(path: Path, entries: int) -> dict[str, Any]:
    """Fill a log in this directory, open it again and again; medians."""
    filled = elsewhere("fill", path / "n1", entries)
    opened = [elsewhere("open", path / "n1", entries) for _ in range(_OPENINGS)]
    served = elsewhere("serve", path / "n1", entries)
    return {
        "entries": entries,
        "written": filled,
        "opened": statistics.median(each["seconds"] for each in opened),
        "slowest": max(each["seconds"] for each in opened),
        "kept": statistics.median(each["bytes"] for each in opened),
        "served": served["seconds"],
        "served_kept": served["bytes"],
    }


def elsewhere(part: str, path: Path, entries: int) -> Any:
    """Measure in a process of its own."""
    options = ["--part", part, "--dir", str(path), "--entries", str(entries)]
    command = [sys.executable, "-m", "benchmarks.recovery", *options]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def told(found: dict[str, Any]) -> str:
    """What was measured, in words."""
    seconds, size = GOALS
    return (
        f"{found['entries']:,} entries of {BYTES} bytes, written in {found['written']:.2f} s\n"
        f"  opened in {found['opened']:.2f} s, at most {found['slowest']:.2f} s "
        f"(goal for a million: <= {seconds:g} s); {found['kept']:.0f} B of memory for each\n"
        f"  a server has applied all of them after {found['served']:.1f} s; "
        f"{found['served_kept']:.0f} B of memory for each (goal: <= {size:g} B)\n"
    )


def main() -> None:
    """Measure, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES, help="(%(default)s)")
    parser.add_argument("--dir", type=Path, help="on the disk to measure")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", choices=("fill", "open", "serve"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    match given.part:
        case "fill":
            print(json.dumps(trio.run(fill, given.dir, given.entries)))
        case "open":
            print(json.dumps(trio.run(_open, given.dir)))
        case "serve":
            print(json.dumps(trio.run(_serve, given.dir)))
        case _:
            with tempfile.TemporaryDirectory(dir=given.dir) as directory:
                found = measure(Path(directory), given.entries)
            print(json.dumps(found) if given.json else told(found), end="\n" * given.json)


if __name__ == "__main__":
    main()
