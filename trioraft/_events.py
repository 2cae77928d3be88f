"""What a server tells those who watch it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from attrs import frozen

from trioraft._clock import Bell
from trioraft._wire.frames import Entry

T = TypeVar("T")

_BACKLOG: Final = 1024


@frozen
class ServerEvent(Generic[T]):
    """Something that happened at one server."""

    value: T
    """What is so now."""
    previous: T | None = None
    """What was so before, where that makes sense."""


class StateChange(ServerEvent[str]):
    """The server's state: "follower", "candidate" or "leader"."""


class LeaderChange(ServerEvent[str | None]):
    """The name of the leader that this server knows, None for none; however it was learnt."""


class TermChange(ServerEvent[int]):
    """The term, whoever raised it."""


class Commit(ServerEvent[Entry]):
    """An entry was committed and has just been applied here."""


class PeerAdded(ServerEvent[str]):
    """The name of a member that the configuration now holds."""


class PeerRemoved(ServerEvent[str]):
    """The name of a member that the configuration holds no more."""


@frozen
class PeerCatchingUp(ServerEvent[float]):
    """How much of the log a server has that is being taken in: from 0 to 1."""

    peer: str = ""
    """Its name."""


class HeartbeatMissed(ServerEvent[str]):
    """The name of a follower that has not answered for a heartbeat interval."""


class ElectionTimeoutThreshold(ServerEvent[float]):
    """Seconds since the leader was last heard, when more than 0.8 of the election time-out."""


@frozen
class Heartbeat(ServerEvent[float]):
    """Seconds between a request to a follower and its answer."""

    peer: str = ""
    """The follower's name."""


class SnapshotTaken(ServerEvent[int]):
    """The last entry of a snapshot that this server has taken; the one before it, if any."""


class SnapshotInstalled(ServerEvent[int]):
    """The last entry of a snapshot that the machine has become; before, it had applied less."""


class SnapshotFailed(ServerEvent[str]):
    """Why no snapshot was taken, though it was time for one."""


@frozen
class SnapshotProgress(ServerEvent[float]):
    """How much of a snapshot has been sent to a peer, or has come from it: from 0 to 1."""

    peer: str = ""
    """The other server's name."""


class SlowMachine(ServerEvent[float]):
    """Seconds that calls into the machine took in a row, while nothing else could happen."""


class EventsMissed(ServerEvent[int]):
    """The reader was too slow: so many events before the next one were dropped."""


AnyEvent = (
    StateChange
    | LeaderChange
    | TermChange
    | Commit
    | PeerAdded
    | PeerRemoved
    | PeerCatchingUp
    | HeartbeatMissed
    | ElectionTimeoutThreshold
    | Heartbeat
    | SnapshotTaken
    | SnapshotInstalled
    | SnapshotFailed
    | SnapshotProgress
    | SlowMachine
    | EventsMissed
)


class Subscription:
    """One reader's events, oldest first; iterate over it."""

    def __init__(self) -> None:
        self._events: deque[AnyEvent] = deque(maxlen=_BACKLOG)
        self._missed = 0
        self._ended = False
        self._bell = Bell()

    def tell(self, event: AnyEvent) -> None:
        """Queue an event; a slow reader loses its oldest one and stalls nobody."""
        self._missed += len(self._events) == _BACKLOG
        self._events.append(event)
        self._bell.ring()

    def end(self) -> None:
        """No more events will come: the iteration ends after those that wait."""
        self._ended = True
        self._bell.ring()

    def __aiter__(self) -> AsyncIterator[AnyEvent]:
        return self

    async def __anext__(self) -> AnyEvent:
        await self._bell.wait()
        if self._ended and not self._events:
            self._bell.ring()
            raise StopAsyncIteration
        if self._missed:
            event: AnyEvent = EventsMissed(self._missed)
            self._missed = 0
        else:
            event = self._events.popleft()
        if self._events or self._ended:
            self._bell.ring()
        return event


class Hub:
    """Hands every event to every reader."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._ended = False

    @property
    def watched(self) -> bool:
        """Whether anybody reads at all."""
        return bool(self._subscriptions)

    def emit(self, event: AnyEvent) -> None:
        """Hand over an event; never waits."""
        for subscription in self._subscriptions:
            subscription.tell(event)

    def end(self) -> None:
        """No more events will come."""
        self._ended = True
        for subscription in self._subscriptions:
            subscription.end()

    @contextmanager
    def subscribed(self) -> Iterator[Subscription]:
        """A new reader, for as long as the context lasts."""
        subscription = Subscription()
        if self._ended:
            subscription.end()
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
