"""Readers at one server: whom it asks, whom it believes, and how old its machine is."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from tests.rules.worlds import (
    HEARTBEAT,
    TIMEOUT,
    B,
    C,
    acked,
    append,
    fed,
    feed,
    follower,
    hear,
    leader,
    stepped_down,
    take,
)
from tests.server.worlds import in_virtual_time
from trioraft import (
    Anything,
    AtLeast,
    Lease,
    Linearizable,
    MaxAge,
    NotLeaderError,
    ProtocolError,
    ServerStopped,
    Token,
)
from trioraft._answering import Answering
from trioraft._clock import Clock
from trioraft._reading import Reading
from trioraft._rules import effects as do
from trioraft._rules.events import ReadIndexDue
from trioraft._rules.ids import ServerId
from trioraft._rules.node import Node
from trioraft._wire.asking import ReadIndex, ReadIndexReply

LIFE = 3
FIRST = (LIFE << 32) + 1


class FakeClock(Clock):
    """Trio's, on a machine that may be put to sleep, or held up between two looks at a clock."""

    def __init__(self) -> None:
        self.asleep = 0.0
        self.ahead = 0.0

    def now(self) -> float:
        return trio.current_time() + self.ahead

    def slept(self) -> float:
        return self.asleep


class FakeApplier:
    """A machine that has seen as much as the test says."""

    def __init__(self) -> None:
        self.applied = 0
        self.moved = trio.Event()

    def apply(self, index: int) -> None:
        self.applied = index
        self.moved.set()
        self.moved = trio.Event()

    async def reached(self, index: int) -> None:
        while self.applied < index:
            await self.moved.wait()


class World:
    """A host whose rules are the real ones; the test is all that its peers are."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.clock = FakeClock()
        self.applier = FakeApplier()
        self.asked: list[tuple[ServerId, int]] = []
        self.steps = 0
        self.reading = Reading(self, self.ask, lambda: self.applier.applied, LIFE)
        self.answering = Answering(self)  # type: ignore[arg-type]

    def ask(self, to: ServerId, request: ReadIndex) -> None:
        self.asked.append((to, request.number))

    def not_leader(self) -> NotLeaderError:
        return NotLeaderError(None, None, self.node.term)

    def step(self, event: ReadIndexDue) -> None:
        self.steps += 1
        self.become(*take(self.node, event))

    def become(self, node: Node, effects: Any = ()) -> None:
        """What `Core.step` does with the outcome of a step."""
        before, self.node = self.node, node
        for effect in effects:
            match effect:
                case do.ReadAt(number, index, batch):
                    self.reading.joined(number, index, batch)
                case do.RoundConfirmed(number):
                    self.reading.confirmed(number)
                case do.Answered():
                    self.reading.renewed()
        if (before.leader, before.term) != (node.leader, node.term):
            self.reading.leader_changed()

    def beat(self) -> None:
        """Every follower is sent something, and answers it at once."""
        for peer in self.node.followers:
            sent, requests = feed(self.node, peer, self.clock.now())
            self.become(sent)
            if requests:
                self.become(*acked(self.node, peer, self.node.log.last_index, self.clock.now()))


def following(term: int = 1, by: ServerId = B, *, knows: int = 1) -> Node:
    """A follower that has heard of its leader."""
    node, _ = hear(follower(1), by, append(term, 1, 1, commit=knows))
    return node


def leading(size: int = 3) -> Node:
    """A leader whose no-op, entry 2, is committed; at the instant 0."""
    node = leader(1, size=size)
    for peer in node.followers:
        node, _ = fed(node, peer)
        node, _ = acked(node, peer, 2)
    assert node.commit == 2
    return node


@asynccontextmanager
async def a_world(node: Node, applied: int = 0) -> AsyncGenerator[World]:
    world = World(node)
    world.applier.applied = applied
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reading.run)
        await wait_all_tasks_blocked()
        yield world
        nursery.cancel_scope.cancel()


class Call:
    """Something that waits, and what came of it."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.over = False

    async def run(self, function: Callable[[], Any]) -> None:
        try:
            self.result = await function()
        except Exception as error:  # noqa: BLE001  the test looks at it
            self.error = error
        self.over = True


