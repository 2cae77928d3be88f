"""What clients may rely on: reads that are never old, and retries that happen once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

import trioraft._front
from tests.scenarios.worlds import Machines, lose, running_machines
from tests.server.worlds import TIMEOUT, Lines, Say, in_virtual_time
from trioraft import Client, Lease, NotLeaderError, Server, open_client
from trioraft._rules.messages import AppendEntries, AppendEntriesReply
from trioraft._wire.strict import pack
from trioraft.testing import MemoryTransport


@asynccontextmanager
async def client_of(machines: Machines, *names: str) -> AsyncGenerator[Client]:
    """A client that knows these servers, or all."""
    addresses = [machines.addresses[name] for name in names or machines.addresses]
    transport = MemoryTransport(machines.network, "mem://client")
    async with open_client(addresses, transport=transport, random=Random(0)) as client:
        yield client


async def read(server: Server) -> list[str]:
    return (await server.read(Lines())).value


# -- L: reads ----------------------------------------------------------------------------------


@in_virtual_time
async def test_l1_a_new_leader_answers_from_no_old_commit_index() -> None:
    """It has committed nothing in its term, so it does not know what is: the read waits.

    etcd-io/etcd#7331, RedisLabs/redisraft#18 and #19.
    """
    async with running_machines(3) as machines:
        old = await machines.settled()
        await old.do(Say("acknowledged"))
        await machines.kill(old.name)
        lose(machines, lambda *said: isinstance(said[2], AppendEntries) and len(said[2].entries))
        (new,) = await machines.until(lambda: [s for s in machines.up if s.state == "leader"])
        answers: list[list[str]] = []

        async def ask() -> None:
            answers.append(await read(new))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(TIMEOUT / 2)
            assert new.state == "leader"
            assert not answers
            machines.heal()
        assert answers == [["acknowledged"]]


@pytest.mark.parametrize("consistency", [None, Lease()], ids=["a round", "a lease"])
@in_virtual_time
async def test_l2_an_isolated_leader_never_answers_what_was_so(consistency: Lease | None) -> None:
    """Its successor has written something else by the time that it is asked.

    etcd-io/etcd#741, Hoverbear/old-raft-rs#107, xnnyygn/xraft.
    """
    async with running_machines(3) as machines:
        old = await machines.settled()
        await old.do(Say("old"))
        machines.isolate(old.name)
        others = [name for name in machines.names if name != old.name]
        written = trio.Event()

        async def ask() -> None:
            """All the time, from before it is isolated until long after."""
            for _ in range(200):
                fresh = written.is_set()
                try:
                    given = [] if consistency is None else [consistency]
                    answer = await old.read(Lines(), *given)
                except NotLeaderError:
                    await trio.sleep(TIMEOUT / 20)
                else:
                    assert not fresh or answer.value == ["old", "new"]
                    await trio.sleep(TIMEOUT / 20)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            new = await machines.leader(*others)
            await new.do(Say("new"))
            written.set()
            await trio.sleep(5 * TIMEOUT)
            machines.heal()
        assert await read(old) == ["old", "new"]


@in_virtual_time
async def test_l9_a_follower_that_is_asked_while_the_leader_changes_answers_or_errs_in_time() -> (
    None
):
    """tikv/raft-rs#169: never a hang."""
    async with running_machines(3) as machines:
        await machines.say("here")
        for _ in range(3):
            leader = await machines.settled()
            name, *_ = machines.followers()
            outcomes: Counter[str] = Counter()

            async def ask(name: str = name, outcomes: Counter[str] = outcomes) -> None:
                with trio.fail_after(3 * TIMEOUT):
                    try:
                        outcomes[repr(await read(machines[name]))] += 1
                    except NotLeaderError:
                        outcomes["error"] += 1

            async with trio.open_nursery() as nursery:
                for number in range(40):
                    nursery.start_soon(ask)
                    if number == 10:
                        nursery.start_soon(machines.kill, leader.name)
                    await trio.sleep(TIMEOUT / 10)
            assert set(outcomes) == {"['here']", "error"}
            await machines.start(leader.name)


# -- handles of commands without a session -----------------------------------------------------


@in_virtual_time
async def test_a_handle_of_a_server_says_later_whether_the_command_was_done() -> None:
    """Of ten commands whose leader fell, some were committed by its successor, others replaced."""
    async with running_machines(3) as machines:
        outcomes: Counter[str] = Counter()
        async with client_of(machines) as client:
            for number in range(6):
                leader = await machines.settled()
                await machines.until(lambda: len(set(map(len, frames(machines)))) == 1)
                arrives = number % 2 == 0
                kind = AppendEntriesReply if arrives else AppendEntries
                lose(machines, lambda *said, kind=kind: isinstance(said[2], kind))
                handle = await handle_of_unknown(machines, leader, f"{number}")
                machines.heal()
                lines = await read(await machines.settled())
                with pytest.raises((trioraft.ResultLost, trioraft.CommandRejected)) as caught:
                    await client.resume(handle)
                outcome = caught.value.outcome
                assert (outcome == "done") == (f"{number}" in lines)
                outcomes[outcome] += 1
        assert outcomes == {"done": 3, "not done": 3}


