"""Plans of faults: drawn from a seed, every kind of them carried out and put right again."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.worlds import Room, Say
from trioraft import TrioraftError
from trioraft.testing import CALM, FAULTS, HARSH, Fault, Profile, seeded_run, simulated_cluster
from trioraft.testing._experiment import AT_ONCE
from trioraft.testing._judge import MOMENTS
from trioraft.testing._mischief import Mischief
from trioraft.testing._plan import LEADER
from trioraft.testing._simulation import RECOVERY
from trioraft.testing.strategies import fault_plans

NAMES = ("n1", "n2", "n3")


def test_there_are_at_least_twenty_kinds_of_fault_each_with_a_word_on_it() -> None:
    assert len(FAULTS) >= 20
    assert all(kind.begin.__doc__ for kind in FAULTS.values())


def test_equal_seeds_draw_equal_plans() -> None:
    plans = [HARSH.draw(Random(seed), NAMES, 10) for seed in range(20)]
    assert plans == [HARSH.draw(Random(seed), NAMES, 10) for seed in range(20)]
    assert len({str(plan) for plan in plans}) == 20


def test_a_calm_cluster_has_no_faults_and_a_harsh_one_has_them_all() -> None:
    assert CALM.draw(Random(1), NAMES, 1000) == []
    plan = HARSH.draw(Random(1), NAMES, 1000)
    assert {fault.kind for fault in plan} == FAULTS.keys()
    assert {fault.moment for fault in plan} == {None, *MOMENTS}


@pytest.mark.parametrize("servers", [1, 2, 5, 7])
def test_a_plan_names_only_servers_that_there_are(servers: int) -> None:
    names = [f"n{number}" for number in range(1, servers + 1)]
    for fault in HARSH.draw(Random(servers), names, 300):
        assert fault.server in (*names, LEADER)
        assert set(fault.others) <= set(names)
        assert fault.at >= 0


def test_a_fault_tells_itself() -> None:
    cut = Fault(1.5, "cut", "n1", ("n2",), 0.25)
    assert str(cut) == "cut: n1 with n2, from 1.500 s on, for 0.250 s"
    aimed = attrs.evolve(cut, moment="vote")
    assert str(aimed) == ("cut: whoever comes to a 'vote' with n2, after 1.500 s, for 0.250 s")


async def befalls(*plan: Fault, servers: int = 3, seconds: float = 2.0) -> Mischief:
    """Carry a plan out under load; then the cluster must be one again, in time."""
    async with simulated_cluster(Room, servers=servers, config=AT_ONCE) as cluster:
        cluster.start()
        await cluster.settled(10)
        mischief = Mischief(cluster, plan, 7)

        async def talk() -> None:
            number = 0
            while True:
                number += 1
                leader = cluster.leader
                with trio.move_on_after(0.5), suppress(TrioraftError):
                    if leader is not None:
                        await leader.do(Say(str(number)))
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            await mischief.run(seconds)
            nursery.cancel_scope.cancel()
        while await cluster.admin.take_one_in():
            await trio.sleep(0.005)
        await cluster.settled(RECOVERY * cluster.config.election_timeout)
    return mischief


@pytest.mark.unmeasured
@pytest.mark.parametrize("kind", sorted(FAULTS))
@pytest.mark.parametrize("server", ["n1", LEADER])
def test_each_kind_comes_and_is_recovered_from(kind: str, server: str) -> None:
    fault = Fault(0.3, kind, server, ("n2", "n3"), seconds=0.7, amount=0.8)
    mischief = seeded_run(3, befalls, fault)
    assert mischief.counts[kind] == 1


@pytest.mark.unmeasured
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ["kill", "power", "isolate", "crash_after_sync", "mute"])
def test_a_fault_may_wait_for_the_moment_at_which_it_hurts(kind: str, moment: str) -> None:
    # Else nobody is elected, or votes, or lacks what the others have forgotten.
    cause = {"change": "remove", "transfer": "transfer"}.get(moment, "kill")
    upset = Fault(0.2, cause, "n2" if cause == "remove" else LEADER, seconds=1.0, amount=0.9)
    fault = Fault(0.1, kind, "n1", moment=moment, amount=0.9)
    mischief = seeded_run(4, befalls, upset, fault)
    assert mischief.counts[kind] >= 1


@pytest.mark.parametrize("kind", sorted(kind for kind in FAULTS if FAULTS[kind].is_of_a_pair))
def test_a_fault_of_a_link_finds_another_end_when_its_own_is_who_it_befalls(kind: str) -> None:
    begun: list[Fault] = []

    async def main() -> None:
        async with simulated_cluster(Room) as cluster:
            cluster.start()
            await cluster.settled(10)
            mischief = Mischief(cluster, [Fault(0.1, kind, "n2", ("n2",))], 1)
            mischief.on_begin = lambda server, fault: begun.append(fault)
            await mischief.run(0.5)

    seeded_run(1, main)
    assert [fault.others for fault in begun] == [("n1",)]


def test_the_moment_comes_where_it_comes() -> None:
    begun: list[tuple[str, Fault]] = []

    async def main() -> str:
        async with simulated_cluster(Room) as cluster:
            cluster.start()
            leader = await cluster.settled(10)
            plan = [Fault(0.1, "reset", "n1", ("n2", "n3"), moment="commit")]
            mischief = Mischief(cluster, plan, 1)
            mischief.on_begin = lambda server, fault: begun.append((server, fault))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mischief.run, 1.0)
                await trio.sleep(0.2)
                await leader.do(Say("one"))
            return leader.name

    leader = seeded_run(1, main)
    assert [(server, fault.kind) for server, fault in begun] == [(leader, "reset")]
    assert leader not in begun[0][1].others


def test_what_has_not_begun_when_time_is_up_never_does() -> None:
    late = Fault(5.0, "blackout", "n1")
    never = Fault(0.1, "blackout", "n1", moment="elected")
    assert not seeded_run(1, befalls, late, never).counts


def test_disks_are_lost_one_at_a_time_and_never_a_majority() -> None:
    plan = [Fault(0.1 * n, "wipe" if n % 2 else "rot", f"n{1 + n % 3}") for n in range(1, 15)]
    mischief = seeded_run(2, befalls, *plan)
    assert mischief.counts["wipe"] + mischief.counts["rot"] == 14


def test_a_profile_of_ones_own() -> None:
    slow = Profile("slow", {"slow": 1.0}, every=(1, 1), lasts=(2, 2), aimed=0.0)
    plan = slow.draw(Random(1), NAMES, 3.5)
    assert [(fault.at, fault.kind, fault.seconds) for fault in plan] == [
        (1, "slow", 2),
        (2, "slow", 2),
        (3, "slow", 2),
    ]


@pytest.mark.unmeasured
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32 - 1), fault_plans(NAMES, seconds=2.0, most=6))
def test_hypothesis_draws_plans_and_nothing_breaks(seed: int, plan: list[Fault]) -> None:
    seeded_run(seed, befalls, *plan)
