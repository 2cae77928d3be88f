"""Watching a server stalls nobody, and loses nothing in silence."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioraft import _events as module
from trioraft._events import (
    EventsMissed,
    Heartbeat,
    Hub,
    LeaderChange,
    StateChange,
    Subscription,
    TermChange,
)

BACKLOG = 4


@pytest.fixture(autouse=True)
def small_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACKLOG", BACKLOG)


async def waiting(subscription: Subscription) -> list[Any]:
    """All that can be read without waiting."""
    events = []
    with trio.move_on_after(0.001):
        while True:
            events.append(await anext(subscription))
    return events


async def test_every_reader_gets_every_event_in_order(autojump_clock: object) -> None:
    hub = Hub()
    with hub.subscribed() as one, hub.subscribed() as two:
        for term in range(BACKLOG):
            hub.emit(TermChange(term, term - 1))
        expected = [TermChange(term, term - 1) for term in range(BACKLOG)]
        assert await waiting(one) == expected
        assert await waiting(two) == expected
        assert await waiting(two) == []


async def test_a_reader_that_waits_is_woken() -> None:
    hub, seen = Hub(), []

    async def read(subscription: Subscription) -> None:
        while True:
            seen.append(await anext(subscription))

    async with trio.open_nursery() as nursery:
        with hub.subscribed() as subscription:
            nursery.start_soon(read, subscription)
            for number in range(20):
                hub.emit(TermChange(number))
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert seen == [TermChange(number) for number in range(20)]


async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many(autojump_clock: object) -> None:
    hub = Hub()
    with hub.subscribed() as slow, hub.subscribed() as quick:
        got = []
        for number in range(BACKLOG + 3):
            hub.emit(TermChange(number))
            got += await waiting(quick)
        assert got == [TermChange(number) for number in range(BACKLOG + 3)]
        assert await waiting(slow) == [
            EventsMissed(3),
            *(TermChange(number) for number in range(3, BACKLOG + 3)),
        ]
        hub.emit(TermChange(99))
        assert await waiting(slow) == [TermChange(99)], "told once"


async def test_what_is_lost_while_reading_is_told_where_it_is_missing(
    autojump_clock: object,
) -> None:
    hub = Hub()
    with hub.subscribed() as slow:
        for number in range(BACKLOG):
            hub.emit(TermChange(number))
        assert await anext(slow) == TermChange(0)
        for number in range(BACKLOG, BACKLOG + 3):
            hub.emit(TermChange(number))
        assert await waiting(slow) == [
            EventsMissed(2),
            *(TermChange(number) for number in range(3, BACKLOG + 3)),
        ]


async def test_telling_never_waits_however_slow_the_readers() -> None:
    hub = Hub()
    with hub.subscribed() as slow:
        for number in range(100_000):
            hub.emit(TermChange(number))
        assert await anext(slow) == EventsMissed(100_000 - BACKLOG)


async def test_a_cancelled_reader_loses_nothing(autojump_clock: object) -> None:
    hub = Hub()
    with hub.subscribed() as reader:
        hub.emit(TermChange(1))
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(reader)
        assert scope.cancelled_caught
        assert await waiting(reader) == [TermChange(1)]


async def test_a_reader_gets_nothing_from_before_and_nothing_from_after(
    autojump_clock: object,
) -> None:
    hub = Hub()
    hub.emit(TermChange(1))
    assert not hub.watched
    with hub.subscribed() as reader:
        assert hub.watched
        hub.emit(TermChange(2))
    hub.emit(TermChange(3))
    assert not hub.watched
    async for event in reader:
        assert event == TermChange(2)
        break
    assert await waiting(reader) == []


async def test_two_readers_made_alike_are_two(autojump_clock: object) -> None:
    """Seed G-72: there, two closures of one literal were one listener."""
    hub = Hub()
    watches = [hub.subscribed() for _ in range(3)]
    readers = [watch.__enter__() for watch in watches]
    watches[1].__exit__(None, None, None)
    hub.emit(TermChange(1))
    assert [await waiting(reader) for reader in readers] == [[TermChange(1)], [], [TermChange(1)]]
    for watch in (watches[0], watches[2]):
        watch.__exit__(None, None, None)
    assert not hub.watched


async def test_a_reader_that_fails_is_forgotten() -> None:
    hub = Hub()
    with pytest.raises(KeyError), hub.subscribed():
        raise KeyError
    assert not hub.watched


def test_events_are_values_with_what_is_and_what_was() -> None:
    event = StateChange("leader", "candidate")
    assert (event.value, event.previous) == ("leader", "candidate")
    assert event == StateChange("leader", "candidate")
    assert event != LeaderChange("leader", "candidate")
    assert Heartbeat(0.5, peer="n2") != Heartbeat(0.5, peer="n3")
    assert Heartbeat(0.5, peer="n2").previous is None
    assert "StateChange" in repr(event)


async def test_the_iteration_ends_when_no_more_can_come(autojump_clock: object) -> None:
    hub = Hub()
    with hub.subscribed() as early:
        hub.emit(TermChange(1))
        hub.end()
        assert [event async for event in early] == [TermChange(1)]
        assert [event async for event in early] == []
    with hub.subscribed() as late:
        assert [event async for event in late] == []
