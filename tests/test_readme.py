"""Every example in the README runs, and prints what it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

import pytest
import trio

from trioraft._bench.cluster import free_ports
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
    (serve,), asks = _command_lines("Without a program of your own")
    ((save, inspect, restore),) = _command_lines("Snapshots, backup, restore")
    with _Terminals(tmp_path) as terminals:
        terminals.serve(serve)
        assert '"1"' not in terminals.output(asks[0]), "there was nothing before"
        answers = [terminals.output(ask) for ask in asks]
        assert '"1"' in json.dumps(json.loads(answers[1])["result"])
        status = json.loads(answers[2])
        assert status["member_count"] == 3
        assert "digest" in terminals.output(save)
        _members_come_and_go(terminals)
        terminals.kill()
        assert terminals.output(inspect).endswith("all of it is whole\n")

        terminals.serve(restore)
        answers = [terminals.output(ask) for ask in asks[1:]]
        assert '"1"' in json.dumps(json.loads(answers[0])["result"])
        assert json.loads(answers[1])["cluster"] != status["cluster"]


def _members_come_and_go(terminals: _Terminals) -> None:
    """The lines of that section, one after the other."""
    ((join, *asks),) = _command_lines("Servers come and go")
    terminals.start(join, 4)
    add, plan, remove, transfer, members = asks
    terminals.output(add)
    assert "n2" in terminals.output(plan)
    terminals.output(remove)
    terminals.ends(2)
    terminals.output(transfer)
    told = terminals.output(members)
    assert "n4" in told
    assert "n2" not in told


class _Terminals:
    """Where command lines are typed as they stand there, but for ports that are free here."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = {f"700{n}": str(port) for n, port in enumerate(free_ports(4), 1)}
        self._servers: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def serve(self, line: str) -> None:
        """Start the first server by this line, and two more by ones like it."""
        for number in (1, 2, 3):
            own = line.replace("--name n1", f"--name n{number}").replace("/n1 ", f"/n{number} ")
            own = own.replace(
                "--listen ws://127.0.0.1:7001", f"--listen ws://127.0.0.1:700{number}"
            )
            self.start(own, number)
        self._until_healthy()

    def start(self, line: str, number: int) -> None:
        """Start one server by this line."""
        with self._log(number).open("ab") as log:
            self._servers[number] = subprocess.Popen(
                self._words(line), cwd=self._directory, stderr=log
            )

    def _log(self, number: int) -> Path:
        """What a server says of itself."""
        return self._directory / f"n{number}.log"

    def ends(self, number: int) -> None:
        """A server ends by itself, in good order."""
        assert self._servers.pop(number).wait(timeout=20) == 0

    def _until_healthy(self) -> None:
        for number in sorted(self._servers):
            port = int(self._ports[f"700{number}"])
            for _ in range(400):
                ended = [n for n, server in self._servers.items() if server.poll() is not None]
                assert not ended, "\n".join(self._log(n).read_text() for n in ended)
                connection = HTTPConnection("127.0.0.1", port, timeout=5)
                with suppress(OSError):
                    connection.request("GET", "/healthz")
                    if connection.getresponse().status == 200:
                        break
                connection.close()
                time.sleep(0.05)  # real processes: there is nothing else to wait for
            connection.close()

    def output(self, line: str) -> str:
        """What the line prints in the end: on a busy machine a leader may be lost again."""
        for _ in range(50):
            done = subprocess.run(
                self._words(line), cwd=self._directory, capture_output=True, check=False
            )
            if done.returncode == 0 and b'{"error"' not in done.stdout:
                return done.stdout.decode()
            self._until_healthy()
        raise AssertionError(f"{line}: {done.stdout!r} {done.stderr!r}")

    def kill(self) -> None:
        for process in self._servers.values():
            process.kill()
            process.wait()
        self._servers.clear()

    def _words(self, line: str) -> list[str]:
        words = shlex.split(re.sub("700[1234]", lambda port: self._ports[port[0]], line))
        return [sys.executable, "-m", *words] if words[0] == "trioraft" else words


def _command_lines(section: str) -> list[list[str]]:
    """The lines of each block of a section."""
    _, _, text = README.read_text().partition(f"\n## {section}\n")
    text, _, _ = text.partition("\n## ")
    return [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
