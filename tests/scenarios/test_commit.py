"""What is committed, and what is applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, ClassVar

import attrs
import pytest
import trio

import trioraft
import trioraft._applier
import trioraft._core
import trioraft._recent
from tests.scenarios.worlds import lose, running_machines, said_by, some_machines
from tests.server.worlds import (
    TIMEOUT,
    Cluster,
    Room,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
    run_seeded,
)
from trioraft import Applied, NotLeaderError, OutcomeUnknown, Server
from trioraft._rules.messages import AppendEntries, AppendEntriesReply
from trioraft._wire.codec import WireMessage
from trioraft._wire.frames import identity


def has_entries(message: WireMessage) -> bool:
    return isinstance(message, AppendEntries) and len(message.entries) > 0


def terms_on(cluster: Cluster, name: str) -> list[int]:
    return [identity(frame)[1] for frame in cluster.disks[name].frames]


async def attempt(server: Server, text: str, outcomes: list[object]) -> None:
    try:
        outcomes.append(await server.do(Say(text)))
    except (NotLeaderError, OutcomeUnknown) as error:
        outcomes.append(error.outcome)


# -- C1: figure 8 ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["overwritten", "committed"])
def test_c1_figure_8_in_full_by_five_real_servers(
    ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All five stages, four crashes: an entry of an old term on three disks is not yet committed.

    It may be overwritten (d), unless one of the leader's own term reaches a majority, too (e).
    The leader knows here that a majority has the entry.  Raft 5.4.2; bakwc/PySyncObj#169.
    """
    # An entry a message, so that the old one may arrive without the new one.
    for bound in ("START", "LEAST", "MAX_APPEND_BYTES"):
        monkeypatch.setattr(trioraft._pace, bound, 1)

    @in_virtual_time
    async def play() -> None:
        async with a_running_cluster(5) as cluster, trio.open_nursery() as nursery:
            s1 = (await cluster.settled()).name
            s2, *rest = cluster.followers()
            term, index = cluster[s1].term, len(cluster.disks[s1].frames) + 1
            outcomes: list[object] = []

            # (a) The leader has its entry on one more disk, and crashes.
            lose(cluster, lambda _, to, m: to in rest and has_entries(m))
            nursery.start_soon(attempt, cluster[s1], "old", outcomes)
            await cluster.until(lambda: len(terms_on(cluster, s2)) == index)
            await cluster.crash(s1)
            await cluster.until(lambda: outcomes)
            assert outcomes == ["unknown"]

            # (b) One of the other three is elected, writes its own entry there, and crashes.
            cluster.heal()
            cluster.isolate(s2)
            lose(cluster, lambda _, to, m: has_entries(m))
            s5 = await cluster.until(
                lambda: next((n for n in rest if len(terms_on(cluster, n)) == index), None)
            )
            newer = cluster[s5].term
            await cluster.crash(s5)
            s3, s4 = (name for name in rest if name != s5)
            assert [terms_on(cluster, n)[index - 1 :] for n in (s1, s2, s3, s4, s5)] == [
                [term], [term], [], [], [newer],
            ]  # fmt: skip
            assert newer > term

            # (c) The first one leads again and goes on with its entry, now on four disks of five.
            cluster.heal()
            cluster.isolate(s2)
            heard = lose(
                cluster,
                lambda _, to, m: (
                    isinstance(m, AppendEntries)
                    and bool(m.entries.runs)
                    and m.entries.runs[-1][1] > newer
                ),
            )
            await cluster.start(s1)
            again = cluster[s1]
            await cluster.until(
                lambda: [again.peers[n].match_index for n in (s3, s4)] == [index, index]
            )
            await trio.sleep(0.1)
            assert again.state == "leader"
            assert again.peers[s3].match_index == again.peers[s4].match_index == index
            assert again.commit_index < index, "it is on a majority, and not committed"
            own = again.term
            commits = [m.leader_commit for m in said_by(heard, s1, AppendEntries)]
            assert max(commits) < index

            if ending == "committed":
                # (e) An entry of its own term follows: both are committed.
                cluster.network.tap = None
                cluster.heal()
                cluster.isolate(s2)
                await cluster.until(lambda: cluster[s3].last_applied >= index)
            await cluster.crash(s1)

            # (d) The one with the newer entry is back, among those who elected it before.
            cluster.heal()
            cluster.network.tap = None
            if ending == "overwritten":
                cluster.isolate(s2)
            await cluster.start(s5)
            last = await cluster.leader(*((s3, s4, s5) if ending == "overwritten" else ()))
            assert (last.name == s5) == (ending == "overwritten")
            assert last.term > own
            cluster.heal()
            await cluster.restart(last.name)
            await cluster.start()
            await cluster.settled()
            assert await cluster.say("the end") == (1 if ending == "overwritten" else 2)
            await cluster.settled()
            lines = ["the end"] if ending == "overwritten" else ["old", "the end"]
            assert all(server.state_machine.lines == lines for server in cluster.up)

    play()


