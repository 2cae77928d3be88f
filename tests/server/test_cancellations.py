"""Cancelling every public coroutine at every one of its steps.

Wherever it hits: the call ends at once, nothing hangs, what is durable stays as it should be, the
others go on, and the same data can be served again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

import trioraft
import trioraft._tickets
from tests.server.members import addresses, configuration, learners, newcomer, voters
from tests.server.puppets import state_on
from tests.server.worlds import (
    DISK,
    Cluster,
    Lines,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
    run_seeded,
)
from trioraft import Anything, Server
from trioraft._wire.frames import parse_entry

AT_ONCE = 2 * DISK + 1e-9
"""A write that is under way, and nothing else."""


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when a task and its children have taken so many steps together."""

    def __init__(self, scope: trio.CancelScope, root: trio.lowlevel.Task, step: int) -> None:
        self.scope, self.root, self.step, self.steps = scope, root, step, 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        at: trio.lowlevel.Task | None = task
        while at is not None and at is not self.root:
            at = None if at.parent_nursery is None else at.parent_nursery.parent_task
        if at is self.root:
            self.steps += 1
            if self.steps == self.step:
                self.scope.cancel()


class Attempt:
    """One call, cancelled at one of its steps, or not at all if it has fewer."""

    def __init__(self, call: Callable[[], Awaitable[Any]], step: int) -> None:
        self.call, self.step = call, step
        self.was_cancelled = False
        self.ended = trio.Event()
        self.took = 0.0
        self.steps = 0
        self.result: Any = None

    async def run(self) -> None:
        cancelled_at: list[float] = []

        class Scope(CancelAt):
            def before_task_step(self, task: trio.lowlevel.Task) -> None:
                super().before_task_step(task)
                if self.scope.cancel_called and not cancelled_at:
                    cancelled_at.append(trio.current_time())

        with trio.CancelScope() as scope:
            watch = Scope(scope, trio.lowlevel.current_task(), self.step)
            trio.lowlevel.add_instrument(watch)
            try:
                self.result = await self.call()
            finally:
                trio.lowlevel.remove_instrument(watch)
                self.steps = watch.steps
        self.was_cancelled = scope.cancelled_caught
        self.took = trio.current_time() - cancelled_at[0] if cancelled_at else 0.0
        self.ended.set()


def check_disks(cluster: Cluster) -> None:
    """Every log is whole: indexes without a gap, terms that do not fall, a state that reads."""
    for disk in cluster.disks.values():
        entries = [parse_entry(frame) for frame in disk.frames]
        assert [entry.index for entry in entries] == list(range(1, len(entries) + 1))
        assert [entry.term for entry in entries] == sorted(entry.term for entry in entries)
        if disk.kept._state is not None:
            state_on(disk)
        assert not disk.kept._is_open


async def serve_and_cancel(size: int, step: int, victim: str, seconds: float) -> bool:
    """Cancel one server of a cluster at a step of its life; whether it lived that long."""
    async with a_cluster(size, seed=step) as cluster, trio.open_nursery() as nursery:
        server = cluster.make(victim)
        attempt = Attempt(server.serve, step)
        nursery.start_soon(attempt.run)
        for name in cluster.names:
            if name != victim:
                await cluster.start(name)
        with trio.move_on_after(seconds):
            nursery.start_soon(offer, cluster, server)
            await attempt.ended.wait()
        if not attempt.was_cancelled:
            nursery.cancel_scope.cancel()
            return False
        nursery.cancel_scope.cancel()
        assert attempt.took <= AT_ONCE
        assert server.state == "stopped"
        rest = cluster.up
        if size > 2 and rest[0].status().cluster is not None:
            await cluster.leader(within=5)  # the others go on
        await cluster.crash(*[server.name for server in rest])
        check_disks(cluster)
        await cluster.start()
        await cluster.settled(within=5)
        await cluster.say("served again")
        await cluster.settled()
    return True


async def offer(cluster: Cluster, server: Server) -> None:
    """Have something to write, wherever the leader is."""
    number = 0
    while True:
        for asked in [server, *cluster.up]:
            if asked.state == "leader":
                try:
                    await asked.do(Say(f"offer {number}"))
                except (trioraft.CommandError, trioraft.ServerStopped):
                    continue
                number += 1
        await trio.sleep(0.01)


@pytest.mark.unmeasured
@pytest.mark.parametrize(("size", "victim", "stride"), [(1, "n1", 5), (3, "n1", 29), (3, "n3", 31)])
def test_serve_can_be_cancelled_at_every_step(size: int, victim: str, stride: int) -> None:
    step, lived = 1, True
    while lived and step < 900:
        lived = run_seeded(0, partial(serve_and_cancel, size, step, victim, 0.6))
        step += stride if step > 30 else 1
    assert step > 100


