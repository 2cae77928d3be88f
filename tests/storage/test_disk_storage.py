"""The storage behind its two threads: order, cancellation, and letting go."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.storage.course import ALL, entries
from trioraft._errors import StorageError, StorageLocked
from trioraft._storage import disk
from trioraft._storage.disk import DiskStorage
from trioraft._storage.files import OsFiles
from trioraft._storage.worker import Permit, Worker
from trioraft.abc import Batch


class Gate(OsFiles):
    """Calls of one name wait until they are let through."""

    def __init__(self, name: str) -> None:
        self.entered = threading.Event()
        self.let_through = threading.Event()
        self.let_through.set()
        call: Callable[..., Any] = getattr(self, name)

        def wait(*args: Any) -> Any:
            if not self.let_through.is_set():
                self.entered.set()
                self.let_through.wait()
            return call(*args)

        setattr(self, name, wait)

    def shut(self) -> None:
        self.let_through.clear()

    async def has_entered(self) -> None:
        assert await trio.to_thread.run_sync(self.entered.wait, 10.0)


def count(path: Path, ending: str) -> int:
    return sum(name.endswith(ending) for name in os.listdir(path))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "trioraft" in thread.name]


async def test_a_write_in_flight_is_waited_for_and_holds_the_lock(tmp_path: Path) -> None:
    files = Gate("fdatasync")
    storage = DiskStorage(tmp_path, files=files, segment_bytes=1 << 16)
    await storage.open()
    files.shut()
    done: list[str] = []

    async def write() -> None:
        await storage.write(Batch(b"state", None, entries(1, 3)))
        done.append("write")

    async def close() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await storage.aclose()
        done.append("aclose")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await files.has_entered()
        nursery.start_soon(close)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(StorageLocked):
            await DiskStorage(tmp_path).open()
        assert done == []
        files.let_through.set()
    assert done == ["write", "aclose"]
    assert threads() == []
    again = DiskStorage(tmp_path)
    assert (await again.open()).last_index == 3
    await again.aclose()


async def test_a_cancelled_write_is_waited_for(tmp_path: Path) -> None:
    files = Gate("fdatasync")
    storage = DiskStorage(tmp_path, files=files, segment_bytes=1 << 16)
    await storage.open()
    files.shut()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.write, Batch(b"state", None, entries(1, 3)))
        await files.has_entered()
        nursery.cancel_scope.cancel()
        files.let_through.set()
    assert len(await storage.read(1, ALL)) == 3
    await storage.aclose()


async def test_a_write_cancelled_before_it_begins_does_nothing(tmp_path: Path) -> None:
    storage = DiskStorage(tmp_path, segment_bytes=1 << 16)
    await storage.open()
    with trio.CancelScope() as scope:
        scope.cancel()
        await storage.write(Batch(None, None, entries(1, 3)))
    assert scope.cancelled_caught
    assert await storage.read(1, ALL) == []
    await storage.aclose()


async def test_a_read_that_hangs_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "GRACE", 0.01)
    files = Gate("pread")
    storage = DiskStorage(tmp_path, files=files, segment_bytes=1 << 16)
    await storage.open()
    await storage.write(Batch(None, None, entries(1, 3)))
    files.shut()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.read, 1, ALL)
        await files.has_entered()
        await storage.write(Batch(None, None, entries(4, 3)))
        await storage.aclose()
        again = DiskStorage(tmp_path)
        assert (await again.open()).last_index == 6
        await again.aclose()
        files.let_through.set()


async def test_the_next_segment_is_prepared_beside_the_writing(tmp_path: Path) -> None:
    files = Gate("create")
    storage = DiskStorage(tmp_path, files=files, segment_bytes=1 << 15)
    await storage.open()
    files.shut()
    await storage.write(Batch(None, None, entries(1, 6, size=2000)))
    await files.has_entered()
    await storage.write(Batch(None, None, entries(7, 1)))
    files.let_through.set()
    await storage.read(1, 1)  # it comes behind the preparation
    assert count(tmp_path, ".spare") == 1
    await storage.write(Batch(None, None, entries(8, 4, size=2200)))
    assert count(tmp_path, ".spare") == 0
    assert count(tmp_path, ".log") == 2
    await storage.aclose()


async def test_segments_are_dropped_beside_the_writing_and_at_the_next_start(
    tmp_path: Path,
) -> None:
    files = Gate("unlink")
    storage = DiskStorage(tmp_path, files=files, segment_bytes=1 << 15)
    await storage.open()
    for first in range(1, 60, 3):
        await storage.write(Batch(None, None, entries(first, 3, size=2000)))
    assert count(tmp_path, ".log") > 4
    files.shut()
    await storage.write(Batch(base=(50, 1)))
    await files.has_entered()
    await storage.write(Batch(b"nobody waits"))
    files.let_through.set()
    assert await storage.read(50, 1) == []  # it comes behind the dropping
    assert count(tmp_path, ".log") == 2
    await storage.write(Batch(base=(60, 1)))
    await storage.aclose()
    await storage.open()
    assert await storage.read(60, 1) == []
    assert count(tmp_path, ".log") == 1
    await storage.aclose()


class Full(OsFiles):
    """Refuses every file but the first."""

    created = 0

    def create(self, path: str) -> int:
        self.created += 1
        if self.created > 1:
            raise OSError(28, "No space left on device")
        return super().create(path)


async def test_a_spare_that_fails_is_told_with_the_next_write(tmp_path: Path) -> None:
    storage = DiskStorage(tmp_path, files=Full(), segment_bytes=1 << 15)
    await storage.open()
    await storage.write(Batch(None, None, entries(1, 6, size=2000)))
    await storage.read(1, 1)
    with pytest.raises(StorageError, match="the disk is full"):
        await storage.write(Batch(b"state"))
    await storage.aclose()


async def test_what_is_not_open_is_not_used(tmp_path: Path) -> None:
    storage = DiskStorage(tmp_path)
    for _ in range(2):
        await storage.aclose()
        with pytest.raises(StorageError, match="not open"):
            await storage.write(Batch(b"state"))
        with pytest.raises(StorageError, match="not open"):
            await storage.read(1, 1)
        await storage.open()
        with pytest.raises(StorageLocked):
            await storage.open()
        await storage.write(Batch(b"state"))
        await storage.aclose()
    assert threads() == []


async def test_an_open_that_fails_leaves_no_thread_and_no_lock(tmp_path: Path) -> None:
    storage = DiskStorage(tmp_path)
    await storage.open()
    with pytest.raises(StorageLocked):
        await DiskStorage(tmp_path).open()
    assert len(threads()) == 4
    await storage.aclose()
    (tmp_path / f"{1:016}.log").write_bytes(b"rubbish")
    with pytest.raises(StorageError, match="cut short"):
        await DiskStorage(tmp_path).open()
    assert threads() == []


async def test_a_close_that_fails_lets_go_all_the_same(tmp_path: Path) -> None:
    class Broken(OsFiles):
        is_broken = False

        def fdatasync(self, file: int) -> None:
            if self.is_broken:
                raise OSError(5, "Input/output error")

    files = Broken()
    storage = DiskStorage(tmp_path, files=files)
    await storage.open()
    files.is_broken = True
    with pytest.raises(StorageError, match="Input/output"):
        await storage.aclose()
    assert threads() == []
    again = DiskStorage(tmp_path)
    await again.open()
    await again.aclose()


async def test_what_the_work_raises_is_raised_where_it_was_asked_for() -> None:
    worker = Worker("trioraft test")
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    with pytest.raises(SystemExit):
        await worker.run(sys.exit)
    assert await worker.run(lambda x, y: x + y, 2, 3) == 5
    worker.stop(5.0)
    assert threads() == []


def test_work_may_outlive_the_loop_that_asked_for_it() -> None:
    begun, may_end = threading.Event(), threading.Event()
    workers: list[Worker] = []

    def work() -> None:
        begun.set()
        may_end.wait()

    async def main() -> None:
        worker = Worker("trioraft test")
        workers.append(worker)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run_with_permit, Permit(), work)
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()

    trio.run(main)
    may_end.set()
    workers[0].stop(5.0)
    assert threads() == []
