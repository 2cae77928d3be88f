"""All that queues becomes one batch, and the log is the same as if each had been written alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trioraft import StorageError
from trioraft._diskwriter import DiskWriter
from trioraft._storage.memory import MemoryStorage
from trioraft._wire.frames import Kind, frame, identity
from trioraft.abc import Batch

from .fakes import FakeStorage, noop

PATIENT = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])


def entry(index: int, tag: int = 0) -> bytes:
    return frame(index, 1, Kind.NOOP, bytes([tag % 256]))


async def written(
    act: Callable[[DiskWriter], None], storage: FakeStorage | None = None
) -> tuple[FakeStorage, list[int]]:
    """What a writer makes of all that is asked of it in one turn."""
    storage = storage or FakeStorage()
    persisted: list[int] = []
    writer = DiskWriter(storage, persisted.append)
    act(writer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return storage, persisted


async def test_one_write() -> None:
    storage, persisted = await written(lambda w: w.append(1, 1, [noop(1)], cuts=False))
    assert storage.batches == [Batch(entries=[noop(1)])]
    assert persisted == [1]


async def test_all_that_queues_becomes_one_batch() -> None:
    def act(writer: DiskWriter) -> None:
        writer.save(1, b"old")
        writer.append(2, 1, [noop(1), noop(2)], cuts=False)
        writer.save(3, b"new")
        writer.append(4, 3, [noop(3)], cuts=False)

    storage, persisted = await written(act)
    assert storage.batches == [Batch(state=b"new", entries=[noop(1), noop(2), noop(3)])]
    assert persisted == [4]


async def test_what_comes_during_a_write_makes_the_next_one() -> None:
    storage, persisted = FakeStorage(), []
    writer = DiskWriter(storage, persisted.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        storage.hold()
        writer.append(1, 1, [noop(1)], cuts=False)
        await wait_all_tasks_blocked()
        for number in range(2, 10):
            writer.append(number, number, [noop(number)], cuts=False)
            await wait_all_tasks_blocked()
        assert (len(storage.batches), persisted) == (1, [])
        storage.gate.set()
        await wait_all_tasks_blocked()
        assert [len(batch.entries) for batch in storage.batches] == [1, 8]
        assert persisted == [1, 9]
        await wait_all_tasks_blocked()
        assert len(storage.batches) == 2, "nothing to write, nothing written"
        nursery.cancel_scope.cancel()


async def test_a_cut_within_what_queues_never_reaches_the_storage() -> None:
    def act(writer: DiskWriter) -> None:
        writer.append(1, 1, [entry(1), entry(2), entry(3)], cuts=False)
        writer.append(2, 2, [entry(2, 9)], cuts=True)

    storage, _ = await written(act)
    assert storage.batches == [Batch(entries=[entry(1), entry(2, 9)])]


async def test_a_cut_behind_what_queues_reaches_the_storage_once() -> None:
    def act(writer: DiskWriter) -> None:
        writer.append(1, 4, [entry(4)], cuts=False)
        writer.append(2, 3, [entry(3, 7)], cuts=True)
        writer.append(3, 2, [entry(2, 8), entry(3, 8)], cuts=True)
        writer.append(4, 3, [entry(3, 9)], cuts=True)

    storage, _ = await written(act, FakeStorage([entry(1), entry(2), entry(3)]))
    assert storage.batches == [Batch(cut=1, entries=[entry(2, 8), entry(3, 9)])]
    assert storage.frames == [entry(1), entry(2, 8), entry(3, 9)]


async def test_a_cut_of_everything() -> None:
    storage, _ = await written(
        lambda w: w.append(1, 1, [entry(1, 5)], cuts=True), FakeStorage([entry(1), entry(2)])
    )
    assert storage.batches == [Batch(cut=0, entries=[entry(1, 5)])]


async def test_a_failed_write_ends_the_writer_and_is_not_tried_again() -> None:
    storage, persisted = FakeStorage(), []
    storage.error = StorageError("no space left")
    writer = DiskWriter(storage, persisted.append)
    writer.append(1, 1, [noop(1)], cuts=False)
    with trio.fail_after(1), pytest.raises(StorageError, match="no space left"):
        await writer.run()
    assert len(storage.batches) == 1
    assert persisted == []


async def test_what_queued_behind_a_failed_write_is_never_called_durable() -> None:
    storage, persisted = FakeStorage(), []
    writer = DiskWriter(storage, persisted.append)
    storage.hold()

    async def run() -> None:
        with pytest.raises(StorageError):
            await writer.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        writer.save(1, b"a")
        await wait_all_tasks_blocked()
        writer.save(2, b"b")
        storage.error = StorageError("gone")
        storage.gate.set()
    assert (len(storage.batches), persisted) == (1, [])


async def test_what_is_called_durable_is_durable_by_then() -> None:
    storage = FakeStorage()
    seen: list[tuple[int, int]] = []
    writer = DiskWriter(storage, lambda write: seen.append((write, len(storage.frames))))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        for index in range(1, 4):
            writer.append(index, index, [noop(index)], cuts=False)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert seen == [(1, 1), (2, 2), (3, 3)]


@given(st.data())
@PATIENT
def test_however_writes_are_gathered_into_batches_the_result_is_the_same(
    data: st.DataObject,
) -> None:
    """Against writing each one alone, in order; turns come at any moment."""

    async def main() -> None:
        start = data.draw(st.integers(0, 4))
        log = [entry(index) for index in range(1, start + 1)]
        storage, persisted = FakeStorage(log), []
        state: bytes | None = None
        writer = DiskWriter(storage, persisted.append)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            writes = data.draw(st.integers(1, 15))
            for write in range(1, writes + 1):
                match data.draw(st.sampled_from(["save", "append", "cut", "turn"])):
                    case "save":
                        state = bytes([write])
                        writer.save(write, state)
                    case "append":
                        count = data.draw(st.integers(1, 3))
                        first = len(log) + 1
                        frames = [entry(first + n, write) for n in range(count)]
                        log += frames
                        writer.append(write, first, frames, cuts=False)
                    case "cut":
                        first = data.draw(st.integers(1, len(log) + 1))
                        count = data.draw(st.integers(1, 3))
                        frames = [entry(first + n, write) for n in range(count)]
                        log[first - 1 :] = frames
                        writer.append(write, first, frames, cuts=True)
                    case "turn":
                        writer.save(write, state := bytes([write]))
                        await wait_all_tasks_blocked()
                        assert (storage.frames, storage.state) == (log, state)
                        assert persisted[-1] == write
            await wait_all_tasks_blocked()
            assert (storage.frames, storage.state) == (log, state)
            assert persisted == sorted(set(persisted))
            assert persisted[-1] == writes
            assert len(storage.batches) == len(persisted)
            nursery.cancel_scope.cancel()

    trio.run(main)


# -- snapshots ---------------------------------------------------------------------------------


async def test_a_base_goes_with_what_queues() -> None:
    def act(writer: DiskWriter) -> None:
        writer.append(1, 4, [entry(4)], cuts=False)
        writer.compact(2, (2, 1))

    storage, _ = await written(act, FakeStorage([entry(1), entry(2), entry(3)]))
    assert storage.batches == [Batch(entries=[entry(4)], base=(2, 1))]


async def test_what_queues_is_not_written_once_a_snapshot_takes_its_place() -> None:
    def act(writer: DiskWriter) -> None:
        writer.append(1, 4, [entry(4), entry(5)], cuts=False)
        writer.replace(2, 4, (9, 2))
        writer.append(3, 10, [entry(10)], cuts=False)

    storage, _ = await written(act, FakeStorage([entry(1), entry(2), entry(3)]))
    assert storage.batches == [Batch(cut=3, base=(9, 2), entries=[entry(10)])]


async def test_the_deepest_cut_counts() -> None:
    """Else what conflicts with the snapshot would stay before it, or behind it."""

    def act(writer: DiskWriter) -> None:
        writer.append(1, 2, [entry(2, 7), entry(3, 7)], cuts=True)
        writer.replace(2, 2, (9, 2))
        writer.replace(3, 9, (12, 3))

    storage, _ = await written(act, FakeStorage([entry(1), entry(2), entry(3)]))
    assert storage.batches == [Batch(cut=1, entries=[], base=(12, 3))]


class Held(MemoryStorage):
    """May be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()
        self.gate.set()

    async def write(self, batch: Batch) -> None:
        await self.gate.wait()
        await super().write(batch)


