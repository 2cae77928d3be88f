"""Clients of real servers: sessions, leaders that come and go, forwarding, watches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import attrs
import pytest
import trio
import trio.testing

import trioraft
import trioraft._applier
import trioraft._changes
import trioraft._client.client
import trioraft._forwarding
import trioraft._front
import trioraft._tickets
from tests.client.worlds import HERE, client_of, forwarders, leftovers, stranger
from tests.server.test_cancellations import Attempt
from tests.server.worlds import (
    Cluster,
    Lines,
    Refuse,
    Room,
    Say,
    Stranger,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
    run_seeded,
)
from trioraft import (
    Anything,
    Applied,
    AtLeast,
    Busy,
    Client,
    CommandFailed,
    CommandRejected,
    Compacted,
    Server,
    SessionExpired,
    Token,
)
from trioraft._sessions import Call, Code, pack_call
from trioraft._wire.asking import Calls, ManageSession, Results
from trioraft._wire.strict import pack


async def lines(client: Client) -> list[str]:
    return (await client.read(Lines())).value


# -- commands and handles --------------------------------------------------


@in_virtual_time
async def test_results_have_their_types_and_errors_are_results() -> None:
    async with a_running_cluster(3) as cluster, client_of(cluster) as client:
        assert await client.do(Say("a")) == 1
        with pytest.raises(CommandFailed) as caught:
            await client.do(Refuse("b"))
        assert (caught.value.error, caught.value.message) == ("ValueError", "b")
        answer = await client.read(Lines())
        assert answer.value == ["a", "refused b"]
        assert client.token == Token(client.cluster, answer.index)
        with pytest.raises(CommandRejected, match="stranger"):
            await client.read(Stranger())
        with pytest.raises(CommandRejected, match="lines"):
            await client.do(Lines())  # type: ignore[arg-type]
        await cluster.settled()
        assert leftovers(cluster) == dict.fromkeys(cluster.names, (0, 0, 0))


@in_virtual_time
async def test_what_a_command_came_to_is_told_again_to_whoever_has_its_handle() -> None:
    """By another client, and after every server has started anew."""
    async with a_running_cluster(3) as cluster:
        async with client_of(cluster) as client:
            said, refused = client.prepare(Say("a")), client.prepare(Refuse("b"))
            assert await said.do() == 1
            with pytest.raises(CommandFailed):
                await refused.do()
            handles = said.handle, refused.handle
        await cluster.restart(*cluster.names)
        await cluster.settled()
        async with client_of(cluster, here="mem://other") as client:
            for _ in range(2):
                assert await client.resume(handles[0], Say) == 1
                with pytest.raises(CommandFailed, match="ValueError: b"):
                    await client.resume(handles[1])
            assert await lines(client) == ["a", "refused b"]


@in_virtual_time
async def test_a_handle_that_was_never_sent_is_done_by_resume() -> None:
    async with a_running_cluster(3) as cluster, client_of(cluster) as client:
        handle = client.prepare(Say("a")).handle
        await client.do(Say("b"))
        assert await client.resume(handle) == 2
        assert await client.resume(handle) == 2
        assert await lines(client) == ["b", "a"]


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(6))
def test_every_command_is_done_once_while_leaders_fall(seed: int) -> None:
    """Pipelined by many tasks, over killed, cut off and paused leaders.  The seed is the name."""

    async def main() -> None:
        async with a_running_cluster(3, seed=seed) as cluster, client_of(cluster) as client:
            done: list[str] = []

            async def talk(name: str) -> None:
                for number in range(60):
                    text = f"{name} {number}"
                    if number % 3:
                        await client.do(Say(text))
                    else:
                        await insist(client, text)
                    done.append(text)
                    await trio.sleep(cluster.chance.uniform(0, 0.1))

            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(talk, f"t{number}")
                for turn in range(6):
                    await trio.sleep(cluster.chance.uniform(0.2, 0.6))
                    leader = await cluster.leader()
                    if turn % 2:
                        await cluster.restart(leader.name)
                    else:
                        cluster.isolate(leader.name)
                        await trio.sleep(cluster.chance.uniform(0.1, 1))
                        cluster.heal()
            assert sorted(await lines(client)) == sorted(done)
            assert len(done) == 8 * 60
            assert not client._session or len(client._session.unanswered) <= 8 * 60
            await cluster.settled()
            assert leftovers(cluster) == dict.fromkeys(cluster.names, (0, 0, 0))

    run_seeded(seed, main)


async def insist(client: Client, text: str) -> None:
    """Give up again and again, and come back by the handle."""
    pending = client.prepare(Say(text))
    for patience in (0.001, 0.01, 0.1):
        with trio.move_on_after(patience):
            await pending.do()
            return
    await client.resume(pending.handle)


@in_virtual_time
async def test_many_at_once_leave_in_few_messages() -> None:
    async with a_running_cluster(3) as cluster, client_of(cluster) as client:
        heard = cluster.overhear()
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(client.do, Say(f"{number}"))
        assert sum(isinstance(message, Calls) for *_, message in heard) < 10
        assert len(await lines(client)) == 500


# -- sessions --------------------------------------------------


def sessions_last(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(trioraft._front, "SESSION_SECONDS", seconds)
    monkeypatch.setattr(trioraft._client.client, "SESSION_SECONDS", seconds)


def tables(cluster: Cluster) -> list[int]:
    return [len(server._core.applier.sessions) for server in cluster.up]


@pytest.mark.unmeasured
def test_sessions_of_who_is_gone_expire_though_nothing_else_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sessions_last(monkeypatch, 100.0)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster:
            async with client_of(cluster) as client:
                client.prepare(Say("later"))
            await trio.sleep(99)
            assert tables(cluster) == [1, 1, 1]
            await trio.sleep(62)
            assert tables(cluster) == [0, 0, 0]
            assert cluster.history[len(cluster.history)].kind is trioraft.abc.Kind.NOOP
            before = len(cluster.history)
            await trio.sleep(200)
            assert len(cluster.history) == before, "there is nothing left to tell the time for"

    check()


@pytest.mark.parametrize("reads", [False, True], ids=["idle", "only reads"])
def test_a_session_lives_as_long_as_its_client(
    monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    sessions_last(monkeypatch, 10.0)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster, client_of(cluster) as client:
            pending = client.prepare(Say("late"))
            for _ in range(100):
                await trio.sleep(1)
                if reads:
                    await client.read(Lines())
            assert await pending.do() == 1

    check()


@in_virtual_time
async def test_a_client_that_slept_too_long_finds_a_new_session_by_itself() -> None:
    async with a_running_cluster(3) as cluster, client_of(cluster) as client:
        await client.do(Say("a"))
        pending = client.prepare(Say("never"))
        leader = await cluster.leader()
        leader._core.log.time.saw(leader._core.log.time.stamp() + 4000)
        leader._core.log.time.lead()
        assert await client.do(Say("b")) == 2
        with pytest.raises(SessionExpired):
            await pending.do()
        assert await client.prepare(Say("c")).do() == 3
        assert await lines(client) == ["a", "b", "c"]


def test_a_command_is_refused_where_the_leader_has_as_many_as_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trioraft._tickets, "MAX_PENDING_COMMANDS", 2)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster, client_of(cluster) as client:
            leader = await cluster.leader()
            refused: list[Busy] = []

            async def ask(number: int) -> None:
                try:
                    await client.do(Say(f"{number}"))
                except Busy as busy:
                    refused.append(busy)

            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(ask, number)
            assert len(refused) == 8
            assert len(leader.state_machine.lines) == 2

    check()


# -- forwarding --------------------------------------------------


def out_of_reach(cluster: Cluster, name: str) -> None:
    """The client can't reach one server."""
    cluster.network.cut(HERE, cluster.addresses[name])
    cluster.network.cut(cluster.addresses[name], HERE)


