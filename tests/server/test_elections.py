"""Who leads, and who does not, whatever the network does."""

from __future__ import annotations

import itertools
from functools import partial
from random import Random

import pytest
import trio

from tests.server.puppets import Puppet
from tests.server.worlds import (
    DISK,
    HEARTBEAT,
    TIMEOUT,
    Cluster,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
    run_seeded,
)
from trioraft import (
    Config,
    NotLeaderError,
    OutcomeUnknown,
    Server,
    StateChange,
    StorageError,
    TermChange,
)
from trioraft._rules.messages import PreVote, RequestVote


async def outcome_of(server: Server, text: str) -> tuple[float, BaseException | int]:
    try:
        result: BaseException | int = await server.do(Say(text))
    except Exception as error:  # noqa: BLE001
        result = error
    return trio.current_time(), result


# -- a good leader stays -----------------------------------------------------------------------


@in_virtual_time
async def test_a_leader_that_is_heard_stays_for_good() -> None:
    async with a_running_cluster(5) as cluster:
        leader = await cluster.settled()
        term = leader.term
        await trio.sleep(20)
        assert (leader.state, leader.term) == ("leader", term)


@in_virtual_time
async def test_e11_a_server_that_returns_from_a_partition_deposes_nobody() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        term, lost = leader.term, cluster.followers()[0]
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.chatter, "client", stop)
            cluster.isolate(lost)
            await trio.sleep(50 * TIMEOUT)
            assert cluster[lost].term <= term + 1
            cluster.heal()
            await trio.sleep(20 * TIMEOUT)
            stop.set()
        assert leader.state == "leader"
        assert leader.term == term
        assert cluster[lost].term == term
        assert not any(isinstance(event, StateChange) for _, event in cluster.events[-100:])
        await cluster.settled()


@in_virtual_time
async def test_g41_a_returning_server_brings_no_high_term() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        lost = cluster.followers()[0]
        for _ in range(10):
            cluster.isolate(lost)
            await trio.sleep(10 * TIMEOUT)
            cluster.heal()
            await trio.sleep(2 * TIMEOUT)
        assert (await cluster.settled()) is leader
        assert cluster.leaders == {leader.term: leader.name}


@in_virtual_time
async def test_a_follower_that_restarts_again_and_again_unsettles_nobody() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        term = leader.term
        for _ in range(20):
            await cluster.restart(cluster.followers()[0])
            await trio.sleep(0.1)
        assert leader.state == "leader"
        assert (await cluster.settled()).term == term


@in_virtual_time
async def test_stickiness_a_vote_request_of_a_higher_term_is_refused_while_a_leader_is_heard() -> (
    None
):
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        term = leader.term
        victim, voter = cluster.followers()
        await cluster.crash(victim)
        puppet = Puppet(cluster, victim)
        for to in (leader.name, voter):
            async with puppet.dial(to) as line:
                for question in (RequestVote(term + 5, 10**6, 10**6), PreVote(term + 5, 10**6, 9)):
                    reply = await line.ask(question)
                    assert not reply.vote_granted
                    assert reply.term == term
        assert leader.state == "leader"
        assert cluster[voter].term == term


@in_virtual_time
async def test_a_server_that_has_just_started_refuses_votes_for_its_stickiness() -> None:
    async with a_running_cluster(3, config=Config(election_timeout=0.4)) as cluster:
        await cluster.crash(*cluster.names)
        await cluster.start("n2", config=Config(election_timeout=0.2))
        began = trio.current_time()
        async with Puppet(cluster, "n1").dial("n2") as line:
            granted = False
            while not granted:
                reply = await line.ask(PreVote(50, 10**6, 49))
                granted = reply.vote_granted
                await trio.sleep(0.01)
        # It had stood by leaders for 0.4 s in an earlier life, and keeps to that.
        assert 0.38 <= trio.current_time() - began <= 0.5


# -- without a quorum --------------------------------------------------------------------------


@in_virtual_time
async def test_g42_a_leader_without_a_quorum_steps_down_within_an_election_timeout() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        began = trio.current_time()
        cluster.isolate(leader.name)
        await cluster.until(lambda: leader.state != "leader")
        assert trio.current_time() - began <= TIMEOUT + 0.01
        with pytest.raises(NotLeaderError):
            await leader.do(Say("anybody there?"))


