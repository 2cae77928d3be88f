"""The acceptance tests of goraft that concern whole servers, by their names there.

Where goraft's own figure came from one of its bugs (term 0, a no-op at no fixed index), the
expected outcome is what a correct library does.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
import trio.testing

import trioraft
from tests.server.puppets import Puppet, append, commands, state_on
from tests.server.worlds import (
    TIMEOUT,
    Cluster,
    Room,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
)
from tests.snapshots.worlds import bringing, offer, snapshot_of
from trioraft import (
    Commit,
    Config,
    LeaderChange,
    NotLeaderError,
    Server,
    StateChange,
)
from trioraft._events import Hub
from trioraft._rules.messages import (
    AppendEntries,
    AppendEntriesReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
)
from trioraft._state import HardState
from trioraft.abc import Batch, Kind
from trioraft.testing import MemoryTransport, SimulatedCluster, seeded_run, simulated_cluster


async def one_follower(cluster: Cluster, **state: object) -> Server:
    """A formed cluster of three of which only n2 runs, on an empty log, beyond its stickiness."""
    await cluster.formed()
    await cluster.crash(*cluster.names)
    cluster.history.clear()
    cluster.leaders.clear()
    for name in cluster.names:
        cluster.disks[name].frames.clear()
    await reset(cluster, "n2", term=0, voted_for=None, **state)
    return cluster["n2"]


async def reset(cluster: Cluster, name: str, **state: object) -> None:
    if cluster.is_up(name):
        await cluster.crash(name)
    changed = attrs.evolve(state_on(cluster.disks[name]), **({"voted_for": None} | state))
    assert isinstance(changed, HardState)
    cluster.disks[name].kept._state = changed.encode()
    await cluster.start(name)
    await trio.sleep(TIMEOUT)


async def vote(cluster: Cluster, name: str, term: int, index: int, log_term: int) -> object:
    async with Puppet(cluster, name).dial("n2") as line:
        return await line.ask(RequestVote(term, index, log_term))


# -- server_test.go ----------------------------------------------------------------------------


@in_virtual_time
async def test_server_request_vote() -> None:
    async with a_cluster(3) as cluster:
        server = await one_follower(cluster)
        assert await vote(cluster, "n1", 1, 1, 0) == RequestVoteReply(1, vote_granted=True)
        assert (server.term, server.voted_for) == (1, "n1")


@in_virtual_time
async def test_server_request_vote_denied_for_stale_term() -> None:
    async with a_cluster(3) as cluster:
        await one_follower(cluster)
        await reset(cluster, "n2", term=2)
        assert await vote(cluster, "n1", 1, 1, 0) == RequestVoteReply(2, vote_granted=False)
        assert (cluster["n2"].term, cluster["n2"].voted_for) == (2, None)


@in_virtual_time
async def test_server_request_vote_denied_if_already_voted() -> None:
    async with a_cluster(3) as cluster:
        await one_follower(cluster)
        await reset(cluster, "n2", term=2)
        assert await vote(cluster, "n1", 2, 1, 0) == RequestVoteReply(2, vote_granted=True)
        assert await vote(cluster, "n3", 2, 1, 0) == RequestVoteReply(2, vote_granted=False)
        assert await vote(cluster, "n1", 2, 1, 0) == RequestVoteReply(2, vote_granted=True)
        assert cluster["n2"].voted_for == "n1"


@in_virtual_time
async def test_server_request_vote_approved_if_already_voted_in_older_term() -> None:
    async with a_cluster(3) as cluster:
        await one_follower(cluster)
        await reset(cluster, "n2", term=2)
        assert await vote(cluster, "n1", 2, 2, 1) == RequestVoteReply(2, vote_granted=True)
        assert cluster["n2"].voted_for == "n1"
        assert await vote(cluster, "n3", 3, 2, 1) == RequestVoteReply(3, vote_granted=True)
        assert cluster["n2"].voted_for == "n3"


@in_virtual_time
async def test_server_request_vote_deny_if_candidate_log_is_behind() -> None:
    async with a_cluster(3) as cluster:
        await one_follower(cluster)
        await cluster.crash("n2")
        cluster.disks["n2"].frames[:] = commands(1, (1, "a"), (1, "b"), (2, "c"))
        await reset(cluster, "n2", term=2)
        assert await vote(cluster, "n1", 3, 2, 2) == RequestVoteReply(3, vote_granted=False)
        assert await vote(cluster, "n1", 2, 3, 2) == RequestVoteReply(3, vote_granted=False)
        assert await vote(cluster, "n1", 3, 3, 2) == RequestVoteReply(3, vote_granted=True)
        assert await vote(cluster, "n1", 3, 4, 2) == RequestVoteReply(3, vote_granted=True)


@in_virtual_time
async def test_e3_g40_terms_of_the_last_entries_are_compared_before_lengths() -> None:
    async with a_cluster(3) as cluster:
        await one_follower(cluster)
        await cluster.crash("n2")
        cluster.disks["n2"].frames[:] = commands(1, (1, "a"), (3, "b"))
        await reset(cluster, "n2", term=3)
        assert not (await vote(cluster, "n1", 9, 9, 2)).vote_granted  # type: ignore[attr-defined]
        assert (await vote(cluster, "n1", 9, 2, 3)).vote_granted  # type: ignore[attr-defined]
        assert (await vote(cluster, "n1", 10, 1, 4)).vote_granted  # type: ignore[attr-defined]


@in_virtual_time
async def test_g40_of_two_logs_that_differ_in_length_and_term_one_wins() -> None:
    """Logs [1,1,1,1] and [1,1,2], the third server down: goraft has no leader for ever."""
    async with a_cluster(3) as cluster:
        await one_follower(cluster)
        await cluster.crash("n2")
        cluster.disks["n1"].frames[:] = commands(1, *[(1, "a")] * 4)
        cluster.disks["n2"].frames[:] = commands(1, (1, "a"), (1, "a"), (2, "b"))
        for name in ("n1", "n2"):
            await reset(cluster, name, term=2)
        leader = await cluster.leader("n1", "n2", within=3)
        assert leader.name == "n2"
        await cluster.settled()
        assert cluster["n1"].state_machine.lines == ["a", "a", "b"]


@in_virtual_time
async def test_process_vote_response() -> None:
    """A vote counts in its own term only, and a higher term ends the campaign."""
    async with a_cluster(3) as cluster:
        server = await one_follower(cluster)
        answers = iter(
            [
                lambda term: RequestVoteReply(term - 1, vote_granted=True),  # of an older term
                lambda term: RequestVoteReply(term, vote_granted=False),
                lambda term: RequestVoteReply(term + 5, vote_granted=True),  # of a later one
                lambda term: RequestVoteReply(term, vote_granted=True),
            ]
        )
        states: list[tuple[str, int]] = []

        def answering(message: object) -> list[object]:
            match message:
                case PreVote(term):
                    return [PreVoteReply(term - 1, term, vote_granted=True)]
                case RequestVote(term):
                    states.append((server.state, server.term))
                    answer = next(answers, None)
                    return [] if answer is None else [answer(term)]
            return []

        async with trio.open_nursery() as nursery:
            await nursery.start(Puppet(cluster, "n1").answer, answering)
            await cluster.until(lambda: server.state == "leader", within=20)
            assert len(states) >= 4
            assert server.term > 6
            nursery.cancel_scope.cancel()
        await cluster.start()
        await cluster.settled()


@in_virtual_time
async def test_server_promote_self() -> None:
    async with a_running_cluster(1) as cluster:
        await cluster.say("a log")
        await cluster.restart("n1")
        began = trio.current_time()
        await cluster.until(lambda: cluster["n1"].state == "leader")
        assert trio.current_time() - began <= 2 * TIMEOUT + 0.01


@in_virtual_time
async def test_server_promote() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.say("a log")
        await cluster.settled()
        await cluster.restart(*cluster.names)
        await trio.sleep(4 * TIMEOUT)
        assert [server.state for server in cluster.up].count("leader") == 1


@in_virtual_time
async def test_server_promote_double_election() -> None:
    async with a_running_cluster(3) as cluster:
        for _ in range(2):
            leader = await cluster.settled()
            await cluster.restart(leader.name)
            assert (await cluster.settled()).term > leader.term


@in_virtual_time
async def test_server_append_entries() -> None:
    async with a_cluster(3) as cluster:
        server = await one_follower(cluster)
        cluster.disks["n1"].frames[:] = cluster.disks["n3"].frames[:] = commands(
            1, (1, "a"), (1, "b"), (1, "c")
        )
        async with Puppet(cluster, "n1").dial("n2") as line:
            reply = await line.ask(append(1, (0, 0), (1, "a")))
            assert (reply.term, reply.success, reply.match_index) == (1, True, 1)
            assert server.commit_index == 0
            reply = await line.ask(append(1, (1, 1), (1, "b"), (1, "c"), commit=1, number=2))
            assert (reply.term, reply.success, reply.match_index) == (1, True, 3)
            assert server.commit_index == 1
            reply = await line.ask(append(2, (3, 1), commit=3, number=1))
            assert (reply.term, reply.success, reply.match_index) == (2, True, 3)
            assert server.commit_index == 3
        await trio.sleep(0.01)
        assert server.state_machine.lines == ["a", "b", "c"]


@in_virtual_time
async def test_server_append_entries_with_stale_terms_are_rejected() -> None:
    async with a_cluster(3) as cluster:
        await one_follower(cluster)
        await reset(cluster, "n2", term=2)
        async with Puppet(cluster, "n1").dial("n2") as line:
            reply = await line.ask(append(1, (0, 0), (1, "a")))
        assert (reply.term, reply.success) == (2, False)
        assert (cluster["n2"].term, cluster["n2"].commit_index) == (2, 0)
        assert cluster["n2"].is_log_empty
        assert cluster["n2"].leader is None


@in_virtual_time
async def test_server_append_entries_rejected_if_already_committed() -> None:
    """Another entry where a committed one stands is no request: it ends the server, bare."""
    async with a_cluster(3) as cluster:
        await one_follower(cluster)
        for name in ("n1", "n3"):
            cluster.disks[name].frames[:] = commands(1, (1, "a"), (1, "b"))
        async with Puppet(cluster, "n1").dial("n2") as line:
            reply = await line.ask(append(1, (0, 0), (1, "a"), (1, "b"), commit=2))
            assert reply.success
            assert cluster["n2"].commit_index == 2
            await line.send(append(2, (1, 1), (2, "another b"), number=2))
            error = await cluster.ended("n2")
        assert type(error) is trioraft.InternalError
        assert "committed" in str(error)
        assert cluster["n2"].state_machine.lines == ["a", "b"]


@in_virtual_time
async def test_server_append_entries_overwrites_uncommitted_entries() -> None:
    async with a_cluster(3) as cluster:
        server = await one_follower(cluster)
        for name in ("n1", "n3"):
            cluster.disks[name].frames[:] = commands(1, (1, "a"), (2, "c"))
        async with Puppet(cluster, "n1").dial("n2") as line:
            reply = await line.ask(append(1, (0, 0), (1, "a"), (1, "b"), commit=1))
            assert (reply.success, server.commit_index) == (True, 1)
            reply = await line.ask(append(2, (1, 1), (2, "c"), commit=2))
            assert (reply.success, reply.term, server.commit_index) == (True, 2, 2)
        await trio.sleep(0.01)
        assert server.state_machine.lines == ["a", "c"]
        assert [(entry.index, entry.term) for entry in server.log_entries] == [(1, 1), (2, 2)]


@in_virtual_time
async def test_server_deny_command_execution_when_follower() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.settled()
        with pytest.raises(NotLeaderError):
            await cluster[cluster.followers()[0]].do(Say("no"))


@in_virtual_time
async def test_server_recover_from_previous_log_and_conf() -> None:
    async with a_running_cluster(5) as cluster:
        for number in range(10):
            await cluster.say(f"{number}")
        before = await cluster.settled()
        assert {server.commit_index for server in cluster.up} == {11}  # a no-op and ten commands
        await cluster.crash(*cluster.names)
        for name in cluster.names:
            cluster.isolate(name)
        await cluster.start()
        await trio.sleep(4 * TIMEOUT)
        # Cut off, they know their peers and elect nobody; what is committed they can't know yet.
        for server in cluster.up:
            assert server.member_count == 5
            assert len(server.peers) == 4
            assert server.state != "leader"
            assert server.commit_index == 0
        cluster.heal()
        leader = await cluster.settled(within=2)
        assert leader.term > before.term
        assert {server.commit_index for server in cluster.up} == {12}  # one more no-op
        assert all(len(server.state_machine.lines) == 10 for server in cluster.up)


@in_virtual_time
async def test_server_single_node() -> None:
    async with a_cluster(1) as cluster:
        server = cluster.make("n1")
        assert server.state == "stopped"
        await cluster.run(server)
        await cluster.until(lambda: server.state == "leader")
        assert server.term == 1  # an election, never term 0 (seed G-07)
        await server.stop()
        assert server.state == "stopped"


@in_virtual_time
async def test_server_multi_node() -> None:
    async with a_running_cluster(5) as cluster:
        assert {server.member_count for server in cluster.up} == {5}
        for turn in range(20):
            cut = {cluster.names[turn % 5], cluster.names[(turn + 3) % 5]}
            rest = [name for name in cluster.names if name not in cut]
            for name in cut:
                cluster.isolate(name)
            leader = await cluster.leader(*rest, within=4)
            for number in range(10):
                await leader.do(Say(f"{turn} {number}"))
                cluster.acknowledged.append(f"{turn} {number}")
            assert [cluster[name].state for name in rest].count("leader") == 1
            await trio.sleep(TIMEOUT)
            assert all(cluster[name].state != "leader" for name in cut)
            for name in cut:
                cluster.network.rejoin(cluster.addresses[name])
        await cluster.settled()
        assert len(cluster["n1"].state_machine.lines) == 200


# -- the others --------------------------------------------------------------------------------


@in_virtual_time
async def test_http_transporter() -> None:
    """Three servers; the leader is stopped; another one leads; it starts again."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        others = cluster.followers()
        await leader.stop()
        await trio.sleep(4 * TIMEOUT)
        assert [cluster[name].state for name in others].count("leader") == 1
        await cluster.start(leader.name)
        await cluster.settled()


