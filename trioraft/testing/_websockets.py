"""The real websocket code over connections in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, NoReturn

import trio

from trioraft._transport.websocket import connect_stream, serve_stream
from trioraft.abc import Connection
from trioraft.testing._network import MemoryNetwork, MemoryTransport

_PACKET_BYTES: Final = 1 << 12


class MemoryWebSocketTransport:
    """A transport that speaks websocket over a `MemoryNetwork`, whose messages are packets here.

    Args:
        network: shared by all who are to reach each other.
        address: `ws://host:port`, a mere name here.

    Raises:
        ValueError: the address can't be read.
    """

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._packets = MemoryTransport(network, address)

    @property
    def address(self) -> str:
        """Where this server listens."""
        return self._packets.address

    def check_address(self, address: str) -> None:
        """See `trioraft.abc.Transport.check_address`."""
        self._packets.check_address(address)

    async def listen(  # noqa: ASYNC128  `_packets` calls `started`
        self,
        handler: Callable[[Connection], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """See `trioraft.abc.Transport.listen`."""
        await self._packets.listen(partial(self._serve, handler), task_status=task_status)

    @staticmethod
    async def _serve(handler: Callable[[Connection], Awaitable[None]], packets: Connection) -> None:
        await serve_stream(_Stream(packets), handler)

    def connect(self, address: str) -> AbstractAsyncContextManager[Connection]:
        """See `trioraft.abc.Transport.connect`."""
        return self._connect(address)

    @asynccontextmanager
    async def _connect(self, address: str) -> AsyncGenerator[Connection]:
        async with (
            self._packets.connect(address) as packets,
            connect_stream(_Stream(packets), address) as connection,
        ):
            yield connection


class _Stream(trio.abc.Stream):
    """Packets as the stream of bytes that they are parts of."""

    def __init__(self, packets: Connection) -> None:
        self._packets = packets
        self._rest = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), _PACKET_BYTES):
            await self._packets.send(bytes(view[start : start + _PACKET_BYTES]))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._rest:
            try:
                self._rest = await self._packets.receive()
            except trio.EndOfChannel:
                return b""
        most = len(self._rest) if max_bytes is None else max_bytes
        data, self._rest = self._rest[:most], self._rest[most:]
        return data

    async def aclose(self) -> None:
        await self._packets.aclose()
