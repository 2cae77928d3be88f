"""`trioraft bench`: a cluster of real processes, measured for moments."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trioraft._cli import main

LOADS = ["put", "linearizable", "lease", "inside", "single"]
BRIEF = ["--in-flight", "4", "--seconds", "0.3", "--failover", "1"]


@pytest.mark.processes
def test_everything_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *BRIEF, "--clients", "2", "--dir", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    heading, *rows, failover = told.out.splitlines()
    assert heading.split()[:3] == ["in", "flight", "/s"]
    cells = [row.split() for row in rows]
    assert [row[0] for row in cells] == LOADS
    for what, in_flight, *figures in cells:
        assert in_flight == "4"
        rate, p50, p99, nodes, leader, client, memory = figures[:7]
        assert float(rate) > 0
        assert 0 < float(p50) <= float(p99)
        assert (client == "-") == (what == "inside")
        assert float(nodes) >= float(leader) >= 0
        assert float(memory) > 10
        assert len({len(row) for row in rows}) <= 2, "the columns stand under each other"
    assert failover.startswith("failover: median 0.")
    assert failover.endswith(" s of 1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.processes
def test_json_of_one_part(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--only", "commits,failover", "--servers", "3", "--json"]
    assert main(["bench", *BRIEF, *given]) == 0
    put, failover = map(json.loads, capsys.readouterr().out.splitlines())
    assert put["what"] == "put"
    assert put["rate"] > 0
    assert {"in_flight", "p50", "p99", "longest", "nodes", "leader", "client", "memory"} < set(put)
    assert {"errors", "elections", "clients", "value", "servers"} < set(put)
    assert failover["what"] == "failover"
    assert len(failover["seconds"]) == 1


@pytest.mark.processes
def test_it_is_told_to_stop(tmp_path: Path) -> None:
    given = ["--only", "commits", "--in-flight", "4", "--seconds", "60", "--dir", str(tmp_path)]
    command = [sys.executable, "-m", "trioraft", "bench", *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the heading: its servers are up
        process.send_signal(signal.SIGTERM)
        told = process.communicate()
        assert (told, process.returncode) == ((b"", b"trioraft: told to stop\n"), 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "commits,nonsense"], "no part 'nonsense'"),
        (["--in-flight", "1,many"], "--in-flight"),
        (["--in-flight", "0"], "counted from 1"),
        (["--clients", "0"], "counted from 1"),
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "inf"], "--seconds"),
        (["--servers", "2"], "--servers"),
        (["--value", "-1"], "counted from"),
    ],
)
def test_what_can_not_be_used(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("trioraft: ")
    assert complaint in told.err
    assert told.out == ""


def test_a_directory_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--dir", str(tmp_path / "nowhere")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("trioraft: ")
    assert err.count("\n") == 1
