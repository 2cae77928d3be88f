"""Queries: wait until this server's machine is as fresh as is asked for, then ask it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

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
            NotLeaderError: it takes a leader's word, and this server has none now.
            ProtocolError: the token is another cluster's.
            ServerStopped: the server has ended meanwhile.
            Exception: what the query raised.
        """
        applier, reading = self._core.applier, self._core.reading
        match consistency:
            case Lease():
                return await self._under_lease(run) or await self._linearizable(run)
            case Linearizable():
                return await self._linearizable(run)
            case AtLeast(token):
                self._check(token)
                await applier.reached(token.index)
            case MaxAge(seconds):
                age = reading.age(applier.applied)
                if age > seconds:
                    return await self._linearizable(run)
                if age > seconds / 2:
                    reading.refresh()
            case Anything():
                pass
        value, applied = run(), applier.applied
        return Answer(value, consistency, applied, reading.age(applied))

    async def _linearizable(self, run: Callable[[], T]) -> Answer[T]:
        index = await self._core.reading.index()
        await self._core.applier.reached(index)
        return Answer(run(), Linearizable(), self._core.applier.applied, 0.0)

    async def _under_lease(self, run: Callable[[], T]) -> Answer[T] | None:
        core = self._core
        role = core.node.role
        if not isinstance(role, Leading) or not self._holds():
            return None
        await core.applier.reached(max(core.node.commit, role.first_index))
        value, applied = run(), core.applier.applied
        # Looked at when the query has run: it took time, and perhaps more than the lease had left.
        return Answer(value, Lease(), applied, 0.0) if self._holds() else None

    def _holds(self) -> bool:
        return self._core.reading.lease() > self._core.clock.now()

    def _check(self, token: Token) -> None:
        mine = self._core.node.configuration.cluster
        if token.cluster != mine:
            raise ProtocolError(f"a token of the cluster {token.cluster!r}; this one is {mine!r}")
