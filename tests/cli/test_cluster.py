"""Three real processes, asked over real sockets, by plain HTTP and by the command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from trioraft._bench.cluster import free_ports

pytestmark = pytest.mark.processes

SECONDS = 20.0
TIMES = ["--heartbeat-interval", "0.1", "--election-timeout", "0.5"]


def trioraft(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "trioraft", *arguments]


class Cluster:
    def __init__(self, directory: Path) -> None:
        self.ports = free_ports(3)
        self.directory = directory
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, number: int, *more: str) -> subprocess.Popen[bytes]:
        cluster = ",".join(f"n{n}=ws://127.0.0.1:{port}" for n, port in enumerate(self.ports))
        return self.start_alone(number, "--initial-cluster", cluster, *more)

    def start_alone(self, number: int, *more: str) -> subprocess.Popen[bytes]:
        """Start a server that is not told of others."""
        command = trioraft(
            "serve", "--name", f"n{number}", "--data", str(self.directory / f"n{number}"),
            "--listen", self.address(number), *TIMES, *more,
        )  # fmt: skip
        with (self.directory / f"n{number}.log").open("ab") as log:
            process = subprocess.Popen(command, stderr=log)
        self.processes[number] = process
        self.all.append(process)
        return process

    def log(self, number: int) -> str:
        return (self.directory / f"n{number}.log").read_text()

    def stop(self, number: int, *signals: signal.Signals) -> int:
        process = self.processes.pop(number)
        for name in signals:
            process.send_signal(name)
        return process.wait(SECONDS)

    def address(self, number: int) -> str:
        return f"ws://127.0.0.1:{self.ports[number]}"

    def ask(
        self, number: int, method: str, target: str, body: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", self.ports[number], timeout=SECONDS)
        try:
            # What curl -d sends.
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request(method, target, body, kind | headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def healthy(self, *numbers: int) -> bool:
        try:
            return all(self.ask(number, "GET", "/healthz")[0] == 200 for number in numbers)
        except OSError:
            return False

    def run(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            trioraft(*arguments), input=given, capture_output=True, text=True, check=False
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        for process in made.all:
            process.kill()
            process.wait()


def until(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_a_cluster_that_is_served_asked_and_stopped(cluster: Cluster) -> None:
    for number in range(3):
        cluster.start(number)
    until(lambda: cluster.healthy(0, 1, 2))

    # Any server, by plain HTTP.
    for number in range(3):
        put = json.dumps({"put": {"key": "x", "value": str(number)}})
        status, told = until(lambda n=number, p=put: _done(cluster.ask(n, "POST", "/do", p)))
        assert status == 200
        assert set(told) == {"result", "index", "term", "token"}
        target = f"/read?consistency=at_least&token={told['token']}"
        status, told = cluster.ask((number + 1) % 3, "POST", target, '{"get": {"key": "x"}}')
        assert (status, told["result"]["value"]) == (200, str(number))
        assert told["consistency"] == "at_least"
    status, told = cluster.ask(0, "POST", "/read", '{"get": {"key": "x"}}')
    assert (status, told["result"]["value"]) == (200, "2")
    assert cluster.ask(1, "POST", "/do", '{"put": {"key": "x"}}')[0] == 400
    assert cluster.ask(1, "POST", "/do", '{"add": {"key": "x", "amount": "1"}}')[0] == 400
    page = {"Origin": "http://evil.example"}
    assert cluster.ask(1, "POST", "/do", put, **page)[0] == 403

    # A repeated command is done once, whoever is asked.
    session = cluster.ask(0, "POST", "/session")[1]["session"]
    once = {"Trioraft-Session": f"{session}/1"}
    answers = [cluster.ask(n, "POST", "/do", '{"add": {"key": "n", "amount": 5}}', **once)
               for n in range(3)]  # fmt: skip
    assert answers[0][0] == 200
    assert answers[0] == answers[1] == answers[2]

    # The command line.
    done = cluster.run("do", cluster.address(0), "-", "--json", given=put)
    assert done.returncode == 0
    assert json.loads(done.stdout)["index"] > 0
    failed = cluster.run("do", cluster.address(0), '{"add": {"key": "k", "amount": 1}}')
    assert failed.returncode == 0
    cluster.run("do", cluster.address(0), '{"put": {"key": "k", "value": "no number"}}')
    failed = cluster.run("do", cluster.address(0), '{"add": {"key": "k", "amount": 1}}')
    assert failed.returncode == 1
    assert failed.stderr.startswith("trioraft: CommandFailed: ValueError: ")
    read = cluster.run("read", cluster.address(1), '{"get": {"key": "x"}}')
    assert read.returncode == 0
    assert '"value": "2"' in read.stdout
    seen = cluster.run("status", cluster.address(2), "--json")
    assert seen.returncode == 0
    told = json.loads(seen.stdout)
    assert {"name", "cluster", "state", "term", "leader", "voted_for", "commit_index",
            "last_applied", "last_index", "last_term", "snapshot_index", "member_count",
            "quorum_size", "peers"} <= set(told)  # fmt: skip

    # Without a majority nothing is done, and it says so.
    assert cluster.stop(0, signal.SIGTERM) == 0
    assert cluster.stop(1, signal.SIGINT) == 0
    until(lambda: not cluster.healthy(2))
    refused = cluster.run("do", cluster.address(2), put)
    assert refused.returncode == 3
    assert cluster.run("do", cluster.address(0), put).returncode == 3
    anything = ("--consistency", "anything", "--json")
    stale = cluster.run("read", cluster.address(2), '{"get": {"key": "x"}}', *anything)
    assert json.loads(stale.stdout)["result"]["value"] == "2"

    # It is all there afterwards.
    cluster.start(0)
    until(lambda: cluster.healthy(0, 2))
    told = until(lambda: _done(cluster.ask(0, "POST", "/read", '{"get": {"key": "n"}}')))[1]
    assert told["result"]["value"] == "5"
    assert cluster.stop(0, signal.SIGTERM) == 0
    assert cluster.stop(2, signal.SIGTERM) == 0
    assert "Traceback" not in "".join(map(cluster.log, range(3)))


def _done(answer: tuple[int, Any]) -> tuple[int, Any] | None:
    """The answer, unless it came to nothing for want of a leader."""
    return None if answer[0] == 503 else answer


def test_what_ends_a_server_is_one_line(cluster: Cluster) -> None:
    cluster.start(0)
    until(lambda: (cluster.directory / "n0").exists() and "listens" in cluster.log(0))
    before = len(cluster.log(0))
    second = cluster.start(0, "--log-level", "error")
    assert second.wait(SECONDS) == 1
    lines = cluster.log(0)[before:].splitlines()
    assert [line for line in lines if line.startswith("trioraft: ")] == [lines[-1]]
    assert "Traceback" not in cluster.log(0)


def test_a_port_that_is_taken(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", cluster.ports[0])):
        process = cluster.start(0)
        assert process.wait(SECONDS) == 1
    assert "trioraft: OSError: " in cluster.log(0)
    assert "Traceback" not in cluster.log(0)
    assert os.listdir(cluster.directory / "n0")
