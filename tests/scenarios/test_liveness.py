"""Liveness, flow control and the streams between servers."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import trio

import trioraft._recent
import trioraft._tickets
from tests.scenarios.worlds import befall, running_machines
from tests.server.puppets import Puppet, append
from tests.server.worlds import (
    HEARTBEAT,
    TIMEOUT,
    Cluster,
    Say,
    a_running_cluster,
    in_virtual_time,
    run_seeded,
)
from trioraft import CommandError, Server, ServerStopped
from trioraft._limits import APPEND_WINDOW, LINK_QUEUE_MESSAGES, MAX_APPEND_BYTES
from trioraft._rules.messages import AppendEntries, RequestVote
from trioraft._rules.node import Leading
from trioraft._transport.conversation import Conversation
from trioraft._wire.codec import encode
from trioraft._wire.strict import pack, unpack
from trioraft.testing import MemoryNetwork, MemoryTransport

HUNG_UP = (trio.EndOfChannel, trio.BrokenResourceError)


def leaders(cluster: Cluster) -> list[Server]:
    return [server for server in cluster.up if server.state == "leader"]


# -- F3: partial partitions --------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_f3_the_only_server_that_sees_a_majority_leads_within_four_timeouts(seed: int) -> None:
    """Quorum loss: the leader and all but one are cut off each other; that one does not lead yet.

    Omni-Paxos (Ng et al., EuroSys 2023), blog of 2023-05-08.
    """

    async def main() -> None:
        async with a_running_cluster(5, seed=seed) as cluster:
            old = await cluster.settled()
            hub = cluster.followers()[seed % 4]
            for one, other in itertools.combinations(cluster.names, 2):
                if hub not in (one, other):
                    cluster.cut(one, other)
            began = trio.current_time()
            await cluster.until(lambda: cluster[hub].state == "leader")
            assert trio.current_time() - began <= 4 * TIMEOUT
            assert old.state != "leader"
            term = cluster[hub].term
            for number in range(5):
                await cluster[hub].do(Say(f"{number}"))
                await trio.sleep(0.3)
            assert [(server.name, server.term) for server in leaders(cluster)] == [(hub, term)]

    run_seeded(seed, main)


@pytest.mark.parametrize("seed", range(3))
def test_f3_who_sees_a_majority_but_lacks_an_entry_waits_in_peace_for_a_link_to_heal(
    seed: int,
) -> None:
    """Constrained election: nobody can win, by design of Raft, and nothing must run away.

    No term and no queue grows; the first link that heals brings a leader within four time-outs.
    Omni-Paxos (Ng et al., EuroSys 2023), blog of 2023-05-08.
    """

    async def main() -> None:
        async with a_running_cluster(5, seed=seed) as cluster:
            old = await cluster.settled()
            hub = cluster.followers()[0]
            rest = [name for name in cluster.names if name not in (hub, old.name)]
            await cluster.crash(hub)
            for number in range(5):
                await cluster.say(f"missed by the hub {number}")
            await cluster.settled()
            await cluster.crash(old.name)
            for one, other in itertools.combinations(rest, 2):
                cluster.cut(one, other)
            await cluster.start(hub)
            terms = {server.name: server.term for server in cluster.up}
            await trio.sleep(6)
            assert leaders(cluster) == []
            assert {server.name: server.term for server in cluster.up} == terms
            for server in cluster.up:
                for link in server._peers.links.values():  # type: ignore[union-attr]
                    queue = () if link.conversation is None else link.conversation._queue
                    assert len(queue) <= 2
            one, other = list(itertools.combinations(rest, 2))[seed % 3]
            began = trio.current_time()
            for pair in ((one, other), (other, one)):
                cluster.network.heal(*(cluster.addresses[name] for name in pair))
            await cluster.until(lambda: leaders(cluster))
            assert trio.current_time() - began <= 4 * TIMEOUT
            assert leaders(cluster)[0].name in (one, other)
            cluster.heal()
            await cluster.start()
            await cluster.settled()

    run_seeded(seed, main)


# -- F7: a peer that vanishes without a word ---------------------------------------------------


@in_virtual_time
async def test_f7_a_peer_that_vanished_is_noticed_and_found_again() -> None:
    """Its machine is gone, its streams are half open: found out within 20 heartbeats.

    When it is back its streams stand again within as many, and it catches up.
    redpanda-data/redpanda#1937, bakwc/PySyncObj#172.
    """
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        gone, other = cluster.followers()
        for name in (leader.name, other):
            cluster.mute(name, gone)
            cluster.mute(gone, name)
        began = trio.current_time()
        await cluster.crash(gone)
        for name in (leader.name, other):
            await cluster.until(lambda name=name: not cluster[name].peers[gone].connected)
            assert trio.current_time() - began <= 20 * HEARTBEAT + 0.01
        await leader.do(Say("while it was gone"))
        await trio.sleep(7)
        cluster.heal()
        began = trio.current_time()
        await cluster.start(gone)
        await cluster.until(
            lambda: all(peer.connected for server in cluster.up for peer in server.peers.values())
        )
        assert trio.current_time() - began <= 20 * HEARTBEAT
        assert (await cluster.settled()) is leader


# -- F8: slow lines ----------------------------------------------------------------------------


def test_f8_a_follower_on_a_line_that_hardly_moves_costs_bounded_memory_and_nobodys_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A kilobyte a second for it, a hundred a second for the others.

    etcd's MaxInflightBytes; nats-io/nats-server#7853, scylladb/scylladb#31402 and #11559.
    """
    cache = 100_000
    monkeypatch.setattr(trioraft._recent, "LOG_CACHE_BYTES", cache)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster:
            leader = await cluster.settled()
            slow = cluster.followers()[0]
            there, here = cluster.addresses[slow], cluster.addresses[leader.name]
            cluster.network.throttle(here, there, 1000)
            most = 0
            for number in range(1000):
                began = trio.current_time()
                await leader.do(Say(f"{number} ".ljust(1024, "x")))
                assert trio.current_time() - began <= 0.01
                await trio.sleep(0.008)
                assert leader._core.log.recent._bytes <= cache + 1200
                most = max(most, bytes_for(leader, slow))
            # What waits for the line; what is in it is the system's, and it takes little.
            assert most <= APPEND_WINDOW * MAX_APPEND_BYTES
            assert leader.state == "leader"
            cluster.heal()
            await cluster.settled(within=10)
            assert len(cluster[slow].state_machine.lines) == 1000

    check()


