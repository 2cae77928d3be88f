"""One server as a process of its own: requests as JSON lines on stdin, answers on stdout."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import attrs
import trio

import trioraft
from trioraft import Anything, Applied


@trioraft.command("say")
@attrs.frozen
class Say:
    text: str

    def apply(self, room: Room, applied: Applied) -> int:
        room.lines.append(self.text)
        return applied.index


@trioraft.query("lines")
@attrs.frozen
class Lines:
    def answer(self, room: Room) -> list[str]:
        return list(room.lines)


class Room:
    commands = (Say, Lines)

    def __init__(self) -> None:
        self.lines: list[str] = []

    def save(self) -> bytes:
        return json.dumps(self.lines).encode()

    def recover(self, state: bytes) -> None:
        self.lines = json.loads(state)


async def requests() -> AsyncIterator[dict[str, Any]]:
    rest = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        async for chunk in stdin:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield json.loads(line)


async def answer(server: trioraft.Server, request: dict[str, Any]) -> None:
    reply: dict[str, Any] = {"id": request["id"]}
    try:
        if "say" in request:
            reply["index"] = await server.do(Say(request["say"]))
        elif "lines" in request:
            reply["lines"] = (await server.read(Lines(), Anything())).value
        else:
            reply |= {"state": server.state, "term": server.term, "leader": server.leader}
    except trioraft.TrioraftError as error:
        reply |= {"error": type(error).__name__, "leader": getattr(error, "leader", None)}
    print(json.dumps(reply), flush=True)


async def main(name: str, path: str, cluster: dict[str, str]) -> None:
    server = trioraft.Server(
        name,
        path,
        trioraft.WebSocketTransport(cluster[name]),
        Room(),
        initial_cluster=cluster,
        config=trioraft.Config(snapshot_entries=20, trailing_entries=2),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        print(json.dumps({"id": 0}), flush=True)
        async for request in requests():
            nursery.start_soon(answer, server, request)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        trio.run(main, sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    except* trioraft.StorageLocked:
        sys.exit("StorageLocked")
