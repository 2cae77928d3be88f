"""How entries reach every disk, fast and in order, whoever is slow."""

from __future__ import annotations

import contextlib
from random import Random

import attrs
import pytest
import trio

import trioraft._core
import trioraft._recent
import trioraft._tickets
from tests.server.puppets import Puppet, append, commands, state_on
from tests.server.worlds import (
    HEARTBEAT,
    TIMEOUT,
    Cluster,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
)
from trioraft import Config, OutcomeUnknown
from trioraft._limits import APPEND_WINDOW, LINK_QUEUE_MESSAGES, MAX_APPEND_BYTES
from trioraft._rules.messages import AppendEntries, AppendEntriesReply, PreVote
from trioraft._rules.node import Leading
from trioraft._transport.conversation import Conversation
from trioraft._wire.codec import entries_of
from trioraft._wire.frames import frame
from trioraft.abc import Kind


async def say_many(cluster: Cluster, first: int, count: int) -> None:
    leader = await cluster.leader()

    async def one(number: int) -> None:
        await leader.do(Say(f"many {number}"))
        cluster.acknowledged.append(f"many {number}")

    async with trio.open_nursery() as nursery:
        for number in range(first, first + count):
            nursery.start_soon(one, number)


# -- speed -------------------------------------------------------------------------------------


@in_virtual_time
async def test_g50_a_command_is_sent_at_once_and_takes_one_round_trip() -> None:
    async with a_running_cluster(3, delay=0.01, disk=0.0) as cluster:
        leader = await cluster.settled()
        chance = Random(1)
        for number in range(50):
            await trio.sleep(chance.uniform(0, 3 * HEARTBEAT))
            began = trio.current_time()
            await leader.do(Say(f"{number}"))
            assert trio.current_time() - began == pytest.approx(0.02, abs=0.001)


@in_virtual_time
async def test_commands_one_after_the_other_need_no_heartbeats() -> None:
    async with a_running_cluster(3, delay=0.002, disk=0.0) as cluster:
        leader = await cluster.settled()
        began = trio.current_time()
        for number in range(100):
            await leader.do(Say(f"{number}"))
        assert trio.current_time() - began <= 100 * 0.0045


@in_virtual_time
async def test_the_disk_of_the_leader_and_the_way_to_the_followers_are_taken_in_parallel() -> None:
    async with a_running_cluster(3, delay=0.01, disk=0.02) as cluster:
        leader = await cluster.settled()
        await trio.sleep(0.5)
        began = trio.current_time()
        await leader.do(Say("both at once"))
        assert trio.current_time() - began == pytest.approx(0.01 + 0.02 + 0.01, abs=0.002)


@in_virtual_time
async def test_what_queues_together_travels_together() -> None:
    async with a_running_cluster(3, delay=0.005) as cluster:
        leader = await cluster.settled()
        follower = cluster.followers()[0]
        heard = cluster.overhear()
        writes = cluster.disks[follower].writes
        await say_many(cluster, 0, 1000)
        sent = [
            message
            for _, source, to, message in heard
            if (source, to) == (leader.name, follower)
            and isinstance(message, AppendEntries)
            and len(message.entries)
        ]
        assert sum(len(message.entries) for message in sent) == 1000
        assert len(sent) <= 4
        assert cluster.disks[follower].writes - writes <= 4


@in_virtual_time
async def test_requests_on_the_way_to_a_follower_are_bounded_by_the_window() -> None:
    config = Config(heartbeat_interval=0.3, election_timeout=1.0)
    async with a_running_cluster(3, delay=0.1, config=config) as cluster:
        leader = await cluster.settled()
        heard = cluster.overhear()
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(cluster.chatter, f"c{number}", stop, 0.003 + number / 1000)
            await trio.sleep(3)
            stop.set()
        most = 0
        for follower in cluster.followers():
            on_the_way: list[int] = []
            for _, source, to, message in heard:
                if (source, to) == (leader.name, follower) and isinstance(message, AppendEntries):
                    on_the_way += [message.number] if len(message.entries) else []
                    most = max(most, len(on_the_way))
                elif (source, to) == (follower, leader.name) and isinstance(
                    message, AppendEntriesReply
                ):
                    on_the_way = [number for number in on_the_way if number > message.number]
        # An answer that has left but not arrived is not on the way here any more.
        assert 2 <= most <= APPEND_WINDOW
        await cluster.settled()