@in_virtual_time
async def test_a_follower_forwards_once_for_who_cannot_reach_the_leader() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        out_of_reach(cluster, leader.name)
        heard = cluster.overhear()
        async with client_of(cluster) as client:
            for number in range(20):
                await client.do(Say(f"{number}"))
            assert await lines(client) == [f"{number}" for number in range(20)]
        forwarded = [m for *_, m in heard if isinstance(m, Calls) and m.forwarded]
        assert sum(len(message.calls) for message in forwarded) == 20
        assert {to for _, _, to, m in heard if isinstance(m, Calls) and m.forwarded} == {
            leader.name
        }
        assert all(m.forwarded for _, _, to, m in heard if to == leader.name and kind(m))


def kind(message: object) -> bool:
    return isinstance(message, Calls | ManageSession)


@pytest.mark.parametrize("seed", range(4))
def test_forwarded_commands_are_done_once_while_leaders_fall(seed: int) -> None:
    async def main() -> None:
        async with a_running_cluster(3, seed=seed) as cluster:
            leader = await cluster.settled()
            only = cluster.followers()[0]
            for name in cluster.names:
                if name != only:
                    out_of_reach(cluster, name)
            async with client_of(cluster, only) as client, trio.open_nursery() as nursery:

                async def talk(name: str) -> None:
                    for number in range(40):
                        await client.do(Say(f"{name} {number}"))
                        await trio.sleep(0.05)

                for number in range(5):
                    nursery.start_soon(talk, f"t{number}")
                for _ in range(3):
                    await trio.sleep(0.5)
                    leader = await cluster.leader()
                    if leader.name != only:
                        await cluster.restart(leader.name)
            told = cluster[only].state_machine.lines
            assert sorted(told) == sorted(f"t{t} {n}" for t in range(5) for n in range(40))
            await cluster.settled()
            (forwarder,) = forwarders(cluster, only)
            assert (forwarder._count, forwarder._bytes, forwarder._waiting) == (0, 0, [])
            assert leftovers(cluster) == dict.fromkeys(cluster.names, (0, 0, 0))

    run_seeded(seed, main)


