"""Real processes: a cluster grows, loses its majority for good, and goes on by the command line."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from trioraft._cli import main

from .test_cluster import Cluster, cluster, until

pytestmark = pytest.mark.processes

__all__ = ["cluster"]


@pytest.fixture
def line(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> Line:
    return Line(cluster, capsys)


class Line:
    """The command line, in this process: only the servers are processes of their own."""

    def __init__(self, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
        self._cluster = cluster
        self._capsys = capsys

    def told(self, command: str, *arguments: str) -> Any:
        """What a command that succeeds says."""
        self._capsys.readouterr()
        status = main([command, *arguments, "--json"])
        out, err = self._capsys.readouterr()
        assert status == 0, err
        return json.loads(out)

    def ask(self, command: str, number: int, *arguments: str) -> Any:
        """The same of one that asks a server."""
        return self.told(command, self._cluster.address(number), *arguments)

    def voters(self, number: int) -> list[str]:
        return [row["name"] for row in self.ask("members", number)["voters"]]

    def add(self, number: int, *more: str) -> Any:
        return self.ask("add-peer", 0, f"n{number}", self._cluster.address(number), *more)

    def put(self, number: int, key: str) -> None:
        self.ask("do", number, json.dumps({"put": {"key": key, "value": key}}))

    def get(self, number: int, key: str) -> str:
        answer = self.ask("read", number, json.dumps({"get": {"key": key}}))
        found: str = answer["result"]["value"]
        return found


def test_a_cluster_grows_shrinks_and_survives_a_disaster(
    cluster: Cluster, line: Line, tmp_path: Path
) -> None:
    cluster.start_alone(0, "--initial-cluster", f"n0={cluster.address(0)}")
    until(lambda: cluster.healthy(0))
    line.put(0, "before")

    for number in (1, 2):
        cluster.start_alone(number)
        until(lambda n=number: not refused(cluster, n))
        assert len(line.add(number, "--plan")["phases"]) == 3
        line.add(number)
    until(lambda: cluster.healthy(0, 1, 2))
    assert line.voters(2) == ["n0", "n1", "n2"]
    assert line.ask("transfer", 0, "n1") == {"leader": "n1"}
    until(lambda: line.ask("status", 0)["leader"] == "n1")
    line.ask("remove-peer", 0, "n2")
    assert line.voters(0) == ["n0", "n1"]
    assert cluster.processes.pop(2).wait(20) == 0
    shutil.rmtree(tmp_path / "n2")
    cluster.start_alone(2)
    until(lambda: not refused(cluster, 2))
    line.add(2)
    line.put(2, "acknowledged")
    index = line.ask("status", 2)["commit_index"]
    until(lambda: line.ask("status", 0)["last_applied"] >= index)

    for number in (0, 1, 2):
        cluster.stop(number, signal.SIGKILL)
    for number in (1, 2):
        shutil.rmtree(tmp_path / f"n{number}")
    recover = ["recover", str(tmp_path / "n0"), "--members", f"n0={cluster.address(0)}"]
    dry = line.told(*recover, "--dry-run")
    assert [row["name"] for row in dry["voters"]] == ["n0", "n1", "n2"]
    assert not dry["has_majority"]
    done = line.told(*recover)
    assert done["advice"] == dry["advice"]

    cluster.start_alone(0)
    until(lambda: cluster.healthy(0))
    assert line.ask("status", 0)["cluster"] == done["new_cluster"]
    assert line.get(0, "before") == "before"
    assert line.get(0, "acknowledged") == "acknowledged"
    for number in (1, 2):
        cluster.start_alone(number)
        until(lambda n=number: not refused(cluster, n))
        line.add(number)
    assert line.voters(0) == ["n0", "n1", "n2"]
    until(lambda: cluster.healthy(0, 1, 2))
    line.put(2, "after")
    assert line.get(1, "after") == "after"


def refused(cluster: Cluster, number: int) -> bool:
    """Whether nobody listens there yet."""
    try:
        cluster.ask(number, "GET", "/status")
    except OSError:
        return True
    return False
