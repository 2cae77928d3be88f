"""A browser (or a terminal) on its websocket.

It gets the server's state, and from the moment it says `{"follow": N}` the lines behind number N.
It may say `{"say": {...}}`, `{"kill": NAME}` and `{"start": NAME}`.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import ProtocolError

import trioraft

from .node import FRAME_LIMIT, Node
from .room import Say

HANDSHAKE = 5.0
GOODBYE = 1.0
PACE = 0.05
"""Seconds between two frames at least; the next one has all that happened meanwhile."""
SIGN_OF_LIFE = 1.0
"""Seconds between two frames at most, so that a visitor notices a server that hangs."""
PATIENCE = 5.0
"""Seconds for a message to be committed; the visitor says it again by then anyway."""
WAITING = 8
"""Messages of one visitor that wait for their commit; what comes beyond is said again later."""


async def receive(node: Node, stream: trio.abc.Stream) -> None:
    """Serve a websocket whose opening request is still in the stream."""
    try:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(HANDSHAKE) as handshake:
                request = await wrap_server_stream(
                    nursery,
                    stream,
                    max_message_size=FRAME_LIMIT,
                    receive_buffer_size=FRAME_LIMIT,
                )
                connection = await request.accept()
            if not handshake.cancelled_caught:
                await _Visitor(node, connection).visit()
            nursery.cancel_scope.cancel()
    except* (ConnectionClosed, ProtocolError, trioraft.ServerStopped):
        pass  # a visitor may close in the middle of a frame of ours, and so may a server that dies


class _Visitor:
    def __init__(self, node: Node, connection: WebSocketConnection) -> None:
        self._node = node
        self._connection = connection
        self._after: int | None = None
        self._says, self._to_say = trio.open_memory_channel[Say](WAITING)

    async def visit(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._show)
            nursery.start_soon(self._propose)
            with suppress(ValueError, TypeError, RecursionError):
                while True:
                    await self._hear(json.loads(await self._connection.get_message()))
            nursery.cancel_scope.cancel()
        with trio.move_on_after(GOODBYE):
            await self._connection.aclose(1008, "not understood")

    async def _show(self) -> None:
        """Send what is new.  A slow visitor holds up nobody but himself, and gets fewer frames."""
        while True:
            changed = self._node.changed  # taken before looking, so that no change is missed
            await self._tell("state", self._node.status())
            if self._after is not None and (lines := await self._node.lines(self._after)):
                await self._tell("lines", [attrs.asdict(line) for line in lines])
                self._after = lines[-1].number
                continue
            await trio.sleep(PACE)
            with trio.move_on_after(SIGN_OF_LIFE):
                await changed.wait()

    async def _hear(self, message: Any) -> None:
        match message:
            case {"follow": int(after)}:
                self._after = after
                self._node.wake()
            case {"say": dict(said)}:
                try:
                    say = Say(**said)
                except ValueError as error:
                    await self._tell("refused", {"id": said.get("id"), "reason": str(error)})
                    return
                with suppress(trio.WouldBlock):
                    self._says.send_nowait(say)
            case {"kill": str(name)} if name in self._node.plan.pages:
                self._node.order("kill", name)
            case {"start": str(name)} if name in self._node.plan.pages:
                self._node.order("start", name)
            case _:
                raise ValueError("not understood")

    async def _propose(self) -> None:
        """Hand on what the visitor says, one by one.

        What fails for want of a leader is dropped: he sees who leads, and says it again there,
        with the same id.  So nobody here need know whether it has been committed after all.
        """
        async for say in self._to_say:
            with (
                trio.move_on_after(PATIENCE),
                suppress(trioraft.CommandError, trioraft.ServerStopped),
            ):
                await self._node.server.do(say)

    async def _tell(self, kind: str, value: Any) -> None:
        await self._connection.send_message(json.dumps({kind: value}))
