"""What every transport must do, as a suite that anybody's transport can be put through."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio
import trio.testing

from trioraft._limits import MAX_MESSAGE_BYTES
from trioraft.abc import Connection, Transport

Make = Callable[[str], Transport]

_PATIENCE: Final = 10.0
"""Seconds until a check counts as hanging."""

_AT_ONCE: Final = 1.0
"""Seconds that "at once" may take on a busy machine."""

_GONE: Final = (trio.EndOfChannel, trio.BrokenResourceError)


async def check_transport(make: Make) -> None:
    """Put a transport through all that `trioraft.abc.Transport` promises.

    Run it in a Trio test of your own::

        async def test_my_transport():
            await trioraft.testing.check_transport(lambda name: MyTransport(...))

    Waiting is bounded by seconds on Trio's clock; a clock that jumps makes failures quick.

    Args:
        make: returns a fresh transport for a server of this name, to listen at an address that
            no transport before it had.  All that it returns must reach each other.

    Raises:
        AssertionError: a promise was not kept; notes name the check.  Nurseries may have put it
            into exception groups.
        BaseException: whatever else the transport raised; noted and grouped likewise.
    """
    for check in _CHECKS:
        try:
            with trio.fail_after(_PATIENCE):
                await check(make)
        except Exception as error:
            error.add_note(f"in check_transport: {check.__name__}: {check.__doc__}")
            raise


async def _messages_arrive_in_order_both_ways(make: Make) -> None:
    """What is sent arrives whole, once and in order, in both directions at a time."""
    messages = [b"%d" % number * (number % 50) for number in range(300)]  # the first is empty

    async def exchange(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_all, connection, messages)
            assert await _receive(connection, len(messages)) == messages, "lost, torn or mixed up"

    async with _talk(make, exchange) as connection:
        await exchange(connection)


async def _large_messages_arrive(make: Make) -> None:
    """Any message of up to MAX_MESSAGE_BYTES arrives."""
    sizes = [1 << 16, 1 << 19, MAX_MESSAGE_BYTES - 1, MAX_MESSAGE_BYTES]
    async with _talk(make, _echo) as connection:
        for size in sizes:
            message = bytes(range(256)) * (size // 256) + b"." * (size % 256)
            await connection.send(message)
            assert await connection.receive() == message, f"a message of {size} bytes was changed"


async def _oversized_messages_are_refused(make: Make) -> None:
    """A larger message raises ValueError in `send`, and the connection lives on."""
    async with _talk(make, _echo) as connection:
        try:
            await connection.send(bytes(MAX_MESSAGE_BYTES + 1))
        except ValueError:
            pass
        else:
            raise AssertionError("a message above MAX_MESSAGE_BYTES was taken")
        await connection.send(b"small")
        assert await connection.receive() == b"small"


async def _many_connections_live_side_by_side(make: Make) -> None:
    """Connections do not mix, whoever opened them."""
    server, *clients = [make(f"n{number}") for number in range(4)]

    async def call(client: Transport, number: int) -> None:
        async with client.connect(server.address) as connection:
            for round_ in range(3):
                message = b"%d %d" % (number, round_)
                await connection.send(message)
                assert await connection.receive() == message, "got another connection's message"

    async with _listening(server, _echo), trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(call, clients[number % len(clients)], number)


async def _a_client_closes_in_good_order(make: Make) -> None:
    """Leaving `connect` ends the other side's `receive` after all that was sent."""
    result: list[bytes] = []
    done = trio.Event()

    async def collect(connection: Connection) -> None:
        result.extend([message async for message in connection])  # ends by EndOfChannel
        await _expect(_GONE, connection.receive)  # and stays so
        done.set()

    async with _listening(make("server"), collect) as server:
        async with make("client").connect(server.address) as connection:
            await _send_all(connection, [b"%d" % number for number in range(20)])
        await done.wait()
    assert result == [b"%d" % number for number in range(20)], "closing lost a message"


