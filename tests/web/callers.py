"""Who asks over HTTP in these tests: memory streams, and what comes back over them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import h11
import trio
from attrs import frozen
from trio.testing import memory_stream_pair

from trioraft._transport.http import WebRequest, WebResponse
from trioraft._transport.visitor import WebDoor
from trioraft._transport.websocket import serve_stream
from trioraft.abc import Connection

PATIENT = 1000.0


@frozen
class Heard:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


async def echo(request: WebRequest) -> WebResponse:
    """Says what it was asked."""
    told = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": dict(request.headers),
        "body": request.body.decode("latin-1"),
    }
    return WebResponse(200, json.dumps(told).encode())


async def no_peer(connection: Connection) -> None:
    raise AssertionError("a stranger became a peer")


def post(path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode("latin-1")


class Caller:
    """One end of a stream; the other end is served."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def hear(self, method: str = "GET") -> Heard:
        """The next answer."""
        http = self._http
        # h11 must believe that it has asked; what was really sent is the test's business.
        http.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        http.send(h11.EndOfMessage())
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                break
        body = b""
        while isinstance(data := await self._event(), h11.Data):
            body += data.data
        assert isinstance(data, h11.EndOfMessage)
        if http.their_state is h11.DONE and http.our_state is h11.DONE:
            http.start_next_cycle()
        headers = {name.decode(): value.decode() for name, value in event.headers}
        return Heard(event.status_code, headers, body)

    async def _event(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(bytes(await self.stream.receive_some()))
        return event

    async def rest(self) -> bytes:
        """All that still comes, until the other side hangs up."""
        rest = b""
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await self.stream.receive_some():
                rest += data
        return rest


async def with_caller(
    use: Callable[[Caller], Awaitable[None]],
    respond: Callable[[WebRequest], Awaitable[WebResponse]] = echo,
    handler: Callable[[Connection], Awaitable[None]] = no_peer,
    pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = memory_stream_pair,
) -> None:
    """Run a caller against a door; both must come to an end."""
    near, far = pair()
    with trio.fail_after(PATIENT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_stream, far, handler, WebDoor(respond))
            async with near:
                await use(Caller(near))


async def ask(
    data: bytes,
    respond: Callable[[WebRequest], Awaitable[WebResponse]] = echo,
    *,
    method: str = "GET",
) -> Heard:
    """Send this, and hear one answer."""
    heard: list[Heard] = []

    async def use(caller: Caller) -> None:
        await caller.send(data)
        heard.append(await caller.hear(method))

    await with_caller(use, respond)
    return heard[0]
