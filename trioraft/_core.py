"""The core of one server: the present state, and what the rules' effects come down to."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

import outcome
import trio
from attrs import evolve

from trioraft import _events as say
from trioraft._announcing import announce
from trioraft._applier import Applier
from trioraft._clock import Bell, Clock, Deadline
from trioraft._cluster_time import ClusterTime
from trioraft._commands import Vocabulary
from trioraft._config import Config
from trioraft._diskwriter import DiskWriter
from trioraft._errors import InternalError, NotLeaderError, ProtocolError
from trioraft._limits import APPEND_WINDOW, LAST_TERM, MAX_LOG_ENTRIES_PER_REQUEST
from trioraft._observer import Observer
from trioraft._outbox import Outbox
from trioraft._pace import Pace
from trioraft._payloads import stamp, stamped_time
from trioraft._reading import Reading
from trioraft._recent import Recent
from trioraft._roles import Candidate, Follower, Leader
from trioraft._rules import effects as fx
from trioraft._rules.effects import Effect
from trioraft._rules.events import (
    AppendDue,
    Event,
    Fetched,
    LinkUp,
    Persisted,
    Proposed,
    Received,
)
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries, Log
from trioraft._rules.membership import Configuration
from trioraft._rules.messages import AppendEntries
from trioraft._rules.node import Campaigning, Disk, Following, Leading, Node, Role, Settings
from trioraft._rules.step import step
from trioraft._sessions import Reply, refusal_of
from trioraft._state import HardState
from trioraft._tickets import Ticket, Tickets
from trioraft._trace import Trace
from trioraft._wire.asking import ReadIndex, ReadIndexReply
from trioraft._wire.codec import PeerMessage, entries_of
from trioraft._wire.frames import Entry, Kind, frame, parse_entry, payload_of
from trioraft.abc import Recovered, Storage

_LOG: Final = logging.getLogger("trioraft.server")
_TASKS: Final[Mapping[type[Role], type[Follower | Candidate | Leader]]] = {
    Following: Follower,
    Campaigning: Candidate,
    Leading: Leader,
}


class Core:
    """Holds the state, hands every event to the rules, carries out the effects.

    `step` is the only door to the state.  `run` is the whole of "roles": one task at a time, each
    for exactly as long as the rules say, over services that outlive them all.
    """

    def __init__(
        self,
        *,
        state: HardState,
        recovered: Recovered,
        machine: Any,
        vocabulary: Vocabulary,
        context: Any,
        config: Config,
        storage: Storage,
        clock: Clock,
        random: Random,
        hub: say.Hub,
        post: Callable[[ServerId, PeerMessage], None],
        address_of: Callable[[str], str | None],
        observers: Sequence[Observer],
    ) -> None:
        """Begin with what the disk held; all of it counts as durable."""
        last = recovered.last_index
        self.state = state
        self.clock = clock
        self.election = Deadline(clock)
        self.answer = Deadline(clock)
        self.quorum = Deadline(clock)
        self.tickets = Tickets()
        self.hub = hub
        self.recent = Recent(last)
        self.applier = Applier(
            machine=machine,
            vocabulary=vocabulary,
            context=context,
            tickets=self.tickets,
            recent=self.recent,
            storage=storage,
            on_applied=self._applied,
        )
        self._config = config
        self._storage = storage
        self._random = random
        self._post = post
        self._address_of = address_of
        self._node = _node_of(state, recovered, config)
        self._joined = False
        self._tenure = trio.CancelScope()
        self._time = ClusterTime(clock)
        self._bells: dict[ServerId, Bell] = {}
        self._paces: dict[ServerId, Pace] = {}
        self._fetches: deque[fx.Fetch] = deque()
        self._fetch_bell = Bell()
        self._heard_at = -math.inf
        self._observers = list(observers)
        self._outbox = Outbox(self._let_go)
        self._writer = DiskWriter(storage, self._persisted)
        self.reading = Reading(self, post, lambda: self.applier.applied, state.starts)
        self.leader_changed = trio.Event()
        """Set when another server leads, or in another term, and then replaced."""

    # -- life ----------------------------------------------------------------------------------

    async def run(self, configuration: Configuration) -> None:
        """Take part in the cluster until cancelled."""
        last = self._node.log.last_index
        if last:
            (newest,) = await self._storage.read(last, 1)
            self._time.saw(stamped_time(parse_entry(newest).payload))
        try:
            self._join(configuration)
            async with trio.open_nursery() as services:
                services.start_soon(self._writer.run)
                services.start_soon(self.applier.run)
                services.start_soon(self._fetch)
                services.start_soon(self.reading.run)
                services.start_soon(self._time.tick, self._due, self._submit_tick)
                await self._govern()
        finally:
            self._joined = False
            self.reading.ended()
            self.applier.end()
            for observer in self._observers:
                observer.close()

    def _join(self, configuration: Configuration) -> None:
        """From here on the rules are at work."""
        now = self.clock.now()
        alone = not configuration.others(self.state.id)
        self._node = evolve(
            self._node,
            configuration=configuration,
            # Who has just started does not know whom it stood by a moment ago.
            sticky_until=now if alone else now + self.state.stickiness,
        )
        if self._config.trace is not None:
            self._observers.append(Trace(self._config.trace))
        for observer in self._observers:
            observer.restart(self._node, now)
        for peer in self._node.peers:
            self.hub.emit(say.PeerAdded(peer.name))
        self._perform(fx.ElectionBy(now))
        self._joined = True

    async def _govern(self) -> None:
        """One role at a time, each for exactly as long as the rules say."""
        while True:
            role = _TASKS[type(self._node.role)](self)
            with trio.CancelScope() as self._tenure:
                await role.run()

    async def _fetch(self) -> None:
        """Bring what a lagging follower needs from the disk, one request after the other."""
        while True:
            await self._fetch_bell.wait()
            while self._fetches:
                wanted = self._fetches.popleft()
                frames = await self._storage.read(wanted.first, self._pace(wanted.peer).bytes)
                frames = list(frames[:MAX_LOG_ENTRIES_PER_REQUEST])
                entries = entries_of(frames) if frames else Entries(wanted.first, wanted.first - 1)
                self.step(Fetched(self.clock.now(), wanted.tenure, wanted.peer, entries))

    def _due(self) -> float | None:
        return self.applier.sessions.due if isinstance(self._node.role, Leading) else None

    def _submit_tick(self) -> None:
        self.tickets.submit(Ticket(b"", kind=Kind.NOOP))

    # -- what roles ask ------------------------------------------------------------------------

    @property
    def node(self) -> Node:
        """The present protocol state; replaced by `step`, never edited."""
        return self._node

    @property
    def proposals(self) -> Bell:
        """Rung when a command queues."""
        return self.tickets.bell

    def proposed(self) -> Proposed:
        """All commands that queue, as one event."""
        taken = self.tickets.take()
        return Proposed(self.clock.now(), len(taken), taken)

    def bell(self, peer: ServerId) -> Bell:
        """Rung when there is news for a follower."""
        return self._bells.setdefault(peer, Bell())

    def _pace(self, peer: ServerId) -> Pace:
        pace = self._paces.get(peer)
        if pace is None:
            config = self._config
            pace = self._paces[peer] = Pace(config.heartbeat_interval, config.election_timeout)
        return pace

    def append_due(self, peer: ServerId, tenure: int) -> AppendDue:
        """A turn for a follower."""
        self.reading.look_at_lease()
        reach = self.recent.reach(self._node.next_index(peer), self._pace(peer).bytes)
        return AppendDue(self.clock.now(), tenure, peer, reach)

    @trio.lowlevel.enable_ki_protection
    def step(self, event: Event) -> None:
        """Let the rules take one event.  The only door to the state: it never waits.

        If a rule raises, nothing has changed and nothing has been promised.
        """
        before = self._node
        try:
            after, effects = step(before, event)
        except BaseException:
            for observer in self._observers:
                observer.broken(before, event, self.applier.applied)
            raise
        self._node = after
        for observer in self._observers:
            observer.stepped(before, event, after, effects, self.applier.applied)
        if isinstance(event, Persisted):
            self._outbox.release(after.disk.done)
            self.recent.trim(after.disk.index)
        for effect in effects:
            self._perform(effect)
        announce(self.hub, before, after)
        if (before.leader, before.term) != (after.leader, after.term):
            self.reading.leader_changed()
            self.leader_changed.set()
            self.leader_changed = trio.Event()
        if after.tenure != before.tenure:
            if isinstance(before.role, Leading):
                cluster = after.configuration.cluster
                self.tickets.leadership_lost(after.commit, cluster, self.not_leader())
            self._tenure.cancel()

    # -- effects -------------------------------------------------------------------------------

    def _perform(self, effect: Effect) -> None:
        """Carry out one effect: every branch only files, moves or rings."""
        match effect:
            case fx.Send():
                self._outbox.send(self._with_frames(effect))
            case fx.AppendOwn():
                self._append_own(effect)
            case fx.WriteEntries(write, entries, cuts):
                self.recent.append(entries.first, entries.frames)
                self._writer.append(write, entries.first, entries.frames, cuts=cuts)
                self._time.saw(stamped_time(payload_of(entries.frames[-1])))
            case fx.SaveTerm(write, term, voted_for):
                self.state = evolve(self.state, term=term, voted_for=voted_for)
                self._writer.save(write, self.state.encode())
            case fx.Commit(index):
                self.applier.advance(index)
            case fx.ElectionBy(now, times):
                shortest = self._config.election_timeout
                self.election.move(now + times * self._random.uniform(shortest, 2 * shortest))
            case fx.AnswerBy(instant):
                self.answer.move(instant)
            case fx.QuorumBy(instant):
                self.quorum.move(instant)
            case fx.Wake(peer):
                self.bell(peer).ring()
            case fx.Fetch():
                self._fetches.append(effect)
                self._fetch_bell.ring()
            case fx.ReadAt(number, index, batch):
                self.reading.joined(number, index, batch)
            case fx.RoundConfirmed(number):
                self.reading.confirmed(number)
            case fx.Refuse(batch):
                self.tickets.refuse(_tickets_of(batch), self.not_leader())
            case fx.Answered(peer, number, seconds):
                self._pace(peer).answered(number, seconds)
                self.reading.renewed()
                if self.hub.watched:
                    self.hub.emit(say.Heartbeat(seconds, peer=peer.name))
            case fx.Missed(peer):
                self.hub.emit(say.HeartbeatMissed(peer.name))
            case fx.Complain(peer, reason):
                _LOG.warning("%s: %s %s", self._node.me.name, peer, reason)

    def _with_frames(self, effect: fx.Send) -> fx.Send:
        message = effect.message
        if isinstance(message, AppendEntries) and len(message.entries):
            entries = message.entries
            if not entries.frames:
                frames = self.recent.between(entries.first, entries.last)
                assert frames is not None, "its reach was taken from what is in memory"
                message = evolve(message, entries=evolve(entries, frames=frames))
                effect = fx.Send(effect.to, message, effect.after)
            size = sum(map(len, message.entries.frames))
            self._pace(effect.to).sent(message.number, size)
        return effect

    def _append_own(self, effect: fx.AppendOwn) -> None:
        tickets = _tickets_of(effect.batch)
        if not tickets:
            self._time.lead()
            payload = stamp(self._time.stamp())
            frames = [frame(effect.first, effect.term, Kind.NOOP, payload)]
        else:
            time = self._time.stamp()
            frames = [
                frame(index, effect.term, ticket.kind, stamp(time, ticket.data))
                for index, ticket in enumerate(tickets, effect.first)
            ]
            self.tickets.appended(tickets, effect.first, effect.term)
        self.recent.append(effect.first, frames)
        self._writer.append(effect.write, effect.first, frames, cuts=False)

    def _let_go(self, effect: fx.Send) -> None:
        for observer in self._observers:
            observer.sent(self._node, effect.to, effect.message, self.applier.applied)
        self._post(effect.to, effect.message)

    # -- what services bring -------------------------------------------------------------------

    def receive(self, peer: ServerId, message: PeerMessage) -> None:
        """A message came; before this server takes part it is as good as lost."""
        if not self._joined:
            return
        match message:
            case ReadIndex(number):
                self.reading.asked(lambda index: self._post(peer, ReadIndexReply(number, index)))
                return
            case ReadIndexReply():
                self.reading.answered(message)
                return
        if message.term > LAST_TERM:
            raise ProtocolError(f"{peer} says term {message.term}: no cluster gets that far")
        now = self.clock.now()
        if isinstance(message, AppendEntries) and message.entries.frames:
            # Before anything has changed: a stranger's nonsense must not be half carried out.
            stamped_time(payload_of(message.entries.frames[-1]))
        if isinstance(message, AppendEntries) and message.term >= self._node.term:
            silence = now - self._heard_at
            self._heard_at = now
            if 0.8 * self._config.election_timeout < silence < math.inf:
                self.hub.emit(say.ElectionTimeoutThreshold(silence))
        self.step(Received(now, peer, message))

    def link_up(self, peer: ServerId) -> None:
        """A new stream to a peer stands."""
        self._pace(peer).broke()
        if self._joined:
            self.step(LinkUp(self.clock.now(), peer))

    def _persisted(self, write: int) -> None:
        self.step(Persisted(self.clock.now(), write))

    def _applied(self, entry: Entry, result: outcome.Outcome[Any] | None) -> None:
        for observer in self._observers:
            observer.applied(self._node, entry, result)
        if self.hub.watched:
            self.hub.emit(say.Commit(entry))

    def not_leader(self) -> NotLeaderError:
        """The error that sends a caller to the leader."""
        leader = self._node.leader
        if leader is None or leader == self._node.me:
            return NotLeaderError(None, None, self._node.term)
        return NotLeaderError(leader.name, self._address_of(leader.name), self._node.term)

    def refusal(self) -> Reply:
        """The same for who asks by message."""
        return refusal_of(self.not_leader())


def _node_of(state: HardState, recovered: Recovered, config: Config) -> Node:
    """The protocol state with which a server starts: what its disk held, and nothing else."""
    return Node(
        state.id,
        Settings(
            config.heartbeat_interval,
            config.election_timeout,
            APPEND_WINDOW,
            config.max_clock_drift,
        ),
        Configuration("", ()),
        term=state.term,
        voted_for=state.voted_for,
        log=Log(recovered.terms, recovered.last_index),
        disk=Disk(index=recovered.last_index),
    )


def _tickets_of(batch: object) -> tuple[Ticket, ...]:
    if batch is None:
        return ()
    if not isinstance(batch, tuple):
        raise InternalError(f"a batch of commands came back as {batch!r}")
    return batch
