"""What is committed goes into the machine: in order, each entry once, and none is skipped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import outcome
import pytest
import trio
from attrs import frozen
from trio.testing import MockClock, wait_all_tasks_blocked

from trioraft import Applied, Entry, ProtocolError, ServerStopped, StorageError, command
from trioraft import _applier as module
from trioraft._applier import Applier, reply_of
from trioraft._clock import Clock
from trioraft._commands import Vocabulary
from trioraft._events import SlowMachine
from trioraft._recent import Recent
from trioraft._sessions import Code, Sessions
from trioraft._stopwatch import Stopwatch
from trioraft._tickets import Ticket, Tickets
from trioraft._wire.frames import FrameError, Kind, frame
from trioraft._wire.stamps import stamp
from trioraft._wire.strict import pack, unpack

from .fakes import Count, Fail, FakeStorage, Machine, Note, calm, noop

VOCABULARY = Vocabulary([Note, Fail, Count])


def note(index: int, value: int, term: int = 1, time: float = 0.0) -> bytes:
    return frame(index, term, Kind.COMMAND, stamp(time, VOCABULARY.encode(Note(value))[0]))


def notes(last: int) -> list[bytes]:
    return [note(index, index) for index in range(1, last + 1)]


def fail(index: int, how: str) -> bytes:
    return frame(index, 1, Kind.COMMAND, stamp(0.0, VOCABULARY.encode(Fail(how))[0]))


class World:
    """An applier and what is around it."""

    def __init__(self, recent: Sequence[bytes] = (), stored: Sequence[bytes] = ()) -> None:
        self.machine = Machine()
        self.tickets = Tickets()
        self.recent = Recent(len(stored))
        self.recent.append(len(stored) + 1, recent)
        self.storage = FakeStorage([*stored, *recent])
        self.told: list[Entry] = []
        self.results: list[Any] = []
        self.wait = calm
        self.counted: list[tuple[int, int]] = []
        self.slow: list[SlowMachine] = []
        self.on_told: Callable[[Entry], None] = lambda entry: None
        self.snapshot = (0, 0, 0.0)
        self.applier = Applier(
            machine=self.machine,
            vocabulary=VOCABULARY,
            context="here",
            tickets=self.tickets,
            recent=self.recent,
            storage=self.storage,
            on_applied=lambda entries, size: self.counted.append((entries, size)),
            watcher=lambda: self._tell,
            calm=lambda: self.wait(),
            restore=self.restore,
            stopwatch=Stopwatch(Clock(), 0.05, self.slow.append),
        )

    def _tell(self, entry: Entry, _: object) -> None:
        self.told.append(entry)
        self.on_told(entry)

    async def restore(self) -> None:
        """What an installed snapshot does."""
        await trio.lowlevel.checkpoint()
        self.applier.stands_at(*self.snapshot, Sessions())

    async def run_to(self, index: int) -> None:
        """Let everything up to `index` be applied."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.applier.run)
            self.applier.advance(index)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    async def stops(self, index: int) -> BaseException:
        """What `run` ends with on the way to `index`."""
        self.applier.advance(index)
        with trio.fail_after(5):
            try:
                await self.applier.run()
            except BaseException as error:  # noqa: BLE001  that is what is asked for
                return error
        raise AssertionError("run returned")

    def ticket(self, index: int, term: int, command: Any) -> Ticket:
        ticket = Ticket(b"", command, tell=lambda _, result: self.results.append(result))
        self.tickets.appended([ticket], index, term)
        return ticket


async def test_entries_are_applied_in_order_and_told() -> None:
    world = World([noop(1), note(2, 20, time=5.5), note(3, 30, term=2), noop(4, 2)])
    await world.run_to(4)
    assert world.machine.seen == [(2, 1, 5.5, 20), (3, 2, 0.0, 30)]
    assert world.machine.contexts == ["here", "here"]
    assert [entry.index for entry in world.told] == [1, 2, 3, 4]
    assert world.applier.applied == 4


async def test_nothing_is_applied_beyond_what_is_allowed() -> None:
    world = World(notes(5))
    await world.run_to(2)
    assert world.machine.values == [1, 2]
    await world.run_to(4)
    assert world.machine.values == [1, 2, 3, 4]
    await world.run_to(4)
    assert world.applier.applied == 4


