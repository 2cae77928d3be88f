"""Real processes, real files, real sockets, and signals that nobody can catch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from trioraft._bench.cluster import free_ports

pytestmark = pytest.mark.processes

NODE = Path(__file__).with_name("node.py")


class Gone(Exception):
    """The process ended, or did not answer in time."""


class Node:
    """A process that runs `node.py`, and the questions that it has not answered yet."""

    def __init__(self, name: str, directory: Path, cluster: dict[str, str]) -> None:
        self.name = name
        self.directory = directory
        self.cluster = cluster
        self.process: trio.Process | None = None
        self._next = 0
        self._sending = trio.Lock()
        self._waiting: dict[int, tuple[trio.Event, list[dict[str, Any]]]] = {}

    def command(self, **moved: str) -> list[str]:
        """The command line; with some addresses moved."""
        cluster = json.dumps(self.cluster | moved)
        return [sys.executable, str(NODE), self.name, str(self.directory / self.name), cluster]

    async def start(self, nursery: trio.Nursery) -> None:
        """Start it, and wait until it listens."""
        self._next, self._waiting, self._sending = 0, {}, trio.Lock()
        listens = self._expect()
        errors = os.open(
            self.directory / f"{self.name}.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND
        )
        try:
            self.process = await trio.lowlevel.open_process(
                self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        finally:
            os.close(errors)
        nursery.start_soon(self._read, self.process)
        await self._answer(listens, 10.0)

    def _expect(self) -> int:
        number, self._next = self._next, self._next + 1
        self._waiting[number] = (trio.Event(), [])
        return number

    async def _answer(self, number: int, seconds: float) -> dict[str, Any]:
        event, answers = self._waiting[number]
        with trio.move_on_after(seconds):
            await event.wait()
        self._waiting.pop(number, None)
        if not answers:
            raise Gone(self.name)
        return answers[0]

    async def _read(self, process: trio.Process) -> None:
        rest = b""
        waiting = self._waiting
        assert process.stdout is not None
        async with process.stdout:
            async for chunk in process.stdout:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    reply = json.loads(line)
                    if reply["id"] in waiting:
                        event, answers = waiting[reply["id"]]
                        answers.append(reply)
                        event.set()
        for event, _ in list(waiting.values()):
            event.set()

    async def ask(self, seconds: float = 5.0, **request: Any) -> dict[str, Any]:
        """Ask the process something."""
        assert self.process is not None
        assert self.process.stdin is not None
        stdin, data = self.process.stdin, json.dumps({"id": self._next, **request}).encode()
        number = self._expect()
        try:
            async with self._sending:
                await stdin.send_all(data + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Gone(self.name) from None
        return await self._answer(number, seconds)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        process = self.process
        if process is None or process.stdin is None:
            return
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await process.stdin.aclose()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


class Nodes:
    """Three of them."""

    def __init__(self, nursery: trio.Nursery, directory: Path) -> None:
        self.nursery = nursery
        ports = enumerate(free_ports(3), 1)
        self.cluster = {f"n{n}": f"ws://127.0.0.1:{port}" for n, port in ports}
        self.nodes = {name: Node(name, directory, self.cluster) for name in self.cluster}
        self.acknowledged: list[str] = []

    async def start(self, *names: str) -> None:
        async with trio.open_nursery() as nursery:
            for name in names or self.nodes:
                nursery.start_soon(self.nodes[name].start, self.nursery)

    async def kill(self) -> None:
        """SIGKILL for all."""
        async with trio.open_nursery() as nursery:
            for node in self.nodes.values():
                nursery.start_soon(node.kill)

    async def leader(self, *among: str) -> Node:
        """Wait for a leader whose followers know it."""
        with trio.fail_after(10):
            while True:
                found = []
                for name in among or self.nodes:
                    try:
                        found.append((await self.nodes[name].ask(1.0), self.nodes[name]))
                    except Gone:
                        continue
                newest = max((reply["term"] for reply, _ in found), default=0)
                for reply, node in found:
                    knows = [r for r, _ in found if r["leader"] == node.name]
                    if reply["state"] == "leader" and reply["term"] == newest and len(knows) > 1:
                        return node
                await trio.sleep(0.02)

    async def write(self, who: str, stop: trio.Event) -> None:
        """Say one thing after the other; what nobody acknowledged is never said again."""
        number, at = 0, "n1"
        while not stop.is_set():
            text = f"{who} {number}"
            try:
                reply = await self.nodes[at].ask(1.0, say=text)
            except Gone:
                number += 1
                at = next(name for name in self.nodes if name != at)
                await trio.sleep(0.02)
                continue
            if "index" in reply:
                self.acknowledged.append(text)
                number += 1
            elif reply["error"] in ("NotLeaderError", "ServerStopped"):
                at = reply["leader"] or next(name for name in self.nodes if name != at)
                await trio.sleep(0.01)
            else:
                number += 1

    @asynccontextmanager
    async def load(self) -> AsyncGenerator[None]:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(self.write, f"w{number}", stop)
            yield
            stop.set()

    async def progress(self, count: int) -> None:
        """Wait until so many more commands were acknowledged."""
        target = len(self.acknowledged) + count
        await eventually(lambda: len(self.acknowledged) >= target)

    async def check(self) -> None:
        """All machines saw one sequence, and in it all that was acknowledged, once, in order."""
        with trio.fail_after(10):
            while True:
                await (await self.leader()).ask(say="the end")
                await trio.sleep(0.1)
                lines = [(await node.ask(lines=True))["lines"] for node in self.nodes.values()]
                if lines[0] == lines[1] == lines[2]:
                    break
        texts = [text for text in lines[0] if text != "the end"]
        assert len(set(texts)) == len(texts), "something was applied twice"
        assert set(self.acknowledged) <= set(texts), set(self.acknowledged) - set(texts)
        for writer in range(8):
            own = [int(text.split()[1]) for text in texts if text.startswith(f"w{writer} ")]
            assert own == sorted(own)


async def eventually(holds: Callable[[], bool], seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while not holds():
            await trio.sleep(0.02)


@asynccontextmanager
async def running(directory: Path) -> AsyncGenerator[Nodes]:
    async with trio.open_nursery() as nursery:
        nodes = Nodes(nursery, directory)
        try:
            await nodes.start()
            yield nodes
        finally:
            await nodes.kill()


async def test_killing_the_leader_under_load_twice_loses_nothing_acknowledged(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as nodes:
        async with nodes.load():
            await nodes.progress(50)
            for _ in range(2):
                leader = await nodes.leader()
                await leader.kill()
                await nodes.start(leader.name)
                await nodes.progress(50)
        await nodes.check()


async def test_killing_all_servers_at_once_loses_nothing_acknowledged(tmp_path: Path) -> None:
    async with running(tmp_path) as nodes:
        async with nodes.load():
            for _ in range(2):
                await nodes.progress(50)
                await nodes.kill()
                await nodes.start()
            await nodes.progress(20)
        await nodes.check()


async def test_a_server_that_was_away_for_long_is_sent_a_snapshot(tmp_path: Path) -> None:
    async with running(tmp_path) as nodes:
        leader = await nodes.leader()
        late = next(node for node in nodes.nodes.values() if node is not leader)
        await late.kill()
        async with nodes.load():
            await nodes.progress(150)
            await nodes.start(late.name)
            await nodes.progress(50)
        await nodes.check()
    installed = [path.name for path in (tmp_path / late.name / "snapshots").iterdir()]
    assert installed, "it had no snapshot when it was killed"


async def test_d11_a_second_process_on_the_same_directory_is_refused_at_once(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as nodes:
        await nodes.leader()
        command = nodes.nodes["n1"].command(n1="ws://127.0.0.1:0")
        with trio.fail_after(5):
            second = await trio.run_process(command, check=False, capture_stderr=True)
        assert second.returncode == 1
        assert b"StorageLocked" in second.stderr
        await (await nodes.leader()).ask(say="the first goes on")
        # A process that was killed leaves no lock behind.
        await nodes.nodes["n1"].kill()
        await nodes.start("n1")
        await nodes.check()


async def test_a_leader_that_was_stopped_and_continued_does_no_harm(tmp_path: Path) -> None:
    async with running(tmp_path) as nodes:
        async with nodes.load():
            await nodes.progress(50)
            old = await nodes.leader()
            old.signal(signal.SIGSTOP)
            others = [name for name in nodes.nodes if name != old.name]
            new = await nodes.leader(*others)
            assert new is not old
            await nodes.progress(50)
            old.signal(signal.SIGCONT)
            reply = await old.ask(say="from the past")
            assert reply.get("error") in ("NotLeaderError", "OutcomeUnknown")
            await nodes.progress(50)
        await nodes.check()