@in_virtual_time
async def test_r9_large_commands_go_in_pieces_without_a_gap() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        heard = cluster.overhear()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(leader.do, Say(f"{number}" + "x" * 200_000))
        await cluster.settled()
        sizes = [
            sum(map(len, message.entries.frames))
            for *_, message in heard
            if isinstance(message, AppendEntries)
        ]
        assert max(sizes) <= MAX_APPEND_BYTES
        assert len(cluster["n1"].state_machine.lines) == 20


@in_virtual_time
async def test_a_command_larger_than_a_message_of_entries_goes_alone() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await leader.do(Say("x" * (MAX_APPEND_BYTES + 1000)))
        await leader.do(Say("y"))
        await cluster.settled()


# -- catching up -------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [0, 3000, 1 << 26])
def test_a_lagging_follower_catches_up_from_storage(
    cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trioraft._recent, "LOG_CACHE_BYTES", cache)
    monkeypatch.setattr(trioraft._pace, "START", 2000)
    monkeypatch.setattr(trioraft._pace, "MAX_APPEND_BYTES", 2000)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster:
            leader = await cluster.settled()
            late = cluster.followers()[0]
            await cluster.crash(late)
            await say_many(cluster, 0, 400)
            reads = cluster.disks[leader.name].reads
            assert len(leader.log_entries) * 20 <= max(cache, 20 * 402)
            await cluster.start(late)
            stop = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cluster.chatter, "client", stop)
                await cluster.until(lambda: cluster[late].last_applied > 400, within=3)
                stop.set()
            await cluster.settled()
            assert (cluster.disks[leader.name].reads > reads) == (cache < 1 << 20)
            assert (await cluster.settled()).name == leader.name

    check()


@in_virtual_time
async def test_a_new_leader_serves_entries_of_earlier_lives_from_its_disk() -> None:
    async with a_running_cluster(3) as cluster:
        await say_many(cluster, 0, 300)
        await cluster.settled()
        late = cluster.followers()[0]
        await cluster.crash(*cluster.names)
        cluster.disks[late].frames.clear()
        await cluster.start(*[name for name in cluster.names if name != late])
        await cluster.leader()
        await cluster.start(late)
        await cluster.settled(within=3)
        assert len(cluster[late].state_machine.lines) == 300


@in_virtual_time
async def test_r8_a_long_wrong_tail_is_repaired_in_a_few_round_trips() -> None:
    async with a_running_cluster(3) as cluster:
        old = await cluster.settled()
        rest = cluster.followers()
        for name in rest:
            cluster.mute(old.name, name)
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(unknown, old, f"lost {number}")
        assert old.status().last_index > 300
        await cluster.leader(*rest)
        await say_many(cluster, 0, 50)
        heard = cluster.overhear()
        cluster.heal()
        await cluster.settled(within=5)
        refusals = [
            message
            for *_, message in heard
            if isinstance(message, AppendEntriesReply) and not message.success
        ]
        assert len(refusals) <= 3
        assert not any("lost" in line for line in old.state_machine.lines)


async def unknown(server: trioraft.Server, text: str) -> None:
    with pytest.raises(OutcomeUnknown):
        await server.do(Say(text))


