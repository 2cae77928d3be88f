"""One direction of a connection in memory, and the faults of the way that it takes."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import trio
from attrs import define

from trioraft.testing._alarm import Alarm
from trioraft.testing._runs import time_reader

QUEUE_MESSAGES: Final = 64
"""The most messages on their way in one direction of a connection; beyond that `send` waits."""

Delay = float | Callable[[], float]
"""Seconds that a message travels, or what gives them for each message anew."""

Fate = Callable[[], Sequence[float]]
"""What becomes of a message: an extra delay for each copy that arrives, and none if it is lost."""


@define
class Link:
    """The way from one address to another, and what is wrong with it."""

    source: str
    destination: str
    unplugged: AbstractSet[str]
    """Addresses of machines without power or cable; all links share it."""
    delay: Delay = 0.0
    is_cut: bool = False
    is_held: bool = False
    fate: Fate | None = None
    bytes_per_second: float = math.inf
    busy_until: float = 0.0

    def draw(self) -> float:
        return self.delay() if callable(self.delay) else self.delay

    def travel(self, sent: float, size: int) -> float:
        """The instant at which a message that is sent now arrives, if nothing else befalls it."""
        if self.bytes_per_second < math.inf:
            sent = self.busy_until = max(sent, self.busy_until) + size / self.bytes_per_second
        return sent + self.draw()

    @property
    def is_silent(self) -> bool:
        """Whether whatever is sent is lost, and nobody is told."""
        unplugged = self.unplugged
        return self.is_held or (
            bool(unplugged) and not unplugged.isdisjoint((self.source, self.destination))
        )

    def heal(self) -> None:
        self.delay, self.is_cut, self.is_held = 0.0, False, False
        self.fate, self.bytes_per_second, self.busy_until = None, math.inf, 0.0


Ending = type[trio.EndOfChannel] | type[trio.BrokenResourceError]


class Pipe:
    """One direction of a connection: what is on its way, each with the instant it arrives."""

    def __init__(self, link: Link, paused: Mapping[str, float], destination: str) -> None:
        self._link = link
        self._paused = paused
        self._destination = destination
        self._queue: list[tuple[float, int, bytes | Ending]] = []
        """Sorted: by arrival, and by number among those that arrive together."""
        self._count = 0
        self._last_arrival = -math.inf
        self._alarm = Alarm()
        self._time = time_reader()
        self._room = trio.lowlevel.ParkingLot()
        self._is_lossy = False
        self.has_gap = False
        """Whether a message was lost and later ones came: no stream would live on after that."""
        self.ending: Ending | None = None

    @property
    def is_full(self) -> bool:
        return len(self._queue) >= QUEUE_MESSAGES and not self.is_lossy

    @property
    def is_lossy(self) -> bool:
        """Whether all that is put in from now on is lost: after one loss, order demands it."""
        return self._is_lossy or self._link.is_silent

    def put(self, item: bytes | Ending) -> None:
        if self.is_lossy:
            self._is_lossy = True
            self._room.unpark_all()
        elif self.ending is None:
            arrival = self._link.travel(self._time(), len(item) if isinstance(item, bytes) else 0)
            if self._link.fate is not None and isinstance(item, bytes):
                extras = self._link.fate()
                self.has_gap |= not extras
                for extra in extras:
                    self._insert(arrival + extra, item)
            else:
                self._insert(max(arrival, self._last_arrival), item)

    def _insert(self, arrival: float, item: bytes | Ending) -> None:
        self._last_arrival = max(arrival, self._last_arrival)
        self._count += 1
        insort(self._queue, (arrival, self._count, item))
        if self._queue[0][1] == self._count:
            self.wake_up()

    def _due(self) -> float:
        """When the first message is there, or the end, and its receiver runs."""
        here = -math.inf if self.ending is not None else math.inf
        if self._queue:
            here = self._queue[0][0]
        paused = self._paused.get(self._destination, here)
        return max(here, paused)

    @property
    def is_ready(self) -> bool:
        """Whether `take` has something to give, or to raise."""
        return self._due() <= self._time()

    def take(self) -> bytes | None:
        """The first message if it is here.  Raises the ending as soon as that is."""
        if not self.is_ready:
            return None
        if self.ending is None:
            if len(self._queue) >= QUEUE_MESSAGES:
                self._room.unpark_all()
            _, _, item = self._queue.pop(0)
            if isinstance(item, bytes):
                return item
            self.ending = item
        raise self.ending

    def stop(self, ending: Ending) -> None:
        """End at once; what is on its way is lost."""
        self.ending = self.ending or ending
        self._queue.clear()
        self._room.unpark_all()
        self.wake_up()

    def lose_all(self) -> None:
        """Let what is still put in vanish: its receiver is gone, and no word of that got out."""
        self._is_lossy = True
        self._queue.clear()
        self._room.unpark_all()

    def wake_up(self) -> None:
        """Let the reader look when there is something to see."""
        self._alarm.move(self._due())

    def change(self) -> Awaitable[None]:
        """Wait until the first message is here, or the end."""
        return self._alarm.wait(self._due())

    async def room(self) -> None:
        """Wait until a message may be put in, or nobody would get it."""
        while self.is_full and self.ending is None:
            await self._room.park()
