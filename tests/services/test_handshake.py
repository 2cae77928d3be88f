"""Who may talk to whom, and how a cluster comes to be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioraft import ProtocolError
from trioraft._clock import Clock
from trioraft._handshake import Handshake
from trioraft._limits import MAX_ERROR_CHARACTERS
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Member
from trioraft._wire.codec import (
    PROTOCOL_VERSION,
    Genesis,
    Hello,
    Ping,
    Refusal,
    WireMessage,
    decode,
    encode,
)

from .fakes import Wire, connected

PATIENCE = 3.0


class Node:
    """One server's handshake, and the disk behind it."""

    def __init__(
        self,
        name: str,
        initial: Sequence[str] = (),
        configuration: Configuration | None = None,
        **about: Any,
    ) -> None:
        self.disk: list[Configuration] = []
        self.newer: Configuration | None = None
        self.invited: list[int] = []
        self.expelled: list[str] = []
        fields: dict[str, Any] = {
            "cluster": None,
            "name": name,
            "incarnation": f"{name}-1",
            "starts": 1,
            "nonce": f"{name}-nonce",
            "address": f"mem://{name}",
            "version": PROTOCOL_VERSION,
            "commands": ("put",),
        }
        self.hello = Hello(**{**fields, **about})
        self.id = self.hello.id
        self.waits = False
        self.shake = Handshake(
            me=self.hello,
            initial_cluster={other: f"mem://{other}" for other in initial},
            genesis=configuration,
            known=lambda: [one for one in (self.shake.genesis, self.newer) if one is not None],
            waits=lambda: self.waits,
            form=self._form,
            invited=self.invited.append,
            expelled=self.expelled.append,
            patience=PATIENCE,
            clock=Clock(),
            random=Random(name),
        )

    async def _form(self, configuration: Configuration) -> None:
        await trio.sleep(0.01)
        assert self.shake.genesis is None, "spoken of before it was durable"
        self.disk.append(configuration)


async def _accept(shake: Handshake, far: Wire) -> ServerId | None:
    hello = await shake.first_word(far)
    assert isinstance(hello, Hello)
    return await shake.accept(far, hello)


def configuration(*names: str, cluster: str = "c1", **incarnations: str) -> Configuration:
    return Configuration(
        cluster,
        tuple(
            Member(ServerId(name, incarnations.get(name, f"{name}-1")), f"mem://{name}", ("put",))
            for name in names
        ),
    )


ABC = ("a", "b", "c")


class Meeting:
    """What became of one dial."""

    def __init__(self) -> None:
        self.dialled: Any = None
        self.accepted: Any = None

    def errors(self) -> list[str]:
        return [str(end) for end in (self.dialled, self.accepted) if isinstance(end, Exception)]


async def meet(dialler: Node, acceptor: Node, expected: str | None = None) -> Meeting:
    """Let one dial the other; both ends close when they are done.

    Who takes the dialler for a member goes on listening, as in a conversation.
    """
    near, far = connected()
    meeting, dialled = Meeting(), trio.Event()

    async def dial() -> None:
        try:
            name = acceptor.hello.name if expected is None else expected
            meeting.dialled = await dialler.shake.dial(near, name)
        except (ProtocolError, trio.EndOfChannel, trio.BrokenResourceError) as error:
            meeting.dialled = error
        dialled.set()
        await near.aclose()

    async def accept() -> None:
        try:
            meeting.accepted = await _accept(acceptor.shake, far)
            if meeting.accepted is not None:
                await dialled.wait()
        except (ProtocolError, trio.EndOfChannel, trio.BrokenResourceError) as error:
            meeting.accepted = error
        await far.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(accept)
    return meeting


@asynccontextmanager
async def cluster(*nodes: Node) -> AsyncIterator[None]:
    """Everybody dials everybody, again and again, as servers do."""

    async def keep(dialler: Node, acceptor: Node) -> None:
        while True:
            await meet(dialler, acceptor)
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.shake.cluster)
            for other in nodes:
                if other is not node:
                    nursery.start_soon(keep, node, other)
        yield
        nursery.cancel_scope.cancel()


# -- forming -----------------------------------------------------------------------------------


