"""Snapshots in whole clusters: what comes late, what conflicts, what breaks in the midst of it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
import trio
from attrs import evolve

import trioraft._front
from tests.scenarios.worlds import DIRECTORY, SegmentDisk, running_machines
from tests.server.puppets import Puppet, append, state_on
from tests.server.worlds import TIMEOUT, in_virtual_time
from tests.snapshots.worlds import bringing, offer, snapshot_of
from trioraft import Config, OutcomeUnknown, Server
from trioraft._events import AnyEvent, SnapshotInstalled
from trioraft._rules import effects as do
from trioraft._rules.messages import AppendEntries
from trioraft._tickets import Ticket
from trioraft._wire.codec import decode
from trioraft._wire.installing import SnapshotPiece, SnapshotWanted
from trioraft._wire.stamps import stamped_time
from trioraft.testing import (
    DiskFault,
    SimulatedCluster,
    SimulatedFiles,
    seeded_run,
    simulated_cluster,
)
from trioraft.testing._cache import Chance
from trioraft.testing._workload import Add, Get, Put, Registers

ASKED = Config(snapshot_entries=None, snapshot_bytes=None, trailing_entries=0)
"""Only who asks gets one, and then the log forgets all that it may."""

FORGOTTEN = 6 * TIMEOUT
"""Seconds after which nothing is kept for a follower that does not answer."""

Test = Callable[[SimulatedCluster], Awaitable[None]]


def in_a_cluster(**options: Any) -> Callable[[Test], Callable[[], None]]:
    """The test gets a cluster of three that has settled."""

    def wrap(test: Test) -> Callable[[], None]:
        async def main() -> None:
            async with simulated_cluster(Registers, **{"config": ASKED, **options}) as cluster:
                cluster.start()
                await cluster.settled(10)
                await test(cluster)
                cluster.heal_all()
                await cluster.settled(10)
                states = [cluster[name].state_machine.values for name in cluster.names]
                assert states == states[:1] * 3

        @functools.wraps(test)
        def run() -> None:
            seeded_run(1, main)

        del run.__wrapped__  # type: ignore[attr-defined]  pytest would ask for a fixture
        return run

    return wrap


async def put(cluster: SimulatedCluster, *values: int) -> Server:
    leader = await cluster.until(lambda: cluster.leader, 10)
    for value in values:
        await leader.do(Put("a", value))
    return leader


async def compact(cluster: SimulatedCluster) -> int:
    """Have every server that runs take a snapshot, and forget what comes before."""
    await trio.sleep(0.1)
    for server in cluster.servers:
        index = await server.take_snapshot()
        assert server._core.node.log.base_index == index
    await trio.sleep(0.1)  # on their disks, too
    return index


async def one_that_needs_it(cluster: SimulatedCluster) -> str:
    """A server that is down, and lacks what the others have forgotten."""
    late = next(name for name in cluster.names if cluster[name].state != "leader")
    cluster.kill(late)
    await cluster.ended(late)
    await put(cluster, 1, 2, 3)
    await trio.sleep(FORGOTTEN)
    await compact(cluster)
    return late


def wanted(cluster: SimulatedCluster, by: str) -> list[int]:
    """From which offsets on a server will have asked for pieces."""
    found: list[int] = []

    def tap(source: str, destination: str, data: bytes) -> None:
        message = decode(data)
        if isinstance(message, SnapshotWanted) and source == cluster.hosts[by].address:
            found.append(message.offset)

    cluster.network.tap = tap
    return found


def requests(cluster: SimulatedCluster) -> list[AppendEntries]:
    """All that will have been sent of entries."""
    found: list[AppendEntries] = []

    def tap(source: str, destination: str, data: bytes) -> None:
        message = decode(data)
        if isinstance(message, AppendEntries):
            found.append(message)

    cluster.network.tap = tap
    return found


def told_by(server: Server) -> list[AnyEvent]:
    found: list[AnyEvent] = []

    class Reader:
        def tell(self, event: AnyEvent) -> None:
            found.append(event)

        def end(self) -> None:
            """Nothing is left to see."""

    server._hub._subscriptions.append(Reader())  # type: ignore[arg-type]
    return found


def slow_down(cluster: SimulatedCluster, to: str) -> None:
    """A snapshot of some kilobytes takes a while."""
    for other in cluster.names:
        if other != to:
            cluster.slow(other, to, 0.06, 0.07)


# -- what comes late, what agrees --------------------------------------------------------------


@in_a_cluster()
async def test_s1_s2_a_snapshot_of_what_is_there_already_changes_nothing(
    cluster: SimulatedCluster,
) -> None:
    """It is on its way when the follower has gone on by entries: etcd-io/raft."""
    leader = await put(cluster, 1, 2)
    await compact(cluster)
    await put(cluster, 3, 4)
    await cluster.settled(1)
    for peer in leader._core.node.followers:
        server = cluster[peer.name]
        before, told = server._core.node.log, told_by(server)
        asked = wanted(cluster, peer.name)
        leader._core.sender.send(do.SendSnapshot(leader._core.node.tenure, peer))
        await trio.sleep(0.5)
        assert len(asked) == 1, "it wants nothing"
        assert server._core.node.log == before
        assert not [event for event in told if isinstance(event, SnapshotInstalled)]
        assert server.state_machine.values == {"a": 4}


@in_a_cluster()
async def test_s5_a_snapshot_of_an_old_term_lowers_no_term(cluster: SimulatedCluster) -> None:
    """willemt/raft#118."""
    late = await one_that_needs_it(cluster)
    old = cluster.judge.committed[-1]
    for _ in range(2):
        leader = cluster.leader
        assert leader is not None
        cluster.kill(leader.name)
        await cluster.ended(leader.name)
        cluster.start(leader.name)
        await cluster.until(lambda: cluster.leader, 5)
    told: list[AnyEvent] = []
    cluster.start(late)
    told = told_by(cluster[late])
    await cluster.settled(5)
    assert [event for event in told if isinstance(event, SnapshotInstalled)]
    assert cluster[late].term > old
    terms = [cluster[name].term for name in cluster.names]
    assert terms == terms[:1] * 3


