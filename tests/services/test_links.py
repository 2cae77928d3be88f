"""The streams follow the members, and try other addresses where one fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trioraft import ProtocolError
from trioraft._clock import Clock
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.messages import RequestVote
from trioraft._transport.conversation import LOST, Conversation
from trioraft._wire.codec import Hello, Pong, Refusal, decode, encode
from trioraft.abc import Connection
from trioraft.testing._network import MemoryNetwork, MemoryTransport

from .fakes import connected
from .test_peers import (
    CONFIGURATION,
    ELECTION,
    PATIENCE,
    Node,
    dialled_at,
    gaps,
    hello_of,
    id_of,
    pair,
    running,
)


def tasks() -> int:
    """How many tasks there are below the test's own."""
    waiting, count = list(trio.lowlevel.current_task().child_nurseries), 0
    while waiting:
        for child in waiting.pop().child_tasks:
            count += 1
            waiting += child.child_nurseries
    return count


def dialled(node: Node) -> list[str]:
    """Every address that the node dials from now on."""
    addresses: list[str] = []
    connect = node.transport.connect

    def noted(address: str) -> Any:
        addresses.append(address)
        return connect(address)

    node.transport.connect = noted  # type: ignore[method-assign]
    return addresses


# -- who comes, who goes -----------------------------------------------------------------------


