"""Every call of the file system refused once: an error of ours, no retry, a clean restart."""

from __future__ import annotations

import errno

import pytest

from tests.storage.course import LOG_SCENARIOS, Course, Nothing, Scenario, entries
from trioraft._errors import StorageCorrupt, StorageError
from trioraft._storage.files import Bytes
from trioraft._storage.segments import SegmentLog
from trioraft.abc import Batch
from trioraft.testing._disk import DiskFault, SimulatedFiles

CHANGES = {"create", "pwrite", "fdatasync", "truncate", "rename", "mkdir"}
by_name = pytest.mark.parametrize("scenario", LOG_SCENARIOS, ids=lambda s: s.__name__)


class Watched(Course):
    """A course that keeps hold of its newest log."""

    log: SegmentLog | None = None

    def open(self):  # type: ignore[no-untyped-def]
        self.log = SegmentLog("/data/n1", self.files, lambda: self.salts.randbytes(8), 16 << 10)
        return self.log, self.log.open()


def calls_of(scenario: Scenario) -> list[str]:
    course = Course(looks=False)
    scenario(course)
    return [call.name for call in course.files.calls]


@by_name
@pytest.mark.parametrize("fault", [DiskFault.BROKEN, DiskFault.FULL])
def test_every_call_refused(scenario: Scenario, fault: DiskFault) -> None:
    for call, name in enumerate(calls_of(scenario), start=1):
        course = Watched(looks=False)
        course.files.fail(call, fault)
        with pytest.raises(StorageError) as caught:
            scenario(course)
        assert not isinstance(caught.value, StorageCorrupt)
        if fault is DiskFault.FULL:
            assert "the disk is full" in str(caught.value)
        assert course.log is not None
        course.files.calls.clear()
        with pytest.raises(StorageError):
            course.log.write(Batch(b"after"))
        course.log.close()
        course.log.unlock()
        course.looks = True
        assert not CHANGES & {call.name for call in course.files.calls}, f"after {name} failed"
        course.recovers_and_goes_on()


@by_name
def test_power_cut_after_a_refused_sync(scenario: Scenario) -> None:
    """What a failed sync was to write is still read, but on no disk: a start must not trust it."""
    for call, name in enumerate(calls_of(scenario), start=1):
        if name in ("fdatasync", "sync_directory"):
            course = Watched(looks=False)
            course.files.fail(call, DiskFault.BROKEN)
            with pytest.raises(StorageError):
                scenario(course)
            course.files.kill()
            course.looks = True
            course.recovers()
            course.files.crash(Nothing())
            course.recovers_and_goes_on()


@by_name
def test_short_writes_are_completed(scenario: Scenario) -> None:
    for call, name in enumerate(calls_of(scenario), start=1):
        if name == "pwrite":
            course = Course()
            course.files.fail(call, DiskFault.SHORT)
            scenario(course)
            course.files.crash(Nothing())
            course.recovers_and_goes_on()


class Stubborn(SimulatedFiles):
    """Takes ten bytes and no more."""

    def pwrite(self, file: int, data: Bytes, offset: int) -> int:
        return super().pwrite(file, memoryview(data)[:10], offset) if len(data) > 1000 else 0


def test_a_file_that_takes_no_more_bytes_is_an_error() -> None:
    with pytest.raises(StorageError, match="takes no more bytes"):
        Course(files=Stubborn()).open()


def test_the_error_of_later_writes_says_what_had_failed() -> None:
    course = Course()
    log, _ = course.open()
    course.append(log)
    course.files.fail(2, DiskFault.BROKEN)
    with pytest.raises(StorageError) as caught:
        course.append(log)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EIO
    with pytest.raises(StorageError, match=r"nothing is written after a failure: .*error"):
        log.write(Batch(b"more"))


def test_a_failed_spare_fails_the_next_write() -> None:
    course = Course()
    log, _ = course.open()
    course.append(log, 4, size=700)
    assert log.wants_spare
    course.files.fail(3, DiskFault.FULL)
    with pytest.raises(StorageError, match="full"):
        log.prepare_spare()
    assert not log.wants_spare
    with pytest.raises(StorageError, match="full"):
        log.write(Batch(b"more"))


def test_what_does_not_follow_is_refused_before_anything_is_written() -> None:
    course = Course()
    log, _ = course.open()
    course.append(log, 3)
    course.compact(log, 1)
    course.files.calls.clear()
    for batch in (
        Batch(None, None, entries(5, 1)),
        Batch(None, None, entries(3, 1)),
        Batch(None, 1, entries(4, 1)),
        Batch(None, None, [*entries(4, 1), *entries(6, 1)]),
        Batch(None, 4),
        Batch(None, -1),
        Batch(None, 0),
        Batch(base=(0, 0)),
        Batch(base=(1, 2)),
        Batch(None, None, entries(4, 1), (9, 1)),
        Batch(None, None, entries(4, 6), (9, 1)),
    ):
        with pytest.raises(ValueError):
            log.write(batch)
    assert course.files.calls == []
    course.append(log)


def test_a_log_that_is_not_open_takes_nothing() -> None:
    log = SegmentLog("/data", SimulatedFiles(), lambda: bytes(8), 1 << 14)
    with pytest.raises(StorageError, match="not open"):
        log.write(Batch(b"state"))
    log.close()
    log.unlock()