@pytest.mark.parametrize("seed", range(5))
@in_virtual_time
async def test_r8_a_wrong_tail_of_many_terms_is_repaired_within_as_many_round_trips(
    seed: int,
) -> None:
    chance = Random(seed)
    async with a_running_cluster(3) as cluster:
        await say_many(cluster, 0, 5)
        leader = await cluster.settled()
        wrong = cluster.followers()[0]
        right = [name for name in cluster.names if name != wrong]
        last, term = leader.status().last_index, leader.term
        await cluster.crash(*cluster.names)

        def tail(longest: int) -> list[tuple[int, str]]:
            terms = sorted(chance.randrange(1, 12) for _ in range(longest))
            return [(term + step, f"{step} {place}") for place, step in enumerate(terms)]

        # Two logs that went apart: terms overlap, but no entry is the same.
        cluster.disks[wrong].frames[last:] = commands(
            last + 1, *[(2 * t, f"wrong {text}") for t, text in tail(200)]
        )
        better = commands(last + 1, *[(2 * t + 1, f"right {text}") for t, text in tail(150)])
        better += commands(last + 151, (2 * term + 30, "right and newest"))
        for name in right:
            cluster.disks[name].frames[last:] = better
        for name in cluster.names:
            state = state_on(cluster.disks[name])
            newest = attrs.evolve(state, term=2 * term + 30, voted_for=None)
            cluster.disks[name].kept._state = newest.encode()
        heard = cluster.overhear()
        await cluster.start()
        await cluster.settled(within=5)
        refusals = [
            message
            for *_, message in heard
            if isinstance(message, AppendEntriesReply) and not message.success
        ]
        assert len(refusals) <= 12 + 2
        assert not any("wrong" in line for line in cluster[wrong].state_machine.lines)
        assert cluster[wrong].state_machine.lines[-1] == "right and newest"


@in_virtual_time
async def test_after_a_restart_the_machine_sees_the_very_same_entries_again() -> None:
    async with a_running_cluster(3) as cluster:
        await say_many(cluster, 0, 50)
        await cluster.restart((await cluster.settled()).name)
        await say_many(cluster, 50, 50)
        await cluster.settled()
        before = {name: list(cluster[name].state_machine.applied) for name in cluster.names}
        await cluster.restart(*cluster.names)
        await cluster.settled()
        for name in cluster.names:
            assert cluster[name].state_machine.applied == before[name]
            assert len(before[name]) == 100


@in_virtual_time
async def test_c8_a_long_backlog_is_applied_in_pieces_and_heartbeats_go_on() -> None:
    async with a_running_cluster(3) as cluster:
        for first in range(0, 3000, 1000):
            await say_many(cluster, first, 1000)
        await cluster.settled()
        follower = cluster.followers()[0]
        await cluster.restart(follower)
        seen = []
        while not seen or seen[-1] < 3000:
            seen.append(cluster[follower].last_applied)
            await trio.sleep(0.001)
        assert seen == sorted(seen)
        await cluster.settled()
        assert [applied.index for applied in cluster[follower].state_machine.applied] == sorted(
            index for index, entry in cluster.history.items() if entry.kind == 1
        )


# -- what a follower takes -----------------------------------------------------------------------


@in_virtual_time
async def test_r1_r2_g02_late_copies_of_old_requests_delete_nothing() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.crash(*cluster.names)
        await cluster.start("n2")
        last = cluster["n2"].status().last_index
        term = cluster["n2"].term + 3
        said = [(term, f"{number}") for number in range(5)]
        prev = (last, cluster["n2"].status().last_term)
        async with Puppet(cluster, "n1").dial("n2") as line:
            reply = await line.ask(append(term, prev, *said))
            assert (reply.success, reply.match_index) == (True, last + 5)
            for late in (
                append(term, prev, *said[:1], number=2),
                append(term, prev, *said[:3], number=3),
                append(term, prev, number=4),
                append(term, (0, 0), number=5),
                append(term, (last + 1, term), said[1], number=6),
            ):
                reply = await line.ask(late)
                assert (reply.success, reply.match_index) == (True, last + 5)
                assert len(cluster.disks["n2"].frames) == last + 5


@in_virtual_time
async def test_r16_r17_a_follower_commits_only_what_this_leader_has_verified() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.crash(*cluster.names)
        await cluster.start("n2")
        last, last_term = cluster["n2"].status().last_index, cluster["n2"].status().last_term
        term = cluster["n2"].term + 3
        stale = [(term, f"stale {number}") for number in range(4)]
        async with Puppet(cluster, "n1").dial("n2") as line:
            await line.ask(append(term, (last, last_term), *stale))
        async with Puppet(cluster, "n3").dial("n2") as line:
            # A new leader knows of more that is committed than this request reaches.
            heartbeat = append(term + 1, (last, last_term), commit=last + 4)
            reply = await line.ask(heartbeat)
            assert (reply.success, reply.match_index) == (True, last)
            assert cluster["n2"].commit_index == last
            await line.ask(append(term + 1, (last, last_term), commit=0, number=2))
            assert cluster["n2"].commit_index == last
        assert cluster["n2"].state_machine.lines == []


