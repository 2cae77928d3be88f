"""`trioraft recover`: what it says, what it does, and when it does nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.storage.survivors import GENESIS, Old, a_log, entry, read_back
from trioraft._cli import main, recover
from trioraft._recovery import recovering
from trioraft._storage.files import OsFiles
from trioraft._storage.segments import SegmentLog

ALONE = "n1=n1.new:1"


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def everything_in(path: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in path.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_sole_survivor_becomes_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Old(snapshots=[(3, 1)]).put(tmp_path / "n1")
    assert main(["recover", str(path), "--members", ALONE, "--json"]) == 0
    found = told(capsys)
    cluster = found["new_cluster"]
    assert [member["name"] for member in found["voters"]] == ["n1", "n2", "n3", "n4"]
    assert [member["name"] for member in found["outgoing"]] == ["n1", "n2", "n3"]
    assert found["learners"] == []
    assert found["survivors"] == [
        {
            "name": "n1",
            "last_term": 1,
            "last_index": 5,
            "snapshot_index": 3,
            "has_vote": True,
            "expelled": None,
            "directory": str(path),
        }
    ]
    assert (found["old_cluster"], found["configuration_index"]) == (GENESIS.cluster, 4)
    assert (found["winner"], found["why"]) == ("n1", "no other is at hand")
    assert (found["last_index"], found["committed_index"]) == (5, 3)
    assert not found["has_majority"]
    assert found["members"] == [
        {
            "name": "n1",
            "address": "ws://n1.new:1",
            "directory": str(path),
            "old_directory": f"{path}.before-{cluster}",
        }
    ]
    lost, doubt = found["advice"]
    assert lost.startswith("Entries behind 5 may have been acknowledged")
    assert doubt.startswith("The entries behind 3 are kept")
    new = read_back(path)
    assert new.state.genesis is not None
    assert new.state.genesis.cluster == cluster
    assert new.state.genesis.voters[0].address == "ws://n1.new:1"
    assert len(new.entries) == 6


def test_it_is_told_in_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = Old(frames=a_log(3)).put(tmp_path / "n1")
    four = Old("n4", frames=a_log(5)).put(tmp_path / "n4")
    assert main(["recover", str(one), str(four), "--members", ALONE]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert "survivors" in lines
    assert 'winner               "n4"' in lines
    assert 'why                  "its log ends last, with entry 5 of term 1"' in lines
    assert "How much of the log was committed can't be known" in out
    assert lines[-1] == (
        f"{four} stays as it is, in the old cluster: do not start n4 on it; take it in on an "
        "empty directory."
    )
    assert len(read_back(one).entries) == 6


def test_a_dry_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [Old(name, snapshots=[(5, 1)]).put(tmp_path / name) for name in ("n1", "n2")]
    (paths[1] / "lock").unlink()
    before = everything_in(tmp_path)
    arguments = ["recover", *map(str, paths), "--members", "n2=h:1,n1=ws://h:2", "--dry-run"]
    assert main([*arguments, "--json"]) == 0
    found = told(capsys)
    assert found["new_cluster"] is None
    assert [member["name"] for member in found["members"]] == ["n1", "n2"]
    assert [member["old_directory"] for member in found["members"]] == [None, None]
    assert found["why"] == "its log ends with entry 5 of term 1, and no other has more"
    assert len(found["advice"]) == 1
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_majority_needs_no_recovery(
    dry: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [Old(name, a_log(3)).put(tmp_path / name) for name in ("n1", "n2")]
    before = everything_in(tmp_path)
    assert main(["recover", *map(str, paths), "--members", ALONE, *dry, "--json"]) == 2
    out, err = capsys.readouterr()
    assert "no recovery is needed" in err
    found = json.loads(out)
    assert found["has_majority"]
    assert found["advice"][0].startswith("Nothing that was acknowledged is missing")
    assert everything_in(tmp_path) == before


def test_a_damaged_snapshot_that_is_not_needed_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Old(snapshots=[(2, 1), (5, 1)]).put(tmp_path / "n1")
    newest = max((path / "snapshots").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    assert main(["recover", str(path), "--members", ALONE]) == 0
    assert str(newest) in capsys.readouterr().err
    head = read_back(path).head
    assert head is not None
    assert head.index == 2


def test_one_that_is_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [Old(name).put(tmp_path / name) for name in ("n1", "n2")]
    log = SegmentLog(str(paths[1]), OsFiles(), lambda: os.urandom(8), 16 << 10)
    log.open()
    for more in ([], ["--dry-run"]):
        assert main(["recover", *map(str, paths), "--members", ALONE, *more]) == 3
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "is in use" in err
    log.close()
    log.unlock()
    assert main(["recover", *map(str, paths), "--members", ALONE]) == 0


def test_damage_is_a_status_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Old(frames=a_log(2, first=6), base=(5, 1)).put(tmp_path / "n1")
    assert main(["recover", str(path), "--members", ALONE]) == 1
    assert "begins behind entry 5" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["n1"]


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ("n1=h:1,n3=h:3", "n3 has no directory here, only n1: leave it out"),
        ("n1", "expected NAME=ADDRESS"),
        ("n1=nonsense", "bad address"),
        ("n1=h:1,n1=h:2", "stands there twice"),
    ],
)
def test_members_that_can_not_be_used(
    members: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Old().put(tmp_path / "n1")
    try:
        status = main(["recover", str(path), "--members", members])
    except SystemExit as error:
        status = int(error.code or 0)
    assert status == 2
    assert what in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["n1"]


@pytest.mark.parametrize("name", ["nowhere", "nowhere/at/all", "file/n1"])
def test_what_is_no_directory(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["recover", str(tmp_path / name), "--members", ALONE]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_link_is_followed(tmp_path: Path) -> None:
    path = Old().put(tmp_path / "disk" / "n1")
    link = tmp_path / "n1"
    link.symlink_to(path)
    assert main(["recover", str(link), "--members", ALONE]) == 0
    assert link.is_symlink()
    assert read_back(link).state.starts == 0
    assert len(os.listdir(tmp_path / "disk")) == 2


def test_a_run_that_was_interrupted_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pulled(BaseException):
        pass

    class Dying(OsFiles):
        def rename(self, old: str, new: str) -> None:
            OsFiles.rename(self, old, new)
            if ".before-" in new:
                raise Pulled

    frames = [entry(index, 1) for index in range(1, 4)]
    path = Old(frames=frames).put(tmp_path / "n1")
    with monkeypatch.context() as patch:
        patch.setattr(recovering, "rmtree", lambda *_, **__: None)
        patch.setattr(recover, "OsFiles", Dying)
        with pytest.raises(Pulled):
            main(["recover", str(path), "--members", ALONE])
    assert not path.exists()
    again = ["recover", str(path), "--members"]
    assert main([*again, "n1=other:1"]) == 2
    assert "give --members n1=ws://n1.new:1" in capsys.readouterr().err
    assert main([*again, ALONE, "--dry-run"]) == 0
    assert "unfinished" in capsys.readouterr().out
    assert not path.exists()
    assert main([*again, ALONE, "--json"]) == 0
    found = told(capsys)
    assert found["finished"] == [str(path)]
    genesis = read_back(path).state.genesis
    assert genesis is not None
    assert genesis.cluster == found["new_cluster"]


def test_what_is_left_of_one_that_had_changed_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Old().put(tmp_path / "n1")
    left = tmp_path / "n1.after-00000000deadbeef"
    left.mkdir()
    assert main(["recover", str(path), "--members", ALONE]) == 2
    err = capsys.readouterr().err
    assert str(left) in err
    assert "remove it" in err
    left.rmdir()
    assert main(["recover", str(path), "--members", ALONE]) == 0
