"""A server that is taken in has nothing at first: it votes once it has what the others have."""

from __future__ import annotations

import pytest
import trio

from tests.server.members import (
    COMPACTING,
    configuration,
    learners,
    newcomer,
    stays,
    talk,
    told,
    voters,
)
from tests.server.worlds import TIMEOUT, Cluster, Say, a_running_cluster, in_virtual_time
from trioraft import MembershipError, NotLeaderError, OutcomeUnknown, Server
from trioraft._events import PeerCatchingUp, SnapshotInstalled

LONG = 600
SLOW = 100_000.0
"""Bytes in a second: what was said takes several of them."""


async def a_long_log(cluster: Cluster) -> Server:
    """The leader of a cluster in which much has been said."""
    leader = await cluster.settled()
    await talk(cluster, LONG, "x" * 500)
    await cluster.settled()
    return leader


def slow_lines_to(cluster: Cluster, name: str) -> None:
    for other in cluster.names:
        there, here = cluster.addresses[name], cluster.addresses[other]
        cluster.network.throttle(here, there, SLOW)


async def adding(leader: Server, name: str, address: str, outcome: list[object]) -> None:
    try:
        outcome.append(await leader.add_peer(name, address))
    except Exception as error:  # noqa: BLE001  the test looks at it
        outcome.append(error)


@in_virtual_time
async def test_g45_until_it_has_caught_up_it_is_a_learner_and_costs_nothing() -> None:
    async with a_running_cluster(2) as cluster, trio.open_nursery() as nursery:
        leader = await a_long_log(cluster)
        address = await newcomer(cluster, "n3")
        slow_lines_to(cluster, "n3")
        outcome: list[object] = []
        nursery.start_soon(adding, leader, "n3", address, outcome)
        await cluster.until(lambda: learners(leader) == ["n3"])
        while cluster["n3"].status().last_index < LONG:
            assert voters(leader) == ["n1", "n2"], "promoted before it had caught up"
            assert leader.quorum_size == 2
            began = trio.current_time()
            await leader.do(Say(f"at {began}"))
            assert trio.current_time() - began < TIMEOUT, "nobody waits for it"
            await trio.sleep(0.05)
        await cluster.until(lambda: outcome)
        assert outcome == [configuration(leader).index]
        assert voters(leader) == ["n1", "n2", "n3"]


@in_virtual_time
async def test_progress_is_told_on_the_way() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await a_long_log(cluster)
        address = await newcomer(cluster, "n4")
        slow_lines_to(cluster, "n4")
        await leader.add_peer("n4", address)
        progress = told(cluster, leader.name, PeerCatchingUp)
        assert len(progress) > 5
        assert {event.peer for event in progress} == {"n4"}
        shares = [event.value for event in progress]
        assert shares == sorted(shares)
        assert 0 <= shares[0] < 0.1
        assert 0.5 < shares[-1] <= 1


@in_virtual_time
async def test_where_the_log_is_compacted_a_snapshot_brings_it_up_to_date() -> None:
    async with a_running_cluster(3, config=COMPACTING) as cluster:
        leader = await cluster.settled()
        await talk(cluster, 50)
        await leader.take_snapshot()
        await talk(cluster, 3, "behind it")
        address = await newcomer(cluster, "n4")
        await leader.add_peer("n4", address)
        await cluster.settled()
        assert told(cluster, "n4", SnapshotInstalled)
        assert cluster["n4"].state_machine.lines == leader.state_machine.lines
        assert voters(cluster["n4"]) == ["n1", "n2", "n3", "n4"]


@in_virtual_time
async def test_a_snapshot_brings_the_members_with_it() -> None:
    """The log that named them is gone: they are in the snapshot, as of its last entry."""
    async with a_running_cluster(3, config=COMPACTING) as cluster:
        leader = await cluster.settled()
        await leader.add_peer("n4", await newcomer(cluster, "n4"))
        gone = next(name for name in cluster.followers() if name != "n4")
        await leader.remove_peer(gone)
        await talk(cluster, 5)
        for server in cluster.up:
            await server.take_snapshot()
        rest = voters(leader)
        await leader.add_peer("n5", await newcomer(cluster, "n5"))
        await cluster.settled()
        assert told(cluster, "n5", SnapshotInstalled)
        assert voters(cluster["n5"]) == sorted([*rest, "n5"])


