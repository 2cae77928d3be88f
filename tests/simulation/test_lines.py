"""What can befall a line: the faults of the network that the older suites do not know."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trioraft.abc import Connection
from trioraft.testing import (
    MemoryNetwork,
    MemoryTransport,
    MemoryWebSocketTransport,
    check_transport,
    seeded_run,
)

A, B = "ws://a:1", "ws://b:1"


@asynccontextmanager
async def line(network: MemoryNetwork) -> AsyncGenerator[tuple[Connection, Connection]]:
    """A connection from A to B: both ends."""
    send_far, receive_far = trio.open_memory_channel[Connection](1)

    async def handle(connection: Connection) -> None:
        send_far.send_nowait(connection)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(MemoryTransport(network, B).listen, handle)
        async with MemoryTransport(network, A).connect(B) as near:
            yield near, await receive_far.receive()
        nursery.cancel_scope.cancel()


async def arrivals(connection: Connection, count: int) -> list[tuple[float, bytes]]:
    found = []
    for _ in range(count):
        data = await connection.receive()
        found.append((trio.current_time(), data))
    return found


def test_a_slow_line_carries_one_message_behind_the_other() -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with line(network) as (near, far):
            network.throttle(A, B, 100)
            for _ in range(3):
                await near.send(bytes(50))
            assert [at for at, _ in await arrivals(far, 3)] == [0.5, 1.0, 1.5]
            network.heal(A, B)
            await near.send(b"quick")
            assert await arrivals(far, 1) == [(1.5, b"quick")]

    seeded_run(0, main)


def test_single_messages_are_lost_repeated_and_overtaken_and_the_line_lives_on() -> None:
    fates = iter([[], [0.0, 0.3], [0.2], [0.1], [0.0]])

    async def main() -> None:
        network = MemoryNetwork()
        async with line(network) as (near, far):
            network.disorder(A, B, lambda: next(fates))
            for name in (b"lost", b"twice", b"late", b"soon", b"now"):
                await near.send(name)
            found = await arrivals(far, 5)
            assert found == [
                (0.0, b"twice"),
                (0.0, b"now"),
                (0.1, b"soon"),
                (0.2, b"late"),
                (0.3, b"twice"),
            ]
            network.heal(A, B)  # and whatever has lost something breaks, as any stream would have
            with pytest.raises(trio.BrokenResourceError):
                await far.receive()
        async with line(network) as (near, far):
            network.disorder(A, B, lambda: [0.0])
            await near.send(b"in order")
            network.heal(A, B)
            await near.aclose()
            assert await far.receive() == b"in order"
            with pytest.raises(trio.EndOfChannel):
                await far.receive()

    seeded_run(0, main)


def test_a_reset_breaks_what_is_open_and_nothing_else() -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with line(network) as (near, far):
            await near.send(b"on its way")
            network.reset(B, A)  # nobody there has dialled
            assert await far.receive() == b"on its way"
            network.reset(A, B)
            with pytest.raises(trio.BrokenResourceError):
                await far.receive()
            with pytest.raises(trio.BrokenResourceError):
                await near.send(b"too late")
        async with line(network) as (near, far):
            await near.send(b"again")
            assert await far.receive() == b"again"

    seeded_run(0, main)


def test_a_paused_process_receives_nothing_and_loses_nothing() -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with line(network) as (near, far), trio.open_nursery() as nursery:
            found: list[tuple[float, bytes]] = []

            async def read() -> None:
                found.extend(await arrivals(far, 2))

            nursery.start_soon(read)
            await trio.sleep(1)
            network.pause(B, until=4)
            await near.send(b"one")
            await far.send(b"back")
            assert await near.receive() == b"back"
            await trio.sleep(2)
            await near.send(b"two")
            nursery.cancel_scope.deadline = 10
        assert found == [(4.0, b"one"), (4.0, b"two")]

    seeded_run(0, main)


def test_a_paused_process_does_not_even_see_that_a_line_broke() -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with line(network) as (_, far):
            network.pause(B, until=4)
            network.reset(A, B)
            with pytest.raises(trio.BrokenResourceError):
                await far.receive()
            assert trio.current_time() == 4

    seeded_run(0, main)


def test_who_is_thawed_early_reads_at_once() -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with line(network) as (near, far), trio.open_nursery() as nursery:
            network.pause(B, until=100)
            await near.send(b"one")

            async def thaw() -> None:
                await trio.sleep(2)
                network.pause(B, until=0)

            nursery.start_soon(thaw)
            assert await arrivals(far, 1) == [(2.0, b"one")]

    seeded_run(0, main)


def test_a_paused_process_opens_no_connection() -> None:
    async def main() -> None:
        network = MemoryNetwork()
        network.pause(A, until=3)
        async with line(network):
            assert trio.current_time() == 3

    seeded_run(0, main)


@pytest.mark.parametrize("make", [MemoryTransport, MemoryWebSocketTransport])
async def test_the_transports_pass_the_suite(
    autojump_clock: MockClock, make: Callable[[MemoryNetwork, str], MemoryTransport]
) -> None:
    network = MemoryNetwork()
    ports = iter(range(1, 1000))
    await check_transport(lambda name: make(network, f"ws://{name}:{next(ports)}"))


async def test_a_line_that_scrambles_bytes_breaks_websockets_and_nothing_else(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()

    async def handle(connection: Connection) -> None:
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await connection.receive()

    async with trio.open_nursery() as nursery:
        await nursery.start(MemoryWebSocketTransport(network, B).listen, handle)
        async with MemoryWebSocketTransport(network, A).connect(B) as near:
            network.disorder(A, B, lambda: [0.0, 0.0])
            with pytest.raises(trio.BrokenResourceError):
                for _ in range(100):
                    await near.send(b"x" * 10_000)
                    await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
