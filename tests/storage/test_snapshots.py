"""Snapshots in a directory: whole or not there, whatever fails, and nobody waits for a long one."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import trio
import trio.testing

from tests.storage.course import SNAPSHOTS, Course, Nothing, put
from tests.storage.test_disk_storage import Gate, threads
from trioraft import SnapshotDirectory
from trioraft._errors import StorageError, StorageLocked
from trioraft._storage import snapshots, streams
from trioraft._storage.disk import DiskStorage
from trioraft._storage.files import Bytes, OsFiles
from trioraft._storage.shelf import Shelf
from trioraft._storage.worker import Permit
from trioraft.abc import Batch, SnapshotId
from trioraft.testing import SimulatedFiles, SimulatedHop
from trioraft.testing._disk import Crash, DiskFault

ONE, TWO = SnapshotId(1, 1), SnapshotId(2, 1)
NAME_OF_ONE = f"{1:020}-{1:020}.snapshot"


def writes(whole: bytes) -> Callable[[BinaryIO], None]:
    return lambda file: put(file, whole)


def accepts(file: BinaryIO) -> None:
    file.read()


def refuses(file: BinaryIO) -> None:
    raise ZeroDivisionError(f"{len(file.read())} bytes")


def contents(shelf: Shelf, one: SnapshotId) -> bytes:
    return shelf.load(Permit(), one, lambda file: file.read())


def names(course: Course) -> list[str]:
    return course.files.names(SNAPSHOTS)


# -- what is asked of the file system --------------------------------------------------------


def test_nothing_has_a_name_before_it_is_durable_and_read_back() -> None:
    course = Course()
    shelf = course.shelf()
    shelf.save(Permit(), ONE, writes(b"first"), accepts)
    course.files.calls.clear()
    shelf.save(Permit(), TWO, writes(b"x" * 300_000), accepts)
    called = [call.name for call in course.files.calls]
    assert [name for name in called if name != "pread"] == [
        *("unlink", "create", "pwrite", "pwrite"),
        *("fdatasync", "size", "rename", "sync_directory", "close"),
    ]
    assert called.index("fdatasync") < called.index("pread") < called.index("rename")


def test_the_directory_is_made_with_the_first_snapshot_and_is_for_its_user_alone(
    tmp_path: Path,
) -> None:
    place = tmp_path / "data" / "snapshots"
    shelf = Shelf(str(place), OsFiles())
    shelf.tidy()
    assert shelf.snapshots() == []
    assert not place.exists()
    shelf.save(Permit(), ONE, writes(b"one"), accepts)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / NAME_OF_ONE).stat().st_mode) == 0o600
    assert os.listdir(place) == [NAME_OF_ONE]


def test_they_are_ordered_by_number_and_other_names_are_left_alone() -> None:
    """goraft took the last one by the order of strings: 9 came behind 10."""
    course = Course()
    shelf = course.shelf()
    ids = [SnapshotId(*pair) for pair in ((9, 2), (10, 1), (9, 11), (100, 2), (11, 1), (9, 9))]
    for one in ids:
        shelf.save(Permit(), one, writes(b"%d" % one.index), accepts)
    for name in ("notes.txt", "7-1.snapshot", f"{NAME_OF_ONE}.old"):
        course.files.close(course.files.create(f"{SNAPSHOTS}/{name}"))
    assert course.shelf().snapshots() == sorted(ids)
    assert course.shelf().snapshots()[-1] == SnapshotId(100, 2)
    assert {"notes.txt", "7-1.snapshot", f"{NAME_OF_ONE}.old"} <= set(names(course))


def test_what_is_listed_is_durable_even_if_its_maker_died_before_that() -> None:
    course = Course()
    shelf = course.shelf()
    shelf.save(Permit(), ONE, writes(b"one"), accepts)
    course.files.fail_next("sync_directory", DiskFault.BROKEN)
    with pytest.raises(StorageError):
        shelf.save(Permit(), TWO, writes(b"two"), accepts)
    assert shelf.snapshots() == [ONE, TWO]
    course.files.crash(Nothing())
    assert course.shelf().snapshots() == [ONE, TWO]


def test_what_a_crash_left_in_the_making_is_removed_at_the_next_start() -> None:
    course = Course()
    shelf = course.shelf()
    shelf.take_in(0, b"some")
    course.files.fail_next("fdatasync", DiskFault.CRASH_BEFORE)
    with pytest.raises(Crash):
        shelf.save(Permit(), ONE, writes(b"one"), accepts)
    course.files.kill()
    assert names(course) == ["incoming.part", "taking.part"]
    shelf = course.shelf()
    assert names(course) == []
    with pytest.raises(ValueError, match="nothing was taken in"):
        shelf.accept(Permit(), ONE, accepts)


@pytest.mark.parametrize("fault", [DiskFault.BROKEN, DiskFault.FULL])
@pytest.mark.parametrize("way", ["save", "accept"])
def test_every_call_refused(way: str, fault: DiskFault) -> None:
    """An error of ours; the log goes on; nothing is left but what was whole; the next one works."""
    course = Course()
    log, _ = course.open()
    shelf = course.shelf()
    shelf.save(Permit(), ONE, writes(b"the first"), accepts)
    do = course.save if way == "save" else course.take_in
    course.files.calls.clear()
    do(shelf, TWO, b"2" * 9000)
    called = [call.name for call in course.files.calls]
    for call, name in enumerate(called, start=1):
        shelf.remove(TWO)
        course.files.fail(call, fault)
        with pytest.raises(StorageError) as caught:
            do(shelf, TWO, b"2" * 9000)
        assert ("the disk is full" in str(caught.value)) == (fault is DiskFault.FULL)
        assert set(shelf.snapshots()) - {TWO} == {ONE}
        if name not in ("open", "size"):  # else what had come may be gone on with
            assert all(not name.endswith(".part") for name in names(course))
        assert len(course.files._handles) == 2, "the lock and the log"
        if TWO in shelf.snapshots():
            assert contents(shelf, TWO) == b"2" * 9000
        course.append(log)
        do(shelf, TWO, b"%d" % call)
        assert contents(shelf, TWO) == b"%d" % call
    assert course.acked.last > 8


def test_a_full_disk_gets_back_what_a_failed_snapshot_took() -> None:
    course = Course()
    shelf = course.shelf()
    shelf.take_in(0, b"x" * 5000)
    course.files.fail_next("pwrite", DiskFault.FULL)
    with pytest.raises(StorageError, match="full"):
        shelf.take_in(5000, b"x" * 5000)
    assert names(course) == []
    with pytest.raises(ValueError, match="nothing was taken in"):
        shelf.take_in(5000, b"x" * 5000)


def test_what_can_not_be_removed_after_a_failure_is_removed_by_the_next() -> None:
    course = Course()
    shelf = course.shelf()
    course.files.fail_next("fdatasync", DiskFault.FULL)
    course.files.fail_next("close", DiskFault.BROKEN)
    with pytest.raises(StorageError):
        shelf.save(Permit(), ONE, lambda file: course.files.fail_next("unlink", BROKEN), accepts)
    assert names(course) == ["taking.part"]
    shelf.save(Permit(), ONE, writes(b"one"), accepts)
    assert names(course) == [NAME_OF_ONE]


BROKEN = DiskFault.BROKEN


def test_a_piece_goes_behind_what_is_there_and_in_place_of_what_was_behind_it() -> None:
    course = Course()
    shelf = course.shelf()
    for offset, piece in ((0, b"abc"), (3, b"defgh"), (5, b"X"), (6, b""), (6, b"Y")):
        shelf.take_in(offset, piece)
    with pytest.raises(ValueError, match="a piece for offset 8 behind 7 bytes"):
        shelf.take_in(8, b"Z")
    shelf.accept(Permit(), ONE, accepts)
    assert contents(shelf, ONE) == b"abcdeXY"
    shelf.take_in(0, b"a longer one")
    shelf.take_in(0, b"short")
    shelf.accept(Permit(), TWO, accepts)
    assert contents(shelf, TWO) == b"short"


def test_something_large_goes_to_the_disk_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SYNC_BYTES", 1 << 19)
    course = Course()
    shelf = course.shelf()
    shelf.save(Permit(), ONE, writes(bytes(1 << 21)), accepts)
    for offset in range(0, 1 << 20, 1 << 18):
        shelf.take_in(offset, bytes(1 << 18))
    syncs = [call.path[-13:] for call in course.files.calls if call.name == "fdatasync"]
    assert syncs == ["s/taking.part"] * 5 + ["incoming.part"] * 2


# -- the file that is handed out -------------------------------------------------------------


def test_errors_of_who_writes_come_out_as_they_are() -> None:
    course = Course()
    shelf = course.shelf()

    def fails(file: BinaryIO) -> None:
        file.write(b"some")
        raise FileNotFoundError("mine")

    with pytest.raises(FileNotFoundError, match="mine"):
        shelf.save(Permit(), ONE, fails, accepts)
    with pytest.raises(ZeroDivisionError, match="3 bytes"):
        shelf.save(Permit(), ONE, writes(b"one"), refuses)
    shelf.take_in(0, b"12345")
    with pytest.raises(ZeroDivisionError, match="5 bytes"):
        shelf.accept(Permit(), ONE, refuses)
    assert names(course) == []


def test_an_error_that_is_hushed_up_is_told_all_the_same() -> None:
    course = Course()
    shelf = course.shelf()

    def careless(file: BinaryIO) -> None:
        for _ in range(3):
            try:
                file.write(b"x" * 300_000)
            except StorageError:
                course.files.mend()

    course.files.fail_next("pwrite", DiskFault.FULL)
    with pytest.raises(StorageError, match="full"):
        shelf.save(Permit(), ONE, careless, accepts)
    assert names(course) == []


def test_who_closes_the_file_has_written_all() -> None:
    course = Course()
    shelf = course.shelf()

    def closes(file: BinaryIO) -> None:
        file.write(b"all")
        assert file.tell() == 3
        file.close()

    shelf.save(Permit(), ONE, closes, lambda file: file.close())
    assert contents(shelf, ONE) == b"all"


def test_a_snapshot_is_a_file_like_others() -> None:
    shelf = Course().shelf()
    whole = bytes(range(256)) * 3000
    shelf.save(Permit(), ONE, writes(whole), accepts)

    def read(file: BinaryIO) -> None:
        assert file.seekable()
        assert file.read(3) == b"\x00\x01\x02"
        assert file.read(1 << 19) == whole[3 : 3 + (1 << 19)]
        assert file.seek(-2, os.SEEK_END) == len(whole) - 2
        assert file.read() == whole[-2:]
        assert file.read() == b""
        assert file.seek(1000) == 1000
        assert file.seek(24, os.SEEK_CUR) == file.tell() == 1024
        assert file.read() == whole[1024:]
        assert file.seek(len(whole) + 5) == len(whole) + 5
        assert file.read() == b""
        with pytest.raises(ValueError, match="no offset"):
            file.seek(-len(whole) - 1, os.SEEK_END)
        file.seek(600_000)
        buffer = bytearray(300_000)
        assert file.readinto(buffer) == len(whole) - 600_000  # type: ignore[attr-defined]

    shelf.load(Permit(), ONE, read)
    assert shelf.read(ONE, 700, 5) == whole[700:705]
    assert shelf.read(ONE, len(whole) - 3, 9) == whole[-3:]
    assert shelf.read(ONE, len(whole), 9) == b""


def test_what_is_not_there_can_not_be_read_but_removed() -> None:
    course = Course()
    shelf = course.shelf()
    shelf.remove(ONE)
    with pytest.raises(StorageError, match="No such file"):
        shelf.read(ONE, 0, 1)
    with pytest.raises(StorageError, match="No such file"):
        contents(shelf, ONE)
    course.files.fail_next("unlink", DiskFault.BROKEN)
    with pytest.raises(StorageError, match="Input/output"):
        shelf.remove(ONE)


def test_work_that_was_given_up_gets_nowhere_and_leaves_nothing() -> None:
    course = Course()
    shelf = course.shelf()
    shelf.save(Permit(), TWO, writes(b"two"), accepts)
    for when in ("writing", "checking"):
        permit = Permit()

        def stops(file: BinaryIO, permit: Permit = permit) -> None:
            file.read() if file.readable() else file.write(b"some")
            assert permit.withdraw()

        write, check = (stops, accepts) if when == "writing" else (writes(b"one"), stops)
        with pytest.raises(StorageError, match="given up"):
            shelf.save(permit, ONE, write, check)
        assert names(course) == [f"{2:020}-{1:020}.snapshot"]
    permit = Permit()
    permit.settle()
    assert not permit.withdraw()
    with pytest.raises(StorageError, match="given up"):
        shelf.load(permit_withdrawn(), TWO, lambda file: file.read())


def permit_withdrawn() -> Permit:
    permit = Permit()
    permit.withdraw()
    return permit


# -- behind threads --------------------------------------------------------------------------


class Endless:
    """A machine that writes its state for ever; and one that thinks for long before it goes on."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def write(self, file: BinaryIO) -> None:
        try:
            while True:
                file.write(bytes(1000))
                self.began.set()
                assert self.may_go_on.wait(10.0)
        finally:
            self.ended.set()

    async def has_begun(self) -> None:
        assert await trio.to_thread.run_sync(self.began.wait, 10.0)

    async def has_ended(self) -> None:
        assert await trio.to_thread.run_sync(self.ended.wait, 10.0)


