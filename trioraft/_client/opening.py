"""How a client comes to be, and lets go."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import trio

from trioraft._background import background
from trioraft._client.client import Client
from trioraft._client.connection import Connected
from trioraft._clock import Clock
from trioraft._transport.websocket import WebSocketTransport
from trioraft.abc import Transport

_GOODBYE_PASSES: Final = 5
"""Passes of the loop in which the last message can leave, if nothing is in its way."""


@asynccontextmanager
async def open_client(
    addresses: Iterable[str],
    *,
    transport: Transport | None = None,
    clock: Clock | None = None,
    random: Random | None = None,
) -> AsyncGenerator[Client]:
    """Talk to a cluster; enters once a leader was found and has opened a session.

    The cluster is that of the first server that answers; servers of others are passed by.

    Args:
        addresses: of some or all of its servers, in the transport's form.
        transport: how to reach them; websockets by default.
        clock: another clock than Trio's.
        random: another source of chance.

    Raises:
        ValueError: there is no address, or one can't be read.
        TypeError: it is one address, and no list of them.
    """
    clock = Clock() if clock is None else clock
    random = Random() if random is None else random
    if transport is None:
        transport = WebSocketTransport("ws://127.0.0.1:0")
    if isinstance(addresses, str):
        raise TypeError(f"give a list of addresses: [{addresses!r}]")
    given: Sequence[str] = list(addresses)
    if not given:
        raise ValueError("a client needs the address of at least one server")
    for address in given:
        transport.check_address(address)
    connected = Connected(given, transport, clock, random)
    client = Client(connected, clock, random)
    try:
        async with background() as nursery:
            nursery.start_soon(connected.run)
            await client._an_open_session()
            nursery.start_soon(client.keep_alive)
            yield client
            client.say_goodbye()
            for _ in range(_GOODBYE_PASSES):
                await trio.lowlevel.checkpoint()
    finally:
        connected.close()
