"""Keeps a line to a server, the leader if it can be reached."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from random import Random
from typing import Final

import trio

from trioraft._client.line import Line
from trioraft._clock import Clock
from trioraft._errors import ProtocolError
from trioraft._transport.conversation import LOST, bare_errors
from trioraft._wire.asking import Welcome
from trioraft.abc import Transport

_LOG: Final = logging.getLogger("trioraft.client")

PATIENCE: Final = 1.0
"""Seconds of silence after which a server is asked for a sign of life; after two it is given up."""

_DIALLING: Final = 2.0
"""Seconds within which a server must have answered who it is."""

_PAUSES: Final = (0.02, 1.0)
"""Seconds between two attempts, at first and at most; drawn from half to the whole of it."""

_AVOIDED: Final = 5.0
"""Seconds for which a leader that could not be reached is asked through others."""


class _Elsewhere(Exception):
    """Another server leads, and can be reached for all that is known."""


class Connected:
    """One line at a time.  A server that does not lead forwards, but the leader is nearer."""

    def __init__(
        self, addresses: Sequence[str], transport: Transport, clock: Clock, random: Random
    ) -> None:
        self._addresses = list(addresses)
        random.shuffle(self._addresses)
        self._transport = transport
        self._clock = clock
        self._random = random
        self._leader: str | None = None
        """Where the leader listens, as far as this client was told."""
        self._avoided: dict[str, float] = {}
        self._changed = trio.Event()
        self._here: tuple[str, trio.CancelScope] | None = None
        self.now: Line | None = None
        """The line that stands; None: none does."""
        self.cluster: str | None = None
        """The id of the cluster, once a server has told it."""

    async def line(self) -> Line:
        """Wait for a line."""
        while self.now is None or not self.now.is_open:
            await self._changed.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        return self.now

    def leave(self, line: Line) -> None:
        """Give a line up, and try another server, for a while another one than the leader, too."""
        if self.now is line and self._here is not None:
            address, scope = self._here
            self._avoided[address] = self._clock.now() + _AVOIDED
            scope.cancel()

    async def run(self) -> None:
        """Keep a line, for ever.

        Raises:
            ProtocolError: a server belongs to another cluster than the first one.
        """
        pause, turn = _PAUSES[0], 0
        while True:
            if (leader := self._leader_to_try()) is not None:
                address = leader
            else:
                address = self._addresses[turn % len(self._addresses)]
                turn += 1
            talked = False
            try:
                talked = await self._talk_to(address)
            except _Elsewhere:
                continue
            except (*LOST, ValueError) as error:
                _LOG.info("no line to %s: %s", address, str(error) or type(error).__name__)
            if not talked:
                self._avoided[address] = self._clock.now() + _AVOIDED
                if address == self._leader:
                    self._leader = None
            pause = _PAUSES[0] if talked else min(2 * pause, _PAUSES[1])
            wait = pause * self._random.uniform(0.5, 1)
            await self._clock.sleep_until(self._clock.now() + wait)

    def _leader_to_try(self) -> str | None:
        leader = self._leader
        if leader is None or self._avoided.get(leader, -math.inf) > self._clock.now():
            return None
        return leader

    async def _talk_to(self, address: str) -> bool:
        """Be on the line to one server; whether there was a line."""
        dialling = self._clock.until(self._clock.now() + _DIALLING)
        line: Line | None = None
        try:
            with bare_errors(), dialling:
                async with self._transport.connect(address) as connection:
                    line = Line(connection, self._clock, PATIENCE)
                    welcome = await line.greet(self.cluster)
                    self._clock.move(dialling, math.inf)
                    self._meet(address, welcome)
                    self.now = line
                    self._changed.set()
                    self._changed = trio.Event()
                    with trio.CancelScope() as scope:
                        self._here = address, scope
                        await line.run(lambda welcome: self._meet(address, welcome))
                    return True
        except LOST:
            if self.now is not line or line is None:
                raise
            return True
        finally:
            if line is not None and self.now is line:
                self.now = None
        return False

    def _meet(self, address: str, welcome: Welcome) -> None:
        """Take a server's word for who leads; raises `_Elsewhere` to go there."""
        if self.cluster is None:
            self.cluster = welcome.cluster
        elif welcome.cluster != self.cluster:
            raise ProtocolError(f"{address} belongs to the cluster {welcome.cluster}")
        self._leader = welcome.address
        leader = self._leader_to_try()
        if welcome.leader != welcome.name and leader is not None and leader != address:
            raise _Elsewhere
