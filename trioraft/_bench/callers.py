"""A process of callers: `python -m trioraft._bench.callers ARGUMENTS`, which are one JSON object.

A process of its own, so that what the callers cost is not counted among what the servers do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import trio

from trioraft._bench import foreign
from trioraft._bench.loop import KEYS, Operation, closed_loop, keys
from trioraft._bench.speaking import orders, own_stdin, tell
from trioraft._client.client import Client
from trioraft._client.opening import open_client
from trioraft._garbage import collect_seldom
from trioraft._reads import Lease, Linearizable
from trioraft.recipes.kv import Get, Put

_FILLING: Final = 256
"""How many keys are written at once before any is read."""


async def _main(given: dict[str, Any]) -> None:
    async with own_stdin() as stdin, trio.open_nursery() as nursery:
        going = trio.Event()
        nursery.start_soon(_heed, stdin, going, nursery.cancel_scope)
        if given["what"] == "single":
            tell(await foreign.load(given))
        else:
            await _with_clients(given, going)
        nursery.cancel_scope.cancel()


async def _heed(stdin: trio.abc.ReceiveStream, going: trio.Event, scope: trio.CancelScope) -> None:
    """Go on when told to, and end when nobody is there any more."""
    async for _ in orders(stdin):
        going.set()
    scope.cancel()


async def _with_clients(given: dict[str, Any], going: trio.Event) -> None:
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_client(given["addresses"]))
            for _ in range(given["clients"])
        ]
        match given["what"]:
            case "failover":
                await _failover(clients[0], going)
            case "fill":
                await _fill(clients[0], given["value"])
                tell({"filled": True})
            case what:
                operation = _operation(what, clients, "v" * given["value"])
                tell(await closed_loop(operation, given["in_flight"], given["seconds"]))


def _operation(what: str, clients: Sequence[Client], value: str) -> Operation:
    key, count = keys(), len(clients)
    match what:
        case "put":
            return lambda number: clients[number % count].do(Put(key(), value))
        case "linearizable":
            fresh = Linearizable()
            return lambda number: clients[number % count].read(Get(key()), fresh)
        case "lease":
            lease = Lease()
            return lambda number: clients[number % count].read(Get(key()), lease)
    raise ValueError(f"nothing to measure is called {what!r}")


async def _fill(client: Client, size: int) -> None:
    """Put something under every key."""
    left = iter(KEYS)

    async def put() -> None:
        for key in left:
            await client.do(Put(key, "v" * size))

    async with trio.open_nursery() as nursery:
        for _ in range(_FILLING):
            nursery.start_soon(put)


async def _failover(client: Client, going: trio.Event) -> None:
    """Ask for a command when told to, at the moment at which the leader is killed."""
    await client.do(Put("failover", "before"))
    tell({"started": True})
    await going.wait()
    await client.do(Put("failover", "after"))
    tell({"done": True})


if __name__ == "__main__":
    collect_seldom()
    trio.run(_main, json.loads(sys.argv[1]))
