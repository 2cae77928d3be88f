"""What strangers do to a listening websocket transport, over real sockets."""

from __future__ import annotations

import contextlib
import logging
import random
import resource
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trioraft._limits import MAX_MESSAGE_BYTES
from trioraft._transport import websocket
from trioraft._transport.websocket import PROTOCOL, WebSocketTransport
from trioraft.abc import Connection

REQUEST = (
    b"GET /raft HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: trioraft.v1\r\n\r\n"
)
BINARY, TEXT, CONTINUATION, CLOSE, PING = 0x2, 0x1, 0x0, 0x8, 0x9


def header(opcode: int, length: int, *, final: bool = True) -> bytes:
    """A client's frame header, with a mask of zeros."""
    first = (0x80 if final else 0) | opcode
    if length < 126:
        return struct.pack("!BBI", first, 0x80 | length, 0)
    if length < 1 << 16:
        return struct.pack("!BBHI", first, 0x80 | 126, length, 0)
    return struct.pack("!BBQI", first, 0x80 | 127, length, 0)


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    return header(opcode, len(payload), final=final) + payload


class Server:
    """A transport that listens and echoes, and keeps how each of its connections ended."""

    def __init__(self) -> None:
        self.transport = WebSocketTransport("ws://127.0.0.1:0")
        self.endings: list[type[Exception]] = []
        self.received = 0

    async def handle(self, connection: Connection) -> None:
        try:
            while True:
                message = await connection.receive()
                self.received += 1
                with contextlib.suppress(trio.BrokenResourceError):
                    await connection.send(message)
        except (trio.EndOfChannel, trio.BrokenResourceError) as error:
            self.endings.append(type(error))

    async def stranger(self) -> trio.SocketStream:
        port = int(self.transport.address.rpartition(":")[2])
        return await trio.open_tcp_stream("127.0.0.1", port)

    @asynccontextmanager
    async def intruder(self) -> AsyncGenerator[trio.SocketStream]:
        """A stranger who got through the handshake."""
        async with await self.stranger() as stream:
            await stream.send_all(REQUEST)
            answer = b""
            while b"\r\n\r\n" not in answer:  # the first message may come right behind it
                more = await stream.receive_some()
                if not more:
                    raise trio.BrokenResourceError
                answer += more
            assert answer.startswith(b"HTTP/1.1 101 ")
            yield stream

    async def ended(self) -> type[Exception]:
        """How the one connection that there was ended."""
        with trio.fail_after(5):
            while not self.endings:
                await trio.sleep(0.001)
        (ending,) = self.endings
        return ending

    async def serves(self) -> None:
        """A good peer still gets in, at once."""
        with trio.fail_after(1):
            async with WebSocketTransport("ws://127.0.0.1:0").connect(
                self.transport.address
            ) as connection:
                await connection.send(b"hello")
                assert await connection.receive() == b"hello"


@asynccontextmanager
async def open_server() -> AsyncGenerator[Server]:
    server = Server()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.transport.listen, server.handle)
        yield server
        with trio.fail_after(5):
            await server.serves()
        nursery.cancel_scope.cancel()


async def everything(stream: trio.SocketStream) -> bytes:
    """What comes until the other side hangs up."""
    answer = b""
    with trio.fail_after(5):
        try:
            async for data in stream:
                answer += data
        except trio.BrokenResourceError:
            pass
    return answer


@pytest.mark.parametrize(
    "garbage",
    [
        bytes(range(256)) * 10,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # a TLS client
        b"\r\n" * 1000,
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000,
        b"A" * 100_000,
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        REQUEST.replace(b"Host: x", b"Host: \xff\xff"),
        REQUEST.replace(b"Host: x", b"Host: xn--\x80"),
        REQUEST.replace(b"Host: x", b"Host: " + b"x" * 300),
        REQUEST.replace(b"GET", b"POST"),
        REQUEST.replace(b"trioraft.v1", b"\xfc\xfd"),
        REQUEST.replace(b"Version: 13", b"Version: 12"),
        REQUEST.replace(b"Upgrade: websocket\r\n", b""),
        REQUEST.replace(b"AAAAAAAAAAAAAAAAAAAAAA==", b"short"),
    ],
)
async def test_garbage(garbage: bytes) -> None:
    async with open_server() as server, await server.stranger() as stream:
        try:
            await stream.send_all(garbage)
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass
        await everything(stream)