def frames(machines: Machines) -> list[list[bytes]]:
    return [disk.frames for disk in machines.disks.values()]


async def handle_of_unknown(machines: Machines, leader: Server, text: str) -> bytes:
    handles: list[bytes] = []

    async def ask() -> None:
        with pytest.raises(trioraft.OutcomeUnknown) as caught:
            await leader.do(Say(text))
        handles.append(caught.value.handle)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(TIMEOUT / 5)
        await machines.kill(leader.name)
    await machines.start(leader.name)
    return handles[0]


@in_virtual_time
async def test_what_is_no_handle_or_another_clusters_is_an_error() -> None:
    async with running_machines(3) as machines, client_of(machines) as client:
        for naughty in (b"", b"\xc1", pack([]), pack(["x", 1]), pack([client.cluster, 0, 1])):
            with pytest.raises(ValueError, match="no handle"):
                await client.resume(naughty)
        with pytest.raises(trioraft.ProtocolError, match="another"):
            await client.resume(pack(["another", 3, 1]))
        with pytest.raises(trioraft.CommandRejected, match="never committed"):
            await client.resume(pack([client.cluster, 10**9, 1]))


# -- U: retries --------------------------------------------------------------------------------


@in_virtual_time
async def test_u1_a_retry_in_its_session_is_applied_once_and_answered_alike() -> None:
    """The leader commits and dies before it answers; all servers start again before the retry.

    Raft thesis 6.3, etcd-io/etcd#18424.
    """
    async with running_machines(3) as machines:
        leader = await machines.settled()
        async with client_of(machines) as client:
            first = await client.do(Say("first"))
            pending = client.prepare(Say("second"))
            lose_to_client(machines)
            with trio.move_on_after(TIMEOUT):
                await pending.do()
                raise AssertionError("the answer was lost")
            entry = leader.last_applied
            await machines.kill(*machines.names)
            machines.heal()
            await machines.start()
            result = await pending.do()
            assert await client.resume(pending.handle, Say) == result
            assert first < result <= entry, "a retry is told what the first attempt came to"
            assert (await client.read(Lines())).value == ["first", "second"]


def lose_to_client(machines: Machines) -> None:
    """Whatever is said to the client from now on is lost; its streams live on."""
    for address in machines.addresses.values():
        machines.network.disorder(address, "mem://client", lambda: ())


@in_virtual_time
async def test_u4_who_forwards_dies_and_the_command_is_applied_once() -> None:
    """Fluree, #1716: forwarded again by another one."""
    async with running_machines(3) as machines:
        leader = await machines.settled()
        one, other = machines.followers()
        machines.network.cut("mem://client", machines.addresses[leader.name])
        async with client_of(machines, one, other) as client, trio.open_nursery() as nursery:
            done: list[int] = []

            async def say(number: int) -> None:
                done.append(await client.do(Say(f"{number}")))

            for number in range(30):
                nursery.start_soon(say, number)
                if number in (10, 20):
                    carrier = serving(client)
                    await machines.kill(carrier)
                    nursery.start_soon(machines.start, carrier)
                await trio.sleep(0.01)
        lines = await read(await machines.settled())
        assert sorted(lines, key=int) == [f"{number}" for number in range(30)]
        assert len(done) == 30


def serving(client: Client) -> str:
    """The server that the client is connected to."""
    line = client._connected.now
    assert line is not None
    assert line.welcome is not None
    assert line.welcome.name != line.welcome.leader, "this one forwards"
    return line.welcome.name


@in_virtual_time
async def test_u6_a_silent_session_expires_alike_on_all_servers_and_by_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RedisLabs/redisraft RR-185, logcabin/logcabin#116: by the time that entries carry."""
    monkeypatch.setattr(trioraft._front, "SESSION_SECONDS", 20.0)  # an hour of heartbeats is long
    async with running_machines(3) as machines:
        leader = await machines.settled()
        async with client_of(machines) as client:
            await client.do(Say("here"))
            await client.read(Lines())
            machines.network.isolate("mem://client")
            await machines.until(lambda: sessions(machines) == [1, 1, 1])
            before = leader.status().last_index
            await trio.sleep(20)
            await machines.until(lambda: sessions(machines) == [0, 0, 0])
            assert machines["n1"].status().last_index <= before + 5, "an idle log hardly grows"
            machines.network.rejoin("mem://client")
            assert await client.do(Say("in a new one")) > 0
        assert await read(await machines.settled()) == ["here", "in a new one"]


def sessions(machines: Machines) -> list[int]:
    return [len(server._core.applier.sessions) for server in machines.up]
