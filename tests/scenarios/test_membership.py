"""Members that come and go, and leaders that are asked to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import pytest
import trio

from tests.server.members import (
    COMPACTING,
    addresses,
    configuration,
    incarnation,
    learners,
    newcomer,
    stays,
    talk,
    voters,
)
from tests.server.puppets import Puppet
from tests.server.worlds import (
    TIMEOUT,
    Cluster,
    Lines,
    Say,
    a_running_cluster,
    in_virtual_time,
    run_seeded,
)
from trioraft import (
    Linearizable,
    MembershipError,
    NotLeaderError,
    OutcomeUnknown,
    Server,
    ServerStopped,
    TransferFailed,
)
from trioraft._rules.messages import (
    AppendEntries,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from trioraft._rules.node import Leading
from trioraft.testing import MemoryTransport

from .worlds import lose, nobody_voted_twice, running_machines, said_by


async def removing(leader: Server, name: str, outcome: list[Any]) -> None:
    try:
        outcome.append(await leader.remove_peer(name))
    except (MembershipError, OutcomeUnknown, NotLeaderError, ServerStopped) as error:
        outcome.append(error)


def without_answers(cluster: Cluster, leader: Server) -> None:
    """What this leader appends from now on reaches nobody's disk; heartbeats go on."""
    lose(
        cluster,
        lambda sender, _, message: (
            sender == leader.name
            and isinstance(message, AppendEntries)
            and message.entries.last >= message.entries.first
        ),
    )


# -- removed, and not aware of it --------------------------------------------------------------


@in_virtual_time
async def test_e12_m7_a_removed_server_that_campaigns_with_ever_higher_terms_unsettles_nobody() -> (
    None
):
    """It is moved by hand, and asks every half election time-out: logcabin/logcabin#56."""
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        await cluster.crash(gone)
        await leader.remove_peer(gone)
        puppet = Puppet(cluster, gone)
        term = leader.term
        for number in range(100):
            for name in [one for one in cluster.names if one != gone]:
                with trio.move_on_after(0.05):
                    try:
                        async with puppet.dial(name) as line:
                            for kind in (PreVote, RequestVote):
                                await line.send(kind(term + number + 1, 1000, term + number))
                    except (AssertionError, trio.EndOfChannel, trio.BrokenResourceError):
                        continue  # it is not even heard
            await trio.sleep(TIMEOUT / 2)
            assert (leader.state, leader.term) == ("leader", term)
        await leader.do(Say("as if nothing were"))


class Watching(MemoryTransport):
    """Notes whom it dials, and when."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(cluster.network, cluster.addresses[name])
        self.names = {address: name for name, address in cluster.addresses.items()}
        self.dialled: list[tuple[float, str]] = []

    def connect(self, address: str) -> Any:
        self.dialled.append((trio.current_time(), self.names.get(address, address)))
        return super().connect(address)


async def one_of_the_first_is_gone(cluster: Cluster) -> tuple[str, list[str]]:
    """Two have come, and then one of the first three was removed: who that was, and who is left."""
    leader = await cluster.settled()
    for name in ("n4", "n5"):
        await leader.add_peer(name, await newcomer(cluster, name))
    gone = next(name for name in cluster.names if name != leader.name)
    await leader.remove_peer(gone)
    await cluster.until(lambda: not cluster.is_up(gone))
    await talk(cluster, 5)
    await trio.sleep(20 * TIMEOUT)
    return gone, voters(leader)


async def start_watched(cluster: Cluster, names: Sequence[str]) -> list[Watching]:
    """Start them on what their disks hold."""
    await cluster.crash(*[name for name in names if cluster.is_up(name)])
    watched = {name: Watching(cluster, name) for name in names}
    for name in names:
        await cluster.start(name, initial_cluster=None, transport=watched[name])
    return list(watched.values())


@in_virtual_time
async def test_m11_nobody_dials_a_member_that_was_removed_though_the_log_once_named_it() -> None:
    """But a new leader for a moment: it can't know that the other one knows."""
    async with a_running_cluster(3) as cluster:
        gone, rest = await one_of_the_first_is_gone(cluster)
        watched = await start_watched(cluster, rest)
        leader = await cluster.settled()
        settled = trio.current_time()
        await trio.sleep(40 * TIMEOUT)
        for transport in watched:
            given = settled + 20 * TIMEOUT if transport is leader.transport else 0.0
            assert not [to for at, to in transport.dialled if to == gone and at > given]
        assert voters(leader) == rest


