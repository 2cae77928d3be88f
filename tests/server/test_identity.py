"""A server is what its disk says: wiped, copied and old disks do not pass for the one they were."""

from __future__ import annotations

from random import Random

import pytest
import trio

from tests.server.members import (
    configuration,
    copied,
    incarnation,
    learners,
    newcomer,
    stays,
    talk,
    voters,
    wipe,
)
from tests.server.puppets import state_on
from tests.server.worlds import (
    TIMEOUT,
    Cluster,
    Disk,
    Say,
    a_running_cluster,
    in_virtual_time,
    run_seeded,
)
from trioraft import Expelled, MembershipError
from trioraft._rules.messages import AppendEntriesReply, RequestVoteReply
from trioraft._wire.codec import Refusal
from trioraft.testing import MemoryTransport

# -- a wiped disk ------------------------------------------------------------------------------


@pytest.mark.unmeasured
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("knows_the_cluster", [True, False])
@in_virtual_time
async def test_a_wiped_disk_helps_nobody_to_win_an_election(
    size: int, knows_the_cluster: bool
) -> None:
    """Half of the others are gone: with its vote, and only so, there would be a leader."""
    async with a_running_cluster(size) as cluster:
        leader = await cluster.settled()
        await cluster.say("before")
        *gone, wiped = cluster.followers()[: size // 2]
        heard = cluster.overhear()
        await cluster.crash(wiped)
        wipe(cluster, wiped)
        changes = {} if knows_the_cluster else {"initial_cluster": None}
        await cluster.start(wiped, **changes)
        await trio.sleep(5)
        await cluster.crash(leader.name, *gone)
        await trio.sleep(60)
        assert not any(server.state == "leader" for server in cluster.up)
        assert cluster[wiped].status().cluster is None
        assert cluster[wiped].term == 0
        kinds = RequestVoteReply | AppendEntriesReply
        assert not [m for at, who, _, m in heard if who == wiped and isinstance(m, kinds)]
        # Nor is it one after the others have come back, before it is taken in.
        await cluster.start(leader.name, *gone)
        new = await cluster.leader(*[name for name in cluster.names if name != wiped])
        assert new.state_machine.lines == ["before"]
        assert cluster[wiped].status().cluster is None
        await new.add_peer(wiped, cluster.addresses[wiped])
        await cluster.settled()
        assert cluster[wiped].state_machine.lines == ["before"]


@in_virtual_time
async def test_a_wiped_server_is_taken_in_anew_under_its_old_name() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await leader.do(Say("before"))
        wiped = cluster.followers()[0]
        old = incarnation(cluster.disks[wiped])
        await cluster.crash(wiped)
        wipe(cluster, wiped)
        await cluster.start(wiped)
        await trio.sleep(2)
        assert cluster[wiped].status().cluster is None
        await leader.add_peer(wiped, cluster.addresses[wiped])
        await cluster.settled()
        assert cluster[wiped].state_machine.lines == ["before"]
        assert voters(leader) == ["n1", "n2", "n3"]
        assert leader.quorum_size == 2
        named = {member.id.incarnation for member in configuration(leader).voters}
        assert incarnation(cluster.disks[wiped]) in named
        assert old not in named
        # Its vote counts again, and only once.
        other = next(name for name in cluster.followers() if name != wiped)
        await cluster.crash(other)
        await cluster.say("the two of us")
        await cluster.start(other)


@in_virtual_time
async def test_all_but_one_are_wiped_one_after_the_other_and_nothing_is_lost() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.say("first")
        for number in range(9):
            leader = await cluster.settled()
            wiped = cluster.followers()[number % 2]
            await cluster.crash(wiped)
            wipe(cluster, wiped)
            await cluster.start(wiped)
            await leader.add_peer(wiped, cluster.addresses[wiped])
            await cluster.say(f"after {number}")
            if number % 3 == 0:
                await leader.transfer_leadership()
        leader = await cluster.settled()
        assert voters(leader) == cluster.names


@in_virtual_time
async def test_who_answers_is_not_replaced_by_another_one_of_its_name() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        cluster.addresses["twin"] = "mem://twin"
        twin = cluster.make(
            name,
            transport=MemoryTransport(cluster.network, "mem://twin"),
            storage=Disk(),
            initial_cluster=None,
        )
        await cluster.run(twin, "twin")
        with pytest.raises(MembershipError, match=f"another {name} is a member and answers"):
            await leader.add_peer(name, "mem://twin")
        assert (voters(leader), learners(leader)) == (cluster.names, [])
        await cluster.crash("twin")


# -- copies, and old states --------------------------------------------------------------------


async def is_expelled(cluster: Cluster, name: str, match: str) -> None:
    """It ends with that error, which is on its disk, and ends at once with it ever after."""
    error = await cluster.ended(name)
    assert isinstance(error, Expelled), error
    assert match in str(error)
    assert state_on(cluster.disks[name]).expelled == str(error)
    heard = cluster.overhear()
    for _ in range(2):
        began = trio.current_time()
        await cluster.start(name)
        again = await cluster.ended(name)
        assert isinstance(again, Expelled), again
        assert str(again) == str(error)
        assert trio.current_time() - began < 0.01
    assert not [who for _, who, _, _ in heard if who == name], "it says nothing any more"


async def is_taken_in_anew(cluster: Cluster, name: str) -> None:
    """With an empty directory an expelled server may come back."""
    wipe(cluster, name)
    await cluster.start(name, initial_cluster=None)
    leader = await cluster.leader(*[n for n in cluster.names if n != name])
    await leader.add_peer(name, cluster.addresses[name])
    await cluster.settled()
    assert voters(leader) == cluster.names


@in_virtual_time
async def test_a_copy_is_refused_while_the_original_answers() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        copy = copied(cluster.disks[name])
        cluster.addresses["copy"] = "mem://copy"
        cluster.disks["copy"] = copy
        beside = cluster.make(
            name, transport=MemoryTransport(cluster.network, "mem://copy"), storage=copy
        )
        heard = cluster.overhear()
        await cluster.run(beside, "copy")
        await stays(cluster, leader, 10)
        refusals = [m for _, _, to, m in heard if to == "copy" and isinstance(m, Refusal)]
        assert refusals
        assert all("another process runs on a copy of the disk" in m.reason for m in refusals)
        expelled_by = {m.expelled_by for m in refusals}
        assert expelled_by == {None}, "which of the two is the copy is not known"
        assert cluster.is_up(name)
        assert leader.peers[name].connected
        await cluster.crash("copy")
        del cluster.disks["copy"]
        await cluster.settled()


@in_virtual_time
async def test_of_a_disk_and_its_copy_the_one_that_is_left_behind_is_expelled() -> None:
    """The copy took the original's place while that was away: both would count starts alike."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        await cluster.crash(name)
        original = cluster.disks[name]
        cluster.disks[name] = copied(original)
        await cluster.start(name)
        await cluster.settled()
        await cluster.crash(name)
        cluster.disks[name] = original
        await cluster.start(name)
        await is_expelled(cluster, name, "a copy of the disk")
        await leader.do(Say("the others go on"))
        await is_taken_in_anew(cluster, name)


@in_virtual_time
async def test_a_start_counter_below_the_highest_seen_is_an_old_state() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.settled()
        name = cluster.followers()[0]
        backup = copied(cluster.disks[name])
        for _ in range(3):
            await cluster.restart(name)
            await cluster.settled()
        await cluster.crash(name)
        cluster.disks[name] = backup
        await cluster.start(name)
        await is_expelled(cluster, name, "old state of itself")
        await is_taken_in_anew(cluster, name)


@in_virtual_time
async def test_a_disk_that_has_lost_what_it_acknowledged_is_found_out() -> None:
    """Its counter of starts looks fine; the leader knows better what it has said."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        backup = copied(cluster.disks[name])
        await talk(cluster, 5, "acknowledged")
        await cluster.settled()
        await cluster.crash(name)
        cluster.disks[name] = backup
        await cluster.start(name)
        await is_expelled(cluster, name, f"{leader.name} ")
        assert leader.state == "leader"
        await leader.do(Say("the others go on"))
        await is_taken_in_anew(cluster, name)


@in_virtual_time
async def test_who_is_expelled_counts_for_no_majority() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        old, other = cluster.followers()
        backup = copied(cluster.disks[old])
        await talk(cluster, 5, "acknowledged")
        await cluster.settled()
        await cluster.crash(old)
        cluster.disks[old] = backup
        await cluster.start(old)
        assert isinstance(await cluster.ended(old), Expelled)
        await cluster.crash(other)
        with pytest.raises(MembershipError, match=r"no majority|do not answer"):
            await leader.remove_peer(other)
        await cluster.until(lambda: leader.state != "leader", within=10 * TIMEOUT)
        await cluster.start(other)
        await cluster.settled()
        new = await cluster.leader(leader.name, other)
        await new.remove_peer(old)
        assert voters(new) == sorted([leader.name, other])


@in_virtual_time
async def test_an_expelled_member_is_removed_and_its_name_is_free() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        old = cluster.followers()[0]
        backup = copied(cluster.disks[old])
        await talk(cluster, 5, "acknowledged")
        await cluster.settled()
        await cluster.crash(old)
        cluster.disks[old] = backup
        await cluster.start(old)
        assert isinstance(await cluster.ended(old), Expelled)
        await leader.remove_peer(old)
        wipe(cluster, old)
        await leader.add_peer(old, await newcomer(cluster, old))
        await cluster.settled()


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(8))
def test_an_honest_restart_is_never_expelled(seed: int) -> None:
    """Many of them, at any moment, while messages come late and out of order."""
    chance = Random(f"honest {seed}")

    async def main() -> None:
        async with a_running_cluster(3, seed=seed) as cluster, trio.open_nursery() as nursery:
            await cluster.settled()
            stop = trio.Event()
            for source in cluster.addresses.values():
                for destination in cluster.addresses.values():
                    cluster.network.disorder(
                        source, destination, lambda: [chance.expovariate(1 / 0.01)]
                    )
            nursery.start_soon(cluster.chatter, "chatter", stop)
            for _ in range(25):
                name = chance.choice(cluster.names)
                await trio.sleep(chance.uniform(0, 0.6))
                await cluster.crash(name)
                await trio.sleep(chance.choice((0, 0.001, 0.05, 0.5)))
                await cluster.start(name)
                assert not cluster.failures, cluster.failures
            stop.set()
            cluster.heal()
            await cluster.settled()

    run_seeded(seed, main)