def bytes_for(leader: Server, name: str) -> int:
    """How many bytes of entries the leader holds for a follower."""
    role, links = leader._core.node.role, leader._peers
    assert isinstance(role, Leading)
    assert links is not None
    progress = next(one for one in role.progress if one.peer.name == name)
    assert len(progress.in_flight) <= APPEND_WINDOW
    link = links.links[name].conversation
    if not isinstance(link, Conversation):
        return 0
    assert len(link._queue) <= LINK_QUEUE_MESSAGES
    appends = [message for message in link._queue if isinstance(message, AppendEntries)]
    return sum(len(frame) for message in appends for frame in message.entries.frames)


@in_virtual_time
async def test_f8_a_follower_on_a_slow_line_catches_up_all_the_same() -> None:
    """200 kB/s would carry what it lacks in eight seconds, if the stream were given the time.

    hashicorp/raft's and etcd's append messages are bounded far below what a time-out carries;
    databendlabs/openraft cf4badd0 had the same livelock with snapshots.
    """
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        late = cluster.followers()[0]
        await cluster.crash(late)
        async with trio.open_nursery() as nursery:
            for number in range(1500):
                nursery.start_soon(leader.do, Say(f"{number} ".ljust(1000, "x")))
        cluster.network.throttle(cluster.addresses[leader.name], cluster.addresses[late], 200_000)
        await cluster.start(late)
        await cluster.until(lambda: len(cluster[late].state_machine.lines) == 1500, within=20)


@in_virtual_time
async def test_f8_a_burst_over_slow_lines_ends_with_a_leader_that_has_committed_it() -> None:
    """Two of three servers, 200 kB/s between them, and 600 kB to be committed at once.

    It may take its time and cost the first leader its place, but not everybody's for ever.
    etcd's MaxInflightBytes, nats-io/nats-server#7853.
    """
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await cluster.crash(cluster.followers()[0])
        for source, destination in itertools.permutations(cluster.addresses.values(), 2):
            cluster.network.throttle(source, destination, 200_000)
        async with trio.open_nursery() as nursery:
            for number in range(600):
                nursery.start_soon(attempt, leader, f"{number} ".ljust(1000, "x"))
        await trio.sleep(15)
        last = max(len(disk.frames) for disk in cluster.disks.values())
        await cluster.until(lambda: max(s.commit_index for s in cluster.up) >= last, within=10)


