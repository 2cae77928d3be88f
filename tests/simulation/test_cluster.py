"""A simulated cluster moved by hand: every verb does what it says."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.server.worlds import Room, Say
from trioraft import OutcomeUnknown, StorageCorrupt, StorageError
from trioraft.testing import (
    DiskFault,
    NotInTime,
    PropertyBroken,
    SimulatedCluster,
    seeded_run,
    simulated_cluster,
)


def in_a_cluster(
    **options: Any,
) -> Callable[[Callable[[SimulatedCluster], Awaitable[None]]], Callable[[], None]]:
    """The test gets a cluster of three that has settled."""

    def wrap(test: Callable[[SimulatedCluster], Awaitable[None]]) -> Callable[[], None]:
        async def main() -> None:
            async with simulated_cluster(Room, **options) as cluster:
                cluster.start()
                await cluster.settled(10)
                await test(cluster)

        @functools.wraps(test)
        def run() -> None:
            seeded_run(1, main)

        del run.__wrapped__  # type: ignore[attr-defined]  pytest would ask for a fixture
        return run

    return wrap


def others(cluster: SimulatedCluster) -> tuple[str, str, str]:
    """The leader and the two others, by name."""
    leader = cluster.leader
    assert leader is not None
    one, other = [name for name in cluster.names if name != leader.name]
    return leader.name, one, other


async def say(cluster: SimulatedCluster, text: str) -> None:
    leader = cluster.leader
    assert leader is not None
    await leader.do(Say(text))


@in_a_cluster()
async def test_a_killed_server_keeps_what_it_wrote(cluster: SimulatedCluster) -> None:
    await say(cluster, "one")
    leader, *_ = others(cluster)
    cluster.kill(leader)
    await cluster.ended(leader)
    assert not cluster.hosts[leader].up
    assert cluster[leader].state == "stopped"
    await cluster.until(lambda: cluster.leader, 2)
    await say(cluster, "two")
    cluster.start(leader)
    cluster.start(leader)  # it is up already
    await cluster.settled(2)
    assert cluster[leader].state_machine.lines == ["one", "two"]
    assert cluster.hosts[leader].lives == 2


@in_a_cluster()
async def test_a_black_out_of_all_loses_nothing_that_was_acknowledged(
    cluster: SimulatedCluster,
) -> None:
    await say(cluster, "one")
    cluster.power_off()
    await cluster.ended()
    assert cluster.leader is None
    cluster.start()
    await cluster.settled(5)
    assert cluster["n1"].state_machine.lines == ["one"]


@in_a_cluster()
async def test_a_machine_without_power_tells_nobody(cluster: SimulatedCluster) -> None:
    leader, one, _ = others(cluster)
    cluster.power_off(one)
    await cluster.ended(one)
    await trio.sleep(0.1)
    assert cluster[leader].peers[one].connected
    await trio.sleep(1)
    assert not cluster[leader].peers[one].connected


@in_a_cluster()
async def test_a_killed_process_is_missed_at_once(cluster: SimulatedCluster) -> None:
    leader, one, _ = others(cluster)
    cluster.kill(one)
    await cluster.ended(one)
    await trio.sleep(0.1)
    assert not cluster[leader].peers[one].connected


@in_a_cluster()
async def test_a_stopped_server_ends_in_good_order(cluster: SimulatedCluster) -> None:
    _, one, _ = others(cluster)
    cluster.stop(one)
    await cluster.ended(one)
    cluster.start(one)
    await cluster.settled(2)


@in_a_cluster()
async def test_a_paused_leader_is_replaced_and_follows_when_it_goes_on(
    cluster: SimulatedCluster,
) -> None:
    leader, *_ = others(cluster)
    term = cluster[leader].term
    cluster.pause(leader, 2)
    cluster.hosts[leader].clock.now()
    assert not cluster.hosts[leader].runs
    assert cluster.hosts[leader].up
    assert cluster[leader] not in cluster.servers
    await trio.sleep(1.9)
    assert cluster[leader].state == "leader", "it has not run, so it does not know"
    assert cluster[leader].term == term
    now = cluster.leader
    assert now is not None
    assert now.name != leader
    await trio.sleep(0.3)
    assert cluster[leader].state == "follower"
    await cluster.settled(2)


@in_a_cluster()
async def test_who_is_killed_while_paused_comes_back_unpaused(cluster: SimulatedCluster) -> None:
    _, one, _ = others(cluster)
    cluster.pause(one, 100)
    await trio.sleep(0.1)
    cluster.kill(one)
    await cluster.ended(one)
    cluster.start(one)
    await cluster.settled(2)


@in_a_cluster()
async def test_who_is_restarted_within_a_partition_is_still_cut_off(
    cluster: SimulatedCluster,
) -> None:
    leader, one, _ = others(cluster)
    cluster.isolate(one)
    cluster.power_off(one)
    await cluster.ended(one)
    cluster.start(one)
    await trio.sleep(1)
    assert not cluster[leader].peers[one].connected
    assert cluster[one].leader is None
    cluster.heal_all()
    await cluster.settled(2)


@in_a_cluster()
async def test_a_disk_that_was_told_to_fail_is_excused_once(cluster: SimulatedCluster) -> None:
    _, one, _ = others(cluster)
    cluster.break_disk(one, "fdatasync", DiskFault.CRASH_AFTER, loses_power=True)
    await say(cluster, "one")
    await cluster.ended(one)
    assert not cluster.hosts[one].excused
    assert not cluster.hosts[one].loses_power
    cluster.start(one)
    await cluster.settled(2)


@in_a_cluster()
async def test_a_command_at_a_leader_that_is_cut_off_is_unknown(cluster: SimulatedCluster) -> None:
    leader, *_ = others(cluster)
    cluster.isolate(leader)
    with pytest.raises(OutcomeUnknown):
        await cluster[leader].do(Say("one"))
    await cluster.until(lambda: cluster.leader, 2)
    cluster.heal_all()
    await cluster.settled(2)


@in_a_cluster(servers=5)
async def test_a_majority_goes_on_without_the_rest(cluster: SimulatedCluster) -> None:
    cluster.split(["n1", "n2"], ["n3", "n4", "n5"])
    await trio.sleep(1)
    leader = cluster.leader
    assert leader is not None
    assert leader.name in ("n3", "n4", "n5")
    await say(cluster, "one")
    for name in ("n1", "n2"):
        for other in ("n3", "n4", "n5"):
            cluster.heal(name, other)
    await cluster.settled(2)


@in_a_cluster()
async def test_a_server_that_only_hears_or_only_speaks_does_no_harm(
    cluster: SimulatedCluster,
) -> None:
    leader, one, _ = others(cluster)
    for name in cluster.names:
        if name != one:
            cluster.silence(one, name)
    await trio.sleep(3)
    assert cluster[leader].state == "leader"
    await say(cluster, "one")
    cluster.heal_all()
    await cluster.settled(3)


@in_a_cluster()
async def test_slow_thin_and_disorderly_lines_still_carry(cluster: SimulatedCluster) -> None:
    leader, one, other = others(cluster)
    cluster.slow(leader, one, 0.01, 0.03)
    cluster.throttle(leader, other, 50_000)
    cluster.disorder(one, leader, lose=0.2, repeat=0.3, reorder=0.3)
    cluster.reset(one, other)
    for number in range(10):
        await say(cluster, str(number))
    cluster.heal_all()
    await cluster.settled(3)
    assert cluster[one].state_machine.lines == list("0123456789")


@in_a_cluster()
async def test_a_disk_that_refuses_a_sync_ends_its_server_and_no_other(
    cluster: SimulatedCluster,
) -> None:
    leader, one, _ = others(cluster)
    ended = []
    cluster.on_end = lambda host: ended.append(host.name)
    cluster.break_disk(one, "fdatasync", DiskFault.BROKEN)
    await say(cluster, "one")
    await cluster.ended(one)
    assert ended == [one]
    assert cluster[leader].state == "leader"
    cluster.start(one)
    await cluster.settled(2)


async def wreck(cluster: SimulatedCluster, spoil: Callable[[str], None]) -> str:
    for number in range(20):
        await say(cluster, str(number))
    await cluster.settled(2)
    _, one, other = others(cluster)
    cluster.kill(one)
    await cluster.ended(one)
    assert cluster.may_lose(one)
    spoil(one)
    assert cluster.hosts[one].lost
    assert not cluster.may_lose(other), "one of three is all that may be lost"
    cluster.start(one)
    return one


@in_a_cluster()
async def test_a_wiped_server_stays_out(cluster: SimulatedCluster) -> None:
    one = await wreck(cluster, cluster.wipe)
    await trio.sleep(2)
    assert cluster[one].term == 0
    assert cluster[one].last_applied == 0
    await say(cluster, "on")
    await cluster.settled(2)
    assert "wiped" in cluster.describe()


@in_a_cluster()
async def test_a_rotten_disk_is_refused_or_does_not_matter(cluster: SimulatedCluster) -> None:
    await wreck(cluster, cluster.rot)
    await trio.sleep(2)
    await say(cluster, "on")
    await cluster.settled(2)
    assert "rotten" in cluster.describe()


@in_a_cluster()
async def test_no_disk_is_lost_that_holds_the_last_copy_of_a_quorum(
    cluster: SimulatedCluster,
) -> None:
    leader, one, other = others(cluster)
    cluster.isolate(other)
    await say(cluster, "one")
    assert not cluster.may_lose(leader)
    assert not cluster.may_lose(one)
    assert cluster.may_lose(other)


@in_a_cluster()
async def test_what_does_not_come_to_hold_says_how_all_are(cluster: SimulatedCluster) -> None:
    cluster.kill("n1")
    await cluster.ended("n1")
    cluster.pause("n2", 100)
    with pytest.raises(NotInTime, match=r"within 0.5 s\nn1:  down\nn2: paused"):
        await cluster.until(lambda: None, 0.5)


@in_a_cluster(websockets=True)
async def test_the_real_websocket_code_carries_it_too(cluster: SimulatedCluster) -> None:
    await say(cluster, "one")
    leader, *_ = others(cluster)
    cluster.kill(leader)
    await cluster.until(lambda: cluster.leader, 2)
    await say(cluster, "two")
    cluster.start()
    await cluster.settled(2)


def test_a_server_that_fails_without_a_fault_fails_the_test() -> None:
    async def main() -> None:
        async with simulated_cluster(Room) as cluster:
            cluster.start()
            await cluster.settled(10)
            cluster.hosts["n1"].files.fail_next("fdatasync", DiskFault.BROKEN)
            await say(cluster, "one")
            await trio.sleep(1)

    with pytest.raises(StorageError):
        seeded_run(1, main)


def test_a_broken_property_comes_out_as_it_is() -> None:
    async def main() -> None:
        async with simulated_cluster(Room) as cluster:
            cluster.start()
            await cluster.settled(10)
            cluster.judge.committed[0] = 77  # as if somebody else had seen another commit
            cluster.kill("n1")
            cluster.start("n1")
            await cluster.ended("n1")
            cluster.start("n1")
            await trio.sleep(5)

    with pytest.raises(PropertyBroken, match="committed"):
        seeded_run(1, main)


def test_damage_that_nobody_owned_up_to_fails_the_test() -> None:
    async def main() -> None:
        async with simulated_cluster(Room) as cluster:
            cluster.start()
            await cluster.settled(10)
            for number in range(5):
                await say(cluster, str(number))
            cluster.kill("n1")
            await cluster.ended("n1")
            cluster.hosts["n1"].files.flip("/n1/0000000000000001.log", 12300, 3)
            cluster.start("n1")
            await trio.sleep(1)

    with pytest.raises(StorageCorrupt):
        seeded_run(1, main)
