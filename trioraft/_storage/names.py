"""What the files of a data directory are called."""

from __future__ import annotations

import re
from typing import Final

from trioraft.abc import SnapshotId

LOCK: Final = "lock"
SNAPSHOTS: Final = "snapshots"

_SEGMENT: Final = re.compile(r"([0-9]{16})\.log")
_SNAPSHOT: Final = re.compile(r"([0-9]{20})-([0-9]{20})\.snapshot")


def segment_name(number: int) -> str:
    """The name of a segment."""
    return f"{number:016}.log"


def segment_number(name: str) -> int | None:
    """Which segment has the name; None if it is no segment's."""
    match = _SEGMENT.fullmatch(name)
    return None if match is None else int(match[1])


def snapshot_name(snapshot: SnapshotId) -> str:
    """The name of a snapshot, in its directory."""
    return f"{snapshot.index:020}-{snapshot.term:020}.snapshot"


def snapshot_id(name: str) -> SnapshotId | None:
    """Which snapshot has the name; None if it is no snapshot's."""
    match = _SNAPSHOT.fullmatch(name)
    return None if match is None else SnapshotId(int(match[1]), int(match[2]))
