"""The segment log: append-only files of batches, each whole or not at all.

Batch n+1 is written only after batch n is durable.  So a bad batch with a whole later one behind it
was damaged after the fact and is refused; a bad last one is the torn end of a crash and is cut.
Nothing here waits for an event loop: a worker's thread calls it.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Final

from attrs import define

from trioraft._errors import StorageError
from trioraft._storage import layout
from trioraft._storage.chain import check_whole, link
from trioraft._storage.files import Files, make_directory, read_all, refusal, write_all
from trioraft._storage.following import check_follows
from trioraft._storage.image import Image
from trioraft._storage.layout import DATA, Header
from trioraft._storage.names import LOCK, segment_name, segment_number
from trioraft._storage.replay import read_tail, replay, replay_taken
from trioraft._storage.retrieval import read_frames
from trioraft._storage.streams import opened
from trioraft.abc import Batch, Recovered

_SPARE: Final = re.compile(r"[0-9a-f]{16}\.spare")
_ZEROS: Final = bytes(1 << 20)


@define
class _Segment:
    """The segment that is written, and how far."""

    header: Header
    path: str
    file: int
    size: int
    batch: int
    offset: int
    """Where the next batch goes."""


class SegmentLog:
    """One directory.  `open` once, then `write` in one thread and `read` in another."""

    def __init__(
        self, directory: str, files: Files, draw_salt: Callable[[], bytes], segment_bytes: int
    ) -> None:
        self._directory = directory
        self._files = files
        self._draw_salt = draw_salt
        self._segment_bytes = segment_bytes
        self._lock: int | None = None
        self._current: _Segment | None = None
        self._numbers: deque[int] = deque()
        """Of the segments that are there, oldest first."""
        self._bound = 0
        """The last segment that can be read only with all that come before it."""
        self._spare: bytes | None = None
        """The salt of the segment that is prepared."""
        self._failure: BaseException | None = None
        self._image = Image()
        self._extents = self._image.extents

    # Opening

    def open(self) -> Recovered:
        """Recover the log, and begin a segment of this start; only then is what was read durable.

        Raises:
            StorageLocked: somebody else has the directory open.
            StorageCorrupt: what had been durable is damaged.
            StorageError: the disk refuses a call, or a newer trioraft wrote the log.
        """
        with self._failing_for_good(self._directory):
            make_directory(self._files, self._directory)
            self._lock = self._files.lock(self._path(LOCK))
            names = self._files.names(self._directory)
            self._files.sync_directory(self._directory)
            for name in filter(_SPARE.fullmatch, names):
                self._files.unlink(self._path(name))
            self._recover([number for number in map(segment_number, names) if number is not None])
        recovered = self._image.recovered()
        self._image.configurations = []  # they were for the asker alone
        return recovered

    def _recover(self, numbers: list[int]) -> None:
        self._numbers.extend(numbers)
        headers = [self._read_header(number) for number in numbers]
        self._bound = max((h.number for h in headers if not h.stands_alone), default=0)
        living = link(headers, self._segment_path)
        if not living:
            self._begin_segment(Header(layout.NO_SALT, 0), 0, Batch())
            return
        for header, successor in pairwise(living):
            path, data = self._read_segment(header.number)
            replay_taken(self._image, path, data, header, successor.taken)
        last = living[-1]
        path, data = self._read_segment(last.number)
        mark = layout.read_mark(last.salt, data)
        end = replay_taken(self._image, path, data, last, mark)
        tail = read_tail(self._image, path, data, last, mark, end)
        check_whole(headers, living[0].number, self._image, self._segment_path)
        # What lies beyond the mark may be in no more than a page cache, so it is written anew.
        first = self._begin_segment(last, mark, tail)
        path = self._segment_path(last.number + 1)
        replay(self._image, path, last.number + 1, first, 0, len(first), shift=DATA)
        self._trim(last.number, end)

    def _trim(self, number: int, end: int) -> None:
        """Give back the rest of a segment: nobody will read or write there again."""
        with opened(self._files, self._segment_path(number)) as file:
            self._files.truncate(file, end)

    def _read_header(self, number: int) -> Header:
        path = self._segment_path(number)
        with opened(self._files, path) as file:
            data = read_all(self._files, file, layout.HEADER_BYTES, 0)
        return layout.parse_header(path, number, data)

    def _read_segment(self, number: int) -> tuple[str, bytes]:
        path = self._segment_path(number)
        with opened(self._files, path) as file:
            return path, read_all(self._files, file, self._files.size(file), 0)

    # Writing

    def write(self, batch: Batch) -> None:
        """Make a batch durable.

        Raises:
            StorageError: it failed, now or before; nothing is tried again.
            ValueError: the batch does not follow what is there; nothing was written.
        """
        segment = self._usable()
        check_follows(batch, self._image.base, self._image.last_index)
        data = layout.pack_batch(segment.header.salt, segment.batch + 1, batch)
        with self._failing_for_good(segment.path):
            if segment.offset + len(data) > segment.size:
                self._begin_segment(segment.header, segment.batch, batch)
                self._files.close(segment.file)
                self._note(batch)
                return
            write_all(self._files, segment.file, data, segment.offset)
            self._files.fdatasync(segment.file)
            segment.batch += 1
            segment.offset += len(data)
            self._note(batch)
            # The mark costs no sync of its own: the next batch's takes it along.
            mark = layout.pack_mark(segment.header.salt, segment.batch)
            write_all(self._files, segment.file, mark, layout.mark_offset(segment.batch))

    def _usable(self) -> _Segment:
        if self._failure is not None:
            raise StorageError(f"nothing is written after a failure: {self._failure}")
        if self._current is None:
            raise StorageError("the storage is not open")
        return self._current

    def _begin_segment(self, before: Header, taken: int, batch: Batch) -> bytearray:
        """Go on in a new segment, and return its first batch: this one, and what else still holds.

        With that the segment can be read without the ones before it.  The file is a spare until all
        of that is durable, and gets its name only then.  So whatever has a segment's name has been
        whole.
        """
        image = self._image
        state = image.state if batch.state is None else batch.state
        whole = Batch(state, batch.cut, batch.entries, batch.base or image.base)
        salt = self._spare
        if salt is None:
            salt = self._make_spare()
        else:
            self._spare = None
        header = Header(salt, before.number + 1, before.salt, taken)
        first = layout.pack_batch(salt, 1, whole, image.behind(batch))
        end = DATA + len(first)
        spare, path = self._spare_path(salt), self._segment_path(header.number)
        file = self._files.open(spare)
        try:
            head = layout.pack_header(header).ljust(DATA, b"\0")
            write_all(self._files, file, head + first, 0)
            self._files.fdatasync(file)
            self._files.rename(spare, path)
            self._files.sync_directory(self._directory)
        except BaseException:
            self._files.close(file)
            raise
        size = max(self._segment_bytes, end)
        self._current = _Segment(header, path, file, size, 1, end)
        self._numbers.append(header.number)
        return first

    def _note(self, batch: Batch) -> None:
        """Take into account the batch that has just become durable."""
        segment = self._usable()
        self._image.take(batch)
        if batch.entries:
            start = segment.offset - sum(map(len, batch.entries))
            number = segment.header.number
            self._extents.append_frames(batch.entries, number, start, segment.offset)

    # The next segment

    @property
    def wants_spare(self) -> bool:
        """Whether the segment is half full and the next one not prepared."""
        segment = self._current
        if segment is None or self._spare is not None or self._failure is not None:
            return False
        return segment.offset - DATA > (segment.size - DATA) // 2

    def prepare_spare(self) -> None:
        """Fill the next segment with zeros: to write over them costs half of growing a file.

        Any thread may do this beside `write`.

        Raises:
            StorageError: the disk refuses; then the log has failed for good.
        """
        if self.wants_spare:
            with self._failing_for_good(self._directory):
                self._spare = self._make_spare()

    def _make_spare(self) -> bytes:
        """Make a segment of zeros, and return the salt that it will have."""
        salt = self._draw_salt()
        file = self._files.create(self._spare_path(salt))
        try:
            for offset in range(0, self._segment_bytes, len(_ZEROS)):
                zeros = _ZEROS[: self._segment_bytes - offset]
                write_all(self._files, file, zeros, offset)
            self._files.fdatasync(file)
        finally:
            self._files.close(file)
        return salt

    # Segments that have had their day

    @property
    def has_dead_segments(self) -> bool:
        """Whether there are segments that hold nothing behind the log's base."""
        return bool(self._numbers) and self._numbers[0] < self._oldest_needed()

    def drop_segments(self) -> None:
        """Remove the segments that hold nothing behind the log's base, oldest first.

        This may happen beside `write`, and in the thread that reads: so no read finds its file
        gone.

        Raises:
            StorageError: the disk refuses; then the log has failed for good.
        """
        if not self.has_dead_segments:
            return
        with self._failing_for_good(self._directory):
            while self.has_dead_segments:
                self._files.unlink(self._segment_path(self._numbers[0]))
                self._numbers.popleft()
            self._files.sync_directory(self._directory)

    def _oldest_needed(self) -> int:
        """Every segment before this one may go; none while nothing may be touched."""
        segment = self._current
        if segment is None or self._failure is not None:
            return 0
        # The current one first: if the log is empty now, it may not be so in the next one.
        current, holder = segment.header.number, self._extents.oldest_segment
        oldest = current if holder is None else min(current, holder)
        return oldest if oldest > self._bound else 0

    # Reading

    def read(self, first: int, max_bytes: int) -> list[bytes]:
        """The frames from index `first` on that fit in `max_bytes`, at least one if there is one.

        Raises:
            StorageCorrupt: they are damaged.
            StorageError: they can't be read.
        """
        return read_frames(self._files, self._segment_path, self._extents, first, max_bytes)

    # Closing

    def close(self) -> None:
        """Sync the last mark and let go of everything but the lock.

        Raises:
            StorageError: the mark could not be synced; what was written is durable all the same.
        """
        segment, self._current = self._current, None
        if segment is None:
            return
        may_sync = self._failure is None
        with self._failing_for_good(segment.path):
            try:
                if may_sync:
                    self._files.fdatasync(segment.file)
            finally:
                self._files.close(segment.file)

    def unlock(self) -> None:
        """Let another one open the directory."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with self._failing_for_good(self._directory):
                self._files.close(lock)

    # Files

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _segment_path(self, number: int) -> str:
        return self._path(segment_name(number))

    def _spare_path(self, salt: bytes) -> str:
        return self._path(f"{salt.hex()}.spare")

    @contextmanager
    def _failing_for_good(self, path: str) -> Iterator[None]:
        """Nobody knows what a failed call left behind, so nothing is written after one."""
        try:
            yield
        except OSError as error:
            self._failure = refusal(path, error)
            raise self._failure from error
        except BaseException as error:
            self._failure = error
            raise
