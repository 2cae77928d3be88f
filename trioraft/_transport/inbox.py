"""Messages between trio-websocket's reader task and whoever takes them.

Stands in for trio-websocket's own channel, which is bounded by a number of messages, however large
each is, and lets one message pass in each pass of the loop.
"""

from __future__ import annotations

from collections import deque
from sys import getsizeof
from types import TracebackType
from typing import Final, Self

import trio

from trioraft._clock import Bell

_MOST_BYTES: Final = 1 << 20
"""No more is read while what waits takes more memory; a message of no bytes takes some, too."""

_IN_A_ROW: Final = 64
"""So many messages are put in, or taken, before others have their turn."""


class Inbox:
    """One task puts messages in, one takes them out."""

    def __init__(self) -> None:
        self._messages: deque[bytes | str] = deque()
        self._bytes = 0
        self._came, self._went = Bell(), Bell()
        self._put = self._taken = 0
        self._ended = self._closed = False
        self.entrance = Entrance(self)
        self.exit = Exit(self)

    async def put(self, message: bytes | str) -> None:
        """Put a message in; waits while there is too much in it already.

        Raises:
            BrokenResourceError: nobody will take it.
        """
        self._put += 1
        if self._put % _IN_A_ROW == 0:
            await trio.lowlevel.checkpoint()
        while self._bytes > _MOST_BYTES and not self._closed:
            await self._went.wait()
        if self._closed:
            raise trio.BrokenResourceError
        self._messages.append(message)
        self._bytes += getsizeof(message)
        self._came.ring()

    async def take(self) -> bytes | str:
        """Wait for a message; a checkpoint if there is none, and once for so many in a row.

        Raises:
            ClosedResourceError: it is closed.
            EndOfChannel: there is no more to come.
        """
        self._taken += 1
        if self._taken % _IN_A_ROW == 0:
            await trio.lowlevel.checkpoint()
        while not self._messages:
            if self._closed:
                raise trio.ClosedResourceError
            if self._ended:
                raise trio.EndOfChannel
            await self._came.wait()
        message = self._messages.popleft()
        self._bytes -= getsizeof(message)
        self._went.ring()
        return message

    def end(self) -> None:
        """Nothing more is put in."""
        self._ended = True
        self._came.ring()

    def close(self) -> None:
        """Nothing more is taken; what waits is lost."""
        self._closed = True
        self._messages.clear()
        self._bytes = 0
        self._came.ring()
        self._went.ring()


class Entrance:
    """What trio-websocket sends into."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def send(self, message: bytes | str) -> None:
        await self._inbox.put(message)

    async def aclose(self) -> None:
        self._inbox.end()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inbox.end()


class Exit:
    """What trio-websocket receives from."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def receive(self) -> bytes | str:
        return await self._inbox.take()

    async def aclose(self) -> None:
        self._inbox.close()
        await trio.lowlevel.checkpoint()