async def _a_server_closes_in_good_order(make: Make) -> None:
    """The connection is closed when its handler returns; the client gets all, then the end."""

    async def speak(connection: Connection) -> None:
        await _send_all(connection, [b"one", b"two"])

    async with _talk(make, speak) as connection:
        assert [message async for message in connection] == [b"one", b"two"]
        await _expect(trio.EndOfChannel, connection.receive)
        await _expect(trio.BrokenResourceError, lambda: _send_forever(connection))


async def _a_closed_connection_says_so(make: Make) -> None:
    """After an own `aclose` all raises ClosedResourceError, also what waited at the time."""

    async def wait(connection: Connection) -> None:
        await _expect(trio.ClosedResourceError, connection.receive)

    async with _talk(make, _ignore) as connection:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, connection)
            await trio.testing.wait_all_tasks_blocked()
            await connection.aclose()
        await connection.aclose()
        await _expect(trio.ClosedResourceError, connection.receive)
        await _expect(trio.ClosedResourceError, lambda: connection.send(b"x"))


async def _a_failing_client_is_noticed(make: Make) -> None:
    """What the body of `connect` raises comes out bare, and the other side notices."""
    noticed = trio.Event()

    async def notice(connection: Connection) -> None:
        await _expect(_GONE, connection.receive)
        noticed.set()

    async def fail() -> None:
        async with make("client").connect(server.address):
            raise _Deliberate

    async with _listening(make("server"), notice) as server:
        await _expect(_Deliberate, fail)
        await noticed.wait()


async def _a_cancelled_receive_loses_nothing(make: Make) -> None:
    """A `receive` may be cancelled at any moment: the message is there for the next."""
    messages = [b"%d" % number for number in range(200)]

    async def speak(connection: Connection) -> None:
        for message in messages:
            await connection.send(message)
            await trio.sleep(0.0003)
        await _ignore(connection)

    received: list[bytes] = []
    async with _talk(make, speak) as connection:
        while len(received) < len(messages):
            with trio.move_on_after(0.0002):
                while True:
                    received.append(await connection.receive())
    assert received == messages, "a cancelled receive swallowed a message"


async def _a_send_that_waits_can_be_cancelled(make: Make) -> None:
    """To a peer that never reads `send` waits, and stops at once when cancelled, for good."""
    async with _talk(make, _ignore) as connection:
        with trio.move_on_after(0.2):
            await _send_forever(connection)
            raise AssertionError("send never waits, so something grows without a bound")
        await _expect(trio.BrokenResourceError, lambda: connection.send(b"x"))


async def _nobody_there_is_an_os_error(make: Make) -> None:
    """Connecting to where nobody listens, or no longer does, raises OSError."""
    server = make("server")
    async with _listening(server, _ignore):
        pass

    async def connect() -> None:
        async with make("client").connect(server.address):
            raise AssertionError("connected to nobody")

    await _expect(OSError, connect)


async def _an_unreadable_address_is_a_value_error(make: Make) -> None:
    """Connecting to what is no address raises ValueError, and so does checking it."""
    client = make("client")

    async def connect() -> None:
        async with client.connect("no address at all"):
            raise AssertionError("connected to nonsense")

    await _expect(ValueError, connect)
    client.check_address(client.address)
    try:
        client.check_address("no address at all")
    except ValueError:
        return
    raise AssertionError("check_address took nonsense")


async def _a_taken_address_is_an_os_error(make: Make) -> None:
    """Listening where somebody listens raises OSError; once that one is gone, it works."""
    server = make("server")
    async with _listening(server, _ignore):
        await _expect(OSError, lambda: server.listen(_ignore))
    async with (
        _listening(server, _echo),
        make("client").connect(server.address) as connection,
    ):
        await connection.send(b"again")
        assert await connection.receive() == b"again"


async def _what_a_handler_raises_comes_out(make: Make) -> None:
    """An exception of a handler ends `listen` with it, bare or in a group."""

    async def fail(connection: Connection) -> None:
        await connection.receive()
        raise _Deliberate

    caught: list[BaseException] = []

    async def call() -> None:
        async with make("client").connect(server.address) as connection:
            await connection.send(b"x")
            await _expect(_GONE, connection.receive)

    try:
        async with _listening(make("server"), fail) as server:
            await _shielded(call)
            await trio.sleep_forever()
    except* _Deliberate as group:
        caught.append(group)
    assert caught, "the handler's exception got lost"


