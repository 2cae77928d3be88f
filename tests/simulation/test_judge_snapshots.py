"""The judge objects to what may never happen with snapshots: each is shown to it once."""

from __future__ import annotations

from typing import Any

import outcome
import pytest
from attrs import evolve

from tests.server.worlds import in_virtual_time
from trioraft._rules import effects as do
from trioraft._rules.log import Log
from trioraft._rules.messages import AppendEntriesReply, InstallSnapshotReply
from trioraft._rules.node import Campaigning, Following
from trioraft._state import HardState
from trioraft._storage.memory import MemoryStorage
from trioraft._wire.frames import frame, parse_entry
from trioraft.abc import Batch, Kind, Recovered, SnapshotId
from trioraft.testing import PropertyBroken
from trioraft.testing._seat import Seat

from .test_judge import LOG, A, B, Court, leading, node, objects, told

STATE = HardState("a", "a1", term=2).encode()
THREE = SnapshotId(3, 1)


def applied(court: Court, last: int = 5) -> None:
    """Everything up to there is committed, and was applied by one server."""
    court.commits(A, last)
    for index in range(1, last + 1):
        entry = parse_entry(frame(index, 1, Kind.COMMAND, b"x"))
        court.judge.applied(court.disks[A], node(A, commit=last), entry, outcome.Value(index))


@in_virtual_time
async def test_a_log_that_begins_behind_what_no_snapshot_holds() -> None:
    def act(court: Court) -> None:
        applied(court)
        court.judge.written(court.disks[B], Batch(base=(3, 1)))

    objects(act, "b has no snapshot of what comes before 3")


@in_virtual_time
async def test_the_last_snapshot_that_is_removed() -> None:
    def act(court: Court) -> None:
        applied(court)
        court.judge.snapshots(court.disks[B], [THREE])
        court.judge.written(court.disks[B], Batch(base=(3, 1)))
        court.judge.snapshots(court.disks[B], [])

    objects(act, "b has no snapshot of what comes before 3")


@in_virtual_time
async def test_a_snapshot_of_another_term_holds_nothing_of_this_log() -> None:
    def act(court: Court) -> None:
        applied(court)
        court.judge.snapshots(court.disks[B], [SnapshotId(4, 2)])
        court.judge.written(court.disks[B], Batch(base=(3, 1)))

    objects(act, "b has no snapshot of what comes before 3")


@in_virtual_time
async def test_a_snapshot_of_what_nobody_has_applied() -> None:
    def act(court: Court) -> None:
        applied(court, 2)
        court.judge.snapshots(court.disks[B], [THREE])

    objects(act, "b has a snapshot of 3, which nobody has applied")


@in_virtual_time
async def test_a_snapshot_that_is_installed_and_not_committed_so() -> None:
    def act(court: Court) -> None:
        applied(court)
        before = node(B)
        after = evolve(before, log=Log((), 6, 6, 2), commit=6, snapshot_index=6)
        court.steps(before, after, do.ReplaceLog(1, 0, 6, 2))

    objects(act, "b installs a snapshot of 6, which is not committed so")


@in_virtual_time
async def test_a_machine_that_is_restored_to_what_nobody_has_applied() -> None:
    def act(court: Court) -> None:
        applied(court, 3)
        court.judge.restored(court.disks[B], node(B), 4, 1)

    objects(act, "b is restored to 4 of term 1, which nobody has applied")


@in_virtual_time
async def test_an_acknowledged_snapshot_that_is_not_on_disk() -> None:
    def act(court: Court) -> None:
        applied(court)
        court.disks[B].log = LOG.cut(2)
        follower = node(B, log=Log((), 5, 5, 1), role=Following(A), snapshot_index=5, commit=5)
        court.judge.sent(court.disks[B], follower, A, InstallSnapshotReply(2, 5))

    objects(act, "b acknowledges 5; its disk ends at 2")


