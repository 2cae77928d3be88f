"""`trioraft members`, `add-peer`, ...: what they ask, whom, how often, and what they print."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from trioraft._cli import main, members


class FakeServer:
    """Answers one thing after the other; the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: list[tuple[int, Any]] = [(200, {"index": 12})]
        self._http = HTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"ws://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=[0.005])
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def leads_at(self, address: object) -> None:
        """From here on another one leads."""
        told = problem("NotLeaderError", leader="n2", address=address)
        self.answers = [(503, told)]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = f"{self.command} {self.path}"
                server.asked.append((asked, json.loads(body) if body else None))
                left = server.answers
                status, told = left.pop(0) if len(left) > 1 else left[0]
                if status == 0:
                    return
                data = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def problem(error: str, outcome: str = "not done", **more: Any) -> dict[str, Any]:
    return {"error": error, "message": "why", "outcome": outcome, "leader": None, **more}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    made = FakeServer()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def leader() -> Iterator[FakeServer]:
    made = FakeServer()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    made: list[None] = []
    monkeypatch.setattr(members, "pause", lambda: made.append(None))
    return made


PLACE = {"name": "n4", "address": "ws://h4:1"}


@pytest.mark.parametrize(
    ("command", "verb", "fields"),
    [
        (["add-peer", "n4", "h4:1"], "add", PLACE),
        (["add-peer", "n4", "ws://h4:1", "--learner"], "add-learner", PLACE),
        (["remove-peer", "n4"], "remove", {"name": "n4"}),
        (["change-address", "n4", "h4:1"], "address", PLACE),
        (
            ["change-membership", "n1=h1:1,n4=h4:1"],
            "change",
            {"members": {"n1": "ws://h1:1", "n4": "ws://h4:1"}},
        ),
    ],
)
def test_each_command(
    command: list[str],
    verb: str,
    fields: Any,
    server: FakeServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, *arguments = command
    assert main([name, server.address, *arguments]) == 0
    assert capsys.readouterr().out == "index  12\n"
    assert main([name, server.address, *arguments, "--expect", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"index": 12}
    assert server.asked == [
        (f"POST /members/{verb}", fields),
        (f"POST /members/{verb}?expect=7", fields),
    ]
    server.answers = [(200, {"phases": [{"phase": "before"}], "advice": ["Mind this."]})]
    assert main([name, server.address, *arguments, "--plan"]) == 0
    assert capsys.readouterr().out == 'phases\n  phase "before"\n\nMind this.\n'
    assert main([name, server.address, *arguments, "--plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["advice"] == ["Mind this."]
    assert server.asked[2:] == [("POST /members/plan", {verb: fields})] * 2


def test_leadership_is_handed_over(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers = [(200, {"leader": "n2"})]
    assert main(["transfer", server.address]) == 0
    assert capsys.readouterr().out == 'leader  "n2"\n'
    assert main(["transfer", server.address, "n2"]) == 0
    path = "POST /members/transfer"
    assert server.asked == [(path, {}), (path, {"name": "n2"})]


def test_who_belongs(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"name": "n1", "address": "ws://h1:1", "connected": True, "match_index": 8}]
    server.answers = [(200, {"index": 5, "voters": rows, "outgoing": [], "learners": []})]
    assert main(["members", server.address]) == 0
    out = capsys.readouterr().out
    assert 'voters\n  name "n1", address "ws://h1:1", connected true, match_index 8\n' in out
    assert "learners  []" in out
    assert server.asked == [("GET /members", None)]
    server.answers = [(200, {"index": "5", "voters": rows})]
    assert main(["members", server.address]) == 1


def test_the_leader_is_followed(server: FakeServer, leader: FakeServer) -> None:
    server.leads_at(leader.address)
    assert main(["remove-peer", server.address, "n3", "--expect", "5"]) == 0
    assert server.asked == leader.asked == [("POST /members/remove?expect=5", {"name": "n3"})]
    assert main(["transfer", server.address]) == 4  # what answers is no server
    assert len(leader.asked) == 2


@pytest.mark.parametrize("address", [None, "nonsense", "mem://n2", 7])
def test_one_that_can_not_be_followed(
    address: object, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.leads_at(address)
    assert main(["remove-peer", server.address, "n3"]) == 3
    assert capsys.readouterr().err == "trioraft: NotLeaderError: why\n"
    assert len(server.asked) == 1


def test_two_that_name_each_other_are_given_up(server: FakeServer, leader: FakeServer) -> None:
    server.leads_at(leader.address)
    leader.leads_at(server.address)
    assert main(["add-peer", server.address, "n4", "h4:1"]) == 3
    assert len(server.asked) + len(leader.asked) == 3


def late(index: int) -> tuple[int, Any]:
    return 503, problem("Busy", catching_up=["n4"], index=index)


def test_one_that_is_catching_up_is_asked_for_again(
    server: FakeServer, pauses: list[None], capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers = [late(8), late(8), (200, {"index": 12})]
    assert main(["add-peer", server.address, "n4", "h4:1"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("index  12\n", "trioraft: why\n" * 2)
    assert server.asked == [("POST /members/add", PLACE)] * 3
    assert len(pauses) == 2


def test_what_was_expected_is_so_by_then(server: FakeServer) -> None:
    server.answers = [late(8), late(8), (409, problem("MembershipError"))]
    assert main(["add-peer", server.address, "n4", "h4:1", "--expect", "5"]) == 1
    assert [asked for asked, _ in server.asked] == [
        f"POST /members/add?expect={index}" for index in (5, 8, 8)
    ]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((409, problem("MembershipError")), 1),
        ((409, problem("TransferFailed")), 1),
        ((400, problem("CommandRejected")), 2),
        ((403, problem("Forbidden")), 2),
        ((503, problem("ServerStopped")), 3),
        ((503, problem("Busy")), 3),
        ((504, problem("OutcomeUnknown", "unknown")), 4),
        ((500, problem("InternalError", "unknown")), 4),
        ((200, {"what": "no server"}), 4),
        ((0, None), 4),
    ],
)
def test_exit_statuses(
    answer: tuple[int, Any],
    status: int,
    server: FakeServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.answers = [answer]
    assert main(["add-peer", server.address, "n4", "h4:1"]) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert len(server.asked) == 1


def test_nobody_there() -> None:
    for command in (["members"], ["remove-peer", "n3"], ["remove-peer", "n3", "--plan"]):
        name, *arguments = command
        assert main([name, "ws://127.0.0.1:1", *arguments]) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["add-peer", "ws://h:1", "n4"],
        ["add-peer", "ws://h:1", "n4", "nonsense"],
        ["add-peer", "ws://h:1", "n4", "h:1", "--plan", "--expect", "5"],
        ["remove-peer", "ws://h:1", "n4", "--expect", "x"],
        ["change-membership", "ws://h:1", "n1"],
        ["change-membership", "ws://h:1", "n1=h:1,n1=h:2"],
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