async def attempt(server: Server, text: str) -> str:
    try:
        await server.do(Say(text))
    except CommandError as error:
        return error.outcome
    return "done"


# -- F9: too many commands ---------------------------------------------------------------------


@pytest.mark.parametrize("bound", ["MAX_PENDING_COMMANDS", "MAX_PENDING_BYTES"])
def test_f9_without_a_quorum_a_flood_of_commands_stays_outside_the_log(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every caller gets a typed answer within an election time-out; afterwards all goes on.

    etcd-io/etcd#10167.
    """
    size = {"MAX_PENDING_COMMANDS": 1, "MAX_PENDING_BYTES": 1030}[bound]
    monkeypatch.setattr(trioraft._tickets, bound, 100 * size)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster:
            leader = await cluster.settled()
            before = leader.status().last_index
            cluster.isolate(leader.name)
            began, outcomes = trio.current_time(), list[str]()

            async def one(number: int) -> None:
                outcomes.append(await attempt(leader, f"{number} ".ljust(1024, "x")))

            async with trio.open_nursery() as nursery:
                for number in range(1000):
                    nursery.start_soon(one, number)
                await trio.sleep(0.1)
                assert 90 <= leader.status().last_index - before <= 110
            assert trio.current_time() - began <= TIMEOUT + 0.01
            assert 90 <= outcomes.count("unknown") <= 110
            assert outcomes.count("unknown") + outcomes.count("not done") == 1000
            cluster.heal()
            await cluster.leader()
            assert await cluster.say("after") == 1
            await cluster.settled()

    check()


class Turns(trio.abc.Instrument):
    """Counts how often any task takes its turn."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


def test_f9_the_work_for_a_flood_of_commands_grows_with_the_flood_and_no_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many callers wait in front, a command costs the loop a bounded number of turns.

    Else 100,000 callers keep the loop from its heartbeats for minutes.  etcd-io/etcd#10167.
    """
    monkeypatch.setattr(trioraft._tickets, "MAX_PENDING_COMMANDS", 50)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster:
            leader, turns = await cluster.settled(), Turns()
            trio.lowlevel.add_instrument(turns)
            async with trio.open_nursery() as nursery:
                for number in range(2000):
                    nursery.start_soon(leader.do, Say(f"{number}"))
            trio.lowlevel.remove_instrument(turns)
            assert turns.count <= 2000 * 10

    check()


# -- F10: slow machines ------------------------------------------------------------------------


def test_f10_what_a_slow_machine_has_yet_to_apply_waits_on_disk_and_not_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A follower's machine keeps up with nothing while the others commit megabytes.

    scylladb/scylladb#31402.
    """
    cache = 50_000
    monkeypatch.setattr(trioraft._recent, "LOG_CACHE_BYTES", cache)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster:
            leader = await cluster.settled()
            slow = cluster[cluster.followers()[0]]
            go_on = slow._core.applier.advance
            monkeypatch.setattr(slow._core.applier, "advance", lambda index: None)
            for number in range(500):
                await leader.do(Say(f"{number} ".ljust(1000, "x")))
            await trio.sleep(0.1)
            assert slow.commit_index == leader.commit_index
            held = slow._core.log.recent._bytes
            go_on(slow.commit_index)
            await cluster.until(lambda: len(slow.state_machine.lines) == 500)
            assert held <= 3 * cache

    check()


# -- F11: streams that end at once --------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_f11_servers_whose_streams_are_reset_in_the_hello_link_up_all_the_same(seed: int) -> None:
    """Each way of ending, at each place of the hello.  bakwc/PySyncObj#161."""
    chance = Random(f"resets {seed}")

    async def main() -> None:
        async with a_running_cluster(3, seed=seed) as cluster:
            links = list(itertools.permutations(cluster.addresses.values(), 2))
            for _ in range(150):
                cluster.network.reset(*chance.choice(links))
                await trio.sleep(chance.choice([0, 0.001, 0.002, 0.003, 0.02]))
            await trio.sleep(0.5)
            for server in cluster.up:
                assert all(peer.connected for peer in server.peers.values())
            await cluster.settled()

    run_seeded(seed, main)


# -- F12: one that hangs -----------------------------------------------------------------------


class Unresolved(MemoryTransport):
    """Dialling one address hangs for good, as a name does that nobody resolves."""

    def __init__(self, network: MemoryNetwork, address: str, hangs: str) -> None:
        super().__init__(network, address)
        self.hangs = hangs

    def connect(self, address: str) -> Any:
        if address == self.hangs:
            return self._hang()
        return super().connect(address)

    @contextlib.asynccontextmanager
    async def _hang(self) -> Any:
        await trio.sleep_forever()
        yield


@in_virtual_time
async def test_f12_a_peer_that_cannot_be_dialled_holds_up_nobody_else() -> None:
    """Servers start, elect and commit while each dial of one peer hangs; then it is found.

    bakwc/PySyncObj#119, RedisLabs/redisraft f1b17fe.
    """
    async with a_running_cluster(3) as cluster:
        await cluster.settled()
        await cluster.crash(*cluster.names)
        transports = {
            name: Unresolved(cluster.network, cluster.addresses[name], cluster.addresses["n3"])
            for name in ("n1", "n2")
        }
        began = trio.current_time()
        for name, transport in transports.items():
            await cluster.start(name, transport=transport)
        leader = await cluster.leader()
        assert trio.current_time() - began <= 5 * TIMEOUT
        for number in range(20):
            began = trio.current_time()
            await leader.do(Say(f"{number}"))
            assert trio.current_time() - began <= 0.01
            await trio.sleep(0.1)
        assert "no answer within" in str(leader.peers["n3"].error)
        for transport in transports.values():
            transport.hangs = ""
        await cluster.start("n3")
        assert (await cluster.settled(within=3)) is leader


# -- F13: messages of another kind -------------------------------------------------------------

ODD: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "an unknown type": lambda fields: {**fields, "t": "vote_for_me"},
    "no type": lambda fields: {key: value for key, value in fields.items() if key != "t"},
    "a missing key": lambda fields: {key: value for key, value in fields.items() if key != "term"},
    "nothing at all": lambda fields: {},
}


