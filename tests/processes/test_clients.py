"""Eight client processes on three server processes that are killed, stopped and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.processes.test_processes import Node, Nodes, eventually, running

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
WRITERS = [f"w{number}" for number in range(8)]


class Tellers:
    """What the clients have printed."""

    def __init__(self, cluster: dict[str, str]) -> None:
        self.cluster = cluster
        self.done: dict[str, list[tuple[int, int]]] = {who: [] for who in WRITERS}
        """By client: the number of what it has said, and the entry."""
        self._processes: list[trio.Process] = []
        self._is_over = False

    def end(self) -> None:
        """Kill them; what they had printed is still read."""
        self._is_over = True
        for process in self._processes:
            process.kill()

    async def run(self, who: str) -> None:
        command = [sys.executable, "-m", "tests.processes.teller", who, *self.cluster.values()]
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        assert process.stdout is not None
        self._processes.append(process)
        try:
            rest = b""
            async with process.stdout:
                async for chunk in process.stdout:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        _, number, index = line.split()
                        self.done[who].append((int(number), int(index)))
            if not self._is_over:
                raise AssertionError(f"{who} has ended: {await process.wait()}")
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
                assert process.stdin is not None
                await process.stdin.aclose()

    async def progress(self, count: int) -> None:
        """Wait until each of them has had so many more things done."""
        before = {who: len(done) for who, done in self.done.items()}
        await eventually(
            lambda: all(len(self.done[who]) >= before[who] + count for who in WRITERS), 60
        )


@asynccontextmanager
async def telling(nodes: Nodes) -> AsyncGenerator[Tellers]:
    tellers = Tellers(nodes.cluster)
    async with trio.open_nursery() as nursery:
        for who in WRITERS:
            nursery.start_soon(tellers.run, who)
        try:
            yield tellers
        finally:
            tellers.end()


async def another(nodes: Nodes, than: Node) -> Node:
    """Wait until another server leads."""
    return await nodes.leader(*(name for name in nodes.nodes if name != than.name))


async def test_each_client_has_everything_done_once_whatever_befalls_the_servers(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as nodes:
        async with telling(nodes) as tellers:
            await tellers.progress(10)

            killed = await nodes.leader()
            await killed.kill()
            await tellers.progress(10)
            await nodes.start(killed.name)

            stopped = await nodes.leader()
            stopped.signal(signal.SIGSTOP)
            await another(nodes, stopped)
            await tellers.progress(10)
            stopped.signal(signal.SIGCONT)

            await nodes.kill()
            await nodes.start()
            await tellers.progress(10)

        await (await nodes.leader()).ask(say="the end")
        lines = (await (await nodes.leader()).ask(lines=True))["lines"]
        for who in WRITERS:
            told = [number for number, _ in tellers.done[who]]
            assert told == list(range(len(told))), "none was given up, none was done out of turn"
            said = [int(text.split()[1]) for text in lines if text.startswith(f"{who} ")]
            # The last one may be done, and its client dead before it had heard of it.
            assert said in (told, [*told, len(told)])
            for number, index in tellers.done[who]:
                assert index > 0, number