@in_virtual_time
async def test_g03_g04_members_that_only_a_snapshot_names_are_there_after_a_restart() -> None:
    async with a_running_cluster(3, config=COMPACTING) as cluster:
        leader = await cluster.settled()
        for name in ("n4", "n5"):
            await leader.add_peer(name, await newcomer(cluster, name))
        await leader.remove_peer(next(name for name in cluster.followers() if name < "n4"))
        await talk(cluster, 5)
        await trio.sleep(10 * TIMEOUT)  # for who leaves, the log is kept for a while
        for server in cluster.up:
            await server.take_snapshot()
        present, names = configuration(leader), voters(leader)
        await cluster.until(lambda: not any(cluster.disks[name].frames for name in names))
        await cluster.crash(*names)
        await cluster.start(*names, initial_cluster=None)
        leader = await cluster.settled()
        for name in names:
            assert configuration(cluster[name]) == present
        # A snapshot that is older than the newest members holds those of its own last entry.
        await cluster.crash(*names)
        await cluster.start(*names, initial_cluster=None)
        leader = await cluster.settled()
        await leader.add_learner("n6", await newcomer(cluster, "n6"))
        newest = configuration(leader)
        await cluster.settled()
        await cluster.crash(*names, "n6")
        await cluster.start(*names, "n6", initial_cluster=None)
        await cluster.settled()
        assert {configuration(server) for server in cluster.up} == {newest}


@in_virtual_time
async def test_who_is_cancelled_only_stops_waiting_and_a_second_call_goes_on() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await a_long_log(cluster)
        address = await newcomer(cluster, "n4")
        slow_lines_to(cluster, "n4")
        with trio.move_on_after(1.5) as scope:
            await leader.add_peer("n4", address)
        assert scope.cancelled_caught
        assert learners(leader) == ["n4"]
        reached = cluster["n4"].status().last_index
        assert 0 < reached < LONG
        index = configuration(leader).index
        await leader.add_peer("n4", address)
        assert voters(leader) == ["n1", "n2", "n3", "n4"]
        assert configuration(leader).index > index
        shares = [event.value for event in told(cluster, leader.name, PeerCatchingUp)]
        assert shares == sorted(shares), "it did not begin again"


@in_virtual_time
async def test_one_that_stops_answering_while_it_catches_up_is_taken_out_again() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await a_long_log(cluster)
        address = await newcomer(cluster, "n4")
        slow_lines_to(cluster, "n4")
        outcome: list[object] = []
        nursery.start_soon(adding, leader, "n4", address, outcome)
        await trio.sleep(1.5)
        assert learners(leader) == ["n4"]
        await cluster.crash("n4")
        await cluster.until(lambda: outcome)
        assert isinstance(outcome[0], MembershipError)
        assert "does not answer: it was taken out again" in str(outcome[0])
        assert (voters(leader), learners(leader)) == (["n1", "n2", "n3"], [])
        await cluster.settled()
        # With its disk it may be taken in again.
        cluster.heal()
        await cluster.start("n4", initial_cluster=None)
        await leader.add_peer("n4", address)
        await cluster.settled()


@in_virtual_time
async def test_of_several_only_the_silent_one_is_taken_out_again() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await a_long_log(cluster)
        wanted = dict(cluster.addresses)
        for name in ("n4", "n5"):
            wanted[name] = await newcomer(cluster, name)
            slow_lines_to(cluster, name)
        outcome: list[object] = []

        async def change() -> None:
            try:
                await leader.change_membership(wanted)
            except MembershipError as error:
                outcome.append(str(error))

        nursery.start_soon(change)
        await trio.sleep(1.5)
        assert learners(leader) == ["n4", "n5"]
        await cluster.crash("n5")
        await cluster.until(lambda: outcome)
        assert "n5 at mem://n5 does not answer" in str(outcome[0])
        assert (voters(leader), learners(leader)) == (["n1", "n2", "n3"], ["n4"])


@in_virtual_time
async def test_a_leader_that_is_replaced_meanwhile_says_so_and_the_next_one_goes_on() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await a_long_log(cluster)
        address = await newcomer(cluster, "n4")
        slow_lines_to(cluster, "n4")
        outcome: list[object] = []
        nursery.start_soon(adding, leader, "n4", address, outcome)
        await trio.sleep(1.5)
        await leader.transfer_leadership()
        await cluster.until(lambda: outcome)
        assert isinstance(outcome[0], MembershipError)
        assert "does not lead any more" in str(outcome[0])
        new = await cluster.leader("n1", "n2", "n3")
        assert (voters(new), learners(new)) == (["n1", "n2", "n3"], ["n4"])
        await new.add_peer("n4", address)
        assert voters(new) == ["n1", "n2", "n3", "n4"]