@pytest.mark.parametrize("odd", ODD)
@in_virtual_time
async def test_f13_an_odd_request_is_logged_and_ends_its_stream_only(
    odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    """zhebrak/raftos#27 (a KeyError ended the server)."""
    caplog.set_level(logging.WARNING, logger="trioraft")
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        await cluster.crash(gone)
        caplog.clear()
        async with Puppet(cluster, gone).dial(leader.name) as line:
            await line._connection.send(pack(ODD[odd](unpack(encode(RequestVote(1, 0, 0))))))
            with pytest.raises(HUNG_UP):
                await line.receive()
        assert "an incoming stream ended" in caplog.text
        assert await leader.do(Say("on we go")) == 1
        await cluster.start(gone)
        assert (await cluster.settled()) is leader


@pytest.mark.parametrize("odd", ODD)
@in_virtual_time
async def test_f13_an_odd_answer_is_noted_and_ends_its_stream_only(odd: str) -> None:
    """zhebrak/raftos#27 (a KeyError ended the server)."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        await cluster.crash(gone)
        puppet, dials = Puppet(cluster, gone), 0

        async def oddly(connection: Any) -> None:
            nonlocal dials
            dials += 1
            with contextlib.suppress(*HUNG_UP):
                await connection.receive()
                await connection.send(encode(puppet.hello(None)))
                answer = {"term": 1, "number": 1, "t": "append_reply"}
                await connection.receive()
                await connection.send(pack(ODD[odd](answer)))
                await connection.receive()

        async with trio.open_nursery() as nursery:
            await nursery.start(puppet.transport.listen, oddly)
            for number in range(10):
                assert await leader.do(Say(f"{number}")) == number + 1
                await trio.sleep(0.1)
            assert dials >= 5, "it is dialled anew each time"
            assert "unknown type" in str(leader.peers[gone].error) or "malformed" in str(
                leader.peers[gone].error
            )
            nursery.cancel_scope.cancel()
        await cluster.start(gone)
        assert (await cluster.settled()) is leader


# -- F14: an older stream of one peer ----------------------------------------------------------


@in_virtual_time
async def test_f14_what_an_older_stream_still_brings_cannot_undo_what_a_newer_one_brought() -> None:
    """Two streams of one leader: the older one's requests come late, and change nothing.

    databendlabs/openraft 369e5d1c.
    """
    async with a_running_cluster(3) as cluster:
        await cluster.crash("n1", "n3")
        await trio.sleep(1)
        server = cluster["n2"]
        term, prev = server.term + 2, (server.status().last_index, server.status().last_term)
        said = [(term, f"{number}") for number in range(4)]
        puppet = Puppet(cluster, "n1")
        async with puppet.dial("n2") as old:
            assert (await old.ask(append(term, prev, *said[:1]))).success
            async with puppet.dial("n2") as new:
                assert (await new.ask(append(term, prev, *said, number=9))).match_index == prev[
                    0
                ] + 4
                for late in (append(term, prev, *said[:2], number=2), append(term, prev, number=3)):
                    await old.send(late)
                    reply = await new.receive()
                    assert (reply.number, reply.match_index) == (9, prev[0] + 4)
                assert len(cluster.disks["n2"].frames) == prev[0] + 4


# -- F15: order and number ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_f15_messages_that_overtake_each_other_and_come_twice_break_nothing(seed: int) -> None:
    """Half of all messages are late, and half of all come twice; leaders die meanwhile.

    More than streams would do, though as much as streams that break and are dialled anew.
    etcd-io/raft's TestLogReplicationWithReorderedMessage.
    """

    async def main() -> None:
        chance = Random(f"disorder {seed}")

        def fate(*_: object) -> list[float]:
            late = [chance.uniform(0, 0.03) if chance.random() < 0.5 else 0.0 for _ in range(2)]
            return late if chance.random() < 0.5 else late[:1]

        async with running_machines(3 + 2 * (seed % 2), seed=seed) as machines:
            stop = trio.Event()

            def plain_hello(sender: str, receiver: str, message: object) -> list[float]:
                said = type(message).__name__
                return [0.0] if said in ("Hello", "Genesis", "Refusal") else fate()

            async with trio.open_nursery() as nursery:
                for client in "ab":
                    nursery.start_soon(machines.chatter, client, stop, 0.01)
                for _ in range(4):
                    befall(machines, plain_hello)
                    await trio.sleep(0.5)
                    await restart_a_leader(machines)
                stop.set()
                machines.heal()
            await machines.settled(within=5)
            assert len(machines.acknowledged) >= 40

    run_seeded(seed, main)


async def restart_a_leader(cluster: Cluster) -> None:
    leaders = [server.name for server in cluster.up if server.state == "leader"]
    await cluster.restart(*leaders[:1])


# -- F16: the end ------------------------------------------------------------------------------


@in_virtual_time
async def test_f16_what_arrives_after_the_end_is_nobodys() -> None:
    """Requests that were on their way to a server when it stopped, and to its next life.

    logcabin/logcabin#144 and #183.
    """
    async with a_running_cluster(3, delay=0.03) as cluster:
        leader = await cluster.settled()
        one = cluster.followers()[0]
        for number in range(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leader.do, Say(f"{number}"))
                await trio.sleep(0.02)
                await cluster.restart(one)
        stopped = cluster[one]
        await stopped.stop()
        await trio.sleep(1)
        assert stopped.state == "stopped"
        with pytest.raises(ServerStopped):
            await stopped.do(Say("too late"))
        await cluster.start(one)
        await cluster.settled()
        assert leader.state_machine.lines == [f"{number}" for number in range(10)]


@in_virtual_time
async def test_f16_one_that_can_neither_send_nor_dial_nor_write_ends_within_two_seconds() -> None:
    """A stream that takes nothing, a name that nobody resolves, and a sync of a second and a half.

    logcabin/logcabin#144 and #183.
    """
    async with running_machines(3) as machines:
        await machines.settled()
        await machines.crash("n1")
        hangs = Unresolved(machines.network, "mem://n1", "mem://n3")
        await machines.start("n1", transport=hangs)
        leader = await machines.leader("n2", "n3")
        machines.mute("n1", "n2")
        machines.mute("n2", "n1")
        await machines.crash("n3")  # a puppet beside it would be a copy of its disk
        async with Puppet(machines, "n3").dial("n1") as line:
            status = machines["n1"].status()
            machines.disks["n1"].seconds = 1.5
            term, prev = leader.term + 50, (status.last_index, status.last_term)
            await line.send(append(term, prev, (term, "hangs")))
            await trio.sleep(0.1)
            machines.disks["n1"].seconds = 0.0
            began = trio.current_time()
            await machines["n1"].stop()
            assert 1.3 <= trio.current_time() - began <= 2, "the write under way is waited for"
        machines.heal()
        await machines.restart(*machines.names)
        await machines.settled()
