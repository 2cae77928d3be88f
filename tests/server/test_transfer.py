"""Leadership that is handed over, and servers that had better not lead."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel

import trioraft
from tests.server.worlds import TIMEOUT, Cluster, Lines, Say, a_running_cluster, in_virtual_time
from trioraft import (
    Config,
    Lease,
    LeaseLost,
    MembershipError,
    NotLeaderError,
    Server,
    TransferFailed,
)


def other(cluster: Cluster, server: Server) -> str:
    return next(name for name in cluster.names if name != server.name)


@in_virtual_time
async def test_to_whichever_is_fit() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        began = trio.current_time()
        await leader.transfer_leadership()
        assert leader.state == "follower"
        assert trio.current_time() - began < TIMEOUT
        new = await cluster.leader()
        assert (new.name, new.term) == (leader.leader, leader.term)
        await new.do(Say("at once"))


@in_virtual_time
async def test_only_a_leader_hands_over_and_only_to_another_voter() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        with pytest.raises(NotLeaderError):
            await cluster[other(cluster, leader)].transfer_leadership()
        with pytest.raises(MembershipError, match="no voter has the name n9"):
            await leader.transfer_leadership("n9")
        with pytest.raises(TransferFailed, match="leads already"):
            await leader.transfer_leadership(leader.name)
        assert leader.state == "leader"


@in_virtual_time
async def test_a_learner_does_not_lead() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        cluster.addresses["n4"] = "mem://n4"
        await cluster.start("n4", initial_cluster=None)
        await leader.add_learner("n4", "mem://n4")
        await trio.sleep(1)
        with pytest.raises(MembershipError, match="no voter has the name n4"):
            await leader.transfer_leadership("n4")


@in_virtual_time
async def test_the_target_is_brought_up_to_date_first() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        target = other(cluster, leader)
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(leader.do, Say(f"{number}"))
            await trio.lowlevel.checkpoint()
        await leader.transfer_leadership(target)
        await cluster[target].do(Say("new"))
        assert len(cluster[target].state_machine.lines) == 201


@in_virtual_time
async def test_one_that_does_not_answer_is_given_up_and_the_leader_leads_on() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        target = other(cluster, leader)
        cluster.isolate(target)
        await leader.do(Say("it lacks this"))
        term = leader.term
        began = trio.current_time()
        with pytest.raises(TransferFailed, match=target):
            await leader.transfer_leadership(target)
        assert trio.current_time() - began <= 2 * TIMEOUT
        await leader.do(Say("on we go"))
        assert (leader.state, leader.term) == ("leader", term)
        async with leader.leadership():  # with a lease, as before
            pass
        await trio.sleep(4 * TIMEOUT)
        assert (leader.state, leader.term) == ("leader", term)


@in_virtual_time
async def test_one_that_was_asked_and_is_silent_costs_a_term_and_no_command() -> None:
    """It may campaign yet in the leader's name, so there is no lease before a new term."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        target, term = other(cluster, leader), leader.term
        cluster.isolate(target)
        with pytest.raises(TransferFailed, match=target):
            await leader.transfer_leadership(target)
        await leader.do(Say("on we go"))
        assert (leader.state, leader.term) == ("leader", term)
        assert leader._core.reading.lease() < trio.current_time()
        await trio.sleep(2 * TIMEOUT)
        new = await cluster.leader(*[name for name in cluster.names if name != target])
        assert new.term > term
        await new.do(Say("with a lease"))
        async with new.leadership():
            pass


@in_virtual_time
async def test_meanwhile_commands_are_refused_as_not_done() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        target = other(cluster, leader)
        cluster.isolate(target)
        async with trio.open_nursery() as nursery:

            async def hand_over() -> None:
                with pytest.raises(TransferFailed):
                    await leader.transfer_leadership(target)

            nursery.start_soon(hand_over)
            await trio.sleep(TIMEOUT / 10)
            with pytest.raises(NotLeaderError) as refused:
                await leader.do(Say("not now"))
            assert refused.value.outcome == "not done"
        await leader.do(Say("but now"))
        assert leader.state_machine.lines == ["but now"]


@in_virtual_time
async def test_what_runs_while_leading_has_ended_before_another_one_leads() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        target = other(cluster, leader)
        left: list[float] = []
        entered = trio.Event()

        async def body() -> None:
            with pytest.raises(LeaseLost):
                async with leader.leadership():
                    entered.set()
                    try:
                        await trio.sleep_forever()
                    finally:
                        with trio.CancelScope(shield=True):
                            await trio.sleep(TIMEOUT / 4)  # it takes its time to end
                        assert leader.state == "leader"
                        left.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(body)
            await entered.wait()
            await leader.transfer_leadership(target)
            assert left
            assert left[0] <= trio.current_time()
        assert cluster[target].state == "leader"


@in_virtual_time
async def test_a_body_that_does_not_end_in_time_keeps_the_leader() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        target, entered, term = other(cluster, leader), trio.Event(), leader.term

        async def body() -> None:
            with pytest.raises(LeaseLost):
                async with leader.leadership():
                    entered.set()
                    with trio.CancelScope(shield=True):
                        await trio.sleep(3 * TIMEOUT)
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(body)
            await entered.wait()
            with pytest.raises(TransferFailed):
                await leader.transfer_leadership(target)
            assert (leader.state, leader.term) == ("leader", term)


