"""What strangers, and members that speak nonsense, can and cannot do."""

from __future__ import annotations

import ast
import contextlib
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.server.puppets import Puppet, append, state_on
from tests.server.worlds import (
    TIMEOUT,
    Cluster,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
)
from trioraft import StateChange, Status, TermChange, WebSocketTransport
from trioraft._limits import LINK_QUEUE_MESSAGES
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.messages import (
    AppendEntries,
    AppendEntriesReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
)
from trioraft._wire.codec import (
    PROTOCOL_VERSION,
    Genesis,
    Hello,
    Ping,
    Pong,
    Refusal,
    WireMessage,
    decode,
    encode,
)
from trioraft._wire.frames import Kind, frame
from trioraft._wire.strict import pack, unpack
from trioraft.abc import Connection
from trioraft.testing import MemoryTransport

HUNG_UP = (trio.EndOfChannel, trio.BrokenResourceError)
PACKAGE = Path(__file__).parents[2] / "trioraft"


def hello(cluster: str | None, to: str, **about: Any) -> Hello:
    given: dict[str, Any] = {
        "cluster": cluster,
        "name": "stranger",
        "incarnation": "nobody",
        "starts": 1,
        "nonce": "nonce",
        "address": "mem://stranger",
        "version": PROTOCOL_VERSION,
        "commands": ("refuse", "say"),
        "initial": ("n1", "n2", "n3"),
        "expected": to,
    }
    return Hello(**(given | about))


@contextlib.asynccontextmanager
async def stranger(cluster: Cluster, to: str) -> AsyncGenerator[Connection]:
    transport = MemoryTransport(cluster.network, "mem://stranger")
    async with transport.connect(cluster.addresses[to]) as connection:
        yield connection


async def hangs_up(connection: Connection, within: float) -> list[WireMessage]:
    """Wait until the other side hangs up, and return what it said before."""
    said: list[WireMessage] = []
    with trio.fail_after(within), contextlib.suppress(*HUNG_UP):
        while True:
            said.append(decode(await connection.receive()))
    return said


class Unmoved:
    """What a cluster is like before an attack, and whether it is like that afterwards."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._before = self._look()
        self._told = len(cluster.events)

    def _look(self) -> list[tuple[Status, bytes | None, list[bytes]]]:
        return [
            (
                attrs.evolve(self._cluster[name].status(), peers=()),
                disk.kept._state,
                list(disk.frames),
            )
            for name, disk in sorted(self._cluster.disks.items())
            if self._cluster.is_up(name)
        ]

    def check(self, after: str) -> None:
        assert self._look() == self._before, after
        told = [event for _, event in self._cluster.events[self._told :]]
        assert not [event for event in told if isinstance(event, StateChange | TermChange)], after
        assert not self._cluster.failures, after


# -- X1, X4: who has not said who it is --------------------------------------------------------


@in_virtual_time
async def test_x1_a_hello_from_another_cluster_is_refused_at_once_and_changes_nothing() -> None:
    """Whatever else in it is right: a member's name and incarnation, many starts, new commands."""
    async with a_running_cluster(3) as cluster:
        await cluster.settled()
        state = state_on(cluster.disks["n2"])
        calm = Unmoved(cluster)
        for about in (
            {},
            {"name": "n2", "incarnation": state.incarnation},
            {"name": "n2", "incarnation": state.incarnation, "starts": 10**6, "commands": ()},
        ):
            async with stranger(cluster, "n1") as connection:
                await connection.send(encode(hello("another cluster", "n1", **about)))
                (answer,) = await hangs_up(connection, within=1)
                assert isinstance(answer, Refusal)
                assert answer.reason
        await trio.sleep(2)
        calm.check("a hello")
        assert await cluster.say("all is well") == 1


MEMBERS = Configuration("c", (Member(ServerId("n1", "x"), "mem://n1"),))
UNASKED: list[WireMessage] = [
    RequestVote(10**6, 10**6, 10**5),
    RequestVoteReply(10**6, vote_granted=True),
    PreVote(10**6, 10**6, 10**5),
    PreVoteReply(10**6, 10**6 + 1, vote_granted=True),
    AppendEntries(10**6, 1, 0, 0, 10**6, Entries(1, 0)),
    append(10**6, (0, 0), (10**6, "from nobody"), commit=10**6),
    AppendEntriesReply(10**6, 1, True, 10**6, 0.15),
    Genesis(MEMBERS),
    Refusal("you"),
    Ping(),
    Pong(),
]