@in_virtual_time
async def test_m11_nobody_dials_a_member_that_was_removed_before_the_snapshot() -> None:
    async with a_running_cluster(3, config=COMPACTING) as cluster:
        gone, rest = await one_of_the_first_is_gone(cluster)
        for name in rest:
            await cluster[name].take_snapshot()
        await cluster.until(lambda: not any(cluster.disks[name].frames for name in rest))
        watched = await start_watched(cluster, rest)
        leader = await cluster.settled()
        await trio.sleep(5)
        assert voters(leader) == rest
        assert not [to for transport in watched for _, to in transport.dialled if to == gone]


@in_virtual_time
async def test_m16_a_hint_at_a_leader_that_has_left_is_withdrawn() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        other = cluster[cluster.followers()[0]]
        with pytest.raises(NotLeaderError) as caught:
            await other.do(Say("not here"))
        assert (caught.value.leader, caught.value.address) == (
            leader.name,
            cluster.addresses[leader.name],
        )
        await leader.remove_peer(leader.name)
        await cluster.until(lambda: not cluster.is_up(leader.name))
        for server in cluster.up:
            assert server.leader != leader.name
            if server.state != "leader":
                with pytest.raises(NotLeaderError) as caught:
                    await server.do(Say("not here"))
                assert caught.value.leader != leader.name
                assert caught.value.address != cluster.addresses[leader.name]


# -- one change after the other ----------------------------------------------------------------


@in_virtual_time
async def test_m2_a_change_that_a_new_leader_has_inherited_comes_before_any_other() -> None:
    async with a_running_cluster(5) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        first, second = cluster.followers()[:2]
        heard = lose(
            cluster,
            # The entry reaches all, and the leader never hears that it did.
            lambda _, receiver, message: (
                receiver == leader.name and type(message).__name__ == "AppendEntriesReply"
            ),
        )
        outcome: list[Any] = []
        nursery.start_soon(removing, leader, first, outcome)
        await trio.sleep(TIMEOUT / 3)
        others = [cluster[name] for name in cluster.followers()]
        assert all(configuration(server).outgoing for server in others)
        with pytest.raises(MembershipError, match="another change is under way"):
            await leader.remove_peer(second)
        await cluster.crash(leader.name)
        cluster.heal()
        new: Server = await cluster.until(
            lambda: next((server for server in others if server.state == "leader"), None)
        )
        rest = [name for name in cluster.names if name not in (first, leader.name)]
        await cluster.until(lambda: not configuration(new).outgoing)
        await cluster.until(lambda: configuration(new).index <= new.commit_index)
        assert first not in voters(new), "it was finished by the one that inherited it"
        assert second in voters(new)
        assert heard
        assert [name for name in rest if cluster.is_up(name)] == rest
        await cluster.start(leader.name)
        await cluster.settled()
        await cluster.until(lambda: outcome)
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_m3_two_that_were_removed_unknown_to_them_never_have_a_leader_of_their_own() -> None:
    """All others are cut off meanwhile, the term of the one is that of the other: no two lead.

    `Cluster.leads` sees to that all the time.
    """
    async with a_running_cluster(5) as cluster:
        leader = await cluster.settled()
        one, two, *rest = cluster.followers()
        for name in (one, two):
            cluster.split([name], [other for other in cluster.names if other != name])
        await leader.remove_peer(one)
        await leader.remove_peer(two)
        assert voters(leader) == sorted([leader.name, *rest])
        # Now the three that know are cut off one from the other, and the two see each other.
        cluster.heal()
        cluster.split([one, two], [leader.name], *[[name] for name in rest])
        await trio.sleep(10)
        assert cluster[one].state != "leader"
        assert cluster[two].state != "leader"
        # With one of the three they may find who is to lead, but not by their own votes.
        cluster.heal()
        cluster.split([one, two, rest[0]], [leader.name, rest[1]])
        await trio.sleep(10)
        assert cluster[one].state != "leader"
        assert cluster[two].state != "leader"
        cluster.heal()
        new = await cluster.leader(leader.name, *rest)
        await new.do(Say("by those who are members"))


