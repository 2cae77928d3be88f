"""The streams between servers, over a network in memory."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trioraft import ProtocolError
from trioraft._clock import Clock
from trioraft._handshake import Handshake
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.messages import Message, RequestVote, RequestVoteReply
from trioraft._transport.peers import Peers
from trioraft._wire.codec import (
    PROTOCOL_VERSION,
    Hello,
    Ping,
    Refusal,
    WireMessage,
    decode,
    encode,
)
from trioraft.abc import Connection
from trioraft.testing._network import MemoryNetwork, MemoryTransport

ELECTION = 0.15
PATIENCE = 0.5
NAMES = ("a", "b")


def id_of(name: str) -> ServerId:
    return ServerId(name, f"{name}-1")


def address_of(name: str) -> str:
    return f"mem://{name}"


CONFIGURATION = Configuration(
    "c1", tuple(Member(id_of(name), address_of(name)) for name in ("a", "b", "c"))
)


def hello_of(name: str, **about: Any) -> Hello:
    fields: dict[str, Any] = {
        "cluster": "c1",
        "name": name,
        "incarnation": f"{name}-1",
        "starts": 1,
        "nonce": f"{name}-nonce",
        "address": address_of(name),
        "version": PROTOCOL_VERSION,
        "commands": (),
    }
    return Hello(**{**fields, **about})


class Node:
    """One server's links."""

    def __init__(
        self,
        network: MemoryNetwork,
        name: str,
        others: Sequence[str],
        *,
        election: float = ELECTION,
        configuration: Configuration | None = CONFIGURATION,
        seed: int = 0,
    ) -> None:
        self.name = name
        self.has_read_all = True
        """Its snapshot, too: it knows who was removed."""
        self.received: list[tuple[ServerId, Message]] = []
        self.up: list[ServerId] = []
        self.expelled: list[str] = []
        self.members = {other: address_of(other) for other in (name, *others)}
        self.hints: dict[str, str] = {}
        self.known = [CONFIGURATION if configuration is None else configuration]
        self.transport = MemoryTransport(network, address_of(name))
        handshake = Handshake(
            me=hello_of(name),
            initial_cluster={},
            genesis=configuration,
            known=lambda: self.known,
            waits=lambda: False,
            form=self._form,
            invited=lambda index: None,
            expelled=self.expelled.append,
            patience=PATIENCE,
            clock=Clock(),
            random=Random(name),
        )
        self.peers = Peers(
            me=name,
            transport=self.transport,
            handshake=handshake,
            members=lambda: self.members,
            hints=self.hints,
            patience=PATIENCE,
            slowest_redial=election / 2,
            clock=Clock(),
            random=Random(seed),
            receive=lambda peer, message: self.received.append((peer, message)),
            link_up=self.up.append,
            serve=self._serve,
            install=self._install,
            expelled=self.expelled.append,
        )

    async def _install(self, leader: ServerId, connection: Connection) -> None:
        raise AssertionError("nobody brings a snapshot here")

    async def _serve(self, _: Connection) -> None:
        raise AssertionError("nobody here is a client")

    async def _form(self, _: Configuration) -> None:
        await trio.lowlevel.checkpoint()

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.transport.listen, self.peers.accept)
            nursery.start_soon(self.peers.run)
            if self.has_read_all:
                self.peers.follow()
            task_status.started()


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        for node in nodes:
            await nursery.start(node.serve)
        yield nursery
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def listening(network: MemoryNetwork, name: str, handler: Any) -> AsyncIterator[None]:
    """Somebody else at an address."""
    async with trio.open_nursery() as nursery:
        await nursery.start(MemoryTransport(network, address_of(name)).listen, handler)
        yield
        nursery.cancel_scope.cancel()


def pair(network: MemoryNetwork) -> tuple[Node, Node]:
    return Node(network, "a", ["b"]), Node(network, "b", ["a"], seed=1)


async def test_each_dials_each_and_says_so(autojump_clock: MockClock) -> None:
    a, b = pair(MemoryNetwork())
    async with running(a, b):
        await trio.sleep(1)
        assert a.up == [id_of("b")]
        assert b.up == [id_of("a")]
        link = a.peers.links["b"]
        assert (link.peer, link.error, link.address) == (id_of("b"), None, "mem://b")
    assert link.peer is None
    assert link.conversation is None
    assert list(a.peers.links) == ["b"], "no link to itself"