@in_virtual_time
async def test_a_server_that_ends_meanwhile_says_so() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await a_long_log(cluster)
        address = await newcomer(cluster, "n4")
        slow_lines_to(cluster, "n4")
        outcome: list[object] = []
        nursery.start_soon(adding, leader, "n4", address, outcome)
        await trio.sleep(1.5)
        await cluster.crash(leader.name)
        await cluster.until(lambda: outcome, within=5)
        assert isinstance(outcome[0], MembershipError | OutcomeUnknown | trio.Cancelled) or (
            type(outcome[0]).__name__ == "ServerStopped"
        )


@in_virtual_time
async def test_who_is_removed_while_it_catches_up_is_not_voted_in() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await a_long_log(cluster)
        address = await newcomer(cluster, "n4")
        slow_lines_to(cluster, "n4")
        outcome: list[object] = []
        nursery.start_soon(adding, leader, "n4", address, outcome)
        await trio.sleep(1.5)
        await leader.remove_peer("n4")
        await cluster.until(lambda: outcome)
        assert isinstance(outcome[0], MembershipError)
        assert "removed" in str(outcome[0])
        assert (voters(leader), learners(leader)) == (["n1", "n2", "n3"], [])


@in_virtual_time
async def test_one_that_reads_of_its_own_removal_on_its_way_goes_on() -> None:
    """The log says that it was removed, and later that it was taken in again."""
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        await cluster.crash(name)
        await leader.remove_peer(name)
        await talk(cluster, LONG, "x" * 500)
        slow_lines_to(cluster, name)
        await cluster.start(name)
        await leader.add_peer(name, cluster.addresses[name])
        await cluster.settled()
        assert cluster.is_up(name)
        assert voters(leader) == cluster.names
        await stays(cluster, leader, 5)


@in_virtual_time
async def test_one_that_starts_again_in_the_middle_of_that_goes_on_as_well() -> None:
    """Nothing on its disk says that it was taken in: whoever dials it shows it."""
    async with a_running_cluster(4) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        await cluster.crash(name)
        await leader.remove_peer(name)
        await talk(cluster, LONG, "x" * 500)
        slow_lines_to(cluster, name)
        await cluster.start(name)
        outcome: list[object] = []
        nursery.start_soon(adding, leader, name, cluster.addresses[name], outcome)
        for _ in range(5):
            await trio.sleep(0.4)
            await cluster.restart(name)
        await cluster.until(lambda: outcome)
        assert outcome == [configuration(leader).index]
        assert voters(leader) == cluster.names
        await stays(cluster, leader, 5)
        assert cluster.is_up(name)


@in_virtual_time
async def test_one_that_was_away_while_it_was_removed_and_added_anew_goes_on() -> None:
    """Twice in its log it was removed; it never heard of either before it was a member again."""
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        for _ in range(2):
            await cluster.crash(name)
            await leader.remove_peer(name)
            await talk(cluster, 3)
            await cluster.start(name)
            await leader.add_peer(name, cluster.addresses[name])
        await cluster.restart(name)
        await cluster.settled()
        await stays(cluster, leader, 5)
        assert all(cluster.is_up(one) for one in cluster.names)


@in_virtual_time
async def test_m8_a_cluster_of_two_with_a_newcomer_survives_the_loss_of_the_newcomer() -> None:
    async with a_running_cluster(2) as cluster, trio.open_nursery() as nursery:
        leader = await a_long_log(cluster)
        address = await newcomer(cluster, "n3")
        slow_lines_to(cluster, "n3")
        nursery.start_soon(adding, leader, "n3", address, [])
        await trio.sleep(1.5)
        await cluster.crash("n3")
        for number in range(100):
            began = trio.current_time()
            await leader.do(Say(f"{number}"))
            assert trio.current_time() - began < TIMEOUT
            await trio.sleep(0.1)
        with pytest.raises(NotLeaderError):
            await cluster[cluster.followers()[0]].do(Say("not here"))
