"""Every example in the README runs, and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from trioraft.testing import RaftSimulation

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_prints_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = README.read_text()
    names: dict[str, object] = {"__name__": "readme"}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, str(README), "exec"), names)
    trio.run(names["main"], str(tmp_path))
    (expected,) = re.findall(r"prints\n\n```\n(.*?)```", text, re.DOTALL)
    assert capsys.readouterr().out == expected


@pytest.mark.unmeasured
def test_the_readmes_simulation_finds_nothing_wrong(raft_simulation: RaftSimulation) -> None:
    text = README.read_text()
    names: dict[str, object] = {"__name__": "readme"}
    machine, *_ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(machine, str(README), "exec"), names)
    (simulation,) = re.findall(r"```py\n(.*?)```", text, re.DOTALL)
    exec(compile(simulation, str(README), "exec"), names)
    names["test_bank"](raft_simulation)  # type: ignore[operator]
