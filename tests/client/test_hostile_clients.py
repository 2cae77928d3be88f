"""Clients that speak nonsense, ask without end or never read: no server falls, or grows, for them.

Each test ends by an honest client's command: `a_running_cluster` fails if any server has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import pytest
import trio
import trio.testing

import trioraft
import trioraft._desk
import trioraft._transport.peers
from tests.client.worlds import HERE, calls_of, client_of, forwarders, leftovers, stranger
from tests.server.worlds import Cluster, Lines, Room, Say, a_running_cluster, in_virtual_time
from trioraft import Applied, CommandFailed
from trioraft._commands import Vocabulary
from trioraft._desk import Desk
from trioraft._limits import (
    MAX_ANSWERS_BYTES,
    MAX_CALLS_PER_MESSAGE,
    MAX_COMMAND_BYTES,
    MAX_ERROR_CHARACTERS,
    MAX_MESSAGE_BYTES,
    MAX_PENDING_COMMANDS,
    MAX_PENDING_QUERIES,
    MAX_WATCHES,
)
from trioraft._sessions import Call, Code, pack_call
from trioraft._wire.asking import (
    Ask,
    Caller,
    Calls,
    Changes,
    ManageSession,
    ReadIndex,
    Results,
    Told,
    WatchFrom,
    Welcome,
)
from trioraft._wire.codec import PROTOCOL_VERSION, Hello, Pong, Refusal, WireMessage
from trioraft._wire.strict import pack, unpack

_LOST = (trio.EndOfChannel, trio.BrokenResourceError)


@trioraft.command("grow")
@attrs.frozen
class Grow:
    """Comes to so many bytes."""

    size: int

    def apply(self, machine: Odd, applied: Applied) -> bytes:
        machine.heard("grow", applied)
        return bytes(self.size)


@trioraft.command("blame")
@attrs.frozen
class Blame:
    """Raises an error whose text is odd."""

    how: str

    def apply(self, machine: Odd, applied: Applied) -> None:
        machine.heard("blame", applied)
        match self.how:
            case "long":
                raise ValueError("x" * (MAX_MESSAGE_BYTES + 1))
            case "half":
                raise ValueError("\ud800")
            case "mute":
                raise Mute
            case _:
                raise type("N" * 100_000, (Exception,), {})("x")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@trioraft.query("large")
@attrs.frozen
class Large:
    size: int

    def answer(self, machine: Odd) -> bytes:
        return bytes(self.size)


@trioraft.command("picky")
@attrs.frozen
class Picky:
    """Its validator raises what no library expects."""

    number: int = attrs.field()

    @number.validator
    def _check(self, _: object, value: int) -> None:
        assert value > 0

    def apply(self, machine: Odd, applied: Applied) -> int:
        return self.number


class Odd(Room):
    commands: ClassVar[Sequence[type[Any]]] = (Grow, Blame, Large, Picky, Say, Lines)


VOCABULARY = Vocabulary(Odd.commands)


async def check_alive(cluster: Cluster) -> None:
    async with client_of(cluster, here="mem://honest") as client:
        with trio.fail_after(10):
            await client.do(Say("still there"))
    await cluster.settled()
    assert set(leftovers(cluster).values()) == {(0, 0, 0)}


def first_words() -> dict[str, WireMessage | bytes]:
    long = "x" * (MAX_MESSAGE_BYTES - 200)
    longest = "x" * (MAX_MESSAGE_BYTES - 50)
    hello = Hello(long, "n2", "i", 1, "n", "a", PROTOCOL_VERSION, (), (), "n1")
    return {
        "garbage": b"\xff\x00",
        "nothing": b"",
        "another version": Caller(PROTOCOL_VERSION + 1),
        "another cluster": Caller(PROTOCOL_VERSION, "other"),
        "a cluster with a long name": Caller(PROTOCOL_VERSION, longest),
        "a server of a cluster with a long name": hello,
        "a server that expects a long name": attrs.evolve(hello, cluster=None, expected=long),
        "no first word": Pong(),
    }


@pytest.mark.parametrize("what", first_words())
@in_virtual_time
async def test_who_begins_badly_is_refused(what: str) -> None:
    async with a_running_cluster(1, machine=Odd) as cluster:
        async with stranger(cluster, "n1", greets=False) as other:
            await other.send(first_words()[what])
            with pytest.raises(_LOST):
                while True:
                    assert isinstance(await other.receive(), Refusal)
        await check_alive(cluster)


def later_words() -> dict[str, WireMessage | bytes]:
    return {
        "garbage": b"\xff\x00",
        "an answer": Results(()),
        "a server's message": Hello("c", "n2", "i", 1, "n", "a", PROTOCOL_VERSION, ()),
        "a welcome": Welcome("c", "n1", None, None),
        "too many commands": Calls(1, (b"",) * (MAX_CALLS_PER_MESSAGE + 1)),
        "a hundred thousand commands": Calls(1, (b"",) * 100_000),
        "a question without a query": Ask(1, (), "anything"),
        "a strange verb": ManageSession(1, "shut", 1),
        "a huge message": bytes(MAX_MESSAGE_BYTES),
    }


@pytest.mark.unmeasured
@pytest.mark.parametrize("name", ["n1", "n2", "n3"])
@pytest.mark.parametrize("what", later_words())
@in_virtual_time
async def test_nonsense_ends_that_stream_and_no_other(what: str, name: str) -> None:
    """Nor the one that carries what others have forwarded."""
    async with a_running_cluster(3, machine=Odd) as cluster:
        leader = await cluster.settled()
        cluster.network.cut(HERE, cluster.addresses[leader.name])
        async with client_of(cluster) as client, stranger(cluster, name) as other:
            await client.do(Say("a"))
            lines = client._connected.now, forwarding(cluster)
            await other.send(later_words()[what])
            with pytest.raises(_LOST):
                await other.receive()
            await client.do(Say("b"))
            assert (client._connected.now, forwarding(cluster)) == lines
        await check_alive(cluster)


def forwarding(cluster: Cluster) -> list[Any]:
    """The lines on which followers forward."""
    found = forwarders(cluster, *cluster.names)
    return sorted((f._line for f in found if f._line is not None), key=id)


def bad_commands() -> dict[str, bytes]:
    return {
        "cut short": b"x" * 7,
        "empty": pack_call(Call(0, 1, 1), b""),
        "garbage": pack_call(Call(0, 1, 1), b"\xff" * 100),
        "a long name": pack_call(Call(0, 1, 1), pack(["x" * (MAX_COMMAND_BYTES - 100), {}])),
        "a long field": pack_call(
            Call(0, 1, 1), pack(["say", {"x" * (MAX_COMMAND_BYTES - 100): 1}])
        ),
        "a wrong type": pack_call(Call(0, 1, 1), pack(["grow", {"size": "1"}])),
        "too large": pack_call(Call(0, 1, 1), pack(["say", {"text": "x" * MAX_COMMAND_BYTES}])),
        "a query": pack_call(Call(0, 1, 1), pack(["lines", {}])),
        "not valid": pack_call(Call(0, 1, 1), pack(["picky", {"number": -1}])),
    }


@pytest.mark.parametrize("through", ["the leader", "a follower"])
@in_virtual_time
async def test_bad_commands_are_rejected_in_few_words(through: str) -> None:
    async with a_running_cluster(3, machine=Odd) as cluster:
        leader = await cluster.settled()
        name = leader.name if through == "the leader" else cluster.followers()[0]
        async with stranger(cluster, name) as other:
            for number, data in enumerate(bad_commands().values(), 1):
                await other.send(Calls(number, (data,)))
                ((told, code, index, _, why),) = (await other.of(Results)).results
                assert (told, code, index) == (number, Code.REJECTED, 0)
                assert 0 < len(unpack(why)[1]) <= MAX_ERROR_CHARACTERS
        before = leader.status().last_index
        assert not leader.state_machine.lines
        await check_alive(cluster)
        assert leader.status().last_index - before == 3, "a session, a command, and its end"


@in_virtual_time
async def test_what_was_forwarded_is_forwarded_no_further() -> None:
    """Two servers that take each other for the leader would do so for ever."""
    async with a_running_cluster(3, machine=Odd) as cluster:
        leader = await cluster.settled()
        async with stranger(cluster, cluster.followers()[0]) as other:
            call = pack_call(Call(0, 1, 1), pack(["say", {"text": "x"}]))
            await other.send(Calls(1, (call,), forwarded=True))
            await other.send(ManageSession(2, "open", forwarded=True))
            told: list[Any] = []
            while len(told) < 2:
                told += (await other.of(Results)).results
            for _, code, *_, where in told:
                assert code == Code.NOT_LEADER
                assert unpack(where) == [leader.name, cluster.addresses[leader.name]]
        await check_alive(cluster)


@pytest.mark.parametrize("how", ["long", "half", "mute", "name"])
@in_virtual_time
async def test_errors_with_odd_texts_are_results_like_others(how: str) -> None:
    """Every server would meet such an entry again at each start."""
    async with a_running_cluster(3, machine=Odd) as cluster, client_of(cluster) as client:
        pending = client.prepare(Blame(how))
        for _ in range(2):
            with pytest.raises(CommandFailed) as caught:
                await pending.do()
        assert len(str(caught.value)) <= 7 * MAX_ERROR_CHARACTERS
        leader = await cluster.settled()
        with pytest.raises(Exception):  # noqa: B017  whatever it raised, here it is itself
            await leader.do(Blame(how))
        await cluster.restart(*cluster.names)
        await check_alive(cluster)


# -- without end --------------------------------------------------


class Peek:
    """Finds the desks of one server's clients."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.desks: list[Desk] = []
        made = Desk.__init__

        def init(desk: Desk, *given: Any) -> None:
            made(desk, *given)
            self.desks.append(desk)

        monkeypatch.setattr(Desk, "__init__", init)


