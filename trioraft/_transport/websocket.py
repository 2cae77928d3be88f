"""Connections between servers as websockets: the transport of real life.

`connect_stream` and `serve_stream` speak websocket over any pair of Trio streams;
`WebSocketTransport` is what joins them to TCP.  trio-websocket does the framing.  It is kept on a
short lead, because what it may do on hostile input is raise, hang or grow: see `guard.py`.  A
transport that was given something to answer with lets those in who speak plain HTTP, too.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, NoReturn

import trio
import trio_websocket
from trio_websocket import ConnectionClosed, ConnectionRejected

from trioraft._errors import ProtocolError
from trioraft._limits import MAX_CONNECTIONS, MAX_MESSAGE_BYTES
from trioraft._transport.addresses import parse_address
from trioraft._transport.guard import Reader, Turn, open_reader
from trioraft._transport.http import Respond
from trioraft._transport.visitor import WebDoor
from trioraft._turns import Turns
from trioraft.abc import Connection

PROTOCOL: Final = "trioraft.v1"
"""The version of what is spoken inside, as a websocket subprotocol."""

PATH: Final = "/raft"

HANDSHAKE_SECONDS: Final = 5.0
"""How long it may take from the first packet until a connection is open."""

_RECEIVE_BUFFER_BYTES: Final = 1 << 18  # the default of 4 KiB costs up to seven times the CPU
_OTHER_FILES: Final = 256
"""Open files that are left to the log and to whatever else the program does."""

_TURNS: Final = 8
"""So many steps of handshakes are made in one pass of the loop: some 5 ms."""

_TOLD_EACH: Final = 1000
"""So many refused connections make one line in the log, which may be on the same disk."""

_GOODBYE_TURNS: Final = 5  # of the scheduler; sending takes three if nothing is in its way
_GOOD_ORDER: Final = (1000, 1001, 1005)  # close codes: normal, going away, none given

_SIZES: Final = {
    "receive_buffer_size": _RECEIVE_BUFFER_BYTES,
    "max_message_size": MAX_MESSAGE_BYTES,
}

# Both are declared for narrower types than they work with.
_wrap_client: Any = trio_websocket.wrap_client_stream
_wrap_server: Any = trio_websocket.wrap_server_stream

_log = logging.getLogger("trioraft.transport")


class WebSocketTransport:
    """Servers reach each other over websockets on TCP.

    Args:
        address: `ws://host:port`, where to listen.  With port 0 the system picks a free one.

    Raises:
        ValueError: the address can't be read.
    """

    def __init__(self, address: str) -> None:
        self._address = parse_address(address)
        self._incoming = 0
        self._most = MAX_CONNECTIONS
        self._refused = 0
        self._door: WebDoor | None = None
        self._turns = Turns(_TURNS)

    @property
    def address(self) -> str:
        """Where this server listens; with port 0, the port that was picked, once it is known."""
        return str(self._address)

    def check_address(self, address: str) -> None:
        """See `trioraft.abc.Transport.check_address`."""
        parse_address(address)

    def answer_web(self, respond: Respond) -> None:
        """See `trioraft._transport.http.WebTransport.answer_web`."""
        self._door = WebDoor(respond)

    async def listen(
        self,
        handler: Callable[[Connection], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """See `trioraft.abc.Transport.listen`."""
        # The log needs files, too, and a server that can't open one has failed for good.
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = min(MAX_CONNECTIONS, max(files - _OTHER_FILES, files // 2))
        host, port = self._address.host, self._address.port
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            why = f"can't listen on {self._address}: {error.strerror or error}"
            raise OSError(error.errno, why) from error
        if port == 0:
            # Each address of a name would get a port of its own, but we can only announce one.
            for listener in listeners[1:]:
                await trio.aclose_forcefully(listener)
            listeners = listeners[:1]
            bound: int = listeners[0].socket.getsockname()[1]
            self._address = parse_address(str(self._address)[:-1] + str(bound))
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._turns.run)
            await trio.serve_listeners(partial(self._serve, handler), listeners)

    async def _serve(
        self, handler: Callable[[Connection], Awaitable[None]], stream: trio.SocketStream
    ) -> None:
        if self._incoming >= self._most:
            self._refused += 1
            if self._refused % _TOLD_EACH == 1:
                told = "refused a connection, the %d. by now: %d are open already"
                _log.warning(told, self._refused, self._incoming)
            return  # serve_listeners closes it
        self._incoming += 1
        try:
            await self._turns.take()
            await serve_stream(stream, handler, self._door, self._turns.take)
        finally:
            self._incoming -= 1

    def connect(self, address: str) -> AbstractAsyncContextManager[Connection]:
        """See `trioraft.abc.Transport.connect`."""
        return self._connect(address)

    @asynccontextmanager
    async def _connect(self, address: str) -> AsyncGenerator[Connection]:
        parsed = parse_address(address)
        with trio.CancelScope(deadline=trio.current_time() + HANDSHAKE_SECONDS) as patience:
            stream = await trio.open_tcp_stream(parsed.host, parsed.port)
        if patience.cancelled_caught:
            raise TimeoutError(f"{address} did not answer within {HANDSHAKE_SECONDS} s")
        async with connect_stream(stream, address, deadline=patience.deadline) as connection:
            yield connection


@asynccontextmanager
async def connect_stream(
    stream: trio.abc.Stream, address: str, *, deadline: float | None = None
) -> AsyncGenerator[Connection]:
    """Be the client on an open stream, which is closed when the context is left.

    Args:
        stream: any; the other end of it is in `serve_stream`'s hands.
        address: `ws://host:port`, for the `Host` header and for error messages.
        deadline: on Trio's clock, until when the handshake must be over.

    Raises:
        OSError: the other side closes, or does not answer in time.
        ProtocolError: the other side is no trioraft server of this protocol version.
    """
    if deadline is None:
        deadline = trio.current_time() + HANDSHAKE_SECONDS
    async with open_reader(stream, deadline) as reader:
        websocket = None
        with reader.handshake:
            websocket = await _wrap_client(
                reader,
                reader.stream,
                parse_address(address).netloc,
                PATH,
                subprotocols=[PROTOCOL],
                **_SIZES,
            )
        if websocket is None:
            raise _refusal(address, reader)
        if websocket.subprotocol != PROTOCOL:
            raise ProtocolError(f"{address} is a websocket server, but none of trioraft's")
        connection = _WebSocketConnection(websocket, reader)
        yield connection
        await connection.aclose()


async def serve_stream(
    stream: trio.abc.Stream,
    handler: Callable[[Connection], Awaitable[None]],
    door: WebDoor | None = None,
    turn: Turn | None = None,
) -> None:
    """Be the server on an open stream: run `handler`, then close.

    Plain HTTP is answered at the door, if there is one.  Whatever the other side sends, only what
    `handler` raises comes out of here.
    """
    deadline = trio.current_time() + HANDSHAKE_SECONDS
    read: bytes | None = b""
    if door is not None:
        read = await door.let_in(stream, deadline)
    if read is None:
        return
    async with open_reader(stream, deadline, read, turn) as reader:
        websocket = None
        with reader.handshake:
            try:
                websocket = await _accept(reader)
            except Exception as error:  # noqa: BLE001  # whatever it was, the stranger caused it
                reader.failure = error
        if websocket is None:
            _log.info("a stranger did not become a connection: %s", reader.story)
            return
        connection = _WebSocketConnection(websocket, reader)
        await handler(connection)
        await connection.aclose()


async def _accept(reader: Reader) -> Any:
    request = await _wrap_server(reader, reader.stream, **_SIZES)
    if any(name == b"origin" for name, _ in request.headers):
        return await request.reject(403, body=b"no web page is a server\n")
    if request.path != PATH:
        return await request.reject(404, body=b"trioraft answers at %s\n" % PATH.encode())
    if PROTOCOL not in request.proposed_subprotocols:
        speaks = PROTOCOL.encode()
        headers = [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Protocol", speaks)]
        body = b"this server speaks %s\n" % speaks
        return await request.reject(426, extra_headers=headers, body=body)
    return await request.accept(subprotocol=PROTOCOL)


def _refusal(address: str, reader: Reader) -> OSError | ProtocolError:
    """Why a client's handshake came to nothing."""
    match reader.failure:
        case None if reader.ended:
            return ConnectionResetError(f"{address} closed the connection before it was open")
        case None:
            return TimeoutError(f"{address} did not answer within {HANDSHAKE_SECONDS} s")
        case ConnectionRejected(status_code=status, headers=headers):
            versions = dict(headers or ()).get(b"sec-websocket-protocol", b"")[:100]
            if status == 426 and versions:
                theirs = versions.decode("ascii", "backslashreplace")
                return ProtocolError(f"{address} speaks {theirs}; this server speaks {PROTOCOL}")
            return ProtocolError(f"{address} is no trioraft server: it answers HTTP {status}")
        case failure:
            return ProtocolError(f"{address} is no trioraft server: {failure}")


