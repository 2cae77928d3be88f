"""Reads without the log: real servers, and a network that does its worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import attrs
import pytest
import trio

import trioraft
from tests.server.members import newcomer
from tests.server.worlds import (
    DELAY,
    HEARTBEAT,
    TIMEOUT,
    Cluster,
    Lines,
    Room,
    Say,
    Stranger,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
)
from trioraft import (
    Answer,
    Anything,
    AtLeast,
    CommandRejected,
    Config,
    Consistency,
    Lease,
    Linearizable,
    MaxAge,
    NotLeaderError,
    ProtocolError,
    Server,
    ServerStopped,
    Token,
)
from trioraft._rules.messages import AppendEntries
from trioraft._wire.asking import ReadIndex, ReadIndexReply

LINEARIZABLE = Linearizable()
LEVELS = (Linearizable(), Lease(), MaxAge(0.05), MaxAge(10.0), Anything())


async def lines(server: Server, consistency: Consistency = LINEARIZABLE) -> list[str]:
    return (await server.read(Lines(), consistency)).value


def token_of(cluster: Cluster, index: int) -> Token:
    return Token(cluster.up[0].status().cluster or "", index)


class Asking:
    """One read that is under way."""

    def __init__(self) -> None:
        self.answer: Answer[Any] | None = None
        self.error: BaseException | None = None
        self.at: float | None = None

    async def run(self, server: Server, consistency: Consistency) -> None:
        try:
            self.answer = await server.read(Lines(), consistency)
        except Exception as error:  # noqa: BLE001  the test looks at it
            self.error = error
        self.at = trio.current_time()


@asynccontextmanager
async def asking(server: Server, *levels: Consistency) -> AsyncGenerator[list[Asking]]:
    """Reads that go on while the test does."""
    calls = [Asking() for _ in levels]
    async with trio.open_nursery() as nursery:
        for call, level in zip(calls, levels, strict=True):
            nursery.start_soon(call.run, server, level)
        yield calls


# -- a healthy cluster -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@in_virtual_time
async def test_whoever_is_asked_tells_what_was_acknowledged(size: int) -> None:
    async with a_running_cluster(size) as cluster:
        leader = await cluster.settled()
        for number in range(10):
            await leader.do(Say(f"{number}"))
            for server in cluster.up:
                assert len(await lines(server)) == number + 1
            for server in cluster.up:
                assert len(await lines(server, Lease())) == number + 1


@in_virtual_time
async def test_a_follower_that_lags_answers_when_it_has_caught_up() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        slow = cluster.followers()[0]
        cluster.disks[slow].seconds = 0.5
        began = trio.current_time()
        await leader.do(Say("news"))
        assert cluster[slow].state_machine.lines == []
        assert await lines(cluster[slow]) == ["news"]
        assert trio.current_time() - began > 0.5


@in_virtual_time
async def test_an_answer_says_how_fresh_it_is() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await leader.do(Say("news"))
        index, id = leader.last_applied, leader.status().cluster or ""
        for level in (Linearizable(), Lease()):
            answer = await leader.read(Lines(), level)
            assert answer == Answer(["news"], level, index, 0.0, id)
        follower = cluster[cluster.followers()[0]]
        assert await follower.read(Lines(), Lease()) == Answer(
            ["news"], Linearizable(), index, 0.0, id
        )


@pytest.mark.parametrize("level", [*LEVELS, AtLeast(Token("", 0))])
@in_virtual_time
async def test_only_queries_of_the_machine_are_answered(level: Consistency) -> None:
    async with a_running_cluster(1) as cluster:
        for given in (Stranger(), Say("no query")):
            with pytest.raises(CommandRejected):
                await cluster.up[0].read(given, level)  # type: ignore[arg-type]


@trioraft.query("wrong")
@attrs.frozen
class Wrong:
    def answer(self, room: Room) -> int:
        raise ValueError("wrong")


class WrongRoom(Room):
    commands = (*Room.commands, Wrong)


@pytest.mark.parametrize("level", LEVELS)
@in_virtual_time
async def test_what_a_query_raises_is_for_whoever_asked(level: Consistency) -> None:
    async with a_running_cluster(3, machine=WrongRoom) as cluster:
        for server in cluster.up:
            with pytest.raises(ValueError, match="wrong"):
                await server.read(Wrong(), level)
            assert server.running


# -- what it costs -----------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["leader", "follower"])
@in_virtual_time
async def test_many_reads_share_a_round(at: str) -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        server = leader if at == "leader" else cluster[cluster.followers()[0]]
        while True:  # a moment at which nothing is on its way
            await trio.sleep(HEARTBEAT / 7)
            heard = cluster.overhear()
            await trio.sleep(3 * DELAY)
            if not heard:
                break
        log = leader.status().last_index
        async with asking(server, *[Linearizable()] * 200) as calls:
            pass
        assert all(call.answer for call in calls)
        said = Counter((source, type(message)) for _, source, _, message in heard)
        assert said[leader.name, AppendEntries] <= 4, "one round, perhaps a heartbeat each besides"
        assert said[server.name, ReadIndex] == (at == "follower")
        assert said[leader.name, ReadIndexReply] == (at == "follower")
        assert leader.status().last_index == log, "nothing is written"


@in_virtual_time
async def test_reads_that_never_end_cost_a_round_for_each_round_trip() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        heard, done = cluster.overhear(), 0

        async def ask_on() -> None:
            nonlocal done
            while True:
                await leader.read(Lines())
                done += 1

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask_on)
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
        rounds = 1.0 / (2 * DELAY)
        sent = sum(isinstance(message, AppendEntries) for *_, message in heard)
        assert sent <= 2 * 2 * rounds + 50
        assert done >= 50 * rounds / 3


@in_virtual_time
async def test_under_a_lease_nothing_is_sent() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        heard = cluster.overhear()
        for _ in range(100):
            assert (await leader.read(Lines(), Lease())).consistency == Lease()
            assert (await leader.read(Lines(), Anything())).value == []
        assert heard == []


@in_virtual_time
async def test_a_read_within_its_age_is_local_and_the_age_stays_low_while_such_reads_come() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.settled()
        follower = cluster[cluster.followers()[0]]
        assert (await follower.read(Lines(), MaxAge(0.1))).consistency == Linearizable()
        heard = cluster.overhear()
        for _ in range(1000):
            answer = await follower.read(Lines(), MaxAge(0.1))
            assert answer.consistency == MaxAge(0.1), "asked for in the background, in time"
            assert answer.age <= 0.1
            await trio.sleep(0.01)
        asked = sum(isinstance(message, ReadIndex) for *_, message in heard)
        assert 50 <= asked <= 250


# -- partitions --------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS[:2])
@pytest.mark.parametrize("size", [2, 3, 5])
@in_virtual_time
async def test_a_leader_that_is_cut_off_answers_nothing_and_says_so_in_time(
    level: Consistency, size: int
) -> None:
    async with a_running_cluster(size) as cluster:
        leader = await cluster.settled()
        for other in cluster.followers():
            cluster.mute(leader.name, other)
            cluster.mute(other, leader.name)
        await trio.sleep(0.96 * TIMEOUT)  # the lease is over, and it still leads
        assert leader.state == "leader"
        began = trio.current_time()
        async with asking(leader, level) as (call,):
            pass
        assert isinstance(call.error, NotLeaderError)
        assert trio.current_time() - began <= TIMEOUT
        cluster.heal()
        await cluster.settled()


@pytest.mark.parametrize("size", [2, 3])
@in_virtual_time
async def test_who_hears_no_leader_answers_what_takes_none(size: int) -> None:
    async with a_running_cluster(size) as cluster:
        await cluster.say("before")
        await cluster.settled()
        lost = cluster[cluster.followers()[0]]
        read_at = trio.current_time()
        assert await lines(lost) == ["before"]
        cluster.isolate(lost.name)
        await cluster.until(lambda: lost.leader is None)
        for level in (Linearizable(), Lease(), MaxAge(0.01)):
            with pytest.raises(NotLeaderError):
                await lost.read(Lines(), level)
        assert await lines(lost, Anything()) == ["before"]
        assert await lines(lost, AtLeast(token_of(cluster, 1))) == ["before"]
        answer = await lost.read(Lines(), MaxAge(3600.0))
        assert (answer.value, answer.consistency) == (["before"], MaxAge(3600.0))
        assert answer.age == pytest.approx(trio.current_time() - read_at, abs=1e-6)


@in_virtual_time
async def test_a_read_that_is_under_way_when_the_leader_goes_fails_and_does_not_hang() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        follower = cluster[cluster.followers()[0]]
        for other in cluster.followers():
            cluster.mute(other, leader.name)
        began = trio.current_time()
        async with asking(follower, Linearizable()) as (call,), asking(leader, Linearizable()):
            pass
        assert isinstance(call.error, NotLeaderError)
        assert trio.current_time() - began <= 4 * TIMEOUT


@in_virtual_time
async def test_who_has_no_vote_and_hears_nobody_does_not_keep_its_readers() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await leader.add_learner("n4", await newcomer(cluster, "n4"))
        await cluster.settled()
        cluster.isolate("n4")
        began = trio.current_time()
        async with asking(cluster["n4"], Linearizable()) as (call,):
            pass
        assert isinstance(call.error, NotLeaderError)
        assert call.error.leader is None
        assert trio.current_time() - began <= 3 * TIMEOUT
        cluster.heal()
        await cluster.settled()
        assert cluster["n4"].leader == leader.name


@in_virtual_time
async def test_a_read_whose_question_was_lost_asks_again() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        follower = cluster.followers()[0]
        heard = cluster.overhear()
        cluster.network.hold(cluster.addresses[follower], cluster.addresses[leader.name])
        async with asking(cluster[follower], Linearizable()) as (call,):
            await trio.sleep(0.5 * TIMEOUT)
            cluster.heal()
            cluster.network.reset(cluster.addresses[follower], cluster.addresses[leader.name])
        assert call.answer is not None
        numbers = [message.number for *_, message in heard if isinstance(message, ReadIndex)]
        assert len(numbers) == len(set(numbers)) >= 2


@in_virtual_time
async def test_the_index_of_a_leader_that_is_gone_is_not_waited_for() -> None:
    """It confirmed a round before its no-op was on any disk, and then it was cut off."""
    async with a_running_cluster(3) as cluster:
        await cluster.say("before")
        old = await cluster.settled()
        for disk in cluster.disks.values():
            disk.seconds = 0.4
        await cluster.crash(old.name)
        new = await cluster.until(
            lambda: next((s for s in cluster.up if s.state == "leader"), None)
        )
        other = cluster[cluster.followers()[0]]
        await cluster.until(lambda: other.leader == new.name)
        began = trio.current_time()
        async with asking(other, Linearizable()) as (call,):
            await trio.sleep(HEARTBEAT / 2)
            assert call.at is None, "nothing of this term is committed"
            await cluster.crash(new.name)
            for disk in cluster.disks.values():
                disk.seconds = 0.0005
        assert isinstance(call.error, NotLeaderError)
        assert trio.current_time() - began <= 4 * TIMEOUT


class Reader:
    """Reads on and on, and must never see less than was acknowledged before it asked."""

    def __init__(self, cluster: Cluster, name: str, level: Consistency) -> None:
        self.cluster, self.name, self.level = cluster, name, level
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        while True:
            await trio.sleep(0.007)
            server, before = self.cluster[self.name], list(self.cluster.acknowledged)
            try:
                with trio.move_on_after(1.0):
                    answer = await server.read(Lines(), self.level)
                    missing = set(before) - set(answer.value)
                    assert not missing, f"{self.name} is asked for {self.level}, lacks {missing}"
                    self.counts[type(answer.consistency).__name__] += 1
            except (NotLeaderError, ServerStopped):
                self.counts["refused"] += 1


@pytest.mark.unmeasured
@pytest.mark.parametrize("level", [Linearizable(), Lease()])
@pytest.mark.parametrize("seed", range(3))
@in_virtual_time
async def test_whatever_the_network_does_no_read_is_old(seed: int, level: Consistency) -> None:
    chance = Random(seed)
    async with a_running_cluster(3, seed=seed) as cluster, trio.open_nursery() as nursery:
        stop = trio.Event()
        for number in range(3):
            nursery.start_soon(cluster.chatter, f"c{number}", stop)
        readers = [Reader(cluster, name, level) for name in cluster.names]
        for reader in readers:
            nursery.start_soon(reader.run)
        for _ in range(25):
            leader = next((s.name for s in cluster.up if s.state == "leader"), "n1")
            match chance.randrange(4):
                case 0:
                    cluster.isolate(leader)
                case 1:
                    cluster.mute(leader, chance.choice(cluster.names))
                case 2:
                    cluster.mute(chance.choice(cluster.names), leader)
                case 3:
                    await cluster.restart(chance.choice(cluster.names))
            await trio.sleep(chance.uniform(0, 3 * TIMEOUT))
            cluster.heal()
            await trio.sleep(chance.uniform(0, 2 * TIMEOUT))
        stop.set()
        nursery.cancel_scope.cancel()
    counts = sum((reader.counts for reader in readers), Counter())
    assert counts["Linearizable"] > 100
    assert counts["refused"] > 10
    assert type(level) is Linearizable or counts["Lease"] > 100


# -- leases ------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_lease_is_over_before_another_can_lead() -> None:
    async with a_running_cluster(3) as cluster:
        old = await cluster.settled()
        others = cluster.followers()
        began = trio.current_time()
        cluster.isolate(old.name)
        last, first = None, None
        while first is None:
            try:
                answer = await old.read(Lines(), Lease())
            except NotLeaderError:
                pass
            else:
                assert answer.consistency == Lease()
                last = trio.current_time()
            await trio.sleep(0.001)
            first = next((s for s in map(cluster.__getitem__, others) if s.state == "leader"), None)
        assert last is not None
        assert last - began <= 0.95 * TIMEOUT
        assert trio.current_time() > last


@pytest.mark.parametrize("drift", [0.0, 0.05, 0.3])
@in_virtual_time
async def test_the_bound_on_drift_is_kept(drift: float) -> None:
    """The lease is over that much before the stickiness it rests on."""
    async with a_running_cluster(3, config=Config(max_clock_drift=drift)) as cluster:
        leader = await cluster.settled()
        role: Any = leader._core.node.role
        until = leader._core.reading.lease()
        newest = max(progress.answered_at for progress in role.progress)
        assert until == pytest.approx(newest + TIMEOUT * (1 - drift), abs=HEARTBEAT / 10)


@in_virtual_time
async def test_without_a_bound_on_drift_leases_come_down_to_rounds() -> None:
    """A bound of almost all leaves nothing of a lease."""
    config = Config(max_clock_drift=0.999)
    async with a_running_cluster(3, config=config) as cluster:
        leader = await cluster.settled()
        await trio.sleep(HEARTBEAT / 2)
        assert (await leader.read(Lines(), Lease())).consistency == Linearizable()


@in_virtual_time
async def test_a_lease_counts_from_the_sending_however_long_the_answer_takes() -> None:
    """Over there the time has long begun."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        for other in cluster.followers():
            cluster.slow(other, leader.name, 0.9 * TIMEOUT)
        await trio.sleep(TIMEOUT)
        for _ in range(100):
            role: Any = leader._core.node.role
            if leader.state != "leader":
                break
            newest = max(progress.answered_at for progress in role.progress)
            assert leader._core.reading.lease() <= newest + 0.95 * TIMEOUT + 1e-9
            assert newest <= trio.current_time() - 0.5 * TIMEOUT
            await trio.sleep(0.003)


