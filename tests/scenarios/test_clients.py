"""What clients see: commands that wait while servers fall, and clocks that are wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

import pytest
import trio

from tests.scenarios.worlds import Machines, lose, running_machines
from tests.server.puppets import Puppet
from tests.server.worlds import (
    TIMEOUT,
    Lines,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
    run_seeded,
)
from trioraft import (
    Anything,
    NotLeaderError,
    OutcomeUnknown,
    Server,
    ServerStopped,
    StateChange,
    TermChange,
)
from trioraft._rules.messages import AppendEntries, AppendEntriesReply
from trioraft.testing import DiskFault, SimulatedClock

# -- U1: an answer that is lost ----------------------------------------------------------------


@in_virtual_time
async def test_u1_a_command_whose_answer_died_with_its_leader_is_applied_once() -> None:
    """The followers have it, the caller is told that nobody knows, and nobody asks again.

    Raft thesis 6.3, etcd-io/etcd#18424.  (A retry that is safe needs a session.)
    """
    async with running_machines(3) as machines:
        for number in range(5):
            leader = await machines.settled()
            await machines.until(partial(everybody_has, machines, 1 + 2 * number))
            lose(machines, lambda *said: isinstance(said[2], AppendEntriesReply))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one_unknown, leader, f"{number}")
                await machines.until(partial(everybody_has, machines, 2 + 2 * number))
                await machines.kill(leader.name)
            machines.heal()
            await machines.start(leader.name)
        await machines.settled()
        assert machines["n1"].state_machine.lines == [f"{number}" for number in range(5)]


def everybody_has(machines: Machines, count: int) -> bool:
    return all(len(disk.frames) == count for disk in machines.disks.values())


async def one_unknown(server: Server, text: str) -> None:
    with pytest.raises(OutcomeUnknown):
        await server.do(Say(text))


# -- U3: what waits when a leader falls --------------------------------------------------------


Fall = Callable[[Machines, Server], Awaitable[None]]


async def isolated(machines: Machines, leader: Server) -> None:
    machines.isolate(leader.name)


async def deposed(machines: Machines, leader: Server) -> None:
    """A follower answers from a higher term."""
    gone = machines.followers()[0]
    await machines.kill(gone)

    def from_the_future(message: object) -> list[AppendEntriesReply]:
        if not isinstance(message, AppendEntries):
            return []
        return [AppendEntriesReply(leader.term + 9, message.number, False, 0, 0.15)]

    machines._nursery.start_soon(Puppet(machines, gone).answer, from_the_future)


async def stopped(machines: Machines, leader: Server) -> None:
    await leader.stop()


async def killed(machines: Machines, leader: Server) -> None:
    await machines.kill(leader.name)


async def failing(machines: Machines, leader: Server) -> None:
    machines.files(leader.name).fail_next("fdatasync", DiskFault.BROKEN)
    with pytest.raises((OutcomeUnknown, ServerStopped)):
        await leader.do(Say("the last one"))


@pytest.mark.parametrize("fall", [isolated, deposed, stopped, killed, failing])
@in_virtual_time
async def test_u3_a_hundred_callers_are_answered_however_their_leader_falls(fall: Fall) -> None:
    """Within an election time-out, each with an error of its own that names its command.

    databendlabs/openraft 43dd8b6f and 1d5cc706, Hoverbear/old-raft-rs#115.
    """
    async with running_machines(3) as machines:
        leader = await machines.settled()
        term = leader.term
        lose(machines, lambda _, to, m: isinstance(m, AppendEntriesReply) and m.term == term)
        outcomes: list[OutcomeUnknown] = []

        async def one(number: int) -> None:
            with pytest.raises(OutcomeUnknown) as caught:
                await leader.do(Say(f"{number}"))
            outcomes.append(caught.value)

        with trio.fail_after(TIMEOUT + 0.02):
            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(one, number)
                await trio.sleep(0.01)
                await fall(machines, leader)
        assert len({error.handle for error in outcomes}) == 100
        assert (leader.term > term) is (fall is deposed)
        with pytest.raises((NotLeaderError, ServerStopped)):
            await leader.do(Say("one more"))
        machines.heal()
        machines.failures.clear()
        machines._nursery.cancel_scope.cancel()


# -- M15, as far as two servers go -------------------------------------------------------------


@pytest.mark.parametrize("dies", ["leader", "follower"])
@in_virtual_time
async def test_m15_one_of_two_servers_alone_is_unavailable_and_not_wrong(dies: str) -> None:
    """It acknowledges nothing, and what was acknowledged before is there when the other returns.

    etcd-io/etcd#2397.
    """
    async with running_machines(2) as machines:
        for number in range(5):
            await machines.say(f"{number}")
        leader = await machines.settled()
        (other,) = machines.followers()
        gone, stays = (leader.name, other) if dies == "leader" else (other, leader.name)
        await machines.kill(gone)
        server, refused = machines[stays], 0
        for number in range(30):
            try:
                await server.do(Say(f"alone {number}"))
            except (NotLeaderError, OutcomeUnknown):
                refused += 1
            await trio.sleep(0.1)
            answer = await server.read(Lines(), Anything())
            assert answer.value == [f"{number}" for number in range(5)]
        assert refused == 30
        assert server.term <= leader.term + 1
        await machines.restart(stays)
        await trio.sleep(2)
        assert machines[stays].state != "leader", "not even after a restart, when it knows no other"
        await machines.start(gone)
        await machines.settled()
        assert machines[stays].state_machine.lines[:5] == [f"{number}" for number in range(5)]


# -- L6, L7: clocks ----------------------------------------------------------------------------


@in_virtual_time
async def test_l6_wall_clocks_that_jump_depose_nobody_and_move_no_time() -> None:
    """An hour to and fro, on every server, all the while.

    bakwc/PySyncObj#99, vesoft-inc/nebula#2723, sofastack/sofa-jraft#24 to #26.
    """
    async with a_cluster(3) as cluster:
        clocks = {name: SimulatedClock() for name in cluster.names}
        for name, clock in clocks.items():
            await cluster.start(name, clock=clock)
        leader = await cluster.settled()
        before, began = len(cluster.events), trio.current_time()
        chance = Random(6)
        for number in range(200):
            for clock in clocks.values():
                clock.set_wall(chance.choice([-3600.0, 3600.0]))
            await cluster.say(f"{number}")
            await trio.sleep(0.02)
        told = [event for _, event in cluster.events[before:]]
        assert not [event for event in told if isinstance(event, StateChange | TermChange)]
        times = [applied.time for applied in leader.state_machine.applied]
        assert times == sorted(times)
        assert times[-1] - times[0] <= trio.current_time() - began


@pytest.mark.parametrize("rate", [5.0, 0.2])
@pytest.mark.parametrize("who", ["leader", "follower"])
def test_l7_one_clock_five_times_too_fast_or_too_slow_breaks_no_promise(
    who: str, rate: float
) -> None:
    """Elections, commands and a partition, while one server lives at another pace.

    tikv/tikv#964.
    """

    async def main() -> None:
        chance = Random(f"pace {who} {rate}")
        async with a_running_cluster(3) as cluster:
            leader = await cluster.settled()
            odd = leader.name if who == "leader" else cluster.followers()[0]
            clock = SimulatedClock(offset=trio.current_time())
            await cluster.restart(odd, clock=clock)
            while (await cluster.settled()) is not cluster[odd] and who == "leader":
                await cluster.restart(*[name for name in cluster.names if name != odd])
            clock.set_rate(rate)
            stop = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cluster.chatter, "client", stop, 0.02)
                for _ in range(3):
                    await trio.sleep(chance.uniform(0.2, 1))
                    cluster.isolate(chance.choice(cluster.names))
                    await trio.sleep(chance.uniform(0.2, 1))
                    cluster.heal()
                before = len(cluster.acknowledged)
                await cluster.until(partial(progress, cluster.acknowledged, before + 30), within=10)
                stop.set()
            clock.set_rate(1.0)
            await cluster.settled()
            times = [applied.time for applied in cluster[odd].state_machine.applied]
            assert times == sorted(times)

    run_seeded(0, main)


def progress(acknowledged: list[str], goal: int) -> bool:
    return len(acknowledged) >= goal


@pytest.mark.parametrize("who", ["leader", "follower"])
@in_virtual_time
async def test_l7_a_server_that_stood_still_for_long_does_no_harm(who: str) -> None:
    """Its process is stopped for seconds and goes on in the middle of what it did.

    A leader that wakes up acknowledges nothing that the new leader lacks.  tikv/tikv#964.
    """
    async with a_cluster(3) as cluster:
        clocks = {name: SimulatedClock() for name in cluster.names}
        for name, clock in clocks.items():
            await cluster.start(name, clock=clock)
        for _ in range(3):
            leader = await cluster.settled()
            still = leader.name if who == "leader" else cluster.followers()[0]
            until = trio.current_time() + 3
            clocks[still].freeze(until)
            cluster.network.pause(cluster.addresses[still], until)
            rest = [name for name in cluster.names if name != still]
            new = await cluster.leader(*rest, within=2)
            async with trio.open_nursery() as nursery:
                if who == "leader":
                    nursery.start_soon(one_unknown, leader, f"too late {until}")
                for number in range(10):
                    assert await new.do(Say(f"{until} {number}")) > 0
                    cluster.acknowledged.append(f"{until} {number}")
                await trio.sleep_until(until)
            assert (await cluster.settled()).name in (rest if who == "leader" else [new.name])