@in_virtual_time
async def test_g10_entries_with_a_gap_end_the_stream_and_nothing_else() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.crash(*cluster.names)
        await cluster.start("n2")
        term, last = cluster["n2"].term + 1, cluster["n2"].status().last_index
        gap = append(term, (last + 3, term), (term, "beyond a gap"))
        wrong = attrs.evolve(gap, prev_log_index=last, prev_log_term=term)
        async with Puppet(cluster, "n1").dial("n2") as line:
            await line.send(wrong)
            with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                await line.receive()
        assert cluster["n2"].running
        assert cluster["n2"].status().last_index == last


@pytest.mark.parametrize("payload", [b"", b"short"])
@in_virtual_time
async def test_an_entry_that_no_leader_writes_is_refused_before_anything_changes(
    payload: bytes,
) -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.crash(*cluster.names)
        await cluster.start("n2")
        status = cluster["n2"].status()
        term, prev = status.term + 1, (status.last_index, status.last_term)
        bad = entries_of([frame(prev[0] + 1, term, Kind.COMMAND, payload)])
        async with Puppet(cluster, "n1").dial("n2") as line:
            await line.send(AppendEntries(term, 1, *prev, 0, bad))
            with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                await line.receive()
        assert cluster["n2"].status().last_index == prev[0]
        assert len(cluster.disks["n2"].frames) == prev[0]
        await cluster.restart("n2")
        await cluster.start()
        await cluster.settled(within=5)


@in_virtual_time
async def test_requests_and_answers_belong_on_different_streams() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        absent = cluster.followers()[0]
        await cluster.crash(absent)
        puppet = Puppet(cluster, absent)
        async with puppet.dial(leader.name) as line:
            await line.send(AppendEntriesReply(leader.term, 1, True, 1, 0.15))
            with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                await line.receive()
        async with trio.open_nursery() as nursery:
            await nursery.start(puppet.answer, lambda _: [PreVote(leader.term + 1, 0, 0)])
            await trio.sleep(1)
            assert "where only answers belong" in str(leader.peers[absent].error)
            nursery.cancel_scope.cancel()
        assert leader.state == "leader"
        await cluster.start(absent)
        await cluster.settled()


@in_virtual_time
async def test_r5_r6_g47_nonsense_answers_do_not_bring_the_leader_down() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        liar = cluster.followers()[0]
        await cluster.crash(liar)
        term, count = leader.term, 0

        def lie(message: object) -> list[AppendEntriesReply]:
            nonlocal count
            if not isinstance(message, AppendEntries):
                return []
            count += 1
            end = message.entries.last
            return [
                AppendEntriesReply(term, message.number, True, 10**9, 0.15),
                AppendEntriesReply(term, message.number + 1000, True, end, 0.15),
                AppendEntriesReply(term, message.number, True, 0, 0.15),
                AppendEntriesReply(term, message.number, False, 0, 0.15, 0, 10**9),
                AppendEntriesReply(term, message.number, False, 0, 0.15, term, 1),
            ]

        async with trio.open_nursery() as nursery:
            await nursery.start(Puppet(cluster, liar).answer, lie)
            for number in range(20):
                await leader.do(Say(f"{number}"))
                await trio.sleep(0.05)
            assert count > 20
            assert (leader.state, leader.term) == ("leader", term)
            nursery.cancel_scope.cancel()
        await cluster.start(liar)
        await cluster.settled()


# -- disks ---------------------------------------------------------------------------------------


@in_virtual_time
async def test_e18_the_slow_disk_of_a_follower_deposes_nobody() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        term, slow = leader.term, cluster.followers()[0]
        cluster.disks[slow].seconds = 2.0
        for number in range(100):
            began = trio.current_time()
            await leader.do(Say(f"{number}"))
            assert trio.current_time() - began <= 0.01
            await trio.sleep(0.05)
        assert (leader.state, leader.term) == ("leader", term)
        assert cluster[slow].term == term
        cluster.disks[slow].seconds = 0.0
        await cluster.settled(within=3)