@asynccontextmanager
async def calling(*functions: Callable[[], Any]) -> AsyncGenerator[list[Call]]:
    """Calls that are under way."""
    calls = [Call() for _ in functions]
    async with trio.open_nursery() as nursery:
        for call, function in zip(calls, functions, strict=True):
            nursery.start_soon(call.run, function)
        await wait_all_tasks_blocked()
        yield calls
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


# -- at a leader -------------------------------------------------------------------------------


@in_virtual_time
async def test_all_that_wait_are_one_question_to_the_rules() -> None:
    async with a_world(leading()) as world:
        async with calling(*[world.reading.index] * 50) as calls:
            assert world.steps == 1
            assert not any(call.over for call in calls)
            world.beat()
        assert [call.result for call in calls] == [2] * 50
        assert world.steps == 1


@in_virtual_time
async def test_who_comes_later_waits_for_a_later_round() -> None:
    async with (
        a_world(leading()) as world,
        calling(world.reading.index) as (first,),
    ):
        for peer in world.node.followers:
            world.become(fed(world.node, peer)[0])
        async with calling(world.reading.index) as (second,):
            world.become(*acked(world.node, B, 2))
            await wait_all_tasks_blocked()
            assert (first.result, second.over) == (2, False)
            world.beat()
        assert second.result == 2


@in_virtual_time
async def test_who_gives_up_takes_nobody_along() -> None:
    async with a_world(leading()) as world, calling(world.reading.index) as (call,):
        with trio.CancelScope() as scope:
            scope.cancel()
            await world.reading.index()
        assert scope.cancelled_caught
        world.beat()
        await wait_all_tasks_blocked()
        assert call.result == 2


@in_virtual_time
async def test_when_leadership_is_lost_all_rounds_fail_at_once() -> None:
    async with a_world(leading()) as world:
        async with calling(world.reading.index) as (first,):
            world.become(fed(world.node, B)[0])
            async with calling(world.reading.index) as (second,):
                world.become(stepped_down(world.node))
            assert isinstance(second.error, NotLeaderError)
        assert isinstance(first.error, NotLeaderError)
        world.reading.confirmed(1)


@in_virtual_time
async def test_who_is_alone_is_answered_at_once() -> None:
    async with a_world(leading(1)) as world:
        assert await world.reading.index() == 2


# -- at a follower -----------------------------------------------------------------------------


@in_virtual_time
async def test_a_follower_asks_the_leader_once_for_all() -> None:
    async with a_world(following(by=C)) as world:
        async with calling(*[world.reading.index] * 20) as calls:
            assert world.asked == [(C, FIRST)]
            world.reading.answered(ReadIndexReply(FIRST, 17))
        assert [call.result for call in calls] == [17] * 20


@in_virtual_time
async def test_who_comes_while_the_leader_is_asked_waits_for_the_next_question() -> None:
    async with (
        a_world(following()) as world,
        calling(world.reading.index) as (first,),
        calling(world.reading.index) as (second,),
    ):
        assert world.asked == [(B, FIRST)]
        world.reading.answered(ReadIndexReply(FIRST, 17))
        await wait_all_tasks_blocked()
        assert (first.result, second.over) == (17, False)
        assert world.asked == [(B, FIRST), (B, FIRST + 1)]
        world.reading.answered(ReadIndexReply(FIRST, 17))
        await wait_all_tasks_blocked()
        assert not second.over, "that was asked before it came"
        world.reading.answered(ReadIndexReply(FIRST + 1, 18))
        await wait_all_tasks_blocked()
        assert second.result == 18


@in_virtual_time
async def test_each_attempt_has_a_number_of_its_own() -> None:
    async with a_world(following()) as world:
        async with calling(world.reading.index) as (call,):
            await trio.sleep(2.5 * TIMEOUT)
            assert world.asked == [(B, FIRST), (B, FIRST + 1), (B, FIRST + 2)]
            world.reading.answered(ReadIndexReply(FIRST + 1, 17))
        assert call.result == 17, "each of them was asked after the reader had come"


