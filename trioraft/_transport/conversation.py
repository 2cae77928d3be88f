"""One persistent stream of messages, once both sides know each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Final

import trio

from trioraft._clock import Bell, Clock
from trioraft._errors import ProtocolError, TrioraftError
from trioraft._limits import LINK_QUEUE_MESSAGES
from trioraft._wire.codec import Ping, Pong, WireMessage, decode, encode
from trioraft.abc import Connection

LOST: Final = (
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.EndOfChannel,
    ProtocolError,
)
"""How a connection ends when nothing is wrong with this server."""


class Silent(ProtocolError):
    """The other side gave no sign of life for too long."""


Later = Callable[[], WireMessage | None]
"""A message that is made when its turn has come, of all that there is to say by then."""


class Conversation:
    """One task writes, one reads, one watches that the other side is alive.

    `post` never waits.  Between servers, what does not fit drops the oldest message, as a network
    would; between a client and a server nothing is dropped, and reading may have to wait.  Only
    the watch may end a stuck send, by ending the conversation and with it the stream: a message
    cut in two would silence the stream for good.
    """

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        patience: float,
        *,
        too_much: Callable[[int], bool] | None = None,
        only: frozenset[type] | None = None,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Begin.

        Args:
            connection: whole messages, both ways.
            clock: whose time counts.
            patience: seconds of silence, twice, after which the other side is given up.
            too_much: whether, with so many messages waiting to be sent, nothing more is to be
                read; None: the oldest of too many is dropped.
            only: the classes of the messages that the other side may send; None: any.
            turn: waited for before each message that is sent or taken; None: it is urgent.
        """
        self._connection = connection
        self._clock = clock
        self._patience = patience
        self._too_much = too_much
        self._only = only
        self._turn = turn
        self._queue: deque[WireMessage | Later] = deque()
        self._bell = Bell()
        self._room = Bell()
        self._heard_at = clock.now()
        self._signs = 0
        """How many messages have come."""
        self._pinged = False

    def post(self, message: WireMessage | Later) -> None:
        """Queue a message."""
        if self._too_much is None and len(self._queue) >= LINK_QUEUE_MESSAGES:
            self._queue.popleft()
        self._queue.append(message)
        self._bell.ring()

    async def answers(self) -> bool:
        """Whether the other side gives a sign of life within its time."""
        heard, until = self._signs, self._clock.now() + self._patience
        self.post(Ping())
        while self._signs == heard and self._clock.now() < until:
            pause = min(self._clock.now() + self._patience / 8, until)
            await self._clock.sleep_until(pause)
        return self._signs > heard

    async def run(self, take: Callable[[WireMessage], None]) -> None:
        """Talk until the stream ends; hands every message to `take`.

        Raises:
            LOST: the stream is over.
            ProtocolError: the other side spoke nonsense, or `take` says so, or it is silent.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send)
            nursery.start_soon(self._watch)
            await self._receive(take)

    async def _send(self) -> None:
        while True:
            await self._bell.wait()
            while self._queue:
                if self._turn is not None:
                    await self._turn()
                queued = self._queue.popleft()
                message = queued() if callable(queued) else queued
                if message is not None:
                    await self._connection.send(encode(message))
                self._room.ring()

    async def _receive(self, take: Callable[[WireMessage], None]) -> None:
        while True:
            while self._too_much is not None and self._too_much(len(self._queue)):
                await self._room.wait()
            data = await self._connection.receive()
            self._heard_at = self._clock.now()
            self._signs += 1
            self._pinged = False
            if self._turn is not None:
                await self._turn()
            message = decode(data, self._only)
            if isinstance(message, Ping):
                self.post(Pong())
            elif not isinstance(message, Pong):
                take(message)

    async def _watch(self) -> None:
        """Ask for a sign of life after a silence, and give up after a second one."""
        silence = self._clock.timer(Bell())
        while True:
            silence.move(self._heard_at + self._patience)
            await silence.wait()
            if self._clock.now() < self._heard_at + self._patience:
                continue
            if self._pinged:
                raise Silent(f"silent for {2 * self._patience:.3g} s")
            self._pinged = True
            self._heard_at = self._clock.now()
            self.post(Ping())


@contextmanager
def bare_errors() -> Generator[None]:
    """Raise what nurseries put into groups as the one error that it comes down to.

    What matters most comes first: a fault of this program before one of this server's disk, and
    that before the end of some stream.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        leaves = sorted(_leaves(group), key=_weight)
        error = leaves[0]
        for other in leaves[1:]:
            error.add_note(f"also: {other!r}")
        raise error from error.__cause__


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


def _weight(error: BaseException) -> int:
    if isinstance(error, trio.Cancelled):
        return 4
    if isinstance(error, LOST):
        return 3
    if isinstance(error, TrioraftError):
        return 2
    return 1 if isinstance(error, Exception) else 0
