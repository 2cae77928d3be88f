"""Members that come, go and move: the verbs of a running cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.server.members import (
    addresses,
    configuration,
    incarnation,
    learners,
    newcomer,
    stays,
    talk,
    told,
    voters,
    wipe,
)
from tests.server.worlds import (
    TIMEOUT,
    Cluster,
    LoudRoom,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
)
from trioraft import MembershipError, NotLeaderError, OutcomeUnknown, Server, ServerStopped
from trioraft._events import PeerAdded, PeerRemoved
from trioraft.testing import MemoryTransport

# -- somebody comes ----------------------------------------------------------------------------


@in_virtual_time
async def test_a_server_is_added_and_catches_up_before_it_votes() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        for number in range(20):
            await leader.do(Say(f"{number}"))
        address = await newcomer(cluster, "n4")
        index = await leader.add_peer("n4", address)
        assert index == configuration(leader).index
        assert voters(leader) == ["n1", "n2", "n3", "n4"]
        await cluster.settled()
        assert cluster["n4"].state_machine.lines == leader.state_machine.lines
        assert voters(cluster["n4"]) == ["n1", "n2", "n3", "n4"]
        assert (leader.member_count, leader.quorum_size) == (4, 3)


@in_virtual_time
async def test_a_call_that_is_repeated_changes_nothing() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        address = await newcomer(cluster, "n4")
        index = await leader.add_peer("n4", address)
        assert await leader.add_peer("n4", address) == index
        assert await leader.add_learner("n4", address) == index, "a voter stays one"
        assert await leader.change_membership(addresses(leader)) == index
        assert configuration(leader).index == index


@in_virtual_time
async def test_a_learner_gets_the_log_and_is_not_counted() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await leader.add_learner("n4", await newcomer(cluster, "n4"))
        await leader.do(Say("to all"))
        await cluster.settled()
        assert cluster["n4"].state_machine.lines == ["to all"]
        for server in cluster.up:
            assert (voters(server), learners(server)) == (["n1", "n2", "n3"], ["n4"])
            assert server.status().learners == ("n4",)
        assert (leader.member_count, leader.quorum_size) == (3, 2)
        # One voter and the learner are no majority, whatever they have.
        await cluster.crash(*[name for name in cluster.followers() if name != "n4"])
        with trio.move_on_after(5) as scope, pytest.raises((OutcomeUnknown, NotLeaderError)):
            await leader.do(Say("by nobody"))
        assert not scope.cancelled_caught
        await trio.sleep(20)
        assert {cluster["n4"].state, leader.state} <= {"follower", "candidate"}
        assert cluster["n4"].state == "follower", "it never campaigns"
        await cluster.start()
        await cluster.settled()


@in_virtual_time
async def test_a_learner_becomes_a_voter() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        address = await newcomer(cluster, "n4")
        await leader.add_learner("n4", address)
        await leader.add_peer("n4", address)
        assert (len(voters(leader)), learners(leader)) == (4, [])


@in_virtual_time
async def test_every_member_hears_who_has_come_and_who_has_gone() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        first = {name: {n for n in cluster.names if n != name} for name in cluster.names}
        for name in cluster.names:
            assert {event.value for event in told(cluster, name, PeerAdded)} == first[name]
        await leader.add_peer("n4", await newcomer(cluster, "n4"))
        await cluster.settled()
        for name in cluster.names:
            assert told(cluster, name, PeerAdded)[-1] == PeerAdded("n4")
        assert {event.value for event in told(cluster, "n4", PeerAdded)} == set(cluster.names)
        gone = cluster.followers()[0]
        await leader.remove_peer(gone)
        await cluster.until(lambda: not cluster.is_up(gone))
        await cluster.settled()
        for server in cluster.up:
            assert told(cluster, server.name, PeerRemoved) == [PeerRemoved(gone)]


@in_virtual_time
async def test_a_server_that_never_answers_is_refused() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        index = configuration(leader).index
        began = trio.current_time()
        with pytest.raises(MembershipError, match=r"n9 at mem://n9: .*nobody answers"):
            await leader.add_peer("n9", "mem://n9")
        assert trio.current_time() < began + 20
        assert configuration(leader).index == index, "it was not even written down"


@in_virtual_time
async def test_an_address_that_cant_be_read_is_refused_at_once() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        began = trio.current_time()
        for verb in (leader.add_peer, leader.add_learner):
            with pytest.raises(MembershipError, match="n9 at nowhere"):
                await verb("n9", "nowhere")
        assert trio.current_time() - began < TIMEOUT


@in_virtual_time
async def test_another_server_at_the_address_is_refused() -> None:
    async with a_running_cluster(3) as cluster, a_cluster(1, seed=1) as other:
        leader = await cluster.settled()
        await newcomer(cluster, "n4")
        with pytest.raises(MembershipError, match="this is n4, not n5"):
            await leader.add_peer("n5", "mem://n4")
        other.network = cluster.network
        other.addresses = {"n1": "mem://other"}
        await other.start(transport=MemoryTransport(other.network, "mem://other"))
        await other.settled()
        with pytest.raises(MembershipError, match=r"mem://other: .*n1"):
            await leader.add_peer("n5", "mem://other")
        assert voters(leader) == ["n1", "n2", "n3"]


@in_virtual_time
async def test_a_server_of_another_cluster_is_refused() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        other = Cluster(nursery, 1, seed=1)
        other.names, other.network, other.addresses = ["x1"], cluster.network, {"x1": "mem://x1"}
        await other.formed()
        with pytest.raises(MembershipError, match="belongs to the cluster"):
            await leader.add_peer("x1", "mem://x1")
        assert voters(other["x1"]) == ["x1"]
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_only_the_leader_takes_the_verbs() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        follower = cluster[cluster.followers()[0]]
        calls: list[Callable[[Server], Awaitable[object]]] = [
            lambda server: server.add_peer("n4", "mem://n4"),
            lambda server: server.add_learner("n4", "mem://n4"),
            lambda server: server.remove_peer("n1"),
            lambda server: server.change_address("n1", "mem://n1"),
            lambda server: server.change_membership({"n1": "mem://n1"}),
            lambda server: server.transfer_leadership(),
        ]
        for call in calls:
            with pytest.raises(NotLeaderError) as caught:
                await call(follower)
            assert caught.value.leader == leader.name
        await cluster.crash(follower.name)
        for call in calls:
            with pytest.raises(ServerStopped):
                await call(follower)


# -- somebody goes -----------------------------------------------------------------------------


@in_virtual_time
async def test_a_removed_server_ends_in_good_order() -> None:
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        await leader.remove_peer(gone)
        await cluster.until(lambda: not cluster.is_up(gone), within=10 * TIMEOUT)
        assert gone not in cluster.failures
        assert gone not in voters(leader)
        status = cluster[gone].status()
        assert (status.state, status.name) == ("stopped", gone)
        assert status.configuration_index == configuration(leader).index
        for server in cluster.up:  # nobody dials it any more
            await cluster.until(lambda server=server: gone not in server.peers, 10 * TIMEOUT)
        await leader.do(Say("on we go"))


@in_virtual_time
async def test_one_that_hears_of_its_removal_and_of_its_commitment_in_one_message_ends() -> None:
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        cluster.slow(leader.name, gone, 0.1)
        await leader.remove_peer(gone)
        await cluster.until(lambda: not cluster.is_up(gone), within=10 * TIMEOUT)
        assert gone not in cluster.failures


@pytest.mark.parametrize("size", [3, 4, 5])
@in_virtual_time
async def test_a_removed_server_that_was_out_of_reach_for_a_moment_ends(size: int) -> None:
    async with a_running_cluster(size) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        cluster.cut(leader.name, gone)
        await leader.remove_peer(gone)
        await trio.sleep(TIMEOUT)
        cluster.heal()
        await cluster.until(lambda: not cluster.is_up(gone), within=10 * TIMEOUT)
        assert gone not in cluster.failures
        await stays(cluster, leader, 5)


@in_virtual_time
async def test_a_learner_is_removed() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await leader.add_learner("n4", await newcomer(cluster, "n4"))
        await cluster.settled()
        await leader.remove_peer("n4")
        assert learners(leader) == []
        await cluster.until(lambda: not cluster.is_up("n4"))


@in_virtual_time
async def test_who_is_no_member_can_not_be_removed() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        with pytest.raises(MembershipError, match="no member has the name n9"):
            await leader.remove_peer("n9")


@in_virtual_time
async def test_the_last_voter_stays() -> None:
    async with a_running_cluster(2) as cluster:
        leader = await cluster.settled()
        await leader.remove_peer(cluster.followers()[0])
        with pytest.raises(MembershipError, match="a cluster needs a voter"):
            await leader.remove_peer(leader.name)
        with pytest.raises(MembershipError, match="a cluster needs a voter"):
            await leader.change_membership({})
        await leader.do(Say("alone"))
        assert voters(leader) == [leader.name]


@in_virtual_time
async def test_g06_a_leader_that_removes_itself_hands_over_and_ends() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        rest = [name for name in cluster.names if name != leader.name]
        began, term = trio.current_time(), leader.term
        await leader.remove_peer(leader.name)
        await cluster.until(lambda: not cluster.is_up(leader.name), within=10 * TIMEOUT)
        new = await cluster.leader(*rest)
        assert trio.current_time() - began < 2 * TIMEOUT, "nobody had to wait for a time-out"
        assert new.term == term + 1
        assert voters(new) == rest
        with pytest.raises(ServerStopped):
            await leader.do(Say("nothing more from this one"))
        await new.do(Say("without it"))


@in_virtual_time
async def test_g06_a_leader_that_removes_itself_and_reaches_nobody_does_not_go_on() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        rest = cluster.followers()

        async def remove() -> None:
            with pytest.raises((OutcomeUnknown, MembershipError)):
                await leader.remove_peer(leader.name)

        cluster.isolate(leader.name)
        nursery.start_soon(remove)
        await trio.sleep(5 * TIMEOUT)
        assert leader.state != "leader"
        cluster.heal()
        await cluster.settled()
        new = await cluster.leader()
        assert voters(new) == cluster.names, "the removal was never committed, and was cut"
        assert sorted([*rest, leader.name]) == cluster.names
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_g05_a_removed_server_that_did_not_hear_of_it_unsettles_nobody() -> None:
    """It was out of reach, starts again, campaigns, and is told to wait."""
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        await cluster.crash(gone)
        await leader.remove_peer(gone)
        assert gone not in voters(leader)
        await cluster.start(gone)
        await stays(cluster, leader, 20)
        assert cluster[gone].state != "leader"
        assert cluster[gone].state_machine.lines == leader.state_machine.lines


@in_virtual_time
async def test_g05_one_that_was_cut_off_while_it_was_removed_unsettles_nobody() -> None:
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        cluster.isolate(gone)
        await leader.remove_peer(gone)
        await trio.sleep(20)
        cluster.network.rejoin(cluster.addresses[gone])
        await stays(cluster, leader, 20)
        assert cluster[gone].term <= leader.term


@in_virtual_time
async def test_a_removed_server_is_added_again_with_its_old_disk() -> None:
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        await cluster.crash(gone)
        await leader.remove_peer(gone)
        await talk(cluster, 5, "without it")
        await trio.sleep(20 * TIMEOUT)  # nobody tries any more to tell it
        await cluster.start(gone)
        await trio.sleep(5)
        before = incarnation(cluster.disks[gone])
        await leader.add_peer(gone, cluster.addresses[gone])
        await cluster.settled()
        assert incarnation(cluster.disks[gone]) == before
        assert voters(cluster[gone]) == cluster.names
        assert cluster[gone].state_machine.lines == leader.state_machine.lines


@in_virtual_time
async def test_one_that_was_not_told_of_its_removal_is_added_again_where_it_is_now() -> None:
    """It knows neither that it was removed nor who leads; and nobody there knows where it is."""
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        await cluster.crash(gone)
        await leader.remove_peer(gone)
        await leader.add_peer("n5", await newcomer(cluster, "n5"))
        await leader.transfer_leadership("n5")
        cluster.addresses[gone] = "mem://elsewhere"
        await cluster.start(gone)
        await trio.sleep(5)
        await cluster["n5"].add_peer(gone, "mem://elsewhere")
        await cluster.settled()
        assert voters(cluster[gone]) == sorted([*cluster.names, "n5"])


@in_virtual_time
async def test_one_that_has_ended_by_its_removal_is_added_again_with_its_old_disk() -> None:
    """It knows that it was removed, so it waits; and it does not end again at once."""
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        await leader.remove_peer(gone)
        await cluster.until(lambda: not cluster.is_up(gone))
        await cluster.start(gone)
        await stays(cluster, leader, 5)
        assert cluster.is_up(gone), "a server that starts as no member waits"
        await leader.add_peer(gone, cluster.addresses[gone])
        await cluster.settled()
        assert voters(cluster[gone]) == cluster.names


@in_virtual_time
async def test_g45_what_would_leave_no_majority_is_refused() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        dead, alive = cluster.followers()
        await cluster.crash(dead)
        await trio.sleep(5 * TIMEOUT)
        index = configuration(leader).index
        with pytest.raises(MembershipError, match=f"{dead}.* do not answer"):
            await leader.remove_peer(alive)
        assert configuration(leader).index == index
        await leader.do(Say("as before"))
        await leader.remove_peer(dead)
        assert voters(leader) == sorted([leader.name, alive])


# -- all at once -------------------------------------------------------------------------------


@in_virtual_time
async def test_everybody_is_replaced_at_once() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await leader.do(Say("old"))
        new = {name: await newcomer(cluster, name) for name in ("n4", "n5", "n6")}
        await leader.change_membership(new)
        await cluster.until(lambda: not any(cluster.is_up(name) for name in ("n1", "n2", "n3")))
        assert not cluster.failures
        successor = await cluster.leader(*new)
        assert voters(successor) == ["n4", "n5", "n6"]
        assert successor.state_machine.lines == ["old"]
        await successor.do(Say("new"))


@in_virtual_time
async def test_some_come_and_some_go_at_once_and_learners_stay() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        await leader.add_learner("n9", await newcomer(cluster, "n9"))
        wanted = {name: at for name, at in addresses(leader).items() if name not in (gone, "n9")}
        wanted |= {name: await newcomer(cluster, name) for name in ("n4", "n5")}
        index = await leader.change_membership(wanted)
        assert voters(leader) == sorted(wanted)
        assert learners(leader) == ["n9"]
        assert configuration(leader).index == index


@in_virtual_time
async def test_of_all_at_once_one_that_is_not_there_leaves_everything_as_it_was() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        wanted = {**addresses(leader), "n4": await newcomer(cluster, "n4"), "n5": "mem://n5"}
        index = configuration(leader).index
        with pytest.raises(MembershipError, match="n5 at mem://n5"):
            await leader.change_membership(wanted)
        assert configuration(leader).index == index


# -- compare and set ---------------------------------------------------------------------------


@in_virtual_time
async def test_a_change_of_another_configuration_than_expected_is_refused() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        address = await newcomer(cluster, "n4")
        seen = configuration(leader).index
        learned = await leader.add_learner("n4", address, expected=seen)
        assert learned > seen
        calls: list[Callable[[int], Awaitable[int]]] = [
            lambda expected: leader.add_peer("n4", address, expected=expected),
            lambda expected: leader.add_learner("n4", address, expected=expected),
            lambda expected: leader.remove_peer("n4", expected=expected),
            lambda expected: leader.change_address("n4", address, expected=expected),
            lambda expected: leader.change_membership(cluster.addresses, expected=expected),
        ]
        for call in calls:
            with pytest.raises(MembershipError, match=f"entry {learned}, not of {seen}"):
                await call(seen)
        assert configuration(leader).index == learned
        added = await leader.add_peer("n4", address, expected=learned)
        assert voters(leader) == ["n1", "n2", "n3", "n4"]
        assert await leader.remove_peer("n4", expected=added) > added
        assert voters(leader) == ["n1", "n2", "n3"]


@in_virtual_time
async def test_of_two_who_expect_the_same_one_wins() -> None:
    async with a_running_cluster(5) as cluster:
        leader = await cluster.settled()
        seen, outcomes = configuration(leader).index, []
        one, two = cluster.followers()[:2]

        async def remove(name: str) -> None:
            try:
                await leader.remove_peer(name, expected=seen)
                outcomes.append("done")
            except MembershipError:
                outcomes.append("refused")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(remove, one)
            nursery.start_soon(remove, two)
        assert sorted(outcomes) == ["done", "refused"]
        assert len(voters(leader)) == 4


# -- one at a time -----------------------------------------------------------------------------


@in_virtual_time
async def test_g13_a_second_change_is_refused_while_the_first_is_under_way() -> None:
    async with a_running_cluster(5) as cluster:
        leader = await cluster.settled()
        first, second = cluster.followers()[:2]
        for name in cluster.followers():
            cluster.disks[name].seconds = 0.5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.remove_peer, first)
            await trio.sleep(TIMEOUT / 3)
            for _ in range(2):  # at C_old,new, and at C_new
                with pytest.raises(MembershipError, match="another change is under way"):
                    await leader.remove_peer(second)
                await trio.sleep(0.6)
        for name in cluster.followers():
            cluster.disks[name].seconds = 0.0005
        await leader.remove_peer(second)
        assert len(voters(leader)) == 3


@in_virtual_time
async def test_g13_none_before_an_entry_of_the_leaders_own_term_is_committed() -> None:
    """It may not know of an earlier change that is committed: the call waits."""
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        old = await cluster.settled()
        rest = cluster.followers()
        await cluster.crash(old.name)
        for name in rest:
            cluster.disks[name].seconds = 0.05
        leads = lambda: next((s for s in cluster.up if s.state == "leader"), None)  # noqa: E731
        new: Server = await cluster.until(leads)
        first = new.status().last_index
        assert new.commit_index < first
        done = trio.Event()

        async def remove() -> None:
            await new.remove_peer(old.name)
            done.set()

        nursery.start_soon(remove)
        while new.commit_index < first:
            assert configuration(new).index == 0, "changed too soon"
            await trio.sleep(0.01)
        await done.wait()
        assert voters(new) == rest


# -- what is told of a change ------------------------------------------------------------------


@in_virtual_time
async def test_a_change_that_no_majority_has_is_not_told_as_done() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        address = await newcomer(cluster, "n4")
        for name in cluster.followers():
            if name != "n4":
                cluster.cut(leader.name, name)
        with pytest.raises(OutcomeUnknown, match=r"leadership was lost .* entry 2") as caught:
            await leader.add_learner("n4", address)
        assert caught.value.handle
        cluster.heal()
        new = await cluster.leader("n1", "n2", "n3")
        await new.do(Say("after"))
        assert learners(new) in ([], ["n4"]), "one or the other, and it was not told which"


@in_virtual_time
async def test_a_change_that_was_cut_is_not_told_as_done() -> None:
    """Another leader's change stands in its place by the time its caller looks again."""
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        rest = cluster.followers()
        mine, theirs = await newcomer(cluster, "n4"), await newcomer(cluster, "n5")
        outcome: list[object] = []

        async def looks_rarely() -> None:
            await trio.sleep(20)

        async def add() -> None:
            try:
                outcome.append(await leader.add_learner("n4", mine))
            except OutcomeUnknown as error:
                outcome.append(error)

        leader._pause = looks_rarely  # type: ignore[method-assign]
        for name in rest:
            cluster.cut(leader.name, name)
        nursery.start_soon(add)
        await cluster.until(lambda: learners(leader) == ["n4"])
        appended = configuration(leader).index
        new = await cluster.leader(*rest)
        await new.add_learner("n5", theirs)
        cluster.heal()
        await cluster.until(lambda: configuration(leader) == configuration(new))
        assert appended <= configuration(leader).index <= leader.commit_index
        await cluster.until(lambda: outcome)
        assert isinstance(outcome[0], OutcomeUnknown), outcome
        assert learners(leader) == ["n5"]


