"""When snapshots are taken, which one counts, and what is left when it can't be done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random
from typing import Any, BinaryIO

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

import trioraft._snapshots.keeper as module
from tests.services.fakes import Machine
from trioraft import InternalError, ServerStopped, StorageCorrupt, StorageError
from trioraft._events import SnapshotFailed, SnapshotInstalled, SnapshotTaken
from trioraft._rules import events
from trioraft._rules.log import Log
from trioraft._sessions import Opened, Sessions, saved_pieces
from trioraft._snapshots.form import Damaged, Reader
from trioraft._wire.strict import pack
from trioraft.abc import SnapshotId

from .worlds import CLUSTER, FULL, Saver, Store, World, damaged, recovered, running, snapshot_of

ASKED: Any = {"snapshot_entries": None, "snapshot_bytes": None}
"""Only who asks gets one."""
MUCH = bytes(Random(1).randbytes(4000))
"""A state that no compression makes smaller."""


async def taken_at(world: World, entries: int) -> list[int]:
    """At which entries snapshots are taken while so many come in, one by one."""
    async with running(world):
        for _ in range(entries):
            await world.apply(1)
    return [event.value for event in world.told_of(SnapshotTaken)]


# -- when --------------------------------------------------------------------------------------


async def test_after_so_many_entries() -> None:
    assert await taken_at(World(snapshot_entries=4, snapshot_bytes=None), 12) == [4, 8, 12]


async def test_after_so_many_bytes() -> None:
    world = World(snapshot_entries=None, snapshot_bytes=1)
    await world.apply(0)
    one = await taken_at(world, 1)
    assert one == [1]
    size = world.keeper._total
    world = World(snapshot_entries=None, snapshot_bytes=3 * size)
    assert await taken_at(world, 9) == [3, 6, 9]


@pytest.mark.parametrize(("entries", "size"), [(2, 1 << 20), (1000, 1)])
async def test_whichever_comes_first(entries: int, size: int) -> None:
    assert await taken_at(World(snapshot_entries=entries, snapshot_bytes=size), 4)


async def test_never_of_itself_if_it_is_told_so() -> None:
    world = World(snapshot_entries=None, snapshot_bytes=None)
    assert await taken_at(world, 50) == []
    async with running(world):
        assert (await world.keeper.take()).head.index == 50


@pytest.mark.parametrize("state", [MUCH, bytes(len(MUCH))], ids=["as it is", "compressed"])
async def test_not_before_the_log_has_grown_by_a_fourth_of_the_last_one(state: bytes) -> None:
    """Else a large state would be written again and again for a few entries."""

    class Large(Saver):
        def save(self) -> bytes:
            return state

    world = World(Large(), snapshot_entries=1, snapshot_bytes=None)
    taken = await taken_at(world, 60)
    assert taken[0] == 1
    size = world.keeper._total // 60
    assert taken[1] - taken[0] >= len(MUCH) / 4 / size > 5


async def test_servers_do_not_all_take_theirs_at_the_same_entry() -> None:
    """They would all pause at once: each draws from three quarters of it to all of it."""
    first = set()
    for seed in range(6):
        world = World(random=Random(seed), snapshot_entries=40, snapshot_bytes=None)
        first.add((await taken_at(world, 40))[0])
    assert len(first) > 2
    assert min(first) >= 30


async def test_a_machine_that_can_not_be_saved_is_left_alone() -> None:
    world = World(Machine(), snapshot_entries=1)
    assert await taken_at(world, 5) == []
    with pytest.raises(TypeError, match=r"a Machine has no save\(\)"):
        await world.keeper.take()


async def test_what_the_rules_are_told_and_what_they_may_forget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(**ASKED)
    async with running(world):
        await world.apply(3)
        await world.keeper.take()
        await world.apply(2)
        await world.keeper.take()
        monkeypatch.setattr(module, "LATE_LOG_BYTES", 0)
        await world.apply(20)
        await world.keeper.take()
    told = world.host.events
    assert [type(event) for event in told] == [events.SnapshotTaken] * 3
    assert [event.index for event in told] == [3, 5, 25]
    assert [event.floor for event in told][:2] == [0, 0], "all may be kept for who is late"
    assert told[2].floor == 25, "and that is bounded, whatever they lack"
    assert world.told_of(SnapshotTaken) == [
        SnapshotTaken(3, None),
        SnapshotTaken(5, 3),
        SnapshotTaken(25, 5),
    ]


async def test_g27_the_log_may_forget_nothing_before_the_snapshot_is_durable() -> None:
    """Seed G-27: there it forgot although the snapshot had failed."""
    world = World(**ASKED)
    gate = world.store.gates["save"] = trio.Event()
    async with running(world), trio.open_nursery() as nursery:
        await world.apply(3)
        nursery.start_soon(world.keeper.take)
        await wait_all_tasks_blocked()
        await world.apply(2)
        assert world.host.events == []
        gate.set()
    assert [event.index for event in world.host.events] == [3], "as it was when it was begun"


async def test_what_is_applied_while_one_is_written_counts_for_the_next_one() -> None:
    world = World(snapshot_entries=4, snapshot_bytes=None)
    gate = world.store.gates["save"] = trio.Event()
    async with running(world):
        await world.apply(4)
        await world.apply(3)
        gate.set()
        await wait_all_tasks_blocked()
        assert world.store.held == [4]
        await world.apply(1)
        await wait_all_tasks_blocked()
        assert world.store.held == [8]


@pytest.mark.parametrize("way", ["recover", "recover_from"])
async def test_a_machine_that_cannot_be_what_a_snapshot_says_is_told_as_such(way: str) -> None:
    def refuse(_: object) -> None:
        raise KeyError("another machine's")

    store, machine = Store(), Saver()
    store.put(20, snapshot_of(20)[0])
    setattr(machine, way, refuse)
    with pytest.raises(StorageError, match=r"can't recover from its snapshot: KeyError: .another"):
        await World(machine, store=store).keeper.recover(LOG, CLUSTER)


# -- who asks ----------------------------------------------------------------------------------


async def test_who_asks_is_told_which_entry_it_goes_up_to() -> None:
    world = World(**ASKED)
    async with running(world):
        await world.apply(3)
        assert (await world.keeper.take()).head.index == 3
        assert (await world.keeper.take()).head.index == 3
        assert world.machine.saves == 1, "nothing is new"
        await world.apply(1)
        assert (await world.keeper.take()).head.index == 4


async def test_all_who_ask_at_once_are_answered() -> None:
    world = World(**ASKED)
    found = []

    async def ask() -> None:
        found.append((await world.keeper.take()).head.index)

    async with running(world):
        await world.apply(3)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
    assert found == [3, 3, 3]
    assert world.machine.saves == 1


async def test_who_asks_meanwhile_gets_the_next_one() -> None:
    world = World(**ASKED)
    gate = world.store.gates["save"] = trio.Event()
    found = []

    async def ask() -> None:
        found.append((await world.keeper.take()).head.index)

    async with running(world), trio.open_nursery() as nursery:
        await world.apply(3)
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        await world.apply(2)
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        gate.set()
    assert found == [3, 5]


async def test_who_is_cancelled_waits_no_more_and_it_is_taken_all_the_same() -> None:
    world = World(**ASKED)
    gate = world.store.gates["save"] = trio.Event()
    async with running(world):
        await world.apply(3)
        with trio.CancelScope() as scope:
            scope.cancel()
            await world.keeper.take()
        assert scope.cancelled_caught
        gate.set()
        await wait_all_tasks_blocked()
        assert world.store.held == [3]


async def test_who_asks_before_anything_is_applied_waits_for_that() -> None:
    world = World(**ASKED)
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(world.keeper.take)
        await wait_all_tasks_blocked()
        assert world.store.held == []
        await world.apply(1)
    assert world.store.held == [1]


async def test_one_can_come_in_while_somebody_waits_for_the_first_to_be_taken() -> None:
    """A new server applies nothing before it has been sent what the others have forgotten."""
    world = World(**ASKED)
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(world.keeper.take)
        await wait_all_tasks_blocked()
        with trio.fail_after(5):
            await world.install(*snapshot_of(9, state=b"abc"))
        world.applier.advance(9)
    assert world.machine.values == [*b"abc"]
    assert world.keeper.newest is not None
    assert world.keeper.newest.head.index == 9


async def test_at_the_end_all_who_wait_are_told() -> None:
    world = World(**ASKED)
    errors = []

    async def ask() -> None:
        try:
            await world.keeper.take()
        except ServerStopped as error:
            errors.append(error)

    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        world.keeper.end()
    assert len(errors) == 2
    with pytest.raises(ServerStopped):
        await world.keeper.take()


# -- what goes wrong ---------------------------------------------------------------------------


class Refuses:
    """A state that can't be written."""

    def write(self, file: BinaryIO, /) -> None:
        file.write(b"half of it")
        raise KeyError("in the midst of it")