async def test_a_cluster_of_one_forms_at_once() -> None:
    node = Node("a", ["a"])
    assert node.shake.missing == ()
    await node.shake.cluster()
    formed = node.shake.genesis
    assert formed is not None
    assert formed.voters == (Member(node.id, "mem://a", ("put",)),)
    assert node.disk == [formed]
    assert node.shake.formed.is_set()
    await node.shake.cluster()
    assert node.shake.genesis is formed
    assert node.disk == [formed], "once"


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c"), ("e", "d", "c", "b", "a")])
async def test_a_cluster_forms_once_all_are_there(
    names: Sequence[str], autojump_clock: MockClock
) -> None:
    nodes = [Node(name, names, commands=("put", name)) for name in names]
    async with cluster(*nodes):
        with trio.fail_after(5):
            for node in nodes:
                await node.shake.cluster()
    genesis = nodes[0].shake.genesis
    assert genesis is not None
    assert all(node.shake.genesis == genesis for node in nodes)
    assert [node.disk for node in nodes] == [[genesis]] * len(nodes)
    expected = sorted((node.id, node.hello.address, node.hello.commands) for node in nodes)
    assert [(m.id, m.address, m.commands) for m in genesis.voters] == expected
    assert len(genesis.cluster) == 16


async def test_it_does_not_form_while_one_is_missing(autojump_clock: MockClock) -> None:
    a, b, c = (Node(name, ABC) for name in ABC)
    async with cluster(a, b):
        await trio.sleep(10)
        assert a.shake.missing == ("c",)
        assert b.shake.missing == ("c",)
        assert a.disk == b.disk == []
    async with cluster(a, b, c):
        await trio.sleep(1)
    assert a.disk == b.disk == c.disk != []
    assert a.shake.missing == ()


async def test_only_the_first_name_writes_the_genesis(autojump_clock: MockClock) -> None:
    b, c = Node("b", ABC), Node("c", ABC)
    a = Node("a", ABC)
    for dialler, acceptor in ((b, c), (c, b)):
        with trio.move_on_after(1):
            await meet(dialler, acceptor)
    for acceptor in (b, c):
        with trio.move_on_after(1):
            await meet(a, acceptor)
    assert (b.disk, c.disk) != ([], [])
    assert a.disk == [a.shake.genesis]
    assert a.disk[0].cluster == f"{Random('a').getrandbits(64):016x}"


async def test_a_server_without_an_initial_cluster_waits_to_be_taken_in(
    autojump_clock: MockClock,
) -> None:
    lonely = Node("a")
    with trio.move_on_after(100) as scope:
        await lonely.shake.cluster()
    assert scope.cancelled_caught
    assert lonely.shake.missing == ()


async def test_servers_that_name_different_initial_clusters_do_not_form(
    autojump_clock: MockClock,
) -> None:
    a, b = Node("a", ["a", "b"]), Node("b", ["a", "b", "c"])
    for dialler, acceptor in ((a, b), (b, a)):
        meeting = await meet(dialler, acceptor)
        assert len(meeting.errors()) == 2
        assert "names the initial cluster" in meeting.errors()[0]
        assert "a, b" in meeting.errors()[0]
        assert "a, b, c" in meeting.errors()[0]
    assert a.disk == b.disk == []
    assert a.shake.missing == ("b",)


async def test_who_changes_its_mind_about_the_initial_cluster_is_missing_again(
    autojump_clock: MockClock,
) -> None:
    a, b = Node("a", ABC), Node("b", ABC)
    with trio.move_on_after(1):
        await meet(b, a)
    assert a.shake.missing == ("c",)
    await meet(Node("b", ["a", "b"], starts=2), a)
    assert a.shake.missing == ("b", "c")


async def test_who_is_not_in_the_initial_cluster_cant_join_it_by_naming_it(
    autojump_clock: MockClock,
) -> None:
    """Such a Hello must not bring the server down when it forms."""
    a, b = Node("a", ["a", "b"]), Node("b", ["a", "b"])
    stranger = Node("x", ["a", "b"])
    for dialler, acceptor in ((stranger, a), (a, stranger)):
        with trio.fail_after(1):
            meeting = await meet(dialler, acceptor)
        assert "x is not in the initial cluster that it names itself" in meeting.errors()[0]
    async with cluster(a, b):
        with trio.fail_after(5):
            await a.shake.cluster()
    assert a.shake.genesis is not None
    assert [member.id.name for member in a.shake.genesis.voters] == ["a", "b"]


# -- the genesis is handed on ------------------------------------------------------------------


