"""A segment log on a simulated disk, and what may be found there after whatever befell it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from attrs import define, evolve, field

from trioraft._storage.segments import SegmentLog
from trioraft._wire.frames import Kind, frame, identity
from trioraft.abc import Batch, Recovered
from trioraft.testing._cache import Chance
from trioraft.testing._disk import SimulatedFiles

DIRECTORY = "/data/n1"
SEGMENT_BYTES = 16 << 10
ALL = 1 << 30


def entries(first: int, count: int, term: int = 1, size: int = 40) -> list[bytes]:
    payload = b"%d in %d " % (first, term)
    numbers = range(first, first + count)
    return [frame(n, term, Kind.COMMAND, payload.ljust(size, b"x")) for n in numbers]


@define
class Contents:
    """State and entries."""

    state: bytes | None = None
    frames: tuple[bytes, ...] = ()

    def after(self, batch: Batch) -> Contents:
        kept = self.frames if batch.cut is None else self.frames[: batch.cut]
        state = self.state if batch.state is None else batch.state
        return Contents(state, (*kept, *batch.entries))

    @property
    def last(self) -> int:
        return len(self.frames)


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

    def open(self) -> tuple[SegmentLog, Recovered]:
        log = SegmentLog(DIRECTORY, self.files, lambda: self.salts.randbytes(8), self.segment_bytes)
        return log, log.open()

    def write(self, log: SegmentLog, batch: Batch) -> None:
        self.pending = self.acked.after(batch)
        log.write(batch)
        self.acked, self.pending = self.pending, None

    def append(self, log: SegmentLog, count: int = 1, term: int = 1, size: int = 40) -> None:
        term = max([term, *(identity(whole)[1] for whole in self.acked.frames[-1:])])
        self.write(log, Batch(None, None, entries(self.acked.last + 1, count, term, size)))

    def close(self, log: SegmentLog) -> None:
        log.close()
        log.unlock()

    def copy(self) -> Course:
        return evolve(self, files=self.files.copy())

    def recovers(self) -> SegmentLog:
        """Open: what was promised is there, or that and what was under way; then go on from it."""
        log, recovered = self.open()
        if not self.looks:
            return log
        frames = tuple(log.read(1, ALL))
        found = Contents(recovered.state, frames)
        assert found in (self.acked, self.pending or self.acked)
        assert recovered.last_index == len(frames)
        assert recovered.terms == runs(frames)
        self.acked, self.pending = found, None
        return log

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


SCENARIOS: list[Scenario] = [
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
]