@in_virtual_time
async def test_the_slow_disks_of_all_followers_depose_nobody() -> None:
    async with a_running_cluster(5) as cluster:
        leader = await cluster.settled()
        term = leader.term
        for slow in cluster.followers():
            cluster.disks[slow].seconds = 2.0
        for number in range(3):
            await leader.do(Say(f"{number}"))
        assert (leader.state, leader.term) == ("leader", term)


@in_virtual_time
async def test_all_disks_slow_nobody_steps_down_and_commands_wait() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        term = leader.term
        for disk in cluster.disks.values():
            disk.seconds = 2.0
        for number in range(3):
            began = trio.current_time()
            await leader.do(Say(f"{number}"))
            assert 1.999 <= trio.current_time() - began <= 4.3
        assert (leader.state, leader.term) == ("leader", term)


@in_virtual_time
async def test_a_leader_whose_disk_lags_for_long_makes_way() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        cluster.disks[leader.name].seconds = 30.0
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(unknown_or_done, leader, "on two disks of three")
            new = await cluster.leader(*cluster.followers())
            assert 4 * TIMEOUT <= trio.current_time() - began <= 12 * TIMEOUT
            assert new is not leader
            assert await new.do(Say("go on")) == 2
            cluster.disks[leader.name].seconds = 0.0
        await cluster.settled(within=40)


async def unknown_or_done(server: trioraft.Server, text: str) -> None:
    with contextlib.suppress(OutcomeUnknown):
        await server.do(Say(text))


@in_virtual_time
async def test_a_leader_whose_disk_is_a_little_slow_stays() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        cluster.disks[leader.name].seconds = 0.4
        for number in range(10):
            began = trio.current_time()
            await leader.do(Say(f"{number}"))
            assert 0.399 <= trio.current_time() - began <= 0.9
        assert leader.state == "leader"


@in_virtual_time
async def test_a_cluster_whose_disks_are_slower_than_its_timeouts_still_elects() -> None:
    async with a_cluster(3, disk=1.0, seed=1) as cluster:
        await cluster.start()
        leader = await cluster.leader(within=40)
        assert leader.term <= 6
        term = leader.term
        await leader.do(Say("slowly"))
        assert (leader.state, leader.term) == ("leader", term)


@in_virtual_time
async def test_c10_nothing_is_acknowledged_before_a_majority_has_it_on_disk() -> None:
    async with a_running_cluster(5) as cluster:
        leader = await cluster.settled()
        slow = cluster.followers()[:3]
        for name in slow:
            cluster.disks[name].seconds = 1.0
        began = trio.current_time()
        await leader.do(Say("on three disks"))
        assert trio.current_time() - began >= 0.999
        (entry,) = [entry for entry in leader.log_entries if entry.index == leader.last_applied]
        assert sum(disk.holds(entry) for disk in cluster.disks.values()) >= 3


@in_virtual_time
async def test_g20_a_leader_counts_itself_only_once_it_is_durable() -> None:
    async with a_running_cluster(2) as cluster:
        leader = await cluster.settled()
        cluster.disks[leader.name].seconds = 0.3
        began = trio.current_time()
        await leader.do(Say("on both disks"))
        assert trio.current_time() - began >= 0.299


@in_virtual_time
async def test_g20_a_single_server_writes_before_it_answers() -> None:
    async with a_running_cluster(1) as cluster:
        cluster.disks["n1"].seconds = 0.7
        began = trio.current_time()
        await cluster.say("on the one disk")
        assert trio.current_time() - began >= 0.699


# -- bounds --------------------------------------------------------------------------------------


