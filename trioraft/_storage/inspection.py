"""A look at a data directory that nobody uses: what there is, and whether all of it is whole.

It goes the way of a start (`segments.py`) and changes nothing.  Where a start would end with an
error it goes on, so that the rest can be told.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import zip_longest
from typing import BinaryIO, Final, Generic, TypeVar

from attrs import define, field, frozen

from trioraft._errors import StorageCorrupt, StorageError, StorageLocked
from trioraft._storage import layout
from trioraft._storage.chain import check_whole, link
from trioraft._storage.extents import Extents
from trioraft._storage.files import OsFiles, read_all
from trioraft._storage.image import Image
from trioraft._storage.layout import Header
from trioraft._storage.names import LOCK, SNAPSHOTS, segment_name, segment_number, snapshot_name
from trioraft._storage.replay import replay
from trioraft._storage.retrieval import read_frames
from trioraft._storage.shelf import Shelf
from trioraft._storage.streams import opened
from trioraft._storage.worker import Permit
from trioraft._wire.frames import FrameError, cut_frames
from trioraft.abc import Recovered, SnapshotId

T = TypeVar("T")

_READ_BYTES: Final = 1 << 20


class _Untouched(OsFiles):
    """The file system for one who only looks."""

    def open(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def sync_directory(self, path: str) -> None:
        """What nobody changes needs no sync."""


@frozen
class Segment:
    """A segment that is there."""

    file: str
    size: int
    """In bytes."""
    batches: int | None
    """How many of them are whole and count; None: a start does not look, or can't."""


@frozen
class Torn:
    """What is left of a batch that nobody was told is durable; the next start cuts it."""

    file: str
    offset: int


@frozen
class LogFound:
    """What the segments hold."""

    recovered: Recovered
    """What a start would tell; behind damage, what the last segments that can be read say."""
    first_index: int
    """That of the first entry that was read; the one behind the last if there is none."""
    kinds: Counter[int]
    """How many entries of each kind were read."""
    segments: Sequence[Segment]
    torn: Torn | None
    flaws: Sequence[StorageError]
    """What is damaged, missing, or can't be read."""
    extents: Extents
    """Where the entries lie."""


@frozen
class SnapshotFound(Generic[T]):
    """A snapshot that is there."""

    id: SnapshotId
    file: str
    size: int
    """In bytes."""
    read: T | StorageError
    """What its reader made of it, or why that could not be."""


# -- the directory ---------------------------------------------------------------------------------


def is_data_directory(directory: str) -> bool:
    """Whether a server has ever used it.

    Raises:
        OSError: there is none, or it can't be read.
    """
    names = os.listdir(directory)
    return bool({LOCK, SNAPSHOTS}.intersection(names)) or any(map(segment_number, names))