@in_virtual_time
async def test_a_command_without_a_session_is_forwarded_once() -> None:
    """Nobody may ask again for it: whether it was done is unknown when the line breaks."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        say = pack(["say", {"text": "x"}])
        async with stranger(cluster, name) as other:
            await other.send(Calls(1, (pack_call(Call(0, 1, 1), say),)))
            assert (await other.of(Results)).results[0][1] == Code.VALUE
            heard = cluster.overhear()
            await other.send(Calls(2, (pack_call(Call(0, 2, 1), say),)))
            await cluster.until(lambda: [m for *_, m in heard if isinstance(m, Calls)][1:])
            for source, destination in ((name, leader.name), (leader.name, name)):
                cluster.network.reset(cluster.addresses[source], cluster.addresses[destination])
            assert (await other.of(Results)).results[0][1] == Code.UNKNOWN
            await trio.sleep(1)
        assert len(leader.state_machine.lines) <= 2
        assert len([m for *_, m in heard if isinstance(m, Calls) and m.forwarded]) == 1


def test_a_follower_takes_no_more_than_a_leader_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many it is asked for while the line to the leader is stuck."""
    monkeypatch.setattr(trioraft._forwarding, "MAX_PENDING_COMMANDS", 3)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster:
            leader = await cluster.settled()
            out_of_reach(cluster, leader.name)
            only = cluster.followers()[0]
            async with client_of(cluster, only) as client:
                await client.do(Say("first"))
                cluster.slow(only, leader.name, 0.05)
                results: list[object] = []

                async def ask(number: int) -> None:
                    try:
                        results.append(await client.do(Say(f"{number}")))
                    except Busy:
                        results.append("busy")

                async with trio.open_nursery() as nursery:
                    for number in range(10):
                        nursery.start_soon(ask, number)
                assert results.count("busy") == 7
                assert await client.do(Say("last")) == 5

    check()


@in_virtual_time
async def test_a_client_that_is_there_before_the_servers_ends_up_at_the_leader() -> None:
    async with a_cluster(3) as cluster, trio.open_nursery() as nursery:

        async def begin() -> None:
            await trio.sleep(1.3)
            await cluster.formed()

        nursery.start_soon(begin)
        async with client_of(cluster) as client:
            await trio.sleep(5)
            leader = await cluster.settled()
            assert client._connected._here is not None
            assert client._connected._here[0] == cluster.addresses[leader.name]


@in_virtual_time
async def test_a_leader_that_only_others_reach_is_tried_less_and_less_often() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        address, done, dialled = cluster.addresses[leader.name], 0, 0
        cluster.network.cut(HERE, address)
        async with client_of(cluster) as client:
            here: object = None
            with trio.move_on_after(40):
                while True:
                    await client.do(Say("x"))
                    done += 1
                    dialled += client._connected._here is not here
                    here = client._connected._here
                    await trio.sleep(0.1)
            assert done > 380
            assert 4 < dialled < 12
            cluster.network.heal(HERE, address)
            await trio.sleep(31)
            assert client._connected._here is not None
            assert client._connected._here[0] == address


