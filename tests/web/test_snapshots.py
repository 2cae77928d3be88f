"""Snapshots by plain HTTP, of a real server in virtual time."""

from __future__ import annotations

import io
import json
from typing import Any

import trio

from tests.server.worlds import Cluster, a_running_cluster, in_virtual_time
from trioraft._snapshots.form import verify
from trioraft._transport.http import Respond, WebRequest
from trioraft._web import make_respond


def door_of(cluster: Cluster, name: str) -> Respond:
    server = cluster[name]
    assert server._handshake is not None
    return make_respond(server._new_front(server._core, server._handshake))


async def take(respond: Respond, query: str = "") -> Any:
    response = await respond(WebRequest("POST", "/snapshot", query, {}, b""))
    assert response.status == 200
    return json.loads(response.body)


async def piece(respond: Respond, told: Any, offset: int) -> tuple[int, bytes]:
    query = f"index={told['index']}&term={told['term']}&offset={offset}"
    response = await respond(WebRequest("POST", "/snapshot/piece", query, {}, b""))
    return response.status, response.body


@in_virtual_time
async def test_a_snapshot_is_taken_and_fetched() -> None:
    async with a_running_cluster(1) as cluster:
        respond = door_of(cluster, "n1")
        await cluster.say("one")
        told = await take(respond)
        assert told["index"] == cluster["n1"].last_applied
        status, data = await piece(respond, told, 0)
        assert (status, len(data)) == (200, told["size"])
        assert verify(io.BytesIO(data)).digest.hex() == told["digest"]
        assert await piece(respond, told, 100) == (200, data[100:])
        assert await piece(respond, told, told["size"]) == (200, b"")
        assert await piece(respond, told, 10**18 - 1) == (200, b"")


@in_virtual_time
async def test_who_comes_back_because_it_took_too_long_finds_it() -> None:
    async with a_running_cluster(1) as cluster:
        respond = door_of(cluster, "n1")
        await cluster.say("one")
        told = await take(respond)
        await cluster.say("two")
        assert await take(respond, f"index={told['index']}") == told
        newer = await take(respond, f"index={told['index'] + 1}")
        assert newer["index"] == told["index"] + 1
        assert await take(respond) == newer


@in_virtual_time
async def test_one_that_is_being_fetched_stays_for_a_minute() -> None:
    async with a_running_cluster(1) as cluster:
        respond = door_of(cluster, "n1")
        await cluster.say("one")
        told = await take(respond)
        assert (await piece(respond, told, 0))[0] == 200
        await cluster.say("two")
        await take(respond)
        assert (await piece(respond, told, 100))[0] == 200
        await trio.sleep(61)
        await cluster.say("three")
        await take(respond)
        status, body = await piece(respond, told, 200)
        assert (status, json.loads(body)["error"]) == (404, "NotFound")
