"""`trioraft check`: what it prints, and what its status says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trioraft._cli import main
from trioraft.testing._operations import Operation

from .test_history import saved

MODELS = """
import attrs
import trioraft
from trioraft.testing._model import MachineModel


@trioraft.command("put")
@attrs.frozen
class Put:
    key: str
    value: int

    def apply(self, machine, applied):
        if self.value < 0:
            raise ValueError("below zero")
        machine.values[self.key] = self.value


@trioraft.query("get")
@attrs.frozen
class Get:
    key: str

    def answer(self, machine):
        return machine.values.get(self.key)


class Store:
    commands = (Put, Get)

    def __init__(self):
        self.values = {}

    def save(self):
        return repr(sorted(self.values.items())).encode()

    def recover(self, state):
        self.values = dict(__import__("ast").literal_eval(state.decode()))


BY_KEY = MachineModel(Store, key=lambda given: given.key)


class Counter:
    def initial(self):
        return 0

    def apply(self, state, given):
        return state + given, state + given

    def key(self, given):
        return None


class Complex(Counter):
    def initial(self):
        return 0j


class Nested:
    Counter = Counter


class Broken(Counter):
    def __init__(self):
        raise SystemExit(0)


class Raising(Counter):
    def apply(self, state, given):
        raise LookupError(given)


class Listed(Counter):
    commands = (Put, Put)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with models and a history, in which the command is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.delitem(sys.modules, "models_of_a_test", raising=False)
    (tmp_path / "models_of_a_test.py").write_text(MODELS)
    write(tmp_path / "good", (5, 5), (1, 6))
    write(tmp_path / "bad", (5, 5), (1, 7))
    return tmp_path


def write(path: Path, *counted: tuple[int, int]) -> None:
    """A history of a counter, with what was added and what it was said to be then."""
    saved(path, *(Operation("a", n, n + 0.5, *two) for n, two in enumerate(counted)))


def check(history: str, model: str = "Counter", *more: str) -> int:
    return main(["check", history, "--model", f"models_of_a_test:{model}", *more])


