"""One server of the room, as its web layer sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import trio

import trioraft

from .room import Line, Lines, Room

HOST = "127.0.0.1"
FRAME_LIMIT = 32 * 1024
"""Bytes that one thing said to a server may have; the longest message has 24,000 as JSON."""
CALM = trioraft.Config(heartbeat_interval=0.05, election_timeout=0.5)
"""Unhurried: a laptop busy with browsers and servers should not hold elections for that alone."""

Order = Callable[[str, str], None]
"""What a page may ask of the whole cluster: ("kill" or "start", the name of a server)."""


@attrs.frozen
class Plan:
    """Where everything is: the directory, and each server's ports for its peers and its page."""

    directory: Path
    peers: dict[str, int]
    pages: dict[str, int]


class Node:
    """A Raft server with its room."""

    def __init__(self, name: str, plan: Plan, order: Order) -> None:
        peers = {peer: f"ws://{HOST}:{port}" for peer, port in plan.peers.items()}
        self.name = name
        self.plan = plan
        self.order = order
        self.changed = trio.Event()
        """Set, and replaced by a new one, whenever there may be something new to show."""
        self.server = trioraft.Server(
            name,
            plan.directory / name,
            trioraft.WebSocketTransport(peers[name]),
            Room(),
            initial_cluster=peers,
            config=CALM,
            peers=peers,  # a room that is opened again may listen on other ports
        )

    def status(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "state": self.server.state,
            "term": self.server.term,
            "leader": self.server.leader,
            "commit": self.server.commit_index,
            "servers": self.plan.pages,
        }

    async def lines(self, after: int) -> list[Line]:
        """The lines that this server has already; the others may have some more."""
        answer = await self.server.read(Lines(after), trioraft.Anything())
        return answer.value

    def wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def watch(self) -> None:
        """Wake those who show the room whenever the server does something that one can see."""
        async with self.server.events() as events:
            async for event in events:
                if isinstance(
                    event,
                    trioraft.Commit
                    | trioraft.StateChange
                    | trioraft.LeaderChange
                    | trioraft.TermChange,
                ):
                    self.wake()