@in_virtual_time
async def test_f8_a_follower_that_takes_nothing_holds_up_nobody_and_little_memory() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        stuck = cluster.followers()[0]
        cluster.slow(leader.name, stuck, 30.0)
        for number in range(100):
            began = trio.current_time()
            await leader.do(Say(f"{number}" + "x" * 1000))
            assert trio.current_time() - began <= 0.01
            await trio.sleep(0.02)
            role = leader._core.node.role
            assert isinstance(role, Leading)
            assert all(len(progress.in_flight) <= APPEND_WINDOW for progress in role.progress)
            link = leader._peers.links[stuck].conversation  # type: ignore[union-attr]
            if isinstance(link, Conversation):
                assert len(link._queue) <= LINK_QUEUE_MESSAGES
        cluster.heal()
        cluster.cut(leader.name, stuck)
        cluster.heal()
        await cluster.settled(within=40)


def test_f9_more_callers_than_may_wait_wait_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trioraft._tickets, "MAX_PENDING_COMMANDS", 50)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster:
            leader = await cluster.settled()
            for disk in cluster.disks.values():
                disk.seconds = 0.05
            most = 0
            async with trio.open_nursery() as nursery:
                for number in range(500):
                    nursery.start_soon(leader.do, Say(f"{number}"))
                while len(nursery.child_tasks):
                    most = max(most, leader.status().last_index - leader.commit_index)
                    await trio.sleep(0.01)
            assert 40 <= most <= 50
            assert len(leader.state_machine.lines) == 500

    check()


def test_f9_callers_that_wait_in_front_are_answered_when_leadership_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trioraft._tickets, "MAX_PENDING_COMMANDS", 10)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster:
            leader = await cluster.settled()
            cluster.isolate(leader.name)
            outcomes: list[str] = []

            async def one(number: int) -> None:
                try:
                    await leader.do(Say(f"{number}"))
                except trioraft.CommandError as error:
                    outcomes.append(error.outcome)

            with trio.fail_after(TIMEOUT + 0.01):
                async with trio.open_nursery() as nursery:
                    for number in range(100):
                        nursery.start_soon(one, number)
            assert outcomes.count("unknown") == 10
            assert outcomes.count("not done") == 90

    check()


@in_virtual_time
async def test_c12_ten_thousand_refusals_leave_room_for_the_next_command() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        follower = cluster[cluster.followers()[0]]
        for _ in range(5000):
            with pytest.raises(trioraft.NotLeaderError):
                await follower.do(Say("no"))
            with pytest.raises(trioraft.CommandRejected):
                await leader.do(Say(1))  # type: ignore[arg-type]
        await leader.do(Say("yes"))
        assert leader._core.tickets._count == 0
        assert leader._core.tickets._bytes == 0


@in_virtual_time
async def test_c1_figure_8_an_entry_of_an_older_term_on_a_majority_is_not_yet_committed() -> None:
    async with a_running_cluster(5) as cluster:
        await cluster.settled()
        await cluster.crash(*cluster.names)
        last = len(cluster.disks["n1"].frames)
        base = state_on(cluster.disks["n1"]).term
        old = commands(last + 1, (base + 1, "old"))
        newer = commands(last + 1, (base + 2, "newer"))
        # (c) of the figure: the old entry is on three disks, a newer one on the fifth.
        for name, frames in {"n1": old, "n2": old, "n3": old, "n5": newer}.items():
            cluster.disks[name].frames[last:] = frames
        for name in cluster.names:
            state = state_on(cluster.disks[name])
            cluster.disks[name].kept._state = attrs.evolve(
                state, term=base + 3, voted_for=None
            ).encode()
        # (d): the fifth is elected by those with older logs, and overwrites; nobody applied it.
        await cluster.start("n4", "n5", "n3")
        leader = await cluster.leader("n3", "n4", "n5")
        assert leader.name == "n5"
        await cluster.start()
        await cluster.settled()
        assert all(server.state_machine.lines == ["newer"] for server in cluster.up)


@in_virtual_time
async def test_c2_old_entries_commit_with_the_first_of_the_new_term() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.settled()
        await cluster.crash(*cluster.names)
        last = len(cluster.disks["n1"].frames)
        base = state_on(cluster.disks["n1"]).term
        for name in cluster.names:
            cluster.disks[name].frames[last:] = commands(last + 1, *[(base, "old")] * 7)
        await cluster.start()
        leader = await cluster.settled(within=3)
        assert leader.commit_index == last + 8
        assert leader.state_machine.lines == ["old"] * 7
