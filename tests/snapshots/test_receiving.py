"""A snapshot that comes from a leader: piece by piece, and nothing of it is believed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.rules.worlds import B, C, follower
from trioraft import ProtocolError
from trioraft._events import SnapshotProgress
from trioraft._limits import LAST_TERM, MAX_APPEND_BYTES
from trioraft._rules.messages import InstallSnapshotReply
from trioraft._wire.installing import SnapshotOffer, SnapshotPiece, SnapshotWanted

from .worlds import (
    FULL,
    PATIENCE,
    End,
    Follower,
    damaged,
    offer,
    offering,
    running,
    snapshot_of,
)

STATE = Random(2).randbytes(3000)
PIECE = 1000


def a_follower(*terms: int, **state: Any) -> Follower:
    return Follower(follower(*(terms or (1, 1)), **{"term": 3, **state}))


async def fetch(
    end: End, said: SnapshotOffer, data: bytes, upto: int | None = None, size: int = PIECE
) -> list[int]:
    """Offer a snapshot, and bring what is asked for; at which offsets that was.

    Up to where it ends, or up to the first offset that is asked for beyond `upto`.
    """
    wanted, asked = await end.ask(said), []
    while wanted.offset < said.size and (upto is None or wanted.offset <= upto):
        asked.append(wanted.offset)
        piece = data[wanted.offset : wanted.offset + size]
        wanted = await end.ask(SnapshotPiece(wanted.offset, piece))
    return [*asked, wanted.offset]


async def test_piece_by_piece_to_the_machine() -> None:
    world = a_follower()
    data, offered = snapshot_of(9, 2, STATE, time=7.0)
    async with running(world):
        async with offering(world, B) as end:
            asked = await fetch(end, offer(offered, 3), data)
        assert type(end.error) is trio.EndOfChannel
    assert asked == [*range(0, len(data), PIECE), len(data)]
    assert world.machine.values == [*STATE]
    assert world.rules.node.log.base_index == world.rules.node.commit == 9
    assert world.rules.said[-1] == InstallSnapshotReply(3, 9)
    assert world.store.held == [9]


async def test_how_far_it_has_come_is_told() -> None:
    world = a_follower()
    data, offered = snapshot_of(9, 2, STATE)
    async with running(world), offering(world, B) as end:
        await fetch(end, offer(offered, 3), data, upto=1500)
        assert world.receiver.progress.fractions == {"b": 2000 / len(data)}
        await end.ask(SnapshotPiece(2000, data[2000:]))
        assert world.receiver.progress.fractions == {}
    told = world.told_of(SnapshotProgress)
    assert [event.value for event in told] == [1000 / len(data), 2000 / len(data)]
    assert {event.peer for event in told} == {"b"}


async def test_its_time_counts_before_the_machine_is_restored() -> None:
    """Who is elected meanwhile gives its entries their time: the cluster's must not fall."""
    world = a_follower()
    world.rules.disk_is_slow = True
    data, offered = snapshot_of(9, 2, STATE, time=7.0)
    async with running(world), offering(world, B) as end:
        await end.ask(offer(offered, 3))
        await end.say(SnapshotPiece(0, data))
        await wait_all_tasks_blocked()
        assert world.rules.node.log.base_index == 9
        assert world.applier.applied == 0
        assert world.saw == [7.0]


@pytest.mark.parametrize("leader", [B, C], ids=["the same leader", "the next one"])
async def test_after_a_break_it_goes_on_where_it_was(leader: Any) -> None:
    world = a_follower()
    data, offered = snapshot_of(9, 2, STATE)
    async with running(world):
        async with offering(world, B) as end:
            await fetch(end, offer(offered, 3), data, upto=1500)
        async with offering(world, leader) as end:
            asked = await fetch(end, offer(offered, 3 if leader == B else 4), data)
    assert asked[0] == 2000
    assert world.machine.values == [*STATE]


async def test_another_one_begins_anew_and_nothing_is_mixed() -> None:
    world = a_follower()
    data, offered = snapshot_of(9, 2, STATE)
    other, as_other = snapshot_of(9, 2, STATE[::-1])
    async with running(world):
        async with offering(world, B) as end:
            await fetch(end, offer(offered, 3), data, upto=1500)
        async with offering(world, C) as end:
            asked = await fetch(end, offer(as_other, 4), other)
    assert asked[0] == 0
    assert world.machine.values == [*STATE[::-1]]


async def test_one_that_is_spoiled_is_refused_and_nothing_is_left_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = a_follower()
    data, offered = snapshot_of(9, 2, STATE)
    async with running(world):
        async with offering(world, B) as end:
            await end.ask(offer(offered, 3))
            await end.say(SnapshotPiece(0, damaged(data)))
            error = await end.end()
        assert type(error) is ProtocolError
        assert "a snapshot from b" in caplog.text
        assert world.store.held == []
        assert world.store._incoming is None
        assert world.rules.node.log.last_index == 2
        async with offering(world, B) as end:
            asked = await fetch(end, offer(offered, 3), data)
    assert asked[0] == 0
    assert world.machine.values == [*STATE]


