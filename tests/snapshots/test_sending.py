"""A snapshot on its way to a follower: as fast as its line takes it, for as long as one leads."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

import trioraft._snapshots.sending as module
from tests.rules.worlds import B, C, follower, leader
from trioraft._events import SnapshotProgress, SnapshotTaken
from trioraft._limits import MAX_APPEND_BYTES
from trioraft._rules.events import SnapshotSent
from trioraft._wire.installing import SnapshotOffer, SnapshotPiece, SnapshotWanted
from trioraft.abc import Connection

from .worlds import PATIENCE, End, offer, running, sending

SMALL = Random(3).randbytes(5000)
LARGE = Random(4).randbytes(2 << 20)


def a_leader() -> Any:
    return leader(*(1,) * 10, 2, 2, term=2)


async def fetched(end: End, pause: float = 0.0) -> tuple[SnapshotOffer, bytes, list[int]]:
    """All that a leader offers, and in pieces of which sizes it came."""
    said, data = await end.hear(), b""
    sizes = []
    while len(data) < said.size:
        await trio.sleep(pause)
        piece = await end.ask(SnapshotWanted(len(data)))
        assert piece.offset == len(data)
        data += piece.data
        sizes.append(len(piece.data))
    await end.say(SnapshotWanted(said.size))
    return said, data, sizes


async def test_what_is_asked_for_piece_by_piece(autojump_clock: MockClock) -> None:
    node = a_leader()
    async with sending(node, SMALL) as (world, end):
        world.send(B)
        said, data, sizes = await fetched(end)
        assert said == offer(world.offered, node.term)
        assert data == world.data
        assert len(sizes) > 1
        with pytest.raises(trio.EndOfChannel):
            await end.hear()
        assert world.rules.events == []
        await trio.sleep(PATIENCE + 0.1)
        assert [type(event) for event in world.rules.events] == [SnapshotSent]
        assert world.rules.events[0].peer == B


async def test_from_wherever_the_follower_likes(autojump_clock: MockClock) -> None:
    async with sending(a_leader(), SMALL) as (world, end):
        world.send(B)
        await end.hear()
        for offset in (3000, 0, 4500):
            piece = await end.ask(SnapshotWanted(offset))
            assert piece == SnapshotPiece(offset, world.data[offset : offset + len(piece.data)])
        await end.say(SnapshotWanted(1 << 62))
        with pytest.raises(trio.EndOfChannel):
            await end.hear()


async def test_g52_it_travels_in_pieces_that_grow_on_a_good_line(autojump_clock: MockClock) -> None:
    async with sending(a_leader(), LARGE) as (world, end):
        world.send(B)
        _, _, sizes = await fetched(end)
    assert sizes[:3] == [1024, 2048, 4096]
    assert max(sizes) == MAX_APPEND_BYTES
    assert sizes == sorted(sizes[:-1]) + sizes[-1:]


async def test_and_shrink_on_a_slow_one(autojump_clock: MockClock) -> None:
    """A large piece would keep signs of life back, until the stream is taken for dead."""
    async with sending(a_leader(), LARGE) as (world, end):
        world.send(B)
        await end.hear()
        offset = 0
        for _ in range(8):
            piece = await end.ask(SnapshotWanted(offset))
            offset += len(piece.data)
        large = len(piece.data)
        await trio.sleep(PATIENCE / 2)
        small = len((await end.ask(SnapshotWanted(offset))).data)
        assert small == large // 2


async def test_a_slow_line_does_not_make_the_first_pieces_larger(autojump_clock: MockClock) -> None:
    async with sending(a_leader(), SMALL) as (world, end):
        world.send(B)
        _, _, sizes = await fetched(end, pause=PATIENCE / 2)
    assert max(sizes) <= 1024


async def test_not_faster_than_the_others_can_bear(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_BYTES_PER_SECOND", 1 << 20)
    async with sending(a_leader(), LARGE) as (world, end):
        world.send(B)
        began = trio.current_time()
        await fetched(end)
        assert trio.current_time() - began >= (len(world.data) - MAX_APPEND_BYTES) / (1 << 20)


async def test_how_far_it_is_is_told(autojump_clock: MockClock) -> None:
    async with sending(a_leader(), SMALL) as (world, end):
        world.send(B)
        await end.hear()
        await end.ask(SnapshotWanted(0))
        await end.ask(SnapshotWanted(2500))
        assert world.sender.progress.fractions == {"b": 2500 / len(world.data)}
        await end.say(SnapshotWanted(len(world.data)))
        with pytest.raises(trio.EndOfChannel):
            await end.hear()
        await wait_all_tasks_blocked()
        assert world.sender.progress.fractions == {}
        assert [event.value for event in world.told_of(SnapshotProgress)] == [
            2500 / len(world.data)
        ]


async def test_who_leads_no_more_when_the_stream_stands_offers_nothing(
    autojump_clock: MockClock,
) -> None:
    """It would offer it in a term that another one leads."""
    async with sending(a_leader(), SMALL) as (world, end):
        dials, gate = world.dials, trio.Event()

        @asynccontextmanager
        async def slowly() -> AsyncGenerator[Connection]:
            await gate.wait()
            async with dials() as connection:
                yield connection

        world.dials = slowly
        world.send(B)
        await wait_all_tasks_blocked()
        world.rules.node = follower(1, 2, term=5, tenure=world.rules.node.tenure + 1)
        gate.set()
        with pytest.raises(trio.EndOfChannel):
            await end.hear()


async def test_who_leads_no_more_in_the_midst_of_it_sends_nothing_more(
    autojump_clock: MockClock,
) -> None:
    async with sending(a_leader(), SMALL) as (world, end):
        world.send(B)
        await end.hear()
        await end.ask(SnapshotWanted(0))
        world.rules.node = evolve(world.rules.node, tenure=world.rules.node.tenure + 1)
        with pytest.raises(trio.EndOfChannel):
            await end.ask(SnapshotWanted(1024))


async def test_a_silent_follower_is_given_up(autojump_clock: MockClock) -> None:
    async with sending(a_leader(), SMALL) as (world, end):
        world.send(B)
        began = trio.current_time()
        await end.wire.receive()
        await end.wire.receive()  # it is asked for a sign of life
        with pytest.raises(trio.EndOfChannel):
            await end.wire.receive()
        assert trio.current_time() - began == pytest.approx(PATIENCE)
        await wait_all_tasks_blocked()
        assert [type(event) for event in world.rules.events] == [SnapshotSent]


async def test_who_can_not_be_dialled_is_not_dialled_again_at_once(
    autojump_clock: MockClock,
) -> None:
    async with sending(a_leader(), SMALL) as (world, _):

        @asynccontextmanager
        async def refused() -> AsyncGenerator[Connection]:
            raise ConnectionRefusedError
            yield

        world.dials = refused
        world.send(B)
        await trio.sleep(PATIENCE - 0.1)
        assert world.rules.events == []
        await trio.sleep(0.2)
        assert [type(event) for event in world.rules.events] == [SnapshotSent]
        assert len(world.dialled) == 1


async def test_nonsense_ends_the_stream_and_nothing_else(autojump_clock: MockClock) -> None:
    async with sending(a_leader(), SMALL) as (world, end):
        world.send(B)
        await end.hear()
        with pytest.raises(trio.EndOfChannel):
            await end.ask(SnapshotPiece(0, b"x"))
        await trio.sleep(PATIENCE + 0.1)
        assert [type(event) for event in world.rules.events] == [SnapshotSent]


async def test_the_one_on_its_way_stays_though_newer_ones_are_taken(
    autojump_clock: MockClock,
) -> None:
    async with sending(a_leader(), SMALL) as (world, end), running(world):
        world.send(C)
        await end.hear()
        world.rules.on_step = world.rules.events.append
        world.recent.clear(10)
        world.machine.seen = [(0, 0, 0.0, 1)]
        await world.apply(1)
        await world.keeper.take()
        assert world.told_of(SnapshotTaken) == [SnapshotTaken(11, 10)]
        assert world.store.held == [10, 11]
        data = b""
        while len(data) < len(world.data):
            data += (await end.ask(SnapshotWanted(len(data)))).data
        assert data == world.data


async def test_two_followers_are_served_side_by_side(autojump_clock: MockClock) -> None:
    async with sending(a_leader(), SMALL) as (world, end):
        world.send(B)
        await end.hear()
        began = len(world.dialled)
        world.send(C)
        await wait_all_tasks_blocked()
        assert len(world.dialled) == began + 1, "the one does not wait for the other"
