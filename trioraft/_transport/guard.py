"""A short lead for trio-websocket: what it may do on hostile input is raise, hang or grow.

Its reader task runs in a nursery that ends with the connection, behind a stream that counts, and
in front of an inbox that is bounded.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from trioraft._transport.inbox import Inbox

_MAX_HANDSHAKE_BYTES: Final = 1 << 20  # generous: the first messages may come right behind it
_MAX_FRAGMENTS: Final = 1 << 15  # of one message; a trioraft server never cuts one up

_SMALL_READ: Final = 1 << 14

Turn = Callable[[], Awaitable[None]]
"""Returns once there is time for something that is not urgent."""

_log = logging.getLogger("trioraft.transport")


class Reader:
    """Stands in for a nursery where trio-websocket starts its reader task, and guards that task.

    Nothing that the task raises gets further than here.  Its end, early or late, closes the
    stream, and ends a handshake that still goes on.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        stream: trio.abc.Stream,
        deadline: float,
        read: bytes,
        turn: Turn | None,
    ) -> None:
        self._nursery = nursery
        self.stream = WaryStream(stream, read, turn)
        self.handshake = trio.CancelScope(deadline=deadline)
        self.ended = False
        self.failure: Exception | None = None

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        websocket: Any = read.__self__  # type: ignore[attr-defined]  # a method of the websocket
        inbox = Inbox()
        for channel in (websocket._send_channel, websocket._recv_channel):
            channel.close()
        websocket._send_channel, websocket._recv_channel = inbox.entrance, inbox.exit
        websocket._stream_lock = OneAtATime()
        self._nursery.start_soon(self._run, read)

    async def _run(self, read: Callable[[], Awaitable[None]]) -> None:
        try:
            await read()
        except Exception as error:  # noqa: BLE001  # whatever it was, the other side caused it
            self.failure = error
            _log.debug("a connection's reader failed", exc_info=True)
        self.ended = True
        self.handshake.cancel()
        await trio.aclose_forcefully(self.stream)

    @property
    def story(self) -> str:
        """In a word or two, why there is no connection."""
        if self.failure is not None:
            return f"{type(self.failure).__name__}: {self.failure}"
        if self.ended:
            return "it went away, or spoke no websocket"
        return "too slow" if self.handshake.cancelled_caught else "wrong path or version"


@asynccontextmanager
async def open_reader(
    stream: trio.abc.Stream, deadline: float, read: bytes = b"", turn: Turn | None = None
) -> AsyncGenerator[Reader]:
    """A reader that ends, with its stream, when the context is left.

    `read` is what was already read from the stream, and is read again.  `turn` is waited for at
    each step of the handshake.  What the body raises comes out as it is: the nursery is our
    business, and so is its group.
    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield Reader(nursery, stream, deadline, read, turn)
            except BaseException as error:
                raised = error
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup:
        # A cancelled body leaves the word to the nursery: Ctrl-C may have struck in the reader.
        if raised is None or isinstance(raised, trio.Cancelled):
            raise
    finally:
        with trio.CancelScope(shield=True):  # lest a Cancelled take the place of what was raised
            await trio.aclose_forcefully(stream)
    if raised is not None:
        raise raised


class OneAtATime:
    """Stands in for trio-websocket's lock, which takes a pass of the loop for each message."""

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        if self._is_taken:
            await self._waiting.park()  # it is handed over: what was framed first goes out first
        self._is_taken = True

    async def __aexit__(self, *_: object) -> None:
        self._is_taken = bool(self._waiting.unpark())


class WaryStream(trio.abc.Stream):
    """A stream that breaks when the other side makes trio-websocket hoard.

    Two things grow there without a bound: the answer to a handshake, and the list of a message's
    fragments while these are empty.  What was read before it was wrapped comes first.
    """

    def __init__(
        self, stream: trio.abc.Stream, read: bytes = b"", turn: Turn | None = None
    ) -> None:
        self._stream = stream
        self._read = read
        self._turn = turn
        self._handshake_bytes = 0
        self.websocket: Any = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.websocket is None and self._handshake_bytes > _MAX_HANDSHAKE_BYTES:
            raise trio.BrokenResourceError("the handshake has no end")
        if self.websocket is not None and len(self.websocket._message_parts) > _MAX_FRAGMENTS:
            raise trio.BrokenResourceError("the message is in too many fragments")
        if self.websocket is not None and not self.websocket._message_parts:
            # All that one read brings is taken apart without a pause: small frames by thousands.
            max_bytes = _SMALL_READ if max_bytes is None else min(max_bytes, _SMALL_READ)
        if self._read:
            await trio.lowlevel.checkpoint()
            end = len(self._read) if max_bytes is None else max_bytes
            data: bytes | bytearray = self._read[:end]
            self._read = self._read[end:]
        else:
            data = await self._stream.receive_some(max_bytes)
        self._handshake_bytes += len(data)
        if self.websocket is None and self._turn is not None:
            await self._turn()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