@pytest.mark.parametrize("slow", [False, True])
@in_virtual_time
async def test_starting_in_a_nursery_can_be_cancelled_at_every_step(slow: bool) -> None:
    async with a_cluster(1) as cluster:
        cluster.disks["n1"].seconds = 0.01 if slow else 0.0
        step, cancelled = 1, True
        while cancelled:
            server = cluster.make("n1")
            async with trio.open_nursery() as nursery:
                attempt = Attempt(partial(nursery.start, server.serve), step)
                await attempt.run()
                nursery.cancel_scope.cancel()
            cancelled = attempt.was_cancelled
            assert server.state == "stopped"
            check_disks(cluster)
            step += 1
        assert step > 4
        await cluster.formed()
        assert await cluster.say("started at last") == 1


@pytest.mark.parametrize("seed", range(8))
def test_a_command_that_is_withdrawn_while_the_leader_wakes_up_leaves_no_trace(seed: int) -> None:
    """The bell has rung, and nothing queues: that must not become an entry, or half of one."""

    async def main() -> None:
        async with a_running_cluster(3, seed=seed) as cluster:
            leader = await cluster.settled()

            async def one(text: str, scope: trio.CancelScope) -> None:
                with scope:
                    await leader.do(Say(text))

            for number in range(10):
                before = leader.status().last_index
                async with trio.open_nursery() as nursery:
                    scope = trio.CancelScope()
                    nursery.start_soon(one, f"never {number}", scope)
                    for _ in range(number % 3):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
                await leader.do(Say(f"after {number}"))
                await cluster.settled(within=3)
                since = leader.state_machine.lines[-2:]
                assert leader.status().last_index - before == 1 + (since[0] == f"never {number}")
                assert since[-1] == f"after {number}"

    run_seeded(seed, main)


@in_virtual_time
async def test_a_bell_that_rang_in_an_earlier_tenure_proposes_nothing() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        before = leader.status().last_index
        leader._core.tickets.bell.ring()
        await trio.sleep(1)
        assert leader.status().last_index == before
        await leader.do(Say("x"))
        assert leader.status().last_index == before + 1


@pytest.mark.parametrize("delay", [0.0, 0.001])
@in_virtual_time
async def test_do_can_be_cancelled_at_every_step(delay: float) -> None:
    async with a_running_cluster(3, delay=delay) as cluster:
        leader = await cluster.settled()
        step, cancelled = 1, True
        while cancelled:
            before = list(leader.state_machine.lines)
            attempt = Attempt(partial(leader.do, Say(f"try {step}")), step)
            await attempt.run()
            cancelled = attempt.was_cancelled
            assert attempt.took == 0
            result = await leader.do(Say(f"after {step}"))
            # Done or not done, but never twice and never out of order.
            since = leader.state_machine.lines[len(before) :]
            assert since in ([f"try {step}", f"after {step}"], [f"after {step}"])
            assert result == len(leader.state_machine.lines)
            await cluster.settled()
            assert leader._core.tickets._count == 0
            assert leader._core.tickets._bytes == 0
            assert not leader._core.tickets._appended
            step += 1
        assert step >= 2


def test_do_in_front_can_be_cancelled_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trioraft._tickets, "MAX_PENDING_COMMANDS", 2)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster:
            leader = await cluster.settled()
            step, cancelled = 1, True
            while cancelled:
                async with trio.open_nursery() as nursery:
                    for number in range(4):
                        nursery.start_soon(leader.do, Say(f"first {step} {number}"))
                    await trio.testing.wait_all_tasks_blocked()
                    attempt = Attempt(partial(leader.do, Say(f"try {step}")), step)
                    await attempt.run()
                cancelled = attempt.was_cancelled
                await cluster.settled()
                assert leader._core.tickets._count == 0
                assert leader.state_machine.lines.count(f"try {step}") <= 1
                step += 1
            assert step >= 3

    check()


@in_virtual_time
async def test_do_can_be_cancelled_while_leadership_is_being_lost() -> None:
    async with a_running_cluster(3) as cluster:
        step, cancelled = 1, True
        while cancelled:
            leader = await cluster.settled()
            cluster.isolate(leader.name)

            async def until_lost(leader: Server = leader, step: int = step) -> None:
                with pytest.raises(trioraft.OutcomeUnknown):
                    await leader.do(Say(f"lost {step}"))

            attempt = Attempt(until_lost, step)
            await attempt.run()
            cancelled = attempt.was_cancelled
            await cluster.until(lambda leader=leader: leader.state != "leader")
            assert leader._core.tickets._count == 0
            cluster.heal()
            await cluster.settled()
            step += 1


