"""`trioraft do`, `read` and `status`: what they send, print, and conclude."""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from trioraft._cli import main

PUT = '{"put": {"key": "x", "value": "1"}}'
DONE = {"result": None, "index": 7, "term": 3, "token": "c/7"}


class Answering:
    """A socket that reads one request, and answers with what the test says."""

    def __init__(self, answer: bytes) -> None:
        self.heard = b""
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        near, _ = self._listener.accept()
        with near:
            while b"\r\n\r\n" not in self.heard or not self._complete():
                data = near.recv(1 << 16)
                if not data:
                    return
                self.heard += data
            near.sendall(self._answer)

    def _complete(self) -> bool:
        head, _, body = self.heard.partition(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                return len(body) >= int(value)
        return True

    def close(self) -> None:
        self._thread.join(5)
        self._listener.close()


@contextmanager
def answering(status: int, told: object) -> Iterator[Answering]:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    head = f"HTTP/1.1 {status} \r\nContent-Length: {len(body)}\r\n\r\n".encode()
    server = Answering(b"" if status == 0 else head + body)
    yield server
    server.close()


def problem(outcome: str, error: str = "Error") -> dict[str, object]:
    return {"error": error, "message": "what\x1b happened", "outcome": outcome, "leader": None}


def test_do(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(200, DONE) as server:
        assert main(["do", f"ws://{server.address}", PUT, "--session", "12/5"]) == 0
    assert server.heard.startswith(b"POST /do HTTP/1.1\r\n")
    assert b"\r\nTrioraft-Session: 12/5\r\n" in server.heard
    assert server.heard.endswith(PUT.encode())
    assert capsys.readouterr().out == 'result  null\nindex   7\nterm    3\ntoken   "c/7"\n'


def test_do_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(200, DONE) as server:
        assert main(["do", f"http://{server.address}/", PUT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == DONE


def test_do_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PUT.encode())))
    with answering(200, DONE) as server:
        assert main(["do", f"ws://{server.address}", "-"]) == 0
    assert server.heard.endswith(PUT.encode())


def test_read(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"result": "é\u202e", "consistency": "at_least", "index": 7, "age": None}
    with answering(200, told) as server:
        more = ["--consistency", "at_least", "--token", "c/7"]
        assert main(["read", f"ws://{server.address}", PUT, *more]) == 0
    assert server.heard.startswith(b"POST /read?consistency=at_least&token=c%2F7 HTTP/1.1\r\n")
    assert 'result       "é\\u202e"\n' in capsys.readouterr().out


def test_read_no_older_than() -> None:
    with answering(200, DONE) as server:
        more = ["--consistency", "max_age", "--seconds", "1.5"]
        assert main(["read", f"ws://{server.address}", PUT, *more]) == 0
    assert server.heard.startswith(b"POST /read?consistency=max_age&seconds=1.5 HTTP/1.1\r\n")


def test_status(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"name": "n1", "term": 3, "peers": [{"name": "n2", "connected": True}], "missing": []}
    with answering(200, told) as server:
        assert main(["status", f"ws://{server.address}"]) == 0
    assert server.heard.startswith(b"GET /status HTTP/1.1\r\n")
    assert capsys.readouterr().out == (
        'name     "n1"\nterm     3\npeers\n  name "n2", connected true\nmissing  []\n'
    )


@pytest.mark.parametrize(
    ("status", "told", "done", "read"),
    [
        (400, problem("not done"), 2, 2),
        (403, problem("not done"), 2, 2),
        (413, problem("not done"), 2, 2),
        (409, problem("done"), 1, 1),
        (500, problem("done"), 1, 1),
        (500, problem("unknown"), 4, 4),
        (503, problem("not done"), 3, 3),
        (504, problem("unknown"), 4, 4),
        (0, None, 4, 3),
        (200, b"<html>", 4, 1),
        (200, [1], 4, 1),
        (200, {"hello": 1}, 4, 1),
        (200, b"[" * 100_000, 4, 1),
        (404, b"", 4, 1),
    ],
)
def test_errors(
    status: int, told: object, done: int, read: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, expected in (("do", done), ("read", read)):
        with answering(status, told) as server:
            assert main([command, f"ws://{server.address}", PUT]) == expected
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("trioraft: ")
        assert err.count("\n") == 1
        assert "\x1b" not in err
        with answering(status, told) as server:
            assert main([command, f"ws://{server.address}", PUT, "--json"]) == expected
        out, err = capsys.readouterr()
        assert set(json.loads(out)) == {"error", "message", "outcome", "leader"}
        assert err == ""


def test_an_answer_that_breaks_off() -> None:
    server = Answering(b"HTTP/1.1 200 \r\nContent-Length: 100\r\n\r\n{")
    assert main(["do", f"ws://{server.address}", PUT]) == 4
    server.close()


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for command in (["do", PUT], ["read", PUT], ["status"]):
        assert main([command[0], f"ws://127.0.0.1:{port}", *command[1:]]) == 3
        assert "can't be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["do"],
        ["do", "127.0.0.1:1", PUT],
        ["do", "wss://127.0.0.1:1", PUT],
        ["do", "ws://127.0.0.1:1", "{"],
        ["do", "ws://127.0.0.1:1", '{"a": NaN}'],
        ["do", "ws://127.0.0.1:1", '{"a": 1, "a": 2}'],
        ["read", "ws://127.0.0.1:1", PUT, "--consistency", "strong"],
        ["status", "ws://127.0.0.1:1", "ws://127.0.0.1:2"],
        ["nothing"],
        [],
    ],
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_a_session_that_is_no_header() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["do", address, PUT, "--session", "1\n/2"]) == 2


@pytest.mark.parametrize(
    "command", ["do", "read", "status", "snapshot", "serve", "inspect", "check"]
)
def test_help_tells_the_exit_statuses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "exit status:\n  0  " in capsys.readouterr().out
