"""The segment log itself: torn tails, restarts, rotation, and the bugs that goraft's log had."""

from __future__ import annotations

import pytest

from tests.storage.course import (
    ALL,
    DIRECTORY,
    SECOND_BATCH,
    SEGMENT_BYTES,
    Course,
    Nothing,
    entries,
    every_choice,
)
from trioraft._errors import StorageCorrupt, StorageError, StorageLocked
from trioraft._storage import extents, layout
from trioraft._wire.frames import FRAME_OVERHEAD, identity
from trioraft.abc import Batch, Recovered
from trioraft.testing._disk import Crash, DiskFault


def segment(number: int) -> str:
    return f"{DIRECTORY}/{number:016}.log"


def segments(course: Course) -> list[str]:
    return [name for name in course.files.names(DIRECTORY) if name.endswith(".log")]


def spares(course: Course) -> list[str]:
    return [name for name in course.files.names(DIRECTORY) if name.endswith(".spare")]


def torn(count: int, size: int) -> tuple[Course, int, int]:
    """A log whose second batch was being synced; where it begins and ends."""
    course = Course(segment_bytes=64 << 10)
    log, _ = course.open()
    course.append(log, 2)
    assert log._current is not None
    begin = log._current.offset
    course.files.fail(2, DiskFault.CRASH_BEFORE)
    with pytest.raises(Crash):
        course.append(log, count, size=size)
    return course, begin, begin + layout.BATCH_OVERHEAD + count * (FRAME_OVERHEAD + size)


def test_a_torn_last_batch_of_every_length_is_cut_whole() -> None:
    dead, begin, end = torn(2, 50)
    dead.files.kill()
    whole = dead.files.contents(segment(1))
    assert whole[end - 1] != 0
    assert not any(whole[end:])
    for length in range(end - begin):
        course = dead.copy()
        course.pending = None
        course.files.damage(segment(1), whole[: begin + length].ljust(len(whole), b"\0"))
        course.recovers_and_goes_on()


def test_every_subset_of_a_torn_batchs_pages() -> None:
    dead, begin, end = torn(10, 1200)
    assert end - begin > 2 * layout.PAGE
    outcomes = set()
    for chance in every_choice():
        course = dead.copy()
        course.files.crash(chance)
        course.recovers_and_goes_on()
        outcomes.add(course.acked.last > 6)
    assert outcomes == {True, False}


def test_g20_one_server_alone_has_on_disk_what_it_acknowledged() -> None:
    course = Course()
    log, _ = course.open()
    for _ in range(3):
        course.append(log)
        power_cut = course.copy()
        power_cut.files.crash(Nothing())
        power_cut.recovers()


def test_g21_append_after_a_torn_tail_is_there_after_the_next_start() -> None:
    course, _, _ = torn(1, 300)
    course.files.kill()
    torn_off = bytearray(course.files.contents(segment(1)))
    torn_off[len(torn_off.rstrip(b"\0")) - 5 :] = b""
    course.files.damage(segment(1), bytes(torn_off))
    course.pending = None
    for _ in range(4):
        log = course.recovers()
        course.append(log)
        course.files.kill()
    assert course.recovers()._extents.last_index == 6


def test_g22_a_flipped_bit_in_the_middle_is_refused_with_file_and_offset() -> None:
    course = Course()
    log, _ = course.open()
    for _ in range(3):
        course.append(log)
    course.close(log)
    second = SECOND_BATCH + layout.BATCH_OVERHEAD + FRAME_OVERHEAD + 40
    course.files.flip(segment(1), second + layout.BATCH_OVERHEAD + FRAME_OVERHEAD, 3)
    with pytest.raises(StorageCorrupt) as caught:
        course.open()
    assert (caught.value.file, caught.value.offset) == (segment(1), second)


def test_g23_a_cut_after_rotations_and_restarts_cuts_in_the_right_place() -> None:
    course = Course()
    log, _ = course.open()
    for _ in range(30):
        course.append(log, 10, size=100)
    course.close(log)
    log = course.recovers()
    course.write(log, Batch(None, 205, entries(206, 2, 2)))
    course.files.kill()
    log = course.recovers()
    assert [identity(whole) for whole in log.read(205, ALL)] == [(205, 1), (206, 2), (207, 2)]
    course.files.kill()
    course.recovers_and_goes_on()


