"""What a snapshot is called: on this server's disk, in words, and when it is offered to another."""

from __future__ import annotations

from typing import BinaryIO

from attrs import frozen

from trioraft._snapshots.form import Damaged, Head, Summary, verify
from trioraft.abc import SnapshotId


@frozen
class Offered:
    """What makes two snapshots the same one, byte by byte."""

    cluster: str | None
    index: int
    term: int
    size: int
    digest: bytes


def offer_of(summary: Summary) -> Offered:
    """The snapshot as it is offered."""
    head = summary.head
    return Offered(head.cluster, head.index, head.term, summary.size, summary.digest)


def id_of(head: Head) -> SnapshotId:
    """Its name in the store."""
    return SnapshotId(head.index, head.term)


def name_of(one: SnapshotId) -> str:
    """Its name in messages."""
    return f"the snapshot of entry {one.index} and term {one.term}"


def verify_as(one: SnapshotId, file: BinaryIO) -> Summary:
    """Read a whole snapshot, and see that it is what its name says.

    Raises:
        Damaged: it is not, or is not whole.
    """
    summary = verify(file)
    if id_of(summary.head) != one:
        raise Damaged(0, f"it is {name_of(id_of(summary.head))}")
    return summary
