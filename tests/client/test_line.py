"""A line that is over answers everything at once; and what a reply comes to for its caller."""

from __future__ import annotations

import pytest
import trio

from tests.client.worlds import FakeServer, fakes, one_after_the_other, value
from tests.server.worlds import in_virtual_time
from trioraft import (
    Anything,
    Busy,
    CommandFailed,
    CommandRejected,
    NotLeaderError,
    OutcomeUnknown,
    ProtocolError,
    ServerStopped,
    SessionExpired,
)
from trioraft._client.line import Asked, Line, Question
from trioraft._client.replies import error_of
from trioraft._clock import Clock
from trioraft._sessions import Code, Reply
from trioraft._wire.asking import Calls, ManageSession
from trioraft._wire.codec import Refusal, encode
from trioraft._wire.strict import pack
from trioraft.testing import MemoryTransport


def transport_to(server: FakeServer) -> MemoryTransport:
    return MemoryTransport(server._transport._network, "mem://caller")


@in_virtual_time
async def test_what_is_under_way_when_a_line_ends_is_answered_once_and_what_comes_later_too() -> (
    None
):
    async with fakes(lambda message: []) as (server,):
        told: dict[str, list[Code]] = {}

        def asked(name: str) -> Asked:
            codes = told.setdefault(name, [])
            return Asked(b"x", lambda reply: codes.append(reply.code))

        questions = [Question(b"x", Anything()) for _ in range(3)]
        async with transport_to(server).connect(server.address) as connection:
            line = Line(connection, Clock(), 1.0)
            await line.greet(None)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.run, lambda welcome: None)
                line.call(asked("sent"))
                line.manage("keep", 1, asked("kept"))
                line.ask(questions[0])
                await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
                line.call(asked("queued"))
                line.ask(questions[1])
        line.call(asked("late"))
        line.manage("keep", 1, asked("late to keep"))
        line.ask(questions[2])
        assert told == {
            "sent": [Code.UNKNOWN],
            "kept": [Code.UNKNOWN],
            "queued": [Code.NOT_LEADER],
            "late": [Code.NOT_LEADER],
            "late to keep": [Code.NOT_LEADER],
        }
        for question in questions:
            answer, _ = await question.result()
            assert answer.code == Code.NOT_LEADER
        assert (await line.changes(3)).code == Code.NOT_LEADER
        assert not line._asked
        assert not line._told
        assert [type(message) for message in server.heard][:2] == [Calls, ManageSession]


@in_virtual_time
async def test_who_is_refused_or_greeted_strangely_is_told_why() -> None:
    async with fakes(one_after_the_other(value(1))) as (server,):
        for first, why in ((Refusal("not you"), "not you"), (Calls(1, ()), "got Calls")):
            server.welcome = first  # type: ignore[assignment]
            async with transport_to(server).connect(server.address) as connection:
                line = Line(connection, Clock(), 1.0)
                with pytest.raises(ProtocolError, match=why):
                    await line.greet(None)
    assert encode(Refusal("not you"))


@pytest.mark.parametrize(
    ("reply", "kind", "outcome"),
    [
        (Reply(Code.RAISED, 7, 1, pack(["E", "x"])), CommandFailed, "done"),
        (Reply(Code.EXPIRED, 7, 1), SessionExpired, "unknown"),
        (Reply(Code.FORGOTTEN, 7, 1), OutcomeUnknown, "unknown"),
        (Reply(Code.UNKNOWN, 7, 1), OutcomeUnknown, "unknown"),
        (Reply(Code.NOT_LEADER, 0, 4, pack(["n2", "ws://n2:1"])), NotLeaderError, "not done"),
        (Reply(Code.NOT_LEADER, 0, 4, pack([None, None])), NotLeaderError, "not done"),
        (Reply(Code.REJECTED, 0, 0, pack(["E", "x"])), CommandRejected, "not done"),
        (Reply(Code.BUSY, 0, 0), Busy, "not done"),
        (Reply(Code.STOPPED, 0, 0), ServerStopped, "not done"),
    ],
)
def test_each_code_is_an_error_that_says_what_is_known(
    reply: Reply, kind: type[Exception], outcome: str | None
) -> None:
    error = error_of(reply, b"handle")
    assert type(error) is kind
    assert getattr(error, "outcome", None) == outcome
    if isinstance(error, OutcomeUnknown):
        assert error.handle == b"handle"
    if isinstance(error, NotLeaderError):
        known = reply.data != pack([None, None])
        assert (error.leader, error.address) == (("n2", "ws://n2:1") if known else (None, None))
