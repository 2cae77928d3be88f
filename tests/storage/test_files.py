"""The real file system."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from trioraft._errors import StorageLocked
from trioraft._storage.files import OsFiles, make_directory, read_all, refusal


def test_the_directory_is_for_its_user_alone_and_its_parents_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    for _ in range(2):
        make_directory(OsFiles(), str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_another_server_may_be_quicker_to_make_a_parent(tmp_path: Path) -> None:
    class Raced(OsFiles):
        def mkdir(self, path: str) -> None:
            OsFiles.mkdir(self, path)
            OsFiles.mkdir(self, path)

    make_directory(Raced(), str(tmp_path / "data" / "n1"))
    assert (tmp_path / "data" / "n1").is_dir()


def test_a_file_is_in_the_way_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(FileExistsError):
        make_directory(OsFiles(), str(tmp_path / "data"))


def test_files_are_for_their_user_alone(tmp_path: Path) -> None:
    files, path = OsFiles(), str(tmp_path / "file")
    files.close(files.create(path))
    files.close(files.lock(str(tmp_path / "lock")))
    for name in ("file", "lock"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        files.create(path)


def test_a_parent_that_may_not_be_read_is_no_obstacle(tmp_path: Path) -> None:
    class Guarded(OsFiles):
        def sync_directory(self, path: str) -> None:
            raise PermissionError(errno.EACCES, "no")

    make_directory(Guarded(), str(tmp_path / "data"))
    assert (tmp_path / "data").is_dir()


def test_short_reads_are_completed(tmp_path: Path) -> None:
    class Slow(OsFiles):
        def pread(self, file: int, size: int, offset: int) -> bytes:
            return super().pread(file, min(size, 3), offset)

    files = Slow()
    (tmp_path / "file").write_bytes(b"0123456789")
    file = files.open(str(tmp_path / "file"))
    assert read_all(files, file, 8, 1) == b"12345678"
    assert read_all(files, file, 99, 1) == b"123456789"
    assert read_all(files, file, 99, 10) == b""
    files.close(file)


def test_a_second_lock_in_one_process_is_refused(tmp_path: Path) -> None:
    files, path = OsFiles(), str(tmp_path / "lock")
    lock = files.lock(path)
    with pytest.raises(StorageLocked, match="in use"):
        files.lock(path)
    files.close(lock)
    files.close(files.lock(path))


def test_a_file_system_without_locks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No locks"):
        OsFiles().lock(str(tmp_path / "lock"))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_what_to_do(number: int) -> None:
    error = refusal("/data/n1/x.log", OSError(number, os.strerror(number)))
    assert "/data/n1/x.log: the disk is full; free some space" in str(error)


def test_truncation_and_renaming(tmp_path: Path) -> None:
    files, old, new = OsFiles(), str(tmp_path / "old"), str(tmp_path / "new")
    file = files.create(old)
    assert files.pwrite(file, b"0123456789", 5) == 10
    files.truncate(file, 8)
    files.fdatasync(file)
    assert files.size(file) == 8
    files.close(file)
    files.rename(old, new)
    files.sync_directory(str(tmp_path))
    assert files.names(str(tmp_path)) == ["new"]
    files.unlink(new)
    assert not files.exists(new)