@in_virtual_time
async def test_a_follower_whose_leader_cannot_be_reached_says_so_and_does_not_hammer() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        only = cluster.followers()[0]
        for name in cluster.names:
            if name != only:
                out_of_reach(cluster, name)
        dialled: list[float] = []
        (forwarder,) = forwarders(cluster, only)
        keep = forwarder._keep_line

        async def refused(*given: Any) -> None:
            dialled.append(trio.current_time())
            if len(dialled) < 20:
                raise OSError("nobody there")
            await keep(*given)

        forwarder._keep_line = refused
        async with client_of(cluster, only) as client:
            assert await client.do(Say("at last")) == 1
        assert len(dialled) >= 20
        assert dialled[19] - dialled[0] >= 0.3
        assert leader.running


# -- watches --------------------------------------------------


@attrs.frozen
class Said:
    text: str
    half: int


@trioraft.command("tell")
@attrs.frozen
class Tell:
    text: str
    how: str = ""

    def apply(self, room: Crier, applied: Applied) -> int:
        room.heard(self.text, applied)
        for half in (1, 2):
            applied.announce(Said(self.text, half))
        match self.how:
            case "raises":
                raise ValueError(self.text)
            case "undeclared":
                applied.announce(self)
            case "formless":
                applied.announce(Said(object(), 1))  # type: ignore[arg-type]
            case "much":
                applied.announce(Said("x" * (1 << 20), 1))
        return len(room.lines)


class Crier(Room):
    """Announces each thing in two halves, unless it only whispers."""

    commands: ClassVar[Sequence[type[Any]]] = (Tell, Say, Lines)
    changes: ClassVar[tuple[type[Any], ...]] = (Said,)


async def follow(client: Client, found: list[Any], after: Token | None = None) -> None:
    async with client.watch(after, of=Said) as watch:
        while True:
            change = await watch.__anext__()
            found.append((change.index, change.value.text, change.value.half))


@pytest.mark.parametrize("seed", range(4))
def test_watchers_are_told_everything_once_while_leaders_fall(seed: int) -> None:
    async def main() -> None:
        async with (
            a_running_cluster(3, seed=seed, machine=Crier) as cluster,
            client_of(cluster) as client,
            client_of(cluster, here="mem://watcher", seed=seed) as watcher,
        ):
            found: list[Any] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow, watcher, found)
                for turn in range(8):
                    for number in range(5):
                        await client.do(Tell(f"{turn} {number}"))
                        await client.do(Say("whispered"))
                    leader = await cluster.leader()
                    await cluster.restart(
                        leader.name if turn % 2 else cluster.chance.choice(cluster.names)
                    )
                await trio.sleep(5)
                nursery.cancel_scope.cancel()
            texts = [f"{turn} {number}" for turn in range(8) for number in range(5)]
            assert [(text, half) for _, text, half in found] == [
                (text, half) for text in texts for half in (1, 2)
            ]
            indexes = [index for index, *_ in found]
            assert indexes == sorted(indexes)
            assert len(set(indexes)) == len(texts), "an entry's changes have its index"

    run_seeded(seed, main)


@in_virtual_time
async def test_a_retried_command_announces_once() -> None:
    async with (
        a_running_cluster(3, machine=Crier) as cluster,
        client_of(cluster) as client,
        client.watch(of=Said) as watch,
    ):
        pending = client.prepare(Tell("once"))
        for _ in range(3):
            assert await pending.do() == 1
        await client.do(Tell("behind"))
        texts = [(await watch.__anext__()).value.text for _ in range(4)]
        assert texts == ["once", "once", "behind", "behind"]
        assert watch.token.index > 0


@in_virtual_time
async def test_entries_without_changes_move_the_token() -> None:
    async with (
        a_running_cluster(3, machine=Crier) as cluster,
        client_of(cluster) as client,
        client.watch() as watch,
    ):
        before = watch.token
        await client.do(Say("whispered"))
        with trio.move_on_after(3):
            await watch.__anext__()
        assert watch.token.index == before.index + 1 == client.token.index