async def test_who_comes_is_dialled_at_once(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b, c = Node(network, "a", ["b"]), Node(network, "b", ["a"]), Node(network, "c", ["a"])
    async with running(a, b, c):
        await trio.sleep(1)
        assert a.up == [id_of("b")]
        a.members["c"] = "mem://c"
        a.peers.follow()
        await trio.sleep(0.1)
        assert a.up == [id_of("b"), id_of("c")]
        assert list(a.peers.links) == ["b", "c"]


async def test_the_stream_to_who_has_left_ends_and_is_not_opened_again(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a, b):
        await trio.sleep(1)
        before, told = tasks(), dialled(a)
        del a.members["b"]
        a.peers.follow()
        await trio.sleep(0.1)
        assert a.peers.links == {}
        assert tasks() < before
        a.peers.post(id_of("b"), RequestVote(1, 0, 0))
        await trio.sleep(10)
        assert told == []
        assert b.received == []
        assert a.peers.address_of("b") is None


async def test_who_comes_again_is_dialled_again(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a, b):
        await trio.sleep(1)
        for turn in range(2, 5):
            del a.members["b"]
            a.peers.follow()
            await trio.sleep(0.1)
            a.members["b"] = "mem://b"
            a.peers.follow()
            await trio.sleep(0.1)
            assert len(a.up) == turn
            assert a.peers.links["b"].peer == id_of("b")


async def test_who_goes_and_comes_in_one_breath_keeps_its_stream(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a, b):
        await trio.sleep(1)
        del a.members["b"]
        a.peers.follow()
        a.members["b"] = "mem://b"
        a.peers.follow()
        await trio.sleep(1)
        assert a.up == [id_of("b")]


# -- addresses by turns ------------------------------------------------------------------------


async def tried(node: Node, seconds: float = 10) -> list[str]:
    told = dialled(node)
    async with running(node):
        await trio.sleep(seconds)
    return told


async def test_a_formed_server_tries_the_hint_the_clusters_and_the_peers_own_by_turns(
    autojump_clock: MockClock,
) -> None:
    node = Node(MemoryNetwork(), "a", ["b"])
    node.hints["b"] = "mem://hint"
    node.peers._handshake.gate.remember(hello_of("b", address="mem://own"))
    told = await tried(node)
    assert told[:6] == ["mem://hint", "mem://b", "mem://own"] * 2
    assert set(told) == {"mem://hint", "mem://b", "mem://own"}


async def test_an_address_that_is_the_same_counts_once(autojump_clock: MockClock) -> None:
    node = Node(MemoryNetwork(), "a", ["b"])
    node.hints["b"] = "mem://b"
    node.peers._handshake.gate.remember(hello_of("b", address="mem://own"))
    assert (await tried(node))[:4] == ["mem://b", "mem://own"] * 2


async def test_an_address_that_cant_be_read_is_left_out(autojump_clock: MockClock) -> None:
    """A peer may say anything of itself."""
    node = Node(MemoryNetwork(), "a", ["b"])
    node.peers._handshake.gate.remember(hello_of("b", address="nonsense"))
    assert set(await tried(node)) == {"mem://b"}


async def test_an_unformed_server_dials_what_it_was_told_and_nothing_else(
    autojump_clock: MockClock,
) -> None:
    node = Node(MemoryNetwork(), "a", ["b"], configuration=None)
    node.hints["b"] = "mem://hint"
    node.peers._handshake.gate.remember(hello_of("b", address="mem://own"))
    assert set(await tried(node)) == {"mem://hint", "mem://b"}
    node = Node(MemoryNetwork(), "a", ["b"], configuration=None)
    node.peers._handshake.gate.remember(hello_of("b", address="mem://own"))
    assert set(await tried(node)) == {"mem://b"}


async def test_where_a_peer_was_reached_it_is_dialled_again_first(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    a.hints["b"] = "mem://hint"
    async with running(a, b):
        await trio.sleep(2)
        assert a.peers.links["b"].address == "mem://b"
        told = dialled(a)
        network.reset("mem://a", "mem://b")
        await trio.sleep(1)
        assert told == ["mem://b"]


async def test_an_address_that_the_cluster_changes_is_dialled_at_the_next_turn(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a):
        await trio.sleep(1)
        b.transport = MemoryTransport(network, "mem://moved")
        async with running(b):
            a.members["b"] = "mem://moved"
            a.peers.follow()
            await trio.sleep(1)
            assert a.peers.links["b"].address == "mem://moved"
            assert a.up == [id_of("b")]


# -- expelled ----------------------------------------------------------------------------------


async def test_who_is_expelled_in_the_middle_of_a_talk_hears_of_it(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a, b):
        await trio.sleep(1)
        a.peers.expel(id_of("b"), "it had entry 7")
        await trio.sleep(0.1)
        assert b.expelled[0] == "a says: it had entry 7"
        await trio.sleep(5)
        assert a.peers.links["b"].peer is None
        assert "copy of the disk of b" in str(a.peers.links["b"].error)
    assert a.expelled == []


async def test_nobody_is_told_what_is_meant_for_another_incarnation(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a, b):
        await trio.sleep(1)
        a.peers.expel(attrs.evolve(id_of("b"), incarnation="b-0"), "it had entry 7")
        await trio.sleep(5)
        assert b.expelled == []
        assert a.peers.links["b"].peer == id_of("b")


@pytest.mark.parametrize("dials", [True, False])
async def test_a_word_of_a_stranger_expels_nobody(dials: bool, autojump_clock: MockClock) -> None:
    """It only ends the stream."""
    network = MemoryNetwork()
    node = Node(network, "a", ["b"])
    word = Refusal("go", attrs.evolve(id_of("z")))

    async def says(connection: Connection) -> None:
        await connection.receive()
        await connection.send(encode(hello_of("b")))
        await connection.send(encode(word))
        await trio.sleep_forever()

    if dials:
        await dialled_at(node, network, 2, says)
    else:
        async with running(node), MemoryTransport(network, "mem://b").connect("mem://a") as line:
            await line.send(encode(hello_of("b", expected="a")))
            assert isinstance(decode(await line.receive()), Hello)
            await line.send(encode(word))
            with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                await line.receive()
    assert node.expelled == []


async def test_who_is_refused_dials_less_often(autojump_clock: MockClock) -> None:
    """Who has been removed disturbs nobody; who is only out of reach is soon found again."""
    network = MemoryNetwork()
    node = Node(network, "a", ["b"])

    async def refuses(connection: Connection) -> None:
        await connection.receive()
        await connection.send(encode(Refusal("no member")))

    waits = gaps(await dialled_at(node, network, 20, refuses))
    assert waits[0] < ELECTION / 2, "at first it may be a mistake"
    assert min(waits[8:]) >= PATIENCE / 2 * 0.999
    assert max(waits) <= PATIENCE


# -- a probe -----------------------------------------------------------------------------------


async def test_a_probe_finds_who_is_there_and_no_talk_follows(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b = Node(network, "a", []), Node(network, "b", [])
    async with running(a, b):
        hello = await a.peers.probe("b", "mem://b")
        assert hello.id == id_of("b")
        await trio.sleep(1)
        assert (a.up, b.up) == ([], [])
        assert b.peers._incoming == {}


@pytest.mark.parametrize("address", ["mem://nowhere", "mem://b", "nonsense"])
async def test_a_probe_of_who_is_not_there_says_why(
    address: str, autojump_clock: MockClock
) -> None:
    network = MemoryNetwork()
    a, b = Node(network, "a", []), Node(network, "b", [])
    async with running(a, b):
        with pytest.raises((*LOST, ValueError)) as caught:  # type: ignore[misc]
            await a.peers.probe("c", address)
        assert str(caught.value)


async def test_a_probe_into_a_black_hole_ends_in_time(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    a, b = Node(network, "a", []), Node(network, "b", [])
    network.hold("mem://a", "mem://b")
    async with running(a, b):
        began = trio.current_time()
        with pytest.raises(TimeoutError, match=r"no answer within 0\.5 s"):
            await a.peers.probe("b", "mem://b")
        assert trio.current_time() - began == PATIENCE


# -- is it alive? ------------------------------------------------------------------------------


@asynccontextmanager
async def talking(answers_after: float | None) -> AsyncIterator[Conversation]:
    """A conversation whose other side answers each Ping so late, or never."""
    near, far = connected()
    conversation = Conversation(near, Clock(), PATIENCE)

    async def other() -> None:
        while True:
            await far.receive()
            if answers_after is not None:
                await trio.sleep(answers_after)
                await far.send(encode(Pong()))

    async def talk() -> None:
        with pytest.raises(ProtocolError, match="silent"):
            await conversation.run(lambda message: None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        nursery.start_soon(talk)
        yield conversation
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("after", [0.0, 0.1, PATIENCE * 0.8])
async def test_one_that_gives_a_sign_of_life_answers(
    after: float, autojump_clock: MockClock
) -> None:
    async with talking(after) as conversation:
        began = trio.current_time()
        assert await conversation.answers()
        assert trio.current_time() - began <= after + PATIENCE / 8 + 1e-9


@pytest.mark.parametrize("after", [None, PATIENCE * 1.5])
async def test_one_that_does_not_in_time_does_not_answer(
    after: float | None, autojump_clock: MockClock
) -> None:
    async with talking(after) as conversation:
        began = trio.current_time()
        assert not await conversation.answers()
        assert trio.current_time() - began == pytest.approx(PATIENCE)


async def test_what_came_in_the_very_instant_before_is_no_answer(
    autojump_clock: MockClock,
) -> None:
    near, far = connected()
    conversation = Conversation(near, Clock(), PATIENCE)

    async def talk() -> None:
        with pytest.raises(ProtocolError, match="silent"):
            await conversation.run(lambda message: None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        await far.send(encode(Pong()))
        await trio.testing.wait_all_tasks_blocked()
        assert not await conversation.answers()
        nursery.cancel_scope.cancel()


# -- two processes of one disk -----------------------------------------------------------------


@pytest.mark.parametrize("original_answers", [True, False])
async def test_a_second_process_of_a_disk_is_let_in_once_the_first_is_silent(
    original_answers: bool, autojump_clock: MockClock
) -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    async with running(a, b):
        await trio.sleep(1)
        if not original_answers:
            network.hold("mem://b", "mem://a")
        copy = MemoryTransport(network, "mem://copy")
        async with copy.connect("mem://a") as connection:
            await connection.send(encode(hello_of("b", starts=2, nonce="copy", expected="a")))
            answer = decode(await connection.receive())
        if original_answers:
            assert answer == Refusal("another process runs on a copy of the disk of b")
            assert a.peers.links["b"].peer == id_of("b")
        else:
            assert isinstance(answer, Hello)


async def test_a_known_configuration_is_not_asked_for_twice(autojump_clock: MockClock) -> None:
    """A stream to a member of the newest configuration that only the other one knows."""
    network = MemoryNetwork()
    newer = Configuration("c1", (*CONFIGURATION.voters, Member(id_of("d"), "mem://d")), index=9)
    a, d = Node(network, "a", []), Node(network, "d", ["a"])
    d.known.append(newer)
    async with running(a, d):
        await trio.sleep(1)
        assert d.up == [id_of("a")]
