"""The transports keep the contract, addresses are read strictly, and faults do what they say."""

from __future__ import annotations

import contextlib
import itertools
import random

import pytest
import trio
import trio._core._run as trio_run
import trio.testing
from trio.testing import MockClock

from trioraft._transport.addresses import Address, parse_address
from trioraft._transport.websocket import WebSocketTransport
from trioraft.abc import Connection, Transport
from trioraft.testing._network import (
    DIAL_SECONDS,
    MemoryNetwork,
    MemoryTransport,
)
from trioraft.testing._pipe import QUEUE_MESSAGES
from trioraft.testing._transport_suite import check_transport

A, B, C = "mem://a", "mem://b", "mem://c"


async def test_websockets_keep_the_contract() -> None:
    await check_transport(lambda name: WebSocketTransport("ws://127.0.0.1:0"))


async def test_memory_keeps_the_contract(autojump_clock: MockClock) -> None:
    network, numbers = MemoryNetwork(), itertools.count()
    await check_transport(lambda name: MemoryTransport(network, f"mem://{name}-{next(numbers)}"))


async def test_memory_keeps_the_contract_with_delays(autojump_clock: MockClock) -> None:
    class Slow(MemoryNetwork):
        def _link(self, source: str, destination: str):
            link = super()._link(source, destination)
            link.delay = 0.001
            return link

    network, numbers = Slow(), itertools.count()
    await check_transport(lambda name: MemoryTransport(network, f"mem://{name}-{next(numbers)}"))


async def test_the_suite_names_the_promise_that_was_broken(autojump_clock: MockClock) -> None:
    class Swallowing(MemoryTransport):
        async def listen(self, handler, *, task_status=trio.TASK_STATUS_IGNORED):
            async def quiet(connection: Connection) -> None:
                with contextlib.suppress(Exception):
                    await handler(connection)

            await super().listen(quiet, task_status=task_status)

    network, numbers = MemoryNetwork(), itertools.count()
    with pytest.raises(trio.TooSlowError) as caught:
        await check_transport(lambda name: Swallowing(network, f"mem://{name}-{next(numbers)}"))
    assert "_what_a_handler_raises_comes_out" in caught.value.__notes__[0]