@in_virtual_time
async def test_m4_what_was_never_committed_is_cut_and_what_was_before_it_counts_again() -> None:
    async with a_running_cluster(5) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        others = cluster.followers()
        near = others[0]
        cluster.split([leader.name, near], others[1:])
        outcome: list[Any] = []
        nursery.start_soon(removing, leader, others[1], outcome)
        await trio.sleep(TIMEOUT / 3)
        assert configuration(leader).outgoing
        assert configuration(cluster[near]).outgoing, "in force though nobody has committed it"
        new = await cluster.leader(*others[1:])
        await new.do(Say("another entry in its place"))
        cluster.heal()
        await cluster.settled()
        for server in cluster.up:
            assert voters(server) == cluster.names
            assert configuration(server).index == 0
        assert isinstance(outcome[0], OutcomeUnknown)
        await cluster.crash(*cluster.names)
        await cluster.start(initial_cluster=None)
        leader = await cluster.settled()
        assert voters(leader) == cluster.names
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_m5_a_leader_that_removes_itself_commits_that_without_its_own_vote() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        one, two = cluster.followers()
        for name in (one, two):
            cluster.disks[name].seconds = 0.05
        outcome: list[Any] = []
        nursery.start_soon(removing, leader, leader.name, outcome)
        await cluster.until(lambda: configuration(leader).outgoing)
        await cluster.until(lambda: not configuration(leader).outgoing)
        index = configuration(leader).index
        # Its own disk and one more are no majority of the two that stay.
        await cluster.crash(two)
        await trio.sleep(TIMEOUT / 3)
        assert leader.state == "leader"
        assert leader.commit_index < index
        await cluster.start(two)
        await cluster.until(lambda: outcome)
        new = await cluster.leader(one, two)
        assert voters(new) == [one, two]
        await cluster.until(lambda: not cluster.is_up(leader.name))


@pytest.mark.unmeasured
@in_virtual_time
async def test_m14_one_that_is_added_and_removed_fifty_times_under_load() -> None:
    """The last configuration asked for is in force: RedisLabs/redisraft 95c7f92."""
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        stop = trio.Event()
        nursery.start_soon(cluster.chatter, "chatter", stop, 0.05)
        leader = await cluster.leader()
        for _ in range(50):
            address = await newcomer(cluster, "n4")
            await leader.add_peer("n4", address)
            assert voters(leader) == ["n1", "n2", "n3", "n4"]
            await leader.remove_peer("n4")
            assert voters(leader) == ["n1", "n2", "n3"]
            await cluster.until(lambda: not cluster.is_up("n4"))
        stop.set()
        await cluster.settled()
        for server in cluster.up:
            assert (voters(server), learners(server)) == (["n1", "n2", "n3"], [])


@in_virtual_time
async def test_m15_a_cluster_that_shrinks_to_one_keeps_all_that_it_was_told() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await cluster.say("by three")
        for name in cluster.followers():
            await leader.remove_peer(name)
            await cluster.until(lambda name=name: not cluster.is_up(name))
        await cluster.say("by one")
        for _ in range(3):
            await cluster.restart(leader.name, initial_cluster=None)
            leader = await cluster.leader(leader.name)
            assert voters(leader) == [leader.name]
            assert leader.state_machine.lines[:2] == ["by three", "by one"]
            await cluster.say(f"in term {leader.term}")


# -- a start in the middle ---------------------------------------------------------------------


@pytest.mark.parametrize("committed", [False, True])
@in_virtual_time
async def test_m13_who_starts_in_the_middle_of_a_change_needs_both_majorities(
    committed: bool,
) -> None:
    """Of one and of three: neither the old one alone, nor the new ones without it, can lead."""
    async with a_running_cluster(1) as cluster, trio.open_nursery() as nursery:
        old = await cluster.settled()
        wanted = {**cluster.addresses}
        for name in ("n2", "n3"):
            wanted[name] = await newcomer(cluster, name)
            await old.add_learner(name, wanted[name])
        await cluster.settled()
        for name in ("n2", "n3"):
            cluster.disks[name].seconds = 0.5 if committed else 1000.0

        async def change() -> None:
            with pytest.raises((OutcomeUnknown, ServerStopped)):
                await old.change_membership(wanted)

        nursery.start_soon(change)
        await cluster.until(lambda: configuration(old).outgoing)
        await trio.sleep(0.002)  # it is on the only old one's disk
        await cluster.crash("n1", "n2", "n3")
        for name in ("n2", "n3"):
            cluster.disks[name].seconds = 0.0005
        await cluster.start("n1", initial_cluster=None)
        await trio.sleep(10)
        assert configuration(cluster["n1"]).outgoing
        assert cluster["n1"].state != "leader", "it is a majority of the old half only"
        await cluster.crash("n1")
        await cluster.start("n2", "n3", initial_cluster=None)
        await trio.sleep(10)
        assert not any(server.state == "leader" for server in cluster.up)
        await cluster.start("n1", initial_cluster=None)
        leader = await cluster.settled()
        await cluster.until(lambda: voters(leader) == ["n1", "n2", "n3"])
        nursery.cancel_scope.cancel()


