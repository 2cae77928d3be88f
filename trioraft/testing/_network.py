"""A network in memory: connections without sockets, and faults at the call of a method.

Nothing here draws a random number, starts a task of its own or looks at a real clock.  Under
Trio's `MockClock` and its deterministic scheduler a run is therefore the same every time.
"""

from __future__ import annotations

import errno
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, NoReturn

import trio

from trioraft._limits import MAX_MESSAGE_BYTES
from trioraft._transport.addresses import parse_address
from trioraft.abc import Connection
from trioraft.testing._alarm import sleep
from trioraft.testing._pipe import Delay, Ending, Fate, Link, Pipe

DIAL_SECONDS: Final = 5.0
"""How long `connect` waits for an answer that does not come."""

Tap = Callable[[str, str, bytes], None]
"""Gets source, destination and message whenever one is sent, whatever becomes of it."""

Handler = Callable[[Connection], Awaitable[None]]


class MemoryNetwork:
    """The addresses that listen, the connections between them and the faults that are on.

    Faults belong to a *link*, which has a direction: from `source` to `destination`, addresses
    both.  They take effect at once and stay until they are healed.  A connection stays what TCP
    is: messages arrive whole and in order; once one is lost, no later one arrives either.

    Args:
        tap: sees every message; may be set later, too.
    """

    def __init__(self, tap: Tap | None = None) -> None:
        self.tap = tap
        self._links: dict[tuple[str, str], Link] = {}
        self._isolated: set[str] = set()
        self._unplugged: set[str] = set()
        self._paused: dict[str, float] = {}
        self._listeners: dict[str, tuple[Handler, trio.Nursery]] = {}
        self._dialled: list[tuple[_MemoryConnection, _MemoryConnection]] = []

    def delay(self, source: str, destination: str, seconds: Delay) -> None:
        """Let each message from now on travel so long; none overtakes another.

        Opening a connection takes both ways once.
        """
        self._link(source, destination).delay = seconds

    def cut(self, source: str, destination: str) -> None:
        """Break the connections that `source` opened to `destination`, and refuse new ones.

        Those that `destination` opened to `source` live on: cut both ways for a partition.
        """
        self._link(source, destination).is_cut = True
        self._enforce_cuts()

    def hold(self, source: str, destination: str) -> None:
        """Lose in silence whatever `source` sends to `destination`, on all connections.

        Neither end errs, and not even closing is noticed over there: connections are half-open,
        and those that lost anything stay so after `heal`, until they are closed or cut.  Between
        the two nobody can open a connection: that times out.
        """
        self._link(source, destination).is_held = True

    def throttle(self, source: str, destination: str, bytes_per_second: float) -> None:
        """Let a slow line carry all messages from now on, one behind the other."""
        self._link(source, destination).bytes_per_second = bytes_per_second

    def disorder(self, source: str, destination: str, fate: Fate) -> None:
        """Lose, repeat and reorder messages, each for itself: more than any stream would do.

        The connections live on until `heal`, which breaks those that have lost a message.  What
        holds meanwhile holds by the messages alone, whoever carries them.
        """
        self._link(source, destination).fate = fate

    def reset(self, source: str, destination: str) -> None:
        """Break the connections that `source` opened to `destination`; new ones are welcome."""
        for near, _ in self._dialled:
            if (near.source, near.destination) == (source, destination):
                near.break_off()

    def pause(self, address: str, until: float) -> None:
        """Let whoever listens there receive nothing before this instant of Trio's clock.

        Meanwhile connections can be opened, as a stopped process's system opens them, and what is
        sent waits.
        """
        self._paused[address] = until
        for near, far in self._dialled:
            for end in (near, far):
                if end.source == address:
                    end.incoming.wake_up()

    def heal(self, source: str, destination: str) -> None:
        """Undo every fault of this link."""
        self._link(source, destination).heal()
        for ends in self._dialled:
            for end in ends:
                is_of_link = (end.source, end.destination) == (source, destination)
                if is_of_link and end.outgoing.has_gap:
                    end.break_off()

    def unplug(self, address: str) -> None:
        """Lose in silence whatever is sent from and to `address`, as when its machine is off.

        What befalls its links besides goes on, and lasts when it is plugged in again.
        """
        self._unplugged.add(address)

    def plug(self, address: str) -> None:
        """Undo `unplug`."""
        self._unplugged.discard(address)

    def isolate(self, address: str) -> None:
        """Cut every link from and to `address`, to those who join later as well."""
        self._isolated.add(address)
        self._enforce_cuts()

    def rejoin(self, address: str) -> None:
        """Undo `isolate`."""
        self._isolated.discard(address)

    def heal_all(self) -> None:
        """Undo every fault there is."""
        self._isolated.clear()
        self._unplugged.clear()
        for source, destination in self._links:
            self.heal(source, destination)

    def _link(self, source: str, destination: str) -> Link:
        link = self._links.get((source, destination))
        if link is None:
            link = Link(source, destination, self._unplugged)
            self._links[source, destination] = link
        return link

    def _is_cut(self, source: str, destination: str) -> bool:
        apart = source != destination and not self._isolated.isdisjoint((source, destination))
        return apart or self._link(source, destination).is_cut

    def _enforce_cuts(self) -> None:
        for near, _ in self._dialled:
            if self._is_cut(near.source, near.destination):
                near.break_off()

    async def _dial(self, source: str, destination: str) -> _MemoryConnection:
        """Open a connection, start its handler over there, and return the near end."""
        there, back = self._link(source, destination), self._link(destination, source)
        await sleep(there.draw() + back.draw())
        paused_until = self._paused.get(source, -math.inf)
        if paused_until > trio.current_time():
            await trio.sleep_until(paused_until)
        if there.is_silent or back.is_silent:
            await trio.sleep(DIAL_SECONDS)
            raise TimeoutError(f"{destination} did not answer within {DIAL_SECONDS} s")
        if self._is_cut(source, destination) or destination not in self._listeners:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody answers at {destination}")
        outgoing = Pipe(there, self._paused, destination)
        incoming = Pipe(back, self._paused, source)
        near = _MemoryConnection(self, source, destination, outgoing, incoming)
        far = _MemoryConnection(self, destination, source, incoming, outgoing)
        self._dialled = [ends for ends in self._dialled if not all(end.left for end in ends)]
        self._dialled.append((near, far))
        handler, nursery = self._listeners[destination]
        nursery.start_soon(_handle, handler, far)
        return near