def test_a_good_history(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("good") == 0
    assert capsys.readouterr().out == "Linearizable: 2 operations on 1 key.\n"


def test_a_bad_history(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("bad") == 1
    out = capsys.readouterr().out
    assert out.startswith("Not linearizable: one operation that no order explains\n")
    assert "[1]  1 -> 7  would return 6\n" in out


def test_a_history_that_is_too_much(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("good", "Counter", "--limit", "1") == 3
    out = capsys.readouterr().out
    assert out == "Undecided: gave up on None, of 1 key.  A larger --limit may tell.\n"


def test_of_many_undecided_keys_some_are_named(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        {
            "client": "c",
            "called": n,
            "returned": n + 0.5,
            "input": {"put": {"key": f"k{n % 12}", "value": n}},
        }
        | {"output": None}
        for n in range(24)
    ]
    (place / "h").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert check("h", "BY_KEY", "--limit", "1") == 3
    out = capsys.readouterr().out
    assert out.startswith("Undecided: gave up on 'k0', 'k1', ")
    assert "'k9' and 2 more, of 12 keys." in out


LINES = """\
{"client": "a", "called": 0, "returned": 1, "input": {"put": {"key": "x", "value": 1}}, "output": null}
{"client": "a", "called": 2, "returned": 3, "input": {"put": {"key": "x", "value": -1}}, "raised": {"type": "ValueError", "message": "below zero"}}
{"client": "b", "called": 4, "returned": 5, "input": {"get": {"key": "x"}}, "output": 1}
"""  # noqa: E501


@pytest.mark.parametrize("model", ["Store", "BY_KEY"])
def test_a_state_machine_is_a_model(
    place: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    (place / "h").write_text(LINES)
    assert check("h", model) == 0
    (place / "h").write_text(LINES.replace('"output": 1}', '"output": 2}'))
    assert check("h", model) == 1
    out = capsys.readouterr().out
    assert "    a  put('x', -1) -> raised ValueError: below zero\n" in out
    assert "[1]  get('x') -> 2  would return 1\n" in out


def test_the_verdict_as_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "h").write_text(LINES)
    assert check("h", "Store", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "verdict": "linearizable",
        "operations": 3,
        "keys": 1,
        "steps": 3,
        "undecided": [],
        "counterexample": None,
    }
    assert check("h", "Store", "--json", "--limit", "1") == 3
    assert json.loads(capsys.readouterr().out)["undecided"] == [None]


def test_a_counterexample_as_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "h").write_text(LINES.replace('"output": 1}', '"output": 2}'))
    assert check("h", "BY_KEY", "--json") == 1
    found = json.loads(capsys.readouterr().out)["counterexample"]
    state = {"base64": "WygneCcsIDEpXQ=="}
    assert found.pop("operations") == [json.loads(LINES.splitlines()[2]) | {"output": 2}]
    assert found.pop("before") == [json.loads(line) for line in LINES.splitlines()[:2]]
    assert found == {
        "key": "x",
        "since": 3.0,
        "end": 5.0,
        "minimal": True,
        "starts": [{"state": state, "used": []}],
        "begin": {"state": state, "used": []},
        "order": [],
        "stuck": [{"operation": 1, "output": 1, "state": state}],
    }


def test_a_state_that_json_has_no_form_for_is_shown_as_python_does(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(place / "h", (5, 6))
    assert check("h", "Complex", "--json") == 1
    found = json.loads(capsys.readouterr().out)["counterexample"]
    assert found["begin"] == {"state": "0j", "used": []}
    assert found["stuck"] == [{"operation": 1, "output": "(5+0j)", "state": "(5+0j)"}]


def test_the_picture_is_drawn_where_there_is_something_to_see(place: Path) -> None:
    assert check("good", "Counter", "--svg", "p.svg") == 0
    assert not (place / "p.svg").exists()
    assert check("bad", "Counter", "--svg", "p.svg") == 1
    assert (place / "p.svg").read_text(encoding="utf-8").startswith("<svg ")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nowhere", "Counter"], "No such file or directory: 'nowhere'"),
        ([".", "Counter"], "Is a directory"),
        (["broken", "Counter"], "broken, line 1: Expecting value"),
        (["good", "Store"], "good, line 1: the input: expected a command's name and its fields"),
        (["good", "Nothing"], "--model: models_of_a_test:Nothing: AttributeError"),
        (["good", "Broken"], "--model: models_of_a_test:Broken: SystemExit"),
        (["good", "Put"], "Put is neither a state machine nor a model"),
        (["good", "Listed"], "ValueError: two commands have the name 'put'"),
        (["good", "Raising"], "the model raised LookupError: 5"),
        (["good", ""], "--model: expected MODULE:NAME, got 'models_of_a_test:'"),
        (["bad", "Counter", "--svg", "no/such/p.svg"], "No such file or directory"),
    ],
)
def test_what_can_not_be_used_is_no_verdict(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], error: str
) -> None:
    (place / "broken").write_text("this\n")
    assert check(*arguments) == 2
    assert error in capsys.readouterr().err


def test_a_module_that_can_not_be_imported(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "not_python.py").write_text("(")
    for module, error in [("not_python", "SyntaxError"), ("no_such_module", "ModuleNotFoundError")]:
        assert main(["check", "good", "--model", f"{module}:Counter"]) == 2
        assert error in capsys.readouterr().err


def test_a_class_within_a_class_is_found(place: Path) -> None:
    assert check("good", "Nested.Counter") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["chek"],
        ["check"],
        ["check", "good"],
        ["check", "good", "--model", "m:M", "--limit", "0"],
        ["check", "good", "--model", "m:M", "--limit", "many"],
    ],
)
def test_a_command_line_that_can_not_be_read(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: trioraft" in capsys.readouterr().err


def test_the_help_says_what_the_status_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["check", "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for line in ("0  the history is linearizable", "1  it is not", "2  the arg", "3  undecided"):
        assert f"\n  {line}" in out


def test_letters_that_the_terminal_has_not_got_are_escaped(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    saved(place / "h", Operation("é", 0, 1, 5, 5), Operation("é", 2, 3, 1, "…"))
    with (tmp_path / "out").open("w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert check("h") == 1
    assert "\\xe9" in (tmp_path / "out").read_text()


@pytest.mark.processes
def test_it_runs_as_a_module_and_finds_models_where_it_is_run(place: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "trioraft",
        "check",
        "bad",
        "--model",
        "models_of_a_test:Counter",
    ]
    ran: Any = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert ran.stdout.startswith("Not linearizable")