# -- tokens ------------------------------------------------------------------------------------


@in_virtual_time
async def test_at_least_waits_for_the_token_and_asks_nobody() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        lost = cluster.followers()[0]
        cluster.isolate(lost)
        await cluster.say("news")
        token = token_of(cluster, leader.last_applied)
        async with asking(cluster[lost], AtLeast(token)) as (call,):
            await trio.sleep(5 * TIMEOUT)
            assert call.at is None
            cluster.heal()
        assert call.answer is not None
        assert call.answer.value == ["news"]
        assert call.answer.index >= token.index
        assert call.answer.consistency == AtLeast(token)
        await cluster.settled()


@in_virtual_time
async def test_a_token_of_another_cluster_is_refused_by_everybody() -> None:
    async with a_running_cluster(3) as cluster:
        for server in cluster.up:
            with pytest.raises(ProtocolError, match="a token of the cluster 'elsewhere'"):
                await server.read(Lines(), AtLeast(Token("elsewhere", 1)))


# -- the beginning and the end of a life -------------------------------------------------------


@in_virtual_time
async def test_after_a_restart_nothing_is_told_before_a_leader_was_heard() -> None:
    """What the machine holds then is nothing at all: the commit index is not on disk."""
    async with a_running_cluster(3) as cluster:
        await cluster.say("before")
        leader = await cluster.settled()
        token, name = token_of(cluster, leader.last_applied), cluster.followers()[0]
        await cluster.crash(*cluster.names)
        await cluster.start(name)
        server = cluster[name]
        await cluster.until(lambda: server.member_count)
        for level in (Linearizable(), Lease(), MaxAge(1e9), MaxAge(float("inf"))):
            with pytest.raises(NotLeaderError):
                await server.read(Lines(), level)
        answer = await server.read(Lines(), Anything())
        assert (answer.value, answer.index, answer.age) == ([], 0, float("inf"))
        nothing = AtLeast(Token(token.cluster, 0))
        async with asking(server, AtLeast(token), nothing) as calls:
            await trio.sleep(10 * TIMEOUT)
            assert [call.at for call in calls] == [None, None]
            await cluster.start()
        told, least = [call.answer for call in calls]
        assert told is not None
        assert (told.value, told.index >= token.index) == (["before"], True)
        assert least is not None
        assert least.index >= 1
        await cluster.settled()