@pytest.mark.parametrize("how", ["raises", "undeclared", "formless", "much"])
@in_virtual_time
async def test_what_cannot_be_announced_fails_the_command_and_stops_nobody(how: str) -> None:
    """A mistake in a machine must not end every server, again at each start."""
    async with (
        a_running_cluster(3, machine=Crier) as cluster,
        client_of(cluster) as client,
        client.watch() as watch,
    ):
        with pytest.raises(CommandFailed):
            await client.do(Tell("bad", how))
        await client.do(Tell("good"))
        assert (await watch.__anext__()).value["Said"]["text"] == "good"
        await cluster.restart(*cluster.names)
        assert await client.do(Tell("later")) == 3


@in_virtual_time
async def test_commands_themselves_are_the_changes_of_a_plain_machine() -> None:
    async with a_running_cluster(3) as cluster, client_of(cluster) as client:
        start = client.token
        with pytest.raises(CommandFailed):
            await client.do(Refuse("no"))
        await client.do(Say("a"))
        server = await cluster.leader()
        await server.do(Say("b"))
        async with client.watch(start) as watch:
            assert (await watch.__anext__()).value == {"say": {"text": "a"}}
            assert (await watch.__anext__()).value == {"say": {"text": "b"}}


@in_virtual_time
async def test_a_server_that_lags_behind_the_token_waits() -> None:
    async with a_running_cluster(3) as cluster, client_of(cluster) as client:
        await client.do(Say("a"))
        ahead = Token(client.cluster, client.token.index + 2)
        async with client.watch(ahead) as watch:
            await client.do(Say("b"))
            await client.do(Say("c"))
            await client.do(Say("d"))
            change = await watch.__anext__()
            assert (change.value, change.index) == ({"say": {"text": "d"}}, ahead.index + 1)


def test_a_long_way_is_told_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trioraft._changes, "MAX_WATCH_BYTES", 1000)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster, client_of(cluster) as client:
            start = client.token
            for number in range(50):
                await client.do(Say(f"{number}"))
            async with client.watch(start) as watch:
                found = [(await watch.__anext__()).value for _ in range(50)]
            assert found == [{"say": {"text": f"{number}"}} for number in range(50)]

    check()


def test_what_is_gone_everywhere_is_compacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trioraft._changes, "MAX_CHANGES_BYTES", 2000)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster, client_of(cluster) as client:
            start = client.token
            for number in range(50):
                await client.do(Say(f"{number}"))
            async with client.watch(start) as watch:
                with pytest.raises(Compacted):
                    await watch.__anext__()
            later = Token(client.cluster, client.token.index - 2)
            async with client.watch(later) as watch:
                assert (await watch.__anext__()).value == {"say": {"text": "48"}}

    check()


# -- cancelling at every step --------------------------------------------------


async def check_nothing_is_left(client: Client) -> None:
    line = client._connected.now
    assert line is not None
    assert (client._room.count, client._room.bytes) == (0, 0)
    assert not line._calls
    assert not line._questions
    assert client._session is not None
    assert not client._session.unanswered
    await trio.sleep(1)
    for left in (line._asked, line._told, line._watching):
        assert not left


@pytest.mark.unmeasured
@pytest.mark.parametrize("through", ["the leader", "a follower"])
@in_virtual_time
async def test_do_can_be_cancelled_at_every_step(through: str) -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        if through == "a follower":
            out_of_reach(cluster, leader.name)
        async with client_of(cluster) as client:
            step, cancelled = 1, True
            while cancelled:
                before = len(leader.state_machine.lines)
                attempt = Attempt(partial(client.do, Say(f"try {step}")), step)
                await attempt.run()
                cancelled = attempt.was_cancelled
                assert attempt.took == 0
                await client.do(Say(f"after {step}"))
                since = leader.state_machine.lines[before:]
                assert since in ([f"try {step}", f"after {step}"], [f"after {step}"])
                await check_nothing_is_left(client)
                step += 1
            assert step >= 3
        await cluster.settled()
        assert leftovers(cluster) == dict.fromkeys(cluster.names, (0, 0, 0))


