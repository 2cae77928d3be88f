"""How a server's life begins and ends."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from tests.server.worlds import (
    Disk,
    Lines,
    Room,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
)
from trioraft import (
    Anything,
    Config,
    NotLeaderError,
    OutcomeUnknown,
    ProtocolError,
    Server,
    ServerStopped,
    StorageError,
    StorageLocked,
)
from trioraft._config import Config as _Config
from trioraft._rules.messages import RequestVote, RequestVoteReply
from trioraft._state import HardState
from trioraft.abc import Batch
from trioraft.testing import MemoryNetwork, MemoryTransport


def lone(**changes: Any) -> Server:
    """A server that nobody else knows."""
    given: dict[str, Any] = {
        "transport": MemoryTransport(MemoryNetwork(), "mem://n1"),
        "state_machine": Room(),
        "initial_cluster": {"n1": "mem://n1"},
    } | changes
    return Server("n1", None, **given)


# -- before ------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_new_server_is_stopped_and_answers_every_question() -> None:
    server = lone(context="mine")
    assert (server.name, server.path, server.context) == ("n1", None, "mine")
    assert isinstance(server.state_machine, Room)
    assert (server.state, server.running) == ("stopped", False)
    assert (server.term, server.commit_index, server.last_applied) == (0, 0, 0)
    assert (server.leader, server.voted_for) == (None, None)
    assert (server.member_count, server.peers) == (0, {})
    assert server.status().state == "stopped"
    assert server.config == Config() == _Config()


@in_virtual_time
async def test_g65_do_on_a_server_that_never_ran_is_an_error_at_once() -> None:
    with pytest.raises(ServerStopped):
        await lone().do(Say("anybody?"))
    assert trio.current_time() == 0


@in_virtual_time
async def test_g65_do_on_a_stopped_server_is_an_error_at_once() -> None:
    server = lone()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await trio.sleep(1)
        assert await server.do(Say("while it runs")) == 1
        await server.stop()
    assert server.state == "stopped"
    with pytest.raises(ServerStopped):
        await server.do(Say("too late"))


@in_virtual_time
async def test_do_while_the_disk_is_still_being_read_names_no_leader() -> None:
    disk = Disk()
    disk.seconds = 5.0
    server = lone(storage=disk)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        await trio.sleep(1)
        assert server.running
        with pytest.raises(NotLeaderError) as caught:
            await server.do(Say("early"))
        assert caught.value.leader is None
        assert (await server.read(Lines(), Anything())).index == 0
        await server.stop()


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("", {}, "must be a string that is not empty"),
        (7, {}, "must be a string"),
        ("n1", {"initial_cluster": {"n2": "mem://n2"}}, "must name this server"),
        ("n1", {"initial_cluster": {"n1": "mem://a", "n2": "mem://a"}}, "one address"),
        ("n1", {"initial_cluster": {"n1": "nonsense"}}, "the address of n1"),
        ("n1", {"peers": {"n2": "http://x"}}, "the address of n2"),
        ("n1", {"peers": {"": "mem://x"}}, "not empty"),
    ],
)
def test_g74_what_makes_no_sense_is_refused_before_anything_runs(
    name: Any, changes: dict[str, Any], says: str
) -> None:
    transport = MemoryTransport(MemoryNetwork(), "mem://n1")
    with pytest.raises(ValueError, match=says):
        Server(name, None, transport, Room(), **changes)


def test_a_machine_whose_commands_are_none_is_refused() -> None:
    class Wrong(Room):
        commands = (int,)

    with pytest.raises(TypeError):
        lone(state_machine=Wrong())


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"heartbeat_interval": 0}, ValueError),
        ({"election_timeout": -1}, ValueError),
        ({"election_timeout": math.inf}, ValueError),
        ({"election_timeout": math.nan}, ValueError),
        ({"heartbeat_interval": 0.1, "election_timeout": 0.2}, ValueError),
        ({"heartbeat_interval": "1"}, TypeError),
        ({"heartbeat_interval": True}, TypeError),
    ],
)
def test_times_that_make_no_sense_are_refused(
    given: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Config(**given)


# -- once --------------------------------------------------------------------------------------


@in_virtual_time
async def test_g73_a_server_runs_once() -> None:
    server = lone()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        with pytest.raises(RuntimeError, match="runs once"):
            await server.serve()
        assert server.running
        await server.stop()
    with pytest.raises(RuntimeError, match="runs once"):
        await server.serve()


@in_virtual_time
async def test_a_server_that_could_not_start_does_not_start_again() -> None:
    disk = Disk()
    disk.broken = "no such disk"
    server = lone(storage=disk)
    with pytest.raises(StorageError):
        await server.serve()
    assert server.state == "stopped"
    with pytest.raises(RuntimeError):
        await server.serve()


@in_virtual_time
async def test_start_returns_once_it_listens() -> None:
    network = MemoryNetwork()
    server = lone(transport=MemoryTransport(network, "mem://n1"))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        async with MemoryTransport(network, "mem://x").connect("mem://n1"):
            pass
        await server.stop()


# -- ends --------------------------------------------------------------------------------------


@in_virtual_time
async def test_stop_before_serve_does_nothing() -> None:
    server = lone()
    await server.stop()
    await server.stop()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        assert server.running
        nursery.cancel_scope.cancel()
    await server.stop()


@in_virtual_time
async def test_stop_may_be_called_by_several_and_again() -> None:
    async with a_running_cluster(3) as cluster:
        server = cluster["n1"]
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(server.stop)
        assert server.state == "stopped"
        await server.stop()
        await cluster.start("n1")
        await cluster.settled()


@in_virtual_time
async def test_stop_returns_when_everything_has_ended() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster["n1"].stop()
        # Neither the address nor the storage is held any more.
        await cluster.disks["n1"].kept.open()
        await cluster.disks["n1"].kept.aclose()
        await cluster.start("n1")
        assert not cluster.failures
        await cluster.settled()


@in_virtual_time
async def test_stop_while_forming_ends_a_server_that_waits() -> None:
    async with a_cluster(3) as cluster:
        await cluster.start("n1")
        await trio.sleep(1)
        with trio.fail_after(0.1):
            await cluster["n1"].stop()
        await cluster.formed()


@in_virtual_time
async def test_f16_a_server_ends_at_once_with_peers_that_hang() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        for other in cluster.followers():
            cluster.mute(leader.name, other)
            cluster.mute(other, leader.name)
        for wait in (0.01, 0.3, 2.0):  # streams hang; then they are given up; then dials hang
            victim = cluster.servers[leader.name]
            await trio.sleep(wait)
            began = trio.current_time()
            await cluster.crash(victim.name)
            assert trio.current_time() - began <= 0.01
            await cluster.start(victim.name)
        cluster.heal()
        await cluster.settled()


@in_virtual_time
async def test_a_failed_write_ends_the_server_bare_and_is_not_retried() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        victim = cluster.followers()[0]
        cluster.disks[victim].broken = "the disk is full"
        await leader.do(Say("x"))
        error = await cluster.ended(victim)
        assert type(error) is StorageError
        assert str(error) == "the disk is full"
        cluster.disks[victim].broken = None
        await cluster.start(victim)
        await cluster.settled()


@in_virtual_time
async def test_a_leader_whose_write_fails_answers_everybody_and_ends() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        cluster.disks[leader.name].broken = "the disk is full"
        cluster.disks[leader.name].seconds = 0.0
        errors: list[BaseException] = []

        async def one() -> None:
            try:
                await leader.do(Say("x"))
            except (OutcomeUnknown, ServerStopped) as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
        assert len(errors) == 20
        assert type(await cluster.ended(leader.name)) is StorageError
        new = await cluster.leader()
        assert new.term > leader.term
        cluster.disks[leader.name].broken = None
        await cluster.start(leader.name)
        await cluster.settled()


@in_virtual_time
async def test_a_failed_write_of_the_genesis_ends_the_server_bare() -> None:
    async with a_cluster(3) as cluster:
        await cluster.start("n1", "n2")
        cluster.disks["n1"].broken = "no genesis here"
        await cluster.start("n3")
        error = await cluster.ended("n1")
        assert type(error) is StorageError
        cluster.disks["n1"].broken = None
        await cluster.start("n1")
        await cluster.settled()


@in_virtual_time
async def test_a_failed_write_of_a_vote_sends_no_vote() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await cluster.crash(leader.name)
        one, other = cluster.followers()
        heard = cluster.overhear()
        cluster.disks[one].broken = cluster.disks[other].broken = "no vote"
        await cluster.until(lambda: cluster.failures)
        assert {type(error) for error in cluster.failures.values()} == {StorageError}
        assert not [m for *_, m in heard if isinstance(m, RequestVote)]
        assert not [m for *_, m in heard if isinstance(m, RequestVoteReply) and m.vote_granted]
        cluster.disks[one].broken = cluster.disks[other].broken = None
        cluster.failures.clear()
        await cluster.start()
        await cluster.settled()


@in_virtual_time
async def test_an_address_in_use_is_an_os_error_bare() -> None:
    async with a_running_cluster(1) as cluster:
        twin = lone(transport=MemoryTransport(cluster.network, "mem://n1"))
        with pytest.raises(OSError, match="somebody listens"):
            await twin.serve()
        assert twin.state == "stopped"
        await cluster.settled()


@in_virtual_time
async def test_d11_a_second_server_on_the_same_storage_is_refused() -> None:
    async with a_running_cluster(1) as cluster:
        with pytest.raises(StorageLocked):
            await lone(storage=cluster.disks["n1"]).serve()
        assert await cluster.say("the first one goes on") == 1


@pytest.mark.parametrize(
    "state",
    [b"", b"\xc1", b"\x80", HardState("n1", "x", format=99).encode(), b"\x01\x02"],
)
@in_virtual_time
async def test_g04_a_state_that_cannot_be_read_is_an_error_at_the_start(state: bytes) -> None:
    disk = Disk()
    await disk.open()
    await disk.write(Batch(state=state))
    await disk.aclose()
    with pytest.raises(StorageError):
        await lone(storage=disk).serve()
    assert disk.kept._state == state


@in_virtual_time
async def test_an_error_in_the_transport_ends_the_server_bare() -> None:
    class Broken(MemoryTransport):
        async def listen(self, handler: Any, *, task_status: Any) -> Any:
            task_status.started()
            await trio.sleep(1)
            raise ProtocolError("a transport's own fault")

    with pytest.raises(ProtocolError, match="own fault"):
        await lone(transport=Broken(MemoryNetwork(), "mem://n1")).serve()


def test_a_server_without_a_path_keeps_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        server = lone()
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            await server.stop()

    trio.run(main)
    assert list(tmp_path.iterdir()) == []


async def test_a_cancelled_server_lets_go_of_its_directory_at_once(tmp_path: Path) -> None:
    """Real files, real time: whatever was acknowledged is there at the next start."""
    quick = Config(heartbeat_interval=0.005, election_timeout=0.02)
    said = 0
    for _ in range(8):
        room = Room()
        server = Server(
            "n1",
            tmp_path / "n1",
            MemoryTransport(MemoryNetwork(), "mem://n1"),
            room,
            initial_cluster={"n1": "mem://n1"},
            config=quick,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            with trio.fail_after(5):
                while server.state != "leader":
                    await trio.sleep(0.001)
                for _ in range(5):
                    assert await server.do(Say(f"{said}")) == said + 1
                    said += 1
            nursery.start_soon(give_up, server)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert not server.running
        if len(room.lines) > said:
            break  # the last one got in before the end, which is as good
    assert room.lines[:said] == [f"{number}" for number in range(said)]


async def give_up(server: Server) -> None:
    with contextlib.suppress(OutcomeUnknown, ServerStopped):
        await server.do(Say("perhaps"))
