"""`python -m examples.chat` as it is started by its users."""

import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]


@attrs.frozen
class Chat:
    process: subprocess.Popen[str]
    address: str

    def status(self, address: str | None = None) -> Any:
        with urllib.request.urlopen(f"{address or self.address}status", timeout=5) as answer:
            return json.load(answer)

    def pages(self) -> dict[str, str]:
        servers = self.status()["servers"]
        return {name: f"http://127.0.0.1:{port}/" for name, port in servers.items()}

    def say(self, address: str, text: str) -> int:
        """Say it to the server at this address, until it or the leader it names has taken it."""
        body = json.dumps({"author": "ann", "text": text, "id": f"id of {text}"}).encode()
        end = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"{address}say", body, timeout=6) as answer:
                    return json.load(answer)["number"]
            except urllib.error.HTTPError as error:
                with error:
                    if error.code == 307:
                        address = error.headers["location"].removesuffix("say")
                        continue
            except OSError:
                pass
            assert time.monotonic() < end, "nobody took it"
            time.sleep(0.05)

    def end(self, by: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """The exit status, and the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(by)
        return self.process.wait(10), time.monotonic() - began


@contextmanager
def chat(*options: str) -> Iterator[Chat]:
    port = random.randrange(10_000, 30_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.chat", "--port", str(port), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 30)[0], "no first line"
            line = process.stdout.readline()
            found = re.fullmatch(r"chat room: (http://127\.0\.0\.1:\d+/)\n", line)
            assert found, f"first line: {line!r}"
            yield Chat(process, found[1])
        finally:
            process.terminate()  # so that it removes its temporary directory
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()


@contextmanager
def guest(chat: Chat, name: str) -> Iterator[subprocess.Popen[str]]:
    address = chat.address.removeprefix("http://").rstrip("/")
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.chat", "--join", address, "--name", name],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], what: str) -> list[str]:
    """The lines up to the one that has this in it."""
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or what not in lines[-1]:
        line = process.stdout.readline()
        assert line, lines
        lines.append(line)
    return lines


def type_in(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")


@pytest.mark.parametrize("options", [(), ("--processes",)], ids=["one process", "processes"])
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_message_reaches_all_and_a_signal_ends_it_at_once(
    options: tuple[str, ...], by: signal.Signals
) -> None:
    with chat(*options) as room, guest(room, "bob") as bob:
        pages = list(room.pages().values())
        assert [room.say(address, f"to {address}") for address in pages] == [1, 2, 3]
        assert room.say(pages[0], f"to {pages[1]}") == 2
        lines = read_until(bob, f"to {pages[2]}")
        assert [line.split("ann: ")[1].strip() for line in lines if "ann: " in line] == [
            f"to {address}" for address in pages
        ]
        status, seconds = room.end(by)
        assert status == 0
        assert seconds < 2
        for address in pages:
            with pytest.raises(OSError):
                room.status(address)


@pytest.mark.parametrize("options", [(), ("--processes",)], ids=["one process", "processes"])
def test_the_history_survives_restarts_and_kills(options: tuple[str, ...], tmp_path: Path) -> None:
    with chat("--data", str(tmp_path), *options) as room:
        pages = list(room.pages().values())
        for number in range(1, 4):
            assert room.say(pages[number % 3], f"message {number}") == number
        room.end()
    with chat("--data", str(tmp_path), *options) as room:
        pages = list(room.pages().values())
        assert room.say(pages[0], "message 4") == 4
        assert room.say(pages[1], "message 2") == 2
        room.end(signal.SIGKILL)
    with chat("--data", str(tmp_path), *options) as room, guest(room, "bob") as bob:
        assert room.say(room.address, "message 5") == 5
        text = "".join(read_until(bob, "message 5"))
        assert re.findall(r"message \d", text) == [f"message {number}" for number in range(1, 6)]


@pytest.mark.parametrize("options", [(), ("--processes",)], ids=["one process", "processes"])
def test_terminals_go_on_when_servers_are_killed(options: tuple[str, ...]) -> None:
    with chat(*options) as room, guest(room, "ann") as ann, guest(room, "bob") as bob:
        type_in(ann, "one\a")
        read_until(ann, "ann: one\N{REPLACEMENT CHARACTER}  (committed)")
        read_until(bob, "ann: one\N{REPLACEMENT CHARACTER}\n")
        leader = room.status()["leader"]
        type_in(bob, f"/kill {leader}")
        type_in(ann, "two")
        read_until(ann, "ann: two  (committed)")
        read_until(bob, "ann: two\n")
        type_in(bob, f"/start {leader}")
        end = time.monotonic() + 20
        while f"{leader}: follower" not in who(bob):
            assert time.monotonic() < end
            time.sleep(0.1)
        type_in(bob, "three")
        read_until(bob, "bob: three  (committed)")
        text = "".join(read_until(ann, "bob: three\n"))
        assert "ann: two" not in text
        type_in(ann, "/quit")
        assert ann.wait(5) == 0
        began = time.monotonic()
        bob.terminate()
        assert bob.wait(5) == 0
        assert time.monotonic() - began < 2


def who(process: subprocess.Popen[str]) -> str:
    type_in(process, "/who")
    return "".join(read_until(process, "n3: "))


def test_a_room_whose_ports_are_taken_moves(tmp_path: Path) -> None:
    with chat("--data", str(tmp_path)) as room:
        assert room.say(room.address, "message 1") == 1
        room.end()
    peers = json.loads((tmp_path / "room.json").read_text())["peers"]
    with ExitStack() as stack:
        for port in peers.values():
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        with chat("--data", str(tmp_path)) as room:
            assert room.say(room.address, "message 2") == 2
    assert not {*peers.values()} & {
        *json.loads((tmp_path / "room.json").read_text())["peers"].values()
    }


def test_a_room_can_be_opened_once_only(tmp_path: Path) -> None:
    with chat("--data", str(tmp_path)) as room:
        second = subprocess.run(
            [sys.executable, "-m", "examples.chat", "--data", tmp_path],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert second.returncode == 1
        assert "open already" in second.stderr
        assert room.say(room.address, "still here") == 1


def test_children_end_with_their_parent(tmp_path: Path) -> None:
    with chat("--data", str(tmp_path), "--processes") as room:
        pages = list(room.pages().values())
        os.kill(room.process.pid, signal.SIGKILL)
        end = time.monotonic() + 10
        for address in pages:
            while True:
                try:
                    room.status(address)
                except OSError:
                    break
                assert time.monotonic() < end, f"{address} still answers"
                time.sleep(0.05)


def test_a_room_that_can_not_be_opened_says_why(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with subprocess.Popen(
        [sys.executable, "-m", "examples.chat", "--data", file],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert not out
    assert err.startswith("the room can't be opened: ")
    assert "Traceback" not in err
