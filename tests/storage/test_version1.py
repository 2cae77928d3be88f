"""A directory that the first version of the format left behind, byte by byte as it was."""

from __future__ import annotations

import base64
import zlib

import pytest

from tests.storage.course import ALL, DIRECTORY, SEGMENT_BYTES, Contents, Course, entries
from trioraft._errors import StorageCorrupt
from trioraft._storage import layout
from trioraft._wire.frames import Kind, frame
from trioraft.abc import Batch

FIRST = (
    "c-rmSKWoB37{~D#wUa~9CF5;&=n`<Lh|)pq*14n57BgrdJ^TX_f@J8sQ2GiK+HM_PI(6(My1Nyf%|RmND3rQYz8^"
    "U5x#f4qZO?Jib6l@^FH?qL)Q8>i#pms%s(-Qxmw5vK00000{5wg{Z^rAV+|3KO0ssI20Kjqf|LJ&L$$bsD6#xJL0"
    "054&|Ns8y-wHok`oDm;XuKAy4=2$)X+QgVP9X2Rwy@7s8BEJb+<vx&(-F4l|3(FzZ?6mHp#kb4<8;=TrnLaG*K+m"
    "8j!`uHtJPd>x_+0njJ|2<52t>#7RBtL0XwbAdH?"
)
SECOND = (
    "c-ku|%FHiHOe<kzU|^Ve;OX8yzfVLnF+hN8P1$_Q8!3*=Q2tucRbLrK!6+C7qhJ(_f>AIEM!_f;1*2dTjDk@x<N$"
    "h~pYx_f+GwbZf>AIEM!_f;1*2dTjDk@x3P!;w7zM+#{|}qvpMG=Gs?ksx1*2dTjDk@x3P!;w7zLwX6pVsVFbale|"
    "DO@cmj~j@(wEM$0qF&~Tk6o&H<Y9n<tiAWFB>=j#O{SAd?5Cb)CdI@G;NJMK%&c3;2(DLjC2&r@=H=RfC7sSU+`p"
    "wO2SNMG*!sVQ!rAfAOt`L@NLykU?bN6^x+UkAU^8v7y>f5u6FlccBnW^p3xj+urXnS0q|aaVg"
)
"""Segments, without the zeros at their ends.  The second one's life began by a kill."""


def left_behind() -> Course:
    """What was acknowledged when the older program closed its log."""
    log = [*entries(1, 2), frame(3, 1, Kind.CONFIGURATION, b"who"), *entries(4, 1)]
    log += [*entries(5, 2, 2), *entries(7, 1, 3)]
    course = Course(acked=Contents(b"term 2, vote", tuple(log)))
    course.files.mkdir("/data")
    course.files.mkdir(DIRECTORY)
    for number, packed in enumerate((FIRST, SECOND), start=1):
        path = f"{DIRECTORY}/{number:016}.log"
        course.files.close(course.files.create(path))
        contents = zlib.decompress(base64.b85decode(packed))
        course.files.damage(path, contents.ljust(SEGMENT_BYTES if number == 2 else 0, b"\0"))
    course.files.sync_directory("/")
    course.files.sync_directory("/data")
    return course


def versions(course: Course) -> list[int]:
    names = [name for name in course.files.names(DIRECTORY) if name.endswith(".log")]
    return [course.files.contents(f"{DIRECTORY}/{name}")[8] for name in names]


def test_it_is_read_and_goes_on_in_the_present_form() -> None:
    course = left_behind()
    assert versions(course) == [1, 1]
    course.recovers_and_goes_on()
    assert versions(course) == [1, 1, 2, 2, 2]


def test_its_segments_are_dropped_together() -> None:
    """None of them says where it begins, so each needs the ones before it."""
    course = left_behind()
    log = course.recovers()
    course.compact(log, 6, 2)
    assert versions(course) == [1, 1, 2], "entry 7 is in the second one"
    course.files.kill()
    log = course.recovers()
    assert versions(course) == [1, 1, 2, 2]
    course.compact(log, 7, 3)
    assert versions(course) == [2]
    course.files.kill()
    course.recovers_and_goes_on()


def test_one_that_is_left_alone_of_those_that_were_dropped_is_not_read() -> None:
    """The power failed when the first one was gone, and the second was not."""
    course = left_behind()
    log = course.recovers()
    second = course.files.contents(f"{DIRECTORY}/{2:016}.log")
    course.compact(log, 7, 3)
    course.files.kill()
    course.files.close(course.files.create(f"{DIRECTORY}/{2:016}.log"))
    course.files.damage(f"{DIRECTORY}/{2:016}.log", second)
    course.recovers()
    assert versions(course) == [2]


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_segment_is_named(number: int) -> None:
    course = left_behind()
    if number == 2:
        course.close(course.recovers())
    course.files.unlink(f"{DIRECTORY}/{number:016}.log")
    with pytest.raises(StorageCorrupt, match="missing") as caught:
        course.open()
    assert caught.value.file == f"{DIRECTORY}/{number:016}.log"


def test_what_is_written_now_has_a_version_that_older_programs_refuse() -> None:
    course = Course()
    log, _ = course.open()
    course.write(log, Batch(b"state"))
    assert versions(course) == [layout.VERSION] == [2]
    assert log.read(1, ALL) == []
