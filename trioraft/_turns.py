"""However many clients talk at once, servers are heard in between."""

from __future__ import annotations

from typing import NoReturn

import trio

from trioraft._clock import Bell


class Turns:
    """Lets so many tasks have a turn in one pass of the loop; the others wait, in order.

    In one pass Trio runs whatever is ready.  A thousand clients that ask at once would make it as
    long as an election time-out, and a heartbeat takes several passes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._renewing = Bell()
        self._waiting = trio.lowlevel.ParkingLot()

    async def take(self) -> None:
        """Return once there is a turn; no checkpoint if there is one, and nobody waits for it."""
        if self._waiting or self._taken == self._most:
            await self._waiting.park()  # whoever is woken has a turn
            return
        self._taken += 1
        if self._taken * 2 > self._most:
            self._renewing.ring()

    async def run(self) -> NoReturn:
        """Give out new turns in each pass, for ever."""
        while True:
            await self._renewing.wait()
            self._taken = len(self._waiting.unpark(count=self._most))
            if self._taken * 2 > self._most:
                self._renewing.ring()
