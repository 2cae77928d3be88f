"""What a server keeps, and what a restart costs: `python -m benchmarks.retention`.

Three tables, of one server that is a cluster by itself, on a real disk, each measured in a process
of its own:

- resident memory and disk while commands go on, with snapshots and without;
- opening a log without snapshots, and applying all of it;
- a large snapshot: taking it, starting from it, and sending it to a follower.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final

import attrs
import trio

import trioraft
from trioraft import Applied, Config, Server, WebSocketTransport
from trioraft._storage.disk import DiskStorage

MIB: Final = 1 << 20
VALUE: Final = 128
KEYS: Final = 10_000
IN_FLIGHT: Final = 512
NOBODY: Final = "ws://127.0.0.1:0"


@trioraft.command("set")
@attrs.frozen
class Set:
    """Sets one of a fixed number of keys, so that the state stays as large as it is."""

    key: int
    value: bytes

    def apply(self, machine: Table, applied: Applied) -> None:
        machine.values[self.key] = self.value


class Table:
    """Values under numbers."""

    commands: ClassVar = (Set,)

    def __init__(self) -> None:
        self.values: dict[int, bytes] = {}

    def save(self) -> bytes:
        return b"".join(key.to_bytes(8, "little") + value for key, value in self.values.items())

    def recover(self, state: bytes) -> None:
        size = 8 + VALUE
        rows = (state[at : at + size] for at in range(0, len(state), size))
        self.values = {int.from_bytes(row[:8], "little"): row[8:] for row in rows}


class Bulk:
    """A state of so many mebibytes, none of it in memory as a whole."""

    commands: ClassVar = (Set,)

    def __init__(self, mebibytes: int = 0) -> None:
        self.mebibytes = mebibytes
        self.values: dict[int, bytes] = {}

    def save(self) -> Bulk:
        return Bulk(self.mebibytes)

    def write(self, file: BinaryIO) -> None:
        piece = os.urandom(MIB // 2) + bytes(MIB // 2)
        file.writelines(piece for _ in range(self.mebibytes))

    def recover_from(self, file: BinaryIO) -> None:
        self.mebibytes = 0
        while file.read(MIB):
            self.mebibytes += 1

    def recover(self, state: bytes) -> None:
        raise NotImplementedError("recover_from is there")


def resident() -> float:
    """Mebibytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def on_disk(path: Path) -> float:
    """Mebibytes of all files below a directory."""
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file()) / MIB


def alone(path: Path, machine: Any, config: Config) -> Server:
    """A cluster of one."""
    cluster = {"n1": NOBODY}
    return Server(
        "n1", path, WebSocketTransport(NOBODY), machine, initial_cluster=cluster, config=config
    )


async def applied(server: Server, index: int) -> None:
    """Wait until a server leads, and has applied so much."""
    await until(lambda: server.state == "leader" and server.last_applied >= index)


async def until(holds: Callable[[], bool]) -> None:
    """Look every ten milliseconds."""
    while not holds():  # noqa: ASYNC110  nobody tells
        await trio.sleep(0.01)