FINE, OFFERED = snapshot_of(9, 2, STATE)


@pytest.mark.parametrize(
    "changes",
    [
        {"term": LAST_TERM + 1},
        {"last_included_term": 4},
        {"cluster": "another"},
    ],
    ids=str,
)
async def test_offers_that_make_no_sense_are_refused_at_once(changes: dict[str, Any]) -> None:
    world = a_follower()
    async with running(world), offering(world, B) as end:
        await end.say(offer(OFFERED, 3, **changes))
        assert type(await end.end()) is ProtocolError
    assert world.rules.events == []
    assert world.store._incoming is None


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ({"size": 0}, b""),
        ({"size": 1}, FINE[:1]),
        ({"size": len(FINE) - 1}, FINE[:-1]),
        ({"digest": bytes(32)}, FINE),
        ({"digest": b""}, FINE),
        ({"last_included_index": 10}, FINE),
        ({"last_included_term": 1}, FINE),
        ({"cluster": None}, FINE),
    ],
    ids=str,
)
async def test_a_file_that_is_fine_but_another_one_is_refused(
    changes: dict[str, Any], data: bytes
) -> None:
    world = a_follower()
    async with running(world), offering(world, B) as end:
        await end.say(offer(OFFERED, 3, **changes))
        if data:
            await end.hear()
            await end.say(SnapshotPiece(0, data))
        assert type(await end.end()) is ProtocolError
    assert world.rules.events == []
    assert world.store.held == []


@pytest.mark.parametrize(
    "piece",
    [
        SnapshotPiece(1, b"x"),
        SnapshotPiece(0, b""),
        SnapshotPiece(0, bytes(MAX_APPEND_BYTES + 1)),
        SnapshotPiece(0, bytes(PIECE + 1)),
        offer(OFFERED, 3),
    ],
    ids=["a gap", "nothing", "too much at a time", "more than there is", "an offer"],
)
async def test_pieces_that_make_no_sense_end_the_stream(piece: Any) -> None:
    world = a_follower()
    size = PIECE if isinstance(piece, SnapshotPiece) and len(piece.data) == PIECE + 1 else 1 << 62
    async with running(world), offering(world, B) as end:
        await end.ask(offer(OFFERED, 3, size=size))
        await end.say(piece)
        assert type(await end.end()) is ProtocolError
    assert world.store._incoming is None


async def test_a_piece_that_nobody_has_offered_ends_the_stream() -> None:
    world = a_follower()
    async with running(world), offering(world, B) as end:
        await end.say(SnapshotPiece(0, b"x"))
        assert type(await end.end()) is ProtocolError


async def test_one_that_is_too_large_for_the_disk_is_given_up() -> None:
    """And what had come of it has to come again: the store keeps nothing of what it refused."""
    world = a_follower()
    async with running(world):
        async with offering(world, B) as end:
            await fetch(end, offer(OFFERED, 3, size=1 << 62), FINE, upto=0)
            world.store.refuses["take_in"] = FULL
            await end.say(SnapshotPiece(PIECE, FINE[PIECE:]))
            error = await end.end()
        assert "the snapshot can't be kept: no space left" in str(error)
        world.store.tidy()
        world.store.refuses.clear()
        async with offering(world, B) as end:
            assert (await fetch(end, offer(OFFERED, 3), FINE))[0] == 0
    assert world.machine.values == [*STATE]


async def test_a_disk_that_has_lost_what_came_before_is_no_bug() -> None:
    """The stream broke while a piece was written, and the disk refused that when nobody waited."""
    world = a_follower()
    async with running(world):
        async with offering(world, B) as end:
            await fetch(end, offer(OFFERED, 3), FINE, upto=0)
        world.store.tidy()
        async with offering(world, B) as end:
            assert await end.ask(offer(OFFERED, 3)) == SnapshotWanted(PIECE)
            await end.say(SnapshotPiece(PIECE, FINE[PIECE:]))
            assert type(await end.end()) is ProtocolError
        async with offering(world, B) as end:
            assert (await fetch(end, offer(OFFERED, 3), FINE))[0] == 0


@pytest.mark.parametrize(
    ("terms", "commit"), [((1, 1), 2), ((1, 1, 2, 2), 4), ((1, 1, 2), 1)], ids=str
)
async def test_s1_what_the_log_has_already_is_not_asked_for(
    terms: Sequence[int], commit: int
) -> None:
    """The stream with it may be late: what is not beyond the log changes nothing."""
    world = a_follower(*terms, commit=commit)
    last = min(3, len(terms))
    data, offered = snapshot_of(last, terms[last - 1], STATE)
    async with running(world), offering(world, B) as end:
        assert await end.ask(offer(offered, 3)) == SnapshotWanted(len(data))
    node = world.rules.node
    assert (node.log.last_index, node.log.base_index) == (len(terms), 0)
    assert node.commit == max(commit, last)
    assert world.rules.said == [InstallSnapshotReply(3, last)]
    assert world.store.held == []