async def test_who_is_cancelled_does_not_wait_and_nothing_is_left(tmp_path: Path) -> None:
    storage = DiskStorage(tmp_path, segment_bytes=1 << 16)
    await storage.open()
    place = tmp_path / "snapshots"
    endless = Endless()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.snapshots.save, ONE, endless.write, accepts)
        await endless.has_begun()
        endless.may_go_on.clear()
        assert await storage.snapshots.list() == [], "who reads does not wait"
        await storage.write(Batch(b"nor does who writes"))
        nursery.cancel_scope.cancel()
    assert not endless.ended.is_set()
    endless.may_go_on.set()
    await endless.has_ended()
    await storage.snapshots.save(TWO, writes(b"two"), accepts)
    assert os.listdir(place) == [f"{2:020}-{1:020}.snapshot"]
    await storage.aclose()
    assert threads() == []


async def test_what_has_not_begun_when_it_is_cancelled_never_does(tmp_path: Path) -> None:
    store = SnapshotDirectory(tmp_path)
    await store.open()
    endless = Endless()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.save, ONE, endless.write, accepts)
        await endless.has_begun()
        with trio.move_on_after(0.01) as scope:
            await store.take_in(0, b"never")
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()
    await endless.has_ended()
    await store.remove(TWO)
    assert os.listdir(tmp_path) == []
    await store.aclose()


