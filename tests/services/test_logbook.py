"""The log's bytes: in memory, on their way to the disk, and on their way to followers."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.rules.worlds import B
from trioraft import Config
from trioraft._clock import Clock
from trioraft._logbook import LogBook
from trioraft._rules import effects as do
from trioraft._rules.log import Entries
from trioraft._rules.messages import AppendEntries
from trioraft._tickets import Ticket
from trioraft._wire.codec import entries_of
from trioraft._wire.frames import Kind, frame, parse_entry
from trioraft._wire.stamps import stamp, stamped_time
from trioraft.abc import Batch

from .fakes import FakeStorage


class World:
    def __init__(self, *stored: bytes) -> None:
        self.storage = FakeStorage(stored)
        self.persisted: list[int] = []
        self.fetched: list[tuple[do.Fetch, Entries]] = []
        self.log = LogBook(
            storage=self.storage,
            last_index=len(stored),
            config=Config(),
            clock=Clock(),
            on_persisted=self.persisted.append,
            on_fetched=lambda wanted, entries: self.fetched.append((wanted, entries)),
        )

    async def turn(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.log.writer.run)
            nursery.start_soon(self.log.serve_fetches)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


def entry(index: int, term: int = 1, time: float = 0.0) -> bytes:
    return frame(index, term, Kind.NOOP, stamp(time))


async def test_what_a_leader_appends_is_framed_stamped_kept_and_filed() -> None:
    world = World(entry(1, time=50.0))
    await world.log.look_at_last(1)
    world.log.append_own(do.AppendOwn(1, 2, 4, 1, None), ())
    world.log.append_own(do.AppendOwn(2, 3, 4, 1, None), [Ticket(b"x")])
    await world.turn()
    noop, command = (parse_entry(one) for one in world.storage.frames[1:])
    assert (noop.index, noop.term, noop.kind) == (2, 4, Kind.NOOP)
    assert (command.index, command.term, command.kind) == (3, 4, Kind.COMMAND)
    assert 50.0 <= stamped_time(noop.payload) <= stamped_time(command.payload)
    assert world.log.recent.between(2, 3) == world.storage.frames[1:]
    assert world.persisted == [2]


async def test_the_time_goes_on_from_what_a_snapshot_says() -> None:
    """Its last entry is in the log no more, and a later one may not be there yet."""
    world = World()
    await world.log.look_at_last(9)
    world.log.time.saw(1_000_000_000_000.0)
    world.log.append_own(do.AppendOwn(1, 1, 4, 1, None), ())
    await world.turn()
    assert stamped_time(parse_entry(world.storage.frames[0]).payload) >= 1_000_000_000_000.0


async def test_a_snapshot_takes_the_place_of_all_that_is_here() -> None:
    world = World(entry(1), entry(2))
    world.log.write(do.WriteEntries(1, entries_of([entry(3), entry(4)]), cuts=False))
    world.log.replace(do.ReplaceLog(2, 1, 9, 2))
    world.log.write(do.WriteEntries(3, entries_of([entry(10, 3)]), cuts=False))
    assert world.log.recent.between(3, 4) is None
    assert world.log.recent.between(10, 10) == [entry(10, 3)]
    await world.turn()
    assert world.storage.batches == [Batch(cut=1, base=(9, 2), entries=[entry(10, 3)])]
    assert world.persisted == [3]


async def test_what_was_forgotten_meanwhile_comes_as_nothing() -> None:
    world = World(entry(1), entry(2), entry(3))
    wanted = do.Fetch(1, B, 2)
    world.log.fetch(wanted)
    await world.turn()
    world.log.writer.compact(1, (2, 1))
    await world.turn()
    world.log.fetch(wanted)
    await world.turn()
    assert [len(entries) for _, entries in world.fetched] == [2, 0]
    assert world.fetched[1][1].first == 2


async def test_a_message_gets_the_frames_that_it_speaks_of() -> None:
    world = World()
    world.log.write(do.WriteEntries(1, entries_of([entry(1), entry(2)]), cuts=False))
    request = AppendEntries(1, 1, 0, 0, 0, Entries(1, 2, ((1, 1),)))
    sent = world.log.with_frames(do.Send(B, request)).message
    assert isinstance(sent, AppendEntries)
    assert list(sent.entries.frames) == [entry(1), entry(2)]
    assert world.log.reach(B, 1) == 2
    assert world.log.reach(B, 3) is None


async def test_a_follower_applies_when_what_it_has_written_has_been_told(
    autojump_clock: MockClock,
) -> None:
    world, told = World(), trio.Event()

    async def tell() -> None:
        """What a link does: it is woken in one pass, and has sent in another."""
        while not world.persisted:
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        told.set()

    world.storage.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.log.writer.run)
        nursery.start_soon(tell)
        world.log.append_own(do.AppendOwn(1, 1, 4, 1, None), ())
        await world.log.calm(applying_is_waited_for=True)
        assert not world.persisted, "a leader's callers wait for what it applies"
        world.storage.gate.set()
        await world.log.calm(applying_is_waited_for=False)
        assert world.log.writer.rests
        assert told.is_set()
        nursery.cancel_scope.cancel()


async def test_but_it_does_not_wait_for_a_slow_disk(autojump_clock: MockClock) -> None:
    world = World()
    world.storage.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.log.writer.run)
        world.log.append_own(do.AppendOwn(1, 1, 4, 1, None), ())
        began = trio.current_time()
        await world.log.calm(applying_is_waited_for=False)
        assert 0 < trio.current_time() - began < 0.01
        assert not world.log.writer.rests
        nursery.cancel_scope.cancel()
