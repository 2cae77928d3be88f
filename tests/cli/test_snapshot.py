"""`trioraft snapshot`: what it asks for, how long, and what it leaves in the file."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from trioraft._cli import main, snapshot
from trioraft._snapshots.form import Head, Summary, verify, write_snapshot

PIECE = 100


def a_snapshot(index: int = 7) -> tuple[Summary, bytes]:
    file = io.BytesIO()
    head = Head("c0ffee", index, 3, 5.0, None)
    state = bytes(range(256)) * 2  # no compression helps much
    return write_snapshot(file, head, [b"sessions"], state, "zlib"), file.getvalue()


class FakeServer:
    """Has applied seven entries, and does with a snapshot what the test says."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.applied: object = 7
        self.snapshot_index = 0
        self.busy = 0
        """How often it is too busy before it answers."""
        self.gone = 0
        """How many pieces are gone before one is there."""
        self.broken: dict[str, tuple[int, Any]] = {}
        """What certain paths are answered with."""
        self.summary, self.whole = a_snapshot()
        self.size = self.summary.size
        self.on_piece: Callable[[], object] = lambda: None
        self._http = HTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"ws://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=[0.005])
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                status, told = server.answer(f"{self.command} {self.path}")
                body = told if isinstance(told, bytes) else json.dumps(told).encode()
                if status == 0:
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def answer(self, asked: str) -> tuple[int, Any]:
        self.asked.append(asked)
        parts = urlsplit(asked.split(" ")[1])
        if parts.path in self.broken:
            return self.broken[parts.path]
        if parts.path == "/status":
            if self.busy == 0:
                self.snapshot_index = 7
            self.busy -= 1
            return 200, {"last_applied": self.applied, "snapshot_index": self.snapshot_index}
        if parts.path == "/snapshot":
            if self.busy > 0:
                return problem(503, "Busy")
            return 200, {"index": self.summary.head.index, "term": 3, "size": self.size,
                         "digest": self.summary.digest.hex()}  # fmt: skip
        self.on_piece()
        if self.gone > 0:
            self.gone -= 1
            return problem(404, "NotFound")
        given = parse_qs(parts.query)
        assert given["index"] == [str(self.summary.head.index)]
        offset = int(given["offset"][0])
        return 200, self.whole[offset : offset + PIECE]


def problem(status: int, error: str) -> tuple[int, Any]:
    return status, {"error": error, "message": "x", "outcome": "not done", "leader": None}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    made = FakeServer()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr(snapshot, "pause", made.append)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "there" / "a.snapshot"


@pytest.fixture(autouse=True)
def _place(file: Path) -> None:
    file.parent.mkdir()


def left_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_snapshot_is_taken(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["snapshot", server.address]) == 0
    size, digest = server.size, server.summary.digest.hex()
    out = f'index   7\nterm    3\nsize    {size}\ndigest  "{digest}"\n'
    assert capsys.readouterr().out == out
    assert server.asked == ["GET /status", "POST /snapshot?index=7"]


