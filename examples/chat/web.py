"""The web server of one node: the page, a little JSON for curl, and the door for websockets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11
import trio

import trioraft

from . import visitor
from .node import FRAME_LIMIT, HOST, Node
from .room import Say

PAGE = Path(__file__).with_name("page.html").read_bytes()
NAMES = ("127.0.0.1", "localhost")
PATIENCE = 5.0
"""Seconds that a stranger has for his request, and that a message has to be committed."""
HTML = {
    "content-type": "text/html; charset=utf-8",
    # The page brings everything along, talks to the servers of the room, and sits in no frame.
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; connect-src " + " ".join(f"ws://{name}:*" for name in NAMES),
}
JSON = {"content-type": "application/json"}

Answer = tuple[int, dict[str, str], bytes]


async def welcome(node: Node, stream: trio.SocketStream) -> None:
    """Serve one connection: a websocket for as long as it lasts, or one plain answer."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=FRAME_LIMIT)
    try:
        with trio.fail_after(PATIENCE):
            request, read = await _head(connection, stream)
            headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
            friend = _is_friend(node, headers)
            wants_websocket = headers.get("upgrade", "").lower() == "websocket"
            if not (friend and wants_websocket):
                body = await _body(connection, stream)
        if friend and wants_websocket:
            await visitor.receive(node, _Replay(stream, read))
        elif friend:
            await _send(connection, stream, request, await _answer(node, request, body))
        else:
            await _send(connection, stream, request, _problem(403, "another site's page"))
    except (h11.ProtocolError, trio.BrokenResourceError, trio.TooSlowError):
        return  # whoever it was does not speak HTTP, or has left


def _is_friend(node: Node, headers: dict[str, str]) -> bool:
    """Is this one of our own pages, or no web page at all?

    Any page in the browser may open a websocket to anywhere, loopback too; the browser only tells
    us whose page it is.  And a hostile name may be made to lead to loopback: look at the host.
    """
    ours = {f"http://{name}:{port}" for name in NAMES for port in node.plan.pages.values()}
    host = urlsplit(f"//{headers.get('host', '')}").hostname
    return host in NAMES and ("origin" not in headers or headers["origin"] in ours)


async def _answer(node: Node, request: h11.Request, body: bytes) -> Answer:
    method = "GET" if request.method == b"HEAD" else request.method.decode()
    match method, request.target.decode():
        case "GET", "/":
            return 200, HTML, PAGE
        case "GET", "/status":
            return _json(200, node.status())
        case "POST", "/say":
            return await _say(node, body)
        case _:
            return _problem(404, "there is /, /status, POST /say, and a websocket at /")


async def _say(node: Node, body: bytes) -> Answer:
    """`POST /say`: a server that does not lead says where to go (`curl --location` goes there)."""
    try:
        say = Say(**json.loads(body))
    except (ValueError, TypeError, RecursionError) as error:
        return _problem(400, str(error))
    try:
        with trio.fail_after(PATIENCE):
            return _json(200, {"number": await node.server.do(say)})
    except trioraft.NotLeaderError as error:
        if error.leader not in node.plan.pages:
            return _problem(503, str(error))
        port = node.plan.pages[error.leader]
        return 307, {"location": f"http://{HOST}:{port}/say"}, b""
    except (trioraft.OutcomeUnknown, trio.TooSlowError):
        return _problem(504, "nobody can say whether it was said; say it again with the same id")
    except (trioraft.CommandError, trioraft.ServerStopped) as error:
        return _problem(503, str(error))


def _json(status: int, value: Any) -> Answer:
    return status, JSON, json.dumps(value).encode() + b"\n"


def _problem(status: int, message: str) -> Answer:
    return _json(status, {"error": message})


async def _head(connection: h11.Connection, stream: trio.SocketStream) -> tuple[h11.Request, bytes]:
    """The request, and all bytes that were read to get it."""
    read = b""
    while (event := connection.next_event()) is h11.NEED_DATA:
        data = await stream.receive_some()
        connection.receive_data(data)
        read += data
    if not isinstance(event, h11.Request):
        raise h11.RemoteProtocolError("no request")
    return event, read


async def _body(connection: h11.Connection, stream: trio.SocketStream) -> bytes:
    if connection.they_are_waiting_for_100_continue:
        go_on = h11.InformationalResponse(status_code=100, headers=[])
        await stream.send_all(connection.send(go_on) or b"")
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage | h11.PAUSED):
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Data):
            body += event.data
        if len(body) > FRAME_LIMIT:
            raise h11.RemoteProtocolError("too long")
    return body


async def _send(
    connection: h11.Connection, stream: trio.SocketStream, request: h11.Request, answer: Answer
) -> None:
    status, headers, body = answer
    always = {"content-length": str(len(body)), "connection": "close", "cache-control": "no-store"}
    head = h11.Response(status_code=status, headers=list((headers | always).items()))
    data = connection.send(head) or b""
    if request.method != b"HEAD":
        data += connection.send(h11.Data(data=body)) or b""
    await stream.send_all(data)


class _Replay(trio.abc.Stream):
    """A stream that first gives again what was already read from it."""

    def __init__(self, stream: trio.SocketStream, read: bytes) -> None:
        self._stream = stream
        self._read = read

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._read:
            return await self._stream.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        end = max_bytes or len(self._read)
        given, self._read = self._read[:end], self._read[end:]
        return given

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
