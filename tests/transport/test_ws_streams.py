"""The websocket code over memory streams in virtual time, and what a client may run into."""

from __future__ import annotations

import contextlib
import errno
import random
import resource
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio._core._run as trio_run
import trio.testing
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair
from trio_websocket import wrap_server_stream

from trioraft._errors import ProtocolError
from trioraft._limits import MAX_CONNECTIONS
from trioraft._transport.websocket import (
    HANDSHAKE_SECONDS,
    WebSocketTransport,
    connect_stream,
    serve_stream,
)
from trioraft.abc import Connection

ADDRESS = "ws://127.0.0.1:7001"

Peer = Callable[[trio.abc.Stream], Awaitable[None]]


async def echo(connection: Connection) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        async for message in connection:
            await connection.send(message)


async def stall(connection: Connection) -> None:
    await trio.sleep_forever()


async def connect_to(peer: Peer) -> None:
    """Connect over memory streams to whatever `peer` makes of its end."""
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer, far)
        try:
            async with connect_stream(near, ADDRESS):
                raise AssertionError("connected")
        finally:
            nursery.cancel_scope.cancel()


async def refusal_of(peer: Peer) -> Exception:
    """What `connect` raises there."""
    with pytest.RaisesGroup(Exception) as caught:
        await connect_to(peer)
    (error,) = caught.value.exceptions
    assert isinstance(error, Exception)
    return error


def says(answer: bytes) -> Peer:
    async def peer(stream: trio.abc.Stream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(answer)
        await trio.sleep_forever()

    return peer


# What a client may find


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\x01\x02garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: wrong\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n",
    ],
)
async def test_what_is_no_trioraft_server(answer: bytes, autojump_clock: MockClock) -> None:
    error = await refusal_of(says(answer))
    assert isinstance(error, ProtocolError)
    assert ADDRESS in str(error)
    assert trio.current_time() == 0


async def test_a_server_of_another_version_is_named(autojump_clock: MockClock) -> None:
    async def newer(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            assert request.proposed_subprotocols == ("trioraft.v1",)
            assert request.path == "/raft"
            headers = [(b"Sec-WebSocket-Protocol", b"trioraft.v2, trioraft.v3")]
            await request.reject(426, extra_headers=headers, body=b"no")

    error = await refusal_of(newer)
    assert isinstance(error, ProtocolError)
    assert "speaks trioraft.v2, trioraft.v3" in str(error)
    assert "speaks trioraft.v1" in str(error)


async def test_a_websocket_server_that_is_none_of_ours(autojump_clock: MockClock) -> None:
    async def other(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            await request.accept()

    error = await refusal_of(other)
    assert isinstance(error, ProtocolError)
    assert "none of trioraft's" in str(error)


async def test_an_answer_without_an_end(autojump_clock: MockClock) -> None:
    async def endless(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 404 No\r\nContent-Length: 9999999999\r\n\r\n")
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(bytes(1 << 16))

    assert isinstance(await refusal_of(endless), OSError)
    assert trio.current_time() == 0


async def test_a_server_that_hangs_up(autojump_clock: MockClock) -> None:
    assert isinstance(await refusal_of(trio.aclose_forcefully), ConnectionResetError)


async def test_a_server_that_never_answers(autojump_clock: MockClock) -> None:
    async def silent(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    assert isinstance(await refusal_of(silent), TimeoutError)
    assert trio.current_time() == HANDSHAKE_SECONDS


async def test_a_server_that_answers_byte_by_byte(autojump_clock: MockClock) -> None:
    async def slow(stream: trio.abc.Stream) -> None:
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n":
            await stream.send_all(bytes([byte]))
            await trio.sleep(1)

    assert isinstance(await refusal_of(slow), TimeoutError)
    assert trio.current_time() == HANDSHAKE_SECONDS


async def test_tcp_that_never_opens(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def open_tcp_stream(host: str, port: int) -> trio.SocketStream:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(trio, "open_tcp_stream", open_tcp_stream)
    with pytest.raises(TimeoutError, match=ADDRESS):
        async with WebSocketTransport(ADDRESS).connect(ADDRESS):
            raise AssertionError
    assert trio.current_time() == HANDSHAKE_SECONDS


async def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *args: object, **options: object) -> list[object]:
            raise socket.gaierror(socket.EAI_NONAME, "unknown name")

        async def getnameinfo(self, *args: object) -> tuple[str, str]:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Resolver())
    transport = WebSocketTransport("ws://nowhere.example:7001")
    with pytest.raises(OSError, match="unknown name"):
        await transport.listen(echo)
    with pytest.raises(OSError, match="unknown name"):
        async with transport.connect(transport.address):
            raise AssertionError


# What a server may find


async def test_a_client_that_is_too_slow(autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()
    await near.send_all(b"GET /raft HTTP/1.1\r\n")
    await serve_stream(far, echo)
    assert trio.current_time() == HANDSHAKE_SECONDS
    assert await near.receive_some() == b""


async def test_a_client_that_never_reads_its_answer(autojump_clock: MockClock) -> None:
    near, far = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, far, echo)
        await near.send_all(
            b"GET /raft HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: trioraft.v1\r\n\r\n"
        )
    assert trio.current_time() == HANDSHAKE_SECONDS


# Leaving


async def test_closing_waits_for_nobody(autojump_clock: MockClock) -> None:
    """Nor for room for the close frame; a send that waits for room is told."""
    near, far = lockstep_stream_pair()

    async def send(connection: Connection) -> None:
        with pytest.raises(trio.ClosedResourceError):
            while True:
                await connection.send(bytes(1 << 20))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, far, stall)
        async with connect_stream(near, ADDRESS) as connection:
            nursery.start_soon(send, connection)
            await trio.testing.wait_all_tasks_blocked()
            await connection.aclose()
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    "error", [ValueError("x"), ExceptionGroup("own", [ValueError("x")]), KeyboardInterrupt()]
)
async def test_what_the_body_raises_comes_out_as_it_is(error: BaseException) -> None:
    near, far = memory_stream_pair()
    caught: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, far, echo)
        try:
            async with connect_stream(near, ADDRESS):
                raise error
        except type(error) as error_:
            caught = error_
    assert caught is error


