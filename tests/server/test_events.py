"""What a server tells those who watch it."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from tests.server.puppets import Puppet, append
from tests.server.worlds import (
    TIMEOUT,
    Lines,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
)
from trioraft import (
    Anything,
    Commit,
    ElectionTimeoutThreshold,
    EventsMissed,
    Heartbeat,
    HeartbeatMissed,
    LeaderChange,
    NotLeaderError,
    PeerAdded,
    Server,
    StateChange,
    TermChange,
)
from trioraft._rules.messages import AppendEntries
from trioraft.abc import Kind, parse_entry


async def keep(server: Server, kept: list[Any], *, task_status: trio.TaskStatus[None]) -> None:
    async with server.events() as events:
        task_status.started()
        async for event in events:
            kept.append(event)  # noqa: PERF401  they are looked at meanwhile


@in_virtual_time
async def test_every_type_of_event_is_emitted() -> None:
    seen: dict[str, list[Any]] = {}
    async with a_cluster(3) as cluster, trio.open_nursery() as nursery:
        for name in cluster.names:
            server = cluster.make(name)
            await nursery.start(keep, server, seen.setdefault(name, []))
            await cluster.run(server)
        leader = await cluster.settled()
        await leader.do(Say("x"))
        one, other = cluster.followers()
        cluster.slow(leader.name, one, TIMEOUT - 0.01)
        await trio.sleep(1)
        cluster.slow(leader.name, one, 0.2)
        cluster.mute(other, leader.name)
        await trio.sleep(1)
        cluster.heal()
        await cluster.settled()
        everything = [event for events in seen.values() for event in events]
        for expected in (
            StateChange,
            LeaderChange,
            TermChange,
            Commit,
            PeerAdded,
            HeartbeatMissed,
            ElectionTimeoutThreshold,
            Heartbeat,
        ):
            assert any(type(event) is expected for event in everything), expected
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_the_story_of_an_election_is_told_in_order_with_what_was_before() -> None:
    async with a_cluster(1) as cluster, trio.open_nursery() as nursery:
        server, seen = cluster.make("n1"), list[Any]()
        await nursery.start(keep, server, seen)
        await cluster.run(server)
        await cluster.settled()
        await trio.testing.wait_all_tasks_blocked()
        changes = [
            (type(event), event.value, event.previous)
            for event in seen
            if isinstance(event, StateChange | LeaderChange | TermChange)
        ]
        assert changes == [
            (TermChange, 1, 0),
            (StateChange, "candidate", "follower"),
            (StateChange, "leader", "candidate"),
            (LeaderChange, "n1", None),
        ]
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_a_commit_event_carries_its_entry_and_comes_after_apply() -> None:
    async with a_running_cluster(1) as cluster:
        server = cluster["n1"]
        async with server.events() as events:
            await server.do(Say("x"))
            async for event in events:
                if isinstance(event, Commit):
                    break
        assert event.value.kind is Kind.COMMAND
        assert event.value == parse_entry(cluster.disks["n1"].frames[event.value.index - 1])
        assert server.state_machine.lines == ["x"]


@in_virtual_time
async def test_g70_a_listener_may_ask_the_server_anything() -> None:
    async with a_cluster(3) as cluster, trio.open_nursery() as nursery:
        asked: list[Any] = []

        async def curious(server: Server, *, task_status: trio.TaskStatus[None]) -> None:
            async with server.events() as events:
                task_status.started()
                async for event in events:
                    status = server.status()
                    asked.append((event, status, server.state, server.commit_index, server.peers))
                    asked.append(await server.read(Lines(), Anything()))
                    if isinstance(event, StateChange) and event.value == "leader":
                        try:
                            asked.append(await server.do(Say("from a listener")))
                        except NotLeaderError as error:
                            asked.append(error)

        for name in cluster.names:
            server = cluster.make(name)
            await nursery.start(curious, server)
            await cluster.run(server)
        leader = await cluster.settled()
        await cluster.until(lambda: leader.state_machine.lines)
        assert leader.state_machine.lines == ["from a listener"]
        assert 1 in asked
        await cluster.settled()
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_a_listener_may_stop_the_server() -> None:
    async with a_cluster(3) as cluster, trio.open_nursery() as nursery:
        server = cluster.make("n1")

        async def strict(*, task_status: trio.TaskStatus[None]) -> None:
            async with server.events() as events:
                task_status.started()
                async for event in events:
                    if isinstance(event, LeaderChange):
                        await server.stop()
                        return

        await nursery.start(strict)
        await cluster.run(server)
        await cluster.start("n2", "n3")
        await cluster.until(lambda: not server.running, within=5)
        await cluster.leader("n2", "n3")


@in_virtual_time
async def test_g71_followers_see_a_leader_that_they_learn_of_in_their_own_term() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        for name in cluster.followers():
            told = [
                event
                for who, event in cluster.events
                if who == name and isinstance(event, LeaderChange | TermChange)
            ]
            # They voted, so the term came first; the leader was learnt without another one.
            assert isinstance(told[-1], LeaderChange)
            assert told[-1].value == leader.name
            assert any(isinstance(event, TermChange) for event in told[:-1])


@in_virtual_time
async def test_g71_every_change_of_leader_is_told_whoever_brings_it() -> None:
    async with a_running_cluster(5) as cluster:
        for _ in range(3):
            leader = await cluster.settled()
            await cluster.crash(leader.name)
            await cluster.leader()
            await cluster.start(leader.name)
            await cluster.settled()
        for name in cluster.names:
            told = [
                event
                for who, event in cluster.events
                if who == name and isinstance(event, LeaderChange)
            ]
            last: str | None = None
            for event in told:
                # A new life of a server begins without a leader.
                assert event.previous in (last, None)
                assert event.value != event.previous
                last = event.value
            assert last == cluster[name].leader


@in_virtual_time
async def test_a_leader_that_loses_its_quorum_says_that_there_is_none() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        cluster.isolate(leader.name)
        await cluster.until(lambda: leader.state != "leader")
        changes = [
            event
            for name, event in cluster.events
            if name == leader.name and isinstance(event, LeaderChange)
        ]
        assert (changes[-1].value, changes[-1].previous) == (None, leader.name)


@in_virtual_time
async def test_e6_a_leader_learnt_in_the_own_term_leaves_the_vote_as_it_was() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.crash("n1", "n3")
        puppet = Puppet(cluster, "n1")
        await trio.sleep(2 * TIMEOUT)
        before, term = cluster["n2"].voted_for, cluster["n2"].term
        async with puppet.dial("n2") as line:
            await line.ask(append(term + 4, (0, 0)))
        assert (cluster["n2"].term, cluster["n2"].voted_for) == (term + 4, None)
        assert cluster["n2"].leader == "n1"
        assert before in ("n1", "n2", "n3", None)


@in_virtual_time
async def test_a_slow_reader_stalls_nobody_and_is_told_what_it_lost() -> None:
    async with a_running_cluster(1) as cluster:
        server = cluster["n1"]
        async with server.events() as slow, server.events() as quick:
            for number in range(2000):
                await server.do(Say(f"{number}"))
            first = await anext(aiter(slow))
            assert isinstance(first, EventsMissed)
            assert 2000 - 1024 <= first.value <= 2100
            second = await anext(aiter(slow))
            assert isinstance(second, Commit)
            assert second.value.index == first.value + 2  # behind the no-op and what was lost
            assert isinstance(await anext(aiter(quick)), EventsMissed)


@in_virtual_time
async def test_a_heartbeat_event_says_how_long_the_answer_took() -> None:
    async with a_running_cluster(3, delay=0.02, disk=0.0) as cluster:
        leader = await cluster.settled()
        async with leader.events() as events:
            seen: list[Heartbeat] = []
            async for event in events:
                if isinstance(event, Heartbeat):
                    seen.append(event)
                if len(seen) == 10:
                    break
        assert {event.peer for event in seen} == set(cluster.followers())
        assert all(0.0399 <= event.value <= 0.045 for event in seen)


@in_virtual_time
async def test_reading_events_can_be_cancelled_and_taken_up_again() -> None:
    async with a_running_cluster(1) as cluster:
        server = cluster["n1"]
        async with server.events() as events:
            with trio.move_on_after(1) as scope:
                await anext(aiter(events))
            assert scope.cancelled_caught
            await server.do(Say("x"))
            assert isinstance(await anext(aiter(events)), Commit)


@in_virtual_time
async def test_an_idle_leader_says_hello_and_no_more() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        heard = cluster.overhear()
        await trio.sleep(5)
        sent = [m for _, source, _, m in heard if source == leader.name]
        beats = [message for message in sent if isinstance(message, AppendEntries)]
        assert 180 <= len(beats) <= 202  # two followers, a heartbeat every 50 ms
        assert len(sent) - len(beats) <= 2 * 5 * 4  # signs of life on streams without requests


@in_virtual_time
async def test_watching_ends_with_the_server() -> None:
    async with a_cluster(1) as cluster:
        server, seen = cluster.make("n1"), list[Any]()
        async with trio.open_nursery() as nursery:
            await nursery.start(keep, server, seen)
            await cluster.run(server)
            await cluster.settled()
            await server.stop()
        assert seen[-1] == StateChange("stopped", "leader")
        async with server.events() as events:
            assert [event async for event in events] == []