async def grow(path: Path, commands: int, config: Config) -> list[dict[str, float]]:
    """Do so many commands, and look ten times at what is kept."""
    server, rows = alone(path, Table(), config), []
    done, began = 0, time.perf_counter()

    async def caller() -> None:
        nonlocal done
        while done < commands:
            done += 1
            number = done
            await server.do(Set(number % KEYS, number.to_bytes(8, "little") * (VALUE // 8)))
            if number % (commands // 10) == 0:
                seconds = time.perf_counter() - began
                looked = {"commands": number, "seconds": seconds}
                rows.append({**looked, "memory": resident(), "disk": on_disk(path)})

    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await applied(server, 1)
        rows.append({"commands": 0, "seconds": 0.0, "memory": resident(), "disk": on_disk(path)})
        async with trio.open_nursery() as callers:
            for _ in range(IN_FLIGHT):
                callers.start_soon(caller)
        await server.stop()
    return rows


async def restart(path: Path) -> dict[str, float]:
    """Open what `grow` has left, as a storage alone and as a whole server."""
    began = time.perf_counter()
    storage = DiskStorage(path)
    recovered = await storage.open()
    opened = time.perf_counter() - began
    await storage.aclose()
    began = time.perf_counter()
    server = alone(path, Table(), Config(snapshot_entries=None, snapshot_bytes=None))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await applied(server, recovered.last_index)
        everything = time.perf_counter() - began
        await server.stop()
    return {"entries": recovered.last_index, "opened": opened, "applied": everything}


async def bulk(path: Path, mebibytes: int) -> dict[str, float]:
    """Take a large snapshot, start from it, and bring it to a follower that lacks it."""
    told: dict[str, float] = {}
    server = alone(path / "one", Bulk(mebibytes), Config())
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await applied(server, 1)
        began = time.perf_counter()
        await server.take_snapshot()
        told["taken"] = time.perf_counter() - began
        told["disk"] = on_disk(path)
        await server.stop()
    machine = Bulk()
    server = alone(path / "one", machine, Config())
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await applied(server, 1)
        told["started"] = time.perf_counter() - began
        assert machine.mebibytes == mebibytes
        await server.stop()
    told["sent"] = await sent(path, mebibytes)
    return {**told, "memory": resident()}


async def sent(path: Path, mebibytes: int) -> float:
    """Seconds in which a third server, started late, becomes what the others are."""
    ports = ("n1", 7951), ("n2", 7952), ("n3", 7953)
    addresses = {name: f"ws://127.0.0.1:{port}" for name, port in ports}
    servers = {
        name: Server(
            name,
            path / name,
            WebSocketTransport(address),
            Bulk(mebibytes),
            initial_cluster=addresses,
            config=Config(trailing_entries=0, snapshot_entries=None, snapshot_bytes=None),
        )
        for name, address in addresses.items()
    }
    async with trio.open_nursery() as nursery:
        for server in servers.values():
            await nursery.start(server.serve)
        leader = await leads(servers)
        late = next(name for name in servers if name != leader.name)
        await servers[late].stop()
        for number in range(10):
            await leader.do(Set(number, b"x"))
        await trio.sleep(1)  # nobody keeps the log for who has been away for so long
        indexes = [await s.take_snapshot() for name, s in servers.items() if name != late]
        machine = Bulk()
        again = Server(late, path / late, WebSocketTransport(addresses[late]), machine)
        began = time.perf_counter()
        await nursery.start(again.serve)
        await until(lambda: again.last_applied >= min(indexes))
        seconds = time.perf_counter() - began
        assert machine.mebibytes == mebibytes
        nursery.cancel_scope.cancel()
    return seconds


async def leads(servers: dict[str, Server]) -> Server:
    """Whoever leads, once somebody does and has told the others."""
    await until(lambda: all(server.leader and server.last_applied for server in servers.values()))
    return servers[str(servers["n1"].leader)]


def elsewhere(*arguments: str) -> Any:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.retention", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--mebibytes", type=int, default=1024, help="of the large snapshot")
    parser.add_argument("--directory", help="on the disk to measure; a temporary one by default")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part is not None:
        print(json.dumps(_measure(given)))
        return
    with tempfile.TemporaryDirectory(dir=given.directory) as name:
        _tell(Path(name), given)


def _measure(given: argparse.Namespace) -> Any:
    path = Path(given.directory)
    match given.part:
        case "kept":
            return trio.run(grow, path, given.commands, Config())
        case "all":
            never = Config(snapshot_entries=None, snapshot_bytes=None)
            return trio.run(grow, path, given.commands, never)
        case "restart":
            return trio.run(restart, path)
    return trio.run(bulk, path, given.mebibytes)


def _tell(path: Path, given: argparse.Namespace) -> None:
    commands, mebibytes = str(given.commands), str(given.mebibytes)

    def part(name: str, directory: str) -> Any:
        there = str(path / directory)
        sizes = ["--commands", commands, "--mebibytes", mebibytes]
        return elsewhere("--part", name, "--directory", there, *sizes)

    for name, title in (("kept", "with snapshots"), ("all", "without")):
        print(f"\n{title:>15} {'commands/s':>11} {'memory MiB':>11} {'disk MiB':>9}")
        before = {"commands": 0.0, "seconds": 0.0}
        for row in part(name, name):
            since = row["seconds"] - before["seconds"]
            speed = (row["commands"] - before["commands"]) / since if since else 0.0
            memory, disk = row["memory"], row["disk"]
            print(f"{row['commands']:15,} {speed:11,.0f} {memory:11.1f} {disk:9.1f}")
            before = row
    for name, title in (("kept", "with snapshots"), ("all", "without")):
        row = part("restart", name)
        print(f"\nrestart {title}: {row['entries']:,} entries, opened in {row['opened']:.2f} s, ")
        print(f"   a server of them that has applied all in {row['applied']:.2f} s")
    row = part("bulk", "bulk")
    print(f"\na snapshot of {mebibytes} MiB, {row['disk']:,.0f} MiB on disk:")
    print(f"   taken in {row['taken']:.1f} s, started from in {row['started']:.1f} s,")
    print(f"   a follower has it in {row['sent']:.1f} s; the process holds {row['memory']:.0f} MiB")


if __name__ == "__main__":
    main()