@in_virtual_time
async def test_a_command_that_has_not_left_is_withdrawn() -> None:
    async with a_running_cluster(1) as cluster, client_of(cluster) as client:
        line = client._connected.now
        assert line is not None
        stuck: list[Any] = []
        post, line._conversation.post = line._conversation.post, stuck.append  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do, Say("never"))
            nursery.start_soon(client.read, Lines())
            await trio.testing.wait_all_tasks_blocked()
            assert len(line._calls) == len(line._questions) == 1
            nursery.cancel_scope.cancel()
        line._conversation.post = post  # type: ignore[method-assign]
        assert [message() for message in stuck] == [None, None], "nothing is left to be sent"
        await check_nothing_is_left(client)
        assert await lines(client) == []


@pytest.mark.unmeasured
@pytest.mark.parametrize("what", ["resume", "read", "pending", "watch", "open"])
@in_virtual_time
async def test_all_else_can_be_cancelled_at_every_step(what: str) -> None:
    async with a_running_cluster(3) as cluster, client_of(cluster) as client:

        async def watch() -> Any:
            async with client.watch(Token(client.cluster, 0)) as watch:
                return (await watch.__anext__()).value

        async def opened() -> Any:
            async with client_of(cluster, here="mem://new") as new:
                return await lines(new)

        await client.do(Say("a"))
        step, cancelled = 1, True
        while cancelled:
            pending = client.prepare(Say(f"{step}"))
            call = {
                "resume": partial(client.resume, pending.handle),
                "read": partial(client.read, Lines()),
                "pending": pending.do,
                "watch": watch,
                "open": opened,
            }[what]
            attempt = Attempt(call, step)
            await attempt.run()
            cancelled = attempt.was_cancelled
            assert attempt.took == 0
            assert await pending.do() == step + 1
            client._session.done(pending._sequence)  # type: ignore[union-attr]
            await check_nothing_is_left(client)
            step += 1
        assert step >= 3
        said = ["a", *[str(n) for n in range(1, step)]]
        expected = {"watch": {"say": {"text": "a"}}, "open": said, "read": None}
        if what in ("watch", "open"):
            assert attempt.result == (expected[what] if what == "watch" else said[:-1])


@in_virtual_time
async def test_a_paused_leader_hangs_nobody() -> None:
    """It takes what it is sent and says nothing; the cluster goes on without it."""
    async with a_running_cluster(3) as cluster, client_of(cluster) as client:
        for number in range(3):
            leader = await cluster.settled()
            for source, destination in cluster_links(cluster, leader):
                cluster.network.hold(source, destination)
            with trio.fail_after(3.5):
                assert await client.do(Say(f"{number}")) == number + 1
                await client.read(Lines())
            cluster.heal()
            for source, destination in cluster_links(cluster, leader):
                cluster.network.heal(source, destination)


def cluster_links(cluster: Cluster, server: Server) -> list[tuple[str, str]]:
    own = cluster.addresses[server.name]
    others = [HERE, *(a for a in cluster.addresses.values() if a != own)]
    return [link for other in others for link in ((own, other), (other, own))]


@in_virtual_time
async def test_reads_that_wait_for_what_is_not_there_yet_are_given_up_without_harm() -> None:
    """A server holds so many of them, and refuses the rest; the line stands."""
    async with a_running_cluster(1) as cluster, client_of(cluster) as client:
        await client.do(Say("a"))
        line = client._connected.now
        ahead = AtLeast(Token(client.cluster, client.token.index + 1))
        for _ in range(9):
            with trio.move_on_after(0.05):
                async with trio.open_nursery() as nursery:
                    for _ in range(1000):
                        nursery.start_soon(client.read, Lines(), ahead)
        with trio.fail_after(5):
            await client.do(Say("b"))
            assert (await client.read(Lines(), Anything())).value == ["a", "b"]
        assert client._connected.now is line


@in_virtual_time
async def test_more_watches_than_a_server_holds_are_served_by_turns() -> None:
    async with a_running_cluster(1) as cluster, client_of(cluster) as client:
        line = client._connected.now
        found: list[Any] = []

        async def one() -> None:
            async with client.watch() as watch:
                found.append((await watch.__anext__()).value)

        async with trio.open_nursery() as nursery:
            for _ in range(400):
                nursery.start_soon(one)
            await trio.sleep(1)
            await client.do(Say("a"))
        assert len(found) == 400
        assert client._connected.now is line