@in_virtual_time
async def test_read_can_be_cancelled_at_every_step() -> None:
    async with a_running_cluster(1) as cluster:
        step, cancelled = 1, True
        while cancelled:
            attempt = Attempt(partial(cluster["n1"].read, Lines(), Anything()), step)
            await attempt.run()
            cancelled = attempt.was_cancelled
            step += 1
        assert attempt.result.value == []
        assert step >= 2


@in_virtual_time
async def test_reading_events_can_be_cancelled_at_every_step() -> None:
    async with a_running_cluster(1) as cluster:
        server = cluster["n1"]

        async def watch(count: int) -> list[Any]:
            seen = []
            async with server.events() as events:
                nursery.start_soon(server.do, Say("x"))
                async for event in events:
                    seen.append(event)
                    if len(seen) == count:
                        break
            return seen

        step, cancelled = 1, True
        before = len(server._hub._subscriptions)
        while cancelled:
            async with trio.open_nursery() as nursery:
                attempt = Attempt(partial(watch, 1), step)
                await attempt.run()
            cancelled = attempt.was_cancelled
            assert len(server._hub._subscriptions) == before
            step += 1
        assert step >= 2
        assert await cluster.say("after") > 1


@in_virtual_time
async def test_stop_can_be_cancelled_at_every_step_and_the_server_stops_all_the_same() -> None:
    async with a_running_cluster(3) as cluster:
        step, cancelled = 1, True
        while cancelled:
            server = cluster["n1"]
            attempt = Attempt(server.stop, step)
            await attempt.run()
            cancelled = attempt.was_cancelled
            await cluster.until(lambda server=server: not server.running, within=1)
            await cluster.start("n1")
            await cluster.settled()
            step += 1
        assert step >= 2


# -- the verbs that change the members ---------------------------------------------------------


async def tried(call: Callable[[], Awaitable[Any]], step: int) -> Attempt:
    """Cancel a call at a step of its own: those of the servers are not counted."""
    attempt = Attempt(call, step)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt.run)
    return attempt


async def alone(cluster: Cluster, leader: Server, gone: str) -> None:
    """Wait until a member has left, and the leader sends it nothing more."""
    await leader.remove_peer(gone)
    await cluster.until(lambda: not cluster.is_up(gone))
    followers = lambda: [peer.name for peer in leader._core.node.followers]  # noqa: E731
    await cluster.until(lambda: gone not in followers())


async def over(cluster: Cluster, leader: Server) -> None:
    """Wait until no change of the members is under way: nobody has to wait for it to go on."""
    core = leader._core

    def is_over() -> bool:
        configuration = core.node.configuration
        return not configuration.outgoing and configuration.index <= core.node.commit

    await cluster.until(is_over, within=5)


@in_virtual_time
async def test_add_peer_can_be_cancelled_at_every_step_and_called_again() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        step, cancelled, seen = 1, True, set()
        while cancelled:
            address = await newcomer(cluster, "n4")
            attempt = await tried(partial(leader.add_peer, "n4", address), step)
            cancelled = attempt.was_cancelled
            assert attempt.took == 0
            await over(cluster, leader)
            seen.add((tuple(voters(leader)), tuple(learners(leader))))
            assert cluster.is_up("n4")
            await leader.do(Say(f"after {step}"))
            # Whatever has become of it, the call can be made again.
            index = await leader.add_peer("n4", address)
            assert index == configuration(leader).index
            assert (voters(leader), learners(leader)) == (["n1", "n2", "n3", "n4"], [])
            await cluster.settled()
            await alone(cluster, leader, "n4")
            step += 1
        three, four = ("n1", "n2", "n3"), ("n1", "n2", "n3", "n4")
        assert seen == {(three, ()), (three, ("n4",)), (four, ())}
        assert step > 10


@in_virtual_time
async def test_remove_peer_can_be_cancelled_at_every_step() -> None:
    async with a_running_cluster(4) as cluster:
        leader = await cluster.settled()
        gone = cluster.followers()[0]
        address = cluster.addresses[gone]
        step, cancelled, seen = 1, True, set()
        while cancelled:
            attempt = await tried(partial(leader.remove_peer, gone), step)
            cancelled = attempt.was_cancelled
            assert attempt.took == 0
            await over(cluster, leader)
            seen.add(gone in voters(leader))
            await leader.do(Say(f"after {step}"))
            if gone in voters(leader):
                await cluster.settled()
                await alone(cluster, leader, gone)
            await cluster.until(lambda: not cluster.is_up(gone))
            assert voters(leader) == [name for name in cluster.names if name != gone]
            await cluster.until(lambda: len(leader._core.node.followers) == 2)
            await newcomer(cluster, gone)
            await leader.add_peer(gone, address)
            await cluster.settled()
            step += 1
        assert seen == {True, False}
        assert step > 4