class Asked:
    """What rules may ask of a disk: nothing that is committed is cut, and no more is forgotten."""

    def __init__(self, writer: DiskWriter, single: MemoryStorage, data: st.DataObject) -> None:
        self.writer, self.single, self.data = writer, single, data
        self.write = self.commit = self.durable = self.base = self.last = 0
        self.term = 1

    def _int(self, least: int, most: int) -> int:
        return self.data.draw(st.integers(least, most))

    def _frames(self, first: int) -> list[bytes]:
        self.last = first + self._int(0, 2)
        return [
            frame(index, self.term, Kind.NOOP, bytes([self.write]))
            for index in range(first, self.last + 1)
        ]

    async def ask(self, what: str) -> None:
        self.write += 1
        batch: Batch | None = None
        match what:
            case "save":
                batch = Batch(bytes([self.write]))
                self.writer.save(self.write, bytes([self.write]))
            case "append":
                first = self.last + 1
                batch = Batch(entries=self._frames(first))
                self.writer.append(self.write, first, batch.entries, cuts=False)
            case "cut" if self.commit < self.last:
                self.term += 1
                first = self._int(self.commit + 1, self.last)
                self.durable = min(self.durable, first - 1)
                batch = Batch(cut=first - 1, entries=self._frames(first))
                self.writer.append(self.write, first, batch.entries, cuts=True)
            case "commit":
                self.commit = self._int(self.commit, self.last)
            case "compact" if self.base < min(self.commit, self.durable):
                self.base = self._int(self.base + 1, min(self.commit, self.durable))
                (kept,) = await self.single.read(self.base, 1)
                batch = Batch(base=identity(kept))
                self.writer.compact(self.write, identity(kept))
            case "replace":
                self.term += 1
                kept_to, index = self.commit, self._int(self.commit + 1, self.last + 3)
                batch = Batch(cut=kept_to, base=(index, self.term))
                self.writer.replace(self.write, kept_to, (index, self.term))
                self.durable = min(self.durable, kept_to)
                self.base = self.commit = self.last = index
        if batch is not None:
            await self.single.write(batch)


@given(st.data())
@PATIENT
def test_with_snapshots_the_result_is_the_same_too(data: st.DataObject) -> None:
    """Cuts, bases and entries of many writes in one batch, against each of them alone."""

    async def main() -> None:
        storage, single = Held(), MemoryStorage()
        await storage.open()
        await single.open()
        writer = DiskWriter(storage, lambda write: None)
        asked = Asked(writer, single, data)
        steps = st.sampled_from(["save", "append", "cut", "commit", "compact", "replace", "turn"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            for what in [*data.draw(st.lists(steps, max_size=25)), "turn"]:
                if what != "turn":
                    await asked.ask(what)
                    if storage.gate.is_set() and data.draw(st.booleans()):
                        storage.gate = trio.Event()  # the next write takes its time
                    continue
                storage.gate.set()
                await wait_all_tasks_blocked()
                asked.durable = asked.last
                assert contents(storage) == contents(single)
            nursery.cancel_scope.cancel()

    trio.run(main)


def contents(storage: MemoryStorage) -> tuple[object, ...]:
    return storage._state, storage._base, list(storage._log.frames)