@in_virtual_time
async def test_u3_what_a_deposed_leader_held_is_answered_as_unknown_in_time() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        began = trio.current_time()
        cluster.isolate(leader.name)
        results = []
        async with trio.open_nursery() as nursery:

            async def one(number: int) -> None:
                results.append(await outcome_of(leader, f"pending {number}"))

            for number in range(100):
                nursery.start_soon(one, number)
        assert len(results) == 100
        for at, result in results:
            assert isinstance(result, OutcomeUnknown), result
            assert result.outcome == "unknown"
            assert result.handle
            assert at - began <= TIMEOUT + 0.01
        assert (
            len({error.handle for _, error in results if isinstance(error, OutcomeUnknown)}) == 100
        )
        assert len({id(error) for _, error in results}) == 100


@in_virtual_time
async def test_an_unknown_command_may_still_come_true_and_an_isolated_one_does_not() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        others = cluster.followers()
        cluster.mute(others[0], leader.name)
        cluster.mute(others[1], leader.name)
        _, reached = await outcome_of(leader, "reached the others")
        assert isinstance(reached, OutcomeUnknown)
        await cluster.leader(*others)
        assert "reached the others" in cluster[others[0]].state_machine.lines
        cluster.heal()
        await cluster.settled()
        leader = await cluster.settled()
        cluster.isolate(leader.name)
        _, lost = await outcome_of(leader, "reached nobody")
        assert isinstance(lost, OutcomeUnknown)
        cluster.heal()
        await cluster.say("after")
        await cluster.settled()
        assert "reached nobody" not in leader.state_machine.lines


@pytest.mark.parametrize(("size", "down"), [(2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 4)])
@in_virtual_time
async def test_without_a_quorum_nobody_leads_and_terms_stay(size: int, down: int) -> None:
    async with a_running_cluster(size) as cluster:
        leader = await cluster.settled()
        term = leader.term
        await cluster.crash(*cluster.names[:down])
        await trio.sleep(8)
        assert not [server for server in cluster.up if server.state == "leader"]
        # Whoever stands last may have been a voter in an election that was under way.
        assert max(server.term for server in cluster.up) <= term + 1
        await cluster.start(cluster.names[0])
        await cluster.settled(within=3)