async def test_a_plain_request_gets_400() -> None:
    async with open_server() as server, await server.stranger() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await everything(stream)).startswith(b"HTTP/1.1 400 ")


async def test_another_path_gets_404() -> None:
    async with open_server() as server, await server.stranger() as stream:
        await stream.send_all(REQUEST.replace(b"/raft", b"/chat"))
        answer = await everything(stream)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"/raft" in answer


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST.replace(b"trioraft.v1", b"trioraft.v7, chat"),
        REQUEST.replace(b"Sec-WebSocket-Protocol: trioraft.v1\r\n", b""),
    ],
)
async def test_another_version_or_none_gets_426(request_: bytes, caplog) -> None:
    caplog.set_level(logging.INFO, logger="trioraft.transport")
    async with open_server() as server, await server.stranger() as stream:
        await stream.send_all(request_)
        answer = await everything(stream)
    assert answer.startswith(b"HTTP/1.1 426 ")
    assert answer.count(PROTOCOL.encode()) == 2  # for programs and for people
    assert any("version" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"text"),
        frame(TEXT, b"\xff\xff"),
        frame(0x3, b"no such opcode"),
        frame(CONTINUATION, b"of nothing"),
        b"\xf2\x84\x00\x00\x00\x00abcd",  # reserved bits, as a compressed message has
        b"\x82\x03abc",  # no mask
        frame(CLOSE, b"\x03"),
        frame(CLOSE, struct.pack("!H", 1011) + b"failed"),
        frame(PING, bytes(126)),
        frame(PING, b"", final=False),
        bytes(range(200, 256)),
        b"\x00" * 64,
    ],
)
async def test_nonsense_after_the_handshake(data: bytes) -> None:
    async with open_server() as server, server.intruder() as stream:
        await stream.send_all(data)
        assert await server.ended() is trio.BrokenResourceError
        await everything(stream)
        server.endings.clear()


@pytest.mark.parametrize("data", [frame(CLOSE, b""), frame(CLOSE, struct.pack("!H", 1000))])
async def test_a_close_frame_is_good_order(data: bytes) -> None:
    async with open_server() as server, server.intruder() as stream:
        await stream.send_all(frame(BINARY, b"last words") + data)
        assert await server.ended() is trio.EndOfChannel
        assert server.received == 1


@pytest.mark.parametrize("announced", [(1 << 62), MAX_MESSAGE_BYTES + 1])
async def test_a_giant_frame(announced: int) -> None:
    async with open_server() as server, server.intruder() as stream:
        try:
            await stream.send_all(header(BINARY, announced))
            for _ in range(3 * MAX_MESSAGE_BYTES >> 16):
                await stream.send_all(bytes(1 << 16))
        except trio.BrokenResourceError:
            pass
        assert await server.ended() is trio.BrokenResourceError
        assert server.received == 0


async def test_a_giant_message_in_fragments() -> None:
    async with open_server() as server, server.intruder() as stream:
        try:
            await stream.send_all(frame(BINARY, bytes(1 << 16), final=False))
            for _ in range(MAX_MESSAGE_BYTES >> 16):
                await stream.send_all(frame(CONTINUATION, bytes(1 << 16), final=False))
        except trio.BrokenResourceError:
            pass
        assert await server.ended() is trio.BrokenResourceError


