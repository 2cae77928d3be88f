"""Queries: wait until this server's machine is as fresh as is asked for, then ask it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from trioraft._core import Core
from trioraft._errors import ProtocolError
from trioraft._reads import (
    Answer,
    Anything,
    AtLeast,
    Consistency,
    Lease,
    Linearizable,
    MaxAge,
    Token,
    no_consistency,
)
from trioraft._rules.node import Leading

T = TypeVar("T")


class Answering:
    """Answers by this server's machine alone; only the freshness may need others."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def answer(self, run: Callable[[], T], consistency: Consistency) -> Answer[T]:
        """Run a query, or several at once, as fresh as asked.

        Raises:
            NotLeaderError: it takes a leader's word, and this server has none now, or loses it.
            ProtocolError: the token is another cluster's.
            ServerStopped: the server has ended meanwhile.
            TypeError: that is no consistency.
            Exception: what the query raised.
        """
        applier, reading = self._core.applier, self._core.reading
        if not isinstance(consistency, Anything):
            reading.must_run()
        match consistency:
            case Lease():
                return await self._under_lease(run) or await self._linearizable(run)
            case Linearizable():
                return await self._linearizable(run)
            case AtLeast(token):
                self._check(token)
                # The first entry, at the least: who has just started knows of none until it has
                # heard of a leader.
                await applier.reached(max(token.index, 1))
            case MaxAge(seconds):
                await applier.reached(0)  # a machine that is being restored can't be asked
                age = reading.age()
                if age > seconds or age == math.inf:
                    return await self._linearizable(run)
                if age > seconds / 2:
                    reading.refresh()
            case Anything():
                await applier.reached(0)
            case _:
                raise TypeError(no_consistency(consistency))
        value, applied = run(), applier.applied
        return Answer(value, consistency, applied, reading.age(), self._cluster)

    async def go_on(
        self, run: Callable[[], T], before: Answer[Any], consistency: Consistency
    ) -> Answer[T]:
        """Run more of what was asked for at once, behind those that came to `before`.

        What a leader has said of all that was asked by then is not asked again: no round for each
        turn.  Raises as `answer`.
        """
        if not isinstance(before.consistency, Linearizable):
            return await self.answer(run, consistency)
        applier = self._core.applier
        await applier.reached(before.index)
        return Answer(run(), Linearizable(), applier.applied, 0.0, self._cluster)

    async def _linearizable(self, run: Callable[[], T]) -> Answer[T]:
        reading = self._core.reading
        # The index may be that of an entry that the leader has yet to see committed: if it goes
        # away before, nobody knows when there will be such an entry.
        with reading.led():
            await self._core.applier.reached(await reading.index())
        return Answer(run(), Linearizable(), self._core.applier.applied, 0.0, self._cluster)

    async def _under_lease(self, run: Callable[[], T]) -> Answer[T] | None:
        core = self._core
        role = core.node.role
        if not isinstance(role, Leading) or not self._holds():
            return None
        with core.reading.led():
            await core.applier.reached(max(core.node.commit, role.first_index))
        # Looked at when the query has run: it took time, and perhaps more than the lease had left.
        try:
            value, applied = run(), core.applier.applied
        except Exception:
            if self._holds():
                raise
            return None
        return Answer(value, Lease(), applied, 0.0, self._cluster) if self._holds() else None

    async def was_committed(self, index: int, term: int) -> bool | None:
        """Whether an entry is committed, or surely never will be; asked of a leader.

        None: the log has been compacted there, and another entry may have stood in its place.

        Raises:
            NotLeaderError: this server does not lead, or leads no more.
            ServerStopped: the server has ended meanwhile.
        """
        core = self._core
        with core.reading.led():
            mine = core.node.term
            # From here on this term's no-op is committed.  What has another term behind it, or is
            # of an earlier term and not before it, can't be in any leader's log again (5.4).
            known = await core.reading.index()
            if term == mine and index <= core.node.log.last_index:
                known = max(known, index)
            await core.applier.reached(known)
        log = core.node.log
        if index < log.base_index and term <= log.base_term:
            return None
        return index <= core.applier.applied and log.term_at(index) == term

    @property
    def _cluster(self) -> str:
        return self._core.node.configuration.cluster

    def _holds(self) -> bool:
        return self._core.reading.lease() > self._core.clock.now()

    def _check(self, token: Token) -> None:
        mine = self._cluster
        if token.cluster != mine:
            raise ProtocolError(f"a token of the cluster {token.cluster!r}; this one is {mine!r}")