@pytest.mark.parametrize("formed_dials", [True, False])
async def test_a_formed_server_hands_the_genesis_to_an_unformed_one(
    formed_dials: bool, autojump_clock: MockClock
) -> None:
    formed = Node("a", ABC, configuration(*ABC))
    unformed = Node("b", ABC)
    pair = (formed, unformed) if formed_dials else (unformed, formed)
    meeting = await meet(*pair)
    assert (meeting.dialled, meeting.accepted) == (None, None)
    assert unformed.disk == [configuration(*ABC)]
    await unformed.shake.cluster()
    assert unformed.shake.genesis == configuration(*ABC)
    meeting = await meet(*pair)
    assert (meeting.dialled, meeting.accepted) == (pair[1].id, pair[0].id)


@pytest.mark.parametrize("formed_dials", [True, False])
async def test_a_genesis_comes_to_those_without_an_initial_cluster_too(
    formed_dials: bool, autojump_clock: MockClock
) -> None:
    formed, unformed = Node("a", ABC, configuration(*ABC)), Node("b")
    await meet(*((formed, unformed) if formed_dials else (unformed, formed)))
    assert unformed.disk == [configuration(*ABC)]


async def test_a_wiped_disk_is_a_stranger_under_an_old_name(autojump_clock: MockClock) -> None:
    """It must never vote again with amnesia."""
    formed = Node("a", ABC, configuration(*ABC))
    wiped = Node("b", ABC, incarnation="b-2")
    for pair in ((formed, wiped), (wiped, formed)):
        errors = (await meet(*pair)).errors()
        assert any("was its data directory wiped" in error for error in errors)
    assert wiped.disk == []
    assert not wiped.shake.formed.is_set()


async def test_a_stranger_waits_to_be_taken_in(autojump_clock: MockClock) -> None:
    formed, stranger = Node("a", ABC, configuration(*ABC)), Node("z", ABC)
    for pair in ((formed, stranger), (stranger, formed)):
        errors = (await meet(*pair)).errors()
        assert any("z is no member of this cluster" in error for error in errors)
    assert stranger.disk == []


async def test_a_genesis_that_does_not_name_the_server_is_not_taken(
    autojump_clock: MockClock,
) -> None:
    for other in (configuration("a", "b"), configuration("a", "c", c="c-2")):
        node = Node("c", ABC)
        near, far = connected()
        await far.send(encode(Genesis(other)))
        with pytest.raises(ProtocolError, match="does not name this server's incarnation"):
            await node.shake.dial(near, "a")
        assert node.disk == []


async def test_a_genesis_is_taken_once_even_if_it_comes_from_all_sides(
    autojump_clock: MockClock,
) -> None:
    node = Node("c", ABC)
    async with trio.open_nursery() as nursery:
        for name in ("a", "b"):
            formed = Node(name, ABC, configuration(*ABC))
            nursery.start_soon(meet, node, formed)
            nursery.start_soon(meet, formed, node)
    assert node.disk == [configuration(*ABC)]


async def test_a_genesis_that_cant_be_made_durable_is_not_spoken_of() -> None:
    node = Node("a", ["a"])

    async def fails(_: Configuration) -> None:
        raise OSError("no space left")

    node.shake._form = fails
    with pytest.raises(OSError, match="no space left"):
        await node.shake.cluster()
    assert not node.shake.formed.is_set()
    assert node.shake.genesis is None


async def test_who_forms_while_it_answers_still_waits_for_what_its_answer_asked_for(
    autojump_clock: MockClock,
) -> None:
    """It has said that it is unformed, so a genesis is what comes next."""
    node = Node("b", ABC)
    near, far = connected(capacity=0)
    done: list[ServerId | None] = []

    async def accept() -> None:
        done.append(await _accept(node.shake, far))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await near.send(encode(attrs.evolve(Node("a").hello, cluster="c1", expected="b")))
        await wait_all_tasks_blocked()  # its answer is on the way
        await meet(Node("c", ABC, configuration(*ABC)), node)
        assert node.shake.formed.is_set()
        answer = decode(await near.receive())
        assert isinstance(answer, Hello)
        assert answer.cluster is None
        await near.send(encode(Genesis(configuration(*ABC))))
    assert done == [None]
    assert len(node.disk) == 1


# -- formed servers ----------------------------------------------------------------------------


async def test_members_of_one_cluster_may_talk(autojump_clock: MockClock) -> None:
    a, b = (Node(name, ABC, configuration(*ABC)) for name in "ab")
    meeting = await meet(a, b)
    assert (meeting.dialled, meeting.accepted) == (b.id, a.id)
    assert a.shake.missing == ()


