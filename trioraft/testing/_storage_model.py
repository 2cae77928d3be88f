"""What a storage should hold, and how the checks of the suite compare it with what one does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

from attrs import define, field

from trioraft._wire.frames import Kind, frame, identity, parse_entry
from trioraft.abc import Batch, Recovered, Storage

Make = Callable[[], Storage]

ALL: Final = 1 << 30
"""More bytes than any log here has."""


@define
class Model:
    """What the storage should hold."""

    state: bytes | None = None
    frames: list[bytes] = field(factory=list)
    """The entries behind `base`."""
    base: tuple[int, int] = (0, 0)

    @property
    def last(self) -> int:
        """The index of the last entry."""
        return self.base[0] + len(self.frames)

    def write(self, batch: Batch) -> None:
        """Do what the storage should have done."""
        kept = self.last if batch.cut is None else batch.cut
        self.base = self.base if batch.base is None else batch.base
        indexes = range(self.base[0] + 1, kept + 1)
        self.frames = [whole for whole in self.frames if identity(whole)[0] in indexes]
        self.frames += batch.entries
        self.state = batch.state if batch.state is not None else self.state

    def recovered(self) -> Recovered:
        """What `open` should give."""
        terms: list[tuple[int, int]] = []
        for index, term in map(identity, self.frames):
            if not terms or terms[-1][1] != term:
                terms.append((index, term))
        kinds = [(parse_entry(whole).kind, whole) for whole in self.frames]
        configurations = tuple(whole for kind, whole in kinds if kind is Kind.CONFIGURATION)
        return Recovered(self.state, tuple(terms), self.last, configurations, self.base)


def entries(first: int, count: int, term: int = 1, size: int = 20) -> list[bytes]:
    """Commands, each with a payload of its own."""
    numbers = range(first, first + count)
    payloads = (b"%d in %d" % (index, term) for index in numbers)
    return [
        frame(index, term, Kind.COMMAND, payload.ljust(size, b"."))
        for index, payload in zip(numbers, payloads, strict=True)
    ]


@asynccontextmanager
async def opened(make: Make) -> AsyncGenerator[tuple[Storage, Recovered]]:
    """A storage, and what its `open` gave."""
    storage = make()
    recovered = await storage.open()
    try:
        yield storage, recovered
    finally:
        await storage.aclose()


async def write_all(storage: Storage, model: Model, batches: Iterable[Batch]) -> None:
    """Let both write."""
    for batch in batches:
        await storage.write(batch)
        model.write(batch)


async def run(make: Make, *batches: Batch) -> Model:
    """Write the batches to an emptied log; see that they are there, now and after an open."""
    model = Model()
    async with opened(make) as (storage, recovered):
        model.base = recovered.base
        await write_all(storage, model, [Batch(b"", model.base[0]), *batches])
        await agrees(storage, model)
    await reopens(make, model)
    return model


async def agrees(storage: Storage, model: Model) -> None:
    """See that what is read is what was written."""
    found = list(await storage.read(model.base[0] + 1, ALL))
    assert found == model.frames, "read gives what was not written"


async def reopens(make: Make, model: Model) -> None:
    """See that what was written is there after an open."""
    async with opened(make) as (storage, recovered):
        assert recovered == model.recovered(), "open gives what was not written"
        await agrees(storage, model)
