"""Plain HTTP over memory streams in virtual time: answers, and what hostile callers get."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.lowlevel
import trio.testing
from trio.testing import MockClock, lockstep_stream_pair

from trioraft._transport import visitor
from trioraft._transport.http import WebRequest, WebResponse, WebTransport, problem
from trioraft._transport.visitor import (
    BODY_SECONDS,
    KEEP_ALIVE_SECONDS,
    LINGER_SECONDS,
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    SEND_SECONDS,
    WebDoor,
)
from trioraft._transport.websocket import (
    HANDSHAKE_SECONDS,
    WebSocketTransport,
    connect_stream,
    serve_stream,
)
from trioraft.abc import Connection

from .callers import Caller, ask, echo, get, no_peer, post, with_caller

CHUNKED = b"POST /do HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


# What is answered


async def test_a_get(autojump_clock: MockClock) -> None:
    heard = await ask(get("/status?a=b&c", "X-More: 1", "X-More: 2"))
    assert heard.status == 200
    assert heard.told["method"] == "GET"
    assert heard.told["path"] == "/status"
    assert heard.told["query"] == "a=b&c"
    assert heard.told["headers"]["x-more"] == "1, 2"
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["cache-control"] == "no-store"
    assert heard.headers["x-content-type-options"] == "nosniff"
    assert int(heard.headers["content-length"]) == len(heard.body)
    assert trio.current_time() == 0


async def test_a_post(autojump_clock: MockClock) -> None:
    heard = await ask(post("/do", b"\x00\xff{}"))
    assert heard.told["method"] == "POST"
    assert heard.told["body"] == "\x00\xff{}"


async def test_a_body_in_chunks(autojump_clock: MockClock) -> None:
    heard = await ask(CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n")
    assert heard.told["body"] == "abcde"


async def test_the_target_that_a_proxy_gets(autojump_clock: MockClock) -> None:
    heard = await ask(get("HTTP://host:7001/status?x"))
    assert (heard.told["path"], heard.told["query"]) == ("/status", "x")
    assert (await ask(get("http://host:7001"))).told["path"] == "/"


async def test_a_head_is_a_get_without_its_body(autojump_clock: MockClock) -> None:
    async def use(caller: Caller) -> None:
        await caller.send(get("/a", method="HEAD") + get("/b"))
        heard = await caller.hear("HEAD")
        assert heard.body == b""
        assert int(heard.headers["content-length"]) > 0
        heard = await caller.hear()
        assert (heard.told["method"], heard.told["path"]) == ("GET", "/b")

    await with_caller(use)


async def test_requests_one_after_the_other(autojump_clock: MockClock) -> None:
    async def use(caller: Caller) -> None:
        for number in range(5):
            await caller.send(post(f"/{number}", b"x" * number))
            heard = await caller.hear()
            assert heard.told["path"] == f"/{number}"
            assert heard.told["body"] == "x" * number
            await trio.sleep(KEEP_ALIVE_SECONDS - 1)

    await with_caller(use)


async def test_requests_all_at_once_are_answered_in_order(autojump_clock: MockClock) -> None:
    async def slowly(request: WebRequest) -> WebResponse:
        await trio.sleep(1 if request.path == "/0" else 0)
        return await echo(request)

    async def use(caller: Caller) -> None:
        await caller.send(b"".join(post(f"/{number}", b"abc") for number in range(50)))
        for number in range(50):
            assert (await caller.hear()).told["path"] == f"/{number}"

    await with_caller(use, slowly)


async def test_more_than_is_kept_may_come_before_an_answer(autojump_clock: MockClock) -> None:
    async def slowly(request: WebRequest) -> WebResponse:
        await trio.sleep(1)
        return await echo(request)

    async def use(caller: Caller) -> None:
        body = b"x" * 40_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.send, post("/0", body) * 3)
            for _ in range(3):
                assert len((await caller.hear()).told["body"]) == len(body)

    await with_caller(use, slowly)


async def test_go_on_and_send_the_body(autojump_clock: MockClock) -> None:
    async def use(caller: Caller) -> None:
        request = post("/do", b"abc", "Expect: 100-continue")
        await caller.send(request[:-3])
        assert (await caller.stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await caller.send(b"abc")
        assert (await caller.hear()).told["body"] == "abc"

    await with_caller(use)


@pytest.mark.parametrize(
    "request_", [get("/", "Connection: close"), b"GET / HTTP/1.0\r\nHost: x\r\n\r\n"]
)
async def test_the_last_request_of_a_connection(request_: bytes, autojump_clock: MockClock) -> None:
    async def use(caller: Caller) -> None:
        await caller.send(request_ + get("/never"))
        heard = await caller.hear()
        assert heard.headers["connection"] == "close"
        assert await caller.rest() == b""

    await with_caller(use)


async def test_an_answer_may_close_the_connection(autojump_clock: MockClock) -> None:
    async def stop(request: WebRequest) -> WebResponse:
        return problem(503, "ServerStopped", "it stops", close=True)

    async def use(caller: Caller) -> None:
        await caller.send(get("/"))
        heard = await caller.hear()
        assert (heard.status, heard.headers["connection"]) == (503, "close")
        assert await caller.rest() == b""

    await with_caller(use, stop)


async def test_another_upgrade_is_none(autojump_clock: MockClock) -> None:
    heard = await ask(get("/", "Upgrade: h2c", "Connection: Upgrade"))
    assert heard.status == 200


async def test_an_idle_connection_is_closed(autojump_clock: MockClock) -> None:
    async def use(caller: Caller) -> None:
        await caller.send(get("/"))
        await caller.hear()
        assert await caller.rest() == b""
        assert trio.current_time() == KEEP_ALIVE_SECONDS

    await with_caller(use)


async def test_a_failure_of_ours_is_told_and_logged(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async def fail(request: WebRequest) -> WebResponse:
        raise RuntimeError("secret")

    heard = await ask(get("/"), fail)
    assert heard.status == 500
    assert heard.told["outcome"] == "unknown"
    assert b"secret" not in heard.body
    assert "secret" in caplog.text


# Who goes away


@pytest.mark.parametrize("early", [b"", get("/next")])
async def test_who_hangs_up_stops_waiting(early: bytes, autojump_clock: MockClock) -> None:
    waited: list[float] = []

    async def wait(request: WebRequest) -> WebResponse:
        try:
            await trio.sleep_forever()
        finally:
            waited.append(trio.current_time())

    async def use(caller: Caller) -> None:
        await caller.send(post("/do", b"x"))
        await trio.sleep(7)
        await caller.send(early)

    await with_caller(use, wait)
    assert waited == [7]


async def test_what_needs_no_waiting_is_answered_to_the_half_closed(
    autojump_clock: MockClock,
) -> None:
    async def use(caller: Caller) -> None:
        await caller.send(get("/a") + get("/b"))
        assert isinstance(caller.stream, trio.StapledStream)
        await caller.stream.send_eof()
        assert (await caller.hear()).told["path"] == "/a"
        assert (await caller.hear()).told["path"] == "/b"

    await with_caller(use)


async def test_who_never_reads_is_left(autojump_clock: MockClock) -> None:
    async def much(request: WebRequest) -> WebResponse:
        return WebResponse(200, bytes(1 << 20))

    async def use(caller: Caller) -> None:
        await caller.send(get("/"))
        await trio.sleep(SEND_SECONDS + 1)
        await caller.rest()

    await with_caller(use, much, pair=lockstep_stream_pair)
    assert trio.current_time() == SEND_SECONDS + 1


async def test_who_reads_slowly_gets_all(autojump_clock: MockClock) -> None:
    async def much(request: WebRequest) -> WebResponse:
        return WebResponse(200, bytes(1 << 20))

    async def use(caller: Caller) -> None:
        await caller.send(get("/", "Connection: close"))
        size = 0
        while data := await caller.stream.receive_some(1 << 16):
            size += len(data)
            await trio.sleep(SEND_SECONDS - 1)
        assert size > 1 << 20

    await with_caller(use, much, pair=lockstep_stream_pair)


async def test_cancelling_the_listener_waits_for_nobody(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()

    async def wait(request: WebRequest) -> WebResponse:
        await trio.sleep_forever()
        raise AssertionError

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, far, no_peer, WebDoor(wait))
        await near.send_all(get("/"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await near.receive_some() == b""
    assert trio.current_time() == 0


# Hostile callers


async def test_a_head_that_does_not_come(autojump_clock: MockClock) -> None:
    async def use(caller: Caller) -> None:
        assert await caller.rest() == b""
        assert trio.current_time() == HANDSHAKE_SECONDS

    await with_caller(use)


@pytest.mark.parametrize("first", [True, False])
async def test_a_head_byte_by_byte(first: bool, autojump_clock: MockClock) -> None:
    async def use(caller: Caller) -> None:
        if not first:
            await caller.send(get("/"))
            await caller.hear()
        with contextlib.suppress(trio.BrokenResourceError):
            for byte in get("/" + "x" * 1000):
                await caller.send(bytes([byte]))
                await trio.sleep(1)
        assert trio.current_time() <= (HANDSHAKE_SECONDS if first else KEEP_ALIVE_SECONDS) + 1

    await with_caller(use)


async def test_a_body_byte_by_byte(autojump_clock: MockClock) -> None:
    async def use(caller: Caller) -> None:
        await caller.send(post("/do", bytes(1000))[:-1000])
        with contextlib.suppress(trio.BrokenResourceError):
            for _ in range(999):
                await caller.send(b"x")
                await trio.sleep(1)
        assert trio.current_time() <= BODY_SECONDS + LINGER_SECONDS + 1

    await with_caller(use)


async def test_a_body_that_does_not_come_is_told(autojump_clock: MockClock) -> None:
    async def use(caller: Caller) -> None:
        await caller.send(post("/do", b"12345")[:-1])
        heard = await caller.hear()
        assert (heard.status, heard.told["error"]) == (408, "RequestTimeout")
        assert heard.told["outcome"] == "not done"

    await with_caller(use)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES,
        b"GET /" + b"x" * (MAX_HEAD_BYTES + 10_000),
        get("/") + b"GET /" + b"x" * (MAX_HEAD_BYTES + 10_000),
    ],
)
async def test_an_endless_head(data: bytes, autojump_clock: MockClock) -> None:
    async def use(caller: Caller) -> None:
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    await caller.send(data)

            nursery.start_soon(send)
            answer = await caller.rest()
        assert b"HTTP/1.1 431 " in answer

    await with_caller(use)


async def test_a_body_that_is_announced_too_large_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    data = post("/do").replace(b"Content-Length: 0", b"Content-Length: %d" % (MAX_BODY_BYTES + 1))
    heard = await ask(data)
    assert (heard.status, heard.told["error"]) == (413, "ContentTooLarge")
    assert heard.headers["connection"] == "close"
    assert trio.current_time() == 0


async def test_the_largest_body(autojump_clock: MockClock) -> None:
    async def measure(request: WebRequest) -> WebResponse:
        return WebResponse(200, b"%d" % len(request.body))

    heard = await ask(post("/do", bytes(MAX_BODY_BYTES)), measure)
    assert heard.body == b"%d" % MAX_BODY_BYTES


@pytest.mark.parametrize("size", [1 << 16, 1])
async def test_endless_chunks(
    size: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(visitor, "MAX_BODY_BYTES", 20_000)
    sent = 0

    async def use(caller: Caller) -> None:
        async def send() -> None:
            nonlocal sent
            await caller.send(CHUNKED)
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while True:
                    await caller.send((b"%x\r\n" % size + bytes(size) + b"\r\n") * 100)
                    sent += size * 100
                    await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert b"HTTP/1.1 413 " in await caller.rest()
            await caller.stream.aclose()

    await with_caller(use)
    assert trio.current_time() <= BODY_SECONDS + LINGER_SECONDS


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 10,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # a TLS client
        b"\r\n" * 1000,
        b"A" * 100_000,
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"GET / HTTP/3.7\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        get("/", "Host: y"),
        get("/", "Bad\x00Name: y"),
        post("/", b"").replace(b"Length: 0", b"Length: -1"),
        post("/", b"").replace(b"Length: 0", b"Length: 1e3"),
        post("/", b"").replace(b"Length: 0", b"Length: 0, 1"),
        post("/", b"", "Content-Length: 1"),
        post("/", b"").replace(b"Length: 0", b"Length: " + b"9" * 10_000),
        post("/", b"abc", "Transfer-Encoding: chunked"),
        post("/", b"0\r\n\r\n", "Transfer-Encoding: chunked"),
        CHUNKED.replace(b"chunked", b"gzip, chunked"),
        CHUNKED.replace(b"chunked", b"chunked, chunked"),
        CHUNKED + b"zz\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"f" * 1000 + b"\r\n",
        CHUNKED + b"1\r\nabc\r\n",
        CHUNKED + b"1;" + b"x" * 100_000,
        CHUNKED + b"0\r\n" + b"X: y\r\n" * 20_000,
    ],
)
async def test_garbage_is_refused_and_the_connection_closed(
    data: bytes, autojump_clock: MockClock
) -> None:
    asked: list[WebRequest] = []

    async def note(request: WebRequest) -> WebResponse:
        asked.append(request)
        return await echo(request)

    async def use(caller: Caller) -> None:
        async def send() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                await caller.send(data + get("/smuggled"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            answer = await caller.rest()
        assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"onnection: close" in answer

    await with_caller(use, note)
    assert not asked
    assert trio.current_time() <= LINGER_SECONDS + HANDSHAKE_SECONDS


async def test_the_end_comes_in_the_middle(autojump_clock: MockClock) -> None:
    for request in (get("/"), post("/do", b"12345"), CHUNKED + b"5\r\n12345\r\n0\r\n\r\n"):
        for length in range(len(request)):
            near, far = trio.testing.memory_stream_pair()
            await near.send_all(request[:length])
            await near.send_eof()
            await serve_stream(far, no_peer, WebDoor(echo))


async def test_a_stream_that_breaks_in_the_middle(autojump_clock: MockClock) -> None:
    for length in range(len(post("/do", b"12345"))):
        near, far = trio.testing.memory_stream_pair()
        await near.send_all(post("/do", b"12345")[:length])
        near.receive_stream.close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_stream, far, no_peer, WebDoor(echo))
            await trio.lowlevel.checkpoint()
            await near.aclose()


async def test_random_bytes(autojump_clock: MockClock) -> None:
    rng = random.Random(4711)
    pieces = [b"GET ", b"POST ", b"/do", b" HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n", b"0\r\n",
              b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"abc", b"\xff\x00",
              b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n",
              b"Expect: 100-continue\r\n"]  # fmt: skip

    async def hold(connection: Connection) -> None:
        raise AssertionError("a stranger became a peer")

    for _ in range(500):
        near, far = trio.testing.memory_stream_pair()
        await near.send_all(b"".join(rng.choice(pieces) for _ in range(rng.randrange(12))))
        await near.send_eof()
        await serve_stream(far, hold, WebDoor(echo))


async def test_an_unforeseen_error_of_the_stream_stays_here(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO, logger="trioraft.transport")
    _near, far = trio.testing.memory_stream_pair()

    async def crash(max_bytes: int | None = None) -> bytes:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(far, "receive_some", crash)
    await serve_stream(far, no_peer, WebDoor(echo))
    assert "unforeseen" in caplog.text


async def test_too_many_visitors(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(visitor, "MAX_VISITORS", 2)
    door = WebDoor(echo)
    async with trio.open_nursery() as nursery:
        callers = []
        for _ in range(3):
            near, far = trio.testing.memory_stream_pair()
            nursery.start_soon(serve_stream, far, no_peer, door)
            callers.append(Caller(near))
            await callers[-1].send(get("/"))
            await trio.testing.wait_all_tasks_blocked()
        statuses = [(await caller.hear()).status for caller in callers]
        assert statuses == [200, 200, 503]
        await callers[0].stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        near, far = trio.testing.memory_stream_pair()
        nursery.start_soon(serve_stream, far, no_peer, door)
        caller = Caller(near)
        await caller.send(get("/"))
        assert (await caller.hear()).status == 200
        nursery.cancel_scope.cancel()


# Peers


async def echo_peer(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


async def test_a_peer_goes_through_the_door(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, far, echo_peer, WebDoor(echo))
        async with connect_stream(near, "ws://x:1") as connection:
            for message in (b"", b"x", bytes(1 << 20)):
                await connection.send(message)
                assert await connection.receive() == message
    assert trio.current_time() == 0


PEER = get(
    "/raft",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol: trioraft.v1",
)


@pytest.mark.parametrize("piece", [1, 7, 100_000])
@pytest.mark.parametrize("upgrade", [b"websocket", b"WebSocket"])
async def test_a_handshake_in_pieces(piece: int, upgrade: bytes, autojump_clock: MockClock) -> None:
    data = PEER.replace(b"websocket", upgrade)
    heard: list[bytes] = []

    async def hear(connection: Connection) -> None:
        heard.append(await connection.receive())

    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, far, hear, WebDoor(echo))
        for start in range(0, len(data), piece):
            await near.send_all(data[start : start + piece])
            await trio.testing.wait_all_tasks_blocked()
        assert (await near.receive_some()).startswith(b"HTTP/1.1 101 ")
        await near.send_all(b"\x82\x83\0\0\0\0abc")
    assert heard == [b"abc"]


async def test_a_web_page_can_not_be_a_peer(autojump_clock: MockClock) -> None:
    handshake = PEER[:-2] + b"Origin: http://evil.example\r\n\r\n"
    for door in (None, WebDoor(echo)):
        near, far = trio.testing.memory_stream_pair()
        await near.send_all(handshake)
        await serve_stream(far, no_peer, door)
        assert (await near.receive_some()).startswith(b"HTTP/1.1 403 ")


async def test_what_a_handler_raises_comes_out_bare(autojump_clock: MockClock) -> None:
    async def fail(connection: Connection) -> None:
        raise ValueError("deliberate")

    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def call() -> None:
            with contextlib.suppress(OSError, trio.BrokenResourceError):
                async with connect_stream(near, "ws://x:1"):
                    await trio.sleep(1)

        nursery.start_soon(call)
        with pytest.raises(ValueError, match="deliberate"):
            await serve_stream(far, fail, WebDoor(echo))


# Sockets


async def _over_tcp(use: Callable[[str, int], Awaitable[None]]) -> None:
    transport = WebSocketTransport("ws://127.0.0.1:0")
    assert isinstance(transport, WebTransport)
    transport.answer_web(echo)
    async with trio.open_nursery() as nursery:
        await nursery.start(transport.listen, echo_peer)
        await use("127.0.0.1", int(transport.address.rpartition(":")[2]))
        nursery.cancel_scope.cancel()


def test_over_sockets_an_early_refusal_arrives() -> None:
    async def use(host: str, port: int) -> None:
        async with await trio.open_tcp_stream(host, port) as stream:
            caller = Caller(stream)
            head = post("/do").replace(b"Length: 0", b"Length: %d" % (1 << 23))
            with contextlib.suppress(trio.BrokenResourceError):
                await caller.send(head + bytes(1 << 20))
            assert (await caller.hear()).status == 413
        async with WebSocketTransport("ws://127.0.0.1:0").connect(f"ws://{host}:{port}") as peer:
            await peer.send(b"x")
            assert await peer.receive() == b"x"

    trio.run(_over_tcp, use)
