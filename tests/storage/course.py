"""A segment log on a simulated disk, and what may be found there after whatever befell it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from attrs import define, evolve, field

from trioraft._storage import layout
from trioraft._storage.segments import SegmentLog
from trioraft._storage.shelf import Shelf
from trioraft._storage.worker import Permit
from trioraft._wire.frames import Kind, frame, identity
from trioraft.abc import Batch, Recovered, SnapshotId
from trioraft.testing._cache import Chance
from trioraft.testing._disk import SimulatedFiles

DIRECTORY = "/data/n1"
SNAPSHOTS = f"{DIRECTORY}/snapshots"
SEGMENT_BYTES = 16 << 10
SECOND_BATCH = layout.DATA + layout.BATCH_OVERHEAD + 2 * layout.RECORD_OVERHEAD
"""Where a new log's second batch begins: the first one says only where the log begins."""

ALL = 1 << 30


def entries(first: int, count: int, term: int = 1, size: int = 40) -> list[bytes]:
    payload = b"%d in %d " % (first, term)
    numbers = range(first, first + count)
    return [frame(n, term, Kind.COMMAND, payload.ljust(size, b"x")) for n in numbers]


@define
class Contents:
    """State, base, and the entries behind it."""

    state: bytes | None = None
    frames: tuple[bytes, ...] = ()
    base: tuple[int, int] = (0, 0)

    def after(self, batch: Batch) -> Contents:
        state = self.state if batch.state is None else batch.state
        base = self.base if batch.base is None else batch.base
        kept = self.last if batch.cut is None else batch.cut
        frames = [whole for whole in self.frames if base[0] < identity(whole)[0] <= kept]
        return Contents(state, (*frames, *batch.entries), base)

    @property
    def last(self) -> int:
        return self.base[0] + len(self.frames)


def runs(frames: Sequence[bytes]) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for index, term in map(identity, frames):
        if not found or found[-1][1] != term:
            found.append((index, term))
    return tuple(found)


@define
class Course:
    """Lives of one server on one disk, and what its storage has promised in them."""

    files: SimulatedFiles = field(factory=SimulatedFiles)
    acked: Contents = field(factory=Contents)
    pending: Contents | None = None
    """What is there if the write under way turns out to have reached the disk."""
    segment_bytes: int = SEGMENT_BYTES
    looks: bool = True
    """Whether `recovers` looks at what is there."""
    salts: random.Random = field(factory=lambda: random.Random(5))
    saved: dict[SnapshotId, set[bytes | None]] = field(factory=dict)
    """What each snapshot may be; None: it need not be there."""

    def open(self) -> tuple[SegmentLog, Recovered]:
        log = SegmentLog(DIRECTORY, self.files, lambda: self.salts.randbytes(8), self.segment_bytes)
        return log, log.open()

    def write(self, log: SegmentLog, batch: Batch) -> None:
        self.pending = self.acked.after(batch)
        log.write(batch)
        self.acked, self.pending = self.pending, None

    def append(self, log: SegmentLog, count: int = 1, term: int = 1, size: int = 40) -> None:
        newest = [identity(whole)[1] for whole in self.acked.frames[-1:]]
        term = max([term, self.acked.base[1], *newest])
        self.write(log, Batch(None, None, entries(self.acked.last + 1, count, term, size)))

    def compact(self, log: SegmentLog, index: int, term: int = 1) -> None:
        self.write(log, Batch(base=(index, term)))
        log.drop_segments()

    def shelf(self) -> Shelf:
        shelf = Shelf(SNAPSHOTS, self.files)
        shelf.tidy()
        return shelf

    def save(self, shelf: Shelf, one: SnapshotId, whole: bytes) -> None:
        before = self.saved.get(one, {None})
        self.saved[one] = {*before, whole}
        shelf.save(Permit(), one, lambda file: put(file, whole), lambda file: same(file, whole))
        self.saved[one] = {whole}

    def take_in(self, shelf: Shelf, one: SnapshotId, whole: bytes) -> None:
        before = self.saved.get(one, {None})
        self.saved[one] = {*before, whole}
        for offset in range(0, len(whole), 5000):
            shelf.take_in(offset, whole[offset : offset + 5000])
        shelf.accept(Permit(), one, lambda file: same(file, whole))
        self.saved[one] = {whole}

    def remove(self, shelf: Shelf, one: SnapshotId) -> None:
        self.saved[one].add(None)  # and a power cut may bring it back
        shelf.remove(one)

    def has_its_snapshots(self) -> None:
        """What was saved is there and whole; nothing else is, and nothing in the making."""
        shelf = self.shelf()
        for one in shelf.snapshots():
            whole = shelf.load(Permit(), one, lambda file: file.read())
            assert whole in self.saved[one]
            self.saved[one] -= {None}
        missing = self.saved.keys() - set(shelf.snapshots())
        assert all(None in self.saved[one] for one in missing)
        if self.files.exists(SNAPSHOTS):
            assert len(self.files.names(SNAPSHOTS)) == len(shelf.snapshots())

    def close(self, log: SegmentLog) -> None:
        log.close()
        log.unlock()

    def copy(self) -> Course:
        saved = {one: set(may) for one, may in self.saved.items()}
        return evolve(self, files=self.files.copy(), saved=saved)

    def recovers(self) -> SegmentLog:
        """Open: what was promised is there, or that and what was under way; then go on from it."""
        log, recovered = self.open()
        if not self.looks:
            return log
        found = self.found(log, recovered)
        assert found in (self.acked, self.pending or self.acked)
        self.acked, self.pending = found, None
        if self.saved:
            self.has_its_snapshots()
        log.drop_segments()
        return log

    @staticmethod
    def found(log: SegmentLog, recovered: Recovered) -> Contents:
        """What there is; it must fit together."""
        frames = tuple(log.read(recovered.base[0] + 1, ALL))
        assert log.read(recovered.base[0], ALL) == []
        assert recovered.last_index == recovered.base[0] + len(frames)
        assert recovered.terms == runs(frames)
        return Contents(recovered.state, frames, recovered.base)

    def recovers_and_goes_on(self) -> None:
        """As `recovers`; what is written then is there after two more starts."""
        log = self.recovers()
        self.append(log)
        self.write(log, Batch(b"on and on"))
        self.files.kill()
        log = self.recovers()
        self.append(log, 2)
        self.close(log)
        self.files.crash(Nothing())
        self.recovers()