# -- learners ----------------------------------------------------------------------------------


@in_virtual_time
async def test_m6_e15_c6_l4_learners_are_heard_by_nobody_who_counts() -> None:
    """However many there are, and whatever they answer."""
    async with a_running_cluster(1) as cluster:
        leader = await cluster.settled()
        for name in ("n2", "n3", "n4"):
            await leader.add_learner(name, await newcomer(cluster, name))
        await cluster.settled()
        # The only voter needs nobody (E15) ...
        await cluster.crash("n2", "n3", "n4")
        await leader.do(Say("alone"))
        await cluster.restart("n1", initial_cluster=None)
        leader = await cluster.leader("n1")
        assert (await leader.read(Lines(), Linearizable())).value == ["alone"]
        await cluster.start("n2", "n3", "n4", initial_cluster=None)
        await cluster.settled()
        # ... and without it nobody leads (C6), nobody campaigns, and nobody is asked (M6).
        heard = cluster.overhear()
        await cluster.crash("n1")
        await trio.sleep(30)
        assert not any(server.state != "follower" for server in cluster.up)
        assert not [m for *_, m in heard if isinstance(m, RequestVote | PreVote)]
        await cluster.start("n1", initial_cluster=None)
        await cluster.settled()


@in_virtual_time
async def test_m6_l4_the_answers_of_learners_confirm_no_entry_and_no_read() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        for name in ("n4", "n5", "n6"):
            await leader.add_learner(name, await newcomer(cluster, name))
        await cluster.settled()
        heard = cluster.overhear()
        term, index = leader.term, leader.commit_index
        for name in ("n1", "n2", "n3"):
            if name != leader.name:
                cluster.mute(name, leader.name)
        answered: list[Any] = []

        async def ask() -> None:
            with suppress(NotLeaderError):
                answered.append(await leader.read(Lines(), Linearizable()))

        async def tell() -> None:
            with suppress(OutcomeUnknown, NotLeaderError):
                answered.append(await leader.do(Say("nobody counts")))

        nursery.start_soon(tell)
        nursery.start_soon(ask)
        await trio.sleep(TIMEOUT / 2)
        assert answered == []
        assert leader.commit_index == index
        await cluster.until(lambda: leader.state != "leader", within=10 * TIMEOUT)
        cluster.heal()
        new = await cluster.settled()
        assert new.term > term
        votes = [m for _, who, _, m in heard if who in ("n4", "n5", "n6")]
        kinds = RequestVoteReply | PreVoteReply
        assert not [m for m in votes if isinstance(m, kinds)], "nobody asks them"
        nobody_voted_twice(heard)


@in_virtual_time
async def test_l4_the_answers_of_a_member_that_was_removed_confirm_no_read() -> None:
    """It was the one that answered fastest: etcd-io/raft 77ae04b."""
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        gone, *rest = cluster.followers()
        heard = cluster.overhear()
        # It does not hear that it may go, so it answers for a while yet.
        cluster.disks[gone].seconds = 100.0
        await leader.remove_peer(gone)
        assert voters(leader) == sorted([leader.name, *rest])
        for name in rest:
            cluster.mute(name, leader.name)
        with trio.move_on_after(TIMEOUT / 2) as scope:
            await leader.read(Lines(), Linearizable())
        assert scope.cancelled_caught, "two of three were not heard"
        asked = said_by(heard, leader.name, AppendEntries)
        assert asked
        cluster.heal()
        cluster.disks[gone].seconds = 0.0005
        await cluster.until(lambda: len(cluster.up) >= 3)
        await cluster.leader(leader.name, *rest)