@in_a_cluster()
async def test_s6_r11_who_lacks_the_very_entry_that_a_snapshot_ends_with_gets_it(
    cluster: SimulatedCluster,
) -> None:
    """willemt/raft#118, RedisLabs/raft#47; and nobody is asked about a term that nobody knows:
    etcd-io/raft 76f1249.
    """
    late = next(name for name in cluster.names if cluster[name].state != "leader")
    await put(cluster, 1)
    await cluster.settled(1)
    cluster.kill(late)
    await cluster.ended(late)
    await put(cluster, 2)
    await trio.sleep(FORGOTTEN)
    index = await compact(cluster)
    assert index == cluster[late].last_applied + 1
    heard = requests(cluster)
    cluster.start(late)
    told = told_by(cluster[late])
    await cluster.settled(2)
    assert [event.value for event in told if isinstance(event, SnapshotInstalled)] == [index]
    assert all((m.prev_log_index == 0) == (m.prev_log_term == 0) for m in heard)


@in_a_cluster()
async def test_r13_entries_that_a_follower_has_forgotten_may_come_again(
    cluster: SimulatedCluster,
) -> None:
    """Its leader has not heard that it has them: databendlabs/openraft 71a290cd, 44381b0c."""
    leader = await put(cluster, 1)
    one, other = [name for name in cluster.names if name != leader.name]
    cluster.kill(other)
    await cluster.ended(other)
    await put(cluster, 2, 3)
    await cluster.until(lambda: cluster[one].last_applied == leader.last_applied, 2)
    base = await cluster[one].take_snapshot()
    matches = leader._core.node.role.of(cluster[one]._core.node.me)
    before = cluster[one]._core.node.log
    heard = requests(cluster)
    role = leader._core.node.role
    unheard = role.with_progress(evolve(matches, match_index=1, next_index=2, probing=False))
    leader._core._node = evolve(leader._core.node, role=unheard)
    leader._core.bell(cluster[one]._core.node.me).ring()
    await leader.do(Put("a", 4))
    assert any(m.prev_log_index == 1 and m.entries.last >= base for m in heard)
    after = cluster[one]._core.node.log
    assert (after.base_index, after.base_term) == (before.base_index, before.base_term)
    assert after.agrees(before, before.last_index)
    cluster.start(other)