def test_g24_leftovers_of_a_crash_are_removed_and_never_taken_for_the_log() -> None:
    course = Course()
    log, _ = course.open()
    course.append(log, 4, size=700)
    log.prepare_spare()
    course.files.fail(2, DiskFault.CRASH_AFTER)
    with pytest.raises(Crash):
        course.append(log, 4, size=700)  # the spare is written, but has no segment's name
    course.files.kill()
    assert len(spares(course)) == 1
    course.pending = None
    log = course.recovers()
    assert spares(course) == []
    assert segments(course) == [f"{number:016}.log" for number in (1, 2)]
    course.append(log)
    course.files.kill()
    course.recovers()


@pytest.mark.parametrize("call", [1, 2])
def test_g30_after_a_failed_write_memory_holds_nothing_that_the_disk_lacks(call: int) -> None:
    course = Course()
    log, _ = course.open()
    course.append(log, 2)
    course.files.fail(call, DiskFault.BROKEN)
    with pytest.raises(StorageError, match="Input/output"):
        course.append(log)
    assert len(log.read(1, ALL)) == 2
    with pytest.raises(StorageError, match="nothing is written after a failure"):
        course.append(log)
    assert len(log.read(1, ALL)) == 2


def test_log_new_log() -> None:
    """goraft's TestLogNewLog: append 1/1, 2/1, 3/2 to a new log."""
    course = Course()
    log, recovered = course.open()
    assert recovered == Recovered()
    course.append(log)
    course.append(log)
    course.append(log, term=2)
    assert [identity(whole) for whole in log.read(1, ALL)] == [(1, 1), (2, 1), (3, 2)]


def test_log_existing_log() -> None:
    """goraft's TestLogExistingLog: 1/1, 2/1, 3/2 are there after an open."""
    course = Course()
    log, _ = course.open()
    course.write(log, Batch(None, None, [*entries(1, 2), *entries(3, 1, 2)]))
    course.close(log)
    log, recovered = course.open()
    assert recovered.terms == ((1, 1), (3, 2))
    assert [identity(whole) for whole in log.read(1, ALL)] == [(1, 1), (2, 1), (3, 2)]


def test_log_recovery() -> None:
    """goraft's TestLogRecovery, and the open after it: rubbish behind the last entry."""
    course = Course()
    log, _ = course.open()
    course.append(log, 2)
    assert log._current is not None
    course.files.pwrite(log._current.file, b"CORRUPT!", log._current.offset)
    course.files.kill()
    log = course.recovers()
    course.append(log, term=2)
    course.files.kill()
    log = course.recovers()
    assert [identity(whole) for whole in log.read(1, ALL)] == [(1, 1), (2, 1), (3, 2)]


def test_log_truncate() -> None:
    """goraft's TestLogTruncate, as far as it is a store's affair."""
    course = Course()
    log, _ = course.open()
    course.write(log, Batch(None, None, [*entries(1, 2), *entries(3, 1, 2)]))
    with pytest.raises(ValueError, match="a cut behind 4 in a log that ends at 3"):
        log.write(Batch(None, 4))
    course.write(log, Batch(None, 3))
    assert len(log.read(1, ALL)) == 3
    course.write(log, Batch(None, 2))
    assert len(log.read(1, ALL)) == 2
    course.write(log, Batch(None, None, entries(3, 1, 2)))
    course.close(log)
    log = course.recovers()
    assert [identity(whole) for whole in log.read(1, ALL)] == [(1, 1), (2, 1), (3, 2)]


def test_each_start_begins_a_segment_and_gives_back_the_rest_of_the_one_before() -> None:
    course = Course()
    for number in range(1, 5):
        log = course.recovers()
        course.append(log)
        assert segments(course) == [f"{n:016}.log" for n in range(1, number + 1)]
        assert len(course.files.contents(segment(number))) == SEGMENT_BYTES
        course.close(log)
    assert len(course.files.contents(segment(1))) < layout.DATA + 200