async def both_refuse(a: Node, b: Node, reason: str) -> None:
    for pair in ((a, b), (b, a)):
        meeting = await meet(*pair)
        assert isinstance(meeting.dialled, ProtocolError)
        assert "refused: " in str(meeting.dialled), "it is told why"
        assert reason in str(meeting.dialled)
        assert isinstance(meeting.accepted, ProtocolError)


async def test_servers_of_two_clusters_do_not_talk(autojump_clock: MockClock) -> None:
    a = Node("a", ABC, configuration(*ABC))
    b = Node("b", ABC, configuration(*ABC, cluster="c2"))
    await both_refuse(a, b, "belongs to the cluster c")


async def test_another_incarnation_of_a_member_is_refused(autojump_clock: MockClock) -> None:
    a = Node("a", ABC, configuration(*ABC))
    b = Node("b", ABC, configuration(*ABC, b="b-9"), incarnation="b-9")
    meeting = await meet(b, a)
    assert "knows b by another incarnation than b-9" in str(meeting.dialled)
    meeting = await meet(a, b)
    assert "knows b by another incarnation than b-9" in str(meeting.dialled)


async def test_two_servers_of_one_name_do_not_talk(autojump_clock: MockClock) -> None:
    for formed in (None, configuration(*ABC)):
        a, twin = Node("a", ABC, formed), Node("a", ABC, formed, incarnation="a-2")
        await both_refuse(a, twin, "two servers have the name a")


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1])
async def test_another_version_is_refused(version: int, autojump_clock: MockClock) -> None:
    a = Node("a", ABC, configuration(*ABC))
    b = Node("b", ABC, configuration(*ABC), version=version)
    meeting = await meet(b, a)
    assert f"b speaks version {version}, this server version {PROTOCOL_VERSION}" in str(
        meeting.dialled
    )
    meeting = await meet(a, b)
    assert f"b speaks version {version}" in str(meeting.dialled)


async def test_a_dialler_that_reached_another_server_is_told_so(autojump_clock: MockClock) -> None:
    a, b = (Node(name, ABC, configuration(*ABC)) for name in "ab")
    meeting = await meet(a, b, expected="c")
    assert "this is b, not c" in str(meeting.dialled)


async def test_a_dialler_checks_whom_it_reached(autojump_clock: MockClock) -> None:
    a = Node("a", ABC, configuration(*ABC))
    near, far = connected()
    await far.send(encode(Node("c", cluster="c1").hello))
    with pytest.raises(ProtocolError, match="expected b, reached c"):
        await a.shake.dial(near, "b")


async def test_a_dialler_that_says_not_whom_it_means_is_refused(autojump_clock: MockClock) -> None:
    node = Node("a", ABC, configuration(*ABC))
    near, far = connected()
    await near.send(encode(attrs.evolve(Node("b").hello, cluster="c1", expected=None)))
    with pytest.raises(ProtocolError, match="this is a, not None"):
        await _accept(node.shake, far)
    assert isinstance(decode(await near.receive()), Refusal)


# -- copies of a disk --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("starts", "nonce"), [(2, "new"), (5, "other"), (4, "first")], ids=["older", "second", "back"]
)
@pytest.mark.parametrize("dials", [True, False])
async def test_a_copy_of_a_disk_is_refused(
    starts: int, nonce: str, dials: bool, autojump_clock: MockClock
) -> None:
    a = Node("a", ABC, configuration(*ABC))
    first = Node("b", ABC, configuration(*ABC), starts=5, nonce="first")
    copy = Node("b", ABC, configuration(*ABC), starts=starts, nonce=nonce)
    assert (await meet(first, a)).accepted == first.id
    meeting = await meet(copy, a) if dials else await meet(a, copy)
    assert "a copy of the disk of b" in meeting.errors()[0]
    again = await (meet(first, a) if dials else meet(a, first))
    assert again.errors() == [], "the one that was there first may stay"


async def test_a_later_start_is_the_same_server(autojump_clock: MockClock) -> None:
    a = Node("a", ABC, configuration(*ABC))
    for starts in (1, 1, 2, 7):
        nonce = f"start {starts}"
        b = Node("b", ABC, configuration(*ABC), starts=starts, nonce=nonce)
        assert (await meet(b, a)).accepted == b.id
        assert (await meet(a, b)).dialled == b.id


