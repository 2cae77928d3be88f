"""Where the log begins: what a base does to entries, cuts, segments, and to the next start."""

from __future__ import annotations

import random

import pytest

from tests.storage.course import ALL, DIRECTORY, Course, Everything, Nothing, entries
from trioraft._errors import StorageCorrupt, StorageError
from trioraft._storage import layout
from trioraft._wire.frames import Kind, frame, identity
from trioraft.abc import Batch
from trioraft.testing._disk import Crash, DiskFault

SMALL = layout.DATA + 500
"""A segment of a few batches."""


def segments(course: Course) -> list[int]:
    names = course.files.names(DIRECTORY)
    return [int(name.removesuffix(".log")) for name in names if name.endswith(".log")]


def path(number: int) -> str:
    return f"{DIRECTORY}/{number:016}.log"


def test_a_base_drops_what_it_holds_and_what_is_read_begins_behind_it() -> None:
    course = Course()
    log, _ = course.open()
    who = [frame(n, 1, Kind.CONFIGURATION, b"%d" % n) for n in (3, 5)]
    course.write(log, Batch(b"s", None, [*entries(1, 2), who[0], *entries(4, 1), who[1]]))
    course.append(log, 3, term=4)
    course.compact(log, 4)
    assert log.read(4, ALL) == []
    assert [identity(whole)[0] for whole in log.read(5, ALL)] == [5, 6, 7, 8]
    course.files.kill()
    _, recovered = course.open()
    assert recovered.base == (4, 1)
    assert recovered.terms == ((5, 1), (6, 4))
    assert recovered.configurations == (who[1],)
    assert recovered.last_index == 8


def test_a_log_that_ends_before_its_base_goes_on_behind_it() -> None:
    course = Course()
    log, _ = course.open()
    course.append(log, 3)
    course.compact(log, 10, 2)
    with pytest.raises(ValueError, match="entries 4 to 4 do not follow entry 10"):
        log.write(Batch(None, None, entries(4, 1)))
    course.files.crash(Nothing())
    course.recovers_and_goes_on()
    assert course.acked.frames[0] == entries(11, 1, 2)[0]


@pytest.mark.parametrize("ending", ["kill", "power cut"])
@pytest.mark.parametrize("seed", range(8))
def test_any_course(seed: int, ending: str) -> None:
    """Whatever is written, cut, compacted and restarted, the log is what a simple one would be."""
    chance = random.Random(f"{seed} {ending}")
    course = Course(segment_bytes=chance.choice([SMALL, SMALL + 1500, 16 << 10]))
    log = course.recovers()
    term = 1
    for _ in range(90):
        if chance.randrange(9) == 0:
            if chance.randrange(3) == 0:
                course.close(log)
            if ending == "kill":
                course.files.kill()
            else:
                course.files.crash(chance)
            log = course.recovers()
        base, last = course.acked.base, course.acked.last
        cut = chance.choice([None, None, None, chance.randint(base[0], last)])
        kept = last if cut is None else cut
        moved = None
        if chance.randrange(4) == 0:
            beyond = last + chance.randrange(6)
            index = chance.randint(base[0], chance.choice([kept, kept, beyond]))
            moved = base if index == base[0] else (index, term)
            kept = max(kept, index)
        term += chance.randrange(2)
        some = entries(kept + 1, chance.randrange(4), term, chance.choice([0, 30, 90]))
        state = chance.choice([None, b"%d" % chance.randrange(99)])
        course.write(log, Batch(state, cut, some, moved))
        if chance.randrange(2):
            log.drop_segments()
        assert tuple(log.read(course.acked.base[0] + 1, ALL)) == course.acked.frames
        assert log.read(course.acked.base[0], ALL) == []
        for first in range(course.acked.base[0] + 1, course.acked.last + 1):
            assert identity(log.read(first, 1)[0])[0] == first
    if ending == "kill":
        course.files.kill()
    course.files.crash(Nothing())
    course.recovers_and_goes_on()