@in_virtual_time
async def test_an_answer_to_an_earlier_life_is_none() -> None:
    """Streams are found by the server's name and incarnation, and these outlive its process."""
    async with a_world(following()) as world, calling(world.reading.index) as (call,):
        before = Reading(world, world.ask, lambda: 0, LIFE - 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(before.run)
            await wait_all_tasks_blocked()
            before.refresh()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        (_, mine), (_, old) = world.asked
        assert old < mine
        world.reading.answered(ReadIndexReply(old, 9))
        await wait_all_tasks_blocked()
        assert not call.over
        world.reading.answered(ReadIndexReply(mine, 10))
        await wait_all_tasks_blocked()
        assert call.result == 10


@in_virtual_time
async def test_who_is_told_that_nobody_leads_there_fails_at_once() -> None:
    async with a_world(following()) as world:
        async with calling(world.reading.index) as (call,):
            world.reading.answered(ReadIndexReply(FIRST, None))
        assert isinstance(call.error, NotLeaderError)


@pytest.mark.parametrize("node", [following(2, C), follower(1, term=2), following(2), leading()])
@in_virtual_time
async def test_when_another_leads_or_in_another_term_the_question_ends_at_once(node: Node) -> None:
    async with a_world(following()) as world:
        async with calling(world.reading.index) as (call,):
            world.become(node)
        assert isinstance(call.error, NotLeaderError)
        assert world.asked == [(B, FIRST)]
        world.reading.answered(ReadIndexReply(FIRST, 17))


@in_virtual_time
async def test_without_a_leader_nobody_waits() -> None:
    async with a_world(follower(1)) as world:
        async with calling(world.reading.index) as (call,):
            pass
        assert isinstance(call.error, NotLeaderError)
        assert world.asked == []


# -- for followers -----------------------------------------------------------------------------


@in_virtual_time
async def test_a_leader_answers_followers_with_what_its_own_readers_get() -> None:
    async with a_world(leading()) as world:
        told: list[int | None] = []
        world.reading.asked(told.append)
        world.reading.asked(told.append)
        await wait_all_tasks_blocked()
        assert (told, world.steps) == ([], 1)
        world.beat()
        assert told == [2, 2]


@in_virtual_time
async def test_who_does_not_lead_says_so_at_once() -> None:
    async with a_world(following()) as world:
        told: list[int | None] = []
        world.reading.asked(told.append)
        assert told == [None]
        assert world.asked == []


@pytest.mark.parametrize("how", ["deposed", "ended"])
@in_virtual_time
async def test_followers_are_told_when_the_tenure_is_over(how: str) -> None:
    async with a_world(leading()) as world:
        told: list[int | None] = []
        world.reading.asked(told.append)
        await wait_all_tasks_blocked()
        if how == "deposed":
            world.become(stepped_down(world.node))
        else:
            world.reading.ended()
        assert told == [None]


# -- a server that does not run ----------------------------------------------------------------


@in_virtual_time
async def test_who_does_not_take_part_yet_is_asked_for_nothing() -> None:
    world = World(follower(1))
    with pytest.raises(NotLeaderError):
        await world.reading.index()
    for consistency in (Linearizable(), Lease(), MaxAge(math.inf), AtLeast(Token("cluster", 0))):
        with pytest.raises(NotLeaderError):
            await world.answering.answer(lambda: 1, consistency)
    answer = await world.answering.answer(lambda: 1, Anything())
    assert (answer.value, answer.index, answer.age) == (1, 0, math.inf)


@pytest.mark.parametrize("node", [following(), leading()])
@in_virtual_time
async def test_when_the_server_ends_nobody_waits_on(node: Node) -> None:
    async with a_world(node, applied=1) as world:
        waiting = (
            world.reading.index,
            world.reading.renewal,
            lambda: world.answering.answer(lambda: 1, Lease()),
        )
        async with calling(*waiting) as calls, calling(world.reading.index) as late:
            world.reading.ended()
        for call in (*calls, *late):
            assert isinstance(call.error, ServerStopped)
        for again in waiting:
            with pytest.raises(ServerStopped):
                await again()
        assert world.reading.lease() == -math.inf


# -- as long as it leads -----------------------------------------------------------------------


async def waits(world: World) -> None:
    with world.reading.led():
        await world.applier.reached(9)


@in_virtual_time
async def test_what_a_leader_brings_is_not_waited_for_when_it_is_gone() -> None:
    async with a_world(following()) as world:
        async with calling(lambda: waits(world)) as (call,):
            world.become(following(1), [])
            await wait_all_tasks_blocked()
            assert not call.over, "it leads on"
            world.become(follower(1))
        assert isinstance(call.error, NotLeaderError)


@in_virtual_time
async def test_what_came_in_time_came() -> None:
    async with a_world(following()) as world:
        async with calling(lambda: waits(world)) as (call,):
            world.applier.apply(9)
        assert (call.over, call.error) == (True, None)


@in_virtual_time
async def test_a_cancelled_reader_is_cancelled_and_no_more() -> None:
    async with a_world(following()) as world:
        with trio.CancelScope() as scope:
            scope.cancel()
            await waits(world)
        assert scope.cancelled_caught


@in_virtual_time
async def test_a_read_at_an_index_that_never_comes_fails_with_its_leader() -> None:
    """The index was that of an entry which only the leader had: it may be long before another."""
    async with a_world(following(), applied=1) as world:
        async with calling(lambda: world.answering.answer(lambda: 1, Linearizable())) as (call,):
            world.reading.answered(ReadIndexReply(FIRST, 9))
            await wait_all_tasks_blocked()
            assert not call.over
            world.become(following(2, C))
        assert isinstance(call.error, NotLeaderError)


@pytest.mark.parametrize("level", [Linearizable(), Lease()])
@in_virtual_time
async def test_a_leaders_own_read_at_such_an_index_fails_with_its_tenure(level: Any) -> None:
    async with a_world(leading(), applied=1) as world:
        async with calling(lambda: world.answering.answer(lambda: 1, level)) as (call,):
            world.beat()
            await wait_all_tasks_blocked()
            assert not call.over
            world.become(stepped_down(world.node))
        assert isinstance(call.error, NotLeaderError)


@in_virtual_time
async def test_a_leader_that_changes_in_the_very_turn_of_the_answer_fails_the_read() -> None:
    async with a_world(following(), applied=1) as world:
        async with calling(lambda: world.answering.answer(lambda: 1, Linearizable())) as (call,):
            world.reading.answered(ReadIndexReply(FIRST, 9))
            world.become(following(2, C))
        assert isinstance(call.error, NotLeaderError)


# -- how old -----------------------------------------------------------------------------------


async def learn(world: World, index: int) -> None:
    """Ask the leader, and be told."""
    world.reading.refresh()
    await wait_all_tasks_blocked()
    world.reading.answered(ReadIndexReply(world.asked[-1][1], index))
    await wait_all_tasks_blocked()


@in_virtual_time
async def test_the_age_counts_from_the_asking_of_what_has_been_applied() -> None:
    async with a_world(following()) as world:
        assert world.reading.age() == math.inf
        world.reading.refresh()
        await trio.sleep(3.0)
        world.reading.answered(ReadIndexReply(FIRST, 7))
        assert world.reading.age() == math.inf, "nothing of that is here"
        world.applier.apply(6)
        assert world.reading.age() == math.inf
        world.applier.apply(7)
        assert world.reading.age() == pytest.approx(3.0)
        await trio.sleep(1.0)
        assert world.reading.age() == pytest.approx(4.0)
        await learn(world, 7)
        assert world.reading.age() == pytest.approx(0.0, abs=1e-6)


@in_virtual_time
async def test_at_a_leader_the_age_counts_from_the_joining() -> None:
    async with a_world(leading(), applied=2) as world:
        world.reading.refresh()
        await trio.sleep(2.0)
        world.beat()
        assert world.reading.age() == pytest.approx(2.0)


@in_virtual_time
async def test_what_was_not_confirmed_says_nothing() -> None:
    async with a_world(leading(), applied=2) as world:
        world.reading.refresh()
        await wait_all_tasks_blocked()
        world.become(stepped_down(world.node))
        assert world.reading.age() == math.inf


@in_virtual_time
async def test_an_answer_that_comes_twice_says_nothing_new() -> None:
    async with a_world(following(), applied=9) as world:
        await learn(world, 7)
        await trio.sleep(2.0)
        world.reading.answered(ReadIndexReply(FIRST, 8))
        assert world.reading.age() == pytest.approx(2.0)


@in_virtual_time
async def test_an_index_that_never_comes_does_not_stop_the_age() -> None:
    async with a_world(following(), applied=5) as world:
        await learn(world, 9)
        await trio.sleep(1.0)
        await learn(world, 5)
        assert world.reading.age() == pytest.approx(0.0, abs=1e-6)


@in_virtual_time
async def test_of_one_index_the_newest_word_counts() -> None:
    async with a_world(following()) as world:
        await learn(world, 5)
        await trio.sleep(1.0)
        await learn(world, 5)
        await trio.sleep(1.0)
        await learn(world, 6)
        world.applier.apply(5)
        assert world.reading.age() == pytest.approx(1.0)


@in_virtual_time
async def test_what_was_read_for_long_takes_no_memory() -> None:
    """Nobody need ever ask for the age."""
    async with a_world(following()) as world:
        for index in range(1, 200):
            world.applier.apply(index)
            await learn(world, index)
        assert len(world.reading._known) <= 1


@in_virtual_time
async def test_a_machine_ages_in_its_sleep() -> None:
    async with a_world(following(), applied=9) as world:
        await learn(world, 7)
        world.clock.asleep += 3600.0
        assert world.reading.age() == pytest.approx(3600.0)


# -- the lease ---------------------------------------------------------------------------------


@in_virtual_time
async def test_a_machine_that_has_slept_holds_no_lease_before_it_is_answered_anew() -> None:
    async with a_world(leading()) as world:
        assert world.reading.lease() > 0
        world.become(fed(world.node, B, HEARTBEAT)[0])
        await trio.sleep(HEARTBEAT)
        world.clock.asleep += 3600.0
        assert world.reading.lease() == -math.inf
        world.become(*acked(world.node, B, 2, world.clock.now()))
        assert world.reading.lease() == -math.inf, "that was sent before"
        await trio.sleep(HEARTBEAT)
        world.beat()
        assert world.reading.lease() > world.clock.now()


@in_virtual_time
async def test_a_clock_that_is_read_too_late_is_no_sleep() -> None:
    async with a_world(leading()) as world:
        before = world.reading.lease()
        world.clock.asleep -= 0.5
        assert world.reading.lease() == before
        world.clock.asleep += 0.5
        assert world.reading.lease() == before


@in_virtual_time
async def test_what_is_done_under_the_lease_ends_with_it() -> None:
    async with a_world(leading()) as world:
        with world.clock.until(world.reading.lease()) as scope:
            world.reading.leases.add(scope)
            await trio.sleep(HEARTBEAT)
            world.beat()
            await trio.sleep_forever()
        assert trio.current_time() == pytest.approx(HEARTBEAT + 0.9 * TIMEOUT)


@pytest.mark.parametrize("how", ["deposed", "ended", "slept"])
@in_virtual_time
async def test_what_is_done_under_the_lease_ends_before_its_time(how: str) -> None:
    async with a_world(leading()) as world:
        with world.clock.until(world.reading.lease()) as scope:
            world.reading.leases.add(scope)
            if how == "deposed":
                world.become(stepped_down(world.node))
            elif how == "ended":
                world.reading.ended()
            else:
                world.clock.asleep += 1.0
                world.reading.look_at_lease()
            await trio.sleep_forever()
        assert scope.cancelled_caught


# -- answers -----------------------------------------------------------------------------------


def beats_until(world: World, over: Call) -> Callable[[], Any]:
    async def beat() -> None:
        while not over.over:
            world.beat()
            await trio.sleep(0.01)

    return beat


async def answer(world: World, run: Callable[[], Any], consistency: Any) -> Any:
    """What is answered while all followers answer, too."""
    call = Call()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run, lambda: world.answering.answer(run, consistency))
        nursery.start_soon(beats_until(world, call))
    if call.error is not None:
        raise call.error
    return call.result


