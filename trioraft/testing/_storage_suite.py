"""What every storage must do, as a suite that anybody's storage can be put through."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trioraft._errors import StorageLocked
from trioraft._wire.frames import Kind, frame, identity
from trioraft.abc import Batch, Recovered, Storage
from trioraft.testing._base_checks import BASE_CHECKS
from trioraft.testing._snapshot_checks import SNAPSHOT_CHECKS
from trioraft.testing._storage_model import (
    ALL,
    Make,
    Model,
    agrees,
    entries,
    opened,
    reopens,
    run,
    write_all,
)

_PATIENCE: Final = 60.0
"""Seconds until a check counts as hanging."""


async def check_storage(make: Make) -> None:
    """Put a storage through all that `trioraft.abc.Storage` promises and a program can see.

    Run it in a Trio test of your own::

        async def test_my_storage(tmp_path):
            await trioraft.testing.check_storage(lambda: MyStorage(tmp_path))

    It opens and closes the storage a few hundred times.  What it can't see is whether a power cut
    undoes a write: that takes a disk that forgets.

    Args:
        make: returns a storage that is not open, always for the same place.  At the first call
            that place is empty.  It may return one object again and again.

    Raises:
        AssertionError: a promise was not kept; a note names the check.
        BaseException: whatever else the storage raised; noted likewise.
    """
    for check in _CHECKS:
        try:
            with trio.fail_after(_PATIENCE):
                await check(make)
        except Exception as error:
            error.add_note(f"in check_storage: {check.__name__}: {check.__doc__}")
            raise


async def _a_new_one_is_empty(make: Make) -> None:
    """There is no state and no entry in a place that is new."""
    async with opened(make) as (storage, recovered):
        assert recovered == Recovered()
        assert list(await storage.read(1, ALL)) == []


async def _what_was_written_is_there(make: Make) -> None:
    """State, entries of every kind, their terms and the configurations come back as they were."""
    configuration = frame(3, 2, Kind.CONFIGURATION, b"who")
    others = [frame(4 + n, 2, kind, b"") for n, kind in enumerate(Kind)]
    model = await run(
        make,
        Batch(b"state", None, [*entries(1, 2), configuration, *others]),
        Batch(None, None, entries(4 + len(others), 3, term=7)),
    )
    runs = ((1, 1), (3, 2), (4 + len(others), 7))
    again = frame(4 + Kind.CONFIGURATION, 2, Kind.CONFIGURATION, b"")
    last = 6 + len(others)
    assert model.recovered() == Recovered(b"state", runs, last, (configuration, again))


async def _the_newest_state_stands(make: Make) -> None:
    """A state takes the place of the one before; None and entries leave it alone."""
    await run(make, Batch(b"one"), Batch(b"two"), Batch(None, None, entries(1, 1)))
    await run(make, Batch(b"x" * 100_000), Batch(b""))


async def _a_cut_drops_what_lies_behind(make: Make) -> None:
    """A cut drops entries, terms and configurations behind it, and nothing else."""
    who = frame(4, 2, Kind.CONFIGURATION, b"who")
    log = Batch(b"state", None, [*entries(1, 3), who, *entries(5, 2, term=3)])
    for cut in range(7):
        await run(make, log, Batch(None, cut))
        await run(make, log, Batch(None, cut, entries(cut + 1, 2, term=9)))
        await run(make, log, Batch(b"new", cut), Batch(None, None, entries(cut + 1, 1, term=9)))
    await run(make, log, Batch(None, 5), Batch(None, 2), Batch(None, 2, entries(3, 9, term=4)))


async def _a_cut_after_an_open(make: Make) -> None:
    """Entries of an earlier life are cut and replaced like others."""
    model = await run(make, Batch(b"state", None, entries(1, 9)))
    for cut in (7, 4, 4, 0):
        async with opened(make) as (storage, _):
            await write_all(storage, model, [Batch(None, cut, entries(cut + 1, 2, term=12 - cut))])
            await agrees(storage, model)
        await reopens(make, model)


async def _large_batches(make: Make) -> None:
    """A batch may hold thousands of entries, and an entry a megabyte."""
    await run(
        make,
        Batch(None, None, entries(1, 5000)),
        Batch(None, None, entries(5001, 3, size=1 << 20)),
        Batch(b"y" * (1 << 20), None, entries(5004, 1)),
        Batch(None, 4990, entries(4991, 20, term=2, size=30_000)),
    )


async def _reading_keeps_to_its_bounds(make: Make) -> None:
    """`read` begins at any index, keeps below `max_bytes`, but gives one entry if there is one."""
    model = await run(
        make,
        *(Batch(None, None, entries(index, 1, size=10 * index)) for index in range(1, 20)),
        Batch(None, None, entries(20, 20)),
        Batch(None, 30, entries(31, 30, term=2, size=100)),
    )
    async with opened(make) as (storage, _):
        for first in range(1, len(model.frames) + 1):
            there = model.frames[first - 1 :]
            for max_bytes in (0, len(there[0]), len(there[0]) + 1, 500, 2000):
                found = list(await storage.read(first, max_bytes))
                assert found, "there is one, so one must come"
                assert found == there[: len(found)], "these are other entries"
                assert len(found) == 1 or sum(map(len, found)) <= max_bytes, "these are too many"
        assert list(await storage.read(len(model.frames) + 1, ALL)) == []
        assert list(await storage.read(len(model.frames) + 9, ALL)) == []


async def _reading_gets_on(make: Make) -> None:
    """Reading on from where the last read ended comes to the end of the log."""
    model = await run(make, *(Batch(None, None, entries(1 + 7 * n, 7)) for n in range(30)))
    async with opened(make) as (storage, _):
        found: list[bytes] = []
        while more := await storage.read(len(found) + 1, 333):
            found += more
        assert found == model.frames


async def _reading_beside_writing(make: Make) -> None:
    """A read may run while a write does; it gives whole entries in order."""
    await run(make, Batch(None, None, entries(1, 50)))
    async with opened(make) as (storage, _), trio.open_nursery() as nursery:

        async def write() -> None:
            for first in range(51, 250, 4):
                await storage.write(Batch(None, None, entries(first, 4)))

        nursery.start_soon(write)
        for _ in range(60):
            found = await storage.read(40, ALL)
            assert [identity(whole)[0] for whole in found] == list(range(40, 40 + len(found)))
            assert len(found) >= 11


async def _many_opens(make: Make) -> None:
    """Nothing is lost and nothing comes twice, however often the storage is opened."""
    model = await run(make, Batch(b"state"))
    for number in range(25):
        async with opened(make) as (storage, recovered):
            assert recovered == model.recovered()
            if number % 3:  # some lives write nothing
                more = entries(len(model.frames) + 1, number, term=number)
                await write_all(storage, model, [Batch(b"life %d" % number, None, more)])
    await reopens(make, model)


async def _any_course_of_writes(make: Make) -> None:
    """Whatever is written, cut and opened in whatever order, the log is what it should be."""
    chance = random.Random(7)
    for _ in range(12):
        model = await run(make)
        term = 1
        for _ in range(chance.randrange(1, 5)):
            async with opened(make) as (storage, recovered):
                assert recovered == model.recovered()
                for _ in range(chance.randrange(8)):
                    last = len(model.frames)
                    cut = chance.choice([None, None, chance.randrange(last + 1)])
                    first = 1 + (last if cut is None else cut)
                    term += chance.randrange(2)
                    count, size = chance.randrange(9), chance.choice([0, 50, 900])
                    state = chance.choice([None, b"%d" % chance.randrange(99)])
                    batch = Batch(state, cut, entries(first, count, term, size))
                    await write_all(storage, model, [batch])
                await agrees(storage, model)
        await reopens(make, model)


async def _a_cancelled_write_is_whole_or_not_there(make: Make) -> None:
    """Whoever cancels a write finds all of its batch, or nothing; what follows is as ever."""
    for waits in range(4):
        model = await run(make, Batch(b"before", None, entries(1, 3)))
        batch = Batch(b"behind", 2, entries(3, 40, term=2))
        async with opened(make) as (storage, _):
            has_returned = await _write_and_cancel(storage, batch, waits)
            found = list(await storage.read(1, ALL))
            if has_returned or found != model.frames:
                model.write(batch)
            assert found == model.frames, "a part of a batch is there"
            following = entries(len(model.frames) + 1, 2, term=3)
            await write_all(storage, model, [Batch(None, None, following)])
        await reopens(make, model)


async def _write_and_cancel(storage: Storage, batch: Batch, waits: int) -> bool:
    """Cancel a write when this many turns of the loop have passed; did it return all the same?"""
    has_returned = False
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            nonlocal has_returned
            await storage.write(batch)
            has_returned = True

        nursery.start_soon(write)
        for _ in range(waits):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    return has_returned


async def _closing_when_cancelled(make: Make) -> None:
    """`aclose` lets go of everything in a scope that is cancelled, too."""
    model = Model()
    storage = make()
    await storage.open()
    await write_all(storage, model, [Batch(b"s", 0, entries(1, 3))])
    with trio.CancelScope() as scope:
        scope.cancel()
        await storage.aclose()
    await reopens(make, model)


async def _only_one_at_a_time(make: Make) -> None:
    """A second `open` is refused, and does the first no harm."""
    model = await run(make, Batch(b"state", None, entries(1, 3)))
    async with opened(make) as (storage, _):
        try:
            await make().open()
        except StorageLocked:
            pass
        else:
            raise AssertionError("two have it open")
        await write_all(storage, model, [Batch(None, None, entries(4, 1))])
        await agrees(storage, model)
    await reopens(make, model)


_CHECKS: Final[list[Callable[[Make], Awaitable[None]]]] = [
    _a_new_one_is_empty,
    _what_was_written_is_there,
    _the_newest_state_stands,
    _a_cut_drops_what_lies_behind,
    _a_cut_after_an_open,
    _large_batches,
    _reading_keeps_to_its_bounds,
    _reading_gets_on,
    _reading_beside_writing,
    _many_opens,
    _any_course_of_writes,
    _a_cancelled_write_is_whole_or_not_there,
    _closing_when_cancelled,
    _only_one_at_a_time,
    *SNAPSHOT_CHECKS,
    *BASE_CHECKS,  # these come last: a base never falls
]
