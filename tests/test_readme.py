"""Every example in the README runs, and prints what it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
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


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_readmes_command_lines_work(tmp_path: Path) -> None:
    (serve,), asks = _command_lines()
    ports = {"7001": "", "7002": "", "7003": ""}
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in ports]
    for port, listener in zip(ports, listeners, strict=True):
        ports[port] = str(listener.getsockname()[1])
        listener.close()

    def command(line: str) -> list[str]:
        """The line as it stands there, on ports that are free here."""
        for port, free in ports.items():
            line = line.replace(port, free)
        words = shlex.split(line)
        return [sys.executable, "-m", *words] if words[0] == "trioraft" else words

    def server(number: int) -> subprocess.Popen[bytes]:
        line = serve.replace("--name n1", f"--name n{number}").replace("data/n1", f"data/n{number}")
        line = line.replace("--listen ws://127.0.0.1:7001", f"--listen ws://127.0.0.1:700{number}")
        return subprocess.Popen(command(line), cwd=tmp_path, stderr=subprocess.DEVNULL)

    servers = [server(number) for number in (1, 2, 3)]
    try:
        assert '"1"' not in _output(command(asks[0])), "there was nothing before"
        answers = [_output(command(ask)) for ask in asks]
        assert '"1"' in json.dumps(json.loads(answers[1])["result"])
        assert json.loads(answers[2])["member_count"] == 3
    finally:
        for process in servers:
            process.kill()
            process.wait()


def _command_lines() -> tuple[list[str], list[str]]:
    """The line that serves, and those that ask."""
    _, _, text = README.read_text().partition("## Without a program of your own")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[:2]
    serving, asking = (block.splitlines() for block in blocks)
    return serving, asking


def _output(command: list[str]) -> str:
    """What it prints in the end: the servers take a moment, and a leader another one."""
    for _ in range(200):
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode == 0 and b'{"error"' not in done.stdout:
            return done.stdout.decode()
        time.sleep(0.05)  # real processes: there is nothing else to wait for
    raise AssertionError(f"{command}: {done.stdout!r} {done.stderr!r}")
