"""Keeps a line to a server, the leader if it can be reached."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Container, Sequence
from random import Random
from typing import Final

import trio

from trioraft._client.line import Line
from trioraft._clock import Clock
from trioraft._errors import ProtocolError
from trioraft._transport.conversation import LOST, Silent, bare_errors
from trioraft._wire.asking import Welcome
from trioraft.abc import Transport

_LOG: Final = logging.getLogger("trioraft.client")

PATIENCE: Final = 1.0
"""Seconds of silence after which a server is asked for a sign of life; after two it is given up."""

_DIALLING: Final = 2.0
"""Seconds within which a server must have answered who it is."""

_PAUSES: Final = (0.02, 1.0)
"""Seconds between two attempts, at first and at most; drawn from half to the whole of it."""

_AVOIDED: Final = (0.5, 30.0)
"""Seconds for which who could not be reached is avoided, and a leader asked through others: at
first, and at most; twice as long after each attempt in vain."""


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
        """Until when each of the addresses is not tried while another one may do."""
        self._in_vain: dict[str, int] = {}
        """How often in a row."""
        self._failed: dict[str, float] = {}
        """When each of the addresses was last found to be silent, or refused to talk."""
        self._changed = trio.Event()
        self._sent_on = False
        """Whether the last one who was dialled named another one, and no line has stood since."""
        self._closed = False
        self._here: tuple[str, trio.CancelScope] | None = None
        self.now: Line | None = None
        """The line that stands; None: none does."""
        self.cluster: str | None = None
        """The id of the cluster, once a server has told it."""

    async def line(self) -> Line:
        """Wait for a line.

        Raises:
            ClosedResourceError: there will be none any more.
        """
        while self.now is None or not self.now.is_open:
            if self._closed:
                raise trio.ClosedResourceError("the client is closed")
            await self._changed.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        return self.now

    async def news(self) -> None:
        """Wait until there is another line, or another leader: what was refused may work now."""
        await self._changed.wait()

    def close(self) -> None:
        """Nobody keeps a line any more."""
        self._closed = True
        self._tell_news()

    def leave(self, line: Line) -> str | None:
        """Give a line up, and try another server, for a while another one than the leader, too.

        Returns:
            Its address; None: it was over already.
        """
        if self.now is not line or self._here is None:
            return None
        address, scope = self._here
        self._avoid(address)
        scope.cancel()
        return address

    def only(self, addresses: Container[str], since: float) -> bool:
        """Whether none but these could be reached since an instant."""
        return all(
            address in addresses or self._failed.get(address, -math.inf) >= since
            for address in self._addresses
        )

    def _avoid(self, address: str) -> None:
        known = {*self._addresses, self._leader, address}
        self._avoided = {a: until for a, until in self._avoided.items() if a in known}
        self._in_vain = {a: times for a, times in self._in_vain.items() if a in known}
        times = self._in_vain[address] = self._in_vain.get(address, 0) + 1
        pause = min(_AVOIDED[0] * 2.0 ** min(times - 1, 16), _AVOIDED[1])
        self._avoided[address] = self._clock.now() + pause

    def _tell_news(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        """Keep a line, for ever."""
        pause = _PAUSES[0]
        while True:
            address = self._leader_to_try() or self._next_address()
            try:
                talked = await self._talk_to(address)
            except _Elsewhere:
                if not self._sent_on:
                    self._sent_on = True
                    continue
                talked = True  # but those who send each other's callers to and fro may agree soon
            except (*LOST, ValueError) as error:
                # Who refuses to talk will do so again; who is only away may be back.
                level = logging.WARNING if isinstance(error, ProtocolError) else logging.INFO
                why = str(error) or type(error).__name__
                _LOG.log(level, "no line to %s: %s", address, why)
                talked = False
            self._sent_on = False
            if not talked:
                self._avoid(address)
                if address in self._addresses:
                    self._failed[address] = self._clock.now()
                if address == self._leader:
                    self._leader = None
            pause = _PAUSES[0] if talked else min(2 * pause, _PAUSES[1])
            wait = pause * self._random.uniform(0.5, 1)
            await self._clock.sleep_until(self._clock.now() + wait)

    def _leader_to_try(self) -> str | None:
        return None if self._leader is None or self._avoids(self._leader) else self._leader

    def _next_address(self) -> str:
        """All by turns, but first those of whom nothing bad was heard lately."""
        address = next(itertools.filterfalse(self._avoids, self._addresses), self._addresses[0])
        self._addresses.remove(address)
        self._addresses.append(address)
        return address

    def _avoids(self, address: str) -> bool:
        return self._avoided.get(address, -math.inf) > self._clock.now()

    async def _talk_to(self, address: str) -> bool:
        """Be on the line to one server; whether there was a line, and life at its other end."""
        dialling = self._clock.until(self._clock.now() + _DIALLING)
        line: Line | None = None

        def take(welcome: Welcome) -> None:
            self._meet(address, welcome)
            if self._here is not None:
                self._clock.move(self._here[1], self._stays_until(address))

        try:
            with bare_errors(), dialling:
                async with self._transport.connect(address) as connection:
                    line = Line(connection, self._clock, PATIENCE)
                    welcome = await line.greet(self.cluster)
                    self._clock.move(dialling, math.inf)
                    self._meet(address, welcome)
                    self.now, self._sent_on = line, False
                    self._in_vain.pop(address, None)
                    with self._clock.until(self._stays_until(address)) as scope:
                        self._here = address, scope
                        self._tell_news()
                        await line.run(take)
                    return True
        except LOST as error:
            if self.now is not line or line is None or isinstance(error, Silent):
                raise
            return True
        finally:
            if line is not None and self.now is line:
                self.now = None
        return False

    def _stays_until(self, address: str) -> float:
        """When who leads is worth another attempt, if this is somebody else."""
        if self._leader is None or self._leader == address:
            return math.inf
        return self._avoided.get(self._leader, math.inf)

    def _meet(self, address: str, welcome: Welcome) -> None:
        """Take a server's word for who leads; raises `_Elsewhere` to go there.

        Raises:
            ProtocolError: it belongs to another cluster than the first one; it is avoided.
        """
        if self.cluster is None:
            self.cluster = welcome.cluster
        elif welcome.cluster != self.cluster:
            raise ProtocolError(f"{address} belongs to the cluster {welcome.cluster}")
        self._leader = welcome.address or None
        leader = self._leader_to_try()
        if welcome.leader != welcome.name and leader is not None and leader != address:
            raise _Elsewhere
        if welcome.leader is not None:
            self._tell_news()