async def test_who_is_cancelled_when_it_gets_its_name_waits_for_that(tmp_path: Path) -> None:
    files = Gate("rename")
    store = SnapshotDirectory(tmp_path, files=files)
    await store.open()
    files.shut()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.save, ONE, writes(b"one"), accepts)
            await files.has_entered()
            scope.cancel()
            files.let_through.set()
    assert await store.list() == [ONE]
    await store.aclose()


@pytest.mark.parametrize("ends_in_time", [True, False])
async def test_closing_gives_up_what_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_in_time: bool
) -> None:
    """What does not end in time goes on in a later life, and touches none of its files."""
    store, later = SnapshotDirectory(tmp_path), SnapshotDirectory(tmp_path)
    await store.open()
    monkeypatch.setattr(snapshots, "GRACE", 20.0 if ends_in_time else 0.02)
    endless = Endless()
    raised: list[BaseException] = []

    async def save() -> None:
        try:
            await store.save(ONE, endless.write, accepts)
        except StorageError as error:
            raised.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(save)
        await endless.has_begun()
        if not ends_in_time:
            endless.may_go_on.clear()
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.aclose()
        assert endless.ended.is_set() == ends_in_time
        assert os.listdir(tmp_path) == ([] if ends_in_time else ["taking.part"])
        await later.open()
        assert os.listdir(tmp_path) == []
        late = Endless()
        nursery.start_soon(later.save, TWO, late.write, accepts)
        await late.has_begun()
        endless.may_go_on.set()
        await endless.has_ended()
        with trio.fail_after(10.0):
            while not raised:
                await trio.sleep(0.001)
        assert os.listdir(tmp_path) == ["taking.part"], "this is the later life's"
        nursery.cancel_scope.cancel()
    monkeypatch.setattr(snapshots, "GRACE", 20.0)
    await later.aclose()
    assert "given up" in str(raised[0])


