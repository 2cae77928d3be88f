"""Bodies that run only while their server leads: when they begin, and how they end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.server.worlds import (
    HEARTBEAT,
    TIMEOUT,
    Clock,
    Cluster,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
)
from trioraft import Config, LeaseLost, Server, ServerStopped
from trioraft._rules.messages import PreVoteReply

LEASE = 0.95 * TIMEOUT


class Body:
    """Somebody who does something only while the server leads."""

    def __init__(self, server: Server, do: Callable[[Any], Any] | None = None) -> None:
        self.server = server
        self.do = do
        self.leadership: Any = None
        self.began: float | None = None
        self.stopped: float | None = None
        """When the body was cancelled, or ended."""
        self.error: BaseException | None = None
        self.over = trio.Event()

    @property
    def runs(self) -> bool:
        return self.began is not None and self.stopped is None

    async def run(self) -> None:
        try:
            async with self.server.leadership() as self.leadership:
                self.began = trio.current_time()
                try:
                    if self.do is None:
                        await trio.sleep_forever()
                    else:
                        await self.do(self.leadership)
                finally:
                    self.stopped = trio.current_time()
        except Exception as error:  # noqa: BLE001  the test looks at it
            self.error = error
        finally:
            self.over.set()


async def first_other_leader(cluster: Cluster, old: Server) -> float:
    """When another server leads."""
    await cluster.until(lambda: any(s.state == "leader" for s in cluster.up if s is not old))
    return trio.current_time()


# -- entering ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
@in_virtual_time
async def test_a_body_runs_at_the_leader_and_waits_elsewhere(size: int) -> None:
    async with a_running_cluster(size) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        bodies = [Body(server) for server in cluster.up]
        for body in bodies:
            nursery.start_soon(body.run)
        await trio.sleep(10 * TIMEOUT)
        for body in bodies:
            assert body.runs == (body.server is leader)
        (mine,) = [body for body in bodies if body.server is leader]
        assert (mine.leadership.term, mine.leadership.fence) == (leader.term, leader.term)
        assert mine.leadership.cluster == leader.status().cluster
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_who_waits_enters_when_its_server_comes_to_lead_with_a_greater_fence() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        old = await cluster.settled()
        bodies = {server.name: Body(server) for server in cluster.up}
        for body in bodies.values():
            nursery.start_soon(body.run)
        await trio.sleep(TIMEOUT)
        fence = bodies[old.name].leadership.fence
        await cluster.crash(old.name)
        new = await cluster.leader()
        await cluster.until(lambda: bodies[new.name].runs)
        assert bodies[new.name].leadership.fence > fence
        assert [name for name, body in bodies.items() if body.runs] == [new.name]
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_a_leader_without_a_lease_is_not_enough() -> None:
    """It was elected, and nobody has answered yet."""
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        old = await cluster.settled()
        bodies = {name: Body(cluster[name]) for name in cluster.followers()}
        for body in bodies.values():
            nursery.start_soon(body.run)
        await cluster.crash(old.name)
        heard: list[bool] = []

        def led() -> bool:
            for name, body in bodies.items():
                server = cluster[name]
                role: Any = server._core.node.role
                if server.state == "leader":
                    stands = [p.stands_until > -math.inf for p in role.progress]
                    heard.append(any(stands))
                    assert any(stands) or not body.runs
            return any(body.runs for body in bodies.values())

        await cluster.until(led)
        assert False in heard, "there was a moment without one"
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_who_asks_before_the_disk_is_open_is_let_in_all_the_same() -> None:
    async with a_cluster(1) as cluster, trio.open_nursery() as nursery:
        server = cluster.make("n1")
        cluster.disks["n1"].seconds = 0.5
        nursery.start_soon(server.serve)
        await trio.sleep(0.1)
        body = Body(server)
        nursery.start_soon(body.run)
        await cluster.until(lambda: body.runs)
        assert server.state == "leader"
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_without_a_server_there_is_nothing_to_wait_for() -> None:
    async with a_cluster(1) as cluster:
        server = cluster.make("n1")
        with pytest.raises(ServerStopped):
            server.leadership()
        await cluster.formed()
        await cluster["n1"].stop()
        with pytest.raises(ServerStopped):
            cluster["n1"].leadership()


@in_virtual_time
async def test_entering_may_be_cancelled() -> None:
    async with a_running_cluster(3) as cluster:
        for server in cluster.up:
            with trio.CancelScope() as scope:
                scope.cancel()
                async with server.leadership():
                    raise AssertionError("it was not to begin")
            assert scope.cancelled_caught
        follower = cluster[cluster.followers()[0]]
        with trio.move_on_after(1.0) as scope:
            async with follower.leadership():
                raise AssertionError("it does not lead")
        assert scope.cancelled_caught


# -- losing it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["isolate", "mute"])
@pytest.mark.parametrize("size", [2, 3, 5])
@in_virtual_time
async def test_the_body_is_cancelled_before_another_can_lead(size: int, how: str) -> None:
    async with a_running_cluster(size) as cluster, trio.open_nursery() as nursery:
        old = await cluster.settled()
        body = Body(old)
        nursery.start_soon(body.run)
        await trio.sleep(3 * HEARTBEAT)
        began = trio.current_time()
        if how == "isolate":
            cluster.isolate(old.name)
        else:
            for other in cluster.followers():
                cluster.mute(other, old.name)
        if size > 2:
            led_at = await first_other_leader(cluster, old)
            assert body.stopped is not None
            assert body.stopped < led_at
        await body.over.wait()
        assert isinstance(body.error, LeaseLost)
        assert old.name in str(body.error)
        assert body.stopped is not None
        assert body.stopped - began <= LEASE + 1e-6
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_a_lease_that_is_renewed_lets_the_body_run_on() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        body = Body(leader)
        nursery.start_soon(body.run)
        for _ in range(20):
            await trio.sleep(TIMEOUT)
            assert body.runs
        cluster.isolate(cluster.followers()[0])
        await trio.sleep(5 * TIMEOUT)
        assert body.runs, "a majority still answers"
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_the_body_ends_with_the_tenure_though_the_lease_would_last() -> None:
    """Somebody answers with a higher term."""
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        body = Body(leader)
        nursery.start_soon(body.run)
        await trio.sleep(TIMEOUT)
        assert leader._core.reading.lease() > trio.current_time() + HEARTBEAT
        node = leader._core.node
        reply = PreVoteReply(node.term + 1, node.term + 1, vote_granted=False)
        now = trio.current_time()
        leader._core.receive(node.followers[0], reply)
        await body.over.wait()
        assert isinstance(body.error, LeaseLost)
        assert body.stopped == now
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("how", ["stop", "crash"])
@in_virtual_time
async def test_the_body_ends_with_the_server(size: int, how: str) -> None:
    async with a_running_cluster(size) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        bodies = [Body(server) for server in cluster.up]
        for body in bodies:
            nursery.start_soon(body.run)
        await trio.sleep(TIMEOUT)
        for server in cluster.up:
            if how == "stop":
                await server.stop()
            else:
                await cluster.crash(server.name)
        for body in bodies:
            await body.over.wait()
            expected = LeaseLost if body.server is leader else ServerStopped
            assert isinstance(body.error, expected)


@in_virtual_time
async def test_who_waits_at_a_server_that_never_formed_is_told_when_it_stops() -> None:
    async with a_cluster(3) as cluster, trio.open_nursery() as nursery:
        await cluster.start("n1")
        body = Body(cluster["n1"])
        nursery.start_soon(body.run)
        await trio.sleep(1.0)
        assert body.began is None
        await cluster["n1"].stop()
        await body.over.wait()
        assert isinstance(body.error, ServerStopped)


class Sleepy(Clock):
    """Belongs to a machine that may be suspended: `now` stands still in that time."""

    def __init__(self) -> None:
        self.asleep = 0.0

    def slept(self) -> float:
        return self.asleep


@in_virtual_time
async def test_a_machine_that_has_slept_ends_the_body_and_may_begin_another() -> None:
    async with a_cluster(3) as cluster, trio.open_nursery() as nursery:
        clocks = {name: Sleepy() for name in cluster.names}
        for name, clock in clocks.items():
            await cluster.start(name, clock=clock)
        leader = await cluster.settled()
        body = Body(leader)
        nursery.start_soon(body.run)
        await trio.sleep(3 * HEARTBEAT)
        assert body.runs
        began = trio.current_time()
        clocks[leader.name].asleep += 3600.0
        await body.over.wait()
        assert isinstance(body.error, LeaseLost)
        assert trio.current_time() - began <= HEARTBEAT
        again = Body(leader)
        nursery.start_soon(again.run)
        await trio.sleep(3 * HEARTBEAT)
        assert again.runs
        nursery.cancel_scope.cancel()


# -- leaving -----------------------------------------------------------------------------------


@in_virtual_time
async def test_a_body_that_is_done_is_done() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        async with leader.leadership() as leadership:
            assert await leader.do(Say("as the leader")) == 1
        assert leadership.term == leader.term
        assert leader._core.reading.leases == set()


@in_virtual_time
async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        group = ExceptionGroup("two", [ValueError("a"), ExceptionGroup("b", [KeyError("c")])])
        for error in (ValueError("mine"), group, LeaseLost("mine"), trio.TooSlowError()):
            with pytest.raises(type(error)) as caught:
                async with leader.leadership():
                    raise error
            assert caught.value is error
        assert leader._core.reading.leases == set()


@pytest.mark.parametrize("in_a_nursery", [False, True])
@in_virtual_time
async def test_what_a_cancelled_body_raises_comes_first(in_a_nursery: bool) -> None:
    async with a_running_cluster(3) as cluster:
        old = await cluster.settled()

        async def do(_: object) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("on the way out")

        async def with_others(leadership: object) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(do, leadership)

        body = Body(old, with_others if in_a_nursery else do)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.run)
            await trio.sleep(TIMEOUT)
            cluster.isolate(old.name)
            await body.over.wait()
        if in_a_nursery:
            assert isinstance(body.error, ExceptionGroup)
            assert [type(error) for error in body.error.exceptions] == [ValueError]
        else:
            assert isinstance(body.error, ValueError)


@in_virtual_time
async def test_whoever_cancels_from_outside_is_not_told_of_a_lease() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        with trio.move_on_after(TIMEOUT) as scope:
            async with leader.leadership():
                await trio.sleep_forever()
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            async with leader.leadership():
                scope.cancel()
                cluster.isolate(leader.name)
                with trio.CancelScope(shield=True):
                    await trio.sleep(2 * TIMEOUT)
        assert scope.cancelled_caught, "both are over, and the outer one has the word"


@in_virtual_time
async def test_a_body_that_outlives_the_lease_behind_a_shield_hears_of_it_at_its_end() -> None:
    async with a_running_cluster(3) as cluster:
        old = await cluster.settled()
        with pytest.raises(LeaseLost):
            async with old.leadership():
                cluster.isolate(old.name)
                with trio.CancelScope(shield=True):
                    await trio.sleep(2 * TIMEOUT)


class Ahead(Clock):
    """A clock that goes on while the body holds up the loop."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return trio.current_time() + self.seconds

    def until(self, instant: float) -> trio.CancelScope:
        return trio.CancelScope(deadline=instant - self.seconds)

    def move(self, scope: trio.CancelScope, instant: float) -> None:
        scope.deadline = instant - self.seconds

    def utc(self) -> float:
        return 1_700_000_000.0