class MemoryTransport:
    """A transport over a `MemoryNetwork`: no sockets, no threads, and time may be virtual.

    Args:
        network: shared by all who are to reach each other.
        address: any `mem://name`; a `ws://host:port` will do too, and is but a name here.

    Raises:
        ValueError: the address can't be read.
    """

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network = network
        self._address = _checked(address)

    @property
    def address(self) -> str:
        """Where this server listens; also the source of the connections that it opens."""
        return self._address

    def check_address(self, address: str) -> None:
        """See `trioraft.abc.Transport.check_address`."""
        _checked(address)

    async def listen(
        self, handler: Handler, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """See `trioraft.abc.Transport.listen`."""
        await trio.lowlevel.checkpoint()
        listeners = self._network._listeners
        if self._address in listeners:
            raise OSError(errno.EADDRINUSE, f"somebody listens at {self._address} already")
        async with trio.open_nursery() as nursery:
            listeners[self._address] = handler, nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                del listeners[self._address]
        raise AssertionError("a nursery ended without a reason")  # pragma: no cover

    def connect(self, address: str) -> AbstractAsyncContextManager[Connection]:
        """See `trioraft.abc.Transport.connect`."""
        return self._connect(address)

    @asynccontextmanager
    async def _connect(self, address: str) -> AsyncGenerator[Connection]:
        connection = await self._network._dial(self._address, _checked(address))
        try:
            yield connection
            await connection.aclose()
        finally:
            connection.leave(trio.BrokenResourceError)


async def _handle(handler: Handler, connection: _MemoryConnection) -> None:
    try:
        await handler(connection)
        await connection.aclose()
    finally:
        connection.leave(trio.BrokenResourceError)


def _checked(address: str) -> str:
    if address.startswith("mem://") and address != "mem://":
        return address
    return str(parse_address(address))


class _MemoryConnection(trio.abc.Channel[bytes]):
    """One end of a connection; what is `outgoing` here is `incoming` at the other."""

    def __init__(
        self,
        network: MemoryNetwork,
        source: str,
        destination: str,
        outgoing: Pipe,
        incoming: Pipe,
    ) -> None:
        self._network = network
        self.source = source
        self.destination = destination
        self.outgoing = outgoing
        self.incoming = incoming
        self._closed = False
        self.left = False

    async def send(self, value: bytes) -> None:
        self._check()
        if len(value) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(value)} bytes is too large to send")
        try:
            # No turn for the others while there is room: most of what a run costs is such turns.
            await trio.lowlevel.checkpoint_if_cancelled()
            if self.outgoing.is_full:
                await self.outgoing.room()
                self._check()
        except trio.Cancelled:
            self.leave(trio.BrokenResourceError)  # as a socket would, with half a message out
            raise
        if self.outgoing.ending is not None:
            raise trio.BrokenResourceError("the other side is gone")
        if self._network.tap is not None:
            self._network.tap(self.source, self.destination, value)
        self.outgoing.put(value)

    async def receive(self) -> bytes:
        if self.incoming.is_ready:
            await trio.lowlevel.checkpoint()
        else:
            self._check()
            await self.incoming.change()
        while True:
            self._check()
            message = self.incoming.take()
            if message is not None:
                return message
            await self.incoming.change()

    async def aclose(self) -> None:
        self.leave(trio.EndOfChannel)
        self._closed = True
        await trio.lowlevel.checkpoint()

    def leave(self, ending: Ending) -> None:
        """Tell the other side, behind what was sent, that this one is gone; only once."""
        if self.left:
            return
        self.left = True
        self.outgoing.put(ending)
        if self.outgoing.is_lossy:
            self.incoming.lose_all()
        else:
            self.incoming.stop(trio.BrokenResourceError)

    def break_off(self) -> None:
        """End both ways at once, as a reset does."""
        self.outgoing.stop(trio.BrokenResourceError)
        self.incoming.stop(trio.BrokenResourceError)

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self.left:
            raise trio.BrokenResourceError("a send was cancelled")
