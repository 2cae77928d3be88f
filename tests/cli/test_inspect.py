"""`trioraft inspect`: what it tells of a directory, whole or damaged; it changes nothing."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.storage.test_version1 import FIRST, SECOND
from trioraft import StorageCorrupt, StorageError
from trioraft._cli import inspect as inspecting
from trioraft._cli import main
from trioraft._directory import look_at
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Member
from trioraft._snapshots.form import Head, verify, write_snapshot
from trioraft._state import HardState
from trioraft._storage import layout
from trioraft._storage.files import OsFiles
from trioraft._storage.inspection import look_at_log
from trioraft._storage.segments import SegmentLog
from trioraft._storage.shelf import Shelf
from trioraft._storage.worker import Permit
from trioraft._wire.frames import Kind, frame
from trioraft.abc import Batch, SnapshotId

ME = ServerId("n1", "i1")
GENESIS = Configuration(
    "c0ffee", (Member(ME, "ws://h1:1"), Member(ServerId("n2", "i2"), "ws://h2:1"))
)
SEGMENT_BYTES = 16 << 10
SALTS = random.Random(5)
LAST = 4
"""The last segment of the place in these tests."""


def state(**changes: Any) -> bytes:
    given: dict[str, Any] = {"starts": 2, "genesis": GENESIS, "term": 3, "voted_for": ME}
    return HardState(ME.name, ME.incarnation, **given | changes).encode()


class Place:
    """A data directory and the ways to fill it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last = 0

    def log(self) -> SegmentLog:
        return SegmentLog(str(self.path), OsFiles(), lambda: SALTS.randbytes(8), SEGMENT_BYTES)

    def open(self) -> SegmentLog:
        log = self.log()
        log.open()
        return log

    def close(self, log: SegmentLog) -> None:
        log.close()
        log.unlock()

    def append(self, log: SegmentLog, count: int, term: int, kind: Kind = Kind.COMMAND) -> None:
        first, self._last = self._last + 1, self._last + count
        frames = [frame(n, term, kind, b"x" * 100) for n in range(first, self._last + 1)]
        log.write(Batch(entries=frames))

    def save(self, index: int, term: int, cluster: str | None = "c0ffee", name: int = 0) -> Path:
        shelf = Shelf(str(self.path / "snapshots"), OsFiles())
        head = Head(cluster, index, term, 1_700_000_000.0, None)

        def write(file: BinaryIO) -> None:
            write_snapshot(file, head, [], b"state" * 100, "zlib")

        shelf.save(Permit(), SnapshotId(name or index, term), write, lambda _: None)
        return self.snapshot(name or index, term)

    def snapshot(self, index: int, term: int) -> Path:
        return self.path / "snapshots" / f"{index:020}-{term:020}.snapshot"

    def segment(self, number: int) -> Path:
        return self.path / f"{number:016}.log"

    def copy(self, path: Path) -> Place:
        shutil.copytree(self.path, path)
        made = Place(path)
        made._last = self._last
        return made

    def contents(self) -> dict[str, tuple[bytes, int]]:
        files = (path for path in self.path.rglob("*") if path.is_file())
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two lives of a server: entries 21 to 75 behind a base, and a snapshot of entry 30."""
    made = Place(tmp_path_factory.mktemp("original") / "n1")
    log = made.open()
    log.write(Batch(state=state()))
    made.append(log, 1, term=1, kind=Kind.NOOP)
    for _ in range(4):
        made.append(log, 10, term=1)
    made.save(30, 1)
    made.close(log)
    log = made.open()
    log.write(Batch(state=state(starts=3)))
    made.append(log, 1, term=3, kind=Kind.NOOP)
    log.write(Batch(base=(20, 1)))
    for _ in range(3):
        made.append(log, 10, term=3)
    made.append(log, 3, term=3, kind=Kind.CALL)
    made.close(log)
    return made


@pytest.fixture
def place(original: Place, tmp_path: Path) -> Place:
    """A copy of that."""
    return original.copy(tmp_path / "n1")


def inspect(place: Place, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    status = main(["inspect", str(place.path), "--json"])
    out, err = capsys.readouterr()
    assert err == ""
    return status, json.loads(out)


def test_what_is_there_is_told(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    status, told = inspect(place, capsys)
    assert status == 0
    assert [Path(s["file"]).name for s in told["segments"]] == [
        f"{number:016}.log" for number in range(1, LAST + 1)
    ]
    for segment in told.pop("segments"):
        assert segment["size"] == os.path.getsize(segment["file"])
        assert segment["batches"] >= 1
    path = place.snapshot(30, 1)
    with path.open("rb") as file:
        digest = verify(file).digest.hex()
    assert told == {
        "name": "n1",
        "incarnation": "i1",
        "cluster": "c0ffee",
        "starts": 3,
        "term": 3,
        "voted_for": "n1",
        "restored": None,
        "members": [
            {"name": "n1", "incarnation": "i1", "address": "ws://h1:1"},
            {"name": "n2", "incarnation": "i2", "address": "ws://h2:1"},
        ],
        "base_index": 20,
        "base_term": 1,
        "first_index": 21,
        "last_index": 75,
        "last_term": 3,
        "entries": {"noop": 1, "command": 51, "call": 3},
        "terms": [{"first_index": 21, "term": 1}, {"first_index": 42, "term": 3}],
        "torn": None,
        "snapshots": [
            {
                "file": str(path),
                "index": 30,
                "term": 1,
                "size": path.stat().st_size,
                "digest": digest,
                "cluster": "c0ffee",
                "time": 1_700_000_000.0,
                "used": True,
            }
        ],
        "damage": [],
    }


def test_it_is_told_in_lines(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(place.path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert 'name         "n1"' in lines
    assert 'entries      {"noop": 1, "command": 51, "call": 3}' in lines
    assert "  first_index 42, term 3" in lines
    assert 'time "2023-11-14T22:13:20+00:00", used true' in out
    assert lines[-1] == "all of it is whole"


def test_nothing_is_changed(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.path / "snapshots" / "taking.part").write_bytes(b"half")
    (place.path / f"{7:016x}.spare").write_bytes(b"half")
    (place.path / "lock").unlink()
    before = place.contents()
    assert inspect(place, capsys)[0] == 0
    assert place.contents() == before


def test_a_directory_that_no_server_has_got_far_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    young = Place(tmp_path / "n1")
    young.close(young.open())
    status, told = inspect(young, capsys)
    assert status == 0
    assert (told["name"], told["members"], told["first_index"]) == (None, [], None)
    log = young.open()
    log.write(Batch(state=state(genesis=None, voted_for=None)))
    young.close(log)
    status, told = inspect(young, capsys)
    assert status == 0
    assert (told["name"], told["cluster"], told["voted_for"]) == ("n1", None, None)


def test_what_is_no_data_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file.log").write_text("")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file.log"):
        assert main(["inspect", str(path)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)


def test_one_that_is_in_use_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    log = place.open()
    for more in ([], ["--json"]):
        assert main(["inspect", str(place.path), *more]) == 3
        out, err = capsys.readouterr()
        assert out == ""
        assert "is in use" in err
    place.close(log)
    assert inspect(place, capsys)[0] == 0


def test_so_is_one_that_comes_into_use_meanwhile(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs: list[SegmentLog] = []

    def look(directory: str) -> Any:
        logs.append(place.open())
        return look_at(directory)

    monkeypatch.setattr(inspecting, "look_at", look)
    assert main(["inspect", str(place.path)]) == 3
    place.close(logs[0])


def test_a_torn_end_is_no_damage(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    path = place.segment(LAST)
    data = bytearray(path.read_bytes())
    *_, (_, end) = layout.find_batches(bytes(data), layout.parse_header("", LAST, data).salt)
    data[end + 5 : end + 9] = b"torn"
    path.write_bytes(data)
    status, told = inspect(place, capsys)
    assert (status, told["last_index"]) == (0, 75)
    assert told["torn"] == {"file": str(path), "offset": end}


# -- damage ----------------------------------------------------------------------------------------


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def damage_of(told: Any) -> tuple[str, int]:
    (found,) = told["damage"]
    assert f"{found['file']}, offset {found['offset']}: " in found["message"]
    return Path(found["file"]).name, found["offset"]


def test_damage_in_an_old_segment_hides_nothing_behind_it(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(place.segment(2), layout.DATA + 100)
    status, told = inspect(place, capsys)
    assert status == 1
    assert damage_of(told) == (place.segment(2).name, layout.DATA)
    assert (told["name"], told["term"], told["last_index"]) == ("n1", 3, 75)
    assert sum(told["entries"].values()) < 55
    assert main(["inspect", str(place.path)]) == 1
    out, err = capsys.readouterr()
    assert "all of it is whole" not in out
    assert err.startswith(f"trioraft: {place.segment(2)}, offset {layout.DATA}: ")
    assert err.count("\n") == 1


def test_damage_in_the_last_segment_tells_what_comes_before(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(place.segment(LAST), layout.DATA + 100)
    status, told = inspect(place, capsys)
    assert status == 1
    assert damage_of(told) == (place.segment(LAST).name, layout.DATA)
    assert told["name"] == "n1"
    assert 41 < told["last_index"] < 75


def test_a_damaged_header_is_one_flaw(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, LAST):
        kept = place.segment(number).read_bytes()
        flip(place.segment(number), 20)
        status, told = inspect(place, capsys)
        assert status == 1
        assert damage_of(told) == (place.segment(number).name, 0)
        assert told["name"] == "n1"
        place.segment(number).write_bytes(kept)


def test_a_missing_segment_is_missed(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.segment(2).unlink()
    status, told = inspect(place, capsys)
    assert status == 1
    assert damage_of(told) == (place.segment(2).name, 0)
    assert [segment["batches"] is None for segment in told["segments"]] == [True, False, False]
    assert told["last_index"] == 75


def test_a_log_that_is_gone_is_missed(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, LAST + 1):
        place.segment(number).unlink()
    status, told = inspect(place, capsys)
    assert status == 1
    assert damage_of(told) == (place.segment(1).name, 0)


def test_a_segment_of_a_later_version_can_not_be_read(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    data = place.segment(LAST).read_bytes()
    header = layout.parse_header("", LAST, data)
    later = layout.Header(header.salt, LAST, header.predecessor, header.taken, 99)
    packed = layout.pack_header(later)
    place.segment(LAST).write_bytes(packed + data[len(packed) :])
    status, told = inspect(place, capsys)
    assert status == 1
    (found,) = told["damage"]
    assert "99" in found["message"]
    assert found["offset"] is None


def test_a_damaged_batch_with_a_whole_one_behind_it_was_durable_whatever_the_mark_says(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    log = place.open()
    for _ in range(3):
        place.append(log, 1, term=3)
    place.close(log)
    path = place.segment(LAST + 1)
    data = bytearray(path.read_bytes())
    data[layout.PAGE : layout.DATA] = bytes(layout.DATA - layout.PAGE)
    _, (start, _), *_ = layout.find_batches(
        bytes(data), layout.parse_header("", LAST + 1, data).salt
    )
    data[start + 30] ^= 1
    path.write_bytes(data)
    status, told = inspect(place, capsys)
    assert status == 1
    assert damage_of(told) == (path.name, start)
    assert "whole ones follow" in told["damage"][0]["message"]


def test_a_directory_of_the_first_version(tmp_path: Path) -> None:
    for number, packed in enumerate((FIRST, SECOND), start=1):
        path = tmp_path / f"{number:016}.log"
        path.write_bytes(zlib.decompress(base64.b85decode(packed)))
    found = look_at_log(str(tmp_path))
    assert not found.flaws
    assert (found.first_index, found.recovered.last_index) == (1, 7)
    assert found.kinds == {Kind.COMMAND: 6, Kind.CONFIGURATION: 1}
    flip(tmp_path / f"{1:016}.log", layout.DATA + 50)
    found = look_at_log(str(tmp_path))  # none but the first of those segments stands alone
    (flaw,) = found.flaws
    assert isinstance(flaw, StorageCorrupt)
    assert Path(flaw.file).name == f"{1:016}.log"
    assert layout.DATA < flaw.offset < layout.DATA + 50
    assert all(segment.batches for segment in found.segments)


def test_an_entry_that_was_damaged_before_it_was_written(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    log = place.open()
    bad = bytearray(frame(76, 3, Kind.COMMAND, b"good"))
    bad[-1] ^= 1
    log.write(Batch(entries=[frame(76, 3, Kind.COMMAND, b""), bytes(bad)][1:]))
    place.close(log)
    status, told = inspect(place, capsys)
    assert (status, told["last_index"]) == (1, 76)
    assert "checksum does not match" in told["damage"][0]["message"]
    file, offset = damage_of(told)
    assert (place.path / file).read_bytes()[offset:].startswith(bad)


def test_a_state_that_makes_no_sense(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    log = place.open()
    log.write(Batch(state=b"\xc1"))
    place.close(log)
    status, told = inspect(place, capsys)
    assert (status, told["name"], told["last_index"]) == (1, None, 75)
    assert "can't be read" in told["damage"][0]["message"]


def test_wherever_a_start_finds_damage_so_does_this_and_nowhere_else(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(7)
    refused = 0
    for number in range(50):
        copy = place.copy(tmp_path / f"copy {number}")
        path = copy.segment(chance.randint(1, LAST))
        size = path.stat().st_size
        flip(path, chance.choice([chance.randrange(size), chance.randrange(60), size - 1]))
        status, told = inspect(copy, capsys)
        log = copy.log()
        try:
            recovered = log.open()
        except StorageError as error:
            refused += 1
            assert (status, told["damage"][0]["message"]) == (1, str(error))  # noqa: PT017
        else:
            assert status == 0, told
            assert (told["base_index"], told["base_term"]) == recovered.base
            assert told["last_index"] == recovered.last_index
            assert [tuple(run.values()) for run in told["terms"]] == list(recovered.terms)
            assert sum(told["entries"].values()) == recovered.last_index - recovered.base[0]
        log.close()
        log.unlock()
        shutil.rmtree(copy.path)
    assert 10 < refused < 50


# -- snapshots -------------------------------------------------------------------------------------


def used(told: Any) -> list[int]:
    return [snapshot["index"] for snapshot in told["snapshots"] if snapshot["used"]]


def test_the_newest_snapshot_that_fits_is_used(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.save(25, 1)
    place.save(60, 3)
    place.save(10, 1)  # from before the log
    place.save(70, 2)  # of an entry that was cut
    place.save(900, 3)  # never became a part of it
    status, told = inspect(place, capsys)
    assert status == 0
    assert [snapshot["index"] for snapshot in told["snapshots"]] == [10, 25, 30, 60, 70, 900]
    assert used(told) == [60]


def test_a_damaged_snapshot_is_told_and_an_older_one_used(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = place.save(60, 3)
    flip(newest, newest.stat().st_size - 50)
    status, told = inspect(place, capsys)
    assert (status, used(told)) == (1, [30])
    assert damage_of(told)[0] == newest.name
    assert told["snapshots"][-1]["digest"] is None
    assert told["snapshots"][-1]["size"] == newest.stat().st_size


@pytest.mark.parametrize(
    "lose",
    [
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name(path.name.replace("30-", "19-"))),
        lambda path: flip(path, 100),
    ],
)
def test_a_log_without_the_snapshot_that_it_goes_on_from_is_damaged(
    lose: Callable[[Path], None], place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    lose(place.snapshot(30, 1))
    status, told = inspect(place, capsys)
    assert (status, used(told)) == (1, [])
    last = told["damage"][-1]
    assert "begins behind entry 20" in last["message"]
    assert last["file"] == str(place.path / "snapshots")


def test_another_clusters_snapshot_is_damage(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place.save(60, 3, cluster="beef")
    status, told = inspect(place, capsys)
    assert (status, used(told)) == (1, [30])
    assert damage_of(told) == (path.name, 0)


def test_one_that_a_cluster_was_restored_from_names_none(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.save(60, 3, cluster=None)
    status, told = inspect(place, capsys)
    assert (status, used(told)) == (0, [60])


def test_one_under_anothers_name_is_damage(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place.save(60, 3, name=61)
    status, told = inspect(place, capsys)
    assert (status, used(told)) == (1, [30])
    assert damage_of(told) == (path.name, 0)


def test_a_time_of_no_calendar_is_a_number() -> None:
    assert inspecting._date(1e300) == 1e300
    assert inspecting._date(None) is None