@in_virtual_time
async def test_server_provides_current_context_when_applying_command() -> None:
    """Each apply gets its own entry's index, also where several are committed at once (G-67)."""
    async with a_cluster(3) as cluster:
        server = await one_follower(cluster)
        for name in ("n1", "n3"):
            cluster.disks[name].frames[:] = commands(1, (1, "a"), (1, "b"), (1, "c"))
        async with Puppet(cluster, "n1").dial("n2") as line:
            await line.ask(append(1, (0, 0), (1, "a"), (1, "b"), (1, "c"), commit=1))
            await trio.sleep(0.01)
            assert [applied.index for applied in server.state_machine.applied] == [1]
            await line.ask(append(1, (3, 1), commit=3, number=2))
            await trio.sleep(0.01)
        assert [applied.index for applied in server.state_machine.applied] == [1, 2, 3]
        assert {applied.term for applied in server.state_machine.applied} == {1}


@in_virtual_time
async def test_dispatch_event() -> None:
    hub, total = Hub(), 0

    async def count(by: int) -> None:
        nonlocal total
        with hub.subscribed() as events:
            async for _ in events:
                total += by

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count, 1)
        nursery.start_soon(count, 10)
        await trio.testing.wait_all_tasks_blocked()
        hub.emit(StateChange("leader", "candidate"))
        await trio.testing.wait_all_tasks_blocked()
        assert total == 11
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_remove_event_listener() -> None:
    """Who leaves hears nothing more, and only who leaves (seed G-72)."""
    hub = Hub()
    with hub.subscribed() as stays:
        with hub.subscribed() as leaves:
            hub.emit(StateChange("leader", "candidate"))
        hub.emit(StateChange("follower", "leader"))
        assert hub.watched
        assert len(leaves._events) == 1
        assert len(stays._events) == 2
    assert not hub.watched


