"""How a cluster comes to be, and who is kept out of it."""

from __future__ import annotations

import contextlib
import logging

import pytest
import trio
from attrs import evolve

from tests.server.worlds import (
    TIMEOUT,
    Cluster,
    Disk,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
)
from trioraft import NotLeaderError, StorageError
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.messages import AppendEntries, PreVote, RequestVote
from trioraft._state import HardState
from trioraft._wire.codec import (
    PROTOCOL_VERSION,
    Genesis,
    Hello,
    Refusal,
    WireMessage,
    decode,
    encode,
)
from trioraft.abc import Connection
from trioraft.testing import MemoryTransport


def genesis_on(disk: Disk) -> Configuration | None:
    assert disk.kept._state is not None
    return HardState.decode(disk.kept._state).genesis


def incarnation_on(disk: Disk) -> str:
    assert disk.kept._state is not None
    return HardState.decode(disk.kept._state).incarnation


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
@in_virtual_time
async def test_a_cluster_of_any_size_forms_and_elects(size: int) -> None:
    async with a_cluster(size) as cluster:
        leader = await cluster.formed()
        assert trio.current_time() < 2
        assert leader.term >= 1
        assert leader.member_count == size
        assert leader.quorum_size == size // 2 + 1
        assert {server.leader for server in cluster.up} == {leader.name}
        assert len({server.status().cluster for server in cluster.up}) == 1
        assert await cluster.say("hello") == 1


@in_virtual_time
async def test_the_order_in_which_servers_start_does_not_matter() -> None:
    async with a_cluster(3) as cluster:
        for name in ("n3", "n2", "n1"):
            await cluster.start(name)
            await trio.sleep(7)
        await cluster.settled()


@in_virtual_time
async def test_until_all_are_there_the_status_says_who_is_missing() -> None:
    async with a_cluster(3) as cluster:
        assert cluster.make("n1").status().missing == ()
        await cluster.start("n1")
        assert cluster["n1"].status().missing == ("n2", "n3")
        await cluster.start("n3")
        await trio.sleep(1)
        assert cluster["n1"].status().missing == ("n2",)
        assert cluster["n3"].status().missing == ("n2",)
        assert cluster["n1"].status().cluster is None
        assert cluster["n1"].member_count == 0
        await cluster.start("n2")
        await cluster.settled()
        assert cluster["n1"].status().missing == ()


@in_virtual_time
async def test_the_genesis_names_every_member_with_incarnation_address_and_commands() -> None:
    async with a_running_cluster(3) as cluster:
        documents = [genesis_on(cluster.disks[name]) for name in cluster.names]
        assert documents[0] is not None
        assert documents[0] == documents[1] == documents[2]
        members = {member.id.name: member for member in documents[0].voters}
        assert list(members) == cluster.names
        for name, member in members.items():
            assert member.id.incarnation == incarnation_on(cluster.disks[name])
            assert member.address == cluster.addresses[name]
            assert member.commands == ("refuse", "say")


@in_virtual_time
async def test_the_genesis_is_durable_before_anybody_hears_of_it() -> None:
    async with a_cluster(3) as cluster:
        heard = cluster.overhear()
        cluster.disks["n1"].seconds = 5.0
        await cluster.start("n1")
        await cluster.start("n2", "n3")
        await trio.sleep(4)
        assert not [message for *_, message in heard if isinstance(message, Genesis)]
        cluster.disks["n1"].seconds = 0.0
        await cluster.settled()
        first = min(at for at, *_, message in heard if isinstance(message, Genesis))
        assert first >= 10  # two writes of five seconds: the start, then the genesis


@in_virtual_time
async def test_disagreement_about_the_initial_cluster_is_told_by_both_sides(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="trioraft")
    async with a_cluster(3) as cluster:
        await cluster.start("n1", "n2")
        wrong = {**cluster.addresses, "n4": "mem://n4"}
        await cluster.start("n3", initial_cluster=wrong)
        await trio.sleep(3)
        assert cluster["n1"].status().missing == ("n3",)
        error = cluster["n1"].peers["n3"].error
        assert error is not None
        assert "n3" in error
        assert "(n1, n2, n3, n4)" in error
        assert "(n1, n2, n3)" in error
        assert "names the initial cluster" in caplog.text
        assert all(server.status().cluster is None for server in cluster.up)
        await cluster.restart("n3")
        await cluster.settled()


