"""What stands in for trio-websocket's channel and lock: bounded, in order, and closed cleanly."""

from __future__ import annotations

from sys import getsizeof

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioraft._transport import inbox as module
from trioraft._transport.guard import OneAtATime
from trioraft._transport.inbox import Inbox


async def test_messages_come_out_in_order_and_wait_for_nobody() -> None:
    inbox = Inbox()
    messages = [bytes([number]) for number in range(200)]
    for message in messages:
        await inbox.entrance.send(message)
    assert [await inbox.exit.receive() for _ in messages] == messages


@pytest.mark.parametrize("message", [b"four", b""])
async def test_no_more_goes_in_while_too_much_waits(
    message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message of no bytes takes memory, too."""
    monkeypatch.setattr(module, "_MOST_BYTES", 2.5 * getsizeof(message))
    inbox, sent = Inbox(), 0

    async def send() -> None:
        nonlocal sent
        for _ in range(9):
            await inbox.entrance.send(message)
            sent += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        assert sent == 3, "one beyond the bound, so that a large one gets through"
        for taken in range(1, 10):
            assert await inbox.exit.receive() == message
            await wait_all_tasks_blocked()
            assert sent == min(3 + taken, 9)


async def test_others_have_their_turn_between_many() -> None:
    """Both sides let go of the loop now and then, though nothing makes them wait."""
    inbox = Inbox()
    for way in (lambda: inbox.entrance.send(b""), inbox.exit.receive):
        turns = 0

        async def watch() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            for _ in range(1000):
                await way()
            nursery.cancel_scope.cancel()
        assert turns >= 10


async def test_what_was_put_in_before_the_end_comes_out() -> None:
    inbox = Inbox()
    async with inbox.entrance:
        await inbox.entrance.send("text")
    assert await inbox.exit.receive() == "text"
    with pytest.raises(trio.EndOfChannel):
        await inbox.exit.receive()


async def test_who_waits_hears_of_the_end() -> None:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.entrance.aclose)
        with pytest.raises(trio.EndOfChannel):
            await inbox.exit.receive()


async def test_a_closed_one_takes_and_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 0)
    inbox = Inbox()
    await inbox.entrance.send(b"lost")

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await inbox.entrance.send(b"too much")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        await inbox.exit.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await inbox.exit.receive()
    with pytest.raises(trio.BrokenResourceError):
        await inbox.entrance.send(b"late")


async def test_who_is_cancelled_takes_nothing_along() -> None:
    inbox = Inbox()
    with trio.move_on_after(0) as scope:
        await inbox.exit.receive()
    assert scope.cancelled_caught
    await inbox.entrance.send(b"here")
    assert await inbox.exit.receive() == b"here"


async def test_one_writes_at_a_time() -> None:
    lock, inside, most = OneAtATime(), 0, 0

    async def write(fails: bool) -> None:
        nonlocal inside, most
        try:
            async with lock:
                inside += 1
                most = max(most, inside)
                await trio.lowlevel.checkpoint()
                inside -= 1
                if fails:
                    raise OSError
        except OSError:
            pass

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(write, number % 2 == 0)
    assert (inside, most) == (0, 1)
