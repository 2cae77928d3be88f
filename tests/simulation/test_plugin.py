"""The fixture as users meet it: in a project of their own, by pytest's command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

COUNTER = """
from random import Random
import attrs
import trioraft

@trioraft.command("add")
@attrs.frozen
class Add:
    amount: int
    def apply(self, counter, applied):
        counter.total += self.amount
        return counter.total

class Counter:
    commands = (Add,)
    def __init__(self):
        self.total = 0
    def save(self):
        return str(self.total).encode()
    def recover(self, state):
        self.total = int(state)

def draw(chance: Random):
    return Add(chance.randrange(10))
"""


def pytest_in(
    directory: Path, test: str, *options: str, machine: str = COUNTER
) -> subprocess.CompletedProcess[str]:
    (directory / "counter.py").write_text(machine)
    (directory / "test_counter.py").write_text("from counter import Counter, draw\n" + test)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=directory,
        env=os.environ | {"PYTEST_ADDOPTS": "", "PYTHONHASHSEED": "random"},
        capture_output=True,
        text=True,
        check=False,
    )


GOOD = """
def test_counter(raft_simulation):
    raft_simulation(Counter, draw, runs=3, seconds=1.0)
"""

BAD = """
def small(counter):
    assert counter.total < 60

def test_counter(raft_simulation):
    raft_simulation(Counter, draw, check=small, runs=3, seconds=3.0)
"""


def test_a_good_machine_passes_without_any_set_up(tmp_path: Path) -> None:
    ran = pytest_in(tmp_path, GOOD)
    assert ran.returncode == 0, ran.stdout
    assert "1 passed" in ran.stdout


@pytest.mark.unmeasured
def test_a_failure_prints_one_line_that_replays_it_in_another_process(tmp_path: Path) -> None:
    first = pytest_in(tmp_path, BAD)
    assert first.returncode == 1
    found = re.search(
        r"seed 0 fails, at commit \S+; to replay: python -m pytest "
        r"test_counter.py::test_counter --raft-replay '(\S+)'",
        first.stdout,
    )
    assert found is not None, first.stdout
    again = pytest_in(tmp_path, BAD, "--raft-replay", found[1])
    assert again.returncode == 1

    def tale(output: str) -> list[str]:
        return [line for line in output.splitlines() if "->" in line or "SimulationFailed" in line]

    assert tale(first.stdout)
    assert tale(first.stdout) == tale(again.stdout)


def test_the_command_line_says_how_many_seeds(tmp_path: Path) -> None:
    count = """
seeds = []
def test_counter(raft_simulation, monkeypatch):
    import trioraft.testing._fixture as fixture
    play = fixture.play
    monkeypatch.setattr(fixture, "play", lambda s: seeds.append(s.seed) or play(s))
    raft_simulation(Counter, draw, runs=1, seconds=0.2)
    assert seeds == [0, 1, 2, 3]
"""
    assert pytest_in(tmp_path, count, "--raft-runs", "4").returncode == 0


def test_a_trial_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    ran = pytest_in(tmp_path, GOOD, "--raft-replay", "yesterday")
    assert ran.returncode == 4
    assert "names no trial" in ran.stderr


@pytest.mark.unmeasured
@pytest.mark.parametrize("limit", [10**9, 5])
def test_hypothesis_may_drive_it(tmp_path: Path, limit: int) -> None:
    test = f"""
from hypothesis import Phase, given, settings, strategies as st
from trioraft.testing.strategies import fault_plans

def small(counter):
    assert counter.total < {limit}

@settings(max_examples=6, deadline=None, database=None, phases=[Phase.generate, Phase.shrink])
@given(data=st.data())
def test_counter(raft_simulation, data):
    seed = data.draw(st.integers(0, 50), label="seed")
    plan = data.draw(fault_plans(["n1", "n2", "n3"], seconds=0.3, most=2), label="faults")
    raft_simulation(Counter, draw, check=small, seed=seed, plan=plan, seconds=0.4, pause=0.01)
"""
    ran = pytest_in(tmp_path, test)
    if limit > 5:
        assert ran.returncode == 0, ran.stdout
    else:
        assert ran.returncode == 1
        assert "Draw 1 (seed): 0" in ran.stdout
        assert "Draw 2 (faults): []" in ran.stdout, "shrunk to no fault at all"


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("import time\n        return time.time()", "it follows the time, chance, an address"),
        ("return list({'a', 'b', 'c', 'd', str(self.amount)})", "it follows the order of a set"),
        ("return MEMO.setdefault(applied.index, self.amount)", "something outlives the machine"),
        ("print('added')\n        return counter.total", None),
    ],
)
def test_what_only_another_process_shows_is_explained(
    tmp_path: Path, change: str, finding: str | None
) -> None:
    changed = "MEMO = {}\n" + COUNTER.replace("return counter.total", change)
    test = GOOD.replace("runs=3", "runs=3, linearizable=False")
    ran = pytest_in(tmp_path, test, machine=changed)
    assert ran.returncode == (0 if finding is None else 1), ran.stdout
    assert finding is None or finding in ran.stdout


def test_a_recover_that_forgets_is_seen(tmp_path: Path) -> None:
    changed = COUNTER.replace("self.total = int(state)", "self.total = int(state) // 2")
    ran = pytest_in(tmp_path, GOOD.replace("runs=3", "linearizable=False"), machine=changed)
    assert "`recover` brings back another state" in ran.stdout


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("runs=0", "0 runs would show nothing"),
        ("plan=[Fault(0.1, 'explode', 'n1')]", "there is no fault 'explode'"),
        ("plan=[Fault(0.1, 'kill', 'n9')]", "names a server that is not one of n1, n2, n3"),
    ],
)
def test_what_can_not_be_tried_is_refused_before_anything_runs(
    tmp_path: Path, options: str, complaint: str
) -> None:
    test = GOOD.replace("runs=3", options).replace("\ndef", "\nfrom trioraft.testing import *\ndef")
    ran = pytest_in(tmp_path, test)
    assert f"ValueError: {complaint}" in ran.stdout or complaint in ran.stdout
    assert "SimulationFailed" not in ran.stdout


def test_a_trial_of_another_test_is_refused(tmp_path: Path) -> None:
    ran = pytest_in(tmp_path, GOOD, "--raft-replay", "1:s=0.4,f=77,c=all")
    assert "is not of this test" in ran.stdout
