"""New clusters that start from a file: a backup of another one, or a fork."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import frozen

from tests.client.worlds import client_of
from tests.server.worlds import Cluster, Disk, Say, a_running_cluster, in_virtual_time
from trioraft import Config, ProtocolError, Server, StorageCorrupt, StorageError
from trioraft._snapshots.form import BLOCK_OVERHEAD, Reader
from trioraft.abc import Entry


class Restored(Cluster):
    """A cluster whose history begins where another one's was saved."""

    def applies(self, name: str, entry: Entry) -> None:
        assert self.history.setdefault(entry.index, entry) == entry

    def check(self) -> None:
        assert not self.failures, f"servers ended with errors: {self.failures}"
        indexes = sorted(self.history)
        assert indexes == list(range(indexes[0], indexes[0] + len(indexes)))


@asynccontextmanager
async def a_new_cluster(size: int = 3, **options: Any) -> AsyncGenerator[Restored]:
    async with trio.open_nursery() as nursery:
        cluster = Restored(nursery, size, seed=7, **options)
        yield cluster
        if cluster.history:
            cluster.check()
        nursery.cancel_scope.cancel()


@frozen
class Old:
    """What is known of the cluster that was saved."""

    file: Path
    lines: list[str]
    cluster: str
    index: int
    term: int
    time: float
    handle: bytes
    """Of a command that one of its clients had done."""


async def saved(server: Server, disk: Disk, file: Path) -> int:
    """Have a server take a snapshot, and copy it to a file."""
    index = await server.take_snapshot()
    snapshots = disk.kept.snapshots
    newest = (await snapshots.list())[-1]
    assert newest.index == index
    put(file, await snapshots.read(newest, 0, 1 << 30))
    return index


def put(file: Path, data: bytes) -> None:
    file.write_bytes(data)


async def an_old_cluster(directory: Path, *more: str) -> Old:
    """Run a cluster for a while, and save it."""
    async with a_running_cluster(3) as cluster:
        for text in ("one", "two", *more):
            await cluster.say(text)
        async with client_of(cluster) as client:
            pending = client.prepare(Say("of a client"))
            handle = pending.handle
            await pending.do()
            cluster.acknowledged.append("of a client")
            leader = await cluster.settled()
            assert leader._core.applier.sessions.due is not None
            file = directory / f"{len(more)}.snapshot"
            index = await saved(leader, cluster.disks[leader.name], file)
        machine, name = leader.state_machine, leader.status().cluster
        assert name is not None
        time = machine.applied[-1].time
        return Old(file, list(machine.lines), name, index, leader.term, time, handle)


@in_virtual_time
async def test_it_has_the_old_state_and_time_and_no_members_or_sessions(tmp_path: Path) -> None:
    old = await an_old_cluster(tmp_path)
    async with a_new_cluster() as cluster:
        leader = await cluster.formed(restore=old.file)
        for server in cluster.up:
            assert server.state_machine.lines == old.lines
            assert server.status().cluster not in (None, old.cluster)
            assert server.status().snapshot_index == old.index
            assert server._core.applier.sessions.due is None
            assert server.term > old.term
        assert leader.status().last_index == old.index + 1
        assert await cluster.say("new") == len(old.lines) + 1
        assert leader.state_machine.applied[-1].time >= old.time
        async with client_of(cluster) as client:
            with pytest.raises(ProtocolError, match=old.cluster):
                await client.resume(old.handle, Say)


@in_virtual_time
async def test_it_lives_on_like_any_other(tmp_path: Path) -> None:
    old = await an_old_cluster(tmp_path)
    async with a_new_cluster() as cluster:
        await cluster.formed(restore=old.file)
        await cluster.say("new")
        await cluster.crash("n1")
        await cluster.say("newer")
        await cluster.restart(*cluster.names)
        leader = await cluster.settled()
        again = tmp_path / "again.snapshot"
        index = await saved(leader, cluster.disks[leader.name], again)
        assert index > old.index
        for server in cluster.up:
            assert server.state_machine.lines == [*old.lines, "new", "newer"]
    async with a_new_cluster(1) as cluster:
        leader = await cluster.formed(restore=again)
        assert leader.state_machine.lines == [*old.lines, "new", "newer"]


@in_virtual_time
async def test_the_file_is_used_once(tmp_path: Path) -> None:
    old = await an_old_cluster(tmp_path)
    other = await an_old_cluster(tmp_path, "three")
    async with a_new_cluster() as cluster:
        await cluster.formed(restore=old.file)
        await cluster.say("new")
        name = cluster["n1"].status().cluster
        old.file.unlink()
        await cluster.restart("n1", restore=old.file)
        await cluster.restart("n2", restore=other.file)
        await cluster.settled()
        for server in cluster.up:
            assert server.status().cluster == name
            assert server.state_machine.lines == [*old.lines, "new"]