async def test_configurations_are_not_the_machines_business() -> None:
    world = World([frame(1, 1, Kind.CONFIGURATION, stamp(0.0)), note(2, 2)])
    await world.run_to(2)
    assert world.machine.values == [2]
    assert world.told[0].kind is Kind.CONFIGURATION


async def test_what_is_not_in_memory_is_read_from_the_storage() -> None:
    world = World(recent=[note(4, 4)], stored=notes(3))
    await world.run_to(4)
    assert world.machine.values == [1, 2, 3, 4]
    assert world.storage.reads == [1]


async def test_what_the_storage_has_beyond_what_is_allowed_is_not_applied() -> None:
    world = World(stored=notes(9))
    await world.run_to(3)
    assert world.machine.values == [1, 2, 3]


async def test_what_is_in_memory_is_not_read() -> None:
    world = World(notes(9))
    await world.run_to(9)
    assert world.storage.reads == []


async def test_a_long_backlog_goes_in_bounded_turns() -> None:
    """Whoever waits for the loop gets it between two turns."""
    total = 5 * module._PER_TURN
    world = World(notes(total))
    seen: list[int] = []

    async def watch() -> None:
        while world.applier.applied < total:
            seen.append(world.applier.applied)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(world.applier.run)
        world.applier.advance(total)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert 0 < max(steps) <= 2 * module._PER_TURN, "two turns between two looks, at most"
    assert world.applier.applied == total


async def test_a_turn_can_be_cancelled_and_taken_up_again() -> None:
    world = World(stored=notes(400))
    for _ in range(3):
        with trio.move_on_after(0):
            world.applier.advance(400)
            await world.applier.run()
    await world.run_to(400)
    assert world.machine.values == list(range(1, 401))


# -- answers -----------------------------------------------------------------------------------


async def test_the_caller_gets_what_apply_returned() -> None:
    world = World([note(1, 7)])
    world.ticket(1, 1, Note(7))
    await world.run_to(1)
    assert world.results == [outcome.Value(70)]
    assert world.tickets.at(1, 1) is None


async def test_the_leaders_own_object_is_applied() -> None:
    world = World([note(1, 7), note(2, 8)])
    own = Note(7)
    world.ticket(1, 1, own)
    await world.run_to(2)
    assert world.machine.objects[0] is own
    assert world.machine.values == [7, 8]


async def test_an_entry_of_another_term_answers_nobody() -> None:
    world = World([note(1, 7, term=2)])
    ticket = world.ticket(1, 1, Note(99))
    await world.run_to(1)
    assert world.machine.values == [7]
    assert world.tickets.at(1, 1) is ticket


