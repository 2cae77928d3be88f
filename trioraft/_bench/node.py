"""A server with the key-value recipe as a process: `python -m trioraft._bench.node ARGUMENTS`.

It is what `trioraft serve` runs, with the same settings; and when told to, it asks itself for
commands, as a program would that has the server in its own process.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import trio

from trioraft._bench.loop import closed_loop, keys
from trioraft._bench.speaking import orders, own_stdin, tell
from trioraft._config import Config
from trioraft._garbage import collect_seldom
from trioraft._server import Server
from trioraft._transport.websocket import WebSocketTransport
from trioraft.recipes.kv import KeyValues, Put


async def _main(given: dict[str, Any]) -> None:
    name, cluster = given["name"], given["cluster"]
    server = Server(
        name,
        given["directory"],
        WebSocketTransport(cluster[name]),
        KeyValues(),
        initial_cluster=cluster,
        config=Config(**given["config"]),
    )
    async with own_stdin() as stdin, trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        tell({"listens": cluster[name]})
        async for order in orders(stdin):
            if order["order"] == "load":
                tell(await _load(server, order))
            else:
                status = {"leads": server.state == "leader", "leader": server.leader}
                tell({**status, "term": server.term, "applied": server.last_applied})
        nursery.cancel_scope.cancel()


async def _load(server: Server, order: dict[str, Any]) -> dict[str, Any]:
    key, value = keys(), "v" * order["value"]
    put = lambda _: server.do(Put(key(), value))  # noqa: E731
    return await closed_loop(put, order["in_flight"], order["seconds"])


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(name)s: %(message)s")
    collect_seldom()
    trio.run(_main, json.loads(sys.argv[1]))