# -- addresses ---------------------------------------------------------------------------------


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
        others = {name: address for name, address in moved.items() if name != leader.name}
        assert {name: addresses(leader)[name] for name in others} == others
        # From now on nobody has to be told.
        await leader.transfer_leadership()
        await trio.sleep(5)
        await cluster.restart(*cluster.names, initial_cluster=None)
        leader = await cluster.settled()
        assert addresses(leader) == moved


@in_virtual_time
async def test_g78_the_address_of_a_member_is_changed() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        await cluster.crash(name)
        cluster.addresses[name] = "mem://moved"
        await cluster.start(name)
        index = await leader.change_address(name, "mem://moved")
        assert configuration(leader).index == index
        assert addresses(leader)[name] == "mem://moved"
        await cluster.settled()
        assert all(addresses(server)[name] == "mem://moved" for server in cluster.up)
        assert leader.peers[name].connected
        assert leader.peers[name].address == "mem://moved"


@in_virtual_time
async def test_an_address_counts_only_once_its_member_was_reached_there() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        one, two = cluster.followers()
        before = addresses(leader)
        with pytest.raises(MembershipError, match=f"{one} at mem://nowhere"):
            await leader.change_address(one, "mem://nowhere")
        with pytest.raises(MembershipError, match=f"this is {two}, not {one}"):
            await leader.change_address(one, before[two])
        with pytest.raises(MembershipError, match="no member has the name n9"):
            await leader.change_address("n9", "mem://n9")
        # A wiped disk under that name is not that member.
        await cluster.crash(one)
        wipe(cluster, one)
        cluster.addresses[one] = "mem://wiped"
        await cluster.start(one)
        with pytest.raises(MembershipError, match=f"another {one} answers at mem://wiped"):
            await leader.change_address(one, "mem://wiped")
        assert addresses(leader) == before


