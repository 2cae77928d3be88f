"""Stand-ins for what services rest on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import trio

from trioraft import Applied, command, query
from trioraft._wire.frames import Kind, frame, parse_entry
from trioraft._wire.stamps import stamp
from trioraft.abc import Batch, Recovered


class FakeStorage:
    """Keeps what is written; may be held up, and may fail."""

    def __init__(self, frames: Sequence[bytes] = ()) -> None:
        self.state: bytes | None = None
        self.frames = list(frames)
        self.before = 0
        """The entry before the first one."""
        self.batches: list[Batch] = []
        self.reads: list[int] = []
        self.error: BaseException | None = None
        self.gate = trio.Event()
        self.gate.set()

    def hold(self) -> None:
        self.gate = trio.Event()

    async def open(self) -> Recovered:
        return Recovered(self.state)

    async def write(self, batch: Batch) -> None:
        self.batches.append(batch)
        await trio.lowlevel.checkpoint()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if batch.state is not None:
            self.state = batch.state
        if batch.cut is not None:
            assert batch.cut <= self.before + len(self.frames), "a cut behind the end"
            del self.frames[batch.cut - self.before :]
        if batch.base is not None:
            del self.frames[: batch.base[0] - self.before]
            self.before = batch.base[0]
        for whole in batch.entries:
            assert parse_entry(whole).index == self.before + len(self.frames) + 1, "a gap"
            self.frames.append(whole)

    async def read(self, first: int, max_bytes: int) -> Sequence[bytes]:
        self.reads.append(first)
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        size, found = 0, []
        if first <= self.before:
            return found
        for whole in self.frames[first - self.before - 1 :]:
            size += len(whole)
            if found and size > max_bytes:
                break
            found.append(whole)
        return found

    async def aclose(self) -> None:
        return


class Wire(trio.abc.Channel[bytes]):
    """One end of a connection in memory."""

    def __init__(
        self, out: trio.MemorySendChannel[bytes], into: trio.MemoryReceiveChannel[bytes]
    ) -> None:
        self._out = out
        self._into = into

    async def send(self, value: bytes) -> None:
        await self._out.send(value)

    async def receive(self) -> bytes:
        return await self._into.receive()

    def arrived(self) -> list[bytes]:
        """All that is there already."""
        return [
            self._into.receive_nowait() for _ in range(self._into.statistics().current_buffer_used)
        ]

    async def aclose(self) -> None:
        self._out.close()
        self._into.close()
        await trio.lowlevel.checkpoint()


def connected(capacity: float = 64) -> tuple[Wire, Wire]:
    """The two ends of a connection."""
    there: Any = trio.open_memory_channel[bytes](capacity)
    back: Any = trio.open_memory_channel[bytes](capacity)
    return Wire(there[0], back[1]), Wire(back[0], there[1])


class Machine:
    """Remembers what was applied to it, and as which entry."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, float, Any]] = []
        self.contexts: list[Any] = []
        self.objects: list[Any] = []

    @property
    def values(self) -> list[Any]:
        return [value for *_, value in self.seen]


@command("note")
@attrs.frozen
class Note:
    value: int

    def apply(self, machine: Machine, applied: Applied) -> int:
        machine.seen.append((applied.index, applied.term, applied.time, self.value))
        machine.contexts.append(applied.context)
        machine.objects.append(self)
        return self.value * 10


@command("fail")
@attrs.frozen
class Fail:
    how: str

    def apply(self, machine: Machine, applied: Applied) -> None:
        raise ERRORS[self.how](self.how)


ERRORS: dict[str, Callable[[str], BaseException]] = {
    "value": ValueError,
    "group": lambda text: ExceptionGroup(text, [KeyError(text)]),
    "memory": MemoryError,
    "recursion": RecursionError,
    "disk": OSError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
}


@query("count")
@attrs.frozen
class Count:
    def answer(self, machine: Machine) -> int:
        return len(machine.seen)


async def calm() -> None:
    """No disk is written that an applier might wait for."""


def noop(index: int, term: int = 1) -> bytes:
    return frame(index, term, Kind.NOOP, stamp(0.0))