# -- C3, C5: what a majority is ----------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7])
@in_virtual_time
async def test_c3_c5_a_command_is_committed_by_the_last_disk_of_a_majority(size: int) -> None:
    """Disks of all speeds: the answer comes when the middle one has it, not before, not later.

    hashicorp/raft 163a55f, databendlabs/openraft d60f1e85, goraft 38d588f.
    """
    async with a_running_cluster(size) as cluster:
        leader = await cluster.settled()
        order = [leader.name, *cluster.followers()]
        for place, name in enumerate(order):
            cluster.disks[name].seconds = 0.01 * (place + 1)
        needed = size // 2 + 1
        for number in range(3):
            began = trio.current_time()
            await leader.do(Say(f"{number}"))
            took = trio.current_time() - began
            assert 0.01 * needed <= took <= 0.01 * needed + 0.005
            await trio.sleep(0.2)


# -- C8: applying is taken up again where it belongs -------------------------------------------


@pytest.mark.parametrize("cache", [0, 1 << 26])
def test_c8_a_server_that_dies_while_it_applies_skips_nothing_and_repeats_nothing(
    cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of a long backlog, time after time, between any two turns.

    etcd-io/raft 8ecce32 and 2e0653d.
    """
    monkeypatch.setattr(trioraft._recent, "LOG_CACHE_BYTES", cache)
    monkeypatch.setattr(trioraft._applier, "_READ_BYTES", 1000)

    class Mortal(Room):
        """Has its server killed while it applies."""

        kill: Callable[[], None] | None = None
        at = 0

        def heard(self, text: str, applied: Applied) -> None:
            super().heard(text, applied)
            if len(self.lines) == self.at and self.kill is not None:
                self.kill()

    @in_virtual_time
    async def check() -> None:
        chance = Random(8)
        async with a_running_cluster(3, machine=Mortal) as cluster:
            leader = await cluster.settled()
            async with trio.open_nursery() as nursery:
                for number in range(700):
                    nursery.start_soon(leader.do, Say(f"{number}"))
            await cluster.settled()
            one, stopped_at = cluster.followers()[0], set()
            for _ in range(12):
                room = Mortal()
                room.at = chance.randrange(1, 690)
                await cluster.restart(one, state_machine=room)
                room.kill = cluster._scopes[one].cancel
                await cluster.ended(one)
                assert room.at <= len(room.lines) < 700
                assert [entry.index for entry in room.applied] == list(
                    range(2, cluster[one].last_applied + 1)
                )
                stopped_at.add(len(room.lines))
            assert len(stopped_at) > 5
            await cluster.start(one)
            await cluster.settled()
            assert len(cluster[one].state_machine.lines) == 700

    check()


# -- C9: what a machine raises -----------------------------------------------------------------


@trioraft.command("seventh")
@attrs.frozen
class Seventh:
    """Raises at the seventh call, on the servers that `fragile` names."""

    def apply(self, room: Room, applied: Applied) -> int:
        room.heard("seventh", applied)
        if len(room.lines) == 7:
            error = {"alike": ValueError, "differs": OSError}[applied.context]
            raise error("the seventh")
        return len(room.lines)


class SeventhRoom(Room):
    commands: ClassVar[Sequence[type[Any]]] = (*Room.commands, Seventh)


@in_virtual_time
async def test_c9_what_raises_on_all_servers_alike_is_applied_on_all_alike() -> None:
    """The caller gets the error, no entry is skipped, and all machines are the same afterwards.

    databendlabs/openraft dd29c2e9.
    """
    async with a_cluster(3, machine=SeventhRoom) as cluster:
        leader = await cluster.formed(context="alike")
        for number in range(1, 10):
            if number == 7:
                with pytest.raises(ValueError, match="the seventh"):
                    await leader.do(Seventh())
            else:
                assert await leader.do(Seventh()) == number
        await cluster.settled()
        await cluster.restart(*cluster.names, context="alike")
        await cluster.settled()
        applied = [server.state_machine.applied for server in cluster.up]
        assert applied[0] == applied[1] == applied[2]
        assert len(applied[0]) == 9


@in_virtual_time
async def test_c9_what_only_this_machine_may_have_raised_stops_its_server_at_that_entry() -> None:
    """With a typed error, and at that entry again after a restart; the others go on.

    databendlabs/openraft dd29c2e9.
    """
    async with a_cluster(3, machine=SeventhRoom) as cluster:
        for name, context in (("n1", "differs"), ("n2", "alike"), ("n3", "alike")):
            await cluster.start(name, context=context)
        leader = await cluster.settled()
        if leader.name == "n1":
            await cluster.restart("n1", context="differs")
            leader = await cluster.leader("n2", "n3")
        for _ in range(6):
            await leader.do(Seventh())
        await cluster.settled()
        with pytest.raises(ValueError, match="the seventh"):
            await leader.do(Seventh())
        for _ in range(2):
            error = await cluster.ended("n1")
            assert type(error) is OSError
            assert len(cluster["n1"].state_machine.applied) == 7
            assert cluster["n1"].last_applied == cluster["n1"].state_machine.applied[-2].index
            assert await leader.do(Seventh()) > 7
            await cluster.start("n1", context="differs")
        assert type(await cluster.ended("n1")) is OSError
        await cluster.start("n1", context="alike")
        await cluster.settled()


# -- C10: nothing is promised before it is durable ---------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
def test_c10_what_was_acknowledged_survives_a_power_cut_in_that_very_instant(size: int) -> None:
    """Each answer is followed at once by the end of all machines and of all that was not synced.

    etcd-io/etcd#10508 and #14370, jepsen.io/analyses/nats-2.12.1.
    """

    async def main() -> None:
        chance = Random(f"answers {size}")
        async with some_machines(size) as machines:
            await machines.formed()
            for number in range(8):
                await machines.say(f"{number}")
                await machines.lose_power(chance, *machines.names)
                await machines.start()
            await machines.settled()
            assert machines["n1"].state_machine.lines == [f"{number}" for number in range(8)]

    run_seeded(size, main)


@pytest.mark.parametrize("disk", [0.004, 0.06])
@in_virtual_time
async def test_c10_a_follower_that_dies_before_its_disk_has_an_entry_had_not_acknowledged_it(
    disk: float,
) -> None:
    """What it said it has, it has after a power cut; what it has not, it never said.

    However slow its disk, and however many heartbeats it answers meanwhile.  etcd-io/etcd#10508.
    """
    async with running_machines(3, disk=disk) as machines:
        leader = await machines.settled()
        one = machines.followers()[0]
        chance = Random(10)
        for number in range(14):
            heard = machines.overhear()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leader.do, Say(f"{number}"))
                await trio.sleep(chance.uniform(0, 2 * disk))
                await machines.lose_power(chance, one)
            said = [m.match_index for m in said_by(heard, one, AppendEntriesReply) if m.success]
            await machines.start(one)
            assert len(machines.disks[one].frames) >= max(said, default=0)
            await machines.settled()


@in_virtual_time
async def test_c10_a_follower_applies_nothing_that_no_disk_has_but_its_own() -> None:
    """The leader's disk is slow, the other follower is gone: one disk of three is no majority.

    etcd-io/etcd#10508.
    """
    async with running_machines(3) as machines:
        leader = await machines.settled()
        one, gone = machines.followers()
        await machines.kill(gone)
        machines.disks[leader.name].seconds = 0.4
        before = machines[one].last_applied
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.do, Say("slowly"))
            await trio.sleep(0.3)
            assert len(machines.disks[one].frames) > len(machines.disks[leader.name].frames)
            assert machines[one].last_applied == before
            assert machines[one].commit_index == leader.commit_index == before
        await machines.until(lambda: machines[one].state_machine.lines == ["slowly"], within=0.1)
        machines.disks[leader.name].seconds = 0.0
        await machines.start(gone)
        await machines.settled()


# -- C12: bounds that leak ---------------------------------------------------------------------


@in_virtual_time
async def test_c12_ten_thousand_commands_that_come_to_nothing_leave_room_for_the_next() -> None:
    """Refused, withdrawn, abandoned and lost with the leadership: none goes on counting.

    etcd-io/raft a370b6f and e419ba5.
    """
    async with a_running_cluster(3) as cluster:
        outcomes: list[object] = []
        for _ in range(4):
            leader = await cluster.settled()
            follower = cluster[cluster.followers()[0]]
            async with trio.open_nursery() as nursery:
                for number in range(500):
                    nursery.start_soon(attempt, follower, f"{number}", outcomes)
            with trio.move_on_after(0.001):
                async with trio.open_nursery() as nursery:
                    for number in range(1000):
                        nursery.start_soon(leader.do, Say(f"given up {number}"))
            cluster.isolate(leader.name)
            async with trio.open_nursery() as nursery:
                for number in range(1000):
                    nursery.start_soon(attempt, leader, f"lost {number}", outcomes)
            cluster.heal()
            await cluster.leader()
            for server in cluster.up:
                await cluster.until(lambda server=server: server._core.tickets._count == 0)
                assert server._core.tickets._bytes == 0
        assert outcomes.count("not done") == 2000
        assert outcomes.count("unknown") == 4000
        await cluster.settled()
        assert await cluster.say("next") > 0
        assert trio.current_time() <= 40 * TIMEOUT
