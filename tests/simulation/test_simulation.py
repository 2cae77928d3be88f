"""Whole runs: they pass, they replay to the byte anywhere, and failures are found and shortened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import attrs
import pytest
import trio

import trioraft
from tests.server.worlds import Room
from trioraft.testing import CALM, Fault, NotInTime, PropertyBroken
from trioraft.testing._experiment import Experiment, Trial, library
from trioraft.testing._shorten import shorten
from trioraft.testing._simulation import Report, play
from trioraft.testing._telling import story, summary, told
from trioraft.testing._workload import Add, Get, Put, RegisterModel, Registers, draw_command

SEEDS = [
    int(line.split()[0])
    for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def run(seed: int, experiment: Experiment) -> Report:
    return play(experiment.scenario(Trial(seed)))


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", SEEDS)
def test_what_once_failed_does_not_fail_again(seed: int) -> None:
    """The list grows by each seed that found something; see `seeds.txt`."""
    assert run(seed, library()).failure is None


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(5))
def test_a_calm_cluster_elects_once_and_does_all_that_it_is_asked(seed: int) -> None:
    report = run(seed, attrs.evolve(library(CALM), seconds=5.0))
    assert report.failure is None
    assert report.counts["elections"] == 1
    assert report.commands["unknown"] <= 3, "what was under way at the end"
    assert report.commands["done"] > 100
    assert report.counts["undecided"] == 0


def test_a_harsh_cluster_is_upset_and_survives() -> None:
    reports = [run(seed, attrs.evolve(library(), seconds=4.0)) for seed in range(4)]
    assert not [report.failure for report in reports if report.failure]
    assert sum(report.counts["elections"] for report in reports) > 8
    assert sum(sum(report.faults.values()) for report in reports) > 20
    assert max(report.recovered_in for report in reports) < 1.5
    told_in_short = summary(reports)
    assert "4 seeds" in told_in_short
    assert "virtual cluster-hours" in told_in_short


CHILD = """
from attrs import evolve
from trioraft.testing._experiment import Trial, library
from trioraft.testing._simulation import play
experiment = evolve(library(), seconds=1.5, websockets=0.3)
for seed in range(6):
    report = play(experiment.scenario(Trial(seed)))
    assert report.failure is None, report.failure
    print(report.digest, report.virtual_seconds, sorted(report.commands.items()))