@in_virtual_time
async def test_under_the_lease_nobody_is_asked() -> None:
    async with a_world(leading(), applied=2) as world:
        told = await world.answering.answer(lambda: "value", Lease())
        assert (told.value, told.consistency, told.index, told.age) == ("value", Lease(), 2, 0.0)
        assert world.steps == 0


@in_virtual_time
async def test_the_lease_is_looked_at_when_the_query_has_run() -> None:
    async with a_world(leading(), applied=2) as world:
        runs: list[float] = []

        def run() -> str:
            runs.append(world.clock.now())
            if len(runs) == 1:
                world.clock.ahead += 0.95 * TIMEOUT
            return "value"

        told = await answer(world, run, Lease())
        assert told.consistency == Linearizable()
        assert len(runs) == 2


@in_virtual_time
async def test_what_a_query_raises_too_late_is_no_answer_either() -> None:
    async with a_world(leading(), applied=2) as world:
        runs: list[float] = []

        def run() -> str:
            runs.append(world.clock.now())
            if len(runs) == 1:
                world.clock.ahead += 0.95 * TIMEOUT
                raise KeyError("old")
            return "value"

        assert (await answer(world, run, Lease())).value == "value"
        with pytest.raises(ZeroDivisionError):
            await answer(world, lambda: 1 // 0, Lease())


@in_virtual_time
async def test_a_lease_read_waits_until_what_is_committed_is_applied() -> None:
    async with a_world(leading(), applied=1) as world:
        async with calling(lambda: world.answering.answer(lambda: 1, Lease())) as (call,):
            assert not call.over
            world.applier.apply(2)
        assert call.result.index == 2


@in_virtual_time
async def test_a_new_leader_reads_nothing_before_its_first_commit() -> None:
    node = leader(1)
    node, _ = fed(node, B)
    node, _ = acked(node, B, 0)
    async with a_world(evolve(node, commit=1), applied=1) as world:
        assert world.reading.lease() > world.clock.now()
        ask = (
            lambda: world.answering.answer(lambda: 1, Lease()),
            lambda: world.answering.answer(lambda: 1, Linearizable()),
        )
        async with calling(*ask) as calls:
            world.beat()
            await wait_all_tasks_blocked()
            assert not any(call.over for call in calls)
            world.applier.apply(2)
        assert [call.result.index for call in calls] == [2, 2]


@in_virtual_time
async def test_at_least_waits_and_does_not_ask() -> None:
    async with a_world(follower(1), applied=4) as world:
        token = AtLeast(Token("cluster", 6))
        async with calling(lambda: world.answering.answer(lambda: 1, token)) as (call,):
            world.applier.apply(5)
            await wait_all_tasks_blocked()
            assert not call.over
            world.applier.apply(7)
        assert (call.result.index, call.result.consistency) == (7, token)
        assert world.asked == []


@in_virtual_time
async def test_at_least_nothing_still_takes_a_leaders_word() -> None:
    async with a_world(follower(1)) as world:
        token = AtLeast(Token("cluster", 0))
        async with calling(lambda: world.answering.answer(lambda: 1, token)) as (call,):
            assert not call.over
            world.applier.apply(1)
        assert call.result.index == 1


@in_virtual_time
async def test_a_token_of_another_cluster_is_refused() -> None:
    async with a_world(follower(1), applied=4) as world:
        with pytest.raises(ProtocolError, match="'elsewhere'; this one is 'cluster'"):
            await world.answering.answer(lambda: 1, AtLeast(Token("elsewhere", 1)))


@in_virtual_time
async def test_within_the_age_the_answer_is_local_and_beyond_it_is_not() -> None:
    async with a_world(following(), applied=9) as world:
        await learn(world, 7)
        await trio.sleep(1.0)
        told = await world.answering.answer(lambda: 1, MaxAge(2.0))
        assert (told.consistency, told.age) == (MaxAge(2.0), pytest.approx(1.0))
        assert len(world.asked) == 1
        async with calling(lambda: world.answering.answer(lambda: 1, MaxAge(0.5))) as (call,):
            assert len(world.asked) == 2
            world.reading.answered(ReadIndexReply(FIRST + 1, 9))
        assert (call.result.consistency, call.result.age) == (Linearizable(), 0.0)


@in_virtual_time
async def test_a_read_that_is_half_too_old_has_the_leader_asked_again() -> None:
    async with a_world(following(), applied=9) as world:
        await learn(world, 7)
        await trio.sleep(0.4)
        await world.answering.answer(lambda: 1, MaxAge(1.0))
        await wait_all_tasks_blocked()
        assert len(world.asked) == 1
        await trio.sleep(0.2)
        assert (await world.answering.answer(lambda: 1, MaxAge(1.0))).age == pytest.approx(0.6)
        await wait_all_tasks_blocked()
        assert len(world.asked) == 2
        world.reading.answered(ReadIndexReply(FIRST + 1, 9))
        assert (await world.answering.answer(lambda: 1, MaxAge(1.0))).age < 0.01


@in_virtual_time
async def test_any_age_is_not_the_age_of_who_knows_nothing() -> None:
    async with a_world(follower(1)) as world:
        with pytest.raises(NotLeaderError):
            await world.answering.answer(lambda: 1, MaxAge(math.inf))


@in_virtual_time
async def test_anything_is_answered_by_anybody() -> None:
    async with a_world(follower(1)) as world:
        told = await world.answering.answer(lambda: 1, Anything())
        assert (told.value, told.consistency, told.age) == (1, Anything(), math.inf)
