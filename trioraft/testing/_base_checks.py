"""Checks of the storage suite: what a base does to the log."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from trioraft._wire.frames import Kind, frame, identity
from trioraft.abc import Batch
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


async def _base_of(make: Make) -> tuple[int, int]:
    """Where the log begins by now, and a term for what follows.

    A base never falls, and terms neither: so each check goes on from the one before.
    """
    index, term = (await run(make)).base
    return index, max(term, 1)


async def _a_base_drops_what_it_holds(make: Make) -> None:
    """Entries, terms and configurations up to the base are gone; all else is as it was."""
    for moved in range(1, 8):
        b, t = await _base_of(make)
        who = frame(b + 2, t, Kind.CONFIGURATION, b"who")
        others = frame(b + 5, t + 1, Kind.CONFIGURATION, b"others")
        before = [*entries(b + 1, 1, t), who, *entries(b + 3, 1, t)]
        behind = [*entries(b + 4, 1, t + 1), others, *entries(b + 6, 1, t + 2)]
        base = b + moved, [t, t, t, t + 1, t + 1, t + 2, t + 2][moved - 1]
        model = await run(make, Batch(b"state", None, before + behind), Batch(base=base))
        assert (model.state, model.base) == (b"state", base), "the check is wrong"


async def _a_base_beyond_the_end(make: Make) -> None:
    """A log that ends before its base is empty, and goes on behind it."""
    for in_one_batch in (True, False):
        b, t = await _base_of(make)
        following = entries(b + 11, 3, t + 1)
        batches = [Batch(b"old", None, entries(b + 1, 3, t))]
        if in_one_batch:
            batches.append(Batch(b"new", None, following, (b + 10, t + 1)))
        else:
            batches += [Batch(b"new", base=(b + 10, t)), Batch(None, None, following)]
        model = await run(make, *batches)
        assert model.last == b + 13, "the check is wrong"


async def _a_base_that_replaces_a_conflicting_log(make: Make) -> None:
    """A cut comes before the base of the same batch: together they leave an empty log."""
    for cut in range(4):
        for more in (0, 2):
            b, t = await _base_of(make)
            log = Batch(b"old", None, entries(b + 1, 6, t))
            following = entries(b + 5, more, t + 2)
            replaced = Batch(b"new", b + cut, following, (b + 4, t + 1))
            model = await run(make, log, replaced, Batch(b"newer"))
            assert model.last == b + 4 + more, "the check is wrong"


async def _a_base_after_an_open(make: Make) -> None:
    """Entries of an earlier life are dropped like others, and one base follows the other."""
    b, t = await _base_of(make)
    model = await run(make, Batch(b"state", None, entries(b + 1, 20, t)))
    for index in (b + 3, b + 3, b + 9, b + 20, b + 30):
        async with opened(make) as (storage, recovered):
            assert recovered == model.recovered(), "open gives what was not written"
            await write_all(storage, model, [Batch(base=(index, t))])
            await agrees(storage, model)
        await reopens(make, model)


async def _reading_keeps_to_the_base(make: Make) -> None:
    """`read` gives nothing for an index up to the base, and all behind it as ever."""
    b, t = await _base_of(make)
    model = await run(make, Batch(None, None, entries(b + 1, 9, t)), Batch(base=(b + 5, t)))
    async with opened(make) as (storage, _):
        for first in range(b + 1, b + 6):
            assert list(await storage.read(first, ALL)) == [], "the base holds this entry"
        for at, first in enumerate(range(b + 6, b + 10)):
            assert list(await storage.read(first, ALL)) == model.frames[at:]
            assert list(await storage.read(first, 1)) == model.frames[at : at + 1]


async def _any_course_with_bases(make: Make) -> None:
    """Whatever is written, cut, compacted and opened in whatever order, the log is as it should."""
    chance = random.Random(11)
    _, term = await _base_of(make)
    model = await run(make)
    for _ in range(25):
        async with opened(make) as (storage, recovered):
            assert recovered == model.recovered(), "open gives what was not written"
            for _ in range(chance.randrange(6)):
                term += chance.randrange(2)
                await write_all(storage, model, [_some_batch(chance, model, term)])
            await agrees(storage, model)
    await reopens(make, model)


def _some_batch(chance: random.Random, model: Model, term: int) -> Batch:
    base, last = model.base[0], model.last
    cut = chance.choice([None, None, chance.randint(base, last)])
    kept = last if cut is None else cut
    moved = chance.choice([None, None, model.base, *_places(chance, model, kept, term)])
    if moved is not None:
        kept = max(kept, moved[0])
    state = chance.choice([None, b"%d" % chance.randrange(99)])
    more = entries(kept + 1, chance.randrange(5), term, chance.choice([0, 50, 900]))
    return Batch(state, cut, more, moved)


def _places(chance: random.Random, model: Model, kept: int, term: int) -> Iterator[tuple[int, int]]:
    """Where the base may go if the log is cut behind `kept` before: an entry, or beyond the end."""
    if kept > model.base[0]:
        yield identity(model.frames[chance.randrange(kept - model.base[0])])
    yield model.last + 1 + chance.randrange(4), term


BASE_CHECKS: Final[list[Callable[[Make], Awaitable[None]]]] = [
    _a_base_drops_what_it_holds,
    _a_base_beyond_the_end,
    _a_base_that_replaces_a_conflicting_log,
    _a_base_after_an_open,
    _reading_keeps_to_the_base,
    _any_course_with_bases,
]
"""In this order, behind all others."""
