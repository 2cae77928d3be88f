"""Every byte of a small log damaged: nothing acknowledged is ever lost without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from attrs import evolve

from tests.storage.course import ALL, DIRECTORY, SECOND_BATCH, Course, Nothing, entries
from trioraft._errors import StorageCorrupt, StorageError
from trioraft._storage import layout
from trioraft._wire.frames import Kind, frame
from trioraft.abc import Batch

Damage = Callable[[bytes, int], bytes]


def flip(contents: bytes, offset: int) -> bytes:
    return contents[:offset] + bytes([contents[offset] ^ 1 << offset % 8]) + contents[offset + 1 :]


def zero(contents: bytes, offset: int) -> bytes:
    return contents[:offset] + bytes(len(contents[offset : offset + 8])) + contents[offset + 8 :]


def truncate(contents: bytes, offset: int) -> bytes:
    return contents[:offset]


def segment(number: int) -> str:
    return f"{DIRECTORY}/{number:016}.log"


def small_log() -> Course:
    """Three segments: one full, one of a life that was killed, one of a life that ended well."""
    course = Course()
    log, _ = course.open()
    course.write(log, Batch(b"s", None, [*entries(1, 2), frame(3, 1, Kind.CONFIGURATION, b"c")]))
    course.append(log, 1)
    course.files.kill()
    log = course.recovers()
    course.write(log, Batch(None, 3, entries(4, 2, 2), (2, 1)))
    course.append(log)
    course.files.kill()
    log = course.recovers()
    course.append(log)
    course.write(log, Batch(b"t"))
    course.close(log)
    return course


def offsets(contents: bytes) -> Iterator[int]:
    """Every offset near a byte that is not zero, and some of the others."""
    for offset in range(len(contents)):
        if offset % 101 == 0 or any(contents[max(offset - 8, 0) : offset + 9]):
            yield offset


def comes_out_right(course: Course, path: str, size: int) -> bool:
    """Open the log: is all there, or is the damage refused with its place?"""
    refused: StorageCorrupt | None = None
    try:
        course.recovers()
    except StorageCorrupt as error:
        refused = error
    if refused is not None:
        assert refused.file == path
        assert 0 <= refused.offset <= size
        assert path in str(refused)
    return refused is None


@pytest.mark.unmeasured
@pytest.mark.parametrize("damage", [flip, zero, truncate])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_byte(number: int, damage: Damage) -> None:
    course, path = small_log(), segment(number)
    sound = course.files.contents(path)
    refused = 0
    for offset in offsets(sound):
        damaged = course.copy()
        damaged.files.damage(path, damage(sound, offset))
        refused += not comes_out_right(damaged, path, len(sound))
    assert refused > 100


@pytest.mark.parametrize("kind", [layout.Own.BASE, layout.Own.FROM])
def test_every_bit_that_says_where_the_log_begins(kind: layout.Own) -> None:
    course, path = small_log(), segment(3)
    sound = course.files.contents(path)
    begin = layout.DATA + layout.BATCH_OVERHEAD + layout.RECORD_OVERHEAD * (kind - layout.Own.BASE)
    where = {layout.Own.BASE: (2, 1), layout.Own.FROM: (6, 2)}[kind]
    assert layout.unpack_record(sound, begin)[2:] == (*where, kind)
    for offset in range(begin, begin + layout.RECORD_OVERHEAD):
        for bit in range(8):
            damaged = course.copy()
            damaged.files.flip(path, offset, bit)
            with pytest.raises(StorageCorrupt) as caught:
                damaged.open()
            assert (caught.value.file, caught.value.offset) == (path, layout.DATA)


def test_damage_in_the_very_last_batch_before_a_power_cut_looks_like_a_tear() -> None:
    """What the format can't tell apart; docs/storage-format.md says so."""
    course = Course()
    log, _ = course.open()
    course.append(log)
    course.append(log)
    before = course.acked
    course.append(log)
    course.files.crash(Nothing())  # the mark of the last batch had not been synced
    sound = course.files.contents(segment(1))
    last = len(sound.rstrip(b"\0x")) - 20
    course.files.damage(segment(1), flip(sound, last))
    course.acked = before
    course.recovers_and_goes_on()


def test_damage_below_the_mark_is_no_tear_even_if_nothing_follows() -> None:
    course = Course()
    log, _ = course.open()
    course.append(log)
    course.files.kill()  # the mark is in the page cache
    contents = course.files.contents(segment(1))
    course.files.damage(segment(1), flip(contents, SECOND_BATCH + 30))
    with pytest.raises(StorageCorrupt, match="it had been durable") as caught:
        course.open()
    assert caught.value.offset == SECOND_BATCH


def test_both_marks_gone_and_a_batch_damaged_between_whole_ones() -> None:
    course = Course()
    log, _ = course.open()
    for _ in range(3):
        course.append(log)
    contents = bytearray(course.files.contents(segment(1)))
    contents[layout.PAGE : layout.DATA] = bytes(layout.DATA - layout.PAGE)
    contents[SECOND_BATCH + 30] ^= 1
    course.files.kill()
    course.files.damage(segment(1), bytes(contents))
    with pytest.raises(StorageCorrupt, match="whole ones follow") as caught:
        course.open()
    assert caught.value.offset == SECOND_BATCH


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_segment_is_named(number: int) -> None:
    course = small_log()
    course.files.unlink(segment(number))
    with pytest.raises(StorageCorrupt, match="missing") as caught:
        course.open()
    assert caught.value.file == segment(number)