# Addresses


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("ws://127.0.0.1:7001", "127.0.0.1", 7001),
        ("ws://n1.example.org:0", "n1.example.org", 0),
        ("ws://my_host:65535", "my_host", 65535),
        ("ws://[::1]:7001", "::1", 7001),
        ("ws://bücher.example:80", "bücher.example", 80),
    ],
)
def test_addresses_are_read_and_written(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert address == Address(host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:7001",
        "http://127.0.0.1:7001",
        "ws://127.0.0.1",
        "ws://127.0.0.1:",
        "ws://:7001",
        "ws://127.0.0.1:65536",
        "ws://127.0.0.1:-1",
        "ws://127.0.0.1:7001/raft",
        "ws://127.0.0.1:7001\n",
        "ws://127.0.0.1:٧",
        "ws://::1:7001",
        "ws://[::1:7001",
        "ws://[nonsense]:7001",
        "ws://a b:7001",
        "ws://user@host:7001",
        "ws://a..b:7001",
        f"ws://{'a' * 64}:7001",
    ],
)
def test_bad_addresses_are_named(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_address(text)
    assert repr(text) in str(caught.value)


def test_tls_is_not_there_yet() -> None:
    with pytest.raises(ValueError, match="TLS"):
        WebSocketTransport("wss://127.0.0.1:7001")


async def test_memory_transports_take_the_addresses_of_websockets() -> None:
    network = MemoryNetwork()
    assert MemoryTransport(network, "ws://127.0.0.1:7001").address == "ws://127.0.0.1:7001"
    for bad in ["mem://", "wss://127.0.0.1:7001", "a"]:
        with pytest.raises(ValueError):
            MemoryTransport(network, bad)


# The memory network's faults


async def echo(connection: Connection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except trio.BrokenResourceError:
        pass


async def ask(connection: Connection, message: bytes) -> bytes:
    await connection.send(message)
    return await connection.receive()


class World:
    """Three transports that listen and echo."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.network = MemoryNetwork()
        self.a, self.b, self.c = (MemoryTransport(self.network, name) for name in (A, B, C))

    async def start(self) -> None:
        for transport in (self.a, self.b, self.c):
            await self.nursery.start(transport.listen, echo)

    async def can_dial(self, source: Transport, destination: str) -> bool:
        try:
            async with source.connect(destination) as connection:
                return await ask(connection, b"x") == b"x"
        except ConnectionRefusedError:
            return False


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    world = World(nursery)
    await world.start()
    return world


async def test_delays_add_up_and_keep_order(world: World, autojump_clock: MockClock) -> None:
    delays = iter([0.0, 0.5, 0.1, 0.3])
    world.network.delay(A, B, lambda: next(delays))
    world.network.delay(B, A, 1.0)
    async with world.a.connect(B) as connection:
        assert trio.current_time() == 1.0
        for message in (b"1", b"2", b"3"):
            await connection.send(message)
        assert [await connection.receive() for _ in range(3)] == [b"1", b"2", b"3"]
        assert trio.current_time() == 2.5  # the slowest one held up those behind it
        delays = iter([0.0, 0.0])
        world.network.heal(B, A)
        assert await ask(connection, b"4") == b"4"
        assert trio.current_time() == 2.5


async def test_a_cut_breaks_and_refuses_in_one_direction(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.a.connect(B) as mine, world.b.connect(A) as theirs:
        world.network.cut(A, B)
        with pytest.raises(trio.BrokenResourceError):
            await mine.receive()
        with pytest.raises(trio.BrokenResourceError):
            await mine.send(b"x")
        assert await ask(theirs, b"x") == b"x"
    assert not await world.can_dial(world.a, B)
    assert await world.can_dial(world.b, A)
    world.network.heal(A, B)
    assert await world.can_dial(world.a, B)


async def test_a_cut_wakes_who_waits(world: World, autojump_clock: MockClock) -> None:
    async def receive(connection: Connection) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await connection.receive()

    async with world.a.connect(B) as connection, trio.open_nursery() as nursery:
        nursery.start_soon(receive, connection)
        await trio.testing.wait_all_tasks_blocked()
        world.network.cut(A, B)


async def test_isolation(world: World, autojump_clock: MockClock) -> None:
    world.network.isolate(A)
    assert not await world.can_dial(world.a, B)
    assert not await world.can_dial(world.c, A)
    assert await world.can_dial(world.b, C)
    assert await world.can_dial(world.a, A)
    world.network.rejoin(A)
    assert await world.can_dial(world.a, B)
    world.network.isolate(A)
    world.network.delay(A, B, 7)
    world.network.heal_all()
    assert await world.can_dial(world.a, B)
    assert trio.current_time() == 0


async def test_a_held_link_loses_in_silence(world: World, autojump_clock: MockClock) -> None:
    async with world.a.connect(B) as connection:
        assert await ask(connection, b"1") == b"1"
        world.network.hold(A, B)
        for _ in range(QUEUE_MESSAGES * 2):  # never full
            await connection.send(b"lost")
        world.network.heal(A, B)
        await connection.send(b"lost too, or else it would come out of order")
        with trio.move_on_after(60) as scope:
            await connection.receive()
        assert scope.cancelled_caught
    assert await world.can_dial(world.a, B)


async def test_a_held_link_that_lost_nothing_lives_on(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.a.connect(B) as connection:
        world.network.hold(A, B)
        world.network.heal(A, B)
        assert await ask(connection, b"1") == b"1"


async def test_dialling_over_a_held_link_times_out(world: World, autojump_clock: MockClock) -> None:
    world.network.hold(B, A)
    for source, destination in [(world.a, B), (world.b, A)]:
        before = trio.current_time()
        with pytest.raises(TimeoutError):
            await world.can_dial(source, destination)
        assert trio.current_time() - before == DIAL_SECONDS


async def test_leaving_over_a_held_link_is_not_noticed(
    world: World, autojump_clock: MockClock
) -> None:
    ends: list[Connection] = []
    async with trio.open_nursery() as nursery:

        async def keep(connection: Connection) -> None:
            ends.append(connection)
            await trio.sleep_forever()

        transport = MemoryTransport(world.network, "mem://d")
        await nursery.start(transport.listen, keep)
        async with world.a.connect("mem://d"):
            await trio.testing.wait_all_tasks_blocked()
            world.network.hold(A, "mem://d")
        for _ in range(QUEUE_MESSAGES * 2):
            await ends[0].send(b"into the void")
        with trio.move_on_after(60) as scope:
            await ends[0].receive()
        assert scope.cancelled_caught
        world.network.cut(A, "mem://d")  # which is noticed
        with pytest.raises(trio.BrokenResourceError):
            await ends[0].receive()
        nursery.cancel_scope.cancel()


async def test_queues_are_bounded(world: World, autojump_clock: MockClock) -> None:
    async with world.a.connect(B) as connection:
        world.network.delay(A, B, 1.0)
        for _ in range(QUEUE_MESSAGES):
            await connection.send(b"x")
        assert trio.current_time() == 0
        await connection.send(b"x")
        assert trio.current_time() == 1.0


async def test_the_tap_sees_what_is_sent_even_if_it_is_lost(
    world: World, autojump_clock: MockClock
) -> None:
    seen: list[tuple[str, str, bytes]] = []
    async with world.a.connect(B) as connection:
        world.network.tap = lambda *message: seen.append(message)
        await ask(connection, b"1")
        world.network.hold(A, B)
        await connection.send(b"2")
    assert seen == [(A, B, b"1"), (B, A, b"1"), (A, B, b"2")]


async def test_connections_that_are_over_are_forgotten(
    world: World, autojump_clock: MockClock
) -> None:
    for _ in range(5):
        assert await world.can_dial(world.a, B)
        await trio.testing.wait_all_tasks_blocked()
    assert len(world.network._dialled) == 1


# Determinism


def trace_of(seed: int) -> list[tuple[float, str, str, bytes]]:
    """What goes over a busy network with faults, under one seed of scheduler and chance."""
    rng = random.Random(seed)
    trace: list[tuple[float, str, str, bytes]] = []

    async def main() -> None:
        network = MemoryNetwork(lambda *message: trace.append((trio.current_time(), *message)))
        names = [f"mem://{letter}" for letter in "abcde"]

        async def talk(source: str, destination: str) -> None:
            transport = MemoryTransport(network, source)
            for number in range(20):
                try:
                    async with transport.connect(destination) as connection:
                        with trio.move_on_after(0.2):
                            for part in range(5):
                                await ask(connection, b"%d.%d" % (number, part))
                except (OSError, trio.BrokenResourceError, trio.EndOfChannel):
                    await trio.sleep(0.05)

        async def break_things() -> None:
            for _ in range(100):
                link = rng.sample(names, 2)
                network.delay(*link, lambda: rng.choice([0, 0, 0.01, 0.05]))
                rng.choice([network.cut, network.hold, network.heal, network.heal])(*link)
                await trio.sleep(rng.choice([0, 0.01, 0.1]))
            network.heal_all()

        async with trio.open_nursery() as listeners:
            for name in names:
                await listeners.start(MemoryTransport(network, name).listen, echo)
            async with trio.open_nursery() as talkers:
                talkers.start_soon(break_things)
                for source, destination in itertools.permutations(names, 2):
                    talkers.start_soon(talk, source, destination)
            listeners.cancel_scope.cancel()

    trio_run._r.seed(seed)
    trio.run(main, clock=MockClock(autojump_threshold=0))
    return trace


def test_a_seed_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    first, again, other = trace_of(1), trace_of(1), trace_of(2)
    assert len(first) > 1000
    assert first == again
    assert first != other