@pytest.mark.parametrize("payload", [b"", b"x"])
async def test_endless_fragments_do_not_pile_up(payload: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with open_server() as server, server.intruder() as stream:
        try:
            await stream.send_all(frame(BINARY, payload, final=False))
            for _ in range(100):
                await stream.send_all(frame(CONTINUATION, payload, final=False) * 1000)
        except trio.BrokenResourceError:
            pass
        assert await server.ended() is trio.BrokenResourceError
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert kilobytes < 30_000


async def test_a_message_in_some_fragments_is_fine() -> None:
    async with open_server() as server, server.intruder() as stream:
        await stream.send_all(
            frame(BINARY, b"a", final=False)
            + frame(PING, b"between")
            + frame(CONTINUATION, b"b", final=False)
            + frame(CONTINUATION, b"c")
        )
        answer = b""
        while not answer.endswith(b"\x82\x03abc"):
            answer += await stream.receive_some()


async def test_pings_that_nobody_collects() -> None:
    async with open_server() as server, server.intruder() as stream:
        with trio.move_on_after(0.1):
            while True:
                await stream.send_all(frame(PING, bytes(125)) * 1000)


@pytest.mark.parametrize("data", [b"", frame(BINARY, b"whole")[:3], header(BINARY, 100) + b"half"])
@pytest.mark.parametrize("reset", [False, True])
async def test_going_away_in_the_middle(data: bytes, reset: bool) -> None:
    async with open_server() as server, server.intruder() as stream:
        await stream.send_all(data)
        if reset:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        assert await server.ended() is trio.BrokenResourceError


async def test_resets_during_the_handshake() -> None:
    async with open_server() as server:
        for length in (0, 1, 50, len(REQUEST) - 1, len(REQUEST)):
            stream = await server.stranger()
            await stream.send_all(REQUEST[:length])
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await stream.aclose()


async def test_a_good_peer_gets_in_beside_half_handshakes_and_idlers() -> None:
    async with open_server() as server:
        for number in range(100):
            stream = await server.stranger()
            await stream.send_all(REQUEST[: number * 2])
            server.endings.append(stream)  # keeps it open
        async with server.intruder():
            await server.serves()
        for stream in server.endings:
            if isinstance(stream, trio.SocketStream):
                await stream.aclose()


async def test_too_many_connections(monkeypatch, caplog) -> None:
    monkeypatch.setattr(websocket, "MAX_CONNECTIONS", 2)
    async with open_server() as server:
        async with server.intruder(), server.intruder():
            with pytest.raises(OSError):
                await server.serves()
        while server.transport._incoming:
            await trio.sleep(0.001)
    assert "refused a connection" in caplog.text


async def test_a_handler_is_cancelled_while_it_sends_to_the_deaf() -> None:
    async def shout(connection: Connection) -> None:
        while True:
            await connection.send(bytes(1 << 20))

    server = Server()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.transport.listen, shout)
        async with server.intruder():
            await trio.sleep(0.05)
            before = trio.current_time()
            nursery.cancel_scope.cancel()
    assert trio.current_time() - before < 1


async def test_random_bytes_while_the_connection_is_closed() -> None:
    rng = random.Random(4711)
    kinds = [BINARY, TEXT, CONTINUATION, CLOSE, PING, 0xA, 0x3]

    async def leave(connection: Connection) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.EndOfChannel):
            for _ in range(rng.randrange(3)):
                await connection.receive()
            for _ in range(rng.randrange(3)):
                await connection.send(b"x" * rng.choice([0, 1, 100_000]))

    async def attack(number: int) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async with server.intruder() as stream:
                for _ in range(rng.randrange(1, 6)):
                    kind, noise = rng.choice(kinds), rng.randbytes(rng.randrange(20))
                    data = frame(kind, noise, final=rng.random() < 0.7)
                    await stream.send_all(rng.choice([data, data, data, noise]))
                    await trio.sleep(rng.choice([0, 0, 0.001]))

    server = Server()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.transport.listen, leave)
        async with trio.open_nursery() as attackers:
            for number in range(100):
                attackers.start_soon(attack, number)
        nursery.cancel_scope.cancel()