@pytest.mark.parametrize("gives", [True, False])
@in_virtual_time
async def test_servers_with_different_files_refuse_each_other(gives: bool, tmp_path: Path) -> None:
    old = await an_old_cluster(tmp_path)
    other = await an_old_cluster(tmp_path, "three")
    async with a_new_cluster() as cluster:
        await cluster.start("n1", "n2", restore=old.file)
        await cluster.start("n3", restore=other.file if gives else None)
        await trio.sleep(3)
        assert all(server.status().cluster is None for server in cluster.up)
        assert cluster["n1"].status().missing == ("n3",)
        for name, peer in (("n1", "n3"), ("n3", "n1")):
            error = cluster[name].peers[peer].error
            assert error is not None
            assert "starts from " in error
            assert error.count("the snapshot ") == 1 + gives
            assert error.endswith(": all must be given the same, on empty data directories")
        # It has begun with the wrong one, so it begins anew.
        await cluster.crash("n3")
        cluster.disks["n3"] = Disk()
        await cluster.start("n3", restore=old.file)
        await cluster.settled()
        assert cluster["n3"].state_machine.lines == old.lines


@in_virtual_time
async def test_it_does_not_matter_how_each_server_compresses(tmp_path: Path) -> None:
    old = await an_old_cluster(tmp_path)
    async with a_new_cluster() as cluster:
        await cluster.start("n1", restore=old.file)
        more = {"config": Config(snapshot_compression="zstd")}
        await cluster.start("n2", "n3", restore=old.file, **more)
        await cluster.settled()
        assert cluster["n3"].state_machine.lines == old.lines


def damaged_at(file: Path, offset: int) -> int:
    data = bytearray(file.read_bytes())
    data[offset] ^= 0xFF
    file.write_bytes(data)
    return offset


@in_virtual_time
async def test_a_damaged_file_is_refused_wherever_the_damage_is(tmp_path: Path) -> None:
    old = await an_old_cluster(tmp_path)
    whole = old.file.read_bytes()
    with old.file.open("rb") as file:
        reader = Reader(file)
        head_ends = reader.offset
    async with a_new_cluster(1) as cluster:
        for offset in range(0, len(whole), 7):
            damaged_at(old.file, offset)
            await cluster.start("n1", restore=old.file)
            error = await cluster.ended("n1")
            assert isinstance(error, StorageCorrupt)
            assert error.file == str(old.file)
            assert error.offset <= offset + BLOCK_OVERHEAD
            assert (error.offset < head_ends) == (offset < head_ends)
            assert str(error).count("\n") == 0
            old.file.write_bytes(whole)
        for bad in (b"", b"nonsense" * 10, whole[:-1], whole + b"x"):
            old.file.write_bytes(bad)
            await cluster.start("n1", restore=old.file)
            assert isinstance(await cluster.ended("n1"), StorageCorrupt)
        old.file.write_bytes(whole)
        await cluster.formed(restore=old.file)  # nothing of it was left behind
        assert cluster["n1"].state_machine.lines == old.lines


@in_virtual_time
async def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with a_new_cluster(1) as cluster:
        await cluster.start("n1", restore=tmp_path / "nowhere")
        error = await cluster.ended("n1")
        assert isinstance(error, FileNotFoundError)
        assert "nowhere" in str(error)


@pytest.mark.parametrize("again", [True, False])
@in_virtual_time
async def test_a_server_that_is_killed_before_it_is_durable_begins_anew(
    again: bool, tmp_path: Path
) -> None:
    old = await an_old_cluster(tmp_path)
    async with a_new_cluster(1) as cluster:
        disk = cluster.disks["n1"]
        disk.broken = "pulled"
        await cluster.start("n1", restore=old.file)
        assert isinstance(await cluster.ended("n1"), StorageError)
        assert disk.kept.snapshots._whole
        disk.broken = None
        leader = await cluster.formed(**({"restore": old.file} if again else {}))
        assert leader.state_machine.lines == (old.lines if again else [])
        assert leader.status().snapshot_index == (old.index if again else 0)
        await cluster.say("new")
        await cluster.restart("n1")
        await cluster.settled()
        assert len(disk.kept.snapshots._whole) == again


@in_virtual_time
async def test_what_a_disk_gives_back_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await an_old_cluster(tmp_path)
    async with a_new_cluster(1) as cluster:
        snapshots = cluster.disks["n1"].kept.snapshots
        keep = snapshots._keep
        for change in (lambda data: data[:-1], lambda _: old.file.read_bytes()):
            monkeypatch.setattr(
                snapshots, "_keep", lambda one, d, check, c=change: keep(one, c(d), check)
            )
            await cluster.start("n1", restore=old.file)
            error = await cluster.ended("n1")
            assert isinstance(error, StorageError)
            assert not isinstance(error, StorageCorrupt)
            assert "read back" in str(error)
            assert not snapshots._whole
