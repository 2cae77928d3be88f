"""The log's bytes: in memory, on their way to the disk, and on their way to followers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import trio
from attrs import evolve

from trioraft._clock import Bell, Clock
from trioraft._cluster_time import ClusterTime
from trioraft._config import Config
from trioraft._diskwriter import DiskWriter
from trioraft._limits import MAX_LOG_ENTRIES_PER_REQUEST
from trioraft._pace import Pace
from trioraft._recent import Recent
from trioraft._rules import effects as fx
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.messages import AppendEntries
from trioraft._tickets import Ticket
from trioraft._wire.codec import configuration_data, entries_of
from trioraft._wire.frames import Kind, frame, parse_entry, payload_of
from trioraft._wire.stamps import stamp, stamped_time
from trioraft.abc import Storage

_CALM: Final = 0.002
"""Seconds for which applying waits for a write; a slow disk is not waited for."""

_TELLING: Final = 3
"""Passes of the loop in which a message gets through the link's task and the websocket's."""

_NOOP: Final = (Ticket(b"", kind=Kind.NOOP),)


class LogBook:
    """Carries out what the rules say of entries, which no rule ever looks into."""

    def __init__(
        self,
        *,
        storage: Storage,
        last_index: int,
        config: Config,
        clock: Clock,
        on_persisted: Callable[[int], None],
        on_fetched: Callable[[fx.Fetch, Entries], None],
    ) -> None:
        """Begin with a log that ends at `last_index`, all of it durable."""
        self.recent = Recent(last_index)
        self.time = ClusterTime(clock)
        self.writer = DiskWriter(storage, on_persisted)
        self._storage = storage
        self._config = config
        self._clock = clock
        self._on_fetched = on_fetched
        self._paces: dict[ServerId, Pace] = {}
        self._fetches: deque[fx.Fetch] = deque()
        self._bell = Bell()

    async def look_at_last(self, last_index: int) -> None:
        """Learn the time of the last entry, if the log holds it."""
        for newest in await self._storage.read(last_index, 1):
            self.time.saw(stamped_time(parse_entry(newest).payload))

    # -- to the disk ---------------------------------------------------------------------------

    def append_own(self, effect: fx.AppendOwn, tickets: Sequence[Ticket]) -> None:
        """Frame what a leader appends: these, or a no-op."""
        if not tickets:
            self.time.lead()
        time = stamp(self.time.stamp())
        frames = [
            frame(index, effect.term, ticket.kind, time + ticket.data)
            for index, ticket in enumerate(tickets or _NOOP, effect.first)
        ]
        self.recent.append(effect.first, frames)
        self.writer.append(effect.write, effect.first, frames, cuts=False)

    def append_configuration(self, effect: fx.AppendConfiguration) -> None:
        """Frame a leader's change of the members."""
        index, data = effect.configuration.index, configuration_data(effect.configuration)
        frames = [frame(index, effect.term, Kind.CONFIGURATION, stamp(self.time.stamp(), data))]
        self.recent.append(index, frames)
        self.writer.append(effect.write, index, frames, cuts=False)

    def write(self, effect: fx.WriteEntries) -> None:
        """Take what a leader has sent."""
        entries = effect.entries
        self.recent.append(entries.first, entries.frames)
        self.writer.append(effect.write, entries.first, entries.frames, cuts=effect.cuts)
        self.time.saw(stamped_time(payload_of(entries.frames[-1])))

    def replace(self, effect: fx.ReplaceLog) -> None:
        """An installed snapshot takes the place of all that is here."""
        self.recent.clear(effect.index)
        self.writer.replace(effect.write, effect.kept, (effect.index, effect.term))

    async def calm(self, *, applying_is_waited_for: bool) -> None:
        """Wait while the disk is written, but not for long, and until that has been told.

        Nobody waits for what a follower has applied; a leader goes on at once.

        The machine's `apply` would hold up the thread that writes, for only one of the two can
        run Python at a time, and then the message that says that it is written.
        """
        if not applying_is_waited_for and not self.writer.rests:
            with self._clock.until(self._clock.now() + _CALM):
                await self.writer.rest()
            for _ in range(_TELLING):
                await trio.lowlevel.checkpoint()

    # -- to followers --------------------------------------------------------------------------

    def pace(self, peer: ServerId) -> Pace:
        """How much one message to the follower may hold."""
        pace = self._paces.get(peer)
        if pace is None:
            config = self._config
            pace = self._paces[peer] = Pace(config.heartbeat_interval, config.election_timeout)
        return pace

    def reach(self, peer: ServerId, next_index: int) -> int | None:
        """The last index that a message to the follower may hold; None: it is not in memory."""
        return self.recent.reach(next_index, self.pace(peer).bytes)

    def with_frames(self, effect: fx.Send) -> fx.Send:
        """The message with the entries that it speaks of."""
        message = effect.message
        if isinstance(message, AppendEntries) and len(message.entries):
            entries = message.entries
            if not entries.frames:
                frames = self.recent.between(entries.first, entries.last)
                assert frames is not None, "its reach was taken from what is in memory"
                message = evolve(message, entries=evolve(entries, frames=frames))
                effect = fx.Send(effect.to, message, effect.after)
            size = sum(map(len, message.entries.frames))
            self.pace(effect.to).sent(message.number, size)
        return effect

    def fetch(self, effect: fx.Fetch) -> None:
        """Have read from the disk what a follower lacks."""
        self._fetches.append(effect)
        self._bell.ring()

    async def serve_fetches(self) -> NoReturn:
        """Bring what lagging followers need from the disk, one request after the other."""
        while True:
            await self._bell.wait()
            while self._fetches:
                wanted = self._fetches.popleft()
                frames = await self._storage.read(wanted.first, self.pace(wanted.peer).bytes)
                frames = list(frames[:MAX_LOG_ENTRIES_PER_REQUEST])
                entries = entries_of(frames) if frames else Entries(wanted.first, wanted.first - 1)
                self._on_fetched(wanted, entries)