@pytest.mark.parametrize("size", [2, 4, 6])
@in_virtual_time
async def test_c3_half_of_an_even_cluster_is_no_majority(size: int) -> None:
    async with a_running_cluster(size) as cluster:
        cluster.split(cluster.names[: size // 2], cluster.names[size // 2 :])
        await trio.sleep(5)
        assert not [server for server in cluster.up if server.state == "leader"]
        for server in cluster.up:
            with pytest.raises(NotLeaderError) as caught:
                await server.do(Say("half"))
            assert caught.value.leader is None
        cluster.heal()
        await cluster.settled(within=3)
        more = cluster.names[: size // 2 + 1]
        cluster.split(more, cluster.names[size // 2 + 1 :])
        leader = await cluster.leader(*more, within=3)
        assert await leader.do(Say("more than half")) == 1
        cluster.heal()
        await cluster.settled()


@in_virtual_time
async def test_the_majority_of_a_partition_goes_on_and_the_rest_catches_up() -> None:
    async with a_running_cluster(5) as cluster:
        leader = await cluster.settled()
        minority = [leader.name, cluster.followers()[0]]
        majority = [name for name in cluster.names if name not in minority]
        cluster.split(minority, majority)
        new = await cluster.leader(*majority, within=3)
        assert new.term > leader.term or leader.term == new.term
        assert await new.do(Say("news")) == 1
        assert all(cluster[name].state != "leader" for name in minority)
        cluster.heal()
        assert (await cluster.settled()).term == new.term


# -- one-way loss, partial partitions ----------------------------------------------------------


@pytest.mark.parametrize("notices", [False, True])
@pytest.mark.parametrize("toward", ["leader", "follower"])
@in_virtual_time
async def test_f5_one_way_loss_of_one_follower_deposes_nobody(toward: str, notices: bool) -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        term, other = leader.term, cluster.followers()[0]
        source, destination = (other, leader.name) if toward == "leader" else (leader.name, other)
        if notices:
            cluster.network.cut(cluster.addresses[source], cluster.addresses[destination])
        else:
            cluster.mute(source, destination)
        for number in range(40):
            assert await leader.do(Say(f"{number}")) == number + 1
            await trio.sleep(0.1)
        assert (leader.state, leader.term) == ("leader", term)
        assert cluster[other].term <= term + 1
        cluster.heal()
        await cluster.settled(within=3)
        assert (leader.state, leader.term) == ("leader", term)


@pytest.mark.parametrize("toward", ["leader", "followers"])
@in_virtual_time
async def test_f5_one_way_loss_of_all_followers_brings_another_leader(toward: str) -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        others = cluster.followers()
        for other in others:
            if toward == "leader":
                cluster.mute(other, leader.name)
            else:
                cluster.mute(leader.name, other)
        began = trio.current_time()
        new = await cluster.leader(*others)
        assert trio.current_time() - began <= 8 * TIMEOUT
        assert leader.state != "leader"
        assert await new.do(Say("over here")) == 1
        cluster.heal()
        await cluster.settled(within=3)


@pytest.mark.unmeasured
@pytest.mark.parametrize("pairs", list(itertools.combinations(range(6), 2)))
@in_virtual_time
async def test_f5_any_two_one_way_losses_leave_or_find_a_leader(pairs: tuple[int, int]) -> None:
    async with a_running_cluster(3) as cluster:
        links = list(itertools.permutations(cluster.names, 2))
        for number in pairs:
            cluster.mute(*links[number])
        await trio.sleep(3)
        terms = max(server.term for server in cluster.up)
        await trio.sleep(3)
        # With two of six ways lost some pair may still talk both ways: whatever happens, no storm.
        assert max(server.term for server in cluster.up) <= terms + 2
        cluster.heal()
        await cluster.settled(within=3)


@in_virtual_time
async def test_f3_quorum_loss_the_one_that_all_still_see_leads() -> None:
    async with a_running_cluster(5) as cluster:
        leader = await cluster.settled()
        hub = cluster.followers()[0]
        for one, other in itertools.combinations(cluster.names, 2):
            if hub not in (one, other):
                cluster.cut(one, other)
        began = trio.current_time()
        new = await cluster.leader(hub)
        assert new.name == hub
        assert trio.current_time() - began <= 8 * TIMEOUT
        await cluster.until(lambda: leader.state == "follower", within=1)
        assert await new.do(Say("through the hub")) == 1
        await trio.sleep(10)
        assert new.state == "leader"


@in_virtual_time
async def test_f3_chained_scenario_does_not_bring_the_leader_down() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        middle, end = cluster.followers()
        term = leader.term
        cluster.cut(leader.name, end)
        await trio.sleep(20)
        assert (leader.state, leader.term) == ("leader", term)
        assert cluster[middle].term == term
        assert cluster[end].term <= term + 1


@in_virtual_time
async def test_f3_constrained_election_stays_safe_and_recovers_when_a_link_heals() -> None:
    async with a_running_cluster(5) as cluster:
        await cluster.settled()
        behind = cluster.followers()[0]
        cluster.isolate(behind)
        for number in range(10):
            await cluster.say(f"missed by one {number}")
        cluster.heal()
        rest = [name for name in cluster.names if name != behind]
        for one, other in itertools.combinations(rest, 2):
            cluster.cut(one, other)
        # All see only the one that is behind; it leads once it has caught up, or never.
        await trio.sleep(8)
        assert max(server.term for server in cluster.up) <= 20
        cluster.heal()
        await cluster.settled(within=4)


@in_virtual_time
async def test_f4_a_follower_that_loses_only_the_leader_starts_no_storm() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        one = cluster.followers()[0]
        before = len(cluster.events)
        cluster.cut(one, leader.name)
        for number in range(15):
            await leader.do(Say(f"{number}"))
            await trio.sleep(0.4)
        changes = [event for _, event in cluster.events[before:] if isinstance(event, TermChange)]
        assert changes == []
        assert leader.state == "leader"


@pytest.mark.parametrize("seed", range(4))
def test_flapping_links_bring_no_storm_and_a_leader_once_they_rest(seed: int) -> None:
    async def main() -> None:
        chance = Random(f"flapping {seed}")
        async with a_running_cluster(5, seed=seed) as cluster:
            for _ in range(40):
                one, other = chance.sample(cluster.names, 2)
                if chance.random() < 0.5:
                    cluster.cut(one, other)
                else:
                    cluster.mute(one, other)
                await trio.sleep(chance.uniform(0.02, 0.2))
                if chance.random() < 0.5:
                    cluster.heal()
            cluster.heal()
            await cluster.settled(within=4)

    run_seeded(seed, main)


# -- elections take place ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
@in_virtual_time
async def test_a_dead_leader_is_replaced_within_a_few_timeouts(size: int) -> None:
    async with a_running_cluster(size) as cluster:
        for _ in range(3 if size > 2 else 0):
            leader = await cluster.settled()
            began = trio.current_time()
            await cluster.crash(leader.name)
            await cluster.leader()
            assert trio.current_time() - began <= 6 * TIMEOUT
            await cluster.start(leader.name)


@in_virtual_time
async def test_one_lost_heartbeat_deposes_nobody() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        for _ in range(20):
            for other in cluster.followers():
                cluster.mute(leader.name, other)
            await trio.sleep(HEARTBEAT)
            cluster.heal()
            # A stream that lost something stays mute until it is replaced.
            for other in cluster.followers():
                cluster.cut(leader.name, other)
            cluster.heal()
            await trio.sleep(4 * TIMEOUT)
        assert leader.state == "leader"
        assert list(cluster.leaders.values()) == [leader.name]


@in_virtual_time
async def test_e1_a_vote_is_on_disk_before_it_is_said() -> None:
    """Killed before the reply leaves and right after, the voter votes for nobody else."""
    async with a_running_cluster(3) as cluster:
        await cluster.crash(*cluster.names)
        await cluster.start("n2")
        term = cluster["n2"].term + 5
        await trio.sleep(2 * TIMEOUT)
        async with Puppet(cluster, "n1").dial("n2") as line:
            await line.send(RequestVote(term, 10**6, term - 1))
            while cluster["n2"].voted_for != "n1":
                await trio.sleep(0.0001)
            assert cluster.disks["n2"].writes  # the write is under way, or done
        for _ in range(2):
            await trio.sleep(0.01)
            await cluster.restart("n2")
            await trio.sleep(2 * TIMEOUT)
            async with Puppet(cluster, "n3").dial("n2") as line:
                reply = await line.ask(RequestVote(term, 10**6, term - 1))
                assert not reply.vote_granted
            assert cluster["n2"].voted_for == "n1"


@in_virtual_time
async def test_a_vote_does_not_leave_while_the_disk_takes_its_time() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.crash(*cluster.names)
        await cluster.start("n2")
        await trio.sleep(2 * TIMEOUT)
        cluster.disks["n2"].seconds = 3.0
        began = trio.current_time()
        async with Puppet(cluster, "n1").dial("n2") as line:
            reply = await line.ask(RequestVote(9, 10**6, 8))
        assert reply.vote_granted
        assert trio.current_time() - began >= 3.0


@in_virtual_time
async def test_e13_g01_a_higher_term_is_on_disk_before_anything_else_is_said() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.crash(*cluster.names)
        await cluster.start("n2")
        await trio.sleep(2 * TIMEOUT)
        async with Puppet(cluster, "n1").dial("n2") as line:
            reply = await line.ask(RequestVote(40, 0, 0))  # refused for its log, the term stays
            assert not reply.vote_granted
            assert reply.term == 40
        await cluster.restart("n2")
        assert cluster["n2"].term == 40


@in_virtual_time
async def test_e15_a_single_server_leads_at_once_after_a_restart() -> None:
    async with a_running_cluster(1) as cluster:
        for number in range(1, 5):
            await cluster.say(f"{number}")
            began = trio.current_time()
            await cluster.restart("n1")
            await cluster.leader("n1")
            assert trio.current_time() - began <= 2.2 * TIMEOUT


@in_virtual_time
async def test_e10_a_leader_answers_a_pre_vote_that_comes_when_its_own_timer_is_due() -> None:
    config = Config(heartbeat_interval=0.05, election_timeout=0.15)
    async with a_running_cluster(3, config=config) as cluster:
        leader = await cluster.settled()
        victim = cluster.followers()[0]
        await cluster.crash(victim)
        async with Puppet(cluster, victim).dial(leader.name) as line:
            for _ in range(100):
                reply = await line.ask(PreVote(leader.term + 1, 10**6, 10**6))
                assert not reply.vote_granted
                await trio.sleep(0.005)
        assert leader.state == "leader"


@pytest.mark.parametrize("seed", range(10))
def test_servers_that_time_out_together_do_not_split_votes_for_ever(seed: int) -> None:
    """All followers wake at the same instants; chance parts them (goraft's double election)."""

    async def main() -> None:
        async with a_running_cluster(6, seed=seed) as cluster:
            for _ in range(3):
                leader = await cluster.settled()
                began = trio.current_time()
                await cluster.restart(*cluster.names)
                await cluster.leader()
                assert trio.current_time() - began <= 20 * TIMEOUT
                assert leader is not cluster[leader.name]

    run_seeded(seed, main)


# -- whatever happened, it ends ------------------------------------------------------------------

RECOVERS_IN = 4.0
"""Seconds from the end of all faults until everybody follows one leader."""


FAULTS = (
    "crash",
    "restart",
    "blackout",
    "cut",
    "mute",
    "isolate",
    "slow",
    "disk",
    "failing",
    "heal",
)


async def wreck(cluster: Cluster, chance: Random, turns: int) -> None:
    """Do one bad thing after the other."""
    for _ in range(turns):
        one, other = chance.sample(cluster.names, 2)
        match chance.choice(FAULTS):
            case "crash" if cluster.is_up(one):
                await cluster.crash(one)
            case "restart":
                await cluster.restart(one)
            case "blackout":
                await cluster.restart(*cluster.names)
            case "failing":
                cluster.disks[one].broken = "the disk has failed"
                await trio.sleep(chance.uniform(0, 0.1))
                cluster.disks[one].broken = None
            case "cut":
                cluster.cut(one, other)
            case "mute":
                cluster.mute(one, other)
            case "isolate":
                cluster.isolate(one)
            case "slow":
                cluster.slow(one, other, chance.uniform(0, 0.2))
            case "disk":
                cluster.disks[one].seconds = chance.choice([0.0, 0.001, 0.05, 0.5])
            case _:
                cluster.heal()
        await trio.sleep(chance.expovariate(1 / 0.1))


async def wreck_and_recover(seed: int, turns: int = 15) -> None:
    chance = Random(f"wreck {seed}")
    async with a_cluster(2 + seed % 6, seed=seed) as cluster:
        await cluster.start()
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            for client in ("a", "b"):
                nursery.start_soon(cluster.chatter, client, stop, 0.02)
            await wreck(cluster, chance, turns)
            stop.set()
            cluster.heal()
            for disk in cluster.disks.values():
                disk.seconds = DISK
            await trio.sleep(1)
            for error in cluster.failures.values():
                assert type(error) is StorageError, error
            cluster.failures.clear()
            await cluster.start()
            began = trio.current_time()
            await cluster.settled()
            took = trio.current_time() - began
            assert took <= RECOVERS_IN, f"{took:.2f} s\n{cluster.describe()}"
        await cluster.say("it is over")
        await cluster.settled()


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(54))
def test_after_any_faults_a_leader_is_found_and_nothing_promised_is_lost(seed: int) -> None:
    run_seeded(seed, partial(wreck_and_recover, seed))


def test_a_run_is_the_same_each_time() -> None:
    def once() -> list[str]:
        seen: list[str] = []

        async def main() -> None:
            async with a_running_cluster(5, seed=7) as cluster:
                await wreck(cluster, Random(3), turns=20)
                await trio.sleep(1)
                seen.extend(f"{name} {event}" for name, event in cluster.events)

        run_seeded(7, main)
        return seen

    assert once() == once()
