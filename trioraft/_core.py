"""The core of one server: the present state, and what the rules' effects come down to."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

import outcome
import trio
from attrs import evolve

from trioraft import _events as say
from trioraft._announcing import Silence, announce
from trioraft._applier import Applier, Told
from trioraft._clock import Bell, Clock, Deadline
from trioraft._commands import Vocabulary
from trioraft._config import Config
from trioraft._errors import NotLeaderError, ProtocolError
from trioraft._limits import LAST_TERM
from trioraft._logbook import LogBook
from trioraft._membership import Membership, configured
from trioraft._network import Network
from trioraft._observer import Observer
from trioraft._outbox import Outbox
from trioraft._reading import Reading
from trioraft._roles import Candidate, Follower, Leader
from trioraft._rules import effects as fx
from trioraft._rules import events
from trioraft._rules.effects import Effect
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.membership import Configuration
from trioraft._rules.messages import AppendEntries
from trioraft._rules.node import Campaigning, Following, Leading, Node, Role
from trioraft._rules.step import step
from trioraft._sessions import Reply, refusal_of
from trioraft._snapshots.keeper import Keeper
from trioraft._snapshots.receiving import Receiver
from trioraft._snapshots.sending import Sender
from trioraft._state import HardState, first_node
from trioraft._stopwatch import Stopwatch
from trioraft._tickets import Ticket, Tickets, tickets_of
from trioraft._trace import Trace
from trioraft._wire.asking import ReadIndex, ReadIndexReply
from trioraft._wire.codec import PeerMessage
from trioraft._wire.frames import Entry, Kind, payload_of
from trioraft._wire.stamps import stamped_time
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
        network: Network,
        patience: float,
        observers: Sequence[Observer],
    ) -> None:
        """Begin with what the disk held; all of it counts as durable."""
        self.state = state
        self.clock = clock
        self.election = Deadline(clock)
        self.answer = Deadline(clock)
        self.quorum = Deadline(clock)
        self.tickets = Tickets()
        self.hub = hub
        self.log = LogBook(
            storage=storage,
            last_index=recovered.last_index,
            config=config,
            clock=clock,
            on_persisted=self._persisted,
            on_fetched=self._fetched,
        )
        self._config = config
        self._random = random
        self.applier, self.keeper = self._begin(machine, vocabulary, context, storage)
        self.sender = Sender(self, self.keeper, network.aside, patience, hub.emit)
        self.receiver = Receiver(
            self, self.keeper, self.applier, patience, self.log.time.saw, hub.emit
        )
        self._network = network
        self.membership = Membership(hub, lambda: self.node, network.follow)
        self._node = first_node(state, recovered, config)
        self.takes_part = False
        """Whether the rules are at work."""
        self._tenure = trio.CancelScope()
        self._bells: dict[ServerId, Bell] = {}
        self._silence = Silence(hub, config)
        self._observers = list(observers)
        self._outbox = Outbox(self._let_go)
        self.reading = Reading(self, network.post, lambda: self.applier.applied, state.starts)
        self.leader_changed = trio.Event()
        """Set when another server leads, or in another term, and then replaced."""

    def _begin(
        self, machine: Any, vocabulary: Vocabulary, context: Any, storage: Storage
    ) -> tuple[Applier, Keeper]:
        """What holds the machine: it is brought up to date, and saved."""
        hub, config = self.hub, self._config
        stopwatch = Stopwatch(self.clock, config.heartbeat_interval, hub.emit)
        applier = Applier(
            machine=machine,
            vocabulary=vocabulary,
            context=context,
            tickets=self.tickets,
            recent=self.log.recent,
            storage=storage,
            on_applied=lambda entries, size: self.keeper.applied(entries, size),
            watcher=self._watcher,
            calm=lambda: self.log.calm(applying_is_waited_for=self._node.leader == self._node.me),
            restore=self._restore,
            stopwatch=stopwatch,
        )
        keeper = Keeper(
            host=self,
            store=storage.snapshots,
            machine=machine,
            applier=applier,
            config=config,
            random=self._random,
            stopwatch=stopwatch,
            emit=hub.emit,
        )
        return applier, keeper

    # -- life ----------------------------------------------------------------------------------

    def formed(self, genesis: Configuration) -> bytes:
        """This server belongs to a cluster from now on; returns what the disk has to hold."""
        self.state = evolve(self.state, genesis=genesis)
        self._node = evolve(self._node, configuration=genesis)
        return self.state.encode()

    async def run(self) -> None:
        """Take part in the cluster until cancelled."""
        await self._recover()
        try:
            self._join()
            async with trio.open_nursery() as services:
                services.start_soon(self.log.writer.run)
                services.start_soon(self.applier.run)
                services.start_soon(self.log.serve_fetches)
                services.start_soon(self.reading.run)
                services.start_soon(self.keeper.run)
                services.start_soon(self.sender.run)
                services.start_soon(self.log.time.tick, self._due, self._submit_tick)
                await self._govern()
        finally:
            self.takes_part = False
            self.reading.ended()
            self.applier.end()
            self.keeper.end()
            for observer in self._observers:
                observer.close()

    async def _recover(self) -> None:
        """Let the machine be what the newest snapshot says; the log goes on from there."""
        await self.log.look_at_last(self._node.log.last_index)
        await self.keeper.recover(self._node.log, self._node.configuration.cluster)
        newest = self.keeper.newest
        if newest is not None:
            head = newest.head
            self.log.time.saw(head.time)
            # What a snapshot holds is committed.
            self._node = evolve(self._node, commit=head.index, snapshot_index=head.index)
            self._node = configured(self._node, head.configuration)

    def _join(self) -> None:
        """From here on the rules are at work."""
        now = self.clock.now()
        alone = self._node.configuration.is_quorum((self.state.id,))
        self._node = evolve(
            self._node,
            # Who has just started does not know whom it stood by a moment ago.
            sticky_until=now if alone else now + self.state.stickiness,
        )
        if self._config.trace is not None:
            self._observers.append(Trace(self._config.trace))
        for observer in self._observers:
            observer.restart(self._node, now)
        self.membership.begin(self._node)
        self._perform(fx.ElectionBy(now))
        self.takes_part = True

    async def _govern(self) -> None:
        """One role at a time, each for exactly as long as the rules say."""
        while True:
            role = _TASKS[type(self._node.role)](self)
            with trio.CancelScope() as self._tenure:
                await role.run()

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

    @property
    def reconfigured(self) -> Bell:
        """Rung when the members have changed."""
        return self.membership.reconfigured

    def lease_left(self) -> None:
        """One of those who relied on the lease does so no more: a transfer may go on."""
        role = self._node.role
        if isinstance(role, Leading) and role.transfer is not None:
            self.bell(role.transfer.target).ring()

    def proposed(self) -> events.Proposed:
        """All commands that queue, as one event."""
        taken = self.tickets.take()
        return events.Proposed(self.clock.now(), len(taken), taken)

    def bell(self, peer: ServerId) -> Bell:
        """Rung when there is news for a follower."""
        return self._bells.setdefault(peer, Bell())

    def append_due(self, peer: ServerId, tenure: int) -> events.AppendDue:
        """A turn for a follower."""
        self.reading.look_at_lease()
        reach = self.log.reach(peer, self._node.next_index(peer))
        return events.AppendDue(self.clock.now(), tenure, peer, reach, not self.reading.leases)

    @trio.lowlevel.enable_ki_protection
    def step(self, event: events.Event) -> None:
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
        if isinstance(event, events.Persisted):
            self._outbox.release(after.disk.done)
            self.log.recent.trim(after.disk.index)
        for effect in effects:
            self._perform(effect)
        announce(self.hub, before, after)
        self.membership.stepped(before, after)
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
                self._outbox.send(self.log.with_frames(effect))
            case fx.AppendOwn():
                tickets = tickets_of(effect.batch)
                self.tickets.appended(tickets, effect.first, effect.term)
                self.log.append_own(effect, tickets)
            case fx.AppendConfiguration():
                self.log.append_configuration(effect)
            case fx.WriteEntries():
                self.log.write(effect)
            case fx.SaveTerm(write, term, voted_for):
                self.state = evolve(self.state, term=term, voted_for=voted_for)
                self.log.writer.save(write, self.state.encode())
            case fx.Compact(write, index, term):
                self.log.writer.compact(write, (index, term))
            case fx.ReplaceLog():
                self.log.replace(effect)
                self.applier.installed(effect.index)
            case fx.SendSnapshot():
                self.sender.send(effect)
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
                self.log.fetch(effect)
            case fx.ReadAt(number, index, batch):
                self.reading.joined(number, index, batch)
            case fx.RoundConfirmed(number):
                self.reading.confirmed(number)
            case fx.Refuse(batch):
                self.tickets.refuse(tickets_of(batch), self.not_leader())
            case fx.Answered(peer, number, seconds):
                self.log.pace(peer).answered(number, seconds)
                self.reading.renewed()
                if self.hub.watched:
                    self.hub.emit(say.Heartbeat(seconds, peer=peer.name))
            case fx.Missed(peer):
                self.hub.emit(say.HeartbeatMissed(peer.name))
            case fx.Dismiss(peer):
                self.bell(peer).ring()
                self._network.follow()
            case fx.Expel(peer, reason):
                self._network.expel(peer, reason)
            case fx.Complain(peer, reason):
                _LOG.warning("%s: %s %s", self._node.me.name, peer, reason)

    def _let_go(self, effect: fx.Send) -> None:
        for observer in self._observers:
            observer.sent(self._node, effect.to, effect.message, self.applier.applied)
        self._network.post(effect.to, effect.message)

    # -- what services bring -------------------------------------------------------------------

    def receive(self, peer: ServerId, message: PeerMessage) -> None:
        """A message came; before this server takes part it is as good as lost."""
        if not self.takes_part:
            return
        match message:
            case ReadIndex(number):
                self.reading.asked(lambda at: self._network.post(peer, ReadIndexReply(number, at)))
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
            self._silence.heard(now)
        self.step(events.Received(now, peer, message))

    def link_up(self, peer: ServerId) -> None:
        """A new stream to a peer stands."""
        self.log.pace(peer).broke()
        if self.takes_part:
            self.step(events.LinkUp(self.clock.now(), peer))

    def _persisted(self, write: int) -> None:
        self.step(events.Persisted(self.clock.now(), write))

    def _fetched(self, wanted: fx.Fetch, entries: Entries) -> None:
        self.step(events.Fetched(self.clock.now(), wanted.tenure, wanted.peer, entries))

    async def _restore(self) -> None:
        """A snapshot that a leader sent takes the place of what was to be applied."""
        head = await self.keeper.restore()
        self.tickets.skipped(head.index, self._node.configuration.cluster)
        for observer in self._observers:
            observer.restored(self._node, head.index, head.term)

    def _watcher(self) -> Told | None:
        """Who is told of each entry that is applied, if anybody is."""
        return self._applied if self._observers or self.hub.watched else None

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
        return NotLeaderError(leader.name, self._network.address_of(leader.name), self._node.term)

    def refusal(self) -> Reply:
        """The same for who asks by message."""
        return refusal_of(self.not_leader())