async def test_who_comes_back_dials_nobody_before_it_knows_who_was_removed(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a, b = Node(network, "a", ["b", "c"]), Node(network, "b", ["a"], seed=1)
    a.has_read_all = False
    async with running(a, b):
        await trio.sleep(1)
        assert (a.up, list(a.peers.links)) == ([], ["b", "c"])
        del a.members["c"]
        a.peers.follow()
        await trio.sleep(1)
        assert (a.up, list(a.peers.links)) == ([id_of("b")], ["b"])


async def test_requests_go_on_the_own_stream_and_answers_come_back_on_it(
    autojump_clock: MockClock,
) -> None:
    sent: list[tuple[str, str, WireMessage]] = []
    network = MemoryNetwork(lambda source, to, data: sent.append((source, to, decode(data))))
    a, b = pair(network)
    async with running(a, b):
        await trio.sleep(1)
        a.peers.post(id_of("b"), RequestVote(1, 0, 0))
        await trio.sleep(0.01)
        assert b.received == [(id_of("a"), RequestVote(1, 0, 0))]
        b.peers.post(id_of("a"), RequestVoteReply(1, True))
        await trio.sleep(0.01)
        assert a.received == [(id_of("b"), RequestVoteReply(1, True))]
        # Without the stream that a opened, b's answers have no way; its requests do.
        network.cut("mem://a", "mem://b")
        await trio.sleep(0.1)
        b.peers.post(id_of("a"), RequestVoteReply(2, True))
        b.peers.post(id_of("a"), RequestVote(2, 0, 0))
        await trio.sleep(0.1)
        assert a.received[1:] == [(id_of("b"), RequestVote(2, 0, 0))]


async def test_nothing_is_sent_to_whom_no_stream_leads(autojump_clock: MockClock) -> None:
    a, b = pair(MemoryNetwork())
    for message in (RequestVote(1, 0, 0), RequestVoteReply(1, True)):
        a.peers.post(id_of("b"), message)
        a.peers.post(id_of("z"), message)
    async with running(a, b):
        await trio.sleep(1)
        for message in (RequestVote(1, 0, 0), RequestVoteReply(1, True)):
            a.peers.post(ServerId("b", "b-2"), message)  # another incarnation
        await trio.sleep(1)
        assert b.received == []


@pytest.mark.parametrize(
    "message", [RequestVoteReply(1, True), hello_of("b"), CONFIGURATION], ids=["reply", "hello", ""]
)
async def test_only_requests_are_taken_from_who_dialled(
    message: Any, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    network = MemoryNetwork()
    node = Node(network, "a", [])
    async with running(node):
        async with MemoryTransport(network, "mem://b").connect("mem://a") as connection:
            await connection.send(encode(hello_of("b", expected="a")))
            assert isinstance(decode(await connection.receive()), Hello)
            await connection.send(b"\x00" if message is CONFIGURATION else encode(message))
            with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                await connection.receive()
        assert node.received == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "an incoming stream ended" in caplog.text


@pytest.mark.parametrize("message", [RequestVote(1, 0, 0), hello_of("b")], ids=["request", "hello"])
async def test_only_answers_are_taken_from_who_was_dialled(
    message: Any, autojump_clock: MockClock
) -> None:
    network, node = MemoryNetwork(), None
    ended = trio.Event()

    async def handler(connection: Connection) -> None:
        await connection.receive()
        await connection.send(encode(hello_of("b")))
        await connection.send(encode(message))
        with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
            await connection.receive()
        ended.set()

    node = Node(network, "a", ["b"])
    async with listening(network, "b", handler), running(node):
        with trio.fail_after(5):
            await ended.wait()
        assert node.received == []
        assert "where only answers belong" in str(node.peers.links["b"].error)


async def test_an_ordinary_end_is_logged_below_a_warning(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trioraft")
    network = MemoryNetwork()
    async with running(Node(network, "a", [])):
        async with MemoryTransport(network, "mem://b").connect("mem://a") as connection:
            await connection.send(encode(hello_of("b", expected="a")))
            await connection.receive()
        await trio.sleep(0.1)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "EndOfChannel" in caplog.text


async def test_a_newer_stream_of_one_peer_takes_the_answers(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    node = Node(network, "a", [])
    dialler = MemoryTransport(network, "mem://b")
    async with running(node), dialler.connect("mem://a") as old:
        await old.send(encode(hello_of("b", expected="a")))
        await old.receive()
        async with dialler.connect("mem://a") as new:
            await new.send(encode(hello_of("b", expected="a")))
            await new.receive()
            await old.aclose()
            await trio.sleep(0.1)
            node.peers.post(id_of("b"), RequestVoteReply(1, True))
            assert decode(await new.receive()) == RequestVoteReply(1, True)
        await trio.sleep(0.1)
        node.peers.post(id_of("b"), RequestVoteReply(2, True))  # and nobody minds


# -- redialling --------------------------------------------------------------------------------


async def dialled_at(
    node: Node, network: MemoryNetwork, seconds: float, handler: Any = None
) -> list[float]:
    """When the node dialled `b` within that time."""
    times: list[float] = []
    connect = node.transport.connect

    def noted(address: str) -> Any:
        times.append(trio.current_time())
        return connect(address)

    node.transport.connect = noted  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        if handler is not None:
            transport = MemoryTransport(network, "mem://b")
            await nursery.start(transport.listen, handler)
        nursery.start_soon(node.peers.run)
        node.peers.follow()
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return times


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


@pytest.mark.parametrize("election", [0.003, 0.03, 0.15, 3.0])
@pytest.mark.parametrize("seed", range(3))
async def test_redialling_backs_off_with_jitter_and_stays_below_half_an_election_time_out(
    election: float, seed: int, autojump_clock: MockClock
) -> None:
    network = MemoryNetwork()
    node = Node(network, "a", ["b"], election=election, seed=seed)
    waits = gaps(await dialled_at(node, network, 40 * election))
    assert len(waits) >= 20
    assert max(waits) <= election / 2
    later = waits[10:]
    assert min(later) >= election / 4 * 0.999
    assert len({round(wait, 9) for wait in later}) > len(later) // 2, "jitter"
    if election > 1:
        assert waits[0] < waits[3] < waits[6], "it backs off"


async def test_two_servers_do_not_redial_in_step(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    first = await dialled_at(Node(network, "a", ["b"], seed=1), network, 5)
    second = await dialled_at(Node(network, "a", ["b"], seed=2), network, 5)
    assert gaps(first)[:20] != gaps(second)[:20]


async def test_a_link_that_was_lost_comes_back_soon(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a, b):
        for turn in range(1, 6):
            await trio.sleep(1)
            assert len(a.up) == turn
            network.cut("mem://a", "mem://b")
            await trio.sleep(1)
            assert a.peers.links["b"].peer is None
            assert "nobody answers" in str(a.peers.links["b"].error)
            network.heal("mem://a", "mem://b")
            await trio.sleep(ELECTION / 2)
            assert a.peers.links["b"].peer == id_of("b")
            assert a.peers.links["b"].error is None


async def test_a_peer_that_falls_silent_is_dropped_and_dialled_again(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a, b):
        await trio.sleep(1)
        network.hold("mem://b", "mem://a")
        with trio.fail_after(PATIENCE + 0.1):
            while a.peers.links["b"].peer is not None:
                await trio.sleep(0.001)
        assert a.peers.links["b"].error == f"silent for {PATIENCE:.3g} s"
        network.heal_all()
        await trio.sleep(20)
        assert a.peers.links["b"].peer == id_of("b")
        a.peers.post(id_of("b"), RequestVote(1, 0, 0))
        await trio.sleep(0.1)
        assert b.received == [(id_of("a"), RequestVote(1, 0, 0))]


async def test_dialling_into_a_black_hole_is_given_up_in_time(autojump_clock: MockClock) -> None:
    """Else a link would be away long after the network has healed."""
    network = MemoryNetwork()
    a, b = pair(network)
    network.hold("mem://a", "mem://b")
    async with running(a, b):
        await trio.sleep(PATIENCE + 0.01)
        assert a.peers.links["b"].error == f"no answer within {PATIENCE} s"
        network.heal_all()
        await trio.sleep(PATIENCE + ELECTION)
        assert a.peers.links["b"].peer == id_of("b")


async def test_an_idle_link_stays(autojump_clock: MockClock) -> None:
    a, b = pair(MemoryNetwork())
    async with running(a, b):
        await trio.sleep(100 * PATIENCE)
        assert a.up == [id_of("b")]
        assert b.up == [id_of("a")]


async def reset_at_once(connection: Connection) -> None:
    await connection.aclose()


async def reset_after_the_hello(connection: Connection) -> None:
    await connection.receive()
    await connection.aclose()


async def reset_while_reading(connection: Connection) -> None:
    connection.leave(trio.BrokenResourceError)  # type: ignore[attr-defined]
    await trio.lowlevel.checkpoint()


async def reset_behind_the_hello(connection: Connection) -> None:
    await connection.send(encode(hello_of("b")))
    await connection.aclose()


async def junk(connection: Connection) -> None:
    await connection.send(b"HTTP/1.1 400 Bad Request")


async def ping(connection: Connection) -> None:
    await connection.send(encode(Ping()))


@pytest.mark.parametrize(
    "handler",
    [
        reset_at_once,
        reset_after_the_hello,
        reset_while_reading,
        reset_behind_the_hello,
        junk,
        ping,
    ],
)
async def test_an_abrupt_end_of_the_hello_leaves_no_dead_task(
    handler: Any, autojump_clock: MockClock
) -> None:
    """The link goes on dialling, and finds its peer when that is well again."""
    network = MemoryNetwork()
    node = Node(network, "a", ["b"])
    times = await dialled_at(node, network, 20, handler)
    assert len(times) > 100
    assert max(gaps(times)) <= ELECTION / 2
    link = node.peers.links["b"]
    assert (link.peer, link.conversation) == (None, None)
    assert link.error
    b = Node(network, "b", [])
    a = Node(network, "a", ["b"])
    async with running(a):
        async with listening(network, "b", handler):
            await trio.sleep(1)
            before = list(a.up)
        async with running(b):
            await trio.sleep(1)
            assert a.up == [*before, id_of("b")]


@pytest.mark.parametrize("election", [0.003, 0.15])
async def test_a_stream_that_stood_for_a_moment_is_redialled_in_time_too(
    election: float, autojump_clock: MockClock
) -> None:
    network = MemoryNetwork()
    node = Node(network, "a", ["b"], election=election)
    waits = gaps(await dialled_at(node, network, 40 * election, reset_behind_the_hello))
    assert len(waits) >= 40
    assert max(waits) <= min(election / 2, 0.02)


async def test_an_incoming_stream_that_ends_in_the_hello_is_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    network = MemoryNetwork()
    node = Node(network, "a", [])
    stranger = MemoryTransport(network, "mem://x")
    async with running(node):
        for data in (None, b"junk", encode(Ping()), encode(hello_of("b", expected="z"))):
            async with stranger.connect("mem://a") as connection:
                if data is not None:
                    await connection.send(data)
            await trio.sleep(1)
        async with stranger.connect("mem://a") as connection:
            await connection.send(encode(hello_of("b", expected="a")))
            assert isinstance(decode(await connection.receive()), Hello), "and it still serves"


async def test_a_refusal_is_kept_said_once_and_backed_off_from(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    network = MemoryNetwork()
    a = Node(network, "a", ["b"])
    other = Configuration("c2", CONFIGURATION.voters)
    b = Node(network, "b", [], configuration=other)
    async with running(b):
        times = await dialled_at(a, network, 5)
        error = a.peers.links["b"].error
    assert error is not None
    assert "b refused: a belongs to the cluster c1, this server to c2" in error
    assert min(gaps(times)[5:]) >= PATIENCE / 2 * 0.999, "who is not wanted disturbs nobody"
    assert max(gaps(times)) <= PATIENCE
    warnings = [record for record in caplog.records if record.message.startswith("a: no link")]
    assert len(warnings) == 1, "the same reason is not logged again and again"


async def test_an_unformed_server_is_handed_the_genesis_and_then_linked(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a = Node(network, "a", ["b"])
    b = Node(network, "b", ["a"], configuration=None)
    async with running(a, b):
        await trio.sleep(1)
        assert a.up == [id_of("b")]
        assert b.up == [id_of("a")]


async def test_a_fault_behind_the_links_is_not_mistaken_for_a_lost_stream(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a, b = pair(network)

    def broken(_: ServerId) -> None:
        raise ZeroDivisionError

    a.peers._link_up = broken
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True, allow_unwrapped=True):
        async with running(b), trio.open_nursery() as nursery:
            nursery.start_soon(a.peers.run)
            a.peers.follow()
            await trio.sleep(1)


# -- members come and go -----------------------------------------------------------------------


def trio_of(network: MemoryNetwork) -> tuple[Node, Node, Node]:
    return (
        Node(network, "a", ["b", "c"]),
        Node(network, "b", ["a"], seed=1),
        Node(network, "c", ["a"], seed=2),
    )


async def test_a_stream_comes_with_a_member_and_goes_with_it(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    _, b, c = trio_of(network)
    a = Node(network, "a", ["b"])
    async with running(a, b, c):
        await trio.sleep(1)
        assert list(a.peers.links) == ["b"]
        a.members["c"] = "mem://c"
        await trio.sleep(1)
        assert list(a.peers.links) == ["b"], "nobody has said so"
        a.peers.follow()
        await trio.sleep(1)
        assert list(a.peers.links) == ["b", "c"]
        assert a.up == [id_of("b"), id_of("c")]
        a.peers.post(id_of("c"), RequestVote(1, 0, 0))
        await trio.sleep(0.01)
        assert c.received == [(id_of("a"), RequestVote(1, 0, 0))]
        assert c.peers._incoming
        kept = a.peers.links["b"]
        del a.members["c"]
        a.peers.follow()
        await trio.sleep(1)
        assert list(a.peers.links) == ["b"]
        assert not c.peers._incoming, "the stream has ended"
        a.peers.post(id_of("c"), RequestVote(2, 0, 0))
        await trio.sleep(1)
        assert len(c.received) == 1
        assert a.peers.links["b"] is kept
        assert a.up == [id_of("b"), id_of("c")], "nothing has happened to the others"
        # Who comes again is dialled again.
        a.members["c"] = "mem://c"
        a.peers.follow()
        await trio.sleep(1)
        assert a.up[2:] == [id_of("c")]


async def test_who_goes_while_it_is_dialled_is_dialled_no_more(autojump_clock: MockClock) -> None:
    for hangs in (True, False):
        network = MemoryNetwork()
        node = Node(network, "a", ["b"])
        if hangs:
            network.hold("mem://a", "mem://b")

        async def leaves(node: Node = node, network: MemoryNetwork = network) -> None:
            await trio.sleep(PATIENCE / 2)
            node.members.clear()
            node.peers.follow()
            await trio.sleep(0.01)
            assert node.peers.links == {}
            network.heal_all()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leaves)
            times = await dialled_at(node, network, 100 * PATIENCE)
        assert times
        assert max(times) <= trio.current_time() - 99 * PATIENCE


async def test_following_twice_changes_nothing(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b, c = trio_of(network)
    async with running(a, b, c):
        await trio.sleep(1)
        before = dict(a.peers.links)
        for _ in range(5):
            a.peers.follow()
            await trio.sleep(0.1)
        assert a.peers.links == before
        assert all(a.peers.links[name] is link for name, link in before.items())
        assert sorted(a.up) == [id_of("b"), id_of("c")]


async def test_members_that_come_before_anything_runs_are_dialled_once(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a, b, c = trio_of(network)
    a.members.pop("b")
    a.peers.follow()
    async with running(a, b, c):
        await trio.sleep(1)
        a.members["b"] = "mem://b"
        for _ in range(3):
            a.peers.follow()
        await trio.sleep(1)
        assert sorted(a.up) == [id_of("b"), id_of("c")]


async def test_where_a_member_is_dialled_can_be_asked(autojump_clock: MockClock) -> None:
    a, _, _ = trio_of(MemoryNetwork())
    assert [a.peers.address_of(name) for name in "abz"] == [None, "mem://b", None]


async def test_who_was_refused_and_is_welcome_now_is_dialled_as_fast_as_any(
    autojump_clock: MockClock,
) -> None:
    """The long pause after a refusal is for who is refused."""
    network = MemoryNetwork()
    a, b = pair(network)
    other = Configuration("c1", CONFIGURATION.voters[1:], index=9)
    b.known[:] = [other]
    async with running(a, b):
        await trio.sleep(20)
        assert a.up == []
        assert "b refused: a is no member of this cluster" in str(a.peers.links["b"].error)
        b.known[:] = [CONFIGURATION]
        await trio.sleep(PATIENCE + 0.1)
        assert a.up == [id_of("b")]
        network.cut("mem://a", "mem://b")
        await trio.sleep(0.1)
        network.heal("mem://a", "mem://b")
        await trio.sleep(ELECTION / 2)
        assert len(a.up) == 2


# -- where to dial -----------------------------------------------------------------------------


async def dialled_where(node: Node, seconds: float) -> list[str]:
    """The addresses that a node dials within that time, in turn."""
    places: list[str] = []
    connect = node.transport.connect

    def noted(address: str) -> Any:
        places.append(address)
        return connect(address)

    node.transport.connect = noted  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.peers.run)
        node.peers.follow()
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return places


async def test_where_one_address_fails_the_next_one_is_tried(autojump_clock: MockClock) -> None:
    """As told here, as the cluster has it, as the peer says itself."""
    network = MemoryNetwork()
    node = Node(network, "a", ["b"])
    node.hints["b"] = "mem://hinted"
    gate = node.peers._handshake.gate
    gate.remember(hello_of("b", address="mem://says"))
    places = await dialled_where(node, 2)
    assert places[:6] == ["mem://hinted", "mem://b", "mem://says"] * 2


async def test_an_address_is_tried_once_a_turn_and_only_if_it_can_be_read(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    node = Node(network, "a", ["b"])
    node.hints["b"] = "http://other-transport"
    node.peers._handshake.gate.remember(hello_of("b"))
    assert set(await dialled_where(node, 2)) == {"mem://b"}


async def test_who_belongs_to_no_cluster_dials_only_as_it_was_told(
    autojump_clock: MockClock,
) -> None:
    """Or it might form one with whoever says that it is elsewhere."""
    network = MemoryNetwork()
    node = Node(network, "a", ["b"], configuration=None)
    node.hints["b"] = "mem://hinted"
    handshake = node.peers._handshake
    handshake._initial = {"a": "mem://a", "b": "mem://b"}
    handshake.gate._initial = handshake._initial
    handshake.gate.remember(hello_of("b", cluster=None, address="mem://says"))
    assert handshake.gate.newest_hello_of("b") is not None
    assert set(await dialled_where(node, 2)) == {"mem://hinted", "mem://b"}


async def test_the_address_that_works_is_kept(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    a.hints["b"] = "mem://nobody"
    async with running(a, b):
        await trio.sleep(1)
        assert a.peers.links["b"].address == "mem://b"
        for turn in range(1, 6):
            network.cut("mem://a", "mem://b")
            await trio.sleep(0.001)
            network.heal("mem://a", "mem://b")
            await trio.sleep(ELECTION)
            assert len(a.up) == turn + 1


async def test_a_member_that_moves_is_found_where_the_cluster_says(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a = Node(network, "a", ["b"])
    moved = Node(network, "b", [])
    moved.transport = MemoryTransport(network, "mem://moved")
    async with running(a, moved):
        await trio.sleep(1)
        assert a.up == []
        a.members["b"] = "mem://moved"
        await trio.sleep(ELECTION)
        assert a.up == [id_of("b")]
        assert a.peers.address_of("b") == "mem://moved"


# -- who is there ------------------------------------------------------------------------------


async def test_a_probe_finds_who_answers_at_an_address(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a, b):
        await trio.sleep(1)
        hello = await a.peers.probe("b", "mem://b")
        assert hello.id == id_of("b")
        assert a.peers.links["b"].peer == id_of("b"), "its stream stands as before"
        assert (len(a.up), len(b.up)) == (1, 1)
        with pytest.raises(ProtocolError, match="this is b, not c"):
            await a.peers.probe("c", "mem://b")
        with pytest.raises(ValueError, match="nowhere"):
            await a.peers.probe("c", "nowhere")
        with pytest.raises(OSError, match="nobody answers at mem://c"):
            await a.peers.probe("c", "mem://c")


async def test_a_probe_into_a_black_hole_is_given_up_in_time(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(b):
        for source, to in (("mem://a", "mem://b"), ("mem://b", "mem://a")):
            network.hold(source, to)
            began = trio.current_time()
            with pytest.raises((TimeoutError, ProtocolError), match=r"no answer|not answer"):
                await a.peers.probe("b", "mem://b")
            assert trio.current_time() - began == pytest.approx(PATIENCE)
            network.heal_all()


# -- who must never take part again -------------------------------------------------------------


async def test_who_is_expelled_hears_it_on_the_stream_that_stands(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a, b):
        await trio.sleep(1)
        a.peers.expel(id_of("b"), "it has lost what it had")
        await trio.sleep(0.01)
        assert b.expelled == ["a says: it has lost what it had"]
        await trio.sleep(5)
        assert a.peers.links["b"].peer is None


async def test_who_is_expelled_hears_it_on_the_stream_that_it_opened(
    autojump_clock: MockClock,
) -> None:
    """The other one may not stand."""
    network = MemoryNetwork()
    a, b = Node(network, "a", []), Node(network, "b", ["a"])
    async with running(a, b):
        await trio.sleep(1)
        a.peers.expel(id_of("b"), "it has lost what it had")
        await trio.sleep(0.01)
        assert b.expelled == ["a says: it has lost what it had"]


async def test_nothing_that_an_expelled_one_says_is_believed(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a, b):
        await trio.sleep(1)
        a.peers.expel(id_of("b"), "it has lost what it had")
        for _ in range(5):
            b.peers.post(id_of("a"), RequestVote(1, 0, 0))
            await trio.sleep(1)
        assert a.received == []


async def test_who_is_expelled_hears_it_when_it_dials(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a):
        a.peers.expel(id_of("b"), "it has lost what it had")
        async with running(b):
            await trio.sleep(1)
            assert len(b.expelled) >= 1
            assert b.expelled[0].startswith("a says: another server runs, or has run")
            assert (a.up, b.up) == ([], [])


async def test_who_is_expelled_hears_it_when_it_is_dialled(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b = Node(network, "a", ["b"]), Node(network, "b", [])
    async with running(b):
        a.peers.expel(id_of("b"), "it has lost what it had")
        async with running(a):
            await trio.sleep(1)
            assert len(b.expelled) >= 1
            assert b.expelled[0].startswith("a says: ")
            assert a.up == []


@pytest.mark.parametrize("dials", [True, False], ids=["as an answer", "as a request"])
@pytest.mark.parametrize(
    ("by", "obeys"),
    [
        (id_of("b"), True),
        (id_of("c"), True),
        (ServerId("b", "b-2"), False),
        (id_of("x"), False),
        (None, False),
    ],
    ids=["member", "other member", "incarnation", "stranger", "nobody"],
)
async def test_only_a_members_word_expels(
    dials: bool, by: ServerId | None, obeys: bool, autojump_clock: MockClock
) -> None:
    network = MemoryNetwork()
    a = Node(network, "a", ["b"] if dials else [])
    refusal = encode(Refusal("you are a copy", by))

    async def handler(connection: Connection) -> None:
        await connection.receive()
        await connection.send(encode(hello_of("b")))
        await connection.send(refusal)
        await trio.sleep(1)

    if dials:
        async with listening(network, "b", handler), running(a):
            await trio.sleep(0.1)
            link = a.peers.links["b"]
            assert link.error == f"{id_of('b')} refused: you are a copy"
    else:
        async with running(a), MemoryTransport(network, "mem://b").connect("mem://a") as stream:
            await stream.send(encode(hello_of("b", expected="a")))
            assert isinstance(decode(await stream.receive()), Hello)
            await stream.send(refusal)
            with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                await stream.receive()
    assert set(a.expelled) == ({f"{id_of('b')} says: you are a copy"} if obeys else set())


async def test_who_lives_twice_is_refused_while_the_first_one_answers(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    second = encode(hello_of("b", starts=2, nonce="second", expected="a"))
    async with running(a, b):
        await trio.sleep(1)
        async with MemoryTransport(network, "mem://copy").connect("mem://a") as stream:
            await stream.send(second)
            refusal = decode(await stream.receive())
            assert isinstance(refusal, Refusal)
            assert refusal.reason == "another process runs on a copy of the disk of b"
            assert refusal.expelled_by is None, "it may be that the first one is about to end"
        assert a.peers.links["b"].peer == id_of("b")
        assert len(a.up) == 1
        # The first one has died, and nobody has noticed yet: this is its next start.
        network.hold("mem://b", "mem://a")
        network.hold("mem://a", "mem://b")
        began = trio.current_time()
        async with MemoryTransport(network, "mem://copy").connect("mem://a") as stream:
            await stream.send(second)
            assert isinstance(decode(await stream.receive()), Hello)
        assert trio.current_time() - began <= PATIENCE


async def test_one_process_may_dial_as_often_as_it_likes(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a, b):
        await trio.sleep(1)
        for _ in range(3):
            async with MemoryTransport(network, "mem://b").connect("mem://a") as stream:
                await stream.send(encode(hello_of("b", expected="a")))
                assert isinstance(decode(await stream.receive()), Hello)