def test_a_segment_of_another_log_is_not_taken() -> None:
    course, other = small_log(), Course()
    other.salts.random()
    other.close(other.open()[0])
    course.files.damage(segment(2), other.files.contents(segment(1)))
    with pytest.raises(StorageCorrupt, match="segment 1 under another's name"):
        course.open()
    course, other = small_log(), small_log()
    header = layout.parse_header(segment(2), 2, other.files.contents(segment(2)))
    forged = layout.pack_header(layout.Header(b"12345678", 2, header.predecessor, header.taken))
    course.files.damage(segment(2), forged + other.files.contents(segment(2))[len(forged) :])
    with pytest.raises(StorageCorrupt, match="carries on another one"):
        course.open()


def test_a_newer_format_is_refused_and_both_versions_are_named() -> None:
    course = Course()
    course.close(course.open()[0])
    contents = course.files.contents(segment(1))
    header = evolve(layout.parse_header(segment(1), 1, contents), version=7)
    newer = layout.pack_header(header) + contents[layout.HEADER_BYTES :]
    course.files.damage(segment(1), newer)
    with pytest.raises(StorageError, match=r"version 7.*beyond 2") as caught:
        course.open()
    assert not isinstance(caught.value, StorageCorrupt)


def test_no_length_field_is_trusted() -> None:
    course = small_log()
    contents = bytearray(course.files.contents(segment(3)))
    length = layout.DATA + 16
    contents[length : length + 4] = b"\xff\xff\xff\x7f"
    course.files.damage(segment(3), bytes(contents))
    with pytest.raises(StorageCorrupt):
        course.open()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(entries(6, 1), id="a gap"),
        pytest.param([frame(5, 1, Kind.NOOP, b"")], id="a falling term"),
        pytest.param([entries(5, 1, 2)[0][:-1]], id="an entry cut short"),
        pytest.param([b"123"], id="no entry at all"),
        pytest.param(
            [frame(5, 2, Kind.COMMAND, b"")[:24] + b"\x07"], id="a kind of entry that there is not"
        ),
        pytest.param([bytes(24) + b"\x84"], id="a kind of record that there is not"),
        pytest.param([b"\xff" * 4 + bytes(20) + b"\x80"], id="a record longer than its batch"),
    ],
)
@pytest.mark.parametrize("beyond_the_mark", [False, True])
def test_a_batch_that_makes_no_sense_is_refused(body: list[bytes], beyond_the_mark: bool) -> None:
    """Its checksum is right, so it was written like that; nobody may build on it."""
    course = Course()
    log, _ = course.open()
    course.write(log, Batch(None, None, entries(1, 4, 2)))
    segment_now = log._current
    assert segment_now is not None
    if not beyond_the_mark:
        mark = layout.pack_mark(segment_now.header.salt, segment_now.batch + 1)
        course.files.pwrite(segment_now.file, mark, layout.PAGE)
    batch = Batch(None, None, body)
    data = layout.pack_batch(segment_now.header.salt, segment_now.batch + 1, batch)
    course.files.pwrite(segment_now.file, data, segment_now.offset)
    course.files.kill()
    with pytest.raises(StorageCorrupt) as caught:
        course.open()
    assert caught.value.file == segment(1)


def test_an_entry_beyond_the_mark_is_looked_at_once_more_before_it_is_written_anew() -> None:
    course = Course()
    log, _ = course.open()
    now = log._current
    assert now is not None
    bad = flip(entries(1, 1)[0], 30)
    data = layout.pack_batch(now.header.salt, now.batch + 1, Batch(None, None, [bad]))
    course.files.pwrite(now.file, data, now.offset)
    course.files.kill()
    with pytest.raises(StorageCorrupt, match="checksum") as caught:
        course.open()
    assert caught.value.offset == SECOND_BATCH + layout.BATCH_OVERHEAD


def test_a_cut_of_what_is_not_there_is_refused() -> None:
    course = Course()
    log, _ = course.open()
    course.append(log)
    segment_now = log._current
    assert segment_now is not None
    salt, number = segment_now.header.salt, segment_now.batch + 1
    course.files.pwrite(
        segment_now.file, layout.pack_batch(salt, number, Batch(None, 9)), segment_now.offset
    )
    course.files.pwrite(
        segment_now.file, layout.pack_mark(salt, number), layout.mark_offset(number)
    )
    course.files.kill()
    with pytest.raises(StorageCorrupt, match="a cut behind 9 in a log that ends at 1"):
        course.open()


def test_damage_under_a_running_server_is_found_when_it_is_read() -> None:
    course = Course()
    log, _ = course.open()
    course.append(log, 3)
    contents = course.files.contents(segment(1))
    course.files.damage(segment(1), flip(contents, SECOND_BATCH + layout.BATCH_OVERHEAD + 60))
    with pytest.raises(StorageCorrupt, match="checksum") as caught:
        log.read(1, ALL)
    assert caught.value.offset == SECOND_BATCH + layout.BATCH_OVERHEAD
    course.files.damage(segment(1), contents[: layout.DATA + 10])
    with pytest.raises(StorageCorrupt, match="not here any more"):
        log.read(1, ALL)
    course.files.unlink(segment(1))
    with pytest.raises(StorageError, match="No such file"):
        log.read(1, ALL)
