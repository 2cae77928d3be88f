"""Servers come and go: the verbs of a running cluster."""

from __future__ import annotations

import pytest
import trio

import trioraft
from server.worlds import TIMEOUT, Cluster, Room, Say, a_running_cluster, in_virtual_time
from trioraft import Config, MembershipError, NotLeaderError, Server
from trioraft._events import PeerAdded, PeerRemoved


async def newcomer(cluster: Cluster, name: str, **changes: object) -> str:
    """Start a server that waits to be taken in; returns where it listens."""
    address = cluster.addresses.setdefault(name, f"mem://{name}")
    await cluster.start(name, initial_cluster=None, **changes)
    return address


def voters(server: Server) -> list[str]:
    configuration = server._core.node.configuration
    assert not configuration.outgoing
    return [member.id.name for member in configuration.voters]


@in_virtual_time
async def test_a_server_is_added_and_catches_up_before_it_votes() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        for number in range(20):
            await leader.do(Say(f"{number}"))
        address = await newcomer(cluster, "n4")
        await leader.add_peer("n4", address)
        assert voters(leader) == ["n1", "n2", "n3", "n4"]
        await trio.sleep(1)
        assert cluster["n4"].state_machine.lines == leader.state_machine.lines
        assert voters(cluster["n4"]) == ["n1", "n2", "n3", "n4"]
        assert leader.quorum_size == 3
        assert [e.value for n, e in cluster.events if n == "n1" and isinstance(e, PeerAdded)] == [
            "n2",
            "n3",
            "n4",
        ]


@in_virtual_time
async def test_a_removed_server_ends_in_good_order() -> None:
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        await leader.remove_peer(gone)
        await trio.sleep(1)
        assert not cluster.is_up(gone)
        assert gone not in cluster.failures
        assert gone not in voters(leader)
        await leader.do(Say("on we go"))


@in_virtual_time
async def test_g06_a_leader_that_removes_itself_hands_over_and_ends() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await leader.remove_peer(leader.name)
        await trio.sleep(TIMEOUT)
        assert not cluster.is_up(leader.name)
        new = await cluster.leader(*[n for n in cluster.names if n != leader.name])
        assert leader.name not in voters(new)
        await new.do(Say("without it"))


@in_virtual_time
async def test_leadership_is_transferred() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        target = cluster.followers()[1]
        term = leader.term
        await leader.transfer_leadership(target)
        assert cluster[target].state == "leader"
        assert cluster[target].term == term + 1


@in_virtual_time
async def test_a_wiped_server_is_taken_in_anew() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await leader.do(Say("before"))
        wiped = cluster.followers()[0]
        await cluster.crash(wiped)
        del cluster.disks[wiped]
        await cluster.start(wiped)
        await trio.sleep(2)
        assert cluster[wiped].status().cluster is None
        await leader.add_peer(wiped, cluster.addresses[wiped])
        await trio.sleep(1)
        assert cluster[wiped].state_machine.lines == ["before"]
        assert voters(leader) == ["n1", "n2", "n3"]
        assert leader.quorum_size == 2


@in_virtual_time
async def test_g78_all_addresses_change_at_once() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.say("before")
        await cluster.crash(*cluster.names)
        moved = {name: f"mem://moved-{name}" for name in cluster.names}
        cluster.addresses.update(moved)
        await cluster.start(peers=moved)
        leader = await cluster.settled()
        await leader.do(Say("after"))
        await trio.sleep(5)
        known = {m.id.name: m.address for m in leader._core.node.configuration.voters}
        others = {name: address for name, address in moved.items() if name != leader.name}
        assert {name: known[name] for name in others} == others


@in_virtual_time
async def test_a_server_that_never_answers_is_refused() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        with pytest.raises(MembershipError, match="n9"):
            await leader.add_peer("n9", "mem://n9")
        with pytest.raises(NotLeaderError):
            await cluster[cluster.followers()[0]].add_peer("n9", "mem://n9")
        assert voters(leader) == ["n1", "n2", "n3"]


@in_virtual_time
async def test_a_server_that_stops_answering_while_it_catches_up_is_taken_out_again() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        address = await newcomer(cluster, "n4")
        await leader.add_learner("n4", address)
        await cluster.crash("n4")
        with pytest.raises(MembershipError, match="does not answer"):
            await leader._promote({"n4": address})
        assert not leader._core.node.configuration.learners


@in_virtual_time
async def test_everybody_is_replaced_at_once() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await leader.do(Say("old"))
        new = {name: await newcomer(cluster, name) for name in ("n4", "n5", "n6")}
        await leader.change_membership(new)
        await trio.sleep(1)
        assert not any(cluster.is_up(name) for name in ("n1", "n2", "n3"))
        successor = await cluster.leader(*new)
        assert voters(successor) == ["n4", "n5", "n6"]
        assert successor.state_machine.lines == ["old"]
        await successor.do(Say("new"))


@in_virtual_time
async def test_a_leader_that_stops_hands_over() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        began = trio.current_time()
        await leader.stop()
        new = await cluster.leader(*[n for n in cluster.names if n != leader.name])
        assert trio.current_time() - began < TIMEOUT / 2
        assert new.term == leader.term + 1
