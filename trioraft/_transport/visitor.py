"""Plain HTTP/1.1 on the port of the websockets.

`WebDoor.let_in` reads the head of what comes in.  Who wants a websocket goes on as a peer, with all
that was read; everybody else is answered here, one request after the other.  h11 does the framing.
Nothing grows without a bound, and nobody is waited for without an end.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

import h11
import trio

from trioraft._limits import MAX_COMMAND_BYTES
from trioraft._transport.http import Respond, WebRequest, WebResponse, problem

MAX_VISITORS: Final = 256
"""The most connections that speak plain HTTP at a time: they must not keep the servers out."""

MAX_HEAD_BYTES: Final = 1 << 14
"""The largest head of a request."""

MAX_BODY_BYTES: Final = MAX_COMMAND_BYTES * 3 // 2
"""The largest body of a request; base64 makes bytes larger by a third."""

BODY_SECONDS: Final = 30.0
"""How long a body may take to come."""

KEEP_ALIVE_SECONDS: Final = 30.0
"""How long it may take from an answer until the next request's head is there."""

SEND_SECONDS: Final = 30.0
"""How long each piece of an answer may wait for room."""

LINGER_SECONDS: Final = 2.0
"""How long the other side may take to read the last answer before the connection is closed."""

_RECEIVE_BYTES: Final = 1 << 13  # the tiniest chunks in this much keep h11 busy for some 10 ms
_SEND_BYTES: Final = 1 << 16
_MAX_EARLY_BYTES: Final = 1 << 14  # that come while a request is answered
_ALWAYS: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))

_log = logging.getLogger("trioraft.transport")