@in_virtual_time
async def test_a_restart_in_the_middle_of_a_write_is_honest() -> None:
    """What was never acknowledged may be gone."""
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        stop = trio.Event()
        nursery.start_soon(cluster.chatter, "chatter", stop)
        name = cluster.followers()[0]
        for number in range(30):
            cluster.disks[name].seconds = (number % 5 + 1) * 0.003
            await trio.sleep(0.1 + number * 0.0011)
            await cluster.restart(name)
        stop.set()
        await cluster.settled()
        assert leader.state == "leader"


@in_virtual_time
async def test_who_forms_anew_under_a_known_name_is_no_member() -> None:
    """All others' disks are fine; one is started as if the cluster were yet to form."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        await cluster.crash(name)
        kept = cluster.disks[name]
        cluster.disks[name] = Disk()
        stray = cluster.make(name, initial_cluster={name: cluster.addresses[name]})
        stray._hub._subscriptions.clear()  # what it does is not this cluster's business
        await cluster.run(stray)
        await trio.sleep(2)
        assert stray.state == "leader", "of a cluster of its own"
        assert cluster[name].status().cluster != leader.status().cluster
        with pytest.raises(MembershipError, match="belongs to the cluster"):
            await leader.add_peer(name, cluster.addresses[name])
        await stays(cluster, leader, 5)
        await cluster.crash(name)
        cluster.disks[name] = kept
        await cluster.start(name)
        await cluster.settled()