@pytest.mark.parametrize(("how", "error"), [("value", ValueError), ("group", ExceptionGroup)])
async def test_what_apply_raises_is_a_result(how: str, error: type[Exception]) -> None:
    world = World([fail(1, how), note(2, 2), fail(3, how)])
    world.ticket(1, 1, Fail(how))
    await world.run_to(3)
    (result,) = world.results
    with pytest.raises(error):
        result.unwrap()
    assert world.machine.values == [2], "and the next entry is applied, waited for or not"
    assert [entry.index for entry in world.told] == [1, 2, 3]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("memory", MemoryError),
        ("recursion", RecursionError),
        ("disk", OSError),
        ("exit", SystemExit),
        ("interrupt", KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("waited_for", [True, False])
async def test_what_may_differ_from_server_to_server_stops_this_one(
    how: str, expected: type[BaseException], waited_for: bool
) -> None:
    world = World([note(1, 1), fail(2, how), note(3, 3)])
    if waited_for:
        world.ticket(2, 1, Fail(how))
    error = await world.stops(3)
    assert type(error) is expected
    if isinstance(error, Exception):
        assert "the apply of entry 2" in error.__notes__[0]
    assert world.machine.values == [1]
    assert world.applier.applied == 1, "the entry does not count as applied"
    assert (world.tickets.at(2, 1) is not None) == waited_for, "it is answered when all is over"


# -- entries that can't be applied -------------------------------------------------------------

UNREADABLE = [
    frame(2, 1, Kind.COMMAND, stamp(0.0, pack(["later", {}]))),
    frame(2, 1, Kind.COMMAND, stamp(0.0, pack(["note", {"value": 1, "more": 2}]))),
    frame(2, 1, Kind.COMMAND, stamp(0.0, pack(["note", {"value": "1"}]))),
    frame(2, 1, Kind.COMMAND, stamp(0.0, pack(["count", {}]))),
    frame(2, 1, Kind.COMMAND, stamp(0.0, b"\xc1")),
    frame(2, 1, Kind.COMMAND, stamp(0.0)),
]


@pytest.mark.parametrize("unreadable", UNREADABLE)
async def test_an_entry_that_cant_be_read_stops_the_server_and_is_never_skipped(
    unreadable: bytes,
) -> None:
    """Seed G-12: there, the second try went on behind it, and replicas diverged."""
    world = World([note(1, 1), unreadable, note(3, 3)])
    for _ in range(3):
        error = await world.stops(3)
        assert type(error) is ProtocolError
        assert "entry 2 of term 1 can't be applied, and is not skipped" in str(error)
        assert "older program" in str(error)
        assert world.machine.values == [1]
        assert world.applier.applied == 1


async def test_an_entry_without_a_time_stops_the_server() -> None:
    world = World([frame(1, 1, Kind.COMMAND, b"1234567")])
    assert type(await world.stops(1)) is ProtocolError


async def test_an_entry_out_of_turn_stops_the_server() -> None:
    world = World(stored=[noop(1), noop(3)])
    error = await world.stops(2)
    assert type(error) is ProtocolError
    assert "entry 3 came where 2 was due" in str(error)


async def test_a_damaged_entry_stops_the_server() -> None:
    world = World(stored=[noop(1), noop(2)[:-1] + b"\x01"])
    assert type(await world.stops(2)) is FrameError
    assert world.applier.applied == 1


async def test_a_storage_that_fails_stops_the_server() -> None:
    world = World(stored=notes(2))
    world.storage.error = StorageError("can't be read")
    assert await world.stops(2) is world.storage.error


async def test_a_storage_that_lacks_what_was_durable_stops_the_server() -> None:
    """And does not keep it asking for ever."""
    world = World(stored=notes(2))
    error = await world.stops(3)
    assert type(error) is StorageError
    assert "entry 3" in str(error)
    assert world.machine.values == [1, 2]


# -- snapshots ---------------------------------------------------------------------------------


async def test_g14_what_is_captured_is_of_one_moment() -> None:
    """Seed G-14: there the index was read first and the state later, and what came between was
    applied twice.
    """
    world = World([note(1, 1), note(2, 2, term=3, time=5.5), note(3, 3)])
    world.machine.save = lambda: list(world.machine.values)  # type: ignore[attr-defined]
    await world.run_to(2)
    captured = world.applier.capture()
    await world.run_to(3)
    assert (captured.index, captured.term, captured.time) == (2, 3, 5.5)
    assert captured.state == [1, 2]
    assert captured.sessions == []


async def test_an_installed_snapshot_takes_the_place_of_what_was_due() -> None:
    world = World(notes(3))
    await world.run_to(2)
    world.applier.changes.append(2, [b"x"])
    world.recent.clear(9)
    world.recent.append(10, [note(10, 10, term=2)])
    world.snapshot = (9, 2, 4.5)
    world.applier.installed(9)
    await world.run_to(10)
    assert world.machine.values == [1, 2, 10]
    assert [entry.index for entry in world.told] == [1, 2, 10]
    assert world.applier.applied == 10
    assert world.applier.changes.first == 10, "what has changed up to there is not known"


async def test_one_that_is_installed_while_the_disk_goes_first_takes_their_place_too() -> None:
    """What the disk holds there may never have been committed."""
    world = World(stored=notes(9))
    world.recent.clear(9)
    world.snapshot = (9, 2, 4.5)

    async def wait() -> None:
        world.applier.installed(9)
        world.applier.advance(9)
        await trio.lowlevel.checkpoint()

    world.wait = wait
    await world.run_to(5)
    assert world.machine.values == []
    assert world.applier.applied == 9


async def test_nobody_asks_a_machine_that_could_not_be_restored() -> None:
    world = World()
    asked: list[str] = []

    async def ask() -> None:
        with pytest.raises(ServerStopped):
            await world.applier.reached(0)
        asked.append("in vain")

    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="half"), world.applier.restoring():
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            raise ValueError("half of it")
        await wait_all_tasks_blocked()
        assert asked == []
        world.applier.end()
    assert asked == ["in vain"]