@in_virtual_time
async def test_a_body_that_held_up_the_loop_past_its_lease_hears_of_it() -> None:
    async with a_cluster(3) as cluster:
        clocks = {name: Ahead() for name in cluster.names}
        for name, clock in clocks.items():
            await cluster.start(name, clock=clock)
        leader = await cluster.settled()
        with pytest.raises(LeaseLost):
            async with leader.leadership():
                clocks[leader.name].seconds += TIMEOUT
        await cluster.settled()


@in_virtual_time
async def test_bodies_within_and_beside_each_other_all_end() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        old = await cluster.settled()
        bodies = [Body(old), Body(old, inner_of(old)), Body(old)]
        for body in bodies:
            nursery.start_soon(body.run)
        await trio.sleep(3 * TIMEOUT)
        assert all(body.runs for body in bodies)
        assert len(old._core.reading.leases) == 4
        cluster.isolate(old.name)
        for body in bodies:
            await body.over.wait()
            assert isinstance(body.error, LeaseLost)
        assert len({body.stopped for body in bodies}) == 1
        assert old._core.reading.leases == set()
        nursery.cancel_scope.cancel()


def inner_of(server: Server) -> Callable[[Any], Any]:
    async def run(_: object) -> None:
        async with server.leadership():
            await trio.sleep_forever()

    return run


