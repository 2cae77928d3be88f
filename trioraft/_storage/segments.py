"""The segment log: append-only files of batches, each whole or not at all.

Batch n+1 is written only after batch n is durable.  So a bad batch with a whole later one behind it
was damaged after the fact and is refused; a bad last one is the torn end of a crash and is cut.
Nothing here waits for an event loop: a worker's thread calls it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from attrs import define, frozen

from trioraft._errors import StorageCorrupt, StorageError
from trioraft._storage.extents import Extents
from trioraft._storage.files import Files, make_directory, read_all, refusal, write_all
from trioraft._storage.layout import (
    DATA,
    NO_SALT,
    RECORD_OVERHEAD,
    Header,
    find_batches,
    has_later_batch,
    mark_offset,
    pack_batch,
    pack_header,
    pack_mark,
    parse_header,
    read_mark,
    split_body,
    unpack_record,
)
from trioraft._wire.frames import FrameError, Kind, cut_frames, identity, parse_entry
from trioraft.abc import Batch, Recovered

_SEGMENT: Final = re.compile(r"([0-9]{16})\.log")
_LOCK: Final = "lock"
_SPARE: Final = "spare"
_MAKING: Final = "making"
_FRESH_BYTES: Final = 1 << 20
"""How much of a segment is filled with zeros when somebody waits for it."""
_ZEROS: Final = bytes(1 << 20)


@define
class _Segment:
    """A segment that can be read, and the last one written."""

    path: str
    file: int
    header: Header


@frozen
class _Tail:
    """What the last segment holds beyond its mark: it may be in no more than a page cache."""

    cut: int | None = None
    entries: tuple[bytes, ...] = ()


class SegmentLog:
    """One directory.  `open` once, then `write` from one thread and `read` from another."""

    def __init__(
        self, directory: str, files: Files, draw_salt: Callable[[], bytes], segment_bytes: int
    ) -> None:
        self._directory = directory
        self._files = files
        self._draw_salt = draw_salt
        self._segment_bytes = segment_bytes
        self._lock: int | None = None
        self._segments: dict[int, _Segment] = {}
        self._extents = Extents()
        self._terms: list[tuple[int, int]] = []
        self._configurations: list[bytes] = []
        self._state: bytes | None = None
        self._current: _Segment | None = None
        self._size = 0
        self._offset = 0
        self._batch = 0
        self._has_spare = False
        self._asked_for_spare = False
        self._failure: str | None = None

    # -- opening -------------------------------------------------------------------------------

    def open(self) -> Recovered:
        """Recover the log, and begin a segment of this start; only then is what was read durable.

        Raises:
            StorageLocked, StorageCorrupt, StorageError: see `trioraft.abc.Storage`.
        """
        try:
            make_directory(self._files, self._directory)
            self._lock = self._files.lock(self._path(_LOCK))
            self._recover()
        except OSError as error:
            raise refusal(self._directory, error) from error
        return Recovered(
            self._state,
            tuple(self._terms),
            self._extents.last_index,
            tuple(self._configurations),
        )

    def _recover(self) -> None:
        numbers = []
        for name in self._files.names(self._directory):
            match = _SEGMENT.fullmatch(name)
            if match is not None:
                numbers.append(int(match[1]))
            elif name in (_SPARE, _MAKING):
                self._files.unlink(self._path(name))
        headers = [self._open_segment(number) for number in numbers]
        self._check_chain(headers)
        tail, taken = _Tail(), 0
        for position, header in enumerate(headers):
            following = headers[position + 1] if position + 1 < len(headers) else None
            tail, taken = self._recover_segment(header, following)
        if headers:
            self._take_tail(self._segments[headers[-1].number], tail)
        last = headers[-1] if headers else None
        self._begin_segment(last, taken, Batch(self._state, tail.cut, tail.entries))

    def _open_segment(self, number: int) -> Header:
        path = self._path(f"{number:016}.log")
        file = self._files.open(path)
        self._segments[number] = segment = _Segment(path, file, Header(NO_SALT, number))
        segment.header = parse_header(path, number, read_all(self._files, file, DATA, 0))
        return segment.header

    def _check_chain(self, headers: Sequence[Header]) -> None:
        """See that no segment is missing: each names the one before it."""
        before = Header(NO_SALT, 0)
        for header in headers:
            if header.number != before.number + 1 or header.predecessor != before.salt:
                path = self._segments[header.number].path
                raise StorageCorrupt(path, 0, "the segment before this one is missing")
            before = header

    def _recover_segment(self, header: Header, following: Header | None) -> tuple[_Tail, int]:
        """Take over a segment's batches; the last segment's tail beyond its mark is returned."""
        segment = self._segments[header.number]
        data = read_all(self._files, segment.file, self._files.size(segment.file), 0)
        durable = read_mark(header.salt, data) if following is None else following.taken
        limit = None if following is None else following.taken
        number, end = 0, DATA
        tail = _Tail()
        for start, stop in find_batches(data, header.salt, limit):
            number, end = number + 1, stop
            cut, state, entries = split_body(segment.path, data, start, stop)
            if state is not None:
                self._state = state
            if number <= durable:
                self._take(segment, data, cut, entries, stop)
            else:
                tail = self._add_to_tail(segment, tail, cut, data[entries:stop], entries)
        if number < durable or (
            following is None and has_later_batch(data, header.salt, end, number + 1)
        ):
            raise StorageCorrupt(segment.path, end, f"batch {number + 1} is damaged")
        return tail, min(number, durable)

    def _take(self, segment: _Segment, data: bytes, cut: int | None, start: int, stop: int) -> None:
        """Take the entries between two offsets over into the index."""
        self._cut(segment, cut, start)
        expected = self._extents.last_index + 1
        newest = self._terms[-1][1] if self._terms else 0
        count, offset = 0, start
        while offset < stop:
            if offset + RECORD_OVERHEAD > stop:
                raise StorageCorrupt(segment.path, offset, "an entry is cut short")
            length, _, index, term, kind = unpack_record(data, offset)
            end = offset + RECORD_OVERHEAD + length
            if index != expected + count or term < newest or end > stop:
                raise StorageCorrupt(segment.path, offset, f"entry {index} does not follow")
            if term != newest:
                self._terms.append((index, term))
                newest = term
            if kind == Kind.CONFIGURATION:
                self._configurations.append(data[offset:end])
            count, offset = count + 1, end
        if count:
            self._extents.append(count, segment.header.number, start, stop)

    def _cut(self, segment: _Segment, cut: int | None, offset: int) -> None:
        if cut is None:
            return
        if cut > self._extents.last_index:
            raise StorageCorrupt(segment.path, offset, f"a cut behind the log's end, at {cut}")
        self._extents.cut(cut)
        while self._terms and self._terms[-1][0] > cut:
            self._terms.pop()
        while self._configurations and identity(self._configurations[-1])[0] > cut:
            self._configurations.pop()

    def _add_to_tail(
        self, segment: _Segment, tail: _Tail, cut: int | None, data: bytes, offset: int
    ) -> _Tail:
        try:
            frames = cut_frames(data)
        except FrameError as error:
            raise StorageCorrupt(segment.path, offset + error.offset, error.reason) from error
        entries = tail.entries
        if cut is not None:
            entries = tuple(frame for frame in entries if identity(frame)[0] <= cut)
            if not entries:
                tail = _Tail(cut if tail.cut is None else min(cut, tail.cut))
        return _Tail(tail.cut, (*entries, *frames))

    def _take_tail(self, segment: _Segment, tail: _Tail) -> None:
        """See that the tail follows; where it lies is known once it is written again."""
        self._cut(segment, tail.cut, 0)
        expected = self._extents.last_index + 1
        for frame in tail.entries:
            index, term = identity(frame)
            newest = self._terms[-1][1] if self._terms else 0
            if index != expected or term < newest:
                raise StorageCorrupt(segment.path, 0, f"entry {index} does not follow")
            if term != newest:
                self._terms.append((index, term))
            if parse_entry(frame).kind is Kind.CONFIGURATION:
                self._configurations.append(frame)
            expected += 1

    # -- writing -------------------------------------------------------------------------------

    def wants_spare(self) -> bool:
        """Whether the current segment is half full; says so once."""
        if self._asked_for_spare or self._offset <= self._size // 2:
            return False
        self._asked_for_spare = True
        return True

    def write(self, batch: Batch) -> None:
        """Make a batch durable.

        Raises:
            StorageError: it failed, now or before; nothing is tried again.
        """
        if self._failure is not None:
            raise StorageError(f"an earlier write had failed: {self._failure}")
        segment = self._current
        assert segment is not None, "open comes first"
        try:
            data = pack_batch(segment.header.salt, self._batch + 1, batch)
            if self._offset + len(data) > self._size:
                state = self._state if batch.state is None else batch.state
                whole = Batch(state, batch.cut, batch.entries)
                self._begin_segment(segment.header, self._batch, whole)
                return
            write_all(self._files, segment.file, data, self._offset)
            self._files.fdatasync(segment.file)
            self._batch += 1
            self._note(segment, batch, self._offset + len(data))
            mark = pack_mark(segment.header.salt, self._batch)
            write_all(self._files, segment.file, mark, mark_offset(self._batch))
        except OSError as error:
            self._failure = str(error)
            raise refusal(segment.path, error) from error
        except BaseException as error:
            self._failure = repr(error)
            raise

    def _begin_segment(self, before: Header | None, taken: int, batch: Batch) -> None:
        """Write a segment's first batch, and give it its name once that is durable."""
        number = 1 if before is None else before.number + 1
        predecessor = NO_SALT if before is None else before.salt
        header = Header(self._draw_salt(), number, predecessor, taken)
        data = pack_batch(header.salt, 1, batch)
        making = self._path(_SPARE)
        if self._has_spare:
            self._has_spare = False
            file = self._files.open(making)
        else:
            making = self._path(_MAKING)
            file = self._make(making, min(self._segment_bytes, _FRESH_BYTES))
        path = self._path(f"{number:016}.log")
        self._segments[number] = segment = _Segment(path, file, header)
        write_all(self._files, file, pack_header(header), 0)
        write_all(self._files, file, data, DATA)
        self._files.fdatasync(file)
        self._files.rename(making, path)
        self._files.sync_directory(self._directory)
        self._asked_for_spare = self._has_spare
        self._current = segment
        self._size = max(self._files.size(file), DATA + len(data))
        self._batch = 1
        self._note(segment, batch, DATA + len(data))

    def _note(self, segment: _Segment, batch: Batch, stop: int) -> None:
        """Index what has just become durable."""
        self._offset = stop
        if batch.state is not None:
            self._state = batch.state
        if batch.cut is not None:
            self._extents.cut(batch.cut)
        if batch.entries:
            start = stop - sum(map(len, batch.entries))
            self._extents.append_frames(batch.entries, segment.header.number, start, stop)

    def prepare_spare(self) -> None:
        """Fill the next segment with zeros: writing over them costs half of growing a file.

        Without room for it the next segment is made when it is needed, and says so then.
        """
        path = self._path(_SPARE)
        with suppress(OSError):
            file = self._make(path, self._segment_bytes)
            try:
                self._files.fdatasync(file)
            finally:
                self._files.close(file)
            self._has_spare = True

    def _make(self, path: str, size: int) -> int:
        file = self._files.create(path)
        try:
            for offset in range(0, size, len(_ZEROS)):
                write_all(self._files, file, _ZEROS[: size - offset], offset)
        except BaseException:
            self._files.close(file)
            raise
        return file

    # -- reading -------------------------------------------------------------------------------

    def read(self, first: int, max_bytes: int) -> list[bytes]:
        """The frames from index `first` on that fit in `max_bytes`, at least one if there is one.

        Raises:
            StorageCorrupt: they are damaged.
            StorageError: they can't be read.
        """
        found: list[bytes] = []
        size = 0
        for extent in self._extents.find(first, max_bytes):
            segment = self._segments[extent.segment]
            try:
                data = read_all(self._files, segment.file, extent.stop - extent.start, extent.start)
                frames = cut_frames(data)
            except OSError as error:
                raise refusal(segment.path, error) from error
            except FrameError as error:
                offset = extent.start + error.offset
                raise StorageCorrupt(segment.path, offset, error.reason) from error
            if not frames or identity(frames[0])[0] != extent.first:
                raise StorageCorrupt(segment.path, extent.start, "another entry stands here")
            for frame in frames[max(first - extent.first, 0) : extent.last - extent.first + 1]:
                size += len(frame)
                if found and size > max_bytes:
                    return found
                found.append(frame)
        return found

    # -- closing -------------------------------------------------------------------------------

    def close(self) -> None:
        """Sync the last mark, and let go of the files and, last of all, of the lock."""
        try:
            if self._current is not None and self._failure is None:
                self._files.fdatasync(self._current.file)
        except OSError as error:
            self._failure = str(error)
            raise refusal(self._current.path if self._current else "", error) from error
        finally:
            for segment in self._segments.values():
                self._files.close(segment.file)
            self._segments.clear()
            if self._lock is not None:
                self._files.close(self._lock)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)