async def test_a_few_are_applied_at_once_and_more_when_others_have_gone_first(
    autojump_clock: MockClock,
) -> None:
    """If the machine takes its time, the others go first, too."""
    world = World(stored=notes(11))
    waited: list[int] = []

    async def wait() -> None:
        waited.append(world.applier.applied)
        await trio.lowlevel.checkpoint()

    world.wait = wait
    await world.run_to(4)
    assert waited == []
    await world.run_to(9)
    assert waited == [4]
    world.on_told = lambda entry: autojump_clock.jump(0.001)
    await world.run_to(10)
    assert waited == [4], "it was quick before"
    await world.run_to(11)
    assert waited == [4, 10]
    assert world.applier.applied == 11


async def test_it_waits_until_the_log_has_given_way() -> None:
    """What was committed before may go on being applied; and what is gone is no fault."""
    world = World(stored=notes(3))
    world.snapshot = (9, 2, 4.5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.applier.run)
        world.applier.advance(2)
        await wait_all_tasks_blocked()
        world.storage.frames.clear()
        world.applier.installed(9)
        world.applier.advance(3)
        await wait_all_tasks_blocked()
        assert world.applier.applied == 2
        world.applier.advance(9)
        await wait_all_tasks_blocked()
        assert world.applier.applied == 9
        nursery.cancel_scope.cancel()


async def test_what_was_read_before_the_log_gave_way_is_not_applied_behind_it() -> None:
    """A read is under way when its end is cut, and other entries come to stand there."""
    world = World(stored=notes(8))
    read, gate = world.storage.read, trio.Event()

    async def slowly(first: int, max_bytes: int) -> Sequence[bytes]:
        found = await read(first, max_bytes)
        await gate.wait()
        return found

    world.storage.read = slowly  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.applier.run)
        world.applier.advance(3)
        await wait_all_tasks_blocked()
        world.storage.frames[3:] = [note(index, 100 + index, term=2) for index in range(4, 9)]
        world.applier.advance(8)
        gate.set()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert world.machine.values == [1, 2, 3, 104, 105, 106, 107, 108]


async def test_nobody_asks_a_machine_that_is_being_restored() -> None:
    world = World()
    seen: list[int] = []

    async def ask() -> None:
        await world.applier.reached(0)
        seen.append(world.applier.applied)

    async with trio.open_nursery() as nursery:
        with world.applier.restoring():
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            assert seen == []
            world.applier.stands_at(9, 2, 1.0, Sessions())
        await wait_all_tasks_blocked()
    assert seen == [9]


async def test_who_waits_for_an_entry_within_a_snapshot_is_woken() -> None:
    world = World()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.applier.reached, 7)
            await wait_all_tasks_blocked()
            with world.applier.restoring():
                world.applier.stands_at(9, 2, 1.0, Sessions())


async def test_a_slow_machine_lets_others_have_their_turn(autojump_clock: MockClock) -> None:
    """And it is told, for as long as it lasts nothing else can happen."""
    world = World(notes(3))
    seen: list[int] = []

    def apply_slowly(entry: Entry) -> None:
        seen.append(entry.index)
        autojump_clock.jump(0.06)

    world.on_told = apply_slowly
    turns: list[int] = []

    async def watch() -> None:
        while len(seen) < 3:
            await trio.lowlevel.checkpoint()
            turns.append(len(seen))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(world.applier.run)
        world.applier.advance(3)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert set(turns) & {1, 2}, "not all three in a row"
    assert len(world.slow) == 3


def test_a_result_that_raises_when_it_is_written_is_told_and_stops_nobody() -> None:
    def lazily() -> Iterator[int]:
        yield 1
        raise RuntimeError("no")

    reply = reply_of(Vocabulary([Lazy]), 5, 2, Lazy, lazily(), None)
    assert (reply.code, reply.index, reply.term) == (Code.RAISED, 5, 2)
    assert unpack(reply.data) == ["RuntimeError", "no"]


@command("lazy")
@frozen
class Lazy:
    """Comes to something that is only made when it is looked at."""

    def apply(self, machine: object, applied: Applied) -> Sequence[int]:
        return ()