# -- transfers ---------------------------------------------------------------------------------


@in_virtual_time
async def test_t1_commands_during_transfers_are_refused_as_not_done_or_done_and_none_is_lost() -> (
    None
):
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        stop = trio.Event()
        for number in range(10):
            nursery.start_soon(cluster.chatter, f"caller {number}", stop, 0.002)
        for _ in range(30):
            leader = await cluster.leader()
            await leader.transfer_leadership()
            await trio.sleep(0.02)
        stop.set()
        await cluster.settled()
        assert len(cluster.acknowledged) > 300
        # `Cluster.check` sees that all of it is there, once.


@in_virtual_time
async def test_t2_a_target_that_is_dead_costs_an_election_time_out_and_no_more() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        target = cluster.followers()[0]
        await cluster.crash(target)
        began = trio.current_time()
        with pytest.raises(TransferFailed, match=target):
            await leader.transfer_leadership(target)
        while True:
            try:
                await cluster.say("served again", within=1)
                break
            except NotLeaderError:
                await trio.sleep(0.001)
        assert trio.current_time() - began <= 3 * TIMEOUT
        await trio.sleep(1)
        leader = await cluster.leader()
        began = trio.current_time()
        with pytest.raises(TransferFailed, match="does not answer"):
            await leader.transfer_leadership(target)
        assert trio.current_time() == began, "known to be dead, it is not even tried"


@in_virtual_time
async def test_t4_each_transfer_that_cannot_be_says_why() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        one, two = cluster.followers()
        await leader.add_learner("n4", await newcomer(cluster, "n4"))
        reasons: dict[str, type[Exception]] = {
            leader.name: TransferFailed,
            "n9": MembershipError,
            "n4": MembershipError,
        }
        for name, kind in reasons.items():
            with pytest.raises(kind, match=name):
                await leader.transfer_leadership(name)
        with pytest.raises(NotLeaderError):
            await cluster[one].transfer_leadership(two)
        # A second one while the first is under way; and a change of the members as well.
        cluster.isolate(one)

        async def first() -> None:
            with pytest.raises(TransferFailed):
                await leader.transfer_leadership(one)

        nursery.start_soon(first)
        await trio.sleep(TIMEOUT / 10)
        for target in (one, two, None):
            with pytest.raises(TransferFailed, match=f"it is handing over to {one}"):
                await leader.transfer_leadership(target)
        with pytest.raises(MembershipError, match=f"it is handing over to {one}"):
            await leader.remove_peer("n4")
        cluster.heal()
        leader = await cluster.settled()
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_t4_a_member_that_leaves_does_not_come_to_lead() -> None:
    async with a_running_cluster(4) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        cluster.disks[gone].seconds = 100.0
        outcome: list[Any] = []
        nursery.start_soon(removing, leader, gone, outcome)
        await cluster.until(lambda: gone not in {m.id.name for m in configuration(leader).voters})
        with pytest.raises(MembershipError, match=f"no voter has the name {gone}"):
            await leader.transfer_leadership(gone)
        await cluster.until(lambda: outcome)
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_t5_the_targets_election_waits_for_no_time_out_and_for_no_pre_vote() -> None:
    async with a_running_cluster(5) as cluster:
        for _ in range(10):
            leader = await cluster.settled()
            target = cluster.followers()[0]
            heard = cluster.overhear()
            began = trio.current_time()
            await leader.transfer_leadership(target)
            assert trio.current_time() - began < TIMEOUT / 3
            assert said_by(heard, leader.name, TimeoutNow)
            assert not [m for *_, m in heard if isinstance(m, PreVote)]
            asked = said_by(heard, target, RequestVote)
            assert asked
            assert all(m.transfer for m in asked)
            await cluster[target].do(Say(f"in term {cluster[target].term}"))


