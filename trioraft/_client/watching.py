"""What changes, fetched page by page."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from attrs import frozen

from trioraft._client.connection import Connected
from trioraft._client.line import Line
from trioraft._errors import Compacted, ProtocolError
from trioraft._reads import Token
from trioraft._sessions import Code
from trioraft._wire.strict import MALFORMED, strict_converter, unpack

_CONVERTER: Final = strict_converter(forbid_extra_keys=True)
_TRIES: Final = 8
"""So many servers in a row, not all of them different, must lack what comes next."""


@frozen
class Change:
    """Something that an entry has changed."""

    value: Any
    """What was announced, or the command; of the type asked for, else in plain form."""
    index: int
    """The entry's index.  All changes of an entry come one behind the other."""
    token: Token
    """Everything up to here has been seen: where to go on from.

    Only the last change of an entry moves it, so that going on from it misses none.
    """


class Watch:
    """Iterate over it; `token` says how far it has come, entries without changes included."""

    def __init__(
        self,
        connected: Connected,
        token: Token,
        of: Any,
        pause: Callable[[Line, int], Awaitable[None]],
    ) -> None:
        self._connected = connected
        self._of = of
        self._pause = pause
        self._waiting: deque[Change] = deque()
        self._fetched = token.index
        self.token = token
        """Everything up to here has been handed out, or changed nothing."""

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        lacking = lost = 0
        while not self._waiting:
            self.token = Token(self.token.cluster, self._fetched)
            line = await self._connected.line()
            page = await line.changes(self._fetched)
            if page.code == Code.VALUE:
                lacking = lost = 0
                self._take(page.index, page.changes)
            elif page.code == Code.FORGOTTEN:
                lacking += 1
                if lacking == _TRIES:
                    raise Compacted(f"what came behind entry {self._fetched} is kept nowhere")
                self._connected.leave(line)
                await self._pause(line, 1)
            else:
                lost += 1
                await self._pause(line, lost)
        change = self._waiting.popleft()
        self.token = change.token
        return change

    def _take(self, index: int, changes: tuple[tuple[int, tuple[bytes, ...]], ...]) -> None:
        cluster, before = self.token.cluster, self._fetched
        for entry, values in changes:
            if entry <= before:
                raise ProtocolError(f"entry {entry} was told behind {before}")
            for place, data in enumerate(values, 1):
                token = Token(cluster, entry if place == len(values) else before)
                self._waiting.append(Change(self._read(data), entry, token))
            before = entry
        self._fetched = max(index, before)

    def _read(self, data: bytes) -> Any:
        """A change, typed if that was asked for.

        Raises:
            ProtocolError: it is of another type.
        """
        plain = unpack(data)
        try:
            return plain if self._of is None else _CONVERTER.structure(plain, self._of)
        except MALFORMED as error:
            raise ProtocolError(f"a change that is no {self._of}: {error}") from error