def test_it_is_saved_whole(
    server: FakeServer, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["snapshot", server.address, "--save", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["index"], told["size"], told["file"]) == (7, server.size, str(file))
    assert file.read_bytes() == server.whole
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert left_in(file.parent) == [file.name]
    assert verify(io.BytesIO(server.whole)) == server.summary
    pieces = -(-server.size // PIECE)
    assert len(server.asked) == 2 + pieces > 4


def test_a_relative_file_is_one_in_this_directory(
    server: FakeServer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    assert main(["snapshot", server.address, "--save", file.name]) == 0
    assert left_in(file.parent) == [file.name]


def test_a_file_that_is_there_is_never_overwritten(
    server: FakeServer, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.symlink_to("nowhere")
    assert main(["snapshot", server.address, "--save", str(file)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert not server.asked


@pytest.mark.parametrize("links", [True, False])
def test_nor_one_that_appears_meanwhile(
    links: bool, server: FakeServer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on_piece = lambda: file.write_text("mine")
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    assert main(["snapshot", server.address, "--save", str(file)]) == 2
    assert file.read_text() == "mine"
    assert left_in(file.parent) == [file.name]


def no_links(*_: object) -> None:
    raise PermissionError(errno.EPERM, "no links here")


def test_a_file_system_without_links_will_do(
    server: FakeServer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    assert main(["snapshot", server.address, "--save", str(file)]) == 0
    assert file.read_bytes() == server.whole
    assert left_in(file.parent) == [file.name]


def test_a_place_that_is_none(
    server: FakeServer, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["snapshot", server.address, "--save", str(file / "x")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not server.asked


def test_a_disk_that_is_full_leaves_nothing(
    server: FakeServer,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    assert main(["snapshot", server.address, "--save", str(file)]) == 1
    assert "can't be written: No space left" in capsys.readouterr().err
    assert left_in(file.parent) == []


def test_one_that_takes_long_is_waited_for(server: FakeServer, pauses: list[float]) -> None:
    server.busy = 5
    assert main(["snapshot", server.address]) == 0
    first, again = "POST /snapshot?index=7", ["GET /status"] * 5
    assert server.asked == ["GET /status", first, *again, first]
    assert pauses == [1.0] * 5


def test_who_is_busy_for_ever_is_given_up(
    server: FakeServer, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.busy = 1000
    monkeypatch.setattr(snapshot, "_ROUNDS", 3)
    monkeypatch.setattr(snapshot, "_LOOKS", 4)
    assert main(["snapshot", server.address]) == 3
    assert len(pauses) == 12
    assert sum(asked.startswith("POST") for asked in server.asked) == 3


def test_who_vanishes_while_it_is_busy(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.busy = 5
    monkeypatch.setattr(snapshot, "pause", lambda _: server.broken.update({"/status": (0, b"")}))
    assert main(["snapshot", server.address]) == 3


def test_nothing_is_applied_yet(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.applied = 0
    assert main(["snapshot", server.address]) == 3
    assert "nothing yet" in capsys.readouterr().err
    assert server.asked == ["GET /status"]


def test_one_that_makes_way_for_another_is_fetched_anew(server: FakeServer, file: Path) -> None:
    def replace() -> None:
        if len(server.asked) == 5 and server.summary.head.index == 7:
            server.summary, server.whole = a_snapshot(index=9)
            server.size = server.summary.size
            server.gone = 1

    server.on_piece = replace
    assert main(["snapshot", server.address, "--save", str(file)]) == 0
    assert file.read_bytes() == server.whole


def test_one_that_is_always_gone_is_given_up(
    server: FakeServer, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.gone = 1000
    assert main(["snapshot", server.address, "--save", str(file)]) == 3
    assert server.gone == 995
    assert "made way" in capsys.readouterr().err
    assert left_in(file.parent) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda server: setattr(server, "whole", server.whole[:300] + b"?" + server.whole[301:]),
        lambda server: setattr(server, "whole", server.whole[:300]),
        lambda server: setattr(server, "whole", b""),
        lambda server: setattr(server, "whole", server.whole + b"more"),
        lambda server: setattr(server, "size", server.size + 1),
        lambda server: setattr(server, "size", server.size - 1),
        lambda server: setattr(server, "summary", a_snapshot(index=8)[0]),
    ],
)
def test_what_comes_damaged_is_not_kept(
    damage: Callable[[FakeServer], None],
    server: FakeServer,
    file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(server)
    assert main(["snapshot", server.address, "--save", str(file)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("trioraft: ProtocolError: what came is ")
    assert err.count("\n") == 1
    assert left_in(file.parent) == []


@pytest.mark.parametrize(
    ("path", "answer", "exit_status"),
    [
        ("/snapshot", problem(500, "TypeError"), 1),
        ("/snapshot", problem(503, "ServerStopped"), 3),
        ("/snapshot", problem(404, "NotFound"), 2),
        ("/snapshot", (0, b""), 3),
        ("/snapshot", (200, {"index": 7}), 1),
        ("/snapshot", (200, {"index": 7, "term": 1, "size": "9", "digest": ""}), 1),
        ("/status", (200, {"name": "n1"}), 1),
        ("/status", (200, {"name": "n1", "last_applied": "7"}), 1),
        ("/status", (0, b""), 3),
        ("/snapshot/piece", problem(503, "ServerStopped"), 3),
        ("/snapshot/piece", (0, b""), 3),
        ("/snapshot/piece", (500, b"<html>"), 1),
    ],
)
def test_errors(
    path: str,
    answer: tuple[int, Any],
    exit_status: int,
    server: FakeServer,
    file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.broken[path] = answer
    assert main(["snapshot", server.address, "--save", str(file)]) == exit_status
    assert capsys.readouterr().err.count("\n") == 1
    assert left_in(file.parent) == []


def test_nobody_there(server: FakeServer) -> None:
    assert main(["snapshot", "ws://127.0.0.1:1"]) == 3
