"""A new cluster out of old directories: whose log is kept, what becomes of it, and of a crash."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from pathlib import Path

import pytest
from attrs import evolve

from tests.storage.survivors import (
    BIGGER,
    GENESIS,
    Killed,
    Old,
    Watched,
    a_log,
    a_snapshot,
    changing,
    entry,
    member,
    read_back,
    time_of,
)
from trioraft import StorageCorrupt, StorageError
from trioraft._recovery import making, recovering
from trioraft._recovery.choosing import Choice, Unfit, choose, survivor_of
from trioraft._recovery.recovering import finish, recover
from trioraft._recovery.swapping import interrupted
from trioraft._rules.membership import Configuration
from trioraft._sessions import Sessions
from trioraft._storage.files import Files, OsFiles
from trioraft._wire.frames import Kind, parse_entry
from trioraft._wire.stamps import stamp, stamped_data, stamped_time
from trioraft.abc import SnapshotId

ALONE = {"n1": "ws://n1.new:1"}


def chosen(*paths: Path) -> Choice:
    return choose([survivor_of(str(path)) for path in paths])


def recovered(
    *paths: Path, files: Files | None = None, members: dict[str, str] | None = None
) -> Configuration:
    numbers = itertools.count(1)
    new = Watched() if files is None else files
    return recover(chosen(*paths), members or ALONE, new, lambda: f"{next(numbers):016x}")


# -- whose log is kept -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "winner"),
    [
        ([(1, 5)], [(1, 7)], "n2"),
        ([(1, 7)], [(1, 5)], "n1"),
        ([(1, 7)], [(1, 3), (2, 2)], "n2"),  # a later term counts for more than more entries
        ([(1, 7)], [(1, 7)], "n1"),
    ],
)
def test_the_greatest_last_term_then_index_wins(
    ours: list[tuple[int, int]], theirs: list[tuple[int, int]], winner: str, tmp_path: Path
) -> None:
    paths = []
    for name, runs in (("n1", ours), ("n2", theirs)):
        terms = [term for term, count in runs for _ in range(count)]
        frames = [entry(index, term) for index, term in enumerate(terms, 1)]
        paths.append(Old(name, frames).put(tmp_path / name))
    choice = chosen(*paths)
    assert choice.winner.id.name == winner
    assert choice.why


def test_of_two_that_are_alike_the_one_wins_that_has_what_comes_before_its_log(
    tmp_path: Path,
) -> None:
    frames = a_log(3, first=6)
    one = Old("n1", frames, (5, 1)).put(tmp_path / "n1")
    two = Old("n2", frames, (5, 1), [(5, 1)]).put(tmp_path / "n2")
    assert chosen(one, two).winner.id.name == "n2"


def test_a_log_without_the_snapshot_that_it_goes_on_from_is_an_error(tmp_path: Path) -> None:
    path = Old(frames=a_log(3, first=6), base=(5, 1)).put(tmp_path / "n1")
    with pytest.raises(StorageCorrupt, match="begins behind entry 5"):
        chosen(path)
    a_snapshot(path, SnapshotId(5, 1))
    assert chosen(path).winner.is_whole


def test_a_log_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    path = Old().put(tmp_path / "n1")
    segment = path / f"{1:016}.log"
    data = bytearray(segment.read_bytes())
    data[3 * 4096 + 60] ^= 1
    segment.write_bytes(data)
    with pytest.raises(StorageCorrupt):
        chosen(path)


def test_a_damaged_snapshot_that_is_not_needed_is_passed_over(tmp_path: Path) -> None:
    path = Old(snapshots=[(2, 1), (5, 1)]).put(tmp_path / "n1")
    newest = max((path / "snapshots").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    survivor = chosen(path).winner
    assert survivor.head is not None
    assert survivor.head.index == 2
    assert len(survivor.holding.flaws) == 1


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (Old("n2", state={"genesis": evolve(GENESIS, cluster="beef")}), "of the cluster beef"),
        (Old("n1"), "both"),
        (Old("n2", state={"genesis": None}, frames=[]), "belongs to no cluster"),
        (Old("n2", a_log(2), (9, 1), [(9, 1)]), "contradicts"),
    ],
)
def test_survivors_that_do_not_go_together(other: Old, what: str, tmp_path: Path) -> None:
    if what == "contradicts":  # it has committed more than whoever has the later term
        other = evolve(other, frames=[])
    paths = Old(frames=[entry(1, 2)]).put(tmp_path / "a"), other.put(tmp_path / "b")
    with pytest.raises(Unfit, match=what):
        chosen(*paths)


def test_what_is_no_survivor(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(Unfit, match="no data directory"):
            survivor_of(str(path))
    (tmp_path / "lock").touch()
    with pytest.raises(Unfit, match="no server has got far"):
        survivor_of(str(tmp_path))


# -- what is known of the old cluster --------------------------------------------------------------


def test_the_newest_configuration_is_in_force(tmp_path: Path) -> None:
    later = evolve(BIGGER, outgoing=(), index=7)
    cases: list[tuple[Old, Configuration]] = [
        (Old(frames=a_log(3)), GENESIS),
        (Old(frames=a_log(5)), BIGGER),
        (Old(frames=a_log(2, first=6), base=(5, 1), snapshots=[(5, 1)]), GENESIS),
        (
            Old(frames=[entry(6, 1)], base=(5, 1), snapshots=[(5, 1)], configuration=BIGGER),
            BIGGER,
        ),
        (
            Old(
                frames=[entry(6, 1), changing(later)],
                base=(5, 1),
                snapshots=[(5, 1)],
                configuration=BIGGER,
            ),
            later,
        ),
    ]
    for number, (old, configuration) in enumerate(cases):
        assert chosen(old.put(tmp_path / str(number))).winner.configuration == configuration


def test_a_configuration_that_can_not_be_read_is_an_error(tmp_path: Path) -> None:
    path = Old(frames=[entry(1, 1, Kind.CONFIGURATION, b"\xc1")]).put(tmp_path / "n1")
    with pytest.raises(StorageError):
        survivor_of(str(path))


def test_nothing_is_missing_if_a_majority_of_each_half_is_there(tmp_path: Path) -> None:
    plain = [Old(name, a_log(3)).put(tmp_path / name) for name in ("n1", "n2", "n3")]
    assert not chosen(plain[0]).has_all
    assert chosen(*plain[:2]).has_all
    joint = [Old(name).put(tmp_path / "joint" / name) for name in ("n1", "n2", "n3", "n4")]
    assert not chosen(*joint[:2]).has_all
    assert not chosen(joint[0], joint[3]).has_all
    assert chosen(*joint[:3]).has_all


def test_an_incarnation_without_a_promise_counts_for_nobody(tmp_path: Path) -> None:
    one = Old("n1", a_log(3)).put(tmp_path / "n1")
    expelled = Old("n2", a_log(3), state={"expelled": "a copy"}).put(tmp_path / "n2")
    assert not chosen(one, expelled).has_all
    other = evolve(GENESIS, voters=(member("n1"), member("n2", "another"), member("n3")))
    stranger = Old("n2", a_log(3), state={"genesis": other}).put(tmp_path / "other")
    assert not chosen(evolve_genesis(tmp_path, other), stranger).has_all


def evolve_genesis(tmp_path: Path, genesis: Configuration) -> Path:
    return Old("n1", a_log(3), state={"genesis": genesis}).put(tmp_path / "changed")


def test_what_is_known_to_be_committed(tmp_path: Path) -> None:
    one = Old("n1").put(tmp_path / "n1")
    assert chosen(one).committed == 0
    two = Old("n2", a_log(3), snapshots=[(2, 1), (3, 1)]).put(tmp_path / "n2")
    assert chosen(one, two).committed == 3
    three = Old("n3", [], (4, 1), [(4, 1)]).put(tmp_path / "n3")
    assert chosen(one, two, three).committed == 4


# -- what becomes of it ----------------------------------------------------------------------------


def test_the_whole_log_is_kept_without_its_configurations(tmp_path: Path) -> None:
    path = Old(state={"term": 6}).put(tmp_path / "n1")
    genesis = recovered(path)
    new = read_back(path)
    *kept, last = new.entries
    old = [parse_entry(whole) for whole in a_log(5)]
    assert [one for one in kept if one.index != 4] == [one for one in old if one.index != 4]
    assert (kept[3].index, kept[3].term, kept[3].kind) == (4, 1, Kind.NOOP)
    assert kept[3].payload == stamp(time_of(4))
    assert (last.index, last.term, last.kind) == (6, 7, Kind.SESSION)
    assert stamped_time(last.payload) == time_of(5)
    sessions = Sessions()
    sessions.manage(2, time_of(2), stamped_data(old[1].payload))
    sessions.manage(last.index, time_of(5), stamped_data(last.payload))
    assert len(sessions) == 0

    assert genesis == new.state.genesis
    assert (new.state.name, new.state.incarnation) == ("n1", genesis.voters[0].id.incarnation)
    assert (new.state.term, new.state.voted_for, new.state.starts) == (7, None, 0)
    assert (new.state.stickiness, new.state.restored, new.state.expelled) == (0.0, "", "")
    (voter,) = genesis.voters
    assert voter.id.incarnation not in ("", "old n1")
    assert (voter.id.name, voter.address, voter.commands) == ("n1", ALONE["n1"], ("get", "put"))
    assert (genesis.index, genesis.outgoing, genesis.learners) == (0, (), ())
    assert genesis.cluster not in ("", GENESIS.cluster)


def test_the_snapshot_goes_along_with_its_sessions(tmp_path: Path) -> None:
    frames = a_log(4, first=4)
    old = Old("n1", frames, (3, 1), [(3, 1), (5, 1)], GENESIS)
    path = old.put(tmp_path / "n1")
    recovered(path)
    new = read_back(path)
    assert new.base == (3, 1)
    assert [one.index for one in new.entries] == [4, 5, 6, 7, 8]
    assert new.head is not None
    assert (new.head.index, new.head.term, new.head.time) == (5, 1, time_of(5))
    assert (new.head.cluster, new.head.configuration) == (None, None)
    assert len(new.sessions) == 1
    assert new.machine == b"state" * 99


def test_a_log_of_which_nothing_is_left_but_the_snapshot(tmp_path: Path) -> None:
    path = Old("n1", [], (9, 3), [(9, 3)], state={"term": 3}).put(tmp_path / "n1")
    recovered(path)
    new = read_back(path)
    (last,) = new.entries
    assert (last.index, last.term) == (10, 4)
    assert stamped_time(last.payload) == time_of(9)


def test_a_log_without_entries(tmp_path: Path) -> None:
    path = Old("n1", []).put(tmp_path / "n1")
    recovered(path)
    (last,) = read_back(path).entries
    assert (last.index, last.term, stamped_time(last.payload)) == (1, 2, 0.0)


def test_a_large_log_is_copied_in_pieces(tmp_path: Path) -> None:
    frames = [entry(index, 1, data=b"x" * 300_000) for index in range(1, 12)]
    path = Old("n1", frames).put(tmp_path / "n1")
    recovered(path)
    assert [parse_entry(whole) for whole in frames] == read_back(path).entries[:-1]


def test_every_member_gets_the_same_log_and_its_own_name(tmp_path: Path) -> None:
    paths = [
        Old("n1", a_log(3), state={"term": 9}).put(tmp_path / "n1"),
        Old("n2", a_log(5)).put(tmp_path / "n2"),
        Old("n3", a_log(2)).put(tmp_path / "n3"),
    ]
    members = {"n2": "ws://n2.new:1", "n1": "ws://n1.new:1"}
    genesis = recovered(*paths, members=members)
    one, two = map(read_back, paths[:2])
    assert one.entries == two.entries
    assert len(one.entries) == 6
    assert one.state.term == one.entries[-1].term == 10
    assert [voter.id.name for voter in genesis.voters] == ["n1", "n2"]
    assert [one.state.id, two.state.id] == [voter.id for voter in genesis.voters]
    assert one.state.incarnation != two.state.incarnation
    assert evolve(one.state, name="n2", incarnation=two.state.incarnation) == two.state
    three = survivor_of(str(paths[2]))
    assert (three.configuration.cluster, three.last) == (GENESIS.cluster, (1, 2))
    for path, last in zip(paths[:2], (3, 5), strict=True):
        before = survivor_of(f"{path}.before-{genesis.cluster}")
        assert (before.id.incarnation, before.last) == (f"old {before.id.name}", (1, last))


def test_a_member_that_nothing_was_known_of_knows_no_commands(tmp_path: Path) -> None:
    genesis = recovered(Old("n9").put(tmp_path / "n9"), members={"n9": "ws://n9:1"})
    assert genesis.voters[0].commands == ()


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ({"n1": "ws://h:1", "n3": "ws://h:3"}, "n3 has no directory here, only n1, n2: .*add-peer"),
        ({"n1": "ws://h:1", "n2": "ws://h:1"}, "one address"),
    ],
)
def test_members_that_make_no_sense(members: dict[str, str], what: str, tmp_path: Path) -> None:
    paths = [Old(name).put(tmp_path / name) for name in ("n1", "n2")]
    with pytest.raises(Unfit, match=what):
        recovered(*paths, members=members)
    assert sorted(os.listdir(tmp_path)) == ["n1", "n2"]


def test_a_mount_point_can_not_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: path == str(tmp_path / "n1"))
    with pytest.raises(Unfit, match="mounted"):
        recovered(Old().put(tmp_path / "n1"))


def test_an_entry_without_a_time_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    frames = [parse_entry(whole) for whole in a_log(2)]
    bad = making.frame(3, 1, Kind.NOOP, b"x")
    path = Old(frames=[*a_log(len(frames)), bad]).put(tmp_path / "n1")
    with pytest.raises(StorageError, match="without a time"):
        recovered(path)
    assert os.listdir(tmp_path) == ["n1"]


def test_what_is_read_back_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Old().put(tmp_path / "n1")
    monkeypatch.setattr(making, "_inherited", lambda _: [a_log(3)])
    with pytest.raises(StorageError, match="not what was written"):
        recovered(path)
    assert os.listdir(tmp_path) == ["n1"]


def test_a_disk_that_gives_back_something_else_is_noticed(tmp_path: Path) -> None:
    class Bad(OsFiles):
        def rename(self, old: str, new: str) -> None:
            OsFiles.rename(self, old, new)
            if new.endswith(".log"):
                Path(new).write_bytes(b"rotten" + Path(new).read_bytes()[6:])

    path = Old().put(tmp_path / "n1")
    with pytest.raises(StorageCorrupt, match="header is damaged"):
        recovered(path, files=Bad())
    assert os.listdir(tmp_path) == ["n1"]


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path) -> None:
    class Full(OsFiles):
        def create(self, path: str) -> int:
            if "n2.after" in path:
                raise OSError(errno.ENOSPC, "No space left on device")
            return OsFiles.create(self, path)

    paths = [Old(name, snapshots=[(3, 1)]).put(tmp_path / name) for name in ("n1", "n2")]
    with pytest.raises(StorageError, match="disk is full"):
        recovered(*paths, files=Full(), members=ALONE | {"n2": "ws://n2.new:1"})
    assert sorted(os.listdir(tmp_path)) == ["n1", "n2"]
    assert [survivor_of(str(path)).last for path in paths] == [(1, 5), (1, 5)]


# -- crashes ---------------------------------------------------------------------------------------

BOTH = ALONE | {"n2": "ws://n2.new:1"}


def two(directory: Path) -> list[Path]:
    frames = a_log(3)
    return [Old(name, frames, snapshots=[(2, 1)]).put(directory / name) for name in ("n1", "n2")]


def killed_at(paths: list[Path], call: int, *, after: bool) -> bool:
    """Run until that call; say whether it came."""
    files = Watched(call, after=after)
    try:
        recovered(*paths, files=files, members=BOTH)
    except Killed:
        return True
    return False


def again(paths: list[Path]) -> str:
    """What whoever finds the directories does; returns the new cluster."""
    names = list(map(str, paths))
    try:
        cluster = interrupted(names)
    except Unfit:  # the message says what to remove
        for path in paths[0].parent.glob("*.after-*"):
            shutil.rmtree(path)
        cluster = interrupted(names)
        assert cluster is None
    if cluster is not None:
        finish(names, cluster, BOTH, OsFiles())
        return cluster
    found = {survivor_of(name).cluster for name in names}
    assert len(found) == 1
    if found == {GENESIS.cluster}:  # as it was
        return recovered(*paths, members=BOTH).cluster
    return found.pop()


@pytest.mark.unmeasured
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_call(after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "rmtree", lambda *_, **__: None)  # the dead tidy nothing up
    monkeypatch.setattr(making, "SEGMENT_BYTES", 16 << 10)
    two(tmp_path / "original")
    missing_then = set()
    for call in itertools.count(1):
        place = tmp_path / str(call)
        shutil.copytree(tmp_path / "original", place)
        paths = [place / "n1", place / "n2"]
        if not killed_at(paths, call, after=after):
            break
        missing_then.add(sum(not path.exists() for path in paths))
        cluster = again(paths)
        for new in map(read_back, paths):
            assert new.state.genesis is not None
            assert new.state.genesis.cluster == cluster
            assert [one.index for one in new.entries] == [1, 2, 3, 4]
            assert len(new.sessions) == 1
        expected = {"n1", "n2", f"n1.before-{cluster}", f"n2.before-{cluster}"}
        assert set(os.listdir(place)) == expected
        shutil.rmtree(place)
    assert call > 30
    assert missing_then == {0, 1}


def test_all_is_durable_before_the_first_directory_is_renamed(tmp_path: Path) -> None:
    files = Watched()
    genesis = recovered(*two(tmp_path), files=files, members=BOTH)
    names = [name for name, path in files.calls if "before-" in path or path == str(tmp_path)]
    first = next(n for n, (_, path) in enumerate(files.calls) if "before-" in path)
    assert [call for call in files.calls[first:] if call[0] != "sync_directory"] == [
        ("rename", str(tmp_path / f"n1.before-{genesis.cluster}")),
        ("rename", str(tmp_path / "n1")),
        ("rename", str(tmp_path / f"n2.before-{genesis.cluster}")),
        ("rename", str(tmp_path / "n2")),
    ]
    assert [name for name, _ in files.calls[first:]] == ["rename", "sync_directory"] * 4
    assert names.count("sync_directory") >= 6


def interrupted_after(paths: list[Path], renames: int) -> str:
    """Killed once so many directories have been renamed."""
    seen: list[str] = []

    class Dying(OsFiles):
        def rename(self, old: str, new: str) -> None:
            OsFiles.rename(self, old, new)
            if os.path.isdir(new):
                seen.append(new)
                if len(seen) == renames:
                    raise Killed

    with pytest.raises(Killed):
        recovered(*paths, files=Dying(), members=BOTH)
    cluster = interrupted(list(map(str, paths)))
    assert cluster is not None
    return cluster


def test_what_is_finished_must_have_been_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovering, "rmtree", lambda *_, **__: None)
    paths = two(tmp_path)
    cluster = interrupted_after(paths, 2)
    with pytest.raises(Unfit, match=r"--members n1=ws://n1\.new:1,n2=ws://n2\.new:1"):
        finish(list(map(str, paths)), cluster, ALONE, OsFiles())
    with pytest.raises(Unfit, match=r"n2\.after-.* give them all again"):
        interrupted([str(paths[1])])
    assert finish(list(map(str, paths)), cluster, BOTH, OsFiles()) == [str(paths[1])]


def test_a_server_that_was_started_in_between_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovering, "rmtree", lambda *_, **__: None)
    paths = two(tmp_path)
    cluster = interrupted_after(paths, 1)
    Old(frames=[]).put(paths[0])
    with pytest.raises(StorageError, match="not empty"):
        finish(list(map(str, paths)), cluster, BOTH, OsFiles())


def test_one_that_was_emptied_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "rmtree", lambda *_, **__: None)
    paths = two(tmp_path)
    cluster = interrupted_after(paths, 1)
    for path in (tmp_path / f"n1.after-{cluster}").glob("*.log"):
        path.unlink()
    with pytest.raises(StorageError, match="holds nothing"):
        finish(list(map(str, paths)), cluster, BOTH, OsFiles())