@in_a_cluster()
async def test_s13_where_there_is_nothing_to_compact_nothing_happens(
    cluster: SimulatedCluster,
) -> None:
    """hashicorp/raft 7b09f38, #358, RedisLabs/redisraft d8e8630."""
    await put(cluster, 1)
    index = await compact(cluster)
    compactions = cluster.judge.counts["compactions"]
    for _ in range(3):
        assert await compact(cluster) == index
    assert cluster.judge.counts["compactions"] == compactions
    cluster.kill()
    await cluster.ended()
    cluster.start()
    await cluster.settled(5)
    assert cluster["n1"].state_machine.values == {"a": 1}


def test_s13_fewer_entries_than_stay_in_any_case_are_not_compacted() -> None:
    async def main() -> None:
        config = evolve(ASKED, trailing_entries=100)
        async with simulated_cluster(Registers, config=config) as cluster:
            cluster.start()
            await cluster.settled(5)
            await put(cluster, 1, 2)
            for server in cluster.servers:
                await server.take_snapshot()
                assert server._core.node.log.base_index == 0
            await put(cluster, 3)

    seeded_run(1, main)


# -- on its way --------------------------------------------------------------------------------


@in_a_cluster()
async def test_s8_the_log_is_compacted_again_and_again_while_a_slow_one_travels(
    cluster: SimulatedCluster,
) -> None:
    """databendlabs/openraft cf4badd0, hashicorp/raft's TrailingLogs."""
    late = await one_that_needs_it(cluster)
    slow_down(cluster, late)
    cluster.start(late)
    told = told_by(cluster[late])
    for value in range(8):
        await put(cluster, value)
        await trio.sleep(0.2)
        leader = cluster.leader
        assert leader is not None
        await leader.take_snapshot()
    await cluster.settled(5)
    assert 1 <= len([event for event in told if isinstance(event, SnapshotInstalled)]) <= 2


@in_a_cluster()
async def test_s9_a_receiver_that_starts_again_in_the_middle_begins_anew(
    cluster: SimulatedCluster,
) -> None:
    """logcabin/logcabin#174, databendlabs/openraft 2eccb9e1: no two are mixed."""
    late = await one_that_needs_it(cluster)
    slow_down(cluster, late)
    cluster.start(late)
    asked = wanted(cluster, late)
    await cluster.until(lambda: len(asked) >= 2, 3)
    cluster.kill(late)
    await cluster.ended(late)
    del asked[:]
    cluster.start(late)
    await cluster.settled(5)
    assert asked[0] == 0
    assert asked == sorted(asked)


@in_a_cluster()
async def test_a_transfer_goes_on_where_it_was_when_its_stream_breaks(
    cluster: SimulatedCluster,
) -> None:
    late = await one_that_needs_it(cluster)
    slow_down(cluster, late)
    cluster.start(late)
    asked = wanted(cluster, late)
    await cluster.until(lambda: len(asked) >= 2, 3)
    for other in cluster.names:
        if other != late:
            cluster.reset(other, late)
    reached = asked[-1]
    await cluster.settled(5)
    assert asked.count(0) == 1
    assert asked.count(reached) == 2


@in_a_cluster()
async def test_the_next_leader_goes_on_with_the_very_same_one(cluster: SimulatedCluster) -> None:
    """Both have taken theirs at the same entry, and so they are equal byte by byte."""
    late = await one_that_needs_it(cluster)
    slow_down(cluster, late)
    cluster.start(late)
    asked = wanted(cluster, late)
    await cluster.until(lambda: len(asked) >= 2, 3)
    leader = cluster.leader
    assert leader is not None
    cluster.kill(leader.name)
    await cluster.ended(leader.name)
    await cluster.until(lambda: cluster.leader, 5)
    await cluster.until(lambda: cluster[late].status().snapshot_index > 0, 5)
    assert asked.count(0) == 1
    cluster.start(leader.name)


@in_a_cluster()
async def test_a_leader_that_dies_in_the_midst_of_it_is_replaced(
    cluster: SimulatedCluster,
) -> None:
    """Seed G-43: there the receiver had no time-out, and waited for ever."""
    late = await one_that_needs_it(cluster)
    slow_down(cluster, late)
    cluster.start(late)
    asked = wanted(cluster, late)
    await cluster.until(lambda: len(asked) >= 2, 3)
    leader = cluster.leader
    assert leader is not None
    cluster.pause(leader.name, 3)
    await cluster.until(lambda: cluster.leader not in (None, leader), 3)
    await cluster.until(lambda: cluster[late].status().snapshot_index > 0, 3)