@pytest.mark.parametrize("level", [Linearizable(), Lease(), MaxAge(1.0), AtLeast(Token("c", 1))])
@in_virtual_time
async def test_a_server_that_has_not_formed_answers_only_anything(level: Consistency) -> None:
    async with a_cluster(3) as cluster:
        await cluster.start("n1")
        with pytest.raises(NotLeaderError):
            await cluster["n1"].read(Lines(), level)
        assert await lines(cluster["n1"], Anything()) == []


@in_virtual_time
async def test_a_server_whose_disk_is_slow_to_open_keeps_nobody_waiting() -> None:
    async with a_cluster(1) as cluster, trio.open_nursery() as nursery:
        server = cluster.make("n1")
        cluster.disks["n1"].seconds = 5.0
        nursery.start_soon(server.serve)
        await trio.sleep(1.0)
        assert server.running
        with pytest.raises(NotLeaderError):
            await server.read(Lines())
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("level", [Linearizable(), AtLeast(Token("", 0))])
@pytest.mark.parametrize("role", ["leader", "follower"])
@in_virtual_time
async def test_when_a_server_ends_its_readers_are_told(level: Consistency, role: str) -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        server = leader if role == "leader" else cluster[cluster.followers()[0]]
        for other in cluster.names:
            cluster.mute(other, server.name)
        if isinstance(level, AtLeast):
            level = AtLeast(token_of(cluster, 1000))
        async with asking(server, level) as (call,):
            await trio.sleep(0.01)
            if server is leader:
                await cluster.crash(server.name)
            else:
                await server.stop()
        assert isinstance(call.error, ServerStopped)
        with pytest.raises(ServerStopped):
            await server.read(Lines(), Anything())
        cluster.heal()


@in_virtual_time
async def test_a_leader_that_stops_answers_its_readers_or_sends_them_to_the_next_one() -> None:
    """It hands over first."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        began = trio.current_time()
        async with asking(leader, Linearizable()) as (call,):
            await leader.stop()
        assert call.at is not None
        assert call.at < began + TIMEOUT / 2
        assert call.answer is not None or isinstance(call.error, NotLeaderError)


@in_virtual_time
async def test_a_leader_that_was_asked_by_an_earlier_life_does_not_answer_this_one() -> None:
    """A reply finds a server by name and incarnation: only its number tells two lives apart."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        follower = cluster.followers()[0]
        heard = cluster.overhear()
        await lines(cluster[follower])
        await cluster.restart(follower)
        await cluster.settled()
        await lines(cluster[follower])
        numbers = [message.number for *_, message in heard if isinstance(message, ReadIndex)]
        assert len(numbers) == len(set(numbers)) == 2
        assert leader.state == "leader"