async def test_who_leads_no_more_is_told_the_term_and_brings_nothing() -> None:
    world = a_follower()
    data, offered = snapshot_of(9, 2, STATE)
    async with running(world), offering(world, B) as end:
        assert await end.ask(offer(offered, 2)) == SnapshotWanted(len(data))
    assert world.rules.said == [InstallSnapshotReply(3, 0)]
    assert world.store._incoming is None


async def test_who_leads_no_more_ends_nothing_that_the_new_leader_sends() -> None:
    world = a_follower()
    data, offered = snapshot_of(9, 2, STATE)
    other, as_other = snapshot_of(8, 2, STATE[::-1])
    async with running(world), offering(world, C) as now:
        await fetch(now, offer(offered, 3), data, upto=0)
        async with offering(world, B) as late:
            assert await late.ask(offer(as_other, 2)) == SnapshotWanted(len(other))
        assert not now.over.is_set()
        await now.ask(SnapshotPiece(PIECE, data[PIECE:]))
    assert world.machine.values == [*STATE]


async def test_a_leader_that_is_deposed_in_the_midst_is_stopped() -> None:
    world = a_follower()
    data, offered = snapshot_of(9, 2, STATE)
    async with running(world), offering(world, B) as end:
        await fetch(end, offer(offered, 3), data, upto=0)
        world.rules.node = follower(1, 1, term=5)
        assert await end.ask(SnapshotPiece(PIECE, data[PIECE:])) == SnapshotWanted(len(data))
    assert world.rules.said == [InstallSnapshotReply(5, 0)]
    assert world.store.held == []


async def test_a_newer_stream_ends_the_older_one_and_they_do_not_mix() -> None:
    """Not even what the disk was still writing for the older one."""
    world = a_follower()
    data, offered = snapshot_of(9, 2, STATE)
    other, as_other = snapshot_of(10, 2, STATE[::-1])
    async with running(world), offering(world, B) as old:
        await fetch(old, offer(offered, 3), data, upto=0)
        gate = world.store.gates["take_in"] = trio.Event()
        await old.say(SnapshotPiece(PIECE, data[PIECE:2000]))
        await wait_all_tasks_blocked()
        async with offering(world, C) as new:
            await new.say(offer(as_other, 4))
            await old.end()
            gate.set()
            wanted = await new.hear()
            assert wanted.offset == 0
            await new.ask(SnapshotPiece(0, other))
    assert world.machine.values == [*STATE[::-1]]
    assert world.rules.node.log.base_index == 10


async def test_a_server_that_takes_no_part_yet_takes_nothing_in() -> None:
    """It is still finding out what its own disk holds."""
    world = a_follower()
    world.rules.takes_part = False
    async with running(world), offering(world, B) as end:
        assert await end.end() is None
    assert world.rules.events == []


@pytest.mark.parametrize("where", ["take_in", "accept"])
async def test_a_stream_that_breaks_while_the_disk_works(where: str) -> None:
    world = a_follower()
    data, offered = snapshot_of(9, 2, STATE)
    async with running(world):
        world.store.gates[where] = trio.Event()
        async with offering(world, B) as end:
            await end.ask(offer(offered, 3))
            await end.say(SnapshotPiece(0, data))
            await wait_all_tasks_blocked()
        assert world.rules.events == []
        world.store.gates.clear()
        async with offering(world, B) as end:
            await fetch(end, offer(offered, 3), data)
    assert world.machine.values == [*STATE]


async def test_the_server_ends_while_the_machine_is_restored() -> None:
    """That is no error of this stream's: it must not hide why the server has ended."""
    world = a_follower()
    world.store.gates["load"] = trio.Event()
    data, offered = snapshot_of(9, 2, STATE)
    async with running(world), offering(world, B) as end:
        await end.ask(offer(offered, 3))
        await end.say(SnapshotPiece(0, data))
        await wait_all_tasks_blocked()
        world.applier.end()
        await wait_all_tasks_blocked()
        assert end.error is None


async def test_a_leader_that_falls_silent_is_given_up(autojump_clock: MockClock) -> None:
    world = a_follower()
    _, offered = snapshot_of(9, 2, STATE)
    async with running(world), offering(world, B) as end:
        await end.ask(offer(offered, 3))
        began = trio.current_time()
        assert type(await end.end()) is not None
        assert trio.current_time() - began == pytest.approx(2 * PATIENCE)


async def test_entries_may_come_by_their_own_stream_meanwhile() -> None:
    """By then it is not needed any more, and what had come of it is not installed."""
    world = a_follower()
    data, offered = snapshot_of(9, 2, STATE)
    async with running(world), offering(world, B) as end:
        await fetch(end, offer(offered, 3), data, upto=0)
        world.rules.node = follower(*(1,) * 8, 2, term=3, commit=9)
        assert await end.ask(SnapshotPiece(PIECE, data[PIECE:])) == SnapshotWanted(len(data))
    assert world.store.held == []
    assert world.rules.node.log.base_index == 0