async def test_it_is_used_only_while_it_is_open(tmp_path: Path) -> None:
    storage = DiskStorage(tmp_path)
    store = storage.snapshots
    for _ in range(2):
        for call, args in _CALLS:
            with pytest.raises(StorageError, match="not open"):
                await getattr(store, call)(*args)
        await storage.open()
        assert storage.snapshots is store
        with pytest.raises(StorageLocked):
            await store.open()
        await store.save(ONE, writes(b"one"), accepts)
        await storage.aclose()
    assert threads() == []


_CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("list", ()),
    ("save", (ONE, accepts, accepts)),
    ("load", (ONE, accepts)),
    ("read", (ONE, 0, 1)),
    ("take_in", (0, b"")),
    ("accept", (ONE, accepts)),
    ("remove", (ONE,)),
]


async def test_an_open_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    class Broken(OsFiles):
        def unlink(self, path: str) -> None:
            raise OSError(5, "Input/output error")

    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "taking.part").write_bytes(b"some")
    with pytest.raises(StorageError, match="Input/output"):
        await DiskStorage(tmp_path, files=Broken()).open()
    assert threads() == []
    storage = DiskStorage(tmp_path)
    await storage.open()
    assert os.listdir(tmp_path / "snapshots") == []
    await storage.aclose()


async def test_in_the_simulation_it_takes_its_time_and_may_be_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    files = SimulatedFiles()
    store = SnapshotDirectory("/data/s", files=files, hop=lambda _: SimulatedHop(lambda: 5.0))
    await store.open()
    began = trio.current_time()
    await store.save(ONE, writes(b"one"), accepts)
    assert trio.current_time() == began + 5.0
    with trio.move_on_after(2.0) as scope:
        await store.save(TWO, writes(b"two"), accepts)
    assert scope.cancelled_caught
    assert await store.list() == [ONE]
    await store.aclose()


class Hungry(OsFiles):
    """Counts what is written."""

    written = 0

    def pwrite(self, file: int, data: Bytes, offset: int) -> int:
        self.written = max(self.written, len(data))
        return super().pwrite(file, data, offset)


async def test_small_writes_go_to_the_disk_in_large_ones(tmp_path: Path) -> None:
    files = Hungry()
    store = SnapshotDirectory(tmp_path, files=files)
    await store.open()
    await store.save(ONE, lambda file: [file.write(b"%08d" % n) for n in range(99_999)], accepts)
    assert files.written == streams.BUFFER_BYTES
    assert await store.read(ONE, 80, 8) == b"00000010"
    await store.aclose()
