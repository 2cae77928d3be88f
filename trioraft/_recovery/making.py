"""The data directory of a server of the new cluster: the old log under a new name."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, Final

from attrs import frozen

from trioraft._directory import look_at
from trioraft._errors import ProtocolError, StorageError
from trioraft._recovery.choosing import Survivor
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration
from trioraft._sessions import close_all_sessions
from trioraft._snapshots.form import Summary
from trioraft._snapshots.restoring import check_written, rewrite
from trioraft._state import HardState
from trioraft._storage.disk import SEGMENT_BYTES
from trioraft._storage.files import Files
from trioraft._storage.inspection import SnapshotFound, entries_in
from trioraft._storage.names import SNAPSHOTS
from trioraft._storage.segments import SegmentLog
from trioraft._storage.shelf import Shelf
from trioraft._storage.worker import Permit
from trioraft._wire.frames import Kind, frame, identity, kind_of, payload_of
from trioraft._wire.stamps import stamp, stamped_time
from trioraft.abc import Batch

_SALT_BYTES: Final = 8


@frozen
class Heritage:
    """What every server of the new cluster begins with."""

    genesis: Configuration
    term: int
    source: Survivor


def make(directory: str, server: ServerId, heritage: Heritage, files: Files) -> None:
    """Make a server's data directory, durable and read back.

    Raises:
        StorageError: the file system refuses, or the log can't be read after all.
        OSError: what was made can't be read.
    """
    source = heritage.source
    used = source.holding.used
    if used is not None:
        _copy_snapshot(used, Shelf(os.path.join(directory, SNAPSHOTS), files))
    log = SegmentLog(directory, files, partial(secrets.token_bytes, _SALT_BYTES), SEGMENT_BYTES)
    try:
        log.open()
        state = HardState(
            server.name, server.incarnation, genesis=heritage.genesis, term=heritage.term
        )
        base = source.holding.log.recovered.base
        log.write(Batch(state=state.encode(), base=base if base[0] else None))
        for frames in _inherited(heritage):
            log.write(Batch(entries=frames))
    finally:
        log.close()
        log.unlock()
    _check(directory, heritage)


def _copy_snapshot(used: SnapshotFound[Summary], shelf: Shelf) -> None:
    made: list[Summary] = []

    def write(file: BinaryIO) -> None:
        with open(used.file, "rb") as source:
            _, written = rewrite(source, file, "zlib", keeps_sessions=True)
        made.append(written)

    shelf.save(Permit(), used.id, write, lambda file: check_written(file, made[0]))


def _inherited(heritage: Heritage) -> Iterator[list[bytes]]:
    """The old log's entries, and one more, which ends all sessions; some at a time."""
    source = heritage.source
    time = 0.0 if source.head is None else source.head.time
    for frames in entries_in(source.directory, source.holding.log):
        try:
            yield list(map(_without_configuration, frames))
            time = stamped_time(payload_of(frames[-1]))
        except ProtocolError as error:
            raise StorageError(f"{source.directory}: {error}") from error
    _, last = source.last
    yield [frame(last + 1, heritage.term, Kind.SESSION, stamp(time, close_all_sessions()))]


def _without_configuration(whole: bytes) -> bytes:
    """The same entry, unless it speaks of the old cluster's servers."""
    if kind_of(whole) != Kind.CONFIGURATION:
        return whole
    return frame(*identity(whole), Kind.NOOP, stamp(stamped_time(payload_of(whole))))


def _check(directory: str, heritage: Heritage) -> None:
    """See that a start will find what was written."""
    found = look_at(directory)
    _, last = heritage.source.last
    for flaw in found.flaws:
        raise flaw
    is_there = found.log.recovered.last_index == last + 1
    if not is_there or (found.used is None) != (heritage.source.holding.used is None):
        raise StorageError(f"{directory}: what was read back is not what was written")