def bytes_waiting(desk: Desk) -> int:
    cells = [c for m in desk._conversation._queue for c in getattr(m, "__closure__", None) or ()]
    answers = [c.cell_contents for c in cells if isinstance(c.cell_contents, Told)]
    told = sum(len(data) for message in answers for _, data in message.answers)
    return told + sum(len(result[-1]) for result in desk._results)


@pytest.mark.parametrize("what", ["results", "answers", "answers, one by one"])
def test_who_never_reads_is_held_back_and_then_given_up(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    peek = Peek(monkeypatch)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(1, machine=Odd) as cluster:
            cluster.network.throttle(cluster.addresses["n1"], "mem://stranger", 1000)
            sent = 0
            async with stranger(cluster, "n1") as other:
                desk = peek.desks[-1]

                async def ask() -> None:
                    nonlocal sent
                    size = 900_000
                    while True:
                        match what:
                            case "results":
                                data = pack(["grow", {"size": size}])
                                await other.send(calls_of(0, *[data] * 50, first=sent + 1))
                            case "answers":
                                query = pack(["large", {"size": size}])
                                await other.send(Ask(sent + 1, (query,) * 50, "linearizable"))
                            case _:
                                query = pack(["large", {"size": size}])
                                for _ in range(50):
                                    sent += 1
                                    await other.send(Ask(sent, (query,), "linearizable"))
                        sent += 50
                        assert bytes_waiting(desk) <= MAX_ANSWERS_BYTES + 2_000_000
                        assert desk._calls <= MAX_PENDING_COMMANDS + MAX_CALLS_PER_MESSAGE
                        await trio.sleep(0.01)

                with trio.move_on_after(1), pytest.raises(_LOST):
                    await ask()
                assert bytes_waiting(desk) <= MAX_ANSWERS_BYTES + 2_000_000
            await check_alive(cluster)

    check()


@in_virtual_time
async def test_questions_and_watches_without_end_are_told_to_come_again() -> None:
    async with a_running_cluster(1, machine=Odd) as cluster:
        async with stranger(cluster, "n1") as other:
            for number in range(1, MAX_WATCHES + 3):
                await other.send(WatchFrom(number, (1 << 63) - 2))
            for number in (MAX_WATCHES + 1, MAX_WATCHES + 2):
                answer = await other.of(Changes)
                assert (answer.number, answer.code) == (number, Code.BUSY)
            later = Ask(1, (pack(["lines", {}]),) * 1000, "at_least", cluster_id(cluster), 1 << 62)
            for number in range(1, 11):
                await other.send(attrs.evolve(later, first=1000 * number))
            for number in range(MAX_PENDING_QUERIES // 1000 + 1, 11):
                told = await other.of(Told)
                assert (told.first, told.code) == (1000 * number, Code.BUSY)
        await check_alive(cluster)


def cluster_id(cluster: Cluster) -> str:
    found = cluster.up[0].status().cluster
    assert found is not None
    return found


@in_virtual_time
async def test_queries_that_cannot_be_answered_are_answered_so() -> None:
    async with a_running_cluster(1, machine=Odd) as cluster:
        async with stranger(cluster, "n1") as other:
            good = pack(["lines", {}])
            queries = (
                good,
                b"\xff",
                pack(["say", {"text": "x"}]),
                pack(["large", {"size": 1 << 21}]),
            )
            await other.send(Ask(1, queries, "linearizable"))
            told = await other.of(Told)
            assert [code for code, _ in told.answers] == [
                0,
                Code.REJECTED,
                Code.REJECTED,
                Code.RAISED,
            ]
            for level, cluster_name in (("fresh", ""), ("at_least", "other")):
                await other.send(Ask(9, (good,), level, cluster_name, 1))
                assert (await other.of(Told)).code == Code.REJECTED
        await check_alive(cluster)


@in_virtual_time
async def test_many_large_answers_come_in_several_messages_and_the_rest_later() -> None:
    async with a_running_cluster(1, machine=Odd) as cluster, client_of(cluster) as client:
        answers: list[int] = []

        async def ask() -> None:
            answers.append(len((await client.read(Large(1 << 19))).value))

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(ask)
        assert answers == [1 << 19] * 100


@in_virtual_time
async def test_queries_have_their_turns_and_are_confirmed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trioraft._desk, "TURN_SECONDS", -1.0)  # over with the first one
    async with a_running_cluster(3, machine=Odd) as cluster:
        await cluster.settled()
        follower, heard = cluster.followers()[0], cluster.overhear()
        async with stranger(cluster, follower) as other:
            await other.send(Ask(1, (pack(["large", {"size": 1}]),) * 20, "linearizable"))
            for _ in range(20):
                told = await other.of(Told)
                assert (told.first, told.level) == (1, "linearizable")
                assert [code for code, _ in told.answers] == [0]
        assert len([1 for *_, message in heard if isinstance(message, ReadIndex)]) == 1
        await check_alive(cluster)


@in_virtual_time
async def test_who_says_nothing_is_given_up() -> None:
    async with a_running_cluster(1, machine=Odd) as cluster:
        async with stranger(cluster, "n1") as other:
            began = trio.current_time()
            with pytest.raises(_LOST):
                while True:
                    await other.connection.receive()
            assert trio.current_time() - began <= 2 * trioraft._desk.PATIENCE + 1
        await check_alive(cluster)


@in_virtual_time
async def test_more_clients_than_are_served_are_refused_and_go_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many there are, the servers find a place at each other."""
    monkeypatch.setattr(trioraft._transport.peers, "MAX_CALLERS", {False: 2, True: 2})
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        async with (
            stranger(cluster, leader.name, here="mem://one"),
            stranger(cluster, leader.name, here="mem://two"),
            client_of(cluster) as client,
        ):
            await client.do(Say("through another one"))
            line = client._connected.now
            assert line is not None
            assert line.welcome is not None
            assert line.welcome.name != leader.name
