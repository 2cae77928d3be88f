"""A server: what a user holds, and how its life begins and ends."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any, Final, TypeVar

import trio
from attrs import evolve

from trioraft import _events as say
from trioraft._administration import Administration
from trioraft._answering import Answering
from trioraft._clock import Clock
from trioraft._commands import Command, Query, Vocabulary, name_of
from trioraft._config import Config
from trioraft._core import Core
from trioraft._desk import Desk
from trioraft._errors import CommandRejected, Expelled, ServerStopped, StorageError
from trioraft._front import Front
from trioraft._handshake import Handshake
from trioraft._leadership import Leadership, leading
from trioraft._membership import linked
from trioraft._naming import check_genesis, check_names
from trioraft._network import Plug
from trioraft._observer import Observer
from trioraft._reads import Answer, Consistency, Linearizable
from trioraft._rules.membership import Configuration
from trioraft._rules.node import Leading
from trioraft._snapshots.restoring import start_from
from trioraft._state import HardState
from trioraft._storage.disk import DiskStorage
from trioraft._storage.memory import MemoryStorage
from trioraft._tickets import Ticket
from trioraft._transport.conversation import bare_errors
from trioraft._transport.http import WebTransport
from trioraft._transport.peers import Peers
from trioraft._web import make_respond
from trioraft._wire.codec import PROTOCOL_VERSION, Hello
from trioraft.abc import Batch, Recovered, StateMachine, Storage, Transport

R = TypeVar("R")
_LINEARIZABLE: Final = Linearizable()


class Server(Administration):
    """A member of a cluster.  `trio.run(server.serve)` runs it; an object runs once."""

    def __init__(
        self,
        name: str,
        path: str | os.PathLike[str] | None,
        transport: Transport,
        state_machine: StateMachine,
        *,
        initial_cluster: Mapping[str, str] | None = None,
        peers: Mapping[str, str] | None = None,
        restore: str | os.PathLike[str] | None = None,
        context: Any = None,
        config: Config | None = None,
        storage: Storage | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Describe a server; nothing is opened or written before `serve`.

        Args:
            name: its name in the cluster, the same for the life of its data directory.
            path: the data directory; None keeps everything in memory.
            transport: how it listens and dials.
            state_machine: what it replicates.
            initial_cluster: every first member's name and address, this server included; used
                once, on an empty data directory.  Without it a new server waits to be taken in.
            peers: addresses that differ from those the cluster knows; hints for dialling.
            restore: a file with a snapshot that a new cluster starts from; used once, on an empty
                data directory, and the same on every first member.
            context: passed to every `apply` on this server; not replicated.
            config: how it behaves.
            storage: another place for the log than `path`.
            clock: another clock than Trio's.
            random: another source of chance.
            observer: looks on, as the simulation does; not a stable interface, unlike the trace.

        Raises:
            ValueError: a name or an address makes no sense; the message says which.
            TypeError: `state_machine.commands` holds what is no command.
        """
        self.name, self.path, self.transport = name, path, transport
        self.state_machine, self.context = state_machine, context
        self.config = config if config is not None else Config()
        self._clock = clock if clock is not None else Clock()
        self._random = random if random is not None else Random()
        self._observers = () if observer is None else (observer,)
        self._initial, self._hints = dict(initial_cluster or {}), dict(peers or {})
        self._restore = restore
        check_names(name, self._initial, self._hints, transport)
        self._vocabulary = Vocabulary.of(state_machine)
        kept: Storage = MemoryStorage() if path is None else DiskStorage(path)
        self._storage = kept if storage is None else storage
        self._patience = max(10 * self.config.heartbeat_interval, 2 * self.config.election_timeout)
        self._began, self._opened, self._ended = False, trio.Event(), trio.Event()
        self._life, self._taking_part = trio.CancelScope(), trio.CancelScope()
        self._hub = say.Hub()
        self._network, self._expelled = Plug(), ""
        self._core = self._new_core(HardState(name, ""), Recovered())
        self._handshake: Handshake | None = None
        self._peers: Peers | None = None

    # -- what a user asks ----------------------------------------------------------------------

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled or stopped; calls `task_status.started()` once it listens.

        Cancelling is as safe as a crash, and returns within a second and the write in flight.

        Raises:
            StorageError: the disk failed, is damaged, or is locked; nothing is retried.
            OSError: the address can't be listened on, or the file to restore can't be read.
            ProtocolError: a committed entry can't be read by this program.
            InternalError: an invariant of Raft is broken here.
            RuntimeError: this object has run before.
            Exception: an `apply` raised what may differ from server to server.
        """
        if self._began:
            raise RuntimeError("a Server runs once: make a new one over the same data directory")
        self._began = True
        try:
            with bare_errors(), self._life:
                await self._live(listening=lambda: task_status.started())
        finally:
            self._core.reading.ended()
            self._core.applier.end()
            self._core.keeper.end()
            self._core.tickets.server_stopped(self._core.node.configuration.cluster)
            self._hub.emit(say.StateChange("stopped", self.state))
            self._ended.set()
            self._opened.set()
            self._hub.end()

    async def stop(self) -> None:
        """End in good order: `serve` returns.  Does nothing to a server that does not run.

        A leader hands over first, if another voter takes over within an election time-out.
        """
        if self._began:
            await self._hand_over_to_any()
            self._life.cancel()
            await self._ended.wait()

    async def do(self, command: Command[R]) -> R:
        """Have a command committed and applied, and return what its `apply` returned.

        Waits in front while very many commands are under way.  Cancelling withdraws a command that
        still queues here; else it stops the waiting, never the command.

        Raises:
            NotLeaderError: this server does not lead; surely not done, try the one it names.
            CommandRejected: malformed, unknown or too large; surely not done.
            OutcomeUnknown: appended, but leadership was lost or the server stopped before the
                command was known to be committed; its `handle` names it.
            ServerStopped: the server does not run; surely not done.
            Exception: what `apply` raised; the command is done, on every server alike.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # else it might be done all the same
        self._must_run()
        data, fresh = self._vocabulary.encode(command)
        self._must_lead()
        self._must_be_understood(name_of(command))
        await self._core.tickets.room()
        self._must_run()
        self._must_lead()
        result: R = await self._core.tickets.answer(Ticket(data, fresh))
        return result

    async def read(self, query: Query[R], consistency: Consistency = _LINEARIZABLE) -> Answer[R]:
        """Have a query answered by this server's machine, as fresh as `consistency` asks.

        The others are asked only for how far this one must be, and only where it takes that.

        Raises:
            NotLeaderError: it takes a leader's word, and this server knows of no leader now, or
                lost it meanwhile; try again.
            CommandRejected: the machine does not know the query.
            ProtocolError: the token of `AtLeast` is another cluster's.
            ServerStopped: the server does not run.
            TypeError: `consistency` is none.
            Exception: what `answer` raised.
        """
        await trio.lowlevel.checkpoint()
        self._must_run()
        self._vocabulary.check_query(query)
        answering = Answering(self._core)
        answer: Answer[R] = await answering.answer(
            lambda: query.answer(self.state_machine), consistency
        )
        return answer

    async def take_snapshot(self) -> int:
        """Have everything that is applied by now in a durable snapshot, and compact the log.

        This happens of itself, too (`Config.snapshot_entries`).  Waits until anything is applied.

        Returns:
            The index of the last entry in it; if nothing is new since the last one, that one's.

        Raises:
            StorageError: the disk refuses; nothing is compacted, and the server goes on.
            ServerStopped: the server does not run.
            TypeError: the machine has no `save`.
            Exception: what `save`, or the `write` of what it returned, raised.
        """
        core = await self._open_core()
        return (await core.keeper.take()).head.index

    @asynccontextmanager
    async def events(self) -> AsyncGenerator[say.Subscription]:
        """Watch this server: iterate over what the context gives, until the server has ended.

        A slow reader stalls nobody: it loses the oldest events and is told how many.
        """
        with self._hub.subscribed() as subscription:
            yield subscription

    def leadership(self) -> AbstractAsyncContextManager[Leadership]:
        """Run a body only while this server leads, and holds the lease that says so.

        Entering waits for that.  The body is cancelled before another server can lead, as long as
        the event loop runs and clocks differ by no more than `Config.max_clock_drift`; beyond that
        only the `fence` protects.

        Raises:
            LeaseLost: on leaving: the body was cancelled.
            ServerStopped: on entering: the server does not run.
        """
        self._must_run()
        return leading(self._open_core)

    # -- life ----------------------------------------------------------------------------------

    async def _live(self, listening: Callable[[], None]) -> None:
        recovered = await self._storage.open()
        try:
            state, recovered = await self._wake_up(recovered)
            self._core = self._new_core(state, recovered)
            self._opened.set()
            self._handshake = self._new_handshake(state)
            front = self._new_front(self._core, self._handshake)
            self._peers = peers = self._new_peers(self._core, self._handshake, front)
            self._network.network = peers
            if isinstance(self.transport, WebTransport):
                self.transport.answer_web(make_respond(front))
            async with trio.open_nursery() as services:
                await services.start(self.transport.listen, peers.accept)
                self._handshake.listens_at(self._own_address())
                listening()
                services.start_soon(peers.run)
                services.start_soon(front.forwarder.run)
                services.start_soon(front.turns.run)
                services.start_soon(self._keep_members_true)
                services.start_soon(self._end_when_removed)
                with self._taking_part:
                    await self._handshake.cluster()
                    await self._core.run()
                await self._end_for_good()
        finally:
            await self._storage.aclose()

    async def _end_when_removed(self) -> None:
        """End once this server is out, unless it is taken in again at once."""
        membership, clock = self._core.membership, self._clock
        while True:
            await membership.removed.wait()
            await clock.sleep_until(clock.now() + self.config.election_timeout)
            if membership.is_out(self._core.node):
                self._life.cancel()

    def _must_end(self, reason: str) -> None:
        """Another server has found that this disk is a copy, or an old state of itself."""
        self._expelled = reason
        self._taking_part.cancel()

    async def _end_for_good(self) -> None:
        """Nobody writes any more: put down that this incarnation must never take part again."""
        state = evolve(self._core.state, expelled=self._expelled)
        await self._storage.write(Batch(state=state.encode()))
        raise Expelled(self._expelled)

    async def _wake_up(self, recovered: Recovered) -> tuple[HardState, Recovered]:
        """Become who the data directory says this server is, and count the start."""
        base: tuple[int, int] | None = None
        if recovered.state is not None:
            state = HardState.decode(recovered.state)
        else:
            state = HardState(self.name, f"{self._random.getrandbits(64):016x}")
            if self._restore is not None:
                compression = self.config.snapshot_compression
                kept = await start_from(self._restore, self._storage.snapshots, compression)
                base = kept.head.index, kept.head.term
                state = evolve(state, term=kept.head.term, restored=kept.digest.hex())
                recovered = Recovered(last_index=kept.head.index, base=base)
        if state.expelled:
            raise Expelled(state.expelled)
        if state.name != self.name:
            raise StorageError(f"the data directory belongs to {state.name}, not to {self.name}")
        stickiness = max(state.stickiness, self.config.election_timeout)
        listens = state.listens or self.transport.address
        state = evolve(state, starts=state.starts + 1, stickiness=stickiness, listens=listens)
        await self._storage.write(Batch(state=state.encode(), base=base))
        return state, recovered

    async def _form(self, genesis: Configuration) -> None:
        """Make the genesis durable; it is not spoken of before that."""
        check_genesis(genesis, self.transport)
        await self._storage.write(Batch(state=self._core.formed(genesis)))

    def _new_core(self, state: HardState, recovered: Recovered) -> Core:
        return Core(
            state=state,
            recovered=recovered,
            machine=self.state_machine,
            vocabulary=self._vocabulary,
            context=self.context,
            config=self.config,
            storage=self._storage,
            clock=self._clock,
            random=self._random,
            hub=self._hub,
            network=self._network,
            patience=self._patience,
            observers=self._observers,
        )

    def _new_handshake(self, state: HardState) -> Handshake:
        return Handshake(
            me=Hello(
                cluster=None,
                name=self.name,
                incarnation=state.incarnation,
                starts=state.starts,
                nonce=f"{self._random.getrandbits(64):016x}",
                address=self._own_address(),
                version=PROTOCOL_VERSION,
                commands=self._vocabulary.commands,
                restored=state.restored,
            ),
            initial_cluster=self._initial,
            genesis=state.genesis,
            known=self._core.membership.known,
            waits=self._core.membership.waits,
            form=self._form,
            invited=self._core.membership.invite,
            expelled=self._must_end,
            patience=self._patience,
            clock=self._clock,
            random=self._random,
        )

    def _new_front(self, core: Core, handshake: Handshake) -> Front:
        return Front(
            core=core,
            vocabulary=self._vocabulary,
            machine=self.state_machine,
            handshake=handshake,
            transport=self.transport,
            address=self._own_address,
            status=self.status,
            administration=self,
            patience=self._patience,
            clock=self._clock,
        )

    def _new_peers(self, core: Core, handshake: Handshake, front: Front) -> Peers:
        return Peers(
            me=self.name,
            transport=self.transport,
            handshake=handshake,
            members=lambda: linked(core.node) if handshake.genesis else self._initial,
            hints=self._hints,
            patience=self._patience,
            slowest_redial=self.config.election_timeout / 2,
            clock=self._clock,
            random=self._random,
            receive=core.receive,
            link_up=core.link_up,
            serve=lambda connection: Desk(front, connection, self._clock).serve(),
            install=core.receiver.receive,
            expelled=self._must_end,
        )

    def _own_address(self) -> str:
        """Where others are to dial this server, as far as it knows itself.

        What it was told comes first; then what the cluster has, unless it listens elsewhere now.
        """
        named, listens = self._hints.get(self.name), self.transport.address
        node, state = self._core.node, self._core.state
        member = node.configuration.member(node.me) if state.listens in ("", listens) else None
        return named or (member.address if member else self._initial.get(self.name, listens))

    def _must_be_understood(self, name: str | None) -> None:
        assert self._handshake is not None
        ignorant = self._handshake.gate.ignorance[name]
        if ignorant is not None:
            raise CommandRejected(f"{ignorant} does not know the command {name!r} yet")

    async def _open_core(self) -> Core:
        await self._opened.wait()
        await trio.lowlevel.checkpoint()
        self._must_run()
        return self._core

    def _must_run(self) -> None:
        if not self.running:
            raise ServerStopped(f"the server {self.name} does not run")

    def _must_lead(self) -> None:
        if not isinstance(self._core.node.role, Leading):
            raise self._core.not_leader()