async def test_an_error_beside_a_cancellation_is_not_lost() -> None:
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, far, echo)
        with pytest.raises(ValueError, match="x"), trio.CancelScope() as scope:
            async with connect_stream(near, ADDRESS):
                scope.cancel()
                raise ValueError("x")


async def test_a_cancelled_body_is_cancelled() -> None:
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, far, echo)
        with trio.CancelScope() as scope:
            async with connect_stream(near, ADDRESS):
                scope.cancel()
                await trio.sleep_forever()
            raise AssertionError("the cancellation was swallowed")
        assert scope.cancelled_caught


async def test_a_reader_that_crashes_breaks_only_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, far, echo)
        async with connect_stream(near, ADDRESS) as connection:

            async def crash(max_bytes: int | None = None) -> bytes:
                raise RuntimeError("unforeseen")

            monkeypatch.setattr(near, "receive_some", crash)
            await connection.send(b"x")  # its echo wakes the reader
            assert await connection.receive() == b"x"
            with pytest.raises(trio.BrokenResourceError):
                await connection.receive()
            with pytest.raises(trio.BrokenResourceError):
                await connection.send(b"x")


# Listening


async def test_small_packets_leave_at_once() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with (
        listener,
        await trio.testing.open_stream_to_socket_listener(listener) as near,
        await listener.accept() as far,
    ):
        for stream in (near, far):
            assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_name_with_several_addresses_gets_one_port(monkeypatch) -> None:
    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, host, port, *args, **options):
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port))
                for number in ("127.0.0.1", "127.0.0.2")
            ]

        async def getnameinfo(self, *args):
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Resolver())
    transport = WebSocketTransport("ws://two.example:0")
    async with trio.open_nursery() as nursery:
        await nursery.start(transport.listen, echo)
        assert transport.address.startswith("ws://two.example:")
        assert not transport.address.endswith(":0")
        async with transport.connect(transport.address) as connection:
            await connection.send(b"x")
            assert await connection.receive() == b"x"
        nursery.cancel_scope.cancel()


async def test_ipv6() -> None:
    transport = WebSocketTransport("ws://[::1]:0")
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(transport.listen, echo)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                pytest.skip("no IPv6 here")
            raise
        async with transport.connect(transport.address) as connection:
            await connection.send(b"x")
            assert await connection.receive() == b"x"
        nursery.cancel_scope.cancel()


# Determinism


def trace_of(seed: int) -> list[tuple[float, str, bytes]]:
    rng = random.Random(seed)
    trace: list[tuple[float, str, bytes]] = []

    async def main() -> None:
        async def client(name: str) -> None:
            near, far = memory_stream_pair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_stream, far, echo)
                async with connect_stream(near, ADDRESS) as connection:
                    for number in range(10):
                        await connection.send(b"%d" % number)
                        await trio.sleep(rng.choice([0, 0.01]))
                        trace.append((trio.current_time(), name, await connection.receive()))

        async with trio.open_nursery() as nursery:
            for name in "abcde":
                nursery.start_soon(client, name)

    trio_run._r.seed(seed)
    trio.run(main, clock=MockClock(autojump_threshold=0))
    return trace


def test_a_seed_replays_through_the_real_websocket_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    first, again, other = trace_of(1), trace_of(1), trace_of(2)
    assert len(first) == 50
    assert first == again
    assert first != other


@pytest.mark.parametrize(("files", "most"), [(1 << 20, MAX_CONNECTIONS), (1024, 768), (300, 150)])
async def test_connections_leave_files_to_the_log(
    files: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that can't open its next file has failed for good."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    transport = WebSocketTransport("ws://127.0.0.1:0")
    async with trio.open_nursery() as nursery:
        await nursery.start(transport.listen, trio.sleep_forever)
        assert transport._most == most
        nursery.cancel_scope.cancel()


async def test_an_address_that_is_taken_is_named_in_the_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"ws://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"can't listen on {address}") as caught:
            await WebSocketTransport(address).listen(trio.sleep_forever)
    assert caught.value.errno == errno.EADDRINUSE