@in_virtual_time
async def test_clients_commands_go_on_over_a_hundred_transfers() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        done: list[int] = []
        talking = trio.CancelScope()

        async def talk() -> None:
            number = 0
            with talking:
                while True:
                    number += 1
                    await say(number)
                    await trio.sleep(0.001)

        async def say(number: int) -> None:
            for server in cluster.servers.values():
                try:
                    await server.do(Say(f"{number}"))
                except NotLeaderError:  # surely not done
                    continue
                done.append(number)
                return

        nursery.start_soon(talk)
        for _ in range(100):
            leader = await cluster.leader()
            await leader.transfer_leadership(other(cluster, leader))
        talking.cancel()
        await cluster.settled()
        await trio.sleep(TIMEOUT)
        heard = [line for line in cluster["n1"].state_machine.lines if line.isdigit()]
        assert sorted(set(heard), key=int) == heard
        assert {str(number) for number in done} <= set(heard)
        assert len(done) > 100


@in_virtual_time
async def test_who_leads_rarely_lets_others_go_first() -> None:
    for _ in range(3):
        async with a_running_cluster(3) as cluster:
            leader = await cluster.settled()
            reluctant = leader.name
            await cluster.crash(*cluster.names)
            rare = Config(leads="rarely")
            await cluster.start(reluctant, config=rare)
            await cluster.start()
            assert (await cluster.settled()).name != reluctant


@pytest.mark.parametrize("leads", ["rarely", "never"])
@in_virtual_time
async def test_who_had_better_not_lead_hands_over_to_who_may(leads: trioraft._config.Leads) -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        for number in range(5):
            await leader.do(Say(f"{number}"))
        # The only one that has the last entries is not to lead: it does, and hands over.
        late = [name for name in cluster.names if name != leader.name]
        cluster.isolate(late[0])
        await leader.do(Say("he lacks this"))
        await cluster.crash(*cluster.names)
        cluster.network.rejoin(cluster.addresses[late[0]])
        await cluster.start(leader.name, config=Config(leads=leads))
        await cluster.start(late[0])
        await trio.sleep(40 * TIMEOUT)
        assert cluster[late[0]].state == "leader"
        assert cluster[late[0]].state_machine.lines[-1] == "he lacks this"
        await cluster[late[0]].do(Say("and leads"))


@in_virtual_time
async def test_a_server_that_never_leads_leads_if_nobody_else_can() -> None:
    async with a_running_cluster(1) as cluster:
        await cluster.crash("n1")
        await cluster.start("n1", config=Config(leads="never"))
        leader = await cluster.settled(within=20 * TIMEOUT)
        await leader.do(Say("alone"))


@in_virtual_time
async def test_a_follower_stops_without_ado() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        term = leader.term
        began = trio.current_time()
        await cluster[other(cluster, leader)].stop()
        assert trio.current_time() - began < TIMEOUT / 10
        await leader.do(Say("still here"))
        assert (leader.state, leader.term) == ("leader", term)


@in_virtual_time
async def test_the_last_of_a_cluster_stops_within_an_election_time_out() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await cluster.crash(*[name for name in cluster.names if name != leader.name])
        began = trio.current_time()
        await leader.stop()
        assert trio.current_time() - began <= TIMEOUT + 0.1


@in_virtual_time
async def test_a_leader_that_stops_hands_over_and_the_pause_is_short() -> None:
    """Far below an election time-out: nobody has to notice that a leader is gone."""
    async with a_running_cluster(3) as cluster:
        for number in range(10):
            leader = await cluster.settled()
            term, rest = leader.term, [n for n in cluster.names if n != leader.name]
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leader.stop)
                await trio.lowlevel.checkpoint()
                while True:
                    try:
                        servers = [cluster[name] for name in rest]
                        leads = [server for server in servers if server.state == "leader"]
                        await (leads or servers)[0].do(Say(f"{number}"))
                        break
                    except NotLeaderError:
                        await trio.sleep(0.001)
            assert trio.current_time() - began < TIMEOUT / 2
            assert cluster[rest[0]].term == term + 1
            assert not cluster.is_up(leader.name)
            await cluster.start(leader.name)


@in_virtual_time
async def test_reads_by_lease_while_leadership_is_handed_over_are_never_old() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        done = 0
        checked = 0
        stop = trio.Event()

        async def write() -> None:
            nonlocal done
            while not stop.is_set():
                await cluster.say(f"{done + 1}")
                done += 1
                await trio.sleep(0.001)

        async def ask(server: Server) -> None:
            nonlocal checked
            while not stop.is_set():
                least = done
                try:
                    answer = await server.read(Lines(), Lease())
                except NotLeaderError:
                    await trio.sleep(0.001)
                    continue
                assert len(answer.value) >= least, "older than what was acknowledged before"
                checked += 1
                await trio.sleep(0.0005)

        nursery.start_soon(write)
        for server in cluster.up:
            nursery.start_soon(ask, server)
        for _ in range(30):
            await (await cluster.leader()).transfer_leadership()
            await trio.sleep(0.02)
        stop.set()
        assert checked > 300
