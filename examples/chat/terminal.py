"""The room in a terminal: `--join HOST:PORT --name NAME`.

It does what the page does.  It keeps a connection to every server, takes the lines from one of
them, its home, and gives what is typed to the one that leads; when the home dies, another goes on
after the last line; what isn't in the room after a second is said again, with the same id.
"""

from __future__ import annotations

import json
import math
import secrets
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Any

import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream
from wsproto.utilities import ProtocolError

AGAIN = 1.0
REDIAL = 0.3
SILENCE = 3.0
"""Seconds without a word after which a server that should show signs of life counts as down."""
BROKEN = (OSError, ConnectionClosed, HandshakeError, ProtocolError, trio.TooSlowError)
HELP = "/who, /leader, /kill NAME, /start NAME, /quit"


async def join(host: str, port: int, name: str) -> None:
    """Be in the room until the input ends and all that was typed is said."""
    async with trio.open_nursery() as nursery:
        guest = _Guest(host, name, nursery)
        guest.dial(port)
        nursery.start_soon(guest.keep_saying)
        await guest.read_input()
        nursery.cancel_scope.cancel()


class _Guest:
    def __init__(self, host: str, name: str, nursery: trio.Nursery) -> None:
        self._host = host
        self._name = name
        self._nursery = nursery
        self._links: dict[int, WebSocketConnection | None] = {}
        self._states: dict[int, dict[str, Any]] = {}
        self._home: int | None = None
        self._last = 0
        self._unsaid: deque[dict[str, str]] = deque()
        self._news = trio.Event()
        self._leads: tuple[str, int] | None = None

    # The input

    async def read_input(self) -> None:
        _tell(f"You are {self._name}.  {HELP}")
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            match line.split():
                case ["/quit"]:
                    return
                case ["/who"]:
                    self._who()
                case ["/leader"]:
                    self._who_leads()
                case ["/kill" | "/start" as verb, name]:
                    await self._send(self._home, {verb[1:]: name})
                case [word, *_] if word.startswith("/"):
                    _tell(HELP)
                case [_, *_]:
                    say = {"author": self._name, "text": line.strip(), "id": secrets.token_hex(8)}
                    self._unsaid.append(say)
                    self._wake()
                    _tell("sent")
        while self._unsaid:
            await self._news.wait()

    def _who(self) -> None:
        names = next(iter(self._states.values()))["servers"] if self._states else {}
        for name, port in names.items():
            state = self._states.get(port)
            home = "  <- you" if port == self._home else ""
            _tell(f"{name}: {state['state'] if state else 'down'}{home}")

    def _who_leads(self) -> None:
        if self._leads is None:
            _tell("nobody leads: messages wait")
        else:
            _tell("{} leads in term {}".format(*self._leads))

    async def keep_saying(self) -> None:
        """Say what is unsaid, one by one, so that it keeps its order."""
        while True:
            news = self._news
            if self._unsaid and self._leads:
                leader = next(p for p, s in self._states.items() if s["name"] == self._leads[0])
                await self._send(leader, {"say": self._unsaid[0]})
            with trio.move_on_after(AGAIN if self._unsaid else math.inf):
                await news.wait()

    # The servers

    def dial(self, port: int) -> None:
        """Keep a connection to that port from now on."""
        if port not in self._links:
            self._links[port] = None
            self._nursery.start_soon(self._keep, port)

    async def _keep(self, port: int) -> None:
        lonely = len(self._links) == 1
        while True:
            try:
                await self._talk(port)
            except* BROKEN:
                pass
            self._links[port] = None
            self._states.pop(port, None)
            if lonely and len(self._links) == 1:
                lonely = False
                _tell(f"nobody answers at {self._host}:{port}; trying again and again")
            await self._settle()
            await trio.sleep(REDIAL)

    async def _talk(self, port: int) -> None:
        with trio.fail_after(SILENCE):
            stream = await trio.open_tcp_stream(self._host, port)
        async with stream, trio.open_nursery() as nursery:
            with trio.fail_after(SILENCE):
                connection = await wrap_client_stream(
                    nursery, stream, f"{self._host}:{port}", "/", max_message_size=2**24
                )
            self._links[port] = connection
            while True:
                with trio.fail_after(SILENCE):
                    message = json.loads(await connection.get_message())
                await self._hear(port, message)

    async def _hear(self, port: int, message: Any) -> None:
        match message:
            case {"state": state}:
                self._states[port] = state
                for other in state["servers"].values():
                    self.dial(other)
                await self._settle()
            case {"lines": lines} if port == self._home:
                for line in lines:
                    self._show(line)
            case {"refused": {"id": id, "reason": reason}}:
                self._said(id)
                _tell(f"refused: {reason}")

    async def _settle(self) -> None:
        """Find a home, if there is none, and see who leads."""
        if self._home not in self._states:
            moves = self._home is not None
            self._home = next(iter(self._states), None)
            if self._home is not None:
                if moves:
                    _tell(f"you are on {self._states[self._home]['name']} now")
                await self._send(self._home, {"follow": self._last})
        leaders = [state for state in self._states.values() if state["state"] == "leader"]
        first = max(leaders, key=lambda state: state["term"], default=None)
        leads = (first["name"], first["term"]) if first else None
        if leads != self._leads:
            self._leads = leads
            self._wake()
            self._who_leads()

    async def _send(self, port: int | None, message: dict[str, Any]) -> None:
        connection = self._links.get(port) if port else None
        if connection is not None:
            with suppress(*BROKEN):  # the task that keeps it notices, too
                await connection.send_message(json.dumps(message))

    # The lines

    def _show(self, line: dict[str, Any]) -> None:
        if line["number"] <= self._last:
            return
        self._last = line["number"]
        committed = "  (committed)" if self._said(line["id"]) else ""
        clock = time.strftime("%H:%M", time.localtime(line["time"]))
        print(_plain(f"{clock} {line['author']}: {line['text']}") + committed, flush=True)

    def _said(self, id: str) -> bool:
        """Take note that a message is in the room, or never will be; was it ours?"""
        unsaid = deque(say for say in self._unsaid if say["id"] != id)
        ours = len(unsaid) < len(self._unsaid)
        self._unsaid = unsaid
        if ours:
            self._wake()
        return ours

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()


def _tell(text: str) -> None:
    print(_plain(f"  * {text}"), flush=True)


def _plain(text: str) -> str:
    """Nothing that others say may give orders to the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
