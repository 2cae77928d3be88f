"""A body that runs only while this server leads, and cannot be replaced."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from attrs import frozen

from trioraft._core import Core
from trioraft._errors import LeaseLost


@frozen
class Leadership:
    """One server's time as the leader."""

    term: int
    """The term in which it leads."""
    fence: int
    """Grows from leader to leader of this cluster.

    Hand it to whatever you change outside, and have refused there what comes with a smaller one:
    that protects where no clock does.
    """
    cluster: str
    """The cluster's id: fences of two clusters are not to be compared."""


@asynccontextmanager
async def leading(opened: Callable[[], Awaitable[Core]]) -> AsyncGenerator[Leadership]:
    """See `Server.leadership`; `opened` waits until the server knows what its disk holds."""
    core = await opened()
    reading, clock = core.reading, core.clock
    while (until := reading.lease()) <= clock.now():
        await reading.renewal()
    term, cluster = core.node.term, core.node.configuration.cluster
    scope = clock.until(until)
    reading.leases.add(scope)
    try:
        with scope:
            yield Leadership(term, term, cluster)
            if reading.lease() <= clock.now():  # the body may have held up the loop
                scope.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()
    finally:
        reading.leases.discard(scope)
        core.lease_left()
    if scope.cancelled_caught:
        raise LeaseLost(f"{core.node.me} can't be sure any more that it leads in term {term}")