async def _listening_stops_at_once(make: Make) -> None:
    """Cancelling `listen` returns at once, though handlers and clients hang; clients notice."""
    clients = [make("silent"), make("deaf")]
    orders = [b"wait", b"send"]
    started = {order: trio.Event() for order in orders}
    leave = trio.Event()

    async def hang(connection: Connection) -> None:
        order = await connection.receive()
        started[order].set()
        if order == b"send":
            await _send_forever(connection)
        await trio.sleep_forever()

    async def call(client: Transport, order: bytes) -> None:
        async with client.connect(server.address) as connection:
            await connection.send(order)
            await leave.wait()
            await _expect(_GONE, lambda: _receive(connection, 1_000_000))

    async with trio.open_nursery() as callers:
        async with _listening(make("server"), hang) as server:
            for client, order in zip(clients, orders, strict=True):
                callers.start_soon(call, client, order)
            for event in started.values():
                await event.wait()
            await trio.sleep(0.01)
            before = trio.current_time()
        assert trio.current_time() - before < _AT_ONCE, "cancelling listen took long"
        leave.set()


async def _leaving_does_not_wait(make: Make) -> None:
    """Leaving `connect`, or cancelling it, returns at once, though the other side hangs."""
    async with _listening(make("server"), _ignore) as server:
        client = make("client")
        before = trio.current_time()
        async with client.connect(server.address) as connection:
            await connection.send(b"x")
        with trio.CancelScope() as scope:
            async with client.connect(server.address) as connection:
                scope.cancel()
                await connection.receive()
        assert scope.cancelled_caught, "leaving connect swallowed the cancellation"
        assert trio.current_time() - before < _AT_ONCE, "leaving a connection took long"


_CHECKS: Final[list[Callable[[Make], Awaitable[None]]]] = [
    _messages_arrive_in_order_both_ways,
    _large_messages_arrive,
    _oversized_messages_are_refused,
    _many_connections_live_side_by_side,
    _a_client_closes_in_good_order,
    _a_server_closes_in_good_order,
    _a_closed_connection_says_so,
    _a_failing_client_is_noticed,
    _a_cancelled_receive_loses_nothing,
    _a_send_that_waits_can_be_cancelled,
    _nobody_there_is_an_os_error,
    _an_unreadable_address_is_a_value_error,
    _a_taken_address_is_an_os_error,
    _what_a_handler_raises_comes_out,
    _listening_stops_at_once,
    _leaving_does_not_wait,
]


class _Deliberate(Exception):
    """Raised by a check, to see where it comes out."""


@asynccontextmanager
async def _listening(
    transport: Transport, handler: Callable[[Connection], Awaitable[None]]
) -> AsyncGenerator[Transport]:
    async with trio.open_nursery() as nursery:
        await nursery.start(transport.listen, handler)
        yield transport
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _talk(
    make: Make, handler: Callable[[Connection], Awaitable[None]]
) -> AsyncGenerator[Connection]:
    async with (
        _listening(make("server"), handler) as server,
        make("client").connect(server.address) as connection,
    ):
        yield connection


async def _echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


async def _ignore(connection: Connection) -> None:
    await trio.sleep_forever()


async def _send_all(connection: Connection, messages: list[bytes]) -> None:
    for message in messages:
        await connection.send(message)


async def _send_forever(connection: Connection) -> None:
    while True:
        await connection.send(bytes(1 << 18))


async def _receive(connection: Connection, count: int) -> list[bytes]:
    return [await connection.receive() for _ in range(count)]


async def _shielded(call: Callable[[], Awaitable[None]]) -> None:
    with trio.CancelScope(shield=True):
        await call()


async def _expect(
    error: type[Exception] | tuple[type[Exception], ...], call: Callable[[], Awaitable[object]]
) -> None:
    try:
        result = await call()
    except error:
        return
    except Exception as other:
        raise AssertionError(f"expected {error}, not {other!r}") from other
    raise AssertionError(f"expected {error}, but it returned {result!r:.80}")