@in_virtual_time
async def test_change_membership_can_be_cancelled_at_every_step() -> None:
    """Two go and two come: the members are the old ones or the new ones, and never a mixture."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        old = dict(cluster.addresses)
        goes = cluster.followers()
        new = {leader.name: old[leader.name]}
        step, cancelled, seen = 1, True, set()
        while cancelled:
            for name in ("n4", "n5"):
                new[name] = await newcomer(cluster, name)
            attempt = await tried(partial(leader.change_membership, new), step)
            cancelled = attempt.was_cancelled
            assert attempt.took == 0
            await over(cluster, leader)
            assert voters(leader) in (sorted(old), sorted(new))
            assert learners(leader) in ([], ["n4", "n5"])
            seen.add((voters(leader) == sorted(new), bool(learners(leader))))
            await leader.do(Say(f"after {step}"))
            await leader.change_membership(new)
            assert (voters(leader), learners(leader)) == (sorted(new), [])
            await cluster.until(lambda: not any(cluster.is_up(name) for name in goes))
            await cluster.until(lambda: len(leader._core.node.followers) == 2)
            for name in goes:
                await newcomer(cluster, name)
            await leader.change_membership(old)
            assert (voters(leader), learners(leader)) == (sorted(old), [])
            await cluster.until(lambda: not cluster.is_up("n4") and not cluster.is_up("n5"))
            await cluster.until(lambda: len(leader._core.node.followers) == 2)
            step += 1
        assert seen == {(False, False), (False, True), (True, False)}
        assert step > 10


@in_virtual_time
async def test_change_address_can_be_cancelled_at_every_step() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        name = cluster.followers()[0]
        step, cancelled, before = 1, True, addresses(leader)[name]
        while cancelled:
            await cluster.crash(name)
            cluster.addresses[name] = after = f"mem://moved-{step}"
            await cluster.start(name)
            attempt = await tried(partial(leader.change_address, name, after), step)
            cancelled = attempt.was_cancelled
            assert attempt.took == 0
            await over(cluster, leader)
            assert addresses(leader)[name] in (before, after)
            await leader.change_address(name, after)
            assert addresses(leader)[name] == after
            await cluster.settled()
            before = after
            step += 1
        assert step > 4


@in_virtual_time
async def test_transfer_leadership_can_be_cancelled_at_every_step() -> None:
    """The attempt goes on without the caller: it succeeds, or the old leader leads on."""
    async with a_running_cluster(3) as cluster:
        step, cancelled = 1, True
        while cancelled:
            leader = await cluster.settled()
            attempt = await tried(leader.transfer_leadership, step)
            cancelled = attempt.was_cancelled
            assert attempt.took == 0
            new = await cluster.settled(within=2)
            assert cancelled or new is not leader
            await new.do(Say(f"after {step}"))
            step += 1
        assert step > 2


@in_virtual_time
async def test_a_deadline_on_serve_is_an_ordinary_way_to_end_it() -> None:
    async with a_running_cluster(1) as cluster:
        await cluster.crash("n1")
        server = cluster.make("n1")
        with trio.move_on_after(1) as scope:
            await server.serve()
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(scope.deadline, abs=AT_ONCE)
        await cluster.start("n1")
        await cluster.settled()


@in_virtual_time
async def test_cancelling_serve_waits_for_no_peer_that_hangs() -> None:
    """Streams that take nothing, dials that nobody answers, a disk that takes its time."""
    async with a_running_cluster(3) as cluster:
        for wait in (0.0, 0.02, 0.4, 0.9, 3.0):
            leader = await cluster.settled()
            for other in cluster.followers():
                cluster.mute(leader.name, other)
                cluster.mute(other, leader.name)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leave_alone, leader, "pending")
                await trio.sleep(wait)
                began = trio.current_time()
                await cluster.crash(*cluster.names)
                assert trio.current_time() - began <= AT_ONCE
            cluster.heal()
            await cluster.start()


async def leave_alone(server: Server, text: str) -> None:
    with contextlib.suppress(trioraft.CommandError, trioraft.ServerStopped):
        await server.do(Say(text))
