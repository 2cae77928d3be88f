"""`trioraft serve`: its arguments, signals and exit statuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from trioraft import Server, WebSocketTransport
from trioraft._cli import main, serve
from trioraft._cli.common import addresses
from trioraft._cli.serve import _until_told

MACHINE = """
class Machine:
    commands = ()

    def save(self):
        return b""

    def recover(self, state):
        pass


made = Machine()
listed = [1]


class Greedy(Machine):
    def __init__(self, more):
        pass
"""
GOOD = ["--name", "n1", "--listen", "ws://127.0.0.1:0", "--machine", "machine_of_a_test:Machine"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.delitem(sys.modules, "machine_of_a_test", raising=False)
    (tmp_path / "machine_of_a_test.py").write_text(MACHINE)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--machine", "nonsense"], "expected MODULE:NAME"),
        (["--machine", "nowhere_at_all:Machine"], "ModuleNotFoundError"),
        (["--machine", "machine_of_a_test:Nobody"], "AttributeError"),
        (["--machine", "machine_of_a_test:Greedy"], "can't be made: TypeError"),
        (["--machine", "machine_of_a_test:listed"], "has no commands, save and recover"),
        (["--listen", "127.0.0.1:1"], "must look like ws://host:port"),
        (["--initial-cluster", "n2=ws://h:1"], "must name this server"),
        (["--initial-cluster", "n1=nonsense"], "the address of n1"),
        (["--peers", "n2=wss://h:1"], "TLS"),
        (["--election-timeout", "0.1"], "three heartbeat intervals"),
        (["--heartbeat-interval", "nan"], "positive and finite"),
        (["--name", ""], "not empty"),
    ],
)
def test_what_can_not_be_used(
    arguments: list[str], complaint: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *GOOD, "--data", "data", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("trioraft: ")
    assert complaint in err
    assert err.count("\n") == 1
    assert not (place / "data").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--initial-cluster", "n1"],
        ["--initial-cluster", "n1=ws://h:1,"],
        ["--initial-cluster", "n1=ws://h:1,n1=ws://h:2"],
        ["--peers", "=ws://h:1"],
        ["--election-timeout", "soon"],
        ["--log-level", "loud"],
    ],
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", *GOOD, "--data", "data", *arguments])
    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_a_disk_that_refuses_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (place / "data").write_text("no directory")
    assert main(["serve", *GOOD, "--data", "data"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("trioraft: ")
    assert err.count("\n") == 1


def test_a_damaged_file_to_restore_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "backup").write_bytes(b"no snapshot at all")
    assert main(["serve", *GOOD, "--data", "data", "--restore", "backup"]) == 1
    assert capsys.readouterr().err == (
        "trioraft: StorageCorrupt: backup, offset 0: this is no snapshot\n"
    )
    assert main(["serve", *GOOD, "--data", "data", "--restore", "nowhere"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("trioraft: FileNotFoundError: ")
    assert err.count("\n") == 1


def test_addresses() -> None:
    assert addresses("n1=ws://h:1, n2=ws://h:2") == {"n1": "ws://h:1", "n2": "ws://h:2"}


class Slow(Server):
    """Takes long to stop in good order."""

    async def stop(self) -> None:
        await trio.sleep_forever()


def server(place: Path, kind: type[Server] = Server) -> Server:
    sys.path.insert(0, str(place))
    machine = serve.load("--machine", "machine_of_a_test:made")
    transport = WebSocketTransport("ws://127.0.0.1:0")
    return kind("n1", None, transport, machine, initial_cluster={"n1": "ws://127.0.0.1:1"})


async def _told(server: Server, *numbers: signal.Signals) -> int:
    async def tell() -> None:
        while server.transport.address.endswith(":0"):
            await trio.sleep(0.001)
        for number in numbers:
            os.kill(os.getpid(), number)
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        with trio.fail_after(5):
            return await _until_told(server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_good_order(number: signal.Signals, place: Path) -> None:
    assert trio.run(_told, server(place), number) == 0


def test_a_second_signal_stops_it_at_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = server(place, Slow)
    assert trio.run(_told, slow, signal.SIGTERM, signal.SIGINT) == 1
    assert not slow.running
    assert capsys.readouterr().err == "trioraft: told twice to stop: stopped at once\n"


@pytest.mark.processes
def test_the_module_is_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trioraft", "--help"], capture_output=True, text=True, check=True
    )
    commands = ("serve", "do", "read", "status", "snapshot", "inspect", "check")
    assert all(name in done.stdout for name in commands)
