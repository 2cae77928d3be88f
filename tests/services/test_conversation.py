"""One persistent stream: one task writes, one reads, one watches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioraft import InternalError, ProtocolError, StorageError
from trioraft._clock import Clock
from trioraft._limits import LINK_QUEUE_MESSAGES
from trioraft._rules.messages import RequestVote
from trioraft._transport.conversation import LOST, Conversation, bare_errors
from trioraft._wire.codec import Ping, Pong, WireMessage, decode, encode

from .fakes import Wire, connected

PATIENCE = 1.0


def vote(number: int) -> RequestVote:
    return RequestVote(number, 0, 0)


class Talk:
    """A conversation, the far end of its stream, and what it heard."""

    def __init__(self, capacity: float = 1000) -> None:
        near, self.far = connected(capacity)
        self.heard: list[WireMessage] = []
        self.conversation = Conversation(near, Clock(), PATIENCE)
        self.ended: BaseException | None = None
        self.ended_at = 0.0

    async def run(self) -> None:
        try:
            with bare_errors():
                await self.conversation.run(self.heard.append)
        except LOST as error:
            self.ended, self.ended_at = error, trio.current_time()

    async def said(self) -> list[WireMessage]:
        """All that has reached the far end."""
        await wait_all_tasks_blocked()
        return [decode(data) for data in self.far.arrived()]

    async def hear(self, *messages: WireMessage) -> None:
        for message in messages:
            await self.far.send(encode(message))
        await wait_all_tasks_blocked()


@asynccontextmanager
async def talking(capacity: float = 1000) -> AsyncIterator[Talk]:
    async with trio.open_nursery() as nursery:
        talk = Talk(capacity)
        nursery.start_soon(talk.run)
        yield talk
        nursery.cancel_scope.cancel()


async def test_messages_go_both_ways_in_order() -> None:
    async with talking() as talk:
        for number in range(1, 6):
            talk.conversation.post(vote(number))
        assert [m.term for m in map(_vote, await talk.said())] == [1, 2, 3, 4, 5]
        await talk.hear(vote(7), vote(8))
        assert talk.heard == [vote(7), vote(8)]


async def test_one_that_is_not_urgent_waits_for_its_turn_with_each_message() -> None:
    turns = trio.Semaphore(0)
    near, far = connected(1000)
    heard: list[WireMessage] = []
    conversation = Conversation(near, Clock(), PATIENCE, turn=turns.acquire)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.run, heard.append)
        for number in (1, 2):
            await far.send(encode(vote(number)))
            conversation.post(vote(number))
        sent = 0
        for turns_given in range(5):
            await wait_all_tasks_blocked()
            sent += len(far.arrived())
            assert len(heard) + sent == min(turns_given, 4)
            turns.release()
        assert heard == [vote(1), vote(2)]
        nursery.cancel_scope.cancel()


def _vote(message: WireMessage) -> RequestVote:
    assert isinstance(message, RequestVote)
    return message


async def test_a_ping_is_answered_and_neither_is_handed_on() -> None:
    async with talking() as talk:
        await talk.hear(Ping(), Pong(), Ping())
        assert await talk.said() == [Pong(), Pong()]
        assert talk.heard == []


async def test_posting_never_waits_and_the_oldest_are_dropped() -> None:
    async with talking(capacity=0) as talk:
        await wait_all_tasks_blocked()
        total = LINK_QUEUE_MESSAGES + 10
        for number in range(1, total + 1):
            talk.conversation.post(vote(number))
        terms = []
        for _ in range(LINK_QUEUE_MESSAGES):
            terms.append(_vote(decode(await talk.far.receive())).term)
            await wait_all_tasks_blocked()
        assert terms == list(range(11, total + 1))


async def test_a_stuck_send_holds_one_message_and_the_queue_the_newest() -> None:
    async with talking(capacity=0) as talk:
        talk.conversation.post(vote(1))
        await wait_all_tasks_blocked()  # it is being sent, and nobody takes it
        for number in range(2, 200):
            talk.conversation.post(vote(number))
        first = _vote(decode(await talk.far.receive())).term
        second = _vote(decode(await talk.far.receive())).term
        assert (first, second) == (1, 200 - LINK_QUEUE_MESSAGES)


# -- the watch ---------------------------------------------------------------------------------


async def test_a_silent_peer_is_asked_after_one_patience_and_dropped_after_two(
    autojump_clock: MockClock,
) -> None:
    async with talking() as talk:
        start = trio.current_time()
        await trio.sleep(PATIENCE * 0.99)
        assert await talk.said() == []
        await trio.sleep(PATIENCE * 0.02)
        assert await talk.said() == [Ping()]
        await trio.sleep(PATIENCE * 0.98)
        assert talk.ended is None
        await trio.sleep(PATIENCE * 0.02)
        assert isinstance(talk.ended, ProtocolError)
        assert str(talk.ended) == "silent for 2 s"
        assert talk.ended_at - start == pytest.approx(2 * PATIENCE)


@pytest.mark.parametrize("sign", [Pong(), Ping(), vote(1)])
async def test_any_sign_of_life_keeps_a_peer(sign: WireMessage, autojump_clock: MockClock) -> None:
    async with talking() as talk:
        for _ in range(10):
            await trio.sleep(1.9 * PATIENCE)
            assert talk.ended is None
            await talk.hear(sign)
        await trio.sleep(2.1 * PATIENCE)
        assert isinstance(talk.ended, ProtocolError)


async def test_a_peer_that_talks_is_not_asked(autojump_clock: MockClock) -> None:
    async with talking() as talk:
        for number in range(20):
            await trio.sleep(0.9 * PATIENCE)
            await talk.hear(vote(number))
        assert await talk.said() == []


async def test_two_servers_with_nothing_to_say_keep_each_other(autojump_clock: MockClock) -> None:
    near, far = connected()
    ended: list[BaseException] = []

    async def talk(wire: Wire) -> None:
        try:
            await Conversation(wire, Clock(), PATIENCE).run(lambda _: None)
        except Exception as error:  # noqa: BLE001  any end at all is wrong
            ended.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk, near)
        nursery.start_soon(talk, far)
        await trio.sleep(100 * PATIENCE)
        assert ended == []
        nursery.cancel_scope.cancel()


async def test_the_watch_ends_a_send_that_is_stuck(autojump_clock: MockClock) -> None:
    async with talking(capacity=0) as talk:
        talk.conversation.post(vote(1))
        await trio.sleep(2.1 * PATIENCE)
        assert isinstance(talk.ended, ProtocolError)


# -- ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"\x80", b"\x91" * 2000, encode(Ping()) + b"\x00"])
async def test_nonsense_ends_it(junk: bytes) -> None:
    async with talking() as talk:
        await talk.far.send(junk)
        await wait_all_tasks_blocked()
        assert isinstance(talk.ended, ProtocolError)


async def test_who_takes_the_messages_may_end_it() -> None:
    near, far = connected()
    await far.send(encode(vote(1)))

    def refuse(message: WireMessage) -> None:
        raise ProtocolError(f"{type(message).__name__} does not belong here")

    with pytest.raises(ProtocolError, match="RequestVote does not belong here"), bare_errors():
        await Conversation(near, Clock(), PATIENCE).run(refuse)


async def test_the_end_of_the_stream_ends_it() -> None:
    async with talking() as talk:
        await talk.far.aclose()
        await wait_all_tasks_blocked()
        assert isinstance(talk.ended, trio.EndOfChannel | trio.BrokenResourceError)


async def test_a_fault_of_this_program_is_not_mistaken_for_a_lost_stream() -> None:
    near, far = connected()
    await far.send(encode(vote(1)))
    await far.aclose()

    def fail(_: WireMessage) -> None:
        raise InternalError("two leaders")

    with pytest.raises(InternalError), bare_errors():
        await Conversation(near, Clock(), PATIENCE).run(fail)


# -- groups ------------------------------------------------------------------------------------


def unwrapped(*errors: Any) -> BaseException:
    with pytest.raises(BaseException) as caught, bare_errors():
        raise BaseExceptionGroup("", errors)
    return caught.value


RANKED = [
    KeyboardInterrupt(),
    KeyError("a bug"),
    StorageError("a disk"),
    ProtocolError("a stream"),
]


@pytest.mark.parametrize("rank", range(len(RANKED)))
def test_what_matters_most_is_raised_and_the_rest_is_noted(rank: int) -> None:
    errors = [type(error)(*error.args) for error in RANKED[rank:]]
    for order in (errors, errors[::-1]):
        raised = unwrapped(*order)
        assert raised is errors[0]
        for other in errors[1:]:
            assert f"also: {other!r}" in raised.__notes__


@pytest.mark.parametrize(
    "lost",
    [OSError(5), trio.BrokenResourceError(), trio.ClosedResourceError(), trio.EndOfChannel()],
)
def test_the_end_of_a_stream_hides_nothing(lost: Exception) -> None:
    fault = InternalError("an invariant")
    assert unwrapped(lost, fault) is fault
    assert unwrapped(ExceptionGroup("", [lost, ExceptionGroup("", [fault])])) is fault


def test_a_single_error_comes_out_bare_with_its_cause() -> None:
    error, cause = KeyError("x"), ValueError("y")
    error.__cause__ = cause
    raised = unwrapped(ExceptionGroup("", [error]))
    assert raised is error
    assert raised.__cause__ is cause
    assert not hasattr(raised, "__notes__")


def test_what_is_in_no_group_passes() -> None:
    error = KeyError("x")
    with pytest.raises(KeyError) as caught, bare_errors():
        raise error
    assert caught.value is error
    with bare_errors():
        pass


async def test_cancelling_passes_through() -> None:
    with trio.CancelScope() as scope, bare_errors():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)
            scope.cancel()
    assert scope.cancelled_caught


async def test_an_error_beside_a_cancellation_is_what_is_raised() -> None:
    async def fails_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("while leaving")

    with pytest.raises(KeyError), trio.CancelScope() as scope, bare_errors():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_when_cancelled)
            nursery.start_soon(trio.sleep_forever)
            await wait_all_tasks_blocked()
            scope.cancel()


# -- is anybody there? -------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [Pong(), vote(1), Ping()], ids=["pong", "message", "ping"])
async def test_any_sign_of_life_is_an_answer(sign: WireMessage, autojump_clock: MockClock) -> None:
    async with talking() as talk, trio.open_nursery() as nursery:
        found: list[tuple[bool, float]] = []

        async def ask() -> None:
            found.append((await talk.conversation.answers(), trio.current_time()))

        nursery.start_soon(ask)
        assert await talk.said() == [Ping()]
        await trio.sleep(PATIENCE / 3)
        await talk.hear(sign)
        await trio.sleep(PATIENCE)
        assert found[0][0]
        assert found[0][1] <= PATIENCE / 2, "as soon as it is there"


async def test_who_says_nothing_does_not_answer(autojump_clock: MockClock) -> None:
    """What was said before is no answer, nor is what this side asks itself."""
    async with talking() as talk:
        await trio.sleep(PATIENCE * 0.9)  # it is about to be asked for a sign of life anyway
        await talk.hear(vote(1))
        await trio.sleep(PATIENCE * 0.9)
        began = trio.current_time()
        assert not await talk.conversation.answers()
        assert trio.current_time() - began == pytest.approx(PATIENCE)
        await talk.hear(Pong())
        assert not await talk.conversation.answers(), "that was before"