class WebDoor:
    """Where strangers knock."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._inside = 0

    async def let_in(self, stream: trio.abc.Stream, deadline: float) -> bytes | None:
        """Answer whoever speaks plain HTTP.

        Returns:
            What was read so far of a stream that wants to be a websocket; None if it was answered,
            and closed.  Nothing that the other side does raises out of here.
        """
        visitor = Visitor(stream)
        websocket = False
        try:
            websocket = await visitor.knock(deadline)
            if visitor.asks and not websocket:
                await self._answer(visitor)
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            _log.debug("a visitor left: %r", error)
        except Exception as error:  # noqa: BLE001  # whatever it was, the stranger caused it
            _log.info("could not talk to a visitor: %r", error)
            _log.debug("a visitor broke it", exc_info=True)
        finally:
            if not websocket:
                await trio.aclose_forcefully(stream)
        return visitor.read if websocket else None

    async def _answer(self, visitor: Visitor) -> None:
        if self._inside >= MAX_VISITORS:
            _log.warning("refused a visitor: %d are here already", self._inside)
            await visitor.refuse(problem(503, "Busy", "too many connections", close=True))
            return
        self._inside += 1
        try:
            await visitor.converse(self._respond)
        finally:
            self._inside -= 1


class _Refused(Exception):
    """A request is answered before all of it has come."""

    def __init__(self, response: WebResponse) -> None:
        super().__init__(response)
        self.response = response


class Visitor:
    """One client's requests over one stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
        self._request: h11.Request | None = None
        self._early = bytearray()
        self._knocking = True
        self.read = b""
        """All that was read until the first head was there."""

    @property
    def asks(self) -> bool:
        """Whether there is a request that was not answered yet."""
        return self._request is not None

    # -- requests ------------------------------------------------------------------------------

    async def knock(self, deadline: float) -> bool:
        """Read the first head, if one comes; says whether it asks for a websocket."""
        with trio.move_on_at(deadline) as patience:
            try:
                await self._next_request()
            except h11.RemoteProtocolError as error:
                await self._complain(error)
        if patience.cancelled_caught:
            _log.info("a stranger was too slow")
        self._knocking = False
        return self._request is not None and _wants_websocket(self._request)

    async def _next_request(self) -> None:
        self._request = None
        event = await self._event()
        self._request = event if isinstance(event, h11.Request) else None

    async def _event(self) -> object:
        """What h11 makes of what comes next."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._early:
                data, self._early = bytes(self._early), bytearray()
            else:
                data = bytes(await self._stream.receive_some(_RECEIVE_BYTES))
            self._http.receive_data(data)
            if self._knocking:
                self.read += data
        return event

    async def _body(self, request: h11.Request) -> bytes:
        if not request.http_version.startswith(b"1."):
            raise _Refused(problem(505, "BadRequest", "this is HTTP/1.1", close=True))
        lengths = _all(request, b"content-length")
        if lengths and _all(request, b"transfer-encoding"):
            raise _Refused(problem(400, "BadRequest", "both a length and an encoding", close=True))
        if lengths and int(lengths[0]) > MAX_BODY_BYTES:
            raise _Refused(_too_large())
        body = bytearray()
        with trio.move_on_after(BODY_SECONDS):
            if self._http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await self._stream.send_all(self._http.send(go_on))
            while not isinstance(event := await self._event(), h11.EndOfMessage):
                assert isinstance(event, h11.Data)
                body += event.data
                if len(body) > MAX_BODY_BYTES:
                    raise _Refused(_too_large())
            return bytes(body)
        slow = f"the body did not come within {BODY_SECONDS:g} s"
        raise _Refused(problem(408, "RequestTimeout", slow, close=True))

    # -- answers -------------------------------------------------------------------------------

    async def converse(self, respond: Respond) -> None:
        """Answer the request that was read, and those that follow."""
        try:
            while self._request is not None:
                response = await self._response(self._request, respond)
                if response is None:
                    return
                await self._send(response)
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    await self._linger()
                    return
                self._http.start_next_cycle()
                self._request = None
                with trio.move_on_after(KEEP_ALIVE_SECONDS):
                    await self._next_request()
        except h11.RemoteProtocolError as error:
            await self._complain(error)

    async def refuse(self, response: WebResponse) -> None:
        """Say this, and no more."""
        await self._send(response)
        await self._linger()

    async def _complain(self, error: h11.RemoteProtocolError) -> None:
        """Tell what was wrong with what came, if there is a way to."""
        _log.info("a stranger spoke no HTTP: %s", error)
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            status = error.error_status_hint
            await self.refuse(problem(status, "BadRequest", str(error), close=True))

    async def _response(self, request: h11.Request, respond: Respond) -> WebResponse | None:
        """What to answer; None if nobody is there any more to hear it."""
        try:
            asked = _as_asked(request, await self._body(request))
        except _Refused as refused:
            return refused.response
        response: WebResponse | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            response = await _respond(respond, asked)
            nursery.cancel_scope.cancel()
        return response

    async def _watch(self, waiting: trio.CancelScope) -> None:
        """Cancel who waits for an answer when the client hangs up; keep what comes meanwhile."""
        try:
            while data := await self._stream.receive_some(_RECEIVE_BYTES):
                self._early += data
                if len(self._early) >= _MAX_EARLY_BYTES:
                    return
        except trio.BrokenResourceError:
            pass
        waiting.cancel()

    async def _send(self, response: WebResponse) -> None:
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *_ALWAYS,
            *response.headers.items(),
        ]
        if response.close:
            headers.append(("Connection", "close"))
        http = self._http
        phrase = HTTPStatus(response.status).phrase
        head = h11.Response(status_code=response.status, headers=headers, reason=phrase)
        data = bytearray(http.send(head))
        if self._request is None or self._request.method != b"HEAD":
            data += http.send(h11.Data(data=response.body))
        data += http.send(h11.EndOfMessage())
        for start in range(0, len(data), _SEND_BYTES):
            with trio.fail_after(SEND_SECONDS):
                await self._stream.send_all(data[start : start + _SEND_BYTES])

    async def _linger(self) -> None:
        """Hang up, and read on until the other side has, too.

        To close on what was not read resets the connection, and may destroy the last answer.
        """
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
            with trio.move_on_after(LINGER_SECONDS):
                while await self._stream.receive_some(_SEND_BYTES):
                    pass


async def _respond(respond: Respond, asked: WebRequest) -> WebResponse:
    try:
        return await respond(asked)
    except Exception:  # noqa: BLE001  # it is told twice, and one request must not end a server
        _log.exception("%s %s failed", asked.method, asked.path)
        failed = "it failed in a way that nobody foresaw; see the server's log"
        return problem(500, "InternalError", failed, outcome="unknown")


def _as_asked(request: h11.Request, body: bytes) -> WebRequest:
    headers: dict[str, str] = {}
    for name, value in request.headers:
        key, text = name.decode("ascii"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    target = request.target.decode("ascii")
    if target.lower().startswith("http://"):  # as to a proxy
        target = "/" + target[len("http://") :].partition("/")[2]
    path, _, query = target.partition("?")
    method = "GET" if request.method == b"HEAD" else request.method.decode("ascii")
    return WebRequest(method, path, query, headers, body)


def _wants_websocket(request: h11.Request) -> bool:
    asked = b",".join(_all(request, b"upgrade")).lower().split(b",")
    return b"websocket" in map(bytes.strip, asked)


def _all(request: h11.Request, wanted: bytes) -> list[bytes]:
    return [value for name, value in request.headers if name == wanted]


def _too_large() -> WebResponse:
    most = f"a body may have {MAX_BODY_BYTES} bytes"
    return problem(413, "ContentTooLarge", most, close=True)
