"""A client in the manner of another language's: so many commands a message, and no cleverness.

It writes each websocket frame by itself, many on their way at once on one connection, and costs as
little as Python lets it: what is measured is how the servers bear it.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final

import trio

from trioraft._bench.loop import AFTER_AN_ERROR, Tally, keys
from trioraft._client.session import Session, encoded
from trioraft._clock import Bell
from trioraft._promise import Promise
from trioraft._sessions import Call, Code, pack_call
from trioraft._transport.addresses import parse_address
from trioraft._transport.websocket import PATH, PROTOCOL
from trioraft._wire.asking import Caller, Calls, ManageSession, Results
from trioraft._wire.codec import (
    FROM_SERVERS,
    PROTOCOL_VERSION,
    Ping,
    Pong,
    WireMessage,
    decode,
    encode,
)
from trioraft.recipes.kv import Put

_HANDSHAKE: Final = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dHJpb3JhZnQgYmVuY2ghIQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
)
_RECEIVE: Final = 1 << 18
_BINARY: Final = 0x82
"""The first byte of a frame that is a whole binary message."""
_MASKED: Final = 0x80
_NO_MASK: Final = bytes(4)
"""A client must mask what it sends; with zeros that changes nothing, and the server can't know."""


async def load(given: dict[str, Any]) -> dict[str, Any]:
    """Keep so many commands on their way to the leader, some in each message."""
    address = parse_address(given["leader"])
    async with (
        await trio.open_tcp_stream(address.host, address.port) as stream,
        trio.open_nursery() as nursery,
    ):
        wire = _Wire(stream)
        await wire.open(address.netloc)
        nursery.start_soon(wire.write)
        wire.post(Caller(PROTOCOL_VERSION))
        await wire.receive()
        wire.post(ManageSession(1, "open"))
        [(_, code, session, *_)] = await wire.results()
        if code != Code.VALUE:
            raise RuntimeError(f"no session was opened: {Code(code).name}")
        tally = Tally(given["seconds"])
        asking = _Asking(wire, tally, session, "v" * given["value"], given["batch"])
        callers = (asking.ask for _ in range(given["in_flight"]))
        told = await tally.run(*callers, asking.listen)
        nursery.cancel_scope.cancel()
    return told


class _Wire:
    """Messages over a websocket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._read = bytearray()
        self._queue: deque[WireMessage] = deque()
        self._bell = Bell()

    async def open(self, host: str) -> None:
        """Make a websocket of the stream."""
        request = _HANDSHAKE.format(path=PATH, host=host, protocol=PROTOCOL)
        await self._stream.send_all(request.encode())
        while (end := self._read.find(b"\r\n\r\n")) < 0:
            await self._more()
        answer, self._read = self._read[:end], self._read[end + 4 :]
        if not answer.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(f"the server refuses: {bytes(answer[:200])!r}")

    def post(self, message: WireMessage) -> None:
        """Have a message sent."""
        self._queue.append(message)
        self._bell.ring()

    async def write(self) -> None:
        """Send what is posted, each message by itself."""
        while True:
            await self._bell.wait()
            while self._queue:
                await self._stream.send_all(_frame(encode(self._queue.popleft())))

    async def results(self) -> tuple[Any, ...]:
        """What became of some commands; answers signs of life meanwhile."""
        while True:
            match await self.receive():
                case Results(results):
                    return results
                case Ping():
                    self.post(Pong())

    async def receive(self) -> WireMessage:
        """The next message of the server."""
        while True:
            frame = _cut(self._read)
            if frame is not None:
                return decode(frame, FROM_SERVERS)
            await self._more()

    async def _more(self) -> None:
        data = await self._stream.receive_some(_RECEIVE)
        if not data:
            raise RuntimeError("the server has closed the connection")
        self._read += data


def _frame(payload: bytes) -> bytes:
    """A message as a frame of a client."""
    size = len(payload)
    if size < 126:
        head = bytes((_BINARY, _MASKED | size))
    elif size < 1 << 16:
        head = bytes((_BINARY, _MASKED | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_BINARY, _MASKED | 127)) + size.to_bytes(8, "big")
    return head + _NO_MASK + payload


def _cut(read: bytearray) -> bytes | None:
    """Cut the first frame off; None: it is not all there yet."""
    if len(read) < 2:
        return None
    if read[0] != _BINARY:
        raise RuntimeError(f"this client does not know what to do with a frame of {read[0]:#x}")
    size, at = read[1], 2
    if size >= 126:
        at = 4 if size == 126 else 10
        size = int.from_bytes(read[2:at], "big")
        if len(read) < at:
            return None
    if len(read) < at + size:
        return None
    payload = bytes(read[at : at + size])
    del read[: at + size]
    return payload


class _Asking:
    """Asks for commands under one session; a message leaves once it has its share of them."""

    def __init__(self, wire: _Wire, tally: Tally, session: int, value: str, batch: int) -> None:
        self._wire = wire
        self._tally = tally
        self._session = Session(session)
        self._key = keys()
        self._value = value
        self._batch = batch
        self._calls: list[bytes] = []
        """What waits for more, up to the newest sequence."""
        self._answers: dict[int, Promise[int]] = {}

    async def ask(self) -> None:
        """One caller: ask, wait, ask again."""
        session = self._session
        while True:
            began = time.perf_counter()
            sequence = session.begin()
            answer = self._answers[sequence] = Promise[int]()
            call = Call(session.id, sequence, session.lowest)
            self._calls.append(pack_call(call, encoded(Put(self._key(), self._value))))
            if len(self._calls) == self._batch:
                self._wire.post(Calls(sequence + 1 - self._batch, tuple(self._calls)))
                self._calls.clear()
            code = await answer.result()
            session.done(sequence)
            if code == Code.VALUE:
                self._tally.took(began)
            else:
                self._tally.errors += 1
                await trio.sleep(AFTER_AN_ERROR)

    async def listen(self) -> None:
        """Hand each answer to whoever waits for it."""
        while True:
            for number, code, *_ in await self._wire.results():
                self._answers.pop(number).keep(code)
