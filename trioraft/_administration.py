"""Servers come and go, and leadership moves: what a user asks of the leader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import NoReturn

from attrs import evolve

from trioraft import _events as say
from trioraft._changing import (
    Members,
    check_size,
    in_order,
    is_at,
    taken_out,
    voter_named,
    without,
)
from trioraft._clock import Clock
from trioraft._commands import Vocabulary
from trioraft._config import Config
from trioraft._core import Core
from trioraft._errors import MembershipError, NotLeaderError, OutcomeUnknown, TransferFailed
from trioraft._rules.events import ChangeDue, TransferDue
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.node import Leading
from trioraft._rules.reconfiguration import why_no_change
from trioraft._rules.transfer import why_no_transfer
from trioraft._tickets import handle_of
from trioraft._transport.conversation import LOST
from trioraft._view import View
from trioraft.abc import Transport

_TRIES = 4
"""How often a server that is to be taken in is dialled."""

_ELECTIONS = 8
"""Election time-outs in which a leader is known again, if all is well."""

_SILENCE = 10
"""Patiences without an answer after which a server that is to catch up is given up."""


class Administration(View):
    """The verbs that change who the members are, and who leads.

    At most one change of the members is under way in a cluster; each is done once its call
    returns.  Whoever is cancelled stops waiting, and nothing else.  All but where it says so raise:

        NotLeaderError: this server does not lead; nothing was done, ask the one it names.
        MembershipError: the change was refused; nothing was done, or what was done is undone, or
            the message says what is.
        OutcomeUnknown: leadership was lost before the change was known to be committed.
        ServerStopped: the server does not run; nothing was done.
    """

    config: Config
    transport: Transport
    _clock: Clock
    _hub: say.Hub
    _patience: float
    _vocabulary: Vocabulary

    async def _open_core(self) -> Core:
        raise NotImplementedError

    # -- verbs ---------------------------------------------------------------------------------

    async def add_peer(
        self, name: str, connection_string: str, *, expected: int | None = None
    ) -> int:
        """Take a server in: as a learner until it has caught up, then as a voter.

        So adding never costs availability.  The server runs by then, on an empty data directory
        and without `initial_cluster`, or has been a member before.  One whose disk was wiped is
        taken in anew under its old name.  A call that is repeated goes on where the last one was;
        `PeerCatchingUp` events tell how far the server is.  One that does not answer is taken out
        again.

        Args:
            name: its name.
            connection_string: where it listens, as its transport writes it.
            expected: the index of the configuration that is to be changed; any other is left alone.

        Returns:
            The index of the configuration that holds it as a voter.
        """
        await self.add_learner(name, connection_string, expected=expected)
        return await self._promote({name: connection_string})

    async def add_learner(
        self, name: str, connection_string: str, *, expected: int | None = None
    ) -> int:
        """Take a server in that gets the log and has no vote; see `add_peer`.

        A voter stays one.  Returns once it is a member, whether or not it has caught up.
        """
        await self._leading_core()
        found = await self._reach(name, connection_string)
        return await self._change(lambda old: self._with_learner(old, found), expected)

    async def remove_peer(self, name: str, *, expected: int | None = None) -> int:
        """Remove a member.  It learns of that, and its `serve` returns.

        A leader can remove itself: it hands over first.
        """

        def removed(old: Configuration) -> Members:
            if old.named(name) is None:
                raise MembershipError(f"no member has the name {name}")
            voters, learners = (without(half, name) for half in (old.voters, old.learners))
            return voters, learners

        return await self._change(removed, expected)

    async def change_address(
        self, name: str, connection_string: str, *, expected: int | None = None
    ) -> int:
        """Have a member dialled elsewhere: it must answer there."""
        core = await self._leading_core()
        member = core.node.configuration.named(name)
        if member is None:
            raise MembershipError(f"no member has the name {name}")
        if name == self.name:
            self._check_address(connection_string)
        else:
            found = await self._reach(name, connection_string)
            if found.id != member.id:
                raise MembershipError(f"another {name} answers at {connection_string}")

        def moved(old: Configuration) -> Members:
            present = old.member(member.id)
            if present is None:
                raise MembershipError(f"{name} was removed meanwhile")
            new = evolve(present, address=connection_string)
            voters, learners = (
                tuple(new if other.id == new.id else other for other in half)
                for half in (old.voters, old.learners)
            )
            return voters, learners

        return await self._change(moved, expected)

    async def change_membership(
        self, members: Mapping[str, str], *, expected: int | None = None
    ) -> int:
        """Have exactly these voters, by name and address, all at once (joint consensus).

        New ones are learners first, until all of them have caught up.
        """
        core = await self._leading_core()
        old = core.node.configuration
        found = [
            await self._reach(name, address)
            for name, address in members.items()
            if name != self.name and not is_at(voter_named(old, name), address)
        ]

        def joined(old: Configuration) -> Members:
            learners = old.learners
            for member in found:
                _, learners = self._with_learner(evolve(old, learners=learners), member)
            return old.voters, learners

        if found:
            await self._change(joined, expected)
            expected = None  # that one has been found, and is no more
        return await self._promote(members, only=True, expected=expected)

    async def transfer_leadership(self, name: str | None = None) -> None:
        """Have another voter lead: that one, or whichever is fit for it.

        New commands are refused meanwhile, as not done.  Returns once the other one leads.

        Raises:
            TransferFailed: it did not take over within an election time-out; this server leads
                on, or somebody else does.
        """
        core = await self._leading_core()
        target = None
        if name is not None:
            member = voter_named(core.node.configuration, name)
            if member is None:
                raise MembershipError(f"no voter has the name {name}")
            target = member.id
        chosen = await self._hand_over(core, target)
        given = self._clock.now() + _ELECTIONS * self.config.election_timeout
        while core.node.leader is None and self.running and self._clock.now() < given:
            await self._pause()
        if core.node.leader != chosen:
            leads = core.node.leader or "nobody that is known here"
            raise TransferFailed(f"{chosen} was to lead, and {leads} does")

    async def _hand_over(self, core: Core, target: ServerId | None) -> ServerId:
        """Begin, and return once this server does not lead any more; returns who was chosen."""
        tenure, now = core.node.tenure, self._clock.now()
        reason = why_no_transfer(core.node, target, now)
        if reason is not None:
            raise TransferFailed(f"{self.name} can't hand over: {reason}")
        core.step(TransferDue(now, target))
        role = core.node.role
        assert isinstance(role, Leading)
        assert role.transfer is not None
        chosen = role.transfer.target
        while core.node.tenure == tenure and self.running:
            role = core.node.role
            transfer = role.transfer if isinstance(role, Leading) else None
            if transfer is None or transfer.withdrawn:
                raise TransferFailed(f"{chosen} did not take over in time")
            await self._pause()
        return chosen

    async def _hand_over_to_any(self) -> None:
        """Hand over if somebody takes over at once: this server is about to end."""
        if self.running and isinstance(self._core.node.role, Leading):
            until = self._clock.now() + self.config.election_timeout
            with self._clock.until(until), suppress(TransferFailed):
                await self._hand_over(self._core, None)

    # -- how -----------------------------------------------------------------------------------

    async def _leading_core(self) -> Core:
        core = await self._open_core()
        if not isinstance(core.node.role, Leading):
            raise core.not_leader()
        return core

    async def _pause(self) -> None:
        await self._clock.sleep_until(self._clock.now() + self.config.heartbeat_interval / 2)

    def _check_address(self, address: str) -> None:
        try:
            self.transport.check_address(address)
        except ValueError as error:
            raise MembershipError(f"{self.name} at {address}: {error}") from error

    async def _reach(self, name: str, address: str) -> Member:
        """Who answers at that address, if it is the one named."""
        assert self._peers is not None
        for attempt in range(1, _TRIES + 1):
            try:
                hello = await self._peers.probe(name, address)
                return Member(hello.id, address, hello.commands)
            except (*LOST, ValueError) as error:
                if attempt == _TRIES or isinstance(error, ValueError):
                    why = str(error) or type(error).__name__
                    raise MembershipError(f"{name} at {address}: {why}") from error
                await self._clock.sleep_until(self._clock.now() + self._patience)
        raise AssertionError("the last attempt returns or raises")

    def _with_learner(self, old: Configuration, new: Member) -> Members:
        assert self._peers is not None
        present, name = old.named(new.id.name), new.id.name
        if present is not None and present.id == new.id:
            return old.voters, old.learners
        known_to_all = set.intersection(*(set(member.commands) for member in old.members))
        ignored = known_to_all - set(new.commands)
        if ignored:
            raise MembershipError(
                f"{name} does not know the command {min(ignored)!r}, which all members know"
            )
        link = self._peers.links.get(name)
        if present is not None and link is not None and link.peer == present.id:
            raise MembershipError(f"another {name} is a member and answers: remove it first")
        return old.voters, in_order((*without(old.learners, name), new))

    async def _change(
        self, wanted: Callable[[Configuration], Members], expected: int | None = None
    ) -> int:
        """Have the members changed, and wait until that is committed."""
        core = await self._leading_core()
        while isinstance(role := core.node.role, Leading) and core.node.commit < role.first_index:
            await self._pause()
        core = await self._leading_core()
        configuration = core.node.configuration
        if expected not in (None, configuration.index):
            raise MembershipError(
                f"the configuration is that of entry {configuration.index}, not of {expected}"
            )
        voters, learners = wanted(configuration)
        if (voters, learners) != (configuration.voters, configuration.learners):
            event = ChangeDue(self._clock.now(), voters, learners)
            reason = why_no_change(core.node, event)
            if reason is not None:
                raise MembershipError(f"{self.name} can't change the members: {reason}")
            check_size(voters, learners, configuration)
            core.step(event)
        return await self._settled(core)

    async def _settled(self, core: Core) -> int:
        """Wait until the configuration in force is the last of its change, and committed."""
        index, tenure = core.node.configuration.index, core.node.tenure
        term = core.node.log.term_at(index)
        while True:
            node = core.node
            configuration = node.configuration
            found = node.log.term_at(index)
            is_ours = found == term or node.tenure == tenure
            is_over = not configuration.outgoing and index <= configuration.index <= node.commit
            if is_ours and is_over:
                return configuration.index
            if node.tenure != tenure or not self.running:
                why = "leadership was lost" if self.running else "the server stopped"
                raise OutcomeUnknown(
                    f"{why} before the change of entry {index} was known to be committed",
                    handle_of(configuration.cluster, index, term or 0),
                )
            await self._pause()

    async def _promote(
        self, members: Mapping[str, str], *, only: bool = False, expected: int | None = None
    ) -> int:
        """Wait until those among these that are learners have caught up, and let them vote.

        `only`: nobody else is to vote.
        """
        core = await self._leading_core()
        learners = [m for m in core.node.configuration.learners if m.id.name in members]
        await self._caught_up(core, learners)
        ready = {learner.id for learner in learners}

        def promoted(old: Configuration) -> Members:
            taken_in = {m.id.name: m for m in old.learners if m.id in ready}
            voters = {m.id.name: m for m in old.voters if not only or m.id.name in members}
            voters |= taken_in
            missing = sorted(members.keys() - voters.keys())
            if missing:
                raise MembershipError(f"{', '.join(missing)} was removed meanwhile")
            rest = tuple(m for m in old.learners if m.id not in ready)
            moved = [evolve(m, address=members.get(name, m.address)) for name, m in voters.items()]
            return in_order(moved), rest

        try:
            return await self._change(promoted, expected)
        except (MembershipError, NotLeaderError) as error:
            if not learners:
                raise
            names = ", ".join(learner.id.name for learner in learners)
            raise MembershipError(f"{names} got the log, and no vote yet: {error}") from error

    async def _caught_up(self, core: Core, learners: list[Member]) -> None:
        """Return once each of them has what was there an election time-out ago (thesis 4.2.1).

        Raises:
            MembershipError: one does not answer, and is taken out again.
        """
        for learner in learners:
            if not await self._has_caught_up(core, learner):
                await self._change(partial(taken_out, learner.id))
                raise MembershipError(
                    f"{learner.id} at {learner.address} does not answer: it was taken out again"
                )

    async def _has_caught_up(self, core: Core, learner: Member) -> bool:
        began = now = self._clock.now()
        target = core.node.log.last_index
        while True:
            role, now = core.node.role, self._clock.now()
            progress = role.of(learner.id) if isinstance(role, Leading) else None
            if progress is None:
                raise MembershipError(
                    f"{self.name} does not lead any more, or {learner.id} was removed, before it "
                    "had caught up: it votes only once it is added again"
                )
            if progress.match_index >= target:
                if now < began + self.config.election_timeout:
                    return True
                began, target = now, core.node.log.last_index
            if now >= progress.answered_at + _SILENCE * self._patience:
                return False
            share = progress.match_index / max(target, 1)
            self._hub.emit(say.PeerCatchingUp(share, peer=learner.id.name))
            await self._pause()

    # -- what the cluster knows of its members -------------------------------------------------

    async def _keep_members_true(self) -> NoReturn:
        """Have it committed when a member has another address, or knows other commands.

        A changed address counts once this server has reached that very incarnation there.
        """
        while True:
            await self._clock.sleep_until(self._clock.now() + self._patience)
            node = self._core.node
            old = node.configuration
            voters, learners = (
                tuple(self._as_met(m) for m in half) for half in (old.voters, old.learners)
            )
            if isinstance(node.role, Leading) and (voters, learners) != (old.voters, old.learners):
                event = ChangeDue(self._clock.now(), voters, learners)
                with suppress(MembershipError):  # one says more of itself than can be kept
                    check_size(voters, learners, old)
                    if why_no_change(node, event) is None:
                        self._core.step(event)

    def _as_met(self, member: Member) -> Member:
        assert self._peers is not None
        assert self._handshake is not None
        if member.id == self._core.node.me:
            return evolve(member, commands=self._vocabulary.commands)
        link, hello = (
            self._peers.links.get(member.id.name),
            self._handshake.gate.hello_of(member.id),
        )
        if link is None or hello is None or link.peer != member.id:
            return member
        is_there = link.address == hello.address
        address = hello.address if is_there else member.address
        return evolve(member, address=address, commands=hello.commands)