async def test_who_is_refused_leaves_no_trace(autojump_clock: MockClock) -> None:
    a = Node("a", ABC, configuration(*ABC))
    await meet(Node("b", ABC, configuration(*ABC, cluster="c2"), starts=9, commands=()), a)
    b = Node("b", ABC, configuration(*ABC), starts=1)
    assert (await meet(b, a)).accepted == b.id
    assert a.shake.gate.ignorance["put"] is None


# -- nonsense and silence ----------------------------------------------------------------------


@pytest.mark.parametrize("first", [Ping(), Refusal("no"), Genesis(configuration(*ABC))])
async def test_what_is_no_hello_is_not_accepted(
    first: WireMessage, autojump_clock: MockClock
) -> None:
    for formed in (None, configuration(*ABC)):
        near, far = connected()
        await near.send(encode(first))
        with pytest.raises(ProtocolError, match="expected a Hello, got"):
            await _accept(Node("a", ABC, formed).shake, far)


async def test_an_answer_that_is_no_hello_is_an_error(autojump_clock: MockClock) -> None:
    near, far = connected()
    await far.send(encode(Ping()))
    with pytest.raises(ProtocolError, match="expected a Hello, got Ping"):
        await Node("a", ABC).shake.dial(near, "b")


async def test_who_has_met_an_unformed_server_hears_a_genesis_or_nothing(
    autojump_clock: MockClock,
) -> None:
    node = Node("b", ABC)
    near, far = connected()
    await near.send(encode(attrs.evolve(Node("a", ABC).hello, initial=ABC, expected="b")))
    await near.send(encode(Ping()))
    with pytest.raises(ProtocolError, match="expected a Genesis, got Ping"):
        await _accept(node.shake, far)


async def test_a_formed_answer_to_an_unformed_dialler_is_the_genesis(
    autojump_clock: MockClock,
) -> None:
    near, far = connected()
    await far.send(encode(Node("b", cluster="c1").hello))
    with pytest.raises(ProtocolError, match="belongs to a cluster that does not name this server"):
        await Node("a", ABC).shake.dial(near, "b")


@pytest.mark.parametrize("junk", [b"", b"GET / HTTP/1.1", b"\x91" * 2000, bytes(100)])
async def test_junk_is_a_protocol_error(junk: bytes, autojump_clock: MockClock) -> None:
    for formed in (None, configuration(*ABC)):
        near, far = connected()
        await near.send(junk)
        await far.send(junk)
        with pytest.raises(ProtocolError):
            await _accept(Node("a", ABC, formed).shake, far)
        with pytest.raises(ProtocolError):
            await Node("a", ABC, formed).shake.dial(near, "b")


async def test_a_silent_dialler_is_given_up_in_time(autojump_clock: MockClock) -> None:
    _, far = connected()
    start = trio.current_time()
    with pytest.raises(ProtocolError, match="no Hello in time"):
        await _accept(Node("a", ABC).shake, far)
    assert trio.current_time() - start == PATIENCE


@pytest.mark.parametrize("capacity", [0, 64], ids=["takes nothing", "says nothing"])
async def test_a_silent_listener_is_given_up_in_time(
    capacity: int, autojump_clock: MockClock
) -> None:
    near, _ = connected(capacity)
    start = trio.current_time()
    with pytest.raises(ProtocolError, match="b did not answer the Hello in time"):
        await Node("a", ABC).shake.dial(near, "b")
    assert trio.current_time() - start == PATIENCE


async def test_waiting_for_the_others_to_come_up_takes_as_long_as_it_takes(
    autojump_clock: MockClock,
) -> None:
    a, b = Node("a", ABC), Node("b", ABC)
    with trio.move_on_after(1000 * PATIENCE) as scope:
        await meet(b, a)
    assert scope.cancelled_caught


async def test_a_stream_that_ends_is_no_business_of_the_handshake(
    autojump_clock: MockClock,
) -> None:
    near, far = connected()
    await far.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await Node("a", ABC).shake.dial(near, "b")
    near, far = connected()
    await near.aclose()
    with pytest.raises(trio.EndOfChannel):
        await _accept(Node("a", ABC).shake, far)


# -- what is said ------------------------------------------------------------------------------


async def said_by(node: Node) -> Hello:
    near, far = connected()
    with pytest.raises(ProtocolError, match="in time"):
        await node.shake.dial(near, "b")
    hello = decode(await far.receive())
    assert isinstance(hello, Hello)
    return hello