def test_what_is_kept_of_the_log_does_not_grow() -> None:
    course = Course(segment_bytes=SMALL)
    log, _ = course.open()
    for index in range(1, 300):
        course.append(log, 1, term=1 + index // 10)
        course.compact(log, max(index - 5, 0), 1 + max(index - 5, 0) // 10 if index > 5 else 0)
        assert len(log._extents._firsts) <= 6
        assert len(log._image.runs) <= 2
        assert len(segments(course)) <= 4
    assert segments(course)[0] > 50
    course.files.crash(Nothing())
    course.recovers_and_goes_on()


def test_only_segments_without_an_entry_behind_the_base_are_dropped() -> None:
    course = Course(segment_bytes=SMALL)
    log, _ = course.open()
    while len(segments(course)) < 5:
        course.append(log)
    firsts = [log._extents._firsts[log._extents._segments.index(n)] for n in segments(course)]
    for number, first in enumerate(firsts[1:], start=2):
        course.write(log, Batch(base=(first - 2, 1)))
        assert not log.has_dead_segments
        course.write(log, Batch(base=(first - 1, 1)))
        assert log.has_dead_segments
        log.drop_segments()
        assert segments(course)[0] == number
        copy = course.copy()
        copy.files.kill()
        copy.recovers()


def test_dropping_is_one_sync_and_nothing_is_done_where_nothing_is_dead() -> None:
    course = Course(segment_bytes=SMALL)
    log, _ = course.open()
    for _ in range(20):
        course.append(log)
    course.write(log, Batch(base=(15, 1)))
    course.files.calls.clear()
    log.drop_segments()
    names = [call.name for call in course.files.calls]
    assert names == ["unlink"] * (len(names) - 1) + ["sync_directory"]
    assert len(names) > 2
    course.files.calls.clear()
    log.drop_segments()
    assert course.files.calls == []


def test_a_segment_is_dropped_only_once_the_base_is_durable() -> None:
    before = Course(segment_bytes=SMALL)
    log, _ = before.open()
    for _ in range(12):
        before.append(log)
    before.close(log)
    for call in range(1, 100):
        for cut in (Nothing(), Everything()):
            course = before.copy()
            log = course.recovers()
            course.files.fail(call, DiskFault.CRASH_BEFORE)
            try:
                course.compact(log, 9)
            except Crash:
                course.files.crash(cut)
                course.recovers()
            else:
                assert call > 6, "there was something to drop"
                return


def test_dropped_segments_may_come_back_in_any_number() -> None:
    """Names that were removed are on the disk until the directory is synced."""
    course = Course(segment_bytes=SMALL)
    log, _ = course.open()
    for _ in range(25):
        course.append(log)
    course.write(log, Batch(b"s", None, (), (22, 1)))
    old = {number: course.files.contents(path(number)) for number in segments(course)}
    log.drop_segments()
    gone = sorted(old.keys() - set(segments(course)))
    assert len(gone) >= 3
    course.files.kill()
    for some in ([gone[0]], [gone[1]], [gone[-1]], [gone[0], gone[2]], gone):
        back = course.copy()
        for number in some:
            back.files.close(back.files.create(path(number)))
            back.files.damage(path(number), old[number])
        back.recovers()
        assert not set(gone) & set(segments(back))


@pytest.mark.parametrize("missing", ["the first", "the second"])
def test_a_missing_segment_with_entries_behind_the_base_is_found(missing: str) -> None:
    course = Course(segment_bytes=SMALL)
    log, _ = course.open()
    for _ in range(15):
        course.append(log)
    course.compact(log, 8)
    course.close(log)
    number = segments(course)[0 if missing == "the first" else 1]
    course.files.unlink(path(number))
    with pytest.raises(StorageCorrupt, match="the segment is missing") as caught:
        course.open()
    assert caught.value.file == path(number)


def test_each_segment_begins_with_all_that_still_holds() -> None:
    course = Course(segment_bytes=SMALL)
    log, _ = course.open()
    course.write(log, Batch(b"the state"))
    course.append(log, 3)
    course.compact(log, 2)
    for _ in range(12):
        course.append(log, term=3)
    course.close(log)
    assert len(segments(course)) > 3
    expected = {1: ((0, 0), (0, 0), None)}
    for number in segments(course):
        contents = course.files.contents(path(number))
        salt = layout.parse_header(path(number), number, contents).salt
        start, end = next(layout.find_batches(contents, salt))
        said = layout.read_preamble(path(number), contents, start, end)
        first = identity(contents[said.entries :])[0] if said.entries < end else 1
        term = 3 if first > 4 else 1
        known = ((2, 1), (first - 1, term), b"the state")
        assert (said.base, said.behind, said.state) == expected.get(number, known)


@pytest.mark.parametrize(
    ("batch", "behind", "reason"),
    [
        (Batch(base=(1, 1)), None, r"a base at \(1, 1\) in a log that begins behind \(2, 1\)"),
        (Batch(base=(2, 9)), None, r"a base at \(2, 9\)"),
        (Batch(None, 1), None, "a cut behind 1 in a log that begins behind 2"),
        (Batch(None, 1), (1, 1), "a cut behind 1 in a log that begins behind 2"),
        (Batch(), (3, 1), "a segment behind entry 3 in a log that ends at 4"),
        (Batch(None, None, [frame(5, 1, Kind.NOOP, b"")], (4, 2)), None, "entry 5 is not what"),
        (Batch(None, None, [frame(5, 1, Kind.NOOP, b"")], (9, 1)), None, "entry 10 is not what"),
    ],
)
@pytest.mark.parametrize("beyond_the_mark", [False, True])
def test_what_makes_no_sense_is_refused(
    batch: Batch, behind: tuple[int, int] | None, reason: str, beyond_the_mark: bool
) -> None:
    course = Course()
    log, _ = course.open()
    course.append(log, 4)
    course.compact(log, 2)
    now = log._current
    assert now is not None
    salt, number = now.header.salt, now.batch + 1
    course.files.pwrite(now.file, layout.pack_batch(salt, number, batch, behind), now.offset)
    if not beyond_the_mark:
        mark = layout.pack_mark(salt, number)
        course.files.pwrite(now.file, mark, layout.mark_offset(number))
    course.files.kill()
    with pytest.raises(StorageCorrupt, match=reason) as caught:
        course.open()
    assert caught.value.file == path(1)
    assert caught.value.offset >= now.offset


def test_after_a_failure_nothing_is_dropped() -> None:
    course = Course(segment_bytes=SMALL)
    log, _ = course.open()
    for _ in range(12):
        course.append(log)
    course.write(log, Batch(base=(9, 1)))
    assert log.has_dead_segments
    course.files.fail(1, DiskFault.FULL)
    with pytest.raises(StorageError, match="full"):
        log.write(Batch(b"more"))
    course.files.calls.clear()
    log.drop_segments()
    assert not log.has_dead_segments
    assert course.files.calls == []


def test_a_segment_that_can_not_be_dropped_fails_the_log() -> None:
    course = Course(segment_bytes=SMALL)
    log, _ = course.open()
    for _ in range(12):
        course.append(log)
    course.write(log, Batch(base=(9, 1)))
    course.files.fail_next("unlink", DiskFault.BROKEN)
    with pytest.raises(StorageError, match="Input/output"):
        log.drop_segments()
    with pytest.raises(StorageError, match="nothing is written after a failure"):
        log.write(Batch(b"more"))
    course.files.kill()
    course.recovers_and_goes_on()