"""


def test_equal_seeds_make_equal_runs_in_every_process_whatever_its_hash_seed() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", CHILD],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "1", "random")
    }
    assert len(said) == 1
    assert len({line.split()[0] for line in said.pop().splitlines()}) == 6


def test_a_run_is_the_same_alone_and_behind_others() -> None:
    experiment = attrs.evolve(library(), seconds=1.0)
    alone = run(3, experiment)
    for seed in (0, 1, 2):
        run(seed, experiment)
    again = run(3, experiment)
    assert (alone.digest, alone.story) == (again.digest, again.story)


# -- what fails --------------------------------------------------------------------------------


@trioraft.command("get")
@attrs.frozen
class StaleGet(Get):
    """Sometimes answers what was there a while ago: every server alike, so no server differs."""

    def apply(self, registers: Any, applied: trioraft.Applied) -> int | None:
        registers.past.append(registers.values.get(self.key))
        return (
            registers.past[-3]
            if applied.index % 7 == 0 and len(registers.past) > 2
            else (registers.past[-1])
        )


class Stale(Registers):
    commands: ClassVar = (Put, StaleGet, Add)

    def __init__(self) -> None:
        super().__init__()
        self.past: list[int | None] = []


def draw_stale(chance: Random) -> Any:
    return chance.choice([Put("a", chance.randrange(100)), StaleGet("a")])


class Honest(RegisterModel):
    """What such a machine should have answered."""

    def apply(self, state: int | None, given: Any) -> tuple[int | None, Any]:
        return super().apply(state, Get(given.key) if isinstance(given, StaleGet) else given)


STALE = Experiment(Stale, draw_stale, profile=CALM, seconds=3.0, pause=0.02, model=Honest())


@pytest.mark.unmeasured
def test_a_history_that_is_not_linearizable_is_found_and_shortened() -> None:
    report = run(1, STALE)
    assert isinstance(report.failure, PropertyBroken)
    assert "not linearizable" in str(report.failure)
    tries: list[str] = []
    trial, shortest = shorten(STALE, report, tries.append)
    assert isinstance(shortest.failure, PropertyBroken)
    assert len(trial.commands or ()) <= 8 < len(report.drawn)
    assert tries
    text = told(STALE.scenario(trial), shortest, f"replay {trial}")
    assert text.startswith("seed 1 fails, at commit ")
    assert f"to replay: replay {trial}" in text.splitlines()[0]
    again = play(STALE.scenario(Trial.parse(str(trial))))
    assert (again.digest, str(again.failure)) == (shortest.digest, str(shortest.failure))


class Late(Room):
    """One server's machine gives up: `MemoryError` stops its server, so it can't recover."""

    def heard(self, text: str, applied: trioraft.Applied) -> None:
        super().heard(text, applied)
        if len(self.lines) == 5:
            raise MemoryError("too many lines")


def draw_say(chance: Random) -> Any:
    from tests.server.worlds import Say

    return Say(str(chance.random()))


def test_a_machine_that_stops_its_server_fails_the_run_by_what_it_raised() -> None:
    report = run(1, Experiment(Late, draw_say, profile=CALM, seconds=2.0))
    assert isinstance(report.failure, MemoryError)
    assert report.failed_after is not None
    assert report.failed_after < 2


def test_a_cluster_that_does_not_recover_in_time_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioraft.testing._simulation.RECOVERY", 0.1)
    plan = [Fault(0.5, "blackout", "n1", seconds=5)]
    experiment = Experiment(Registers, draw_command, plan=plan, seconds=1.0)
    report = run(1, experiment)
    assert isinstance(report.failure, NotInTime)
    assert "did not come to hold within 0.015 s" in str(report.failure)
    assert report.failed_after is None


def test_a_lost_command_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The callers' books against the servers': an acknowledgement that no entry stands behind."""

    async def forgetful(self: Any, command: Any) -> Any:
        await trio.sleep(0.001)
        return 7

    monkeypatch.setattr(trioraft.Server, "do", forgetful)
    report = run(1, attrs.evolve(library(CALM), seconds=0.5))
    assert "was acknowledged" in str(report.failure)
    assert "applied 0 times" in str(report.failure)


def test_a_command_that_is_done_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    once = trioraft.Server.do

    async def twice(self: Any, command: Any) -> Any:
        await once(self, command)
        return await once(self, command)

    monkeypatch.setattr(trioraft.Server, "do", twice)
    report = run(1, attrs.evolve(library(CALM), seconds=0.5, model=None))
    assert "times; " in str(report.failure)
    assert "are unknown" in str(report.failure)


class Unequal(Registers):
    """Saves what no command has put there."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        Unequal.made += 1
        self.number = Unequal.made

    def save(self) -> bytes:
        return b"%d" % self.number


def test_machines_with_equal_histories_and_unequal_states_are_seen() -> None:
    report = run(1, Experiment(Unequal, draw_command, profile=CALM, seconds=0.5))
    assert "their states differ" in str(report.failure)


# -- names and stories -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trial",
    [
        Trial(7),
        Trial(7, (), 1.25),
        Trial(7, (0, 3), 1.25, ()),
        Trial(4711, (2,), 0.000123, (1, 22, 333)),
    ],
)
def test_a_trial_is_read_as_it_is_written(trial: Trial) -> None:
    assert Trial.parse(str(trial)) == trial


@pytest.mark.parametrize("text", ["", "x", "7:", "7:s=1", "-1", "7:s=1,f=x,c=all", "7 "])
def test_what_names_no_trial_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names no trial"):
        Trial.parse(text)


def test_a_trial_keeps_what_it_names() -> None:
    whole = library().scenario(Trial(12))
    part = library().scenario(Trial(12, (0, 2), 1.5, (4,)))
    assert part.plan == (whole.plan[0], whole.plan[2])
    assert (part.seconds, part.commands) == (1.5, (4,))


def test_a_long_story_is_told_from_its_end() -> None:
    report = Report(1, 3, 1.0, story=[(float(n), "n1", f"event {n}") for n in range(10)])
    assert story(report, 10)[0] == "   0.0000  n1     event 0"
    assert story(report, 3)[:2] == ["(7 lines before these)", "   7.0000  n1     event 7"]