@in_a_cluster()
async def test_how_far_it_has_come_is_in_the_status_of_both(cluster: SimulatedCluster) -> None:
    late = await one_that_needs_it(cluster)
    slow_down(cluster, late)
    cluster.start(late)
    leader = cluster.leader
    assert leader is not None
    one = await cluster.until(lambda: cluster[late].status().installing, 3)
    other = await cluster.until(lambda: leader.peers[late].snapshot, 3)
    assert 0 < one < 1
    assert 0 < other < 1
    await cluster.settled(5)
    assert cluster[late].status().installing is None
    await cluster.until(lambda: leader.peers[late].snapshot is None, 3)


@pytest.mark.parametrize("fault", [DiskFault.FULL, DiskFault.BROKEN])
@pytest.mark.parametrize("call", ["truncate", "create", "rename"])
def test_s10_a_receiver_whose_disk_refuses_a_piece_goes_on(call: str, fault: DiskFault) -> None:
    """hashicorp/raft#212, #213, 5f378a6: no half file is left, and the next try succeeds."""

    @in_a_cluster()
    async def test(cluster: SimulatedCluster) -> None:
        late = await one_that_needs_it(cluster)
        slow_down(cluster, late)
        cluster.start(late)
        asked = wanted(cluster, late)
        if call != "create":
            await cluster.until(lambda: len(asked) >= 2, 3)
        else:
            await cluster.until(lambda: cluster[late].leader, 3)
        files = cluster.hosts[late].files
        files.fail_next(call, fault)
        await cluster.settled(10)
        assert cluster.hosts[late].lives == 2, "it lived on"
        assert asked.count(0) == 2
        names = files.names(f"/{late}/snapshots")
        assert not [name for name in names if name.endswith(".part")]

    test()


@in_a_cluster()
async def test_s16_one_that_is_spoiled_on_its_way_is_refused_and_comes_again(
    cluster: SimulatedCluster,
) -> None:
    """hashicorp/raft e59f65d: nobody dies of it.  Seed G-52: it comes in pieces."""
    late = await one_that_needs_it(cluster)
    slow_down(cluster, late)
    cluster.start(late)
    asked = wanted(cluster, late)
    await cluster.until(lambda: len(asked) >= 2, 3)
    cluster.spoil(late)
    await cluster.settled(10)
    assert cluster.hosts[late].lives == 2
    assert asked.count(0) == 2
    assert len(set(asked)) > 3


@in_a_cluster(seed=3)
async def test_s11_what_was_applied_never_goes_back(cluster: SimulatedCluster) -> None:
    """One is installed while entries are applied: databendlabs/openraft eed681d5.

    A server is cut off again and again, for a few entries each time; the judge looks at each step.
    """
    chance = Random(11)
    told: list[AnyEvent] = []
    for server in cluster.servers:
        told = told_by(server) if server.state != "leader" else told
    for round_ in range(12):
        leader = await put(cluster, round_)
        late = chance.choice([name for name in cluster.names if name != leader.name])
        cluster.isolate(late)
        await put(cluster, round_, round_)
        if round_ % 2:
            await trio.sleep(FORGOTTEN)
        await leader.take_snapshot()
        cluster.heal_all()
        await put(cluster, *range(5))
    installed = [event for event in told if isinstance(event, SnapshotInstalled)]
    assert cluster.judge.counts["installs"] >= 4
    for event in installed:
        assert event.value > (event.previous or 0)