def save_raises(world: World) -> Callable[[], None]:
    world.machine.refuses = ValueError("not now")
    return lambda: setattr(world.machine, "refuses", None)


def write_raises(world: World) -> Callable[[], None]:
    save = world.machine.save
    world.machine.save = Refuses
    return lambda: setattr(world.machine, "save", save)


def disk_is_full(world: World) -> Callable[[], None]:
    world.store.refuses["save"] = FULL
    return lambda: world.store.refuses.clear()


def reads_back_something_else(world: World) -> Callable[[], None]:
    keep = world.store._keep

    def spoiled(snapshot: SnapshotId, whole: bytes, check: Any) -> None:
        keep(snapshot, snapshot_of(snapshot.index, state=b"another")[0], check)

    world.store._keep = spoiled  # type: ignore[method-assign]
    return lambda: setattr(world.store, "_keep", keep)


FAULTS = {
    save_raises: ValueError,
    write_raises: KeyError,
    disk_is_full: StorageError,
    reads_back_something_else: Damaged,
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_g27_g28_one_that_can_not_be_taken_costs_nothing_but_itself(
    fault: Callable[[World], Callable[[], None]], caplog: pytest.LogCaptureFixture
) -> None:
    """Seeds G-27, G-28: there the log was gone all the same, and no later one was ever taken."""
    world = World(**ASKED)
    async with running(world):
        await world.apply(3)
        mend = fault(world)
        for _ in range(2):
            with pytest.raises(FAULTS[fault]):
                await world.keeper.take()
        assert world.host.events == [], "nothing was forgotten"
        assert world.keeper.newest is None
        assert world.store.held == []
        assert len(world.told_of(SnapshotFailed)) == 2
        assert FAULTS[fault].__name__ in world.told_of(SnapshotFailed)[0].value
        warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert [r.message[:25] for r in warnings] == ["n1: no snapshot was taken"] * 2
        mend()
        assert (await world.keeper.take()).head.index == 3
        assert [event.index for event in world.host.events] == [3]


async def test_g28_after_a_failure_it_is_tried_again_when_the_log_has_grown_as_much() -> None:
    """Seed G-28."""
    world = World(snapshot_entries=4, snapshot_bytes=None)
    world.store.refuses["save"] = FULL
    async with running(world):
        for _ in range(9):
            await world.apply(1)
        assert len(world.told_of(SnapshotFailed)) == 2, "not after each entry"
        world.store.refuses.clear()
        for _ in range(3):
            await world.apply(1)
        assert world.store.held == [12]


async def test_the_very_first_one_may_fail_while_entries_come_in() -> None:
    """The bell that they ring meanwhile finds nothing that is due, and no snapshot at all."""
    world = World(snapshot_entries=2, snapshot_bytes=None)
    gate = world.store.gates["save"] = trio.Event()
    world.store.refuses["save"] = FULL
    async with running(world):
        await world.apply(2)
        await world.apply(1)
        gate.set()
        await wait_all_tasks_blocked()
        assert len(world.told_of(SnapshotFailed)) == 1
        world.store.refuses.clear()
        await world.apply(2)
        assert world.store.held == [5]


async def test_what_the_rules_raise_is_no_failed_snapshot() -> None:
    """An invariant that is broken ends the server, here as everywhere."""
    world = World(**ASKED)

    def broken(_: Any) -> None:
        raise InternalError("nothing like that may happen")

    world.host.on_step = broken
    with pytest.RaisesGroup(pytest.RaisesGroup(InternalError)):
        async with trio.open_nursery() as nursery, running(world):
            await world.apply(1)
            nursery.start_soon(world.keeper.take)
            await trio.sleep_forever()
    assert world.told_of(SnapshotFailed) == []


# -- what may go -------------------------------------------------------------------------------


async def test_an_older_one_goes_once_a_newer_one_is_there() -> None:
    world = World(**ASKED)
    async with running(world):
        for _ in range(3):
            await world.apply(1)
            await world.keeper.take()
        assert world.store.held == [3]


async def test_one_that_is_lent_stays() -> None:
    world = World(**ASKED)
    async with running(world):
        await world.apply(1)
        await world.keeper.take()
        with world.keeper.lent() as lent, world.keeper.lent():
            await world.apply(1)
            await world.keeper.take()
            assert world.store.held == [1, 2]
            assert lent.head.index == 1
        await world.apply(1)
        await world.keeper.take()
        assert world.store.held == [3]
        assert not +world.keeper._lent


async def test_one_that_is_fetched_in_pieces_stays_for_a_minute_after_each(
    autojump_clock: MockClock,
) -> None:
    world = World(**ASKED)
    async with running(world):
        await world.apply(1)
        first = (await world.keeper.take()).head
        one = SnapshotId(first.index, first.term)
        whole = world.store._whole[one]
        assert await world.keeper.read(one, 5, 10) == whole[5:15]
        for more in (50.0, 50.0):
            await trio.sleep(more)
            await world.apply(1)
            await world.keeper.take()
            assert await world.keeper.read(one, 0, 10) == whole[:10]
        await trio.sleep(61)
        await world.apply(1)
        await world.keeper.take()
        assert world.store.held == [4]
        with pytest.raises(StorageError, match="entry 1 and term 1 is not here"):
            await world.keeper.read(one, 0, 10)


async def test_nothing_is_remembered_of_those_that_nobody_has() -> None:
    world = World(**ASKED)
    for index in range(100):
        with pytest.raises(StorageError):
            await world.keeper.read(SnapshotId(index, 1), 0, 10)
    assert not world.keeper._kept_until


async def test_one_that_can_not_be_removed_is_a_snapshot_too_much_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(**ASKED)
    async with running(world):
        await world.apply(1)
        await world.keeper.take()
        world.store.refuses["remove"] = StorageError("the disk is tired")
        await world.apply(1)
        assert (await world.keeper.take()).head.index == 2
        assert world.store.held == [1, 2]
        assert "the snapshot of entry 1 and term 1 stays: the disk is tired" in caplog.text
        world.store.refuses.clear()
        await world.apply(1)
        await world.keeper.take()
        assert world.store.held == [3]


async def test_a_name_that_a_failure_has_left_goes_with_the_next_one() -> None:
    """The file had its name already when the disk refused to make that durable."""
    world = World(**ASKED)
    async with running(world):
        await world.apply(1)
        world.store.put(1, snapshot_of(1)[0])
        world.store.refuses["save"] = FULL
        with pytest.raises(StorageError):
            await world.keeper.take()
        world.store.refuses.clear()
        await world.apply(1)
        await world.keeper.take()
        assert world.store.held == [2]


# -- a start -----------------------------------------------------------------------------------

LOG = Log(((1, 1),), 200)


async def test_g26_at_a_start_the_newest_by_number_counts() -> None:
    """Seed G-26: there it was the last name by the order of letters, and term 9 beat term 10."""
    store = Store()
    store.put(9, snapshot_of(9, 9, b"old")[0], term=9)
    store.put(100, snapshot_of(100, 10, b"new", time=7.5)[0], term=10)
    world = await recovered(store, Log(((1, 9), (50, 10)), 120))
    assert world.machine.values == [*b"new"]
    assert world.applier.applied == 100
    assert world.told_of(SnapshotInstalled) == [SnapshotInstalled(100, 0)]
    captured = world.applier.capture()
    assert (captured.index, captured.term, captured.time) == (100, 10, 7.5)
    assert world.applier.changes.since(99) is None
    async with running(world):
        await wait_all_tasks_blocked()
    assert store.held == [100]


async def test_g26_a_damaged_one_gives_way_to_the_one_before_if_the_log_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Seed G-26."""
    store = Store()
    store.put(20, snapshot_of(20, state=b"old")[0])
    store.put(30, damaged(snapshot_of(30, state=b"new")[0]))
    world = await recovered(store, Log(((21, 1),), 200, 20, 1))
    assert world.machine.values == [*b"old"]
    assert "the snapshot of entry 30 and term 1 is damaged" in caplog.text
    async with running(world):
        await wait_all_tasks_blocked()
    assert store.held == [20]


async def test_a_damaged_one_is_no_loss_while_the_log_holds_everything() -> None:
    store = Store()
    store.put(30, damaged(snapshot_of(30)[0]))
    world = await recovered(store, LOG)
    assert world.keeper.newest is None
    assert world.applier.applied == 0
    async with running(world):
        world.keeper._due.ring()
        await wait_all_tasks_blocked()
        world.recent.clear(0)
        await world.apply(40)
        await world.keeper.take()
    assert store.held == [40]


async def test_g22_a_damaged_one_that_is_needed_is_refused_with_its_place() -> None:
    """Seed G-22: what is damaged is told, and never taken for what was never there."""
    store = Store()
    data = snapshot_of(30, state=b"x")[0]
    store.put(30, damaged(data))
    with pytest.raises(StorageCorrupt) as caught:
        await recovered(store, Log(((31, 1),), 200, 30, 1))
    assert caught.value.file == "the snapshot of entry 30 and term 1"
    assert 0 < caught.value.offset < len(data)


@pytest.mark.parametrize("there", [[], [29], [40]])
async def test_one_that_is_needed_and_missing_is_refused(there: list[int]) -> None:
    store = Store()
    for index in there:
        store.put(index, snapshot_of(index, 2)[0], term=2)
    with pytest.raises(StorageCorrupt, match=r"begins behind entry 30.* is missing"):
        await recovered(store, Log(((31, 1),), 39, 30, 1))


async def test_one_that_never_became_a_part_of_the_log_is_removed() -> None:
    """A crash came between an incoming one and the log that was to give way to it."""
    store = Store()
    for index, term in ((10, 1), (20, 1), (20, 3), (300, 3)):
        store.put(index, snapshot_of(index, term)[0], term=term)
    world = await recovered(store, Log(((16, 1),), 200, 15, 1))
    assert world.applier.applied == 20
    assert sorted(store.removed) == [SnapshotId(10, 1), SnapshotId(20, 3), SnapshotId(300, 3)]


async def test_another_clusters_is_refused_and_nobodys_is_taken() -> None:
    store = Store()
    store.put(20, snapshot_of(20, cluster="another")[0])
    with pytest.raises(StorageCorrupt, match="it is of the cluster another"):
        await recovered(store, LOG)
    store.put(20, snapshot_of(20, cluster=None)[0])
    assert (await recovered(store, LOG)).applier.applied == 20


async def test_one_that_is_another_than_its_name_says_is_damaged() -> None:
    store = Store()
    store.put(20, snapshot_of(19)[0])
    with pytest.raises(StorageCorrupt, match="it is the snapshot of entry 19 and term 1"):
        await recovered(store, Log(((21, 1),), 200, 20, 1))


async def test_sessions_come_back_with_it() -> None:
    table = Sessions()
    assert isinstance(table.manage(3, 1.0, pack(["open", 60.0])), Opened)
    store = Store()
    pieces = tuple(saved_pieces(table.capture(), 1000))
    store.put(20, snapshot_of(20, sessions=pieces)[0])
    world = await recovered(store, LOG)
    assert world.applier.sessions.capture() == table.capture()


# -- what comes from others --------------------------------------------------------------------


async def test_an_accepted_one_counts_and_the_machine_becomes_it() -> None:
    world = World(**ASKED)
    async with running(world):
        await world.apply(3, value=1)
        await world.keeper.take()
        await world.install(*snapshot_of(9, 2, b"abc", time=5.0))
        assert world.applier.applied == 3
        world.applier.advance(9)
        await wait_all_tasks_blocked()
        assert world.restored == [9]
        assert world.machine.values == [*b"abc"]
        assert world.told_of(SnapshotInstalled) == [SnapshotInstalled(9, 3)]
        assert world.store.held == [9]
        assert (await world.keeper.take()).head.index == 9
        await world.apply(1)
        assert (await world.keeper.take()).head.index == 10


async def test_an_older_one_stays_until_the_log_has_given_way() -> None:
    """On the disk the log still goes on from it: a crash would leave it without."""
    world = World(**ASKED)
    async with running(world):
        await world.apply(3)
        await world.keeper.take()
        await world.install(*snapshot_of(9, 2))
        world.keeper._due.ring()
        await wait_all_tasks_blocked()
        assert world.store.held == [3, 9]
        world.applier.advance(9)
        await wait_all_tasks_blocked()
        assert world.store.held == [9]


async def test_one_that_is_taken_meanwhile_is_of_what_the_machine_is_by_then() -> None:
    """It waits for the one that is being installed, and is not taken twice."""
    world = World(**ASKED)
    gate = world.store.gates["load"] = trio.Event()
    async with running(world), trio.open_nursery() as nursery:
        await world.apply(3)
        await world.install(*snapshot_of(9, 2, b"abc"))
        world.applier.advance(9)
        nursery.start_soon(world.keeper.take)
        await wait_all_tasks_blocked()
        assert world.machine.saves == 0
        gate.set()
    assert world.machine.saves == 0
    assert world.store.held == [9]


async def test_the_one_that_is_being_restored_stays_though_a_newer_one_has_come() -> None:
    world = World(**ASKED)
    gate = world.store.gates["load"] = trio.Event()
    async with running(world):
        await world.install(*snapshot_of(9, 2, b"abc"))
        world.applier.advance(9)
        await wait_all_tasks_blocked()
        await world.install(*snapshot_of(12, 2, b"def"))
        world.keeper._due.ring()
        await wait_all_tasks_blocked()
        assert world.store.held == [9, 12]
        gate.set()
        await wait_all_tasks_blocked()
        assert world.restored == [9], "and it says so itself"
        assert world.applier.applied == 9
        world.applier.advance(12)
        await wait_all_tasks_blocked()
        assert world.restored == [9, 12]
        assert world.machine.values == [*b"def"]
        assert world.store.held == [12]


async def test_nobody_asks_the_machine_anything_while_it_is_restored() -> None:
    world = World(**ASKED)
    gate = world.store.gates["load"] = trio.Event()
    asked = []

    async def ask() -> None:
        await world.applier.reached(0)
        asked.append(world.machine.values)

    async with running(world), trio.open_nursery() as nursery:
        await world.apply(1, value=7)
        await world.install(*snapshot_of(9, 2, b"a"))
        world.applier.advance(9)
        await wait_all_tasks_blocked()
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert asked == []
        gate.set()
    assert asked == [[*b"a"]]


async def test_nor_while_it_is_at_a_start() -> None:
    store = Store()
    store.put(20, snapshot_of(20, state=b"a")[0])
    gate = store.gates["load"] = trio.Event()
    world = World(store=store, **ASKED)
    asked = []

    async def ask() -> None:
        await world.applier.reached(0)
        asked.append(world.machine.values)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.keeper.recover, LOG, CLUSTER)
        await wait_all_tasks_blocked()  # it verifies: the machine is as it was
        del store.gates["load"]
        again = store.gates["load"] = trio.Event()
        gate.set()
        await wait_all_tasks_blocked()
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert asked == []
        again.set()
    assert asked == [[*b"a"]]


@pytest.mark.parametrize("how", ["damaged", "another", "shorter", "nothing"])
async def test_one_that_is_not_what_was_offered_leaves_nothing(how: str) -> None:
    world = World(**ASKED)
    data, offered = snapshot_of(9, 2, b"abc")
    wrong = {"damaged": damaged(data), "another": snapshot_of(9, 2, b"xyz")[0]}
    wrong["shorter"] = data[:-1]
    if how != "nothing":
        await world.bring(wrong[how])
    with pytest.raises(Damaged if how != "nothing" else StorageError):
        await world.keeper.accept(offered, lambda: True, world.installs)
    assert world.store.held == []
    assert world.store._incoming is None
    assert world.keeper.newest is None
    await world.install(data, offered)
    assert world.store.held == [9]


async def test_one_that_is_wanted_no_more_is_not_accepted() -> None:
    world = World(**ASKED)
    data, offered = snapshot_of(9, 2)
    await world.bring(data)
    await world.keeper.accept(offered, lambda: False, world.installs)
    assert world.store.held == []
    assert world.keeper.newest is None


async def test_one_that_the_rules_refuse_goes_with_the_next() -> None:
    world = World(**ASKED)
    data, offered = snapshot_of(9, 2)
    async with running(world):
        await world.bring(data)
        await world.keeper.accept(offered, lambda: True, lambda _: False)
        assert world.keeper.newest is None
        await world.apply(1)
        await world.keeper.take()
        assert world.store.held == [1]


async def test_a_gap_is_the_disks_fault_and_no_bug() -> None:
    """What it had of one was lost when it was full, and nobody waited for that any more."""
    world = World(**ASKED)
    with pytest.raises(StorageError, match="a piece for offset 5 behind 0 bytes"):
        await world.keeper.take_in(5, b"x")


async def test_what_is_written_is_what_was_captured() -> None:
    world = World(**ASKED)
    async with running(world):
        await world.apply(2, value=5, time=7.5)
        summary = await world.keeper.take()
    reader = Reader(world.store.file(summary.head))
    assert reader.head == summary.head
    assert (reader.head.cluster, reader.head.index) == (CLUSTER, 2)
    assert reader.head.time == 7.5
    assert reader.head.configuration == world.host.node.configuration
    assert list(reader.sessions()) == []
    assert reader.state().read() == bytes([5, 5])


async def test_the_members_in_it_are_those_at_its_last_entry() -> None:
    """Not those of the moment in which it is taken: the log behind it says what came later."""
    world = World(**ASKED)
    genesis = world.host.node.configuration
    second, fifth, newest = (evolve(genesis, index=index) for index in (2, 5, 9))
    world.host.node = evolve(
        world.host.node, configuration=newest, earlier=(genesis, second, fifth), commit=7
    )
    async with running(world):
        found = []
        for count in (1, 3, 2, 4):  # up to the entries 1, 4, 6 and 10
            await world.apply(count)
            found.append((await world.keeper.take()).head.configuration)
    assert found == [genesis, second, fifth, newest]
