"""The snapshots of one server: when they are taken, which one counts, and which may go."""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any, BinaryIO, Final, NoReturn, Protocol

import trio

from trioraft._applier import Applier, Captured
from trioraft._clock import Bell, Clock
from trioraft._config import Config
from trioraft._errors import ServerStopped, StorageCorrupt, StorageError
from trioraft._events import AnyEvent, SnapshotFailed, SnapshotInstalled, SnapshotTaken
from trioraft._limits import LATE_LOG_BYTES
from trioraft._promise import Promise
from trioraft._rules import events
from trioraft._rules.log import Log
from trioraft._rules.node import Node
from trioraft._sessions import Sessions, saved_pieces
from trioraft._snapshots.form import (
    PIECE_BYTES,
    Damaged,
    Head,
    Reader,
    Summary,
    verify,
    write_snapshot,
)
from trioraft._snapshots.naming import Offered, id_of, name_of, offer_of, verify_as
from trioraft._stopwatch import Stopwatch
from trioraft.abc import SnapshotId, SnapshotStore

_LOG: Final = logging.getLogger("trioraft.server")

_GROWTH: Final = 4
"""A snapshot is not taken before the log has grown by a fourth of what the last one holds: however
large the state is, and however small it can be compressed, what is made into bytes is at most five
times what is appended."""


_MARKS: Final = 64

_KEPT_SECONDS: Final = 60.0
"""How long a snapshot that is read in pieces stays after each piece."""


class Host(Protocol):
    """The server, as its snapshots see it."""

    clock: Clock

    @property
    def node(self) -> Node:
        """The present protocol state."""
        ...

    def step(self, event: events.SnapshotTaken) -> None:
        """Let the rules take the event."""
        ...


