"""What a follower's clients ask goes to the leader, over a line of this server's own; once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Final

import trio

from trioraft._client.line import Asked, Line
from trioraft._clock import Bell, Clock
from trioraft._core import Core
from trioraft._limits import MAX_PENDING_BYTES, MAX_PENDING_COMMANDS
from trioraft._rules.ids import ServerId
from trioraft._sessions import Code, Reply
from trioraft._transport.conversation import LOST, bare_errors
from trioraft._wire.asking import Welcome
from trioraft.abc import Transport

Request = tuple[Callable[[Line, Asked], None], Asked]

_BUSY: Final = Reply(Code.BUSY, 0, 0)
_REDIAL: Final = 0.02
"""Seconds between a leader that could not be reached and the next attempt."""


class Forwarder:
    """Keeps a line to the leader, from the first request on until it ends."""

    def __init__(self, core: Core, transport: Transport, patience: float, clock: Clock) -> None:
        self._core = core
        self._transport = transport
        self._patience = patience
        self._clock = clock
        self._line: Line | None = None
        self._leader: ServerId | None = None
        self._waiting: list[Request] = []
        self._wanted = Bell()
        self._count = 0
        self._bytes = 0

    def forward(
        self, ask: Callable[[Line, Asked], None], data: bytes, tell: Callable[[Reply], None]
    ) -> None:
        """Ask the leader; what it says, or that it is lost, comes back.

        As much as a leader would take may be under way, and no more.
        """
        if self._count >= MAX_PENDING_COMMANDS or self._bytes >= MAX_PENDING_BYTES:
            tell(_BUSY)
            return

        def told(reply: Reply) -> None:
            self._count -= 1
            self._bytes -= len(data)
            tell(reply)

        self._count += 1
        self._bytes += len(data)
        asked = Asked(data, told)
        if self._line is not None and self._leader == self._core.node.leader:
            ask(self._line, asked)
        else:
            self._waiting.append((ask, asked))
            self._wanted.ring()

    async def run(self) -> None:
        """Have a line whenever something waits to be forwarded, for ever."""
        try:
            while True:
                await self._wanted.wait()
                node = self._core.node
                address = self._core.not_leader().address
                if node.leader is not None and node.leader != node.me and address is not None:
                    with contextlib.suppress(*LOST, ValueError):
                        await self._keep_line(node.leader, address)
                stood, self._line = self._line is not None, None
                if not stood:  # else what waits, waits for the next leader
                    self._refuse()
                    await self._clock.sleep_until(self._clock.now() + _REDIAL)
        finally:
            self._refuse()

    async def _keep_line(self, leader: ServerId, address: str) -> None:
        with bare_errors(), self._clock.until(self._clock.now() + self._patience) as dialling:
            async with self._transport.connect(address) as connection:
                line = Line(connection, self._clock, self._patience / 2, forwards=True)
                self._only_while_it_leads(leader, await line.greet(self._cluster))
                self._clock.move(dialling, math.inf)
                self._line, self._leader = line, leader
                waiting, self._waiting = self._waiting, []
                for ask, asked in waiting:
                    ask(line, asked)
                await line.run(lambda welcome: self._only_while_it_leads(leader, welcome))

    def _only_while_it_leads(self, leader: ServerId, welcome: Welcome) -> None:
        if welcome.leader != leader.name:
            raise trio.EndOfChannel

    @property
    def _cluster(self) -> str:
        return self._core.node.configuration.cluster

    def _refuse(self) -> None:
        """What has not been forwarded is surely not done."""
        waiting, self._waiting = self._waiting, []
        for _, asked in waiting:
            asked.answer(self._core.refusal())