@pytest.mark.parametrize("formed", [True, False])
@in_virtual_time
async def test_x4_what_comes_before_a_hello_changes_not_a_byte(formed: bool) -> None:
    """A vote, entries, a genesis: from whoever has not introduced itself."""
    async with a_cluster(3) as cluster:
        if formed:
            await cluster.formed()
        else:
            await cluster.start("n1", "n2")
            await trio.sleep(1)
        calm = Unmoved(cluster)
        for message in UNASKED:
            async with stranger(cluster, "n1") as connection:
                await connection.send(encode(message))
                assert await hangs_up(connection, within=1) == [], message
            await trio.sleep(0.2)
            calm.check(str(message))
        await cluster.start()
        await cluster.settled()


# -- X6, X13: nonsense -------------------------------------------------------------------------


def tampered(message: WireMessage, **changes: Any) -> bytes:
    return pack({**unpack(encode(message)), **changes})


VOTE = RequestVote(7, 3, 2)
APPEND = append(7, (1, 1), (7, "x"))
GRANT = RequestVoteReply(7, vote_granted=True)
ANSWER = AppendEntriesReply(1, 1, True, 1, 0.15)
TIMELESS = frame(2, 7, Kind.COMMAND, b"")

HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "zeros": bytes(100),
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "json": b'{"t": "vote", "term": 7}',
    "a pickle": b"cos\nsystem\n(S'true'\ntR.",
    "a claim of 4 GiB": b"\xdb\xff\xff\xff\xff",
    "a map of 2^32": b"\xdf\xff\xff\xff\xff",
    "a list": pack(["t", "vote"]),
    "no type": pack({"term": 7}),
    "an unknown type": pack({"t": "snapshot"}),
    "a type that is none": pack({"t": 7}),
    "two messages": encode(VOTE) + encode(VOTE),
    "half a message": encode(VOTE)[:-1],
    "a key missing": pack({"t": "vote", "term": 7}),
    "depth": b"\x91" * 100_000 + b"\xc0",
    "depth in a field": b"\x82\xa1t\xa4vote\xa4term" + b"\x91" * 5000 + b"\xc0",
    "a lone surrogate": b"\x81\xa1t\xa3\xed\xa0\x80",
    "an integer key": b"\x82\x01\x02\xa1t\xa4vote",
    "a truth value as a text": tampered(GRANT, vote_granted="false"),
    "a truth value as null": tampered(GRANT, vote_granted=None),
    "a truth value as a number": tampered(GRANT, vote_granted=1),
    "a term as a float": tampered(VOTE, term=7.0),
    "a term as a truth value": tampered(VOTE, term=True),
    "a term as a text": tampered(VOTE, term="7"),
    "a term of 5,000 digits": tampered(VOTE, term="9" * 5000),
    "a term below zero": tampered(VOTE, term=-1),
    "a term beyond all": tampered(VOTE, term=2**64 - 1),
    "no number": tampered(VOTE, term=float("nan")),
    "null": tampered(VOTE, last_log_index=None),
    "a time without end": tampered(ANSWER, stickiness=float("inf")),
    "a time in the past": tampered(ANSWER, stickiness=-1.0),
    "entries of nothing": tampered(APPEND, entries=[2, b"\0" * 1_000_000]),
    "entries as a text": tampered(APPEND, entries="entries"),
    "entries elsewhere": tampered(APPEND, entries=[9, b""]),
    "an entry without a time": tampered(APPEND, entries=[2, TIMELESS]),
    "an entry of another term": tampered(APPEND, term=6),
    "an entry with a flipped bit": encode(APPEND)[:-1] + bytes([encode(APPEND)[-1] ^ 1]),
    "a configuration of nobody": pack({"t": "genesis", "configuration": None}),
    "an extension": b"\x81\xa1t\xd4\x05\x01",
}


@in_virtual_time
async def test_x6_x13_nonsense_in_place_of_a_hello_ends_that_stream_and_nothing_else() -> None:
    """The task that reads it ends, and no other; the server lives and serves (CWE-248, CWE-20)."""
    async with a_running_cluster(3) as cluster:
        leader, calm = await cluster.settled(), Unmoved(cluster)
        for what, data in HOSTILE.items():
            for name in cluster.names:
                async with stranger(cluster, name) as connection:
                    await connection.send(data)
                    assert await hangs_up(connection, within=1) == [], what
            calm.check(what)
        assert await leader.do(Say("all is well")) == 1