# -- what a disk holds -------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["kill", "power_off"])
@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_s12_s15_d9_killed_while_a_snapshot_and_the_log_are_not_one_yet(
    ending: str, moment: int
) -> None:
    """It has its name, or an older one has gone, and the log does not know; entries go on.

    hashicorp/raft 1660e03, #232, etcd-io/etcd#14143, RedisLabs/redisraft 5195c0c, #42, #43; term
    and vote are still there: RedisLabs/redisraft 46a6ad0.
    """

    @in_a_cluster(seed=moment)
    async def test(cluster: SimulatedCluster) -> None:
        await put(cluster, 1)
        await compact(cluster)
        terms = [server.term for server in cluster.servers]
        left = moment

        def at(what: str, name: str) -> None:
            nonlocal left
            left -= what == "snapshot"
            if left == 0:
                getattr(cluster, ending)()

        cluster.judge.on_moment = at
        leader = await put(cluster, 2)
        await trio.sleep(0.1)
        for name in cluster.names:
            cluster.take_snapshot(name)
        await last_word(leader)
        with trio.fail_after(5):
            await cluster.ended()
        cluster.judge.on_moment = lambda what, name: None
        cluster.start()
        await cluster.settled(5)
        assert min(server.term for server in cluster.servers) >= max(terms)
        assert cluster["n1"].state_machine.values["a"] in (2, 3)
        await compact(cluster)
        await put(cluster, 4)

    test()


async def last_word(leader: Server) -> None:
    """Say something that may or may not be done."""
    with suppress(trioraft.TrioraftError):
        await leader.do(Put("a", 3))


KILLS = (DiskFault.CRASH_BEFORE, DiskFault.TORN, DiskFault.CRASH_AFTER)


@pytest.mark.parametrize("loses_power", [False, True])
@in_virtual_time
async def test_s3_killed_at_any_call_while_a_conflicting_one_is_installed(
    loses_power: bool,
) -> None:
    """Never both of them, and never neither: databendlabs/openraft 674e78aa, RedisLabs/redisraft
    dfe4a3e, 61d7412.
    """
    chance = Random(3)
    async with running_machines(3, config=ASKED) as machines:
        await machines.say("before")
        await machines.settled()
        await machines.crash(*machines.names)
        one, other = Puppet(machines, "n1"), Puppet(machines, "n3")
        last, term = len(machines.disks["n2"].frames), state_on(machines.disks["n2"]).term
        tail = [(term + 1, f"old {number}") for number in range(4)]
        await machines.start("n2")
        await trio.sleep(2 * TIMEOUT)
        async with one.dial("n2") as line:
            assert (await line.ask(append(term + 1, (last, term), *tail, commit=last))).success
        await machines.kill("n2")
        template = machines.files("n2").copy()
        data, offered = snapshot_of(
            last + 2,
            term + 2,
            b"before\nnew 1\nnew 2",
            cluster=one.hello(None).cluster,
        )
        call = 1
        while True:
            disk = SegmentDisk(f"{call}")
            disk.files = template.copy()
            machines.put_disk("n2", disk)
            disk.files.fail(call, KILLS[call % 3])
            said = await bring(machines, other, offer(offered, term + 2), data)
            died = not machines.is_up("n2")
            await end(machines, chance if loses_power else None)
            await machines.start("n2")
            await trio.sleep(TIMEOUT)
            node = machines["n2"]._core.node
            lines = machines["n2"].state_machine.lines
            found = node.log.base_index, node.log.last_index, lines
            assert found in ((0, last + 4, []), (last + 2, last + 2, ["before", "new 1", "new 2"]))
            assert found[0] or not said, "what was said to be installed is there"
            assert len(snapshots_on(disk.files)) == bool(found[0])
            await machines.crash("n2")
            if not died:
                break
            call += 1
        assert call > 40
        assert said
        machines.put_disk("n2", SegmentDisk("the end"))
        machines.files("n2").__dict__.update(template.copy().__dict__)


def snapshots_on(files: SimulatedFiles) -> list[str]:
    directory = f"{DIRECTORY}/snapshots"
    return files.names(directory) if files.exists(directory) else []


async def bring(machines: Any, puppet: Puppet, said: Any, data: bytes) -> bool:
    """Start the second server, and bring it a snapshot; whether it says that it has it."""
    await machines.start("n2")
    await trio.sleep(2 * TIMEOUT)
    try:
        async with bringing(puppet, "n2") as line:
            with trio.fail_after(1):
                wants = await line.ask(said)
                while wants.offset < said.size:
                    piece = data[wants.offset : wants.offset + 100]
                    wants = await line.ask(SnapshotPiece(wants.offset, piece))
                await trio.sleep(0.05)
                return True
    except (OSError, trio.TooSlowError, trio.EndOfChannel, trio.BrokenResourceError):
        await trio.sleep(0.05)
        return False


