"""Who acts as the leader: bodies under `Server.leadership` must never overlap."""

from __future__ import annotations

from contextlib import suppress

import trio

from trioraft._errors import LeaseLost, ServerStopped
from trioraft._server import Server
from trioraft.testing._disks import broken
from trioraft.testing._host import SimulatedHost


class Holders:
    """On every server somebody acts whenever that server leads, and holds the lease that says so.

    That rests on clocks, and on processes that run: a stopped one learns later that it acts no
    more.
    """

    def __init__(self) -> None:
        self.watches = False
        """Whether servers are watched that are started from now on."""
        self.count = 0
        """How often somebody has begun to act."""
        self._acting: dict[Server, SimulatedHost] = {}

    async def watch(self, host: SimulatedHost, server: Server) -> None:
        """Act whenever this server leads, until it has ended."""
        with suppress(ServerStopped):
            while True:
                with suppress(LeaseLost):
                    async with server.leadership() as leadership:
                        self.begins(host, server, leadership.term)
                        try:
                            await trio.sleep_forever()
                        finally:
                            self.ends(server)

    def begins(self, host: SimulatedHost, server: Server, term: int) -> None:
        """Somebody acts as the leader.

        Raises:
            PropertyBroken: somebody else does so, too.
        """
        self.count += 1
        for other, there in self._acting.items():
            is_there = there.server is other and there.up and not there.dies
            if is_there and trio.current_time() > there.paused_until:
                broken(f"{host.name} acts as the leader of term {term}, and {there.name} does, too")
        self._acting[server] = host

    def ends(self, server: Server) -> None:
        """Somebody acts no more."""
        self._acting.pop(server, None)