def is_in_use(directory: str) -> bool:
    """Whether somebody has it open now.

    Raises:
        OSError: nobody may look.
    """
    try:
        file = os.open(os.path.join(directory, LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for a moment
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


@contextmanager
def held(directory: str) -> Iterator[None]:
    """Nobody opens the directory as long as the context lasts; nothing in it is changed.

    A directory without a lock, as a copy may be, is nobody's.

    Raises:
        StorageLocked: somebody has it open.
        OSError: nobody may look.
    """
    path = os.path.join(directory, LOCK)
    with ExitStack() as stack:
        with suppress(FileNotFoundError):
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageLocked(f"{directory} is in use: stop the server first") from None
        yield


def look_at_log(directory: str) -> LogFound:
    """Read all segments, and verify every checksum in them.

    Raises:
        OSError: the directory can't be read; anything else that can't is a flaw.
    """
    return _Look(directory).result()


def entries_in(directory: str, found: LogFound) -> Iterator[list[bytes]]:
    """The frames of a log that is whole, from the one behind its base on, some at a time.

    Raises:
        StorageError: they can't be read.
    """

    def path_of(number: int) -> str:
        return os.path.join(directory, segment_name(number))

    files, first = _Untouched(), found.recovered.base[0] + 1
    while frames := read_frames(files, path_of, found.extents, first, _READ_BYTES):
        yield frames
        first += len(frames)


def look_at_snapshots(
    directory: str, read: Callable[[SnapshotId, str, BinaryIO], T]
) -> Iterator[SnapshotFound[T]]:
    """Have all snapshots read, oldest first.

    Args:
        directory: the data directory.
        read: is given each one's id, path and open file; a `StorageError` says what is wrong.

    Raises:
        StorageError: nobody can say which there are.
    """
    place, files = os.path.join(directory, SNAPSHOTS), _Untouched()
    shelf = Shelf(place, files)
    for one in shelf.snapshots():
        path = os.path.join(place, snapshot_name(one))
        found: T | StorageError
        try:
            found = shelf.load(Permit(), one, partial(read, one, path))
        except StorageError as error:
            found = error
        yield SnapshotFound(one, path, os.path.getsize(path), found)


# -- the log ---------------------------------------------------------------------------------------


@define
class _Kinds:
    """The kind of each entry, as the log is read."""

    before: int = 0
    """The index of the entry before the first one."""
    kinds: bytearray = field(factory=bytearray)

    def add(self, kept: int, kinds: bytes) -> None:
        """These follow entry `kept`, and nothing else does."""
        if self.before <= kept <= self.before + len(self.kinds):
            del self.kinds[kept - self.before :]
        else:
            self.before = kept
            self.kinds.clear()
        self.kinds += kinds

    def count(self, base: int) -> Counter[int]:
        """How many of each there are behind entry `base`."""
        return Counter(self.kinds[max(base - self.before, 0) :])


class _Look:
    """One look at all segments, oldest first."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._files = _Untouched()
        self._image = Image()
        self._kinds = _Kinds()
        self._is_cut_off = False
        """Whether what comes next follows something that can't be read."""
        self._batches: dict[int, int] = {}
        """How many are whole, by the segment's number."""
        self._torn: Torn | None = None
        self._flaws: list[StorageError] = []

    def result(self) -> LogFound:
        found = map(segment_number, os.listdir(self._directory))
        numbers = sorted(number for number in found if number is not None)
        if not numbers and os.path.isdir(os.path.join(self._directory, SNAPSHOTS)):
            reason = "the log is missing: there are snapshots"
            self._flaws.append(StorageCorrupt(self._path(1), 0, reason))
        headers = list(filter(None, map(self._header, numbers)))
        living: list[Header] = []
        with self._noting(only_if_first=True):
            living = link(headers, self._path)
        for header, successor in zip_longest(living, living[1:]):
            with self._noting():
                self._look_into(header, successor)
        if living:
            with self._noting(only_if_first=True):
                check_whole(headers, living[0].number, self._image, self._path)
        sized = [(number, self._path(number)) for number in numbers]
        base_index, _ = self._image.base
        return LogFound(
            self._image.recovered(),
            max(base_index, self._image.start or 0) + 1,
            self._kinds.count(base_index),
            [Segment(at, os.path.getsize(at), self._batches.get(number)) for number, at in sized],
            self._torn,
            self._flaws,
            self._image.extents,
        )

    def _header(self, number: int) -> Header | None:
        path = self._path(number)
        with self._noting():
            return layout.parse_header(path, number, self._read(path, layout.HEADER_BYTES))
        return None

    def _look_into(self, header: Header, successor: Header | None) -> None:
        if self._is_cut_off and header.stands_alone:
            self._image, self._kinds, self._is_cut_off = Image(), _Kinds(), False
        path, limit = self._path(header.number), None if successor is None else successor.taken
        try:
            data = self._read(path)
            end, count = layout.DATA, 0
            for start, end in layout.find_batches(data, header.salt, limit):
                self._take(path, header.number, data, start, end)
                count += 1
                self._batches[header.number] = count
            durable = layout.read_mark(header.salt, data) if limit is None else limit
            if count < durable:
                reason = f"batch {count + 1} is damaged or missing, and it had been durable"
                raise StorageCorrupt(path, min(end, len(data)), reason)
            if limit is None:
                self._look_behind(path, data, header, end, count)
        except StorageError:
            self._is_cut_off = True
            raise

    def _take(self, path: str, number: int, data: bytes, start: int, end: int) -> None:
        """Take a batch into account; its own checksum is right."""
        entries = layout.read_preamble(path, data, start, end).entries
        try:
            cut_frames(data[entries:end])
        except FrameError as error:
            self._flaws.append(StorageCorrupt(path, entries + error.offset, error.reason))
        if self._is_cut_off:
            return
        replay(self._image, path, number, data, start, end)
        kinds = bytes(_kinds_in(data, entries, end))
        self._kinds.add(self._image.last_index - len(kinds), kinds)

    def _look_behind(self, path: str, data: bytes, header: Header, end: int, count: int) -> None:
        """See what there is behind the last segment's last whole batch."""
        if layout.has_later_batch(data, header.salt, end, count + 1):
            reason = f"batch {count + 1} is damaged, and it had been durable: whole ones follow"
            raise StorageCorrupt(path, end, reason)
        if data[end:].strip(b"\0"):
            self._torn = Torn(path, end)

    def _path(self, number: int) -> str:
        return os.path.join(self._directory, segment_name(number))

    def _read(self, path: str, size: int | None = None) -> bytes:
        with opened(self._files, path) as file:
            whole = self._files.size(file) if size is None else size
            return read_all(self._files, file, whole, 0)

    @contextmanager
    def _noting(self, *, only_if_first: bool = False) -> Iterator[None]:
        """What is found wrong in here is a flaw; perhaps only if it can't follow from another."""
        try:
            yield
        except StorageError as error:
            if not (only_if_first and self._flaws):
                self._flaws.append(error)


def _kinds_in(data: bytes, offset: int, end: int) -> Iterator[int]:
    while offset < end:
        length, _, _, _, kind = layout.unpack_record(data, offset)
        yield kind
        offset += layout.RECORD_OVERHEAD + length
