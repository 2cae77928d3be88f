"""A server that is none: it does what the test says."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import trio

import trioraft
from trioraft._commands import Done, Vocabulary
from trioraft._reads import Answer, Consistency
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Member
from trioraft._sessions import Call
from trioraft._snapshots.form import Head, Summary
from trioraft._status import PeerStatus, Status
from trioraft.abc import SnapshotId

STATUS = Status(
    name="n1",
    cluster="c0ffee",
    state="leader",
    term=3,
    leader="n1",
    voted_for="n1",
    commit_index=7,
    last_applied=7,
    last_index=8,
    last_term=3,
    snapshot_index=0,
    member_count=3,
    quorum_size=2,
    peers=(
        PeerStatus("n2", "ws://h2:1", True, None, 7, 0.25),
        PeerStatus('n"3\\', "ws://h3:1", False, "refused", None),
    ),
    missing=(),
)


CONFIGURATION = Configuration(
    "c0ffee",
    (
        Member(ServerId("n1", "i1"), "ws://h1:1"),
        Member(ServerId("n2", "i2"), "ws://h2:1"),
        Member(ServerId('n"3\\', "i3"), "ws://h3:1"),
    ),
    index=5,
)


@trioraft.command("put")
@attrs.frozen
class Put:
    key: str
    value: bytes

    def apply(self, machine: Any, applied: Any) -> None:
        raise AssertionError


@trioraft.query("get")
@attrs.frozen
class Get:
    key: str

    def answer(self, machine: Any) -> None:
        raise AssertionError


class FakeFront:
    """Notes what it is asked, and answers or raises as it is told."""

    def __init__(self, answer: Callable[[], Awaitable[Any]] | Any = None) -> None:
        self.vocabulary = Vocabulary((Put, Get))
        self.asked: list[Any] = []
        self.now = STATUS
        self.configuration = CONFIGURATION
        self.age = math.inf
        self._answer = answer

    async def _say(self) -> Any:
        await trio.lowlevel.checkpoint()
        if isinstance(self._answer, Exception):
            raise self._answer
        return await self._answer() if callable(self._answer) else self._answer

    async def do(self, command: Any, call: Call | None) -> Done:
        self.asked.append((command, call))
        return Done(await self._say(), 7, 3)

    async def read(self, query: Any, consistency: Consistency) -> Answer[Any]:
        self.asked.append((query, consistency))
        return Answer(await self._say(), consistency, 7, self.age)

    async def open_session(self) -> int:
        result: int = await self._say()
        return result

    async def take_snapshot(self, least: int | None) -> Summary:
        self.asked.append(("snapshot", least))
        await self._say()
        return Summary(Head("c0ffee", 7, 3, 5.0, None), 4096, 9000, b"\x00\xff")

    async def snapshot_piece(self, snapshot: SnapshotId, offset: int) -> bytes:
        self.asked.append((snapshot, offset))
        piece: bytes = await self._say()
        return piece

    def status(self) -> Status:
        return self.now

    @property
    def administration(self) -> FakeFront:
        return self

    async def _change(self, *asked: Any) -> int:
        self.asked.append(asked)
        result: int = await self._say()
        return result

    async def add_peer(
        self, name: str, connection_string: str, *, expected: int | None = None
    ) -> int:
        return await self._change("add", name, connection_string, expected)

    async def add_learner(
        self, name: str, connection_string: str, *, expected: int | None = None
    ) -> int:
        return await self._change("add-learner", name, connection_string, expected)

    async def remove_peer(self, name: str, *, expected: int | None = None) -> int:
        return await self._change("remove", name, expected)

    async def change_address(
        self, name: str, connection_string: str, *, expected: int | None = None
    ) -> int:
        return await self._change("address", name, connection_string, expected)

    async def change_membership(
        self, members: Mapping[str, str], *, expected: int | None = None
    ) -> int:
        return await self._change("change", members, expected)

    async def transfer_leadership(self, name: str | None = None) -> None:
        await self._change("transfer", name)
