"""Entries, read back from the segments in which they lie."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import attrgetter

from trioraft._errors import StorageCorrupt
from trioraft._storage.extents import Extent, Extents
from trioraft._storage.files import Files, read_all
from trioraft._storage.streams import opened
from trioraft._wire.frames import FrameError, cut_frames, identity


def read_frames(
    files: Files, path_of: Callable[[int], str], extents: Extents, first: int, max_bytes: int
) -> list[bytes]:
    """The frames from index `first` on that fit in `max_bytes`, at least one if there is one.

    Raises:
        StorageCorrupt: they are damaged.
        StorageError: they can't be read.
    """
    found: list[bytes] = []
    size = 0
    for number, group in groupby(extents.find(first, max_bytes), key=attrgetter("segment")):
        path = path_of(number)
        with opened(files, path) as file:
            for extent in group:
                for whole in _frames(files, file, path, extent)[max(first - extent.first, 0) :]:
                    size += len(whole)
                    if found and size > max_bytes:
                        return found
                    found.append(whole)
    return found


def _frames(files: Files, file: int, path: str, extent: Extent) -> list[bytes]:
    count = extent.last - extent.first + 1
    data = read_all(files, file, extent.stop - extent.start, extent.start)
    try:
        frames = cut_frames(data)
    except FrameError as error:
        raise StorageCorrupt(path, extent.start + error.offset, error.reason) from None
    if len(frames) < count or identity(frames[0])[0] != extent.first:
        raise StorageCorrupt(path, extent.start, f"entry {extent.first} is not here any more")
    return frames[:count]
