"""`python -m trioraft.testing`: fuzzing, and replaying what it found."""

from __future__ import annotations

import re

import attrs
import pytest

from trioraft import Server
from trioraft.testing import Profile, _experiment, _fuzz
from trioraft.testing import __main__ as command
from trioraft.testing.__main__ import main


@pytest.fixture(autouse=True)
def runs_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers are forked, so they have it too."""

    def short(profile: Profile) -> _experiment.Experiment:
        return attrs.evolve(_experiment.library(profile), servers=(3,), seconds=1.0)

    for module in (command, _fuzz):
        monkeypatch.setattr(module, "library", short)


def test_fuzzing_runs_seeds_in_parallel_and_sums_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", "--seeds", "3", "--first", "20", "--jobs", "2", "--profile", "calm"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("3 seeds (")
    for word in ("cluster-hours", "faults: 0", "commands:", "elections won: 3", "a second"):
        assert word in out


def test_fuzzing_may_be_bounded_by_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", "--minutes", "0.001", "--jobs", "1", "--profile", "calm"]) == 0
    assert re.match(r"[1-9]\d* seeds", capsys.readouterr().out)


def test_a_failing_seed_is_shortened_and_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = Server.do

    async def twice(self: Server, command: object) -> object:
        await once(self, command)  # type: ignore[arg-type]
        return await once(self, command)  # type: ignore[arg-type]

    monkeypatch.setattr(Server, "do", twice)
    assert main(["fuzz", "--seeds", "1", "--first", "1", "--jobs", "1", "--profile", "calm"]) == 1
    out, err = capsys.readouterr()
    assert "seed 1 fails: " in err
    found = re.search(r"replay: python -m trioraft.testing replay --profile calm (\S+)", out)
    assert found is not None, out
    assert main(["replay", "--profile", "calm", found[1]]) == 1
    assert "PropertyBroken" in capsys.readouterr().out


def test_a_replay_tells_the_whole_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--profile", "calm", "5"]) == 0
    out = capsys.readouterr().out
    assert "leads in term 1" in out
    assert re.search(r"digest: [0-9a-f]{16}", out)
    assert main(["replay", "--profile", "calm", "5"]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("arguments", [[], ["fuzz", "--jobs", "x"], ["replay", "x"], ["dance"]])
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