class Keeper:
    """Takes snapshots, and lends the newest one to who restores it or sends it."""

    def __init__(
        self,
        *,
        host: Host,
        store: SnapshotStore,
        machine: Any,
        applier: Applier,
        config: Config,
        random: Random,
        stopwatch: Stopwatch,
        emit: Callable[[AnyEvent], None],
    ) -> None:
        self._host = host
        self._store = store
        self._machine = machine
        self._applier = applier
        self._config = config
        self._random = random
        self._stopwatch = stopwatch
        self._emit = emit
        self._held: set[SnapshotId] = set()
        """All that the store holds."""
        self._lent: Counter[SnapshotId] = Counter()
        self._kept_until: dict[SnapshotId, float] = {}
        """Who fetches one in pieces need not say when it is done."""
        self._one_at_a_time = trio.Lock()
        self._due = Bell()
        self._asking: list[Promise[Summary]] = []
        self._ended = False
        self._entries = self._bytes = 0
        """What was applied since the newest one was taken."""
        self._total = 0
        """Bytes of all entries that were applied in this life."""
        self._marks: deque[tuple[int, int]] = deque([(0, 0)], maxlen=_MARKS)
        """Where snapshots were taken, and the total there; the oldest first."""
        self.newest: Summary | None = None
        """The snapshot that counts; the log goes on from it or from before it."""
        self._begin_anew()

    # -- a start -------------------------------------------------------------------------------

    async def recover(self, log: Log, cluster: str) -> None:
        """Find the newest snapshot that the log goes on from, and let the machine be that.

        Raises:
            StorageCorrupt: the log needs one, and there is none that is whole; or it is of
                another cluster.
        """
        found = await self._store.list()
        self._held = set(found)
        fitting = [one for one in found if log.term_at(one.index) == one.term]
        for one in reversed(fitting):  # by number, not by name (seed G-26)
            try:
                self.newest = await self._store.load(one, partial(verify_as, one))
                break
            except Damaged as error:
                file, offset, reason = name_of(one), error.offset, error.reason
                if one == fitting[0] and log.base_index > 0:
                    raise StorageCorrupt(file, offset, reason) from error
                _LOG.warning("%s is damaged, one from before it is used: %s", file, error)
        if self.newest is None and log.base_index > 0:
            file = f"the log begins behind entry {log.base_index}"
            raise StorageCorrupt(file, 0, "the snapshot that holds what comes before is missing")
        if self.newest is not None:
            head = self.newest.head
            if head.cluster not in (None, cluster):
                raise StorageCorrupt(
                    name_of(id_of(head)), 0, f"it is of the cluster {head.cluster}"
                )
            await self.restore()
        for one in set(found).difference(fitting):
            await self._remove(one)  # older than the log, or never became a part of it

    async def restore(self) -> Head:
        """Let the machine, and all that is replicated beside it, be what the newest one says.

        Returns its head: by then another one may be the newest.

        Raises:
            StorageError: the disk refuses, or the machine does.
        """
        with self.lent() as summary, self._applier.restoring():
            head, before = summary.head, self._applier.applied
            sessions, state = await self._store.load(id_of(head), self._read)
            if state is not None:
                with self._stopwatch.timing("recover"), _recovering():
                    self._machine.recover(state)
            self._applier.stands_at(head.index, head.term, head.time, sessions)
        self._begin_anew()
        self._due.ring()  # what came before it may go
        self._emit(SnapshotInstalled(head.index, before))
        return head

    def _read(self, file: BinaryIO) -> tuple[Sessions, bytes | None]:
        """In a thread: the sessions, and the state unless the machine reads it here itself."""
        reader = Reader(file)
        sessions = Sessions.restored(reader.sessions())
        recover_from = getattr(self._machine, "recover_from", None)
        if recover_from is None:
            return sessions, reader.state().read()
        with _recovering():
            recover_from(reader.state())
        return sessions, None

    # -- taking --------------------------------------------------------------------------------

    def applied(self, entries: int, size: int) -> None:
        """So many entries, of so many bytes, were applied: is it time for the next snapshot?"""
        self._entries += entries
        self._bytes += size
        self._total += size
        if self._is_due:
            self._due.ring()

    @property
    def _is_due(self) -> bool:
        is_much = self._entries >= self._enough_entries or self._bytes >= self._enough_bytes
        return is_much and self._bytes >= self._least_bytes

    def _begin_anew(self) -> None:
        self._entries = self._bytes = 0
        # All servers have applied the same: they had better not pause at the same entry.
        share = self._random.uniform(0.75, 1.0)
        entries, size = self._config.snapshot_entries, self._config.snapshot_bytes
        can = hasattr(self._machine, "save")
        self._enough_entries = math.inf if entries is None or not can else share * entries
        self._enough_bytes = math.inf if size is None or not can else share * size
        self._least_bytes = 0.0 if self.newest is None else self.newest.holds / _GROWTH

    async def take(self) -> Summary:
        """Have a snapshot taken of all that is applied by now, unless there is one.

        Cancelling ends the waiting, and not the work.

        Raises:
            StorageError: the disk refuses; the log goes on, and nothing is compacted.
            ServerStopped: the server has ended.
            TypeError: the machine can't be saved.
            Exception: the machine's `save` raised, or what it returned did in `write`.
        """
        if self._ended:
            raise ServerStopped("the server stopped")
        if not hasattr(self._machine, "save"):
            raise TypeError(f"a {type(self._machine).__name__} has no save()")
        promise: Promise[Summary] = Promise()
        self._asking.append(promise)
        self._due.ring()
        return await promise.result()

    def end(self) -> None:
        """No more will be taken."""
        self._ended = True
        for promise in self._asking:
            promise.fail(ServerStopped("the server stopped"))
        self._asking.clear()

    async def run(self) -> NoReturn:
        """Take one when somebody asks, and whenever the log has grown by enough, for ever."""
        while True:
            await self._due.wait()
            if not self._asking and not self._is_due:
                async with self._one_at_a_time:
                    await self._drop_older()
                continue
            asking = len(self._asking)
            taken = await self._take()
            answered, self._asking = self._asking[:asking], self._asking[asking:]
            for promise in answered:
                if isinstance(taken, Exception):
                    promise.fail(taken)
                else:
                    promise.keep(taken)
            if self._asking:
                self._due.ring()

    def _failed(self, error: Exception) -> None:
        """It is tried again when somebody asks, or the log has grown as much (seed G-28)."""
        self._begin_anew()
        name = self._host.node.me.name
        _LOG.warning("%s: no snapshot was taken: %s", name, error, exc_info=error)
        self._emit(SnapshotFailed(f"{type(error).__name__}: {error}"))

    async def _take(self) -> Summary | Exception:
        """Take one; if there is none, the machine's or the disk's error says why."""
        # Not with the lock: what is to be applied first may have to be taken in.
        await self._applier.reached(1)
        async with self._one_at_a_time:
            before = self.newest
            await self._applier.reached(0 if before is None else before.head.index)
            if before is not None and before.head.index == self._applier.applied:
                return before
            total = self._total
            self._begin_anew()  # what is applied from here on counts for the next one
            try:
                newest = await self._save(self._applier.capture())
            except Exception as error:  # noqa: BLE001
                self._failed(error)
                return error
            self.newest = newest
            self._marks.append((newest.head.index, total))
            self._least_bytes = newest.holds / _GROWTH
            # Only now, with all of it durable and read back, may the log forget (seed G-27).
            now = self._host.clock.now()
            self._host.step(events.SnapshotTaken(now, newest.head.index, self._floor()))
            was = None if before is None else before.head.index
            self._emit(SnapshotTaken(newest.head.index, was))
            await self._drop_older()
            return newest

    def _floor(self) -> int:
        """From which snapshot on the log may be kept for who is late: so that it is bounded."""
        assert self.newest is not None
        most = max(LATE_LOG_BYTES, self.newest.holds)
        while len(self._marks) > 1 and self._total - self._marks[0][1] > most:
            self._marks.popleft()
        return self._marks[0][0]

    async def _save(self, captured: Captured) -> Summary:
        configuration = self._host.node.configuration_at(captured.index)
        head = Head(
            configuration.cluster, captured.index, captured.term, captured.time, configuration
        )
        made: list[Summary] = []

        def write(file: BinaryIO) -> None:
            pieces = saved_pieces(captured.sessions, PIECE_BYTES)
            compression = self._config.snapshot_compression
            made.append(write_snapshot(file, head, pieces, captured.state, compression))

        def check(file: BinaryIO) -> None:
            if verify(file) != made[0]:
                raise Damaged(0, "what was read back is not what was written")

        self._held.add(id_of(head))
        await self._store.save(id_of(head), write, check)
        return made[0]

    # -- what comes from others, and goes to them ----------------------------------------------

    async def take_in(self, offset: int, data: bytes) -> None:
        """A piece of a snapshot that a leader sends.

        Raises:
            StorageError: the disk refuses.
        """
        async with self._one_at_a_time:
            with _no_gap():
                await self._store.take_in(offset, data)

    async def accept(
        self, offered: Offered, is_wanted: Callable[[], bool], install: Callable[[Head], bool]
    ) -> None:
        """All pieces have come: verify them, and have the snapshot installed.

        Args:
            offered: what the leader said it would send.
            is_wanted: whether this server's log still lacks what it holds.
            install: hands it to the rules; says whether it is now a part of this server's log.

        Raises:
            Damaged: it is not what was offered; nothing of it is left.
            StorageError: the disk refuses.
        """

        def check(file: BinaryIO) -> None:
            summary = verify(file)
            if offer_of(summary) != offered:
                raise Damaged(0, "it is not what was offered")
            found.append(summary)

        found: list[Summary] = []
        one = SnapshotId(offered.index, offered.term)
        async with self._one_at_a_time:
            if is_wanted():
                self._held.add(one)
                with _no_gap():
                    await self._store.accept(one, check)
                if install(found[0].head):
                    self.newest = found[0]

    @contextmanager
    def lent(self) -> Iterator[Summary]:
        """The newest one, which stays as long as the context lasts."""
        assert self.newest is not None, "a log that has a base has a snapshot"
        name = id_of(self.newest.head)
        self._lent[name] += 1
        try:
            yield self.newest
        finally:
            self._lent[name] -= 1

    async def read(self, one: SnapshotId, offset: int, size: int) -> bytes:
        """A piece of a snapshot that is lent, or was the newest when its last piece was read.

        Raises:
            StorageError: it is gone.
        """
        if one not in self._held:
            raise StorageError(f"{name_of(one)} is not here")
        self._kept_until[one] = self._host.clock.now() + _KEPT_SECONDS
        return await self._store.read(one, offset, size)

    async def _drop_older(self) -> None:
        if self.newest is None or self._applier.applied < self.newest.head.index:
            return  # one that is being installed may not be a part of the durable log yet
        newest, now = id_of(self.newest.head), self._host.clock.now()
        for one in sorted(self._held):
            is_read = self._lent[one] or self._kept_until.get(one, now) > now
            if one != newest and not is_read:
                await self._remove(one)

    async def _remove(self, one: SnapshotId) -> None:
        try:
            await self._store.remove(one)
        except StorageError as error:  # it takes space, no more; and it is tried again
            _LOG.warning("%s: %s stays: %s", self._host.node.me.name, name_of(one), error)
            return
        self._held.discard(one)
        self._kept_until.pop(one, None)
        self._lent.pop(one, None)


@contextmanager
def _recovering() -> Iterator[None]:
    """What a machine raises when it is to be what a snapshot says; another one's, perhaps."""
    try:
        yield
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise StorageError(f"the machine can't recover from its snapshot: {what}") from error


@contextmanager
def _no_gap() -> Iterator[None]:
    """A store that has less of an incoming one than was thought has lost it meanwhile."""
    try:
        yield
    except ValueError as error:
        raise StorageError(str(error)) from error