async def end(machines: Any, chance: Chance | None) -> None:
    if chance is None:
        await machines.kill("n2")
    else:
        await machines.lose_power(chance, "n2")


# -- clients -----------------------------------------------------------------------------------


@in_a_cluster()
async def test_u1_a_retry_after_a_snapshot_and_a_restart_of_all_is_applied_once(
    cluster: SimulatedCluster,
) -> None:
    """The answer is in the snapshot, and nowhere else any more: Raft thesis 6.3."""
    async with cluster.client("c") as client:
        await client.do(Put("a", 1))
        pending = client.prepare(Add("a", 10))
        for host in cluster.hosts.values():
            cluster.network.disorder(host.address, "ws://c:1", lambda: ())
        with trio.move_on_after(TIMEOUT):
            await pending.do()
            raise AssertionError("the answer was lost")
        await compact(cluster)
        cluster.kill()
        await cluster.ended()
        for host in cluster.hosts.values():
            cluster.network.heal(host.address, "ws://c:1")
        cluster.start()
        await cluster.until(lambda: cluster.leader, 5)
        assert all(server._core.node.log.base_index for server in cluster.servers)
        assert await pending.do() == 11
        assert await client.resume(pending.handle, Add) == 11
        assert await client.do(Get("a")) == 11


@in_a_cluster()
async def test_u1_who_came_by_snapshot_knows_what_was_done(cluster: SimulatedCluster) -> None:
    """The new leader has never applied the command, and answers the retry all the same."""
    async with cluster.client("c") as client:
        pending = client.prepare(Put("a", 7))
        await pending.do()
        late = await one_that_needs_it(cluster)
        cluster.start(late)
        await cluster.settled(5)
        before = cluster.judge.history[-1].index
        tables = [server._core.applier.sessions.capture() for server in cluster.servers]
        assert tables == tables[:1] * 3
        for name in cluster.names:
            if cluster[name].state == "leader" and name != late:
                cluster.isolate(name)
        await cluster.until(lambda: cluster.leader, 5)
        assert await pending.do() is None, "what it came to when it was done"
        assert before


def test_u6_sessions_that_came_by_snapshot_expire_like_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RedisLabs/redisraft RR-185, logcabin/logcabin#116."""
    monkeypatch.setattr(trioraft._front, "SESSION_SECONDS", 20.0)

    @in_a_cluster()
    async def test(cluster: SimulatedCluster) -> None:
        async with cluster.client("c") as client:
            await client.do(Put("a", 1))
            late = await one_that_needs_it(cluster)
            cluster.start(late)
            await cluster.settled(5)
            assert [len(s._core.applier.sessions) for s in cluster.servers] == [1, 1, 1]
        due = {s._core.applier.sessions.due for s in cluster.servers}
        assert len(due) == 1
        await trio.sleep(25)
        await cluster.settled(5)
        assert [len(s._core.applier.sessions) for s in cluster.servers] == [0, 0, 0]

    test()


@in_a_cluster()
async def test_callers_whose_entries_come_by_snapshot_are_answered(
    cluster: SimulatedCluster,
) -> None:
    """What a server appended while it led was committed, and another one tells what came of it."""
    late = await one_that_needs_it(cluster)
    slow_down(cluster, late)
    cluster.start(late)
    core = await cluster.until(lambda: cluster[late].leader and cluster[late]._core, 3)
    told: list[object] = []
    core.tickets.submit(Ticket(b"", tell=lambda _, result: told.append(result)))
    core.tickets.appended(core.tickets.take(), 3, 1)
    await cluster.until(lambda: told, 10)
    (result,) = told
    assert isinstance(result, OutcomeUnknown)
    assert "a snapshot was installed" in str(result)


@in_a_cluster()
async def test_the_clusters_time_does_not_fall_where_the_log_is_all_snapshot(
    cluster: SimulatedCluster,
) -> None:
    """All wall clocks are set back while everything is down."""
    await put(cluster, 1)
    await compact(cluster)
    before = stamped_time(cluster.judge.history[-1].payload)
    cluster.kill()
    await cluster.ended()
    for host in cluster.hosts.values():
        host.clock.set_wall(-1e6)
    cluster.start()
    await cluster.settled(5)
    assert stamped_time(cluster.judge.history[-1].payload) >= before