@in_virtual_time
async def test_an_index_is_taken_for_committed_that_is_in_no_log_and_no_snapshot() -> None:
    def act(court: Court) -> None:
        applied(court, 3)
        before = node(B, log=Log((), 6, 6, 1), snapshot_index=6, commit=6)
        court.judge._commits(3, evolve(before, role=Following(A)))

    objects(act, "b takes .* for committed")


@in_virtual_time
async def test_a_life_that_goes_on_where_a_snapshot_does_not_end() -> None:
    court = Court()
    applied(court)
    seat = Seat(court.judge, MemoryStorage(), "a")
    seat._disk = court.disks[A]
    seat.restored(node(A, commit=5), 3, 1)
    with pytest.raises(PropertyBroken, match="a applies 5 behind 3"):
        seat.applied(node(A, commit=5), parse_entry(frame(5, 1, Kind.COMMAND, b"x")), None)


@in_virtual_time
async def test_snapshots_that_are_as_they_should_be_and_what_follows_from_them() -> None:
    court = Court()
    moments = told(court.judge)
    applied(court)
    disk = court.disks[B]
    court.judge.snapshots(disk, [THREE])
    court.judge.written(disk, Batch(base=(3, 1)))
    assert disk.log == LOG.compacted(3)
    before = node(B, role=Following(A))
    after = evolve(before, log=Log((), 5, 5, 1), commit=5, snapshot_index=5)
    court.steps(before, after, do.ReplaceLog(1, 0, 5, 1))
    court.judge.snapshots(disk, [THREE, SnapshotId(5, 1)])
    court.judge.written(disk, Batch(cut=3, base=(5, 1)))
    assert disk.log == Log((), 5, 5, 1)
    court.judge.snapshots(disk, [SnapshotId(5, 1)])
    court.judge.sent(disk, after, A, InstallSnapshotReply(2, 5))
    court.judge.sent(disk, after, A, AppendEntriesReply(2, 1, True, 2, 0.15))
    court.judge.restored(disk, after, 5, 1)
    assert [moment for moment, _ in moments if moment != "commit"] == [
        "snapshot", "install", "snapshot", "snapshot", "ack",
    ]  # fmt: skip
    assert court.judge.counts["installs"] == 1
    assert court.judge.counts["compactions"] == 2


@in_virtual_time
async def test_entries_behind_a_base_match_as_any_others() -> None:
    court = Court()
    applied(court)
    disk = court.disks[B]
    court.judge.snapshots(disk, [SnapshotId(5, 1)])
    court.judge.written(disk, Batch(base=(5, 1)))
    court.judge.written(disk, Batch(entries=[frame(6, 1, Kind.COMMAND, b"x")]))
    assert disk.log == Log(((6, 1),), 6, 5, 1)
    with pytest.raises(PropertyBroken, match="another entry 6 of term 1"):
        court.judge.written(court.disks[A], Batch(entries=[frame(6, 1, Kind.COMMAND, b"y")]))


@in_virtual_time
async def test_a_disk_whose_log_has_a_base_keeps_what_was_acknowledged_before_it() -> None:
    court = Court()
    applied(court)
    court.disks[A].said_log = LOG.cut(4)
    recovered: dict[str, Any] = {"state": STATE, "base": (3, 1)}
    court.judge.opened("a", Recovered(**recovered, terms=((4, 1),), last_index=5))
    assert court.disks[A].log == LOG.compacted(3)
    court.judge.opened("a", Recovered(STATE, base=(5, 1), last_index=5))
    with pytest.raises(PropertyBroken, match="a has acknowledged 4, and starts without it"):
        court.judge.opened("a", Recovered(**recovered, last_index=3))


@in_virtual_time
async def test_a_leader_whose_log_begins_behind_what_is_committed_is_complete() -> None:
    court = Court()
    applied(court)
    for disk in court.disks.values():
        disk.said_votes[2] = A
    known: dict[str, Any] = {"commit": 5, "snapshot_index": 5}
    role = Campaigning(pre=False, votes=frozenset())
    candidate = node(A, log=Log((), 5, 5, 1), role=role, **known)
    court.steps(candidate, leading(log=Log(((6, 2),), 6, 5, 1), **known))
    assert court.judge.leaders[2] == A