# -- all of it by chance -----------------------------------------------------------------------


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(4))
def test_m2_m14_changes_by_chance_while_servers_fall_and_come_back(seed: int) -> None:
    """Whoever leads is asked for whatever comes to mind; what was acknowledged stays."""
    chance = Random(f"changes {seed}")

    async def main() -> None:
        async with a_running_cluster(3, seed=seed) as cluster, trio.open_nursery() as nursery:
            stop = trio.Event()
            nursery.start_soon(cluster.chatter, "chatter", stop)
            spare = ["n4", "n5", "n6"]
            for name in spare:
                await newcomer(cluster, name)
            for _ in range(25):
                await some_change(cluster, chance)
                await some_fall(cluster, chance)
            stop.set()
            leader = await settled_members(cluster)
            await leader.do(Say("at last"))
            present = {m.id for m in configuration(leader).members}
            for name in voters(leader):
                assert any(name == server.name for server in present)
                assert incarnation(cluster.disks[name]) in {
                    server.incarnation for server in present
                }

    run_seeded(seed, main)


async def some_change(cluster: Cluster, chance: Random) -> None:
    leaders = [server for server in cluster.up if server.state == "leader"]
    if not leaders:
        await trio.sleep(0.1)
        return
    leader, everybody = chance.choice(leaders), sorted(cluster.addresses)
    name = chance.choice(everybody)
    some = {one: cluster.addresses[one] for one in chance.sample(everybody, chance.randint(1, 5))}
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: leader.add_peer(name, cluster.addresses[name]),
        lambda: leader.add_learner(name, cluster.addresses[name]),
        lambda: leader.remove_peer(name),
        lambda: leader.change_membership(some),
        lambda: leader.transfer_leadership(),
    ]
    expected = (MembershipError, NotLeaderError, OutcomeUnknown, ServerStopped, TransferFailed)
    with trio.move_on_after(chance.choice((0.05, 0.5, 5.0))), suppress(*expected):
        await chance.choice(calls)()


async def some_fall(cluster: Cluster, chance: Random) -> None:
    for name in sorted(cluster.addresses):
        if not cluster.is_up(name):
            await cluster.start(name, initial_cluster=None)
    if chance.random() < 0.3:
        name = chance.choice(sorted(cluster.addresses))
        await cluster.crash(name)
        await trio.sleep(chance.uniform(0, 0.5))
    await trio.sleep(chance.uniform(0, 0.2))


async def settled_members(cluster: Cluster) -> Server:
    """All that are members run, and one of them leads them."""
    for name in sorted(cluster.addresses):
        if not cluster.is_up(name):
            await cluster.start(name, initial_cluster=None)

    def find() -> Server | None:
        for server in cluster.up:
            node = server._core.node
            leads = isinstance(node.role, Leading) and node.commit >= node.role.first_index
            is_over = not node.configuration.outgoing and node.configuration.index <= node.commit
            if leads and is_over:
                return server
        return None

    await trio.sleep(5)
    found: Server = await cluster.until(find)
    return found


@in_virtual_time
async def test_d7_machines_that_are_killed_while_members_change_keep_what_they_acknowledged() -> (
    None
):
    """On segment logs: each kill at another moment of the change."""
    async with running_machines(3) as machines:
        await machines.say("before")
        for number in range(12):
            leader = await machines.settled()
            name = next(one for one in machines.followers())
            async with trio.open_nursery() as nursery:
                outcome: list[Any] = []
                nursery.start_soon(removing, leader, name, outcome)
                await trio.sleep(0.0004 * number)
                await machines.kill(*machines.names)
            await machines.start(*machines.names, initial_cluster=None)
            leader = await machines.leader()
            await machines.until(lambda leader=leader: not configuration(leader).outgoing)
            await machines.say(f"after {number}")
            await trio.sleep(2)
            leader = await machines.leader()
            if name not in addresses(leader):
                if not machines.is_up(name):
                    await machines.start(name, initial_cluster=None)
                await leader.add_peer(name, machines.addresses[name])
        leader = await machines.settled()
        assert voters(leader) == machines.names


@in_virtual_time
async def test_f14_a_stream_of_before_the_removal_brings_nothing_after_it() -> None:
    """Removed, and added again at once: what the old turn still has on its way is old news."""
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        for number in range(10):
            cluster.slow(name, leader.name, 0.05 + 0.01 * number)  # its answers come late
            await cluster.crash(name)
            await leader.remove_peer(name)
            await talk(cluster, 3, f"turn {number}")
            await cluster.start(name)
            await leader.add_peer(name, cluster.addresses[name])
            await talk(cluster, 3, f"again {number}")
            cluster.heal()
            await cluster.settled()
        await stays(cluster, leader, 2)
        assert cluster[name].state_machine.lines == leader.state_machine.lines
