"""A new cluster that starts from a snapshot of another one: a backup, or a fork.

It takes over the machine's state and the cluster's time.  It is another cluster, so it takes over
neither the members nor the sessions: what was unknown to a client of the old one stays unknown.
(One that takes over the log as well, after a disaster, needs the sessions for that; then they end.)
"""

from __future__ import annotations

import os
import shutil
from typing import BinaryIO

from attrs import evolve

from trioraft._errors import StorageCorrupt, StorageError
from trioraft._snapshots.compression import Compression
from trioraft._snapshots.form import (
    PIECE_BYTES,
    Damaged,
    Head,
    Reader,
    Summary,
    verify,
    write_snapshot,
)
from trioraft._snapshots.naming import id_of
from trioraft.abc import SnapshotStore

Path = str | os.PathLike[str]


async def start_from(path: Path, store: SnapshotStore, compression: Compression) -> Summary:
    """Have the state that a file holds in a snapshot of this server's own.

    Returns:
        What tells the file apart from others: the same on every server, however each of them
        compresses its own snapshot.

    Raises:
        StorageCorrupt: the file is damaged, or is none.
        StorageError: the disk refuses.
        OSError: the file can't be read.
    """
    source = _Source(path, compression)
    try:
        # A few pages, and nothing else goes on here before a server has started.
        head = _read_head(path)
        await store.save(id_of(head), source.rewrite, source.check)
    except Damaged as error:
        raise StorageCorrupt(os.fspath(path), error.offset, error.reason) from error
    return source.summary


def _read_head(path: Path) -> Head:
    with open(path, "rb") as file:
        return Reader(file).head


class _Source:
    """The file, and what became of it."""

    summary: Summary
    """The file's own."""
    _rewritten: Summary

    def __init__(self, path: Path, compression: Compression) -> None:
        self._path = path
        self._compression = compression

    def rewrite(self, target: BinaryIO) -> None:
        """Write a snapshot of the same state."""
        with open(self._path, "rb") as file:
            self.summary, self._rewritten = rewrite(file, target, self._compression)

    def check(self, file: BinaryIO) -> None:
        """See that it is what was written."""
        check_written(file, self._rewritten)


def rewrite(
    source: BinaryIO, target: BinaryIO, compression: Compression, *, keeps_sessions: bool = False
) -> tuple[Summary, Summary]:
    """Write a snapshot of the same state, and of no cluster.

    Returns:
        What tells the source and the target apart from others.

    Raises:
        Damaged: the source is.
    """
    reader = Reader(source)
    sessions = reader.sessions()
    if not keeps_sessions:
        for _ in sessions:
            pass
    head = evolve(reader.head, cluster=None, configuration=None)
    rewritten = write_snapshot(target, head, sessions, _Rest(reader), compression)
    return reader.end(), rewritten


def check_written(file: BinaryIO, written: Summary) -> None:
    """See that a snapshot that has just been written is there.

    Raises:
        StorageError: it is not.
    """
    try:
        is_whole = verify(file) == written
    except Damaged:  # it is this server's disk, not the file that was read
        is_whole = False
    if not is_whole:
        raise StorageError("what was read back is not the snapshot that was written")


class _Rest:
    """The state of a snapshot that is being read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def write(self, file: BinaryIO, /) -> None:
        """See `trioraft.abc.SavedState`."""
        shutil.copyfileobj(self._reader.state(), file, PIECE_BYTES)
