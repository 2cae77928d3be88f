"""Planted bugs still fit this package, and are killed; `python -m tests.planted` tries them all."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import trioraft
from tests.planted.__main__ import main
from tests.planted.bug import ROOT, Bug, Change
from tests.planted.bugs import BUGS
from tests.planted.profiles import ALL, experiment
from tests.planted.trying import hunt, planted, tried
from trioraft.testing._experiment import Trial
from trioraft.testing._simulation import play

QUICKLY_KILLED = "term forgotten"


def named(name: str) -> Bug:
    return next(bug for bug in BUGS if bug.name == name)


def each_bug() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])


@each_bug()
def test_each_bug_finds_its_place_and_compiles(bug: Bug) -> None:
    texts: dict[str, str] = {}
    for change in bug.changes:
        text = texts.get(change.file) or (ROOT / "trioraft" / change.file).read_text()
        texts[change.file] = change.applied(text)
        assert texts[change.file] != text
    for file, text in texts.items():
        compile(text, file, "exec")


@each_bug()
def test_what_is_said_of_each_bug_makes_sense(bug: Bug) -> None:
    assert bug.story
    assert bug.profile in ALL
    assert bug.directed or not bug.unseen, "somebody must see it"
    if bug.directed is not None:
        file, _, test = bug.directed.partition("::")
        assert test in functions_of(ROOT / file)


def functions_of(path: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, functions)}


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len(BUGS) >= 36
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    assert len({bug.changes for bug in BUGS}) == len(BUGS)


@pytest.mark.unmeasured
@pytest.mark.parametrize("profile", ALL)
def test_without_a_bug_no_seed_fails(profile: str) -> None:
    for seed in range(3 if profile == "harsh" else 1):
        report = play(experiment(profile).scenario(Trial(seed)))
        assert report.failure is None, report.failure


def test_a_change_that_has_lost_its_place_is_refused() -> None:
    text = (ROOT / "trioraft" / "_outbox.py").read_text()
    for old, count in (("no such line", 0), ("self", text.count("self"))):
        with pytest.raises(ValueError, match=f"stands there {count} times, not once"):
            Change("_outbox.py", old, "").applied(text)


def test_what_is_planted_is_what_runs_and_it_is_killed() -> None:
    verdict = tried(named(QUICKLY_KILLED), seeds=3)
    assert verdict.by_chance
    assert verdict.killed_by is not None
    assert verdict.killed_by.startswith("harsh 0 -> PropertyBroken: ")
    assert Path(trioraft.__file__).is_relative_to(ROOT), "it was planted in a copy"


def test_without_a_bug_nothing_is_killed() -> None:
    with planted() as place:
        assert hunt(place, "harsh", 1) == (None, "")


def test_names_that_are_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["no such bug"])
    assert caught.value.code == 2
    assert "no such bug" in capsys.readouterr().err
    assert main(["--list", QUICKLY_KILLED]) == 0
    assert QUICKLY_KILLED in capsys.readouterr().out