def test_a_segment_begins_with_the_state_however_long_ago_it_was_written() -> None:
    course = Course()
    log, _ = course.open()
    course.write(log, Batch(b"the only state"))
    for _ in range(12):
        course.append(log, 2, size=700)
    assert len(segments(course)) > 3
    for number in range(2, len(segments(course)) + 1):
        assert b"the only state" in course.files.contents(segment(number))[layout.DATA :][:200]


def test_rotation_takes_the_spare() -> None:
    course = Course()
    log, _ = course.open()
    assert not log.wants_spare
    course.append(log, 3, size=700)
    assert log.wants_spare
    log.prepare_spare()
    assert not log.wants_spare
    log.prepare_spare()
    assert len(spares(course)) == 1
    course.files.calls.clear()
    course.append(log, 4, size=700)
    names = [call.name for call in course.files.calls]
    assert spares(course) == []
    expected = ["open", "pwrite", "fdatasync", "rename", "sync_directory", "close"]
    assert names == expected


def test_a_write_is_one_write_one_sync_and_a_mark() -> None:
    course = Course()
    log, _ = course.open()
    course.files.calls.clear()
    course.append(log, 30)
    assert [call.name for call in course.files.calls] == ["pwrite", "fdatasync", "pwrite"]


def test_a_batch_that_needs_more_than_a_segment_gets_one_that_fits() -> None:
    course = Course()
    log, _ = course.open()
    course.append(log, 30, size=1000)
    assert len(course.files.contents(segment(2))) > 30_000
    course.append(log)
    assert len(segments(course)) == 3
    course.files.kill()
    course.recovers()


def test_a_batch_too_large_for_the_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_BODY_BYTES", 1000)
    course = Course()
    log, _ = course.open()
    with pytest.raises(ValueError, match="too large"):
        log.write(Batch(bytes(2000)))
    course.append(log)


def test_large_batches_are_indexed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extents, "EXTENT_BYTES", 1000)
    monkeypatch.setattr("trioraft._storage.replay.EXTENT_BYTES", 1000)
    course = Course()
    log, _ = course.open()
    course.append(log, 100)
    course.append(log, 3, size=5000)
    for _ in range(3):
        for first in range(1, 104):
            assert log.read(first, 1) == [course.acked.frames[first - 1]]
            some = log.read(first, 700)
            assert some == list(course.acked.frames[first - 1 :][: len(some)])
        found = log._extents.find(1, ALL)
        assert [e.first for e in found[1:]] == [e.last + 1 for e in found[:-1]]
        assert all(e.stop - e.start <= 1000 + 5000 + FRAME_OVERHEAD for e in found)
        assert len(found) > 8
        course.close(log)
        log = course.recovers()


def test_the_higher_of_the_two_marks_counts_and_none_is_taken_from_elsewhere() -> None:
    salt, other = b"12345678", b"87654321"
    page = layout.PAGE

    def slots(first: bytes, second: bytes) -> bytes:
        return bytes(page) + first.ljust(page, b"\0") + second.ljust(page, b"\0")

    five, six = layout.pack_mark(salt, 5), layout.pack_mark(salt, 6)
    assert layout.read_mark(salt, slots(six, five)) == 6
    assert layout.read_mark(salt, slots(five, six)) == 6
    assert layout.read_mark(salt, slots(layout.pack_mark(other, 6), five)) == 5
    assert layout.read_mark(salt, slots(six[:-1], b"")) == 1
    assert layout.read_mark(salt, slots(six, five)[: page + 5]) == 1


def test_one_at_a_time() -> None:
    course = Course()
    log, _ = course.open()
    with pytest.raises(StorageLocked, match="in use"):
        course.open()
    course.close(log)
    course.recovers()


def test_other_files_in_the_directory_are_left_alone() -> None:
    course = Course()
    course.close(course.open()[0])
    for name in ("notes.txt", "1.log", "snapshot.spare"):
        course.files.close(course.files.create(f"{DIRECTORY}/{name}"))
    course.recovers()
    assert {"notes.txt", "1.log", "snapshot.spare"} <= set(course.files.names(DIRECTORY))