@in_virtual_time
async def test_x6_x13_nonsense_from_a_member_ends_that_stream_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In place of a request: to the leader and to a follower.  Logged, with a reason."""
    caplog.set_level(logging.DEBUG, logger="trioraft")
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        gone, other = cluster.followers()
        await cluster.crash(gone)
        puppet, calm = Puppet(cluster, gone), Unmoved(cluster)
        for what, data in HOSTILE.items():
            for name in (leader.name, other):
                caplog.clear()
                async with puppet.dial(name) as line:
                    await line._connection.send(data)
                    assert await hangs_up(line._connection, within=1) == [], what
                assert f"{name}: an incoming stream ended: " in caplog.text, what
            calm.check(what)
        assert await leader.do(Say("all is well")) == 1


@in_virtual_time
async def test_x6_x13_nonsense_in_place_of_an_answer_ends_that_stream_and_nothing_else() -> None:
    """From a member that was dialled; it is dialled again all the same."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        await cluster.crash(gone)
        puppet, calm = Puppet(cluster, gone), Unmoved(cluster)
        left = {(name, data) for name in cluster.names if name != gone for data in HOSTILE.values()}

        async def answer(connection: Connection) -> None:
            with contextlib.suppress(*HUNG_UP):
                dialler = decode(await connection.receive())
                assert isinstance(dialler, Hello)
                await connection.send(encode(puppet.hello(None)))
                mine = sorted(pair for pair in left if pair[0] == dialler.name)[:1]
                for pair in mine:
                    await connection.send(pair[1])
                    await hangs_up(connection, within=1)
                    left.discard(pair)

        async with trio.open_nursery() as nursery:
            await nursery.start(puppet.transport.listen, answer)
            await cluster.until(lambda: not left)
            nursery.cancel_scope.cancel()
        calm.check("any answer")
        assert leader.peers[gone].error
        assert await leader.do(Say("all is well")) == 1


# -- X7: what must not read bytes --------------------------------------------------------------