@in_virtual_time
async def test_a_member_that_changes_its_mind_about_the_cluster_is_missing_again() -> None:
    async with a_cluster(3) as cluster:
        await cluster.start("n1", "n2")
        await trio.sleep(1)
        assert cluster["n1"].status().missing == ("n3",)
        await cluster.restart("n2", initial_cluster={"n1": "mem://n1", "n2": "mem://n2"})
        await trio.sleep(1)
        assert cluster["n1"].status().missing == ("n2", "n3")


class Probe:
    """A hand-made server that says whatever a test makes it say."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.transport = MemoryTransport(cluster.network, f"mem://probe-{name}")

    async def hello(self, to: str, **changes: object) -> WireMessage:
        async with self.transport.connect(self.cluster.addresses[to]) as connection:
            await connection.send(encode(hello(to, **changes)))
            return decode(await connection.receive())


def hello(to: str, **changes: object) -> Hello:
    given: dict[str, object] = {
        "cluster": None,
        "name": "n3",
        "incarnation": "a-stranger",
        "starts": 1,
        "nonce": "nonce",
        "address": "mem://n3",
        "version": PROTOCOL_VERSION,
        "commands": ("refuse", "say"),
        "initial": ("n1", "n2", "n3"),
        "expected": to,
    }
    return Hello(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "question",
    [
        RequestVote(7, 0, 0),
        PreVote(7, 0, 0),
        AppendEntries(7, 1, 0, 0, 0, Entries(1, 0)),
    ],
)
@in_virtual_time
async def test_an_unformed_server_neither_votes_nor_acknowledges(question: WireMessage) -> None:
    async with a_cluster(3) as cluster:
        await cluster.start("n2")
        transport = MemoryTransport(cluster.network, "mem://n1")
        async with transport.connect("mem://n2") as connection:
            await connection.send(encode(hello("n2", name="n1", cluster="c")))
            assert isinstance(decode(await connection.receive()), Hello)
            await connection.send(encode(question))
            with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                await connection.receive()
        assert cluster["n2"].term == 0
        assert cluster["n2"].voted_for is None
        with pytest.raises(NotLeaderError):
            await cluster["n2"].do(Say("too early"))


@in_virtual_time
async def test_a_wiped_disk_under_an_old_name_is_refused_and_cannot_vote() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.say("before")
        leader = await cluster.settled()
        victim, other = cluster.followers()
        await cluster.crash(victim)
        cluster.disks[victim] = Disk()
        await cluster.start(victim)
        await trio.sleep(2)
        assert cluster[victim].status().cluster is None
        error = cluster[victim].peers[leader.name].error
        assert error is not None
        assert "was its data directory wiped" in error
        assert cluster[victim].term == 0
        await cluster.crash(leader.name)
        await trio.sleep(5)
        # One old voter and one amnesiac are no majority.
        assert cluster[other].state != "leader"
        assert cluster[victim].voted_for is None
        await cluster.start(leader.name)
        await cluster.leader(leader.name, other)


@in_virtual_time
async def test_two_wiped_disks_cannot_elect_each_other() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.say("before")
        wiped = cluster.followers()
        await cluster.crash(*cluster.names)
        for name in wiped:
            cluster.disks[name] = Disk()
        await cluster.start(*wiped)
        await trio.sleep(5)
        assert all(server.status().cluster is None for server in cluster.up)
        assert all(server.term == 0 for server in cluster.up)


@in_virtual_time
async def test_a_second_server_of_a_name_is_refused() -> None:
    async with a_running_cluster(3) as cluster:
        cluster.addresses["twin"] = "mem://twin"
        transport = MemoryTransport(cluster.network, "mem://twin")
        twin = cluster.make("n2", transport=transport, storage=Disk())
        await cluster.run(twin, "twin")
        await trio.sleep(2)
        assert twin.status().cluster is None
        assert twin.term == 0
        assert {server.status().cluster for server in cluster.up if server is not twin} != {None}
        await cluster.crash("twin")
        await cluster.settled()


@in_virtual_time
async def test_a_server_on_a_copy_of_a_disk_is_found_out() -> None:
    async with a_running_cluster(3) as cluster:
        copy = Disk()
        copy.kept._state = cluster.disks["n2"].kept._state
        copy.kept._log.frames = list(cluster.disks["n2"].frames)
        await cluster.restart("n2")
        await cluster.settled()
        cluster.addresses["twin"] = "mem://twin"
        twin = cluster.make(
            "n2", transport=MemoryTransport(cluster.network, "mem://twin"), storage=copy
        )
        await cluster.run(twin, "twin")
        await trio.sleep(1)
        errors = [peer.error or "" for peer in twin.peers.values()]
        assert all("copy of the disk" in error for error in errors), errors
        await cluster.crash("twin")
        await cluster.settled()


@in_virtual_time
async def test_d12_servers_of_two_clusters_never_mix() -> None:
    async with a_running_cluster(3) as cluster, a_cluster(3, seed=1) as stranger:
        await cluster.say("ours")
        stranger.network = cluster.network
        stranger.addresses = {name: f"mem://other-{name}" for name in stranger.names}
        await stranger.formed()
        await stranger.say("theirs")
        ours, theirs = cluster["n1"].status().cluster, stranger["n1"].status().cluster
        assert ours != theirs
        # One now finds the servers of the other cluster at its peers' addresses.
        hints = {name: cluster.addresses[name] for name in ("n2", "n3")}
        await stranger.crash("n2", "n3")
        await stranger.restart("n1", peers=hints)
        errors: set[str] = set()
        for _ in range(500):
            await trio.sleep(0.01)
            errors.add(stranger["n1"].peers["n2"].error or "")
            assert not any(peer.connected for peer in stranger["n1"].peers.values())
        assert any(f"belongs to the cluster {theirs}, this server to {ours}" in e for e in errors)
        assert cluster["n2"].status().cluster == ours
        assert "theirs" not in cluster["n2"].state_machine.lines
        # Where a hint leads astray, the cluster's own addresses are tried, too.
        await stranger.start("n2", "n3")
        await stranger.settled()
        assert all(peer.connected for peer in stranger["n1"].peers.values())
        assert stranger["n2"].status().cluster == theirs


@in_virtual_time
async def test_d12_a_data_directory_of_another_name_is_refused() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.crash("n1")
        stray = cluster.make("n2", storage=cluster.disks["n1"])
        with pytest.raises(StorageError, match="belongs to n1, not to n2"):
            await stray.serve()
        await cluster.start("n1")
        await cluster.settled()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@in_virtual_time
async def test_all_servers_restart_at_once(size: int) -> None:
    async with a_running_cluster(size) as cluster:
        first = cluster["n1"].status().cluster
        for number in range(3):
            await cluster.say(f"round {number}")
            term = (await cluster.settled()).term
            await cluster.restart(*cluster.names)
            leader = await cluster.settled()
            assert leader.term > term
            assert leader.status().cluster == first
        assert cluster["n1"].state_machine.lines == ["round 0", "round 1", "round 2"]


@in_virtual_time
async def test_a_member_that_missed_the_genesis_gets_it_from_any_formed_one() -> None:
    async with a_cluster(3) as cluster:
        await cluster.start("n2", "n3")
        cluster.disks["n3"].seconds = 100.0  # so slow that it can't take the genesis for now
        await cluster.start("n1")
        leader = await cluster.leader("n1", "n2")
        await cluster.crash("n3")
        assert genesis_on(cluster.disks["n3"]) is None
        cluster.disks["n3"].seconds = 0.0
        # The one that wrote the genesis is out of reach; whoever is formed hands it over.
        cluster.cut("n1", "n3")
        await cluster.start("n3")
        await cluster.until(lambda: cluster["n3"].status().cluster is not None)
        assert cluster["n3"].status().cluster == leader.status().cluster
        cluster.heal()
        await cluster.settled()


@in_virtual_time
async def test_initial_cluster_counts_for_nothing_on_a_used_directory() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.say("before")
        await cluster.restart("n3", initial_cluster={"n3": "mem://n3"})
        leader = await cluster.settled()
        assert cluster["n3"].member_count == 3
        assert leader.member_count == 3
        await cluster.restart("n3", initial_cluster=None)
        await cluster.settled()
        assert cluster["n3"].state_machine.lines == ["before"]


@in_virtual_time
async def test_a_server_without_initial_cluster_waits() -> None:
    async with a_cluster(1) as cluster:
        await cluster.start("n1", initial_cluster=None)
        await trio.sleep(10)
        assert cluster["n1"].state == "follower"
        assert cluster["n1"].term == 0
        assert cluster["n1"].status().missing == ()
        with pytest.raises(NotLeaderError):
            await cluster["n1"].do(Say("nobody is here"))


@in_virtual_time
async def test_all_addresses_change_at_once_and_hints_find_everybody() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.say("before")
        await cluster.settled()
        await cluster.crash(*cluster.names)
        cluster.addresses = {name: f"mem://moved-{name}" for name in cluster.names}
        for name in cluster.names:
            await cluster.start(name, initial_cluster=None, peers=cluster.addresses)
        leader = await cluster.settled()
        assert leader.state_machine.lines == ["before"]
        follower = cluster[cluster.followers()[0]]
        with pytest.raises(NotLeaderError) as caught:
            await follower.do(Say("here?"))
        assert caught.value.address == f"mem://moved-{leader.name}"


@in_virtual_time
async def test_a_dialler_checks_whom_it_reached() -> None:
    async with a_cluster(3) as cluster:
        crossed = {**cluster.addresses, "n2": "mem://n3", "n3": "mem://n2"}
        # n1 dials the wrong ones as long as it is unformed: it does only what it was told.
        await cluster.start("n1", initial_cluster=crossed)
        await cluster.start("n2", initial_cluster={**cluster.addresses, "n1": "mem://nowhere"})
        await trio.sleep(2)
        error = cluster["n1"].peers["n3"].error
        assert error is not None
        assert "n3 refused: this is n2, not n3" in error
        assert cluster["n1"].status().missing == ("n2", "n3")
        assert not any(peer.connected for peer in cluster["n1"].peers.values())
        await cluster.restart("n1")
        await cluster.start("n3")
        await cluster.settled()


@in_virtual_time
async def test_a_formed_server_tries_other_addresses_where_one_leads_astray(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with a_running_cluster(3) as cluster:
        crossed = {**cluster.addresses, "n2": "mem://n3", "n3": "mem://nowhere"}
        await cluster.restart("n1", peers=crossed)
        await cluster.settled()
        await trio.sleep(2)
        assert all(peer.connected for peer in cluster["n1"].peers.values())
    assert "n2 refused: this is n3, not n2" in caplog.text
    assert "nobody answers at mem://nowhere" in caplog.text


@in_virtual_time
async def test_a_hello_from_a_name_outside_of_the_initial_cluster_forms_nothing() -> None:
    """A stranger that repeats the right names must not get into the genesis, or end a server."""
    async with a_cluster(3) as cluster:
        await cluster.start("n1", "n2")
        answer = await Probe(cluster, "x").hello("n1", name="outsider")
        assert isinstance(answer, Refusal)
        await cluster.start("n3")
        leader = await cluster.settled()
        assert leader.member_count == 3


@in_virtual_time
async def test_another_version_of_the_protocol_is_refused_in_words() -> None:
    async with a_running_cluster(3) as cluster:
        answer = await Probe(cluster, "x").hello("n1", version=PROTOCOL_VERSION + 1)
        assert isinstance(answer, Refusal)
        assert f"version {PROTOCOL_VERSION + 1}" in answer.reason


@pytest.mark.parametrize("nonsense", [b"", b"\xc1", b"\x00" * 100, encode(PreVote(1, 0, 0))])
@in_virtual_time
async def test_f13_nonsense_in_place_of_a_hello_ends_that_stream_only(nonsense: bytes) -> None:
    async with a_running_cluster(3) as cluster:
        transport = MemoryTransport(cluster.network, "mem://stranger")
        async with transport.connect("mem://n1") as connection:
            await connection.send(nonsense)
            with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                await connection.receive()
        await cluster.settled()


NOBODY = ServerId("n2", "nobody")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "did not answer the Hello in time"),
        (PreVote(1, 0, 0), "expected a Hello, got PreVote"),
        (Refusal("not today"), "n2 refused: not today"),
        (Genesis(Configuration("c", (Member(NOBODY, "mem://n2"),))), "does not name this server"),
        ("a bad address", "a genesis with a bad address"),
        ("another name", "expected n2, reached n3"),
        ("a cluster", "belongs to a cluster that does not name this server"),
    ],
)
@in_virtual_time
async def test_whatever_answers_in_a_peers_place_is_told_apart(
    answer: WireMessage | str | None, says: str
) -> None:
    changes = {
        "another name": {"name": "n3"},
        "a cluster": {"name": "n2", "cluster": "c"},
    }
    async with a_cluster(3) as cluster, trio.open_nursery() as nursery:

        async def respond(connection: Connection) -> None:
            dialler = decode(await connection.receive())
            assert isinstance(dialler, Hello)
            if answer == "a bad address":
                genesis = Genesis(Configuration("c", (Member(dialler.id, "nowhere"),)))
                await connection.send(encode(genesis))
            elif isinstance(answer, str):
                await connection.send(encode(hello("n1", **changes[answer])))
            elif answer is not None:
                await connection.send(encode(answer))
            await trio.sleep(60)

        await nursery.start(MemoryTransport(cluster.network, "mem://n2").listen, respond)
        await cluster.start("n1")
        await trio.sleep(2)
        assert says in str(cluster["n1"].peers["n2"].error)
        assert cluster["n1"].status().missing == ("n2", "n3")
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_a_server_that_is_no_member_is_told_to_wait() -> None:
    async with a_running_cluster(3) as cluster:
        answer = await Probe(cluster, "x").hello("n1", name="n9", initial=())
        assert isinstance(answer, Refusal)
        assert answer.reason == "n9 is no member of this cluster, and waits to be taken in"
        answer = await Probe(cluster, "x").hello("n1", name="n1")
        assert isinstance(answer, Refusal)
        assert answer.reason == "two servers have the name n1"


@in_virtual_time
async def test_r18_a_server_that_reaches_itself_refuses() -> None:
    async with a_cluster(2) as cluster:
        loop = {"n1": "mem://n1", "n2": "mem://other"}
        await cluster.start("n1", initial_cluster=loop, peers={"n2": "mem://n1"})
        await trio.sleep(2)
        error = cluster["n1"].peers["n2"].error
        assert error is not None
        assert "this is n1, not n2" in error
        assert cluster["n1"].status().missing == ("n2",)


@in_virtual_time
async def test_a_silent_stranger_is_hung_up_on() -> None:
    async with a_running_cluster(3) as cluster:
        transport = MemoryTransport(cluster.network, "mem://stranger")
        async with transport.connect("mem://n1") as connection:
            with trio.fail_after(2), pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                await connection.receive()


@in_virtual_time
async def test_e17_a_leaders_hello_does_not_make_anybody_a_member() -> None:
    """Who knows the cluster's id but is no member is refused: their term might be the last one."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        term = leader.term
        transport = MemoryTransport(cluster.network, "mem://stranger")
        async with transport.connect(cluster.addresses[leader.name]) as connection:
            greeting = hello(leader.name, name="stranger", cluster=leader.status().cluster)
            await connection.send(encode(greeting))
            answer = decode(await connection.receive())
            assert isinstance(answer, Refusal)
            assert "no member" in answer.reason
            with contextlib.suppress(trio.BrokenResourceError):
                await connection.send(encode(RequestVote(2**47, 10**6, 10**6)))
        await trio.sleep(10 * TIMEOUT)
        assert cluster[leader.name].term == term


@pytest.mark.parametrize("others", ["made up", "known, in no newer configuration", "of elsewhere"])
@in_virtual_time
async def test_no_incarnation_is_told_to_who_shows_members_that_are_none(others: str) -> None:
    """Who would pass for a member has to know one; the cluster's id is known to every client."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        settled = leader._core.node.configuration
        elsewhere = await Probe(cluster, "x").hello(
            leader.name,
            name="n9",
            cluster=settled.cluster,
            probes=True,
            configuration=Configuration(
                "elsewhere" if others == "of elsewhere" else settled.cluster,
                (
                    Member(ServerId("n9", "a-stranger"), "mem://n9"),
                    *(
                        evolve(member, id=ServerId(member.id.name, "made up"))
                        if others == "made up"
                        else member
                        for member in settled.voters
                        if member.id.name != leader.name
                    ),
                ),
                index=settled.index + (others != "known, in no newer configuration"),
            ),
        )
        assert isinstance(elsewhere, Refusal)
        assert "no member" in elsewhere.reason
