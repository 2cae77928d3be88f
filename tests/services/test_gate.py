"""Who is let in while members come and go, and how a newcomer is asked who it is."""

from __future__ import annotations

import contextlib
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trioraft import ProtocolError
from trioraft._gate import Gate
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Member
from trioraft._wire.codec import PROTOCOL_VERSION, Genesis, Hello, Refusal, decode, encode

from .fakes import connected
from .test_handshake import ABC, PATIENCE, Node, configuration, meet

GENESIS = configuration(*ABC)


def later(index: int, *names: str, **incarnations: str) -> Configuration:
    return attrs.evolve(configuration(*names, **incarnations), index=index)


def formed(name: str, newer: Configuration | None = None, **about: Any) -> Node:
    """A server of the cluster; what its log says of the members beyond the genesis is `newer`."""
    node = Node(name, ABC, GENESIS, **about)
    node.newer = newer
    return node


async def both_talk(a: Node, b: Node) -> None:
    for dialler, acceptor in ((a, b), (b, a)):
        meeting = await meet(dialler, acceptor)
        assert (meeting.dialled, meeting.accepted) == (acceptor.id, dialler.id), meeting.errors()


async def neither_talks(a: Node, b: Node, reason: str) -> None:
    for pair in ((a, b), (b, a)):
        errors = (await meet(*pair)).errors()
        assert any(reason in error for error in errors), errors


# -- what the other one knows ------------------------------------------------------------------


async def test_who_is_named_by_a_newer_configuration_is_heard_by_those_it_names(
    autojump_clock: MockClock,
) -> None:
    """This server may be behind: it need not wait for its own log to say so."""
    a = formed("a")
    d = formed("d", later(9, "a", "b", "d"))
    await both_talk(d, a)
    assert set(a.invited) == {9}


async def test_what_was_never_committed_does_not_make_a_newer_one_look_old(
    autojump_clock: MockClock,
) -> None:
    """A leader that was cut off has a configuration at its end that nobody else has."""
    a = formed("a")
    a.shake.gate._known = a.shake._known = lambda: [later(4, *ABC), later(500, *ABC, "e")]
    d = formed("d", later(9, "a", "b", "d"))
    await both_talk(d, a)
    without = formed("d", later(9, "b", "d"))
    assert isinstance(await probe(without, a), Hello), "or d could not take it in again"
    old = formed("d", later(4, "b", "d"))
    assert isinstance(await probe(old, a), str)


async def test_one_that_does_not_name_this_server_proves_nothing(
    autojump_clock: MockClock,
) -> None:
    a = formed("a")
    await neither_talks(formed("d", later(9, "b", "d")), a, "d is no member of this cluster")
    other = formed("d", later(9, "a", "b", "d", a="a-0"))
    await neither_talks(other, a, "d is no member of this cluster")
    assert a.invited == []


async def test_one_that_does_not_name_who_shows_it_proves_nothing(
    autojump_clock: MockClock,
) -> None:
    a = formed("a")
    await neither_talks(formed("d", later(9, "a", "b")), a, "d is no member of this cluster")
    assert a.invited == []


@pytest.mark.parametrize("index", [3, 5])
async def test_an_older_one_proves_nothing(index: int, autojump_clock: MockClock) -> None:
    """Who was removed shows what it knows, and is no member for that."""
    a = formed("a", later(5, "a", "b"))
    a.shake._known = lambda: [later(5, "a", "b")]
    a.shake.gate._known = a.shake._known
    gone = formed("c", later(index, "a", "b", "c"))
    assert "no member of this cluster" in str((await meet(gone, a)).dialled)
    assert a.invited == []


async def test_whom_any_configuration_names_that_may_be_in_force_is_heard(
    autojump_clock: MockClock,
) -> None:
    """The newest one may yet be cut; without those it leaves out an election could be lost.

    etcd-io/etcd#10998.
    """
    a = formed("a", later(5, "a", "b"))
    await both_talk(formed("c"), a)


