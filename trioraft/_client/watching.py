"""What changes, fetched page by page."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, get_args

import attrs
import trio
from attrs import frozen

from trioraft._client.connection import Connected
from trioraft._client.line import Line
from trioraft._clock import Clock
from trioraft._commands import change_name
from trioraft._errors import Compacted, ProtocolError
from trioraft._reads import Token
from trioraft._sessions import Code
from trioraft._wire.strict import MALFORMED, strict_converter, unpack

_CONVERTER: Final = strict_converter(forbid_extra_keys=True)


@frozen
class Change:
    """Something that an entry has changed."""

    value: Any
    """What was announced, or the command; of the type asked for, else `{name: fields}`."""
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
        pause: Callable[[Line, int, int], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._connected = connected
        self._of = _named(of)
        self._pause = pause
        self._clock = clock
        self._waiting: deque[tuple[bytes, int, Token]] = deque()
        self._fetched = token.index
        self.token = token
        """Everything up to here has been handed out, or changed nothing."""

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        await trio.lowlevel.checkpoint()
        if not self._waiting:
            await self._fetch()
        data, index, token = self._waiting[0]
        change = Change(self._read(data), index, token)
        self._waiting.popleft()
        self.token = token
        return change

    async def _fetch(self) -> None:
        """Wait until something waits to be handed out.

        Raises:
            Compacted: no server that can be reached has what comes next.
        """
        lacking: set[str] = set()
        since, lost = self._clock.now(), 0
        while not self._waiting:
            self.token = Token(self.token.cluster, self._fetched)
            line = await self._connected.line()
            page = await line.changes(self._fetched)
            if page.code == Code.VALUE:
                lacking.clear()
                since, lost = self._clock.now(), 0
                self._take(page.index, page.changes)
            elif page.code == Code.FORGOTTEN:
                lacking.update(filter(None, [self._connected.leave(line)]))
                if self._connected.only(lacking, since):
                    raise Compacted(f"what came behind entry {self._fetched} is kept nowhere")
                await self._pause(line, 1, page.code)
            else:
                lost += 1
                await self._pause(line, lost, page.code)

    def _take(self, index: int, changes: tuple[tuple[int, tuple[bytes, ...]], ...]) -> None:
        """Keep what is new in a page, in order, to be handed out.

        Raises:
            ProtocolError: it is not in order.
        """
        cluster, before = self.token.cluster, self._fetched
        taken: list[tuple[bytes, int, Token]] = []
        for entry, values in changes:
            if entry <= before:
                raise ProtocolError(f"entry {entry} was told behind {before}")
            for place, data in enumerate(values, 1):
                token = Token(cluster, entry if place == len(values) else before)
                taken.append((data, entry, token))
            before = entry
        self._waiting.extend(taken)
        self._fetched = max(index, before)

    def _read(self, data: bytes) -> Any:
        """A change, typed if that was asked for.

        Raises:
            ProtocolError: it is of another type.
        """
        match unpack(data):
            case [str(name), fields]:
                pass
            case _:
                raise ProtocolError("no change: expected a name and its fields")
        if self._of is None:
            return {name: fields}
        cls = self._of.get(name)
        if cls is None:
            raise ProtocolError(f"a change {name!r:.40}: `of` names no class of that name")
        try:
            return _CONVERTER.structure(fields, cls)
        except MALFORMED as error:
            raise ProtocolError(f"a malformed change {name!r:.40}: {error}") from error


def _named(of: Any) -> dict[str, type[Any]] | None:
    """The classes that somebody wants to have, by the names of changes."""
    if of is None:
        return None
    classes = get_args(of) or (of,)
    if not all(isinstance(cls, type) and attrs.has(cls) for cls in classes):
        raise TypeError(f"`of` must be an attrs class or a union of some, not {of!r:.100}")
    return {change_name(cls): cls for cls in classes}
