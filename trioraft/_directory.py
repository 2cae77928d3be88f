"""What the data directory of a stopped server holds: who it is, its log, its snapshots."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import BinaryIO

from attrs import frozen

from trioraft._errors import StorageCorrupt, StorageError
from trioraft._rules.log import Log
from trioraft._snapshots.form import Damaged, Summary, verify
from trioraft._state import HardState
from trioraft._storage.inspection import LogFound, SnapshotFound, look_at_log, look_at_snapshots
from trioraft.abc import SnapshotId


@frozen
class Holding:
    """What there is in a data directory."""

    state: HardState | None
    """None: no server has got as far as to write one, or it can't be read."""
    log: LogFound
    snapshots: Sequence[SnapshotFound[Summary]]
    used: SnapshotFound[Summary] | None
    """The one that a start begins with."""
    flaws: Sequence[StorageError]
    """All that is wrong."""


def look_at(directory: str) -> Holding:
    """Read all of it, and verify every checksum in it.

    Raises:
        OSError: the directory can't be read; anything else that can't is a flaw.
    """
    log = look_at_log(directory)
    flaws, state = list(log.flaws), None
    if log.recovered.state is not None:
        try:
            state = HardState.decode(log.recovered.state)
        except StorageError as error:
            flaws.append(error)
    cluster = None if state is None or state.genesis is None else state.genesis.cluster

    snapshots = list(look_at_snapshots(directory, partial(_verified, cluster)))
    flaws += [one.read for one in snapshots if isinstance(one.read, StorageError)]
    used = _used(log, snapshots)
    if log.recovered.base[0] > 0 and used is None and not log.flaws:
        reason = (
            f"the log begins behind entry {log.recovered.base[0]}, and no snapshot that is whole "
            "holds what comes before"
        )
        flaws.append(StorageCorrupt(os.path.join(directory, "snapshots"), 0, reason))
    return Holding(state, log, snapshots, used, flaws)


def _verified(cluster: str | None, one: SnapshotId, path: str, file: BinaryIO) -> Summary:
    try:
        summary = verify(file)
    except Damaged as error:
        raise StorageCorrupt(path, error.offset, error.reason) from error
    if (summary.head.index, summary.head.term) != (one.index, one.term):
        raise StorageCorrupt(path, 0, f"it is one of entry {summary.head.index} by its own words")
    if cluster is not None and summary.head.cluster not in (None, cluster):
        raise StorageCorrupt(path, 0, f"it is of the cluster {summary.head.cluster}")
    return summary


def _used(
    log: LogFound, snapshots: Sequence[SnapshotFound[Summary]]
) -> SnapshotFound[Summary] | None:
    """The newest one that is whole and that the log goes on from; none if that is damaged."""
    if log.flaws:
        return None
    recovered = log.recovered
    known = Log(recovered.terms, recovered.last_index, *recovered.base)
    for one in reversed(snapshots):
        if isinstance(one.read, Summary) and known.term_at(one.id.index) == one.id.term:
            return one
    return None