@in_virtual_time
async def test_event_listener() -> None:
    hub = Hub()
    with hub.subscribed() as events:
        hub.emit(LeaderChange("n2", "n1"))
        event = await anext(aiter(events))
    assert (type(event), event.value, event.previous) == (LeaderChange, "n2", "n1")


@in_virtual_time
async def test_heartbeat_duration() -> None:
    """A dead peer is dialled less and less often, but never less than half a timeout apart."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        dead = cluster.followers()[0]
        await cluster.crash(dead)
        dials: list[float] = []
        dial = cluster.network._dial

        async def counted(source: str, destination: str):  # type: ignore[no-untyped-def]
            if (source, destination) == (f"mem://{leader.name}", f"mem://{dead}"):
                dials.append(trio.current_time())
            return await dial(source, destination)

        cluster.network._dial = counted  # type: ignore[method-assign]
        await trio.sleep(10)
        pauses = [after - before for before, after in itertools.pairwise(dials)]
        assert max(pauses) <= TIMEOUT / 2 + 0.01
        assert pauses[-1] > 0.02
        assert len(dials) <= 10 / (TIMEOUT / 4)
        began = trio.current_time()
        await cluster.start(dead)
        await cluster.settled()
        assert trio.current_time() - began <= 2 * TIMEOUT


# -- bugs of goraft that only whole servers can show -------------------------------------------


@in_virtual_time
async def test_g01_a_vote_survives_a_restart() -> None:
    async with a_cluster(3) as cluster:
        await one_follower(cluster)
        assert (await vote(cluster, "n1", 5, 9, 4)).vote_granted  # type: ignore[attr-defined]
        await cluster.restart("n2")
        await trio.sleep(TIMEOUT)
        assert (cluster["n2"].term, cluster["n2"].voted_for) == (5, "n1")
        assert not (await vote(cluster, "n3", 5, 9, 4)).vote_granted  # type: ignore[attr-defined]
        assert (await vote(cluster, "n1", 5, 9, 4)).vote_granted  # type: ignore[attr-defined]


@in_virtual_time
async def test_g03_g04_a_server_alone_never_believes_that_it_is_the_cluster() -> None:
    async with a_running_cluster(4) as cluster:
        await cluster.say("before")
        await cluster.settled()
        await cluster.crash(*cluster.names)
        for name in cluster.names:
            await cluster.start(name, initial_cluster={name: f"mem://{name}"})
            await trio.sleep(2)
            assert cluster[name].state != "leader"
            assert cluster[name].member_count == 4
            await cluster.crash(name)


@in_virtual_time
async def test_g07_every_leader_was_elected_in_a_term_of_its_own() -> None:
    async with a_cluster(3) as cluster:
        leader = await cluster.formed()
        assert leader.term >= 1
        assert min(cluster.leaders) >= 1
        entry = cluster.history[1]
        assert (entry.kind, entry.term) == (Kind.NOOP, leader.term)


@in_virtual_time
async def test_g11_a_second_leader_of_one_term_stops_that_server_and_not_the_program() -> None:
    async with a_cluster(3) as cluster:
        await one_follower(cluster)
        async with Puppet(cluster, "n1").dial("n2") as line:
            assert (await line.ask(append(3, (0, 0)))).success
        async with Puppet(cluster, "n3").dial("n2") as line:
            await line.send(append(3, (0, 0)))
            error = await cluster.ended("n2")
        assert type(error) is trioraft.InternalError
        assert "both lead in term 3" in str(error)
        assert cluster["n2"].state == "stopped"


@in_virtual_time
async def test_g32_what_was_committed_before_a_restart_is_applied_once_a_leader_says_so() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.say("before")
        await cluster.settled()
        await cluster.crash(*cluster.names)
        await cluster.start("n1")
        await trio.sleep(1)
        assert cluster["n1"].last_applied == 0
        await cluster.start("n2")
        await cluster.until(lambda: cluster["n1"].state_machine.lines == ["before"], within=3)
        await cluster.start("n3")
        await cluster.settled()


@in_virtual_time
async def test_g43_a_leader_that_dies_while_a_follower_catches_up_is_replaced() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        late = cluster.followers()[0]
        await cluster.crash(late)
        for number in range(50):
            await cluster.say(f"{number}" + "x" * 10_000)
        cluster.slow(leader.name, late, 0.05)
        await cluster.start(late)
        await cluster.until(lambda: cluster[late].status().last_index > 3, within=3)
        await cluster.crash(leader.name)
        await cluster.leader(within=3)
        await cluster.start(leader.name)
        await cluster.settled()


@in_virtual_time
async def test_g44_heartbeats_do_not_wait_for_the_disk() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        for disk in cluster.disks.values():
            disk.seconds = 1.5
        heard = cluster.overhear()
        await leader.do(Say("slow"))
        beats = [
            at
            for at, source, _, message in heard
            if source == leader.name and isinstance(message, AppendEntries)
        ]
        assert max(b - a for a, b in itertools.pairwise(beats)) <= 0.06
        answers = [at for at, _, _, message in heard if isinstance(message, AppendEntriesReply)]
        assert max(b - a for a, b in itertools.pairwise(answers)) <= 0.06


@in_virtual_time
async def test_g48_stepping_down_waits_for_no_request_on_its_way() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        for other in cluster.followers():
            cluster.slow(leader.name, other, 60.0)
        began = trio.current_time()
        await cluster.until(lambda: leader.state != "leader", within=1)
        assert trio.current_time() - began <= TIMEOUT + 0.01
        cluster.heal()
        await cluster.restart(*cluster.names)
        await cluster.settled()


@in_virtual_time
async def test_g51_a_dead_peer_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.settled()
        await cluster.crash(cluster.followers()[0])
        await trio.sleep(0.5)
        caplog.clear()
        await trio.sleep(10)
        assert len(caplog.records) == 0


@in_virtual_time
async def test_g63_do_returns_after_apply() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        result = await leader.do(Say("x"))
        assert leader.state_machine.lines == ["x"]
        assert result == 1
        assert any(
            isinstance(event, Commit) and name == leader.name for name, event in cluster.events
        )


@in_virtual_time
async def test_d9_rewriting_the_state_keeps_term_and_vote() -> None:
    """What is written for one reason does not forget what was written for another."""
    async with a_cluster(3) as cluster:
        await one_follower(cluster)
        assert (await vote(cluster, "n1", 5, 9, 4)).vote_granted  # type: ignore[attr-defined]
        disk = cluster.disks["n2"]
        for number in range(3):
            await cluster.restart("n2")
            state = state_on(disk)
            assert (state.term, state.voted_for is not None) == (5, True)
            assert state.genesis is not None
            assert state.starts >= number


# -- bugs of goraft's snapshots ----------------------------------------------------------------
# G-09, and what of G-08 the rules alone show: tests/rules/test_snapshots.py.
# G-22, G-26 to G-28: tests/snapshots/test_keeper.py.  G-14: tests/services/test_applier.py, too.

ASKED = Config(snapshot_entries=None, snapshot_bytes=None, trailing_entries=0)


@in_virtual_time
async def test_g08_a_stale_snapshot_is_refused_and_lowers_nothing() -> None:
    """There a late request rolled the state back, and the term with it."""
    async with a_cluster(3) as cluster:
        server = await one_follower(cluster)
        cluster.disks["n1"].frames[:] = commands(1, *[(7, "x")] * 5)
        async with Puppet(cluster, "n1").dial("n2") as line:
            assert (await line.ask(append(7, (0, 0), *[(7, "x")] * 5, commit=5))).success
        await trio.sleep(0.05)
        assert server.last_applied == 5
        for term, index, last_term in ((6, 9, 3), (7, 3, 7), (7, 5, 7)):
            _, offered = snapshot_of(index, last_term)
            async with bringing(Puppet(cluster, "n1"), "n2") as stream:
                wanted = await stream.ask(offer(offered, term, cluster=None))
            assert wanted.offset == offered.size, "nothing of it is wanted"
            assert (server.term, server.last_applied) == (7, 5)
            assert server.status().snapshot_index == 0


def alone(test: Callable[[SimulatedCluster], Awaitable[None]]) -> Callable[[], None]:
    """The test gets a server that is alone in its cluster, and has said 30 things."""

    async def main() -> None:
        async with simulated_cluster(Room, servers=1, config=ASKED) as cluster:
            cluster.start()
            await cluster.settled(5)
            for number in range(30):
                await cluster["n1"].do(Say(f"{number}"))
            await test(cluster)

    @functools.wraps(test)
    def run() -> None:
        seeded_run(1, main)

    del run.__wrapped__  # type: ignore[attr-defined]  pytest would ask for a fixture
    return run


async def again(cluster: SimulatedCluster, power: bool = False) -> Server:
    """Kill the server, and start it anew."""
    (cluster.power_off if power else cluster.kill)("n1")
    await cluster.ended()
    cluster.start()
    await cluster.settled(5)
    return cluster["n1"]


SNAPSHOTS = "/n1/snapshots"


@alone
async def test_g14_what_is_said_while_a_snapshot_is_taken_is_applied_once(
    cluster: SimulatedCluster,
) -> None:
    said = [f"{number}" for number in range(30)]
    for round_ in range(5):
        cluster.take_snapshot("n1")
        for number in range(5):
            said.append(f"{round_} {number}")
            await cluster["n1"].do(Say(said[-1]))
        assert (await again(cluster)).state_machine.lines == said


@alone
async def test_g23_what_is_cut_behind_a_compacted_log_is_cut_in_the_right_place(
    cluster: SimulatedCluster,
) -> None:
    """There the kept entries had the offsets of the old file."""
    server = cluster["n1"]
    await server.take_snapshot()
    storage = server._storage
    base = server._core.node.log.base_index
    term = server.term
    await trio.sleep(0.1)
    for cut, texts in ((base, ["a", "b", "c"]), (base + 1, ["B", "C"]), (base + 2, ["CC"])):
        entries = commands(cut + 1, *[(term, text) for text in texts])
        await server._core.log._storage._storage.write(Batch(cut=cut, entries=entries))  # type: ignore[attr-defined]
    assert storage is not None
    cluster.judge.disks.clear()
    lines = (await again(cluster)).state_machine.lines
    assert lines[30:] == ["a", "B", "CC"]


@alone
async def test_g24_what_a_crash_has_left_in_the_making_is_removed_at_the_start(
    cluster: SimulatedCluster,
) -> None:
    await cluster["n1"].take_snapshot()
    cluster.kill()
    await cluster.ended()
    files = cluster.hosts["n1"].files
    for name in ("taking.part", "incoming.part"):
        handle = files.create(f"{SNAPSHOTS}/{name}")
        files.pwrite(handle, b"half of a snapshot", 0)
        files.close(handle)
    server = await again(cluster)
    assert len(files.names(SNAPSHOTS)) == 1
    await server.do(Say("more"))
    assert await server.take_snapshot() == server.last_applied
    assert (await again(cluster)).state_machine.lines[-1] == "more"


@alone
async def test_g25_g27_a_snapshot_is_durable_before_its_name_and_the_name_before_the_log_forgets(
    cluster: SimulatedCluster,
) -> None:
    files = cluster.hosts["n1"].files
    files.calls.clear()
    await cluster["n1"].take_snapshot()
    await trio.sleep(0.1)
    made = [call.name for call in files.calls if call.path.startswith(SNAPSHOTS)]
    assert made.index("pwrite") < made.index("fdatasync") < made.index("rename")
    assert made.index("rename") < len(made) - 1 - made[::-1].index("sync_directory")
    written = [call.path.startswith(SNAPSHOTS) for call in files.calls if call.name == "pwrite"]
    assert written == sorted(written, reverse=True), "the log hears of it last"
    assert not written[-1]
    assert (await again(cluster, power=True)).state_machine.lines == [*map(str, range(30))]


@alone
async def test_g29_a_start_from_a_snapshot_writes_nothing_of_it(cluster: SimulatedCluster) -> None:
    """There it wrote the commit index 0 over 20; and the peers that it had been given."""
    server = cluster["n1"]
    await server.take_snapshot()
    await trio.sleep(0.1)
    before = server.status()
    cluster.kill()
    await cluster.ended()
    files = cluster.hosts["n1"].files
    files.calls.clear()
    cluster.start()
    await cluster.until(lambda: cluster["n1"].last_applied >= before.snapshot_index, 5)
    after = cluster["n1"].status()
    assert after.commit_index >= before.snapshot_index
    assert (after.snapshot_index, after.cluster) == (before.snapshot_index, before.cluster)
    assert after.term >= before.term
    touched = {call.name for call in files.calls if call.path.startswith(SNAPSHOTS)}
    assert touched <= {"exists", "names", "open", "pread", "size", "close", "sync_directory"}


@alone
async def test_g22_a_bit_that_turns_in_a_snapshot_is_told_with_its_file_and_place(
    cluster: SimulatedCluster,
) -> None:
    """There a flipped bit was taken for the end of what had been written."""
    await cluster["n1"].take_snapshot()
    await trio.sleep(0.1)
    cluster.kill()
    await cluster.ended()
    host = cluster.hosts["n1"]
    (name,) = host.files.names(SNAPSHOTS)
    host.files.flip(f"{SNAPSHOTS}/{name}", 90, 3)
    host.lost = "a bit has turned"
    server = Server(
        "n1",
        None,
        MemoryTransport(cluster.network, host.address),
        Room(),
        initial_cluster={"n1": host.address},
        storage=host.storage(),
    )
    with pytest.raises(trioraft.StorageCorrupt) as caught:
        await server.serve()
    assert caught.value.file == "the snapshot of entry 31 and term 1"
    assert caught.value.offset > 0