@in_virtual_time
async def test_an_address_that_a_member_only_claims_is_not_written_down() -> None:
    """It says that it listens there, and is reached somewhere else."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        before = configuration(leader)
        await cluster.restart(name, peers={name: "mem://claimed"})
        leader = await cluster.settled()
        await trio.sleep(10)
        assert leader.peers[name].connected
        assert configuration(leader) == before


@in_virtual_time
async def test_what_a_member_has_learned_to_understand_is_written_down() -> None:
    """So a member that is down holds up no command that it knows."""
    async with a_running_cluster(3) as cluster:
        await cluster.settled()
        for name in cluster.names:
            await cluster.restart(name, state_machine=LoudRoom())
            await cluster.settled()
        await trio.sleep(10)
        leader = await cluster.settled()
        assert {"shout" in member.commands for member in configuration(leader).members} == {True}


@in_virtual_time
async def test_a_leader_changes_its_own_address() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await leader.change_address(leader.name, "mem://mine")
        await cluster.settled()
        assert all(addresses(server)[leader.name] == "mem://mine" for server in cluster.up)
        assert leader.state == "leader"


# -- what a start finds ------------------------------------------------------------------------


@in_virtual_time
async def test_g03_g04_members_that_only_the_log_names_are_there_after_a_restart() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        for name in ("n4", "n5"):
            await leader.add_peer(name, await newcomer(cluster, name))
        await leader.remove_peer(gone)
        await cluster.until(lambda: not cluster.is_up(gone))
        await cluster.settled()
        present = configuration(leader)
        names = voters(leader)
        await cluster.crash(*names)
        await cluster.start(*names, initial_cluster=None)
        await cluster.settled()
        for name in names:
            assert configuration(cluster[name]) == present
        await cluster.say("still the same")
