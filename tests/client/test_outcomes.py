"""What a client makes of what servers say became of a command; the servers are played by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import pytest
import trio

import trioraft
from tests.client.worlds import (
    HERE,
    FakeServer,
    Script,
    client_of_fakes,
    fakes,
    one_after_the_other,
    told,
    value,
)
from tests.server.worlds import Lines, Say, in_virtual_time
from trioraft import (
    Busy,
    Client,
    CommandFailed,
    CommandRejected,
    OutcomeUnknown,
    ProtocolError,
    SessionExpired,
    Token,
    open_client,
)
from trioraft._client.connection import PATIENCE
from trioraft._client.session import read_handle
from trioraft._sessions import Call, Code, Reply
from trioraft._wire.asking import Ask, Calls, Changes, Results, Told, WatchFrom, Welcome
from trioraft._wire.codec import Ping, WireMessage, encode
from trioraft._wire.strict import pack
from trioraft.testing import MemoryTransport

REJECTED = Reply(Code.REJECTED, 0, 0, pack(["CommandRejected", "not that"]))


async def outcome_of(*replies: Reply | Code | None) -> tuple[Any, FakeServer]:
    """What `do` comes to when a server says this, time after time."""
    result: Any = None
    async with fakes(one_after_the_other(*replies)) as (server,), client_of_fakes(server) as client:
        try:
            result = await client.do(Say("x"))
        except trioraft.CommandError as error:
            result = error
        assert client._session is None or not client._session.unanswered or result.handle
        assert (client._room.count, client._room.bytes) == (0, 0)
    return result, server


REFUSALS = [Code.NOT_LEADER, Code.STOPPED]


@pytest.mark.parametrize("refusal", [*REFUSALS, Code.UNKNOWN, None])
@in_virtual_time
async def test_it_asks_again_under_the_same_sequence(refusal: Code | None) -> None:
    result, server = await outcome_of(refusal, refusal, value(5))
    assert result == 5
    assert server.calls == [Call(100, 1, 1)] * 3


@in_virtual_time
async def test_the_next_command_says_that_the_one_before_is_answered() -> None:
    script = one_after_the_other(value(1), Code.UNKNOWN, value(2), value(3))
    async with fakes(script) as (server,), client_of_fakes(server) as client:
        assert [await client.do(Say("x")) for _ in range(3)] == [1, 2, 3]
        assert server.calls == [Call(100, n, n) for n in (1, 2, 2, 3)]


@in_virtual_time
async def test_an_unanswered_command_holds_the_lowest_back() -> None:
    answered = trio.Event()

    def script(message: WireMessage) -> Iterable[WireMessage]:
        first = isinstance(message, Calls) and message.first == 2 and not answered.is_set()
        return [] if first else told(message, value(0))

    async with (
        fakes(script) as (server,),
        client_of_fakes(server) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.do, Say("first"))
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            await client.do(Say("later"))
        assert server.calls == [Call(100, n, 1) for n in (1, 2, 3, 4)]
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_surely_not_done_is_told_at_once() -> None:
    for reply, kind in ((Code.BUSY, Busy), (REJECTED, CommandRejected)):
        for before in ([], REFUSALS):
            result, server = await outcome_of(*before, reply)
            assert type(result) is kind
            assert result.outcome == "not done"
            assert len(server.calls) == len(before) + 1


@pytest.mark.parametrize("lost", [Code.UNKNOWN, None])
@in_virtual_time
async def test_what_may_have_been_done_is_never_told_as_not_done(lost: Code | None) -> None:
    """However later attempts are refused: an earlier one may stand in some log."""
    result, _ = await outcome_of(lost, Code.BUSY, Code.BUSY, value(1))
    assert result == 1
    result, server = await outcome_of(lost, Code.NOT_LEADER, REJECTED)
    assert type(result) is OutcomeUnknown
    assert "not that" in str(result)
    assert read_handle(result.handle)[:3] == ("fake", 100, 1)
    assert len(server.calls) == 3


@pytest.mark.parametrize("lost", [Code.UNKNOWN, None])
@in_virtual_time
async def test_an_expired_session_is_unknown_for_what_may_have_been_done(lost: Code | None) -> None:
    result, server = await outcome_of(lost, Reply(Code.EXPIRED, 9, 1), value(1))
    assert type(result) is SessionExpired
    assert server.calls == [Call(100, 1, 1)] * 2
    result, server = await outcome_of(lost, Reply(Code.FORGOTTEN, 9, 1), value(1))
    assert type(result) is OutcomeUnknown
    assert server.calls == [Call(100, 1, 1)] * 2


@pytest.mark.parametrize("before", [(), REFUSALS])
@in_virtual_time
async def test_what_was_surely_not_done_goes_into_a_new_session(before: list[Code]) -> None:
    result, server = await outcome_of(*before, Reply(Code.EXPIRED, 9, 1), value(3))
    assert result == 3
    assert server.calls == [*[Call(100, 1, 1)] * (len(before) + 1), Call(101, 1, 1)]


@in_virtual_time
async def test_what_was_surely_not_done_takes_a_new_place_behind_the_window() -> None:
    result, server = await outcome_of(Reply(Code.FORGOTTEN, 9, 1), value(3))
    assert result == 3
    assert server.calls == [Call(100, 1, 1), Call(100, 2, 2)]


@in_virtual_time
async def test_the_handle_of_an_unknown_outcome_is_good_until_it_is_known() -> None:
    """The commands behind it do not say that it is answered."""
    script = one_after_the_other(Code.UNKNOWN, REJECTED, value(1), value("now"))
    async with fakes(script) as (server,), client_of_fakes(server) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.do(Say("x"))
        await client.do(Say("y"))
        assert await client.resume(caught.value.handle) == "now"
        assert server.calls == [*[Call(100, 1, 1)] * 2, Call(100, 2, 1), Call(100, 1, 1)]


# -- handles --------------------------------------------------


@in_virtual_time
async def test_what_has_a_handle_is_the_same_command_every_time() -> None:
    script = one_after_the_other(Code.BUSY, Code.NOT_LEADER, value(4), value(4), value(4))
    async with fakes(script) as (server,), client_of_fakes(server) as client:
        pending = client.prepare(Say("x"))
        handle = pending.handle
        assert await pending.do() == 4, "busy is no end: who holds the handle may have sent it"
        assert await pending.do() == 4
        assert await client.resume(handle, Say) == 4
        assert pending.handle == handle
        assert server.calls == [Call(100, 1, 1)] * 5


@in_virtual_time
async def test_a_handle_whose_session_is_over_is_unknown_and_the_client_gets_another_one() -> None:
    script = one_after_the_other(Reply(Code.EXPIRED, 9, 1), value(5))
    async with fakes(script) as (server,), client_of_fakes(server) as client:
        pending = client.prepare(Say("x"))
        with pytest.raises(SessionExpired) as caught:
            await pending.do()
        assert caught.value.handle == pending.handle
        with pytest.raises(Busy):
            client.prepare(Say("y"))
        await trio.sleep(1)
        assert await client.prepare(Say("y")).do() == 5
        assert server.calls[-1] == Call(101, 1, 1)


@in_virtual_time
async def test_anothers_handle_says_nothing_of_this_clients_session() -> None:
    script = one_after_the_other(Reply(Code.EXPIRED, 9, 1), value(5))
    async with fakes(script) as (server,), client_of_fakes(server) as client:
        with pytest.raises(SessionExpired):
            await client.resume(pack(["fake", 7, 3, b"x"]))
        assert await client.do(Say("y")) == 5
        assert server.calls == [Call(7, 3, 1), Call(100, 1, 1)]


@pytest.mark.parametrize(
    "handle",
    [
        b"",
        b"\xc1",
        pack("fake"),
        pack(["fake", 7, 3, b"", 1]),
        pack(["fake", -7, 3, b""]),
        pack(["fake", 7, -3, b""]),
        pack(["fake", 0, 3, b""]),
        pack(["fake", 7, 0, b""]),
        pack(["fake", 1 << 63, 3, b""]),
        pack(["fake", 7, (1 << 64) - 1, b""]),
        pack(["fake", "7", 3, b""]),
        pack(["fake", 7, 3, bytes((1 << 20) + 1)]),
    ],
    ids=range(12),
)
@in_virtual_time
async def test_what_is_no_handle_is_refused_here(handle: bytes) -> None:
    async with fakes(one_after_the_other(value(1))) as (server,), client_of_fakes(server) as client:
        with pytest.raises(ValueError, match="no handle"):
            await client.resume(handle)
        with pytest.raises(ProtocolError, match="a handle of the cluster"):
            await client.resume(pack(["other", 7, 3, b""]))
        assert not server.calls


# -- nonsense --------------------------------------------------


@in_virtual_time
async def test_results_that_cannot_be_read_are_done_and_say_so() -> None:
    for data in (b"\xc1", b"", pack("text"), pack([1])):
        result, _ = await outcome_of(Reply(Code.VALUE, 7, 1, data))
        assert type(result) is CommandFailed
        assert result.error == "ResultUnreadable"
    for data in (b"\xc1", b"", pack(3), pack([1, 2, 3])):
        result, _ = await outcome_of(Reply(Code.RAISED, 7, 1, data))
        assert (type(result), result.error, result.message) == (CommandFailed, "", "")


@trioraft.command("odd")
@attrs.frozen
class Odd:
    def apply(self, machine: object, applied: trioraft.Applied) -> list[int] | dict[str, int]:
        return []


@in_virtual_time
async def test_a_result_type_that_nobody_can_read_is_no_crash() -> None:
    async with (
        fakes(one_after_the_other(value([]))) as (server,),
        client_of_fakes(server) as client,
    ):
        with pytest.raises(CommandFailed, match="can't be read"):
            await client.do(Odd())
        assert await client.resume(client.prepare(Odd()).handle) == []


def nonsense() -> dict[str, WireMessage | bytes]:
    return {
        "no message": b"\xff" * 10,
        "nothing": b"",
        "an unknown code": Results(((2, 99, 1, 1, b""),)),
        "a question": Calls(1, ()),
        "another cluster": Welcome("other", "f1", "f1", "mem://f1"),
        "an answer of an unknown code": Told(2, Code.VALUE, ((77, b""),), "anything"),
        "an answer that nobody gives": Told(2, Code.VALUE, ((Code.NOT_LEADER, b""),), "anything"),
        "no answers for no reason": Told(2, 55),
        "an unknown level": Told(2, Code.VALUE, ((0, b""),), "fresh"),
    }


@pytest.mark.parametrize("what", nonsense())
@in_virtual_time
async def test_nonsense_ends_the_line_and_the_command_is_asked_for_again(what: str) -> None:
    """Also by the one whose result came in the nonsense: nobody waits for ever."""

    def script(message: WireMessage) -> Iterable[WireMessage | bytes]:
        if len(server.dialled) == 1:
            return [nonsense()[what]]
        if isinstance(message, Ask):
            answers = ((int(Code.VALUE), pack(["a"])),) * len(message.queries)
            return [Told(message.first, Code.VALUE, answers, "anything", 3)]
        return told(message, value(6))

    async with fakes(script) as servers:
        (server,) = servers
        async with client_of_fakes(server) as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.do, Say("x"))
            nursery.start_soon(client.read, Lines())
        assert len(server.dialled) == 2
        assert client.token == Token("fake", 100)


@in_virtual_time
async def test_numbers_that_nobody_asked_under_are_passed_over() -> None:
    def script(message: WireMessage) -> Iterable[WireMessage]:
        assert isinstance(message, Calls)
        strange = Results(((999, 0, 5, 1, b""), (0, 0, 5, 1, b"")))
        return [strange, Told(77, 0, ((0, b""),), "lease"), Changes(5, 0), *told(message, value(1))]

    async with fakes(script) as (server,), client_of_fakes(server) as client:
        assert await client.do(Say("x")) == 1
        assert len(server.dialled) == 1


@in_virtual_time
async def test_an_unknown_outcome_moves_no_token() -> None:
    """The entry may be cut: a token of it would wait, or skip what others write there."""
    script = one_after_the_other(Reply(Code.UNKNOWN, 5000, 1), value(1, index=101))
    async with fakes(script) as (server,), client_of_fakes(server) as client:
        await client.do(Say("x"))
        assert client.token == Token("fake", 101)


# -- time --------------------------------------------------


@in_virtual_time
async def test_a_silent_server_is_left_for_another_one() -> None:
    async with fakes(*[one_after_the_other(value(n)) for n in (1, 2)]) as servers:
        for server in servers:
            server.welcome = Welcome("fake", server.welcome.name, None, None)
        async with client_of_fakes(*servers) as client:
            first = next(server for server in servers if server.dialled)
            first.silent = True
            began = trio.current_time()
            assert await client.do(Say("x")) in (1, 2)
            assert trio.current_time() - began < 2 * PATIENCE + 0.5


@in_virtual_time
async def test_who_does_not_even_greet_is_passed_by_in_time() -> None:
    async with fakes(*[one_after_the_other(value(1))] * 2) as servers:
        servers[0].silent = True
        began = trio.current_time()
        for _ in range(4):
            async with client_of_fakes(*servers) as client:
                assert await client.do(Say("x")) == 1
        assert trio.current_time() - began < 10


@in_virtual_time
async def test_attempts_become_rare() -> None:
    """A cluster without a leader is not drummed upon."""
    async with fakes(one_after_the_other(Code.NOT_LEADER)) as (server,):
        server.welcome = Welcome("fake", "f1", None, None)
        async with client_of_fakes(server) as client:
            with trio.move_on_after(30):
                await client.do(Say("x"))
        assert 60 < len(server.calls) < 150
        assert len(server.dialled) < 30


@in_virtual_time
async def test_a_cluster_that_forgets_every_session_is_not_drummed_upon() -> None:
    """More clients than sessions throw each other out."""
    async with fakes(one_after_the_other(Reply(Code.EXPIRED, 9, 1))) as (server,):
        async with client_of_fakes(server) as client:
            with trio.move_on_after(30):
                await client.do(Say("x"))
        assert 60 < len(server.calls) < 150


@in_virtual_time
async def test_busy_servers_are_not_left() -> None:
    busy = one_after_the_other(Code.UNKNOWN, *[Code.BUSY] * 30, value(1))
    async with fakes(busy) as (server,), client_of_fakes(server) as client:
        assert await client.do(Say("x")) == 1
        assert len(server.dialled) == 1


@in_virtual_time
async def test_servers_that_send_each_others_callers_to_and_fro_are_not_drummed_upon() -> None:
    async with fakes(*[one_after_the_other(value(1))] * 2) as servers:
        for server, other in zip(servers, reversed(servers), strict=True):
            name = other.welcome.name
            server.welcome = Welcome("fake", server.welcome.name, name, other.address)
        with trio.move_on_after(2):
            async with client_of_fakes(*servers):
                raise AssertionError("there is no leader")
        assert 10 < sum(len(server.dialled) for server in servers) < 300


@in_virtual_time
async def test_a_leaders_address_that_makes_no_sense_is_passed_over() -> None:
    async with fakes(one_after_the_other(value(1))) as (server,):
        for address in ("", "http://[", "mem://nowhere", "x" * 1000):
            server.welcome = Welcome("fake", "f1", "f2", address)
            async with client_of_fakes(server) as client:
                assert await client.do(Say("x")) == 1
                assert len(client._connected._avoided) <= 2


@in_virtual_time
async def test_servers_of_another_cluster_are_passed_by() -> None:
    async with fakes(*[one_after_the_other(value(n)) for n in (1, 2)]) as (one, other):
        other.welcome = Welcome("other", "f2", "f2", "mem://f2")
        async with client_of_fakes(one, other) as client:
            mine = one if client.cluster == "fake" else other
            for _ in range(3):
                assert await client.do(Say("x")) == (1 if mine is one else 2)
                mine.silent = True
                await trio.sleep(3)
                mine.silent = False
            theirs = other if mine is one else one
            assert theirs.dialled
            assert not theirs.calls


# -- watching --------------------------------------------------


def pages(*found: Changes) -> Script:
    left = list(found)

    def script(message: WireMessage) -> Iterable[WireMessage]:
        if not isinstance(message, WatchFrom) or not left:
            return []
        return [attrs.evolve(left.pop(0), number=message.number)]

    return script


def changes(index: int, *entries: tuple[int, tuple[Any, ...]], code: Code = Code.VALUE) -> Changes:
    """A page; each change is of the type `Kind`."""
    packed = tuple(
        (entry, tuple(pack(["Kind", {"value": value}]) for value in values))
        for entry, values in entries
    )
    return Changes(0, code, index, packed)


@attrs.frozen
class Kind:
    value: int


def read_of(change: Any) -> Any:
    """What the change of a page was made of."""
    return change.value["Kind"]["value"]


def asked_for(server: FakeServer) -> list[int]:
    return [message.index for message in server.heard if isinstance(message, WatchFrom)]


@in_virtual_time
async def test_a_watch_goes_on_where_it_was_whatever_comes_between() -> None:
    script = pages(
        changes(102, (101, ("a", "b")), (102, ("c",))),
        changes(110),
        changes(110, code=Code.STOPPED),
        changes(110, code=Code.BUSY),
        changes(120, (115, ("d",))),
    )
    async with (
        fakes(script) as (server,),
        client_of_fakes(server) as client,
        client.watch() as watch,
    ):
        found = [
            (read_of(change), change.index, change.token.index) async for change in take(watch, 3)
        ]
        assert found == [("a", 101, 100), ("b", 101, 101), ("c", 102, 102)]
        assert watch.token == Token("fake", 102)
        assert [read_of(c) async for c in take(watch, 1)] == ["d"]
        assert watch.token == Token("fake", 115)
        assert asked_for(server) == [100, 102, 110, 110, 110]
        with trio.move_on_after(0.1):
            await watch.__anext__()
        assert watch.token == Token("fake", 120), "entries without changes move it"
        assert not client._connected.now._watching  # type: ignore[union-attr]


async def take(watch: Any, count: int) -> Any:
    for _ in range(count):
        yield await watch.__anext__()


@in_virtual_time
async def test_a_change_of_another_type_is_an_error_and_stays_where_it_is() -> None:
    script = pages(changes(102, (101, (1, "two")), (102, (3,))))
    async with (
        fakes(script) as (server,),
        client_of_fakes(server) as client,
        client.watch(of=Kind) as watch,
    ):
        assert (await watch.__anext__()).value == Kind(1)
        for _ in range(2):
            with pytest.raises(ProtocolError, match="malformed change"):
                await watch.__anext__()
        assert watch.token == Token("fake", 100), "going on from here misses nothing"


@in_virtual_time
async def test_changes_that_are_out_of_order_are_an_error_and_nothing_of_them_is_told() -> None:
    script = pages(changes(103, (101, ("a",)), (101, ("b",))), changes(103, (103, ("c",))))
    async with (
        fakes(script) as (server,),
        client_of_fakes(server) as client,
        client.watch() as watch,
    ):
        with pytest.raises(ProtocolError, match="entry 101 was told behind 101"):
            await watch.__anext__()
        assert read_of(await watch.__anext__()) == "c"


@in_virtual_time
async def test_compacted_is_told_when_all_have_said_so_and_not_before() -> None:
    gone = changes(0, code=Code.FORGOTTEN)
    async with fakes(*[pages(*[gone] * 20)] * 3) as servers, client_of_fakes(*servers) as client:
        async with client.watch() as watch:
            with pytest.raises(trioraft.Compacted):
                await watch.__anext__()
        assert all(asked_for(server) for server in servers)


@in_virtual_time
async def test_one_server_that_has_it_is_enough() -> None:
    gone = pages(*[changes(0, code=Code.FORGOTTEN)] * 50)
    for place in range(10):
        scripts: list[Script] = [gone] * 10
        scripts[place] = pages(changes(101, (101, ("here",))))
        async with (
            fakes(*scripts, leader="f1") as servers,
            client_of_fakes(*servers) as client,
            client.watch() as watch,
        ):
            assert read_of(await watch.__anext__()) == "here"


@in_virtual_time
async def test_tokens_of_another_cluster_and_impossible_ones_are_refused_here() -> None:
    async with fakes(one_after_the_other(value(1))) as (server,), client_of_fakes(server) as client:
        with pytest.raises(ProtocolError):
            async with client.watch(Token("other", 3)):
                raise AssertionError("it was let in")
        with pytest.raises(ProtocolError):
            await client.read(Lines(), trioraft.AtLeast(Token("other", 3)))
        for index in (-1, 1 << 63, 1 << 80):
            with pytest.raises(ValueError, match="there can't be one"):
                Token("fake", index)
        with pytest.raises(ValueError, match="bad token"):
            Token.parse("fake/" + "9" * 20)
        assert len(server.dialled) == 1


# -- life --------------------------------------------------


@in_virtual_time
async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    async with fakes(one_after_the_other(value(1))) as (server,):
        for error in (KeyError("x"), ExceptionGroup("mine", [KeyError("x"), OSError(2)])):
            with pytest.raises(type(error)) as caught:
                async with client_of_fakes(server):
                    raise error
            assert caught.value is error


@in_virtual_time
async def test_a_fault_in_the_background_ends_the_body_and_comes_out_bare() -> None:
    async with fakes(one_after_the_other(value(1))) as (server,):

        async def fail(*_: object) -> None:
            await trio.sleep(1)
            raise ZeroDivisionError("a bug")

        with pytest.raises(ZeroDivisionError, match="a bug"), pytest.MonkeyPatch.context() as patch:
            patch.setattr(Client, "keep_alive", fail)
            async with client_of_fakes(server), trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(trio.sleep_forever)


@in_virtual_time
async def test_what_a_cancelled_body_raises_is_not_lost() -> None:
    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("while leaving")

    async with fakes(one_after_the_other(value(1))) as (server,):
        with pytest.raises(ExceptionGroup) as caught, trio.move_on_after(1):
            async with client_of_fakes(server), trio.open_nursery() as nursery:
                nursery.start_soon(stubborn)
                nursery.start_soon(trio.sleep_forever)
        assert [type(error) for error in caught.value.exceptions] == [KeyError]


@in_virtual_time
async def test_a_closed_client_hangs_nobody() -> None:
    async with fakes(one_after_the_other(value(1))) as (server,), trio.open_nursery() as nursery:
        async with client_of_fakes(server) as client:
            server.silent = True

            async def ask() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.do(Say("late"))

            nursery.start_soon(ask)
            await trio.sleep(0.1)
        with pytest.raises(trio.ClosedResourceError):
            await client.read(Lines())


@pytest.mark.parametrize("addresses", [[], ["mem://"], ["nonsense"]])
@in_virtual_time
async def test_addresses_that_make_no_sense_are_refused(addresses: list[str]) -> None:
    async with fakes(one_after_the_other(value(1))) as (server,):
        transport = MemoryTransport(server._transport._network, HERE)
        with pytest.raises(ValueError):
            async with open_client(addresses, transport=transport):
                raise AssertionError("it was let in")


@in_virtual_time
async def test_an_idle_client_lets_go_of_its_session_when_nobody_may_come_back() -> None:
    for prepares, verbs in ((False, ["open", "close"]), (True, ["open"])):
        async with fakes(one_after_the_other(value(1))) as (server,):
            server.script = lambda message: [] if isinstance(message, Ping) else None
            said: list[str] = []
            answer = server._answer

            def listening(message: Any, said: list[str] = said, answer: Any = answer) -> Any:
                said.append(message.verb)
                return answer(message)

            server._answer = listening  # type: ignore[method-assign]
            async with client_of_fakes(server) as client:
                if prepares:
                    client.prepare(Say("later"))
            await trio.sleep(1)
            assert said == verbs


def test_what_is_no_command_is_rejected_before_it_leaves() -> None:
    @in_virtual_time
    async def check() -> None:
        script = one_after_the_other(value(1))
        async with fakes(script) as (server,), client_of_fakes(server) as client:
            for bad in (7, object(), Say(text="x" * (1 << 20)), Say(text=object())):  # type: ignore[arg-type]
                with pytest.raises(CommandRejected):
                    await client.do(bad)  # type: ignore[arg-type]
                with pytest.raises(CommandRejected):
                    client.prepare(bad)  # type: ignore[arg-type]
            assert not server.calls

    check()
    assert encode(Ping())
