"""Which of the segments in a directory make up the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from trioraft._errors import StorageCorrupt
from trioraft._storage.image import Image
from trioraft._storage.layout import NO_SALT, Header


def link(headers: Sequence[Header], path: Callable[[int], str]) -> list[Header]:
    """The last segment and those right before it, as far as there is no gap.

    The ones before a gap have been dropped, as far as a power cut let them go: in any order.  So
    has a segment that can't be read without one that is gone.  Whether there is more missing than
    was dropped, `check_whole` tells, once it is known where the log begins.

    Args:
        headers: those of all segments, by number.
        path: gives the name of segment n.

    Raises:
        StorageCorrupt: two that follow each other are not of one log, or no part can be read.
    """
    at = len(headers)
    while at > 0 and (at == len(headers) or headers[at - 1].number + 1 == headers[at].number):
        at -= 1
    living = list(headers[at:])
    while living and not living[0].stands_alone:
        del living[0]
    if headers and not living:
        raise _missing(headers, headers[-1].number, path)
    origin = [Header(NO_SALT, 0)] if living and living[0].number == 1 else []
    for before, header in pairwise([*origin, *living]):
        if header.predecessor != before.salt:
            reason = "the segment carries on another one than is there"
            raise StorageCorrupt(path(header.number), 0, reason)
    return living


def check_whole(
    headers: Sequence[Header], first: int, image: Image, path: Callable[[int], str]
) -> None:
    """See that segment `first` and the ones behind it, now read, hold all behind the log's base.

    Raises:
        StorageCorrupt: they don't: entries are missing, and with them a segment.
    """
    if image.start is not None and image.start > image.base[0]:
        raise _missing(headers, first, path)


def _missing(headers: Sequence[Header], number: int, path: Callable[[int], str]) -> StorageCorrupt:
    there = {header.number for header in headers}
    while number in there:
        number -= 1
    return StorageCorrupt(path(number), 0, "the segment is missing: a later one is there")