async def test_one_of_another_cluster_proves_nothing(autojump_clock: MockClock) -> None:
    a = formed("a")
    foreign = attrs.evolve(later(9, "a", "b", "d"), cluster="c2")
    d = Node("d", ABC, attrs.evolve(GENESIS, cluster="c2"))
    d.newer = foreign
    await neither_talks(d, a, "belongs to the cluster c")
    lie = attrs.evolve(
        formed("d").hello, cluster="c1", expected="a", configuration=foreign, initial=ABC
    )
    objection = a.shake.gate.objection(lie)
    assert objection is not None
    assert not objection.expels
    assert a.invited == []


async def test_a_namesake_of_a_member_is_told_that_it_is_another_one(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    a = formed("a", later(5, "a", "b", "c", c="c-7"))
    a.shake.gate._known = lambda: [later(5, "a", "b", "c", c="c-7")]
    meeting = await meet(formed("c"), a)
    assert "knows c by another incarnation than c-1" in str(meeting.dialled)
    assert "add_peer takes it in anew" in str(meeting.dialled)
    assert "c-7" not in str(meeting.dialled), "an incarnation is all that a stranger lacks"
    assert "c-7" in caplog.text


# -- banned ------------------------------------------------------------------------------------


async def test_who_was_banned_is_expelled_each_time(autojump_clock: MockClock) -> None:
    a, b = formed("a"), formed("b")
    await both_talk(a, b)
    a.shake.gate.ban(b.id)
    assert a.shake.gate.is_banned(b.id)
    for pair in ((a, b), (b, a)):
        before = len(b.expelled)
        await meet(*pair)
        if pair[0] is b:  # who is dialled hears of it in the conversation
            assert len(b.expelled) == before + 1
            assert "a says: another server runs, or has run, on a copy" in b.expelled[-1]
    assert a.expelled == []


async def test_only_members_can_expel(autojump_clock: MockClock) -> None:
    b = formed("b")
    for stranger in (ServerId("a", "a-9"), ServerId("z", "z-1"), None):
        near, far = connected()
        await far.send(encode(Refusal("go away", stranger)))
        with pytest.raises(ProtocolError, match="a refused: go away"):
            await b.shake.dial(near, "a")
    assert b.expelled == []
    near, far = connected()
    await far.send(encode(Refusal("go away", formed("a").id)))
    with pytest.raises(ProtocolError, match="a refused: go away"):
        await b.shake.dial(near, "a")
    assert b.expelled == ["a says: go away"]


def test_an_unformed_server_is_expelled_by_nobody() -> None:
    assert not Node("b", ABC).shake.gate.knows(ServerId("a", "a-1"))


@pytest.mark.parametrize(
    ("starts", "nonce", "expels"),
    [(4, "new", True), (5, "other", True), (5, "first", False), (6, "new", False)],
)
def test_what_says_that_a_disk_is_a_copy(starts: int, nonce: str, expels: bool) -> None:
    a = formed("a")
    b = attrs.evolve(formed("b").hello, cluster="c1", starts=5, nonce="first")
    assert a.shake.gate.objection(b) is None
    a.shake.gate.remember(b)
    found = a.shake.gate.objection(attrs.evolve(b, starts=starts, nonce=nonce))
    assert (found is not None and found.expels) is expels


def test_a_member_in_a_new_incarnation_begins_to_count_anew() -> None:
    a = formed("a", later(5, "a", "b", "c", b="b-2"))
    old = attrs.evolve(formed("b").hello, cluster="c1", starts=50)
    a.shake.gate.remember(old)
    anew = attrs.evolve(old, incarnation="b-2", starts=1, nonce="new")
    assert a.shake.gate.objection(anew) is None
    a.shake.gate.remember(anew)
    assert a.shake.gate.newest_hello_of("b") == anew
    assert a.shake.gate.hello_of(old.id) is None
    assert a.shake.gate.hello_of(anew.id) == anew


def test_of_those_who_are_no_members_any_more_nothing_is_kept() -> None:
    a = formed("a", later(5, "a", "b"))
    a.shake.gate.remember(attrs.evolve(formed("c").hello, cluster="c1"))
    assert a.shake.gate.newest_hello_of("c") is None


def test_learners_are_asked_what_they_know_as_well() -> None:
    """An entry that a learner can't read would stop it."""
    learner = Member(ServerId("d", "d-1"), "mem://d", ("old",))
    known = attrs.evolve(later(5, "a", "b"), learners=(learner,))
    a = formed("a", known)
    gate = Gate(a.hello, ABC, lambda: [known], lambda: False, a.invited.append)
    assert gate.ignorance["put"] == "d"


# -- the genesis of a newcomer -----------------------------------------------------------------


@pytest.mark.parametrize("formed_dials", [True, False])
async def test_a_newcomer_takes_the_genesis_from_who_shows_that_it_is_a_member(
    formed_dials: bool, autojump_clock: MockClock
) -> None:
    member, newcomer = formed("a", later(9, *ABC, "d")), Node("d")
    pair = (member, newcomer) if formed_dials else (newcomer, member)
    meeting = await meet(*pair)
    assert (meeting.dialled, meeting.accepted) == (None, None)
    assert newcomer.disk == [GENESIS], "the cluster's first one, which does not name it"
    assert newcomer.invited == [9], "and it knows that it has to catch up until there"
    newcomer.newer = None
    meeting = await meet(member, newcomer)
    assert (meeting.dialled, meeting.accepted) == (newcomer.id, member.id)


@pytest.mark.parametrize("formed_dials", [True, False])
@pytest.mark.parametrize(
    "newest", [None, later(9, *ABC), later(9, *ABC, "d", d="d-0")], ids=["none", "not", "other"]
)
async def test_a_newcomer_that_nobody_has_taken_in_takes_no_genesis(
    newest: Configuration | None, formed_dials: bool, autojump_clock: MockClock
) -> None:
    member, newcomer = formed("a", newest), Node("d")
    await meet(*((member, newcomer) if formed_dials else (newcomer, member)))
    assert newcomer.disk == []
    assert not newcomer.shake.formed.is_set()


async def test_a_genesis_with_a_newest_that_leaves_the_newcomer_out_is_not_taken(
    autojump_clock: MockClock,
) -> None:
    """The first one names its name and incarnation: it was a member, and was removed."""
    newcomer = Node("c", ABC)
    near, far = connected()
    await far.send(encode(Genesis(GENESIS, later(9, "a", "b"))))
    with pytest.raises(ProtocolError, match="does not name this server's incarnation"):
        await newcomer.shake.dial(near, "a")
    assert newcomer.disk == []


@pytest.mark.parametrize("formed_dials", [True, False])
async def test_who_starts_from_a_snapshot_of_its_own_is_not_taken_in(
    formed_dials: bool, autojump_clock: MockClock
) -> None:
    """Its log begins with a state that is not this cluster's."""
    member, other = formed("a", later(9, *ABC, "d")), Node("d", restored="ab12")
    meeting = await meet(*((member, other) if formed_dials else (other, member)))
    assert any("starts from a snapshot" in error for error in meeting.errors())
    assert other.disk == []


# -- a probe -----------------------------------------------------------------------------------


async def probe(asker: Node, asked: Node, expected: str | None = None) -> Hello | str:
    """What the probe brings, or why it brings nothing."""
    near, far = connected()
    found: list[Hello | str] = []

    async def ask() -> None:
        try:
            found.append(await asker.shake.probe(near, expected or asked.hello.name))
        except ProtocolError as error:
            found.append(str(error))
        await near.aclose()

    async def answer() -> None:
        hello = await asked.shake.first_word(far)
        assert isinstance(hello, Hello)
        with contextlib.suppress(ProtocolError):
            assert await asked.shake.accept(far, hello) is None, "no conversation follows"
        await far.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(answer)
    return found[0]


async def test_a_probe_brings_who_is_there_and_leaves_it_as_it_was(
    autojump_clock: MockClock,
) -> None:
    newcomer, member = Node("d", commands=("put", "x")), formed("b")
    found = await probe(formed("a"), newcomer)
    assert isinstance(found, Hello)
    assert (found.id, found.commands, found.cluster) == (newcomer.id, ("put", "x"), None)
    assert newcomer.disk == []
    found = await probe(formed("a"), member)
    assert isinstance(found, Hello)
    assert (found.id, found.cluster) == (member.id, "c1")


async def test_who_was_removed_tells_its_incarnation_to_who_asks_for_it(
    autojump_clock: MockClock,
) -> None:
    """It may know nobody of today's members; only so can it be taken in again."""
    gone = formed("c", later(5, "a", "b"))
    gone.shake.gate._known = gone.shake._known = lambda: [later(5, "a", "b")]
    asker = formed("z", later(20, "x", "y", "z"))
    assert isinstance(await probe(asker, gone), str), "it may be a member by what it has not read"
    gone.waits = True
    found = await probe(asker, gone)
    assert isinstance(found, Hello)
    assert found.id == gone.id
    assert found.configuration is None, "who the others are is not for everybody"
    meeting = await meet(asker, gone)
    assert meeting.errors(), "and it talks to no stranger"


@pytest.mark.parametrize(
    ("asked", "expected", "reason"),
    [
        (Node("d"), "e", "this is d, not e"),
        (Node("d", ("d",), configuration("d", cluster="c2")), "d", "cluster c1, this server to c2"),
        (Node("d", version=PROTOCOL_VERSION + 1), "d", "d speaks version"),
        (Node("d", restored="ab12"), "d", "starts from a snapshot of its own"),
    ],
    ids=["name", "cluster", "version", "restored"],
)
async def test_a_probe_of_the_wrong_one_says_why(
    asked: Node, expected: str, reason: str, autojump_clock: MockClock
) -> None:
    found = await probe(formed("a"), asked, expected)
    assert isinstance(found, str)
    assert reason in found


async def test_an_expelled_server_is_not_taken_in_with_its_old_disk(
    autojump_clock: MockClock,
) -> None:
    asker, asked = formed("a"), formed("b")
    asker.shake.gate.ban(asked.id)
    assert "needs an empty data directory" in str(await probe(asker, asked))


async def test_a_probe_that_is_not_answered_ends_in_time(autojump_clock: MockClock) -> None:
    near, _ = connected()
    began = trio.current_time()
    with pytest.raises(ProtocolError, match="d did not answer the Hello in time"):
        await formed("a").shake.probe(near, "d")
    assert trio.current_time() - began == PATIENCE


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Genesis(GENESIS), "expected a Hello, got Genesis"),
        (attrs.evolve(Node("e").hello), "expected d, reached e"),
        (attrs.evolve(Node("d").hello, version=7), "d speaks version 7"),
        (attrs.evolve(Node("d").hello, cluster="c9"), "belongs to the cluster c9, not to c1"),
        (Refusal("busy"), "d refused: busy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_whatever_answers_a_probe_is_looked_at(
    answer: Any, reason: str, autojump_clock: MockClock
) -> None:
    near, far = connected()
    await far.send(encode(answer))
    with pytest.raises(ProtocolError, match=reason):
        await formed("a").shake.probe(near, "d")
    said = decode(await far.receive())
    assert isinstance(said, Hello)
    assert said.probes


# -- what is said ------------------------------------------------------------------------------


@pytest.mark.parametrize("newest", [None, later(9, *ABC, "d")])
async def test_a_hello_shows_the_newest_configuration_unless_all_have_it(
    newest: Configuration | None, autojump_clock: MockClock
) -> None:
    near, far = connected()
    with pytest.raises(ProtocolError, match="in time"):
        await formed("a", newest).shake.dial(near, "b")
    hello = decode(await far.receive())
    assert isinstance(hello, Hello)
    assert hello.configuration == newest