class _WebSocketConnection(trio.abc.Channel[bytes]):
    """A websocket after its handshake, in the terms of `trioraft.abc.Connection`."""

    def __init__(self, websocket: Any, reader: Reader) -> None:
        self._websocket = websocket
        self._stream = reader.stream
        self._stream.websocket = websocket
        self._closed = False
        self._broken = False

    async def send(self, value: bytes) -> None:
        self._check()
        if len(value) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(value)} bytes is too large to send")
        try:
            await self._websocket.send_message(value)
        except Exception as error:
            self._check()
            raise trio.BrokenResourceError("the other side is gone") from error
        except BaseException:
            self._broken = True  # half a frame may be out
            await trio.aclose_forcefully(self._stream)
            raise

    async def receive(self) -> bytes:
        self._check()
        try:
            message = await self._websocket.get_message()
        except ConnectionClosed as error:
            self._check()
            if error.reason is not None and error.reason.code in _GOOD_ORDER:
                raise trio.EndOfChannel from None
            raise trio.BrokenResourceError("the other side is gone") from error
        if not isinstance(message, bytes):
            self._broken = True
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError("the other side sent text")
        return message

    async def aclose(self) -> None:
        polite = not self._closed and not self._broken
        self._closed = True
        if polite:
            # The close frame goes out if there is room for it right now.  Nobody waits for it.
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.shield = True
                nursery.start_soon(self._websocket.aclose)
                for _ in range(_GOODBYE_TURNS):
                    await trio.lowlevel.cancel_shielded_checkpoint()
                nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(self._stream)

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self._broken:
            raise trio.BrokenResourceError("a send was cancelled, or the other side sent text")