def put(file: BinaryIO, whole: bytes) -> None:
    """Write in pieces of odd sizes."""
    file.writelines(whole[offset : offset + 777] for offset in range(0, len(whole), 777))


def same(file: BinaryIO, whole: bytes) -> None:
    assert file.read() == whole


class Nothing:
    """A power cut that keeps nothing."""

    def randrange(self, stop: int, /) -> int:
        return 0


class Everything:
    """A power cut that keeps all that it can."""

    def randrange(self, stop: int, /) -> int:
        return stop - 1


class _Odometer:
    def __init__(self, digits: list[int]) -> None:
        self.digits = digits
        self.wheels: list[int] = []

    def randrange(self, stop: int, /) -> int:
        if len(self.wheels) == len(self.digits):
            self.digits.append(0)
        self.wheels.append(stop)
        return self.digits[len(self.wheels) - 1]


def every_choice() -> Iterator[Chance]:
    """Chances that go through all there is to choose from, one run after the other."""
    digits: list[int] = []
    while True:
        odometer = _Odometer(digits)
        yield odometer
        while digits and digits[-1] + 1 == odometer.wheels[len(digits) - 1]:
            digits.pop()
        if not digits:
            return
        digits[-1] += 1


def power_cuts(limit: int) -> Iterator[Chance]:
    """Every way to cut the power if there are no more than `limit`, else that many of them."""
    trial: list[Chance] = []
    for chance in every_choice():
        yield chance
        trial.append(chance)
        if len(trial) == limit // 2:
            break
    else:
        return
    yield Everything()
    for seed in range(limit - limit // 2 - 1):
        yield random.Random(seed)


Scenario = Callable[[Course], None]


def first_start(course: Course) -> None:
    course.open()


def state_change(course: Course) -> None:
    log, _ = course.open()
    course.write(log, Batch(b"term 1"))
    course.write(log, Batch(b"term 2, vote"))


def appends(course: Course) -> None:
    log, _ = course.open()
    course.append(log, 2)
    course.append(log, 60)
    course.write(log, Batch(b"term 3", None, entries(63, 1, 3)))


def conflict(course: Course) -> None:
    log, _ = course.open()
    course.write(log, Batch(b"term 1", None, entries(1, 5)))
    course.write(log, Batch(b"term 2", 3, entries(4, 1, 2)))
    course.write(log, Batch(None, 2))
    course.append(log, term=2)


def rotation(course: Course) -> None:
    log, _ = course.open()
    course.write(log, Batch(b"term 1"))
    for number in range(6):
        course.append(log, 2, size=700)
        if number == 3:
            course.write(log, Batch(None, 5))


def rotation_to_a_spare(course: Course) -> None:
    log, _ = course.open()
    for _ in range(4):
        course.append(log, 2, size=700)
        if log.wants_spare:
            log.prepare_spare()


def larger_than_a_segment(course: Course) -> None:
    log, _ = course.open()
    course.append(log, 20, size=1000)
    course.append(log)


def restart(course: Course) -> None:
    log, _ = course.open()
    course.write(log, Batch(b"term 1", None, entries(1, 3)))
    course.append(log)
    course.files.kill()
    log = course.recovers()
    course.write(log, Batch(b"term 2", 2, entries(3, 3, 2)))


def restart_twice(course: Course) -> None:
    log, _ = course.open()
    course.write(log, Batch(b"term 1", None, entries(1, 3)))
    course.files.kill()
    course.open()
    course.files.kill()
    course.append(course.recovers())


def orderly_close(course: Course) -> None:
    log, _ = course.open()
    course.write(log, Batch(b"term 1", None, entries(1, 3)))
    course.append(log)
    course.close(log)
    log = course.recovers()
    course.append(log)
    course.close(log)


def leftovers(course: Course) -> None:
    """Spares of two lives that were never used, one of them in the making."""
    log, _ = course.open()
    course.append(log, 4, size=700)
    log.prepare_spare()
    course.files.kill()
    log = course.recovers()
    course.append(log, 4, size=700)
    log.prepare_spare()
    course.append(log)


def compaction(course: Course) -> None:
    """Bases within a segment, across segments, at the log's end; each time something goes."""
    log, _ = course.open()
    course.write(log, Batch(b"term 1"))
    course.append(log, 3)
    course.compact(log, 2)
    for _ in range(4):
        course.append(log, 2, size=700)
    course.compact(log, 9)
    course.append(log, term=2)
    course.compact(log, 12, 2)
    course.append(log)


def compaction_and_restart(course: Course) -> None:
    """What a start finds beyond the mark holds a base, and cuts and entries around it."""
    log, _ = course.open()
    course.append(log, 4, size=700)
    course.write(log, Batch(b"term 1", 3, entries(4, 3), (2, 1)))
    course.files.kill()
    log = course.recovers()
    course.append(log, 4, size=700)
    course.write(log, Batch(None, 8, entries(9, 1, 2)))
    course.compact(log, 8)


def installed(course: Course) -> None:
    """A snapshot takes the place of a log that ends before it, and of one that conflicts."""
    log, _ = course.open()
    course.append(log, 5, size=700)
    course.compact(log, 20)
    course.append(log, 2, size=700)
    course.write(log, Batch(b"term 4", 21, entries(41, 1, 4), (40, 4)))
    log.drop_segments()


def cut_behind_a_segments_start(course: Course) -> None:
    """A segment is cut back behind its first entry, and goes on alone once that is in the base."""
    log, _ = course.open()
    course.append(log, 8, size=600)
    course.append(log, 2)
    course.write(log, Batch(None, 5, entries(6, 3, 2)))
    course.compact(log, 5)


def snapshots(course: Course) -> None:
    shelf = course.shelf()
    course.save(shelf, SnapshotId(3, 1), b"3" * 9000)
    course.write(course.open()[0], Batch(base=(3, 1)))
    course.take_in(shelf, SnapshotId(9, 1), b"9" * 6000)
    course.remove(shelf, SnapshotId(3, 1))
    course.save(shelf, SnapshotId(9, 1), b"once more")


LOG_SCENARIOS: list[Scenario] = [
    first_start,
    state_change,
    appends,
    conflict,
    rotation,
    rotation_to_a_spare,
    larger_than_a_segment,
    restart,
    restart_twice,
    orderly_close,
    leftovers,
    compaction,
    compaction_and_restart,
    installed,
    cut_behind_a_segments_start,
]
SCENARIOS = [*LOG_SCENARIOS, snapshots]
