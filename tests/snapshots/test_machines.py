"""What a machine may be: its state as bytes, or as something that writes and reads itself."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioraft import Anything, Applied, Config, Server, ServerStopped, command, query
from trioraft._events import SlowMachine
from trioraft.testing import MemoryNetwork, MemoryTransport

ADDRESS = "mem://n1"
ASKED = Config(snapshot_entries=None, snapshot_bytes=None, trailing_entries=0)


@command("count")
@attrs.frozen
class Count:
    by: int = 1

    def apply(self, counter: Counter, applied: Applied) -> int:
        counter.total += self.by
        return counter.total


@query("total")
@attrs.frozen
class Total:
    def answer(self, counter: Counter) -> int:
        return counter.total


class Counter:
    """Its state is bytes."""

    commands: ClassVar[Sequence[type[Any]]] = (Count, Total)

    def __init__(self) -> None:
        self.total = 0
        self.threads: list[str] = []

    def save(self) -> Any:
        return str(self.total).encode()

    def recover(self, state: bytes) -> None:
        self.threads.append(threading.current_thread().name)
        self.total = int(state)


@attrs.frozen
class Saved:
    total: int
    write_now: Callable[[], None]

    def write(self, file: BinaryIO, /) -> None:
        self.write_now()
        file.writelines(digit.encode() for digit in str(self.total))


class Piecemeal(Counter):
    """Its state writes and reads itself, in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()

    def save(self) -> Saved:
        def wait() -> None:
            self.threads.append(threading.current_thread().name)
            self.reached.set()
            assert self.gate.wait(30)

        return Saved(self.total, wait)

    def recover_from(self, file: BinaryIO) -> None:
        self.threads.append(threading.current_thread().name)
        self.reached.set()
        assert self.gate.wait(30)
        self.total = int(file.read())


@asynccontextmanager
async def serving(path: Path, machine: Counter, **changes: Any) -> AsyncGenerator[Server]:
    """A server alone in its cluster, on a real disk."""
    transport = MemoryTransport(MemoryNetwork(), ADDRESS)
    server = Server(
        "n1", path, transport, machine, initial_cluster={"n1": ADDRESS}, config=ASKED, **changes
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        yield server
        await server.stop()


async def leads(server: Server) -> None:
    with trio.fail_after(30):
        async with server.leadership():
            return


@pytest.mark.parametrize("kind", [Counter, Piecemeal])
async def test_a_state_comes_back_as_it_was(tmp_path: Path, kind: type[Counter]) -> None:
    async with serving(tmp_path, kind()) as server:
        await leads(server)
        for by in (1, 20, 300):
            await server.do(Count(by))
        index = await server.take_snapshot()
        await server.do(Count(4000))
    machine = kind()
    async with serving(tmp_path, machine) as server:
        await leads(server)
        assert await server.do(Count(0)) == 4321
        assert server.status().snapshot_index == index
    assert len(machine.threads) == 1
    assert (machine.threads[0] == threading.current_thread().name) == (kind is Counter)


async def test_commands_go_on_while_a_state_writes_itself(tmp_path: Path) -> None:
    """And it is the state of the moment in which it was captured."""
    machine = Piecemeal()
    async with serving(tmp_path, machine) as server:
        await leads(server)
        await server.do(Count(7))
        machine.gate.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.take_snapshot)
            await trio.to_thread.run_sync(machine.reached.wait, 30)
            for _ in range(5):
                await server.do(Count())
            assert server.status().snapshot_index == 0
            machine.gate.set()
        assert server.status().snapshot_index > 0
        assert machine.threads != [threading.current_thread().name]
    again = Piecemeal()
    async with serving(tmp_path, again) as server:
        await leads(server)
        assert (await server.read(Total())).value == 12


async def test_nobody_sees_half_of_a_state_that_is_read_at_a_start(tmp_path: Path) -> None:
    async with serving(tmp_path, Piecemeal()) as server:
        await leads(server)
        await server.do(Count(7))
        await server.take_snapshot()
    machine = Piecemeal()
    machine.gate.clear()
    found: list[int] = []

    async def ask(server: Server) -> None:
        found.append((await server.read(Total(), Anything())).value)

    async with serving(tmp_path, machine) as server, trio.open_nursery() as nursery:
        await trio.to_thread.run_sync(machine.reached.wait, 30)
        nursery.start_soon(ask, server)
        await wait_all_tasks_blocked()
        assert found == []
        machine.gate.set()
    assert found == [7]


async def test_a_server_that_is_stopped_while_a_state_writes_itself_ends(tmp_path: Path) -> None:
    machine = Piecemeal()
    async with serving(tmp_path, machine) as server:
        await leads(server)
        await server.do(Count(7))
        machine.gate.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, server)
            await trio.to_thread.run_sync(machine.reached.wait, 30)
            with trio.fail_after(10):
                await server.stop()
        machine.gate.set()
    again = Piecemeal()
    async with serving(tmp_path, again) as server:
        await leads(server)
        assert (await server.read(Total())).value == 7
        assert server.status().snapshot_index == 0


async def refused(server: Server) -> None:
    with pytest.raises(ServerStopped):
        await server.take_snapshot()


async def test_a_slow_machine_is_told_of(tmp_path: Path) -> None:
    class Slow(Counter):
        def save(self) -> bytes:
            late = trio.current_time() + 1.5 * ASKED.heartbeat_interval
            while trio.current_time() < late:
                pass
            return super().save()  # type: ignore[no-any-return]

    async with serving(tmp_path, Slow()) as server, server.events() as events:
        await leads(server)
        await server.do(Count())
        await server.take_snapshot()
        with trio.fail_after(30):
            async for event in events:
                if isinstance(event, SlowMachine):
                    assert event.value >= ASKED.heartbeat_interval
                    break
