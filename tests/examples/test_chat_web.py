"""The web layer of one server: a room of one, on real sockets."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from examples.chat import cluster
from examples.chat.node import HOST, Plan

Room = tuple[Plan, list[tuple[str, str]]]


@asynccontextmanager
async def open_room(directory: Path) -> AsyncIterator[Room]:
    """A room with one server, and the orders that its pages give."""
    orders: list[tuple[str, str]] = []
    plan = cluster.draw(directory, 1, 20_000)
    up = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            cluster.in_this_process, "n1", plan, lambda *order: orders.append(order), up.set
        )
        with trio.fail_after(10):
            await up.wait()
            while json.loads((await http(plan, "GET", "/status"))[1])["state"] != "leader":
                await trio.sleep(0.02)
        yield plan, orders
        nursery.cancel_scope.cancel()


async def http(
    plan: Plan, method: str, target: str, body: str = "", **headers: str
) -> tuple[int, str]:
    port = plan.pages["n1"]
    fields = {"host": f"{HOST}:{port}", "content-length": str(len(body.encode()))} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    status, answer = await raw(plan, f"{method} {target} HTTP/1.1\r\n{head}\r\n{body}".encode())
    return int(status), answer


async def raw(plan: Plan, data: bytes) -> tuple[str, str]:
    answer = b""
    with trio.fail_after(10):
        async with await trio.open_tcp_stream(HOST, plan.pages["n1"]) as stream:
            await stream.send_all(data)
            async for part in stream:
                answer += part
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head.partition(" ")[2][:3], body


@asynccontextmanager
async def websocket(plan: Plan, **headers: str) -> AsyncIterator[WebSocketConnection]:
    extra = [(name.encode(), value.encode()) for name, value in headers.items()]
    port = plan.pages["n1"]
    async with await trio.open_tcp_stream(HOST, port) as stream, trio.open_nursery() as nursery:
        with trio.fail_after(5):
            connection = await wrap_client_stream(
                nursery, stream, f"{HOST}:{port}", "/", extra_headers=extra
            )
        yield connection
        nursery.cancel_scope.cancel()


async def take(connection: WebSocketConnection, kind: str) -> Any:
    with trio.fail_after(10):
        while True:
            message = json.loads(await connection.get_message())
            if kind in message:
                return message[kind]


def tell(connection: WebSocketConnection, **message: object) -> Any:
    return connection.send_message(json.dumps(message))


async def test_the_page_is_served_whole_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with open_room(tmp_path) as (plan, _):
        status, page = await http(plan, "GET", "/")
        assert status == 200
        assert "innerHTML" not in page
        assert page.rstrip().endswith("</html>")
        assert not [mark for mark in ("https://", "@import", 'src="', "url(") if mark in page]
        assert (await http(plan, "HEAD", "/")) == (200, "")
        assert (await http(plan, "GET", "/nothing"))[0] == 404


async def test_curl_can_say_something_and_say_it_again(tmp_path: Path) -> None:
    async with open_room(tmp_path) as (plan, _):
        message = json.dumps({"author": "ann", "text": "hi", "id": "a"})
        for _attempt in range(2):
            status, answer = await http(plan, "POST", "/say", message)
            assert (status, json.loads(answer)) == (200, {"number": 1})


@pytest.mark.parametrize(
    "body", ["", "[]", "5", '{"author": "ann"}', "[" * 10_000, '{"a": 1}', '"\\ud800"']
)
async def test_nonsense_is_answered_as_such(tmp_path: Path, body: str) -> None:
    async with open_room(tmp_path) as (plan, _):
        assert (await http(plan, "POST", "/say", body))[0] == 400


async def test_other_sites_are_refused(tmp_path: Path) -> None:
    async with open_room(tmp_path) as (plan, _):
        port = plan.pages["n1"]
        for bad in (
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": f"http://{HOST}:{port + 1}"},
            {"origin": f"http://{HOST}:{port}.evil.example"},
            {"host": f"evil.example:{port}"},
        ):
            assert (await http(plan, "GET", "/status", **bad))[0] == 403, bad
        for good in (f"http://{HOST}:{port}", f"http://localhost:{port}"):
            assert (await http(plan, "GET", "/status", origin=good))[0] == 200


async def test_a_websocket_from_another_site_is_refused(tmp_path: Path) -> None:
    async with open_room(tmp_path) as (plan, _):
        handshake = {
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        evil = {"origin": "http://evil.example"}
        assert (await http(plan, "GET", "/", **handshake, **evil))[0] == 403
        async with websocket(plan, Origin=f"http://{HOST}:{plan.pages['n1']}") as connection:
            assert (await take(connection, "state"))["name"] == "n1"


async def test_a_visitor_gets_the_state_and_the_lines_behind_the_one_it_has(tmp_path: Path) -> None:
    async with open_room(tmp_path) as (plan, _), websocket(plan) as ann, websocket(plan) as bob:
        state = await take(ann, "state")
        assert state["state"] == "leader"
        assert state["leader"] == state["name"] == "n1"
        assert state["servers"] == plan.pages
        await tell(ann, follow=0)
        for number in range(1, 6):
            await tell(ann, say={"author": "ann", "text": f"<i>{number}", "id": str(number)})
        await tell(ann, say={"author": "ann", "text": "double", "id": "5"})
        seen: list[dict[str, Any]] = []
        while len(seen) < 5:
            seen += await take(ann, "lines")
        assert [(line["number"], line["text"]) for line in seen] == [
            (number, f"<i>{number}") for number in range(1, 6)
        ]
        await tell(bob, follow=3)
        assert [line["number"] for line in await take(bob, "lines")] == [4, 5]


async def test_a_long_history_comes_in_pieces(tmp_path: Path) -> None:
    async with open_room(tmp_path) as (plan, _):
        async with trio.open_nursery() as nursery:
            for number in range(250):
                message = json.dumps({"author": "ann", "text": "hi", "id": str(number)})
                nursery.start_soon(http, plan, "POST", "/say", message)
        async with websocket(plan) as connection:
            await tell(connection, follow=0)
            numbers = []
            while len(numbers) < 250:
                numbers += [line["number"] for line in await take(connection, "lines")]
            assert numbers == list(range(1, 251))


async def test_a_message_that_can_not_be_said_is_refused(tmp_path: Path) -> None:
    async with open_room(tmp_path) as (plan, _), websocket(plan) as connection:
        await tell(connection, say={"author": "", "text": "hi", "id": "a"})
        refused = await take(connection, "refused")
        assert refused["id"] == "a"
        assert "author" in refused["reason"]


async def test_orders_are_handed_on(tmp_path: Path) -> None:
    async with open_room(tmp_path) as (plan, orders), websocket(plan) as connection:
        await tell(connection, kill="n1")
        await tell(connection, start="n1")
        with trio.fail_after(10):
            while orders != [("kill", "n1"), ("start", "n1")]:
                await trio.sleep(0.01)


@pytest.mark.parametrize(
    "message",
    ["", "x", "[]", '{"kill": "n9"}', '{"follow": "x"}', '{"say": {"x": 1}}', "[" * 10_000],
)
async def test_a_visitor_that_speaks_nonsense_is_shown_the_door(
    tmp_path: Path, message: str
) -> None:
    async with open_room(tmp_path) as (plan, orders):
        async with websocket(plan) as connection:
            await connection.send_message(message)
            with pytest.raises(ConnectionClosed), trio.fail_after(10):
                while True:
                    await connection.get_message()
        assert not orders
        assert (await http(plan, "GET", "/status"))[0] == 200


async def test_strangers_do_no_harm(tmp_path: Path) -> None:
    async with open_room(tmp_path) as (plan, _):
        upgrade = f"GET / HTTP/1.1\r\nhost: {HOST}\r\nupgrade: websocket\r\n\r\n"
        async with trio.open_nursery() as nursery:
            for data in (b"", b"\x00\xff" * 100, b"GET /", upgrade.encode(), b"x" * 100_000):
                nursery.start_soon(leave_early, plan, data)
        assert (await http(plan, "GET", "/status"))[0] == 200


async def leave_early(plan: Plan, data: bytes) -> None:
    async with await trio.open_tcp_stream(HOST, plan.pages["n1"]) as stream:
        with trio.move_on_after(0.2), suppress(trio.BrokenResourceError):
            await stream.send_all(data)
            await stream.receive_some()