@in_virtual_time
async def test_one_of_several_that_leaves_does_not_take_the_others_along() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader = await cluster.settled()
        bodies = [Body(leader) for _ in range(3)]
        for body in bodies:
            nursery.start_soon(body.run)
        async with leader.leadership():
            await trio.sleep(TIMEOUT)
        await trio.sleep(TIMEOUT)
        assert all(body.runs for body in bodies)
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_two_leaders_bodies_never_overlap_however_it_flaps() -> None:
    async with a_running_cluster(3) as cluster, trio.open_nursery() as nursery:
        running: list[str] = []
        fences: list[int] = []

        async def lead_on(server: Server) -> None:
            while True:
                try:
                    async with server.leadership() as leadership:
                        running.append(server.name)
                        assert len(set(running)) == 1, running
                        fences.append(leadership.fence)
                        try:
                            await trio.sleep_forever()
                        finally:
                            running.remove(server.name)
                except LeaseLost:
                    pass

        for server in cluster.up:
            nursery.start_soon(lead_on, server)
        for _ in range(30):
            leader = next((s.name for s in cluster.up if s.state == "leader"), "n1")
            for other in cluster.names:
                if other != leader:
                    cluster.mute(other, leader)
            await trio.sleep(3 * TIMEOUT)
            cluster.heal()
            await trio.sleep(TIMEOUT)
        assert fences == sorted(fences)
        assert len(set(fences)) > 10
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_a_bound_of_almost_all_leaves_no_lease_to_enter_by() -> None:
    config = Config(max_clock_drift=0.999)
    async with a_running_cluster(3, config=config) as cluster:
        leader = await cluster.settled()
        with trio.move_on_after(5.0) as scope:
            async with leader.leadership():
                raise AssertionError("there is no lease")
        assert scope.cancelled_caught