async def test_a_server_says_who_it_is_and_whom_it_means(autojump_clock: MockClock) -> None:
    node = Node("a", ["b", "a"], starts=3, cluster="a lie")
    expected = attrs.evolve(node.hello, cluster=None, initial=("a", "b"), expected="b")
    assert await said_by(node) == expected
    formed = Node("a", ["a"], configuration("a"))
    await formed.shake.cluster()
    assert (await said_by(formed)).cluster == "c1"


async def test_the_address_it_listens_at_is_said_from_then_on(autojump_clock: MockClock) -> None:
    node = Node("a", ABC)
    node.shake.listens_at("mem://elsewhere")
    assert (await said_by(node)).address == "mem://elsewhere"


async def test_a_member_that_does_not_know_a_command_is_named(autojump_clock: MockClock) -> None:
    a = Node("a", ABC, configuration(*ABC))
    assert a.shake.gate.ignorance["put"] is None
    assert a.shake.gate.ignorance["new"] == "b", "by the genesis: nobody else may know it"
    for name in "bc":
        assert a.shake.gate.ignorance["new"] == name
        upgraded = Node(name, ABC, configuration(*ABC), commands=("new", "put"))
        await meet(upgraded, a)
    assert a.shake.gate.ignorance["new"] is None
    await meet(a, Node("b", ABC, configuration(*ABC), starts=2, commands=("put",)))
    assert a.shake.gate.ignorance["new"] == "b"
    assert Node("a", ABC).shake.gate.ignorance["new"] is None


async def test_a_listener_whose_dialler_is_gone_is_done(autojump_clock: MockClock) -> None:
    node, wires = Node("b", ABC), connected()
    near: Wire = wires[0]
    await near.send(encode(attrs.evolve(Node("a", ABC).hello, initial=ABC, expected="b")))
    async with trio.open_nursery() as nursery:

        async def accept() -> None:
            with pytest.raises(trio.EndOfChannel):
                await _accept(node.shake, wires[1])

        nursery.start_soon(accept)
        await wait_all_tasks_blocked()
        await near.aclose()


# -- what is refused, and what is remembered ---------------------------------------------------


async def test_a_dialler_that_has_banned_the_other_says_so(autojump_clock: MockClock) -> None:
    a, b = Node("a", ABC, configuration(*ABC)), Node("b", ABC, configuration(*ABC))
    a.shake.gate.ban(b.id)
    near, far = connected()
    await far.send(encode(attrs.evolve(b.hello, cluster="c1", initial=ABC)))
    with pytest.raises(ProtocolError, match="on a copy of the disk of b"):
        await a.shake.dial(near, "b")
    assert isinstance(decode(await far.receive()), Hello)
    refusal = decode(await far.receive())
    assert isinstance(refusal, Refusal)
    assert refusal.expelled_by == a.id


async def test_a_reason_is_never_too_long_to_be_sent(autojump_clock: MockClock) -> None:
    a, odd = Node("a", ABC), Node("b", [f"{number:0500}" for number in range(100)])
    meeting = await meet(odd, a)
    assert "names the initial cluster" in str(meeting.dialled)
    assert len(str(meeting.dialled)) < MAX_ERROR_CHARACTERS + 100


async def test_the_last_hello_of_a_member_is_kept(autojump_clock: MockClock) -> None:
    a = Node("a", ABC, configuration(*ABC))
    gate = a.shake.gate
    assert (gate.newest_hello_of("b"), gate.hello_of(Node("b", ABC, configuration(*ABC)).id)) == (
        None,
        None,
    )
    for starts, at in ((1, "mem://b"), (2, "mem://moved")):
        await meet(Node("b", ABC, configuration(*ABC), starts=starts, address=at), a)
        hello = gate.newest_hello_of("b")
        assert hello is not None
        assert (hello.address, hello.starts) == (at, starts)
    assert gate.hello_of(Node("b", ABC, configuration(*ABC)).id) == hello
    assert gate.hello_of(ServerId("b", "b-2")) is None
    assert gate.knows(Node("b", ABC, configuration(*ABC)).id)
    assert not gate.knows(ServerId("b", "b-2"))
    assert not gate.knows(None)
    assert not Node("b", ABC).shake.gate.knows(Node("b", ABC, configuration(*ABC)).id), (
        "it knows nobody yet"
    )