READERS_OF_CODE = {
    "cPickle", "cloudpickle", "code", "ctypes", "dill", "imp", "jsonpickle", "marshal", "pickle",
    "runpy", "shelve", "yaml",
}  # fmt: skip
RUNNERS_OF_CODE = {"eval", "exec", "compile", "__import__", "getattr_static"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.name)
def test_x7_nothing_in_the_package_turns_bytes_into_code(path: Path) -> None:
    """No module that does is imported, no function that does is called.

    CWE-502; bakwc/PySyncObj unpickles what its peers send.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                assert not {alias.name.split(".")[0] for alias in names} & READERS_OF_CODE
            case ast.ImportFrom(module=str(module)):
                assert module.split(".")[0] not in READERS_OF_CODE
            case ast.Call(func=ast.Name(id=name)):
                assert name not in RUNNERS_OF_CODE


# -- X9: compression ---------------------------------------------------------------------------


async def test_x9_no_compression_is_agreed_upon_however_politely_it_is_asked_for() -> None:
    """So there is nothing to inflate.  crossbario/autobahn-python#1909, tornadoweb/tornado#2391."""
    transport = WebSocketTransport("ws://127.0.0.1:0")

    async def handle(connection: Connection) -> None:
        await connection.receive()

    async with trio.open_nursery() as nursery:
        await nursery.start(transport.listen, handle)
        port = int(transport.address.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(
                b"GET /raft HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
                b"Sec-WebSocket-Protocol: trioraft.v1\r\n\r\n"
            )
            answer = b""
            with trio.fail_after(5):
                while b"\r\n\r\n" not in answer:
                    answer += await stream.receive_some()
        nursery.cancel_scope.cancel()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"extensions" not in answer.lower()


# -- X10: idlers -------------------------------------------------------------------------------


@in_virtual_time
async def test_x10_a_thousand_idlers_are_hung_up_on_and_keep_no_member_out() -> None:
    """Some never speak, some say who they are, and are nobody; a member links up at once.

    As Slowloris does it, CVE-2007-6750.
    """
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        one = cluster.followers()[0]
        await cluster.crash(one)
        term, ended = leader.term, list[float]()

        async def idle(number: int) -> None:
            async with stranger(cluster, leader.name) as connection:
                if number % 3 == 0:
                    greeting = hello(leader.status().cluster, leader.name, name=f"x{number}")
                    await connection.send(encode(greeting))
                began = trio.current_time()
                await hangs_up(connection, within=5)
                ended.append(trio.current_time() - began)

        for number in range(1000):
            nursery.start_soon(idle, number)
        await trio.sleep(0.1)
        assert ended == [0.0] * 334, "who is no member is refused"
        began = trio.current_time()
        await cluster.start(one)
        await cluster.until(lambda: leader.peers[one].connected and cluster[one].leader)
        assert trio.current_time() - began <= 1
        await cluster.until(lambda: len(ended) == 1000)
        assert (leader.state, leader.term) == ("leader", term)
        assert (await cluster.settled()) is leader


@in_virtual_time
async def test_x10_a_server_that_waits_to_form_hangs_up_on_idlers_too() -> None:
    """Whoever claims to belong to a cluster has a genesis to hand over, and at once.

    As Slowloris does it, CVE-2007-6750.
    """
    async with a_cluster(3) as cluster:
        await cluster.start("n1", "n2")
        async with stranger(cluster, "n1") as connection:
            await connection.send(encode(hello("a cluster", "n1")))
            assert isinstance(decode(await connection.receive()), Hello)
            await hangs_up(connection, within=5)


# -- X12: who never reads ----------------------------------------------------------------------


@in_virtual_time
async def test_x12_a_member_that_asks_and_never_reads_the_answers_costs_little() -> None:
    """Answers pile up no further than a link's bound; everybody else is served as before.

    CWE-770.
    """
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        gone, other = cluster.followers()
        await cluster.crash(gone)
        puppet, served = Puppet(cluster, gone), 0
        async with puppet.dial(leader.name) as line, trio.open_nursery() as nursery:

            async def flood() -> None:
                while True:
                    for _ in range(20):
                        await line.send(PreVote(leader.term + 1, 0, 0))
                    await trio.sleep(0.01)

            nursery.start_soon(flood)
            links = leader._peers
            assert links is not None
            for number in range(100):
                began = trio.current_time()
                await leader.do(Say(f"{number}"))
                assert trio.current_time() - began <= 0.01
                await trio.sleep(0.03)
                answers = links._incoming.get(puppet.id)
                if answers is not None:
                    assert len(answers._queue) <= LINK_QUEUE_MESSAGES
                    served += 1
            assert served > 10
            nursery.cancel_scope.cancel()
        assert leader.state == "leader"
        assert cluster[other].last_applied >= 100


# -- X14: huge, and well formed ----------------------------------------------------------------


@in_virtual_time
async def test_x14_a_term_far_ahead_from_a_member_is_taken_and_the_cluster_goes_on() -> None:
    """A thousand million terms at once: unusual, and no reason to stop.

    A member may say so; that it does not lie is assumed.
    """
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        await cluster.crash(*cluster.names)
        await cluster.start(leader.name)
        await trio.sleep(2 * TIMEOUT)
        async with Puppet(cluster, gone).dial(leader.name) as line:
            reply = await line.ask(RequestVote(leader.term + 10**9, 0, 0))
        assert (reply.term, reply.vote_granted) == (leader.term + 10**9, False)
        await cluster.restart(leader.name)
        assert cluster[leader.name].term == leader.term + 10**9
        await cluster.start()
        again = await cluster.settled(within=3)
        assert again.term > leader.term + 10**9
        assert again.term < leader.term + 10**9 + 10
        assert await cluster.say("on we go") == 1


@in_virtual_time
async def test_x14_strangers_that_introduce_themselves_leave_nothing_behind() -> None:
    """A thousand, each with a name of its own and as many commands as a message holds.

    CWE-770.
    """
    async with a_cluster(3) as cluster:
        await cluster.start("n1", "n2")
        many = tuple(f"{number}" for number in range(1000))
        for number in range(1000):
            async with stranger(cluster, "n1") as connection:
                about = {"name": f"x{number}", "commands": many}
                await connection.send(encode(hello("a cluster", "n1", **about)))
                await connection.receive()
        handshake = cluster["n1"]._handshake
        assert handshake is not None
        assert len(handshake.gate._hellos) <= 3
