"""A majority is lost for good: a new cluster goes on with what one server had."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from tests.server.worlds import Lines, Room, Say
from trioraft import Config, ProtocolError, Server, SessionExpired, open_client
from trioraft._cli import main
from trioraft._sessions import Call
from trioraft.testing import MemoryNetwork, MemoryTransport

NAMES = ("n1", "n2", "n3")
QUICK = Config(heartbeat_interval=0.02, election_timeout=0.1)


class World:
    """Servers on real disks and in real time; the network is memory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.network = MemoryNetwork()

    def make(self, name: str, **changes: Any) -> Server:
        transport = MemoryTransport(self.network, f"ws://{name}:1")
        given: dict[str, Any] = {"config": QUICK} | changes
        return Server(name, self.directory / name, transport, Room(), **given)

    @asynccontextmanager
    async def running(self, *servers: Server) -> AsyncGenerator[Server]:
        """Run them; gives the leader."""
        async with trio.open_nursery() as nursery:
            for server in servers:
                nursery.start_soon(server.serve)
            with trio.fail_after(10):
                while not (leading := [s for s in servers if s.state == "leader"]):
                    await trio.sleep(0.005)
            yield leading[0]
            for server in servers:
                await server.stop()

    def client(self, name: str) -> Any:
        transport = MemoryTransport(self.network, "mem://client")
        return open_client([f"ws://{name}:1"], transport=transport, random=Random(0))


async def an_old_cluster(world: World) -> tuple[list[str], int, bytes]:
    """Lines that were acknowledged, an open session, and a handle of a command in it."""
    initial = {name: f"ws://{name}:1" for name in NAMES}
    servers = [world.make(name, initial_cluster=initial) for name in NAMES]
    async with world.running(*servers) as leader, world.client(leader.name) as client:
        for number in range(10):
            await client.do(Say(f"before {number}"))
        with trio.fail_after(5):
            while servers[0].last_applied < leader.last_applied:
                await trio.sleep(0.005)
        await servers[0].take_snapshot()
        pending = client.prepare(Say("in doubt"))
        await pending.do()
        await client.do(Say("last"))
        with trio.fail_after(5):
            while servers[0].last_applied < leader.last_applied:
                await trio.sleep(0.005)
        sessions = servers[0]._core.applier.sessions
        (session,) = sessions._sessions
        lines = list(servers[0].state_machine.lines)  # type: ignore[attr-defined]
        for server in servers:
            await server.stop()
        return lines, session, pending.handle


@pytest.mark.parametrize("snapshot", [True, False])
async def test_the_sole_survivor_goes_on_and_takes_others_in(
    snapshot: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path)
    lines, session, handle = await an_old_cluster(world)
    assert lines[-2:] == ["in doubt", "last"]
    for name in ("n2", "n3"):
        shutil.rmtree(tmp_path / name)
    if not snapshot:  # the log still has all of it
        shutil.rmtree(tmp_path / "n1" / "snapshots")
    assert main(["recover", str(tmp_path / "n1"), "--members", "n1=n1:1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)

    one = world.make("n1")
    async with world.running(one):
        assert one.status().cluster == told["new_cluster"]
        assert (await one.read(Lines())).value == lines
        assert len(one._core.applier.sessions) == 0
        assert one._handshake is not None
        front = one._new_front(one._core, one._handshake)
        with pytest.raises(SessionExpired):
            await front.do(Say("in doubt"), Call(session, 11, 1))
        async with world.client("n1") as client:
            with pytest.raises(ProtocolError, match=told["old_cluster"]):
                await client.resume(handle, Say)
            await client.do(Say("after"))
        async with trio.open_nursery() as nursery:
            two = world.make("n2")
            nursery.start_soon(two.serve)
            with trio.fail_after(20):
                await one.add_peer("n2", "ws://n2:1")
                while len(two.state_machine.lines) < len(lines) + 1:  # type: ignore[attr-defined]
                    await trio.sleep(0.005)
            assert two.state_machine.lines == [*lines, "after"]  # type: ignore[attr-defined]
            assert two.status().cluster == told["new_cluster"]
            await two.stop()


async def test_survivors_that_are_no_majority_go_on_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path)
    names = [f"n{number}" for number in range(1, 6)]
    initial = {name: f"ws://{name}:1" for name in names}
    servers = [world.make(name, initial_cluster=initial) for name in names]
    async with world.running(*servers) as leader:
        for number in range(5):
            await leader.do(Say(f"before {number}"))
    lost = [name for name in names if name != leader.name][1:]
    for name in lost:
        shutil.rmtree(tmp_path / name)
    left = sorted(set(names) - set(lost))
    given = ",".join(f"{name}={name}:1" for name in left)
    directories = [str(tmp_path / name) for name in left]
    assert main(["recover", *directories, "--members", given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    again = [world.make(name) for name in left]
    async with world.running(*again) as leader:
        answer = await leader.read(Lines())
        assert answer.value == [f"before {number}" for number in range(5)]
        await leader.do(Say("after"))
        assert {server.status().cluster for server in again} == {told["new_cluster"]}
        assert leader.status().quorum_size == 2
