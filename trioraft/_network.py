"""What a server may ask of its streams to the others."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from trioraft._rules.ids import ServerId
from trioraft._wire.codec import PeerMessage
from trioraft.abc import Connection


class Network(Protocol):
    """The other servers, as the core sees them.  Only `aside` waits."""

    def post(self, to: ServerId, message: PeerMessage) -> None:
        """Send a message, if there is a stream to send it on."""
        ...

    def aside(self, to: ServerId) -> AbstractAsyncContextManager[Connection]:
        """Another stream to a peer, for a snapshot."""
        ...

    def address_of(self, name: str) -> str | None:
        """Where a server was reached last; None if nobody here knows it."""
        ...

    def follow(self) -> None:
        """The members, or whom this server replicates to, have changed: so do its streams."""
        ...

    def expel(self, peer: ServerId, reason: str) -> None:
        """Tell a peer that it must never take part again, and believe nothing more it says."""
        ...


class Plug:
    """Stands for the network: until there is one nobody is reached."""

    def __init__(self) -> None:
        self.network: Network | None = None

    def post(self, to: ServerId, message: PeerMessage) -> None:
        """See `Network`."""
        if self.network is not None:
            self.network.post(to, message)

    def aside(self, to: ServerId) -> AbstractAsyncContextManager[Connection]:
        """See `Network`."""
        assert self.network is not None, "a server without streams leads nobody"
        return self.network.aside(to)

    def address_of(self, name: str) -> str | None:
        """See `Network`."""
        return None if self.network is None else self.network.address_of(name)

    def follow(self) -> None:
        """See `Network`."""
        if self.network is not None:
            self.network.follow()

    def expel(self, peer: ServerId, reason: str) -> None:
        """See `Network`."""
        if self.network is not None:
            self.network.expel(peer, reason)
