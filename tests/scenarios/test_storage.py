"""Disks that die, fill up, fail, rot and forget."""

from __future__ import annotations

import tracemalloc
from random import Random

import pytest
import trio

from tests.scenarios.worlds import (
    DIRECTORY,
    Machines,
    SegmentDisk,
    nobody_voted_twice,
    running_machines,
    some_machines,
)
from tests.server.puppets import Puppet, append, commands, state_on
from tests.server.worlds import TIMEOUT, Say, in_virtual_time, run_seeded
from tests.storage import course as storage
from tests.storage.course import SCENARIOS, Course, Nothing, Scenario
from trioraft import CommandError, OutcomeUnknown, ServerStopped, StorageCorrupt, StorageError
from trioraft._rules.messages import AppendEntriesReply, RequestVote, RequestVoteReply
from trioraft._storage import layout
from trioraft._storage.files import Bytes
from trioraft._wire.codec import WireMessage
from trioraft.testing import DiskFault, SimulatedFiles

KILLS = (DiskFault.CRASH_BEFORE, DiskFault.TORN, DiskFault.CRASH_AFTER)
FIRST = f"{DIRECTORY}/{1:016}.log"
MIB = 1 << 20
by_name = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)


# -- D3: rot -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [16, layout.BATCH_OVERHEAD])
@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x40"])
def test_d3_no_length_on_disk_makes_anybody_allocate_it(place: int, length: bytes) -> None:
    """The lengths of a batch and of what is in it claim gigabytes; the damage is refused.

    etcd-io/etcd#14098 and #5386.
    """
    course = Course()
    log, _ = course.open()
    course.append(log, 3)
    course.close(log)
    path = f"{storage.DIRECTORY}/{1:016}.log"
    contents = bytearray(course.files.contents(path))
    batch = storage.SECOND_BATCH
    contents[batch + place : batch + place + 4] = length
    course.files.damage(path, bytes(contents))
    tracemalloc.start()
    try:
        with pytest.raises(StorageCorrupt) as caught:
            course.open()
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()
    assert (caught.value.file, caught.value.offset) == (path, batch)


@pytest.mark.parametrize("seed", range(9))
def test_d3_a_server_on_a_rotten_disk_refuses_or_has_lost_nothing(seed: int) -> None:
    """One bit anywhere: in a term, a vote, an entry, a length or a checksum.

    It names file and offset, takes no part, and the others go on; it is never elected with a log
    that lacks something.  etcd-io/etcd#14098, jepsen.io/analyses/nats-2.12.1.
    """

    async def main() -> None:
        chance = Random(f"rot {seed}")
        async with running_machines(3, seed=seed) as machines:
            for number in range(6):
                await machines.say(f"{number}")
            await machines.settled()
            victim = chance.choice(machines.names)
            sound = len(machines.disks[victim].frames)
            await machines.kill(victim)
            place = machines.files(victim).rot(chance)
            assert place is not None
            await machines.start(victim)
            await machines.leader()
            assert await machines.say("the others go on") == 7
            if machines.is_up(victim):
                assert len(machines.disks[victim].frames) >= sound
                await machines.settled()
            else:
                error = await machines.ended(victim)
                assert isinstance(error, StorageError), error
                if isinstance(error, StorageCorrupt):
                    assert error.file in place
                    assert error.offset <= int(place.rpartition(" ")[2])

    run_seeded(seed, main)


# -- D5: writes that take less -----------------------------------------------------------------


class Miserly(SimulatedFiles):
    """Takes a few bytes at a time, never the same number."""

    def __init__(self) -> None:
        super().__init__()
        self._chance = Random(5)

    def pwrite(self, file: int, data: Bytes, offset: int) -> int:
        most = self._chance.choice([1, 7, 4096, len(data)])
        return super().pwrite(file, memoryview(data)[:most], offset)


@by_name
def test_d5_however_little_a_write_takes_what_was_acknowledged_is_whole(scenario: Scenario) -> None:
    """POSIX lets a write take less than it was given, again and again."""
    course = Course(files=Miserly())
    scenario(course)
    course.files.crash(Nothing())
    course.recovers_and_goes_on()


@by_name
@pytest.mark.parametrize("then", [DiskFault.CRASH_BEFORE, DiskFault.BROKEN, DiskFault.FULL])
def test_d5_a_write_that_is_cut_short_and_then_fails_leaves_no_half_record(
    scenario: Scenario, then: DiskFault
) -> None:
    """The rest of it meets a kill, an error or a full disk; what is left is cut, not believed."""
    trial = Course(looks=False)
    scenario(trial)
    names = [call.name for call in trial.files.calls]
    for call in [number for number, name in enumerate(names, 1) if name == "pwrite"]:
        course = Course(looks=False)
        course.files.fail(call, DiskFault.SHORT)
        course.files.fail(call + 1, then)
        with pytest.raises(BaseException) as caught:
            scenario(course)
        assert type(caught.value).__name__ in ("Crash", "StorageError")
        course.looks = True
        course.files.kill()
        if call % 2:
            course.files.crash(Random(call))
        course.recovers_and_goes_on()


# -- D6, D14: full and failing disks -----------------------------------------------------------


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
@pytest.mark.parametrize("fault", [DiskFault.FULL, DiskFault.BROKEN])
@pytest.mark.parametrize("who", ["leader", "follower"])
@in_virtual_time
async def test_d6_d14_an_append_that_the_disk_refuses_is_not_acknowledged(
    who: str, fault: DiskFault, call: str
) -> None:
    """The server ends with a typed error and tries nothing again; once mended, it is as before.

    The error of a sync is not swallowed, and what was in its cache is not taken for durable: the
    power fails, too, before the server starts again.  goraft 8ca39ae (a sync's error was lost).
    """
    async with running_machines(3) as machines:
        await machines.say("before")
        leader = await machines.settled()
        victim = leader.name if who == "leader" else machines.followers()[0]
        heard = machines.overhear()
        machines.files(victim).fail_next(call, fault)
        calls = len(machines.files(victim).calls)
        last = leader.status().last_index
        if who == "leader":
            with pytest.raises(OutcomeUnknown):
                await leader.do(Say("perhaps"))
        else:
            await leader.do(Say("perhaps"))
        error = await machines.ended(victim)
        assert type(error) is StorageError
        assert ("the disk is full" in str(error)) is (fault is DiskFault.FULL)
        after = [made.name for made in machines.files(victim).calls[calls:]]
        assert after.count(call) == 1, "nothing is tried again"
        assert not [
            message
            for _, sender, _, message in heard
            if sender == victim
            and isinstance(message, AppendEntriesReply)
            and message.match_index > last
        ]
        await machines.leader()
        await machines.say("without it")
        machines.files(victim).crash(Nothing())
        await machines.start(victim)
        await machines.settled()


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
@pytest.mark.parametrize("fault", [DiskFault.FULL, DiskFault.BROKEN])
@in_virtual_time
async def test_d6_d14_a_vote_that_the_disk_refuses_is_not_said(fault: DiskFault, call: str) -> None:
    """Nor is the next one: the server has ended.  It starts again and votes for whom it likes."""
    async with running_machines(3) as machines:
        await machines.crash(*machines.names)
        await machines.start("n2")
        await trio.sleep(2 * TIMEOUT)
        term = machines["n2"].term + 5
        machines.files("n2").fail_next(call, fault)
        async with Puppet(machines, "n1").dial("n2") as line:
            with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                await line.ask(RequestVote(term, 10**6, term - 1))
        assert type(await machines.ended("n2")) is StorageError
        machines.files("n2").crash(Nothing())
        await machines.start("n2")
        await trio.sleep(2 * TIMEOUT)
        async with Puppet(machines, "n3").dial("n2") as line:
            reply = await line.ask(RequestVote(term, 10**6, term - 1))
        assert reply == RequestVoteReply(term, vote_granted=True)


# -- D7: killed at every call ------------------------------------------------------------------


@pytest.mark.parametrize("loses_power", [False, True])
@in_virtual_time
async def test_d7_a_server_killed_at_any_call_of_its_first_hours_keeps_what_it_acknowledged(
    loses_power: bool,
) -> None:
    """First start, genesis, own vote, commands; dead before, in or after every single call.

    As crash-point tests do it: Pillai et al., "All file systems are not created equal", OSDI 2014.
    """
    chance = Random(7)
    kills = KILLS[1:] if loses_power else KILLS[::2]
    call, deaths = 1, 0
    while True:
        died = False
        for kill in kills:
            async with some_machines(1, seed=call) as machines:
                machines.files("n1").fail(call, kill)
                with trio.move_on_after(1):
                    await machines.start("n1")
                    while machines.is_up("n1") and len(machines.acknowledged) < 3:
                        await say_once(machines)
                        await trio.sleep(0.01)
                died |= not machines.is_up("n1")
                if loses_power:
                    await machines.lose_power(chance, "n1")
                else:
                    await machines.kill("n1")
                await machines.start("n1")
                await machines.say("it starts again")
        if not died:
            break
        call, deaths = call + 1, deaths + 1
    assert deaths >= 20


async def say_once(machines: Machines) -> None:
    text = f"{len(machines.acknowledged)} {trio.current_time()}"
    try:
        await machines["n1"].do(Say(text))
    except (CommandError, ServerStopped):
        return
    machines.acknowledged.append(text)


@pytest.mark.parametrize("loses_power", [False, True])
@in_virtual_time
async def test_d7_a_follower_killed_at_any_call_keeps_votes_entries_and_what_replaced_them(
    loses_power: bool,
) -> None:
    """A start, a vote, an append and a conflict; dead before, in or after every single call.

    As crash-point tests do it: Pillai et al., "All file systems are not created equal", OSDI 2014.
    """
    chance = Random(77)
    async with running_machines(3) as machines:
        await machines.say("before")
        await machines.settled()
        await machines.crash(*machines.names)
        template = machines.files("n2").copy()
        one, other = Puppet(machines, "n1"), Puppet(machines, "n3")
        last, term = len(machines.disks["n2"].frames), state_on(machines.disks["n2"]).term + 5
        prev = last, term - 5
        old = commands(last + 1, *[(term, "old")] * 3)
        new = commands(last + 1, (term + 1, "new"))
        script: list[tuple[Puppet, WireMessage]] = [
            (one, RequestVote(term, 10**6, term - 1)),
            (one, append(term, prev, *[(term, "old")] * 3)),
            (other, append(term + 1, prev, (term + 1, "new"))),
        ]
        call = 1
        while True:
            died = False
            for kill in KILLS:
                disk = SegmentDisk(f"{call} {kill}")
                disk.files = template.copy()
                machines.put_disk("n2", disk)
                disk.files.fail(call, kill)
                answers = await play(machines, script)
                died |= not machines.is_up("n2")
                if loses_power:
                    await machines.lose_power(chance, "n2")
                else:
                    await machines.kill("n2")
                await machines.start("n2")
                state, tail = state_on(disk), disk.frames[last:]
                assert [*map(bytes, disk.frames[:last])] == committed(machines, last)
                if answers >= 1:
                    assert state.term >= term
                    assert state.term > term or state.voted_for == one.id
                if answers >= 2:
                    assert tail in (old, new)
                if answers >= 3:
                    assert tail == new
                    assert state.term == term + 1
                assert tail in ([], old[: len(tail)], new)
                await machines.crash("n2")
            if not died:
                break
            call += 1
        assert call > 25
        machines.put_disk("n2", SegmentDisk("the end"))
        machines.files("n2").__dict__.update(template.copy().__dict__)


def committed(machines: Machines, last: int) -> list[bytes]:
    return machines.disks["n1"].frames[:last]


async def play(machines: Machines, script: list[tuple[Puppet, WireMessage]]) -> int:
    """Start the second server and take it through the script; how many answers came."""
    await machines.start("n2")
    await trio.sleep(2 * TIMEOUT)
    answers = 0
    for puppet, question in script:
        try:
            async with puppet.dial("n2") as line:
                with trio.fail_after(0.1):
                    reply = await line.ask(question)
        except (OSError, trio.TooSlowError, trio.EndOfChannel, trio.BrokenResourceError):
            break
        assert getattr(reply, "vote_granted", True)
        assert getattr(reply, "success", True)
        answers += 1
    await trio.sleep(0.01)
    return answers


# -- D8: all lose their power at once ----------------------------------------------------------


@pytest.mark.parametrize(("size", "seed"), [(2, 0), (3, 1), (3, 2), (5, 3)])
def test_d8_a_blackout_at_any_call_of_any_disk_loses_nothing_that_was_acknowledged(
    size: int, seed: int
) -> None:
    """Under load, again and again: all machines end in one instant, in the middle of a write.

    Nothing acknowledged is gone, and nobody votes twice.  etcd-io/etcd#14143 and #14370,
    jepsen.io/analyses/nats-2.12.1 (14 % of what was acknowledged).
    """

    async def main() -> None:
        chance = Random(f"blackout {size} {seed}")
        async with running_machines(size, seed=seed) as machines:
            heard = machines.overhear()
            stop = trio.Event()
            async with trio.open_nursery() as nursery:
                for client in "abc":
                    nursery.start_soon(machines.chatter, client, stop, 0.01)
                for _ in range(8):
                    await trio.sleep(chance.uniform(0, 0.4))
                    fuse = chance.choice(machines.names)
                    machines.files(fuse).fail(chance.randint(1, 12), chance.choice(KILLS))
                    with trio.move_on_after(0.3):
                        while machines.is_up(fuse):
                            await trio.sleep(0.0005)
                    await machines.lose_power(chance, *machines.names)
                    await machines.start()
                await machines.leader()
                stop.set()
            await machines.settled()
            nobody_voted_twice(heard)
            assert len(machines.acknowledged) >= 20

    run_seeded(seed, main)


# -- D10: names --------------------------------------------------------------------------------


class Forgetful(SimulatedFiles):
    """Says that it has synced a directory, and has not."""

    def sync_directory(self, path: str) -> None:
        self._call("sync_directory", path, lambda: None)


@pytest.mark.parametrize("honest", [True, False])
def test_d10_a_new_segments_name_is_durable_before_anything_in_it_is_acknowledged(
    honest: bool,
) -> None:
    """A power cut keeps every synced page and no name that was not synced.

    With a file system that forgets names the same course of events does lose something: so the
    log cannot have forgotten to sync them.  hashicorp/raft#232; Rebello et al., ATC 2020.
    """
    for scenario in (storage.first_start, storage.rotation, storage.restart, storage.leftovers):
        course = Course(files=SimulatedFiles() if honest else Forgetful(), looks=honest)
        scenario(course)
        course.files.crash(Nothing())
        course.looks = True
        if honest:
            course.recovers_and_goes_on()
        elif scenario is not storage.first_start:
            with pytest.raises((AssertionError, StorageCorrupt)):
                course.recovers()


# -- D12: somebody else's directory ------------------------------------------------------------


@in_virtual_time
async def test_d12_directories_that_were_swapped_are_refused_before_anything_is_written() -> None:
    """Two servers are started on each other's disks; put right, they go on.

    lni/dragonboat and tigerbeetle check the same.
    """
    async with running_machines(3) as machines:
        await machines.say("before")
        await machines.settled()
        await machines.crash(*machines.names)
        machines.disks["n1"], machines.disks["n2"] = machines.disks["n2"], machines.disks["n1"]
        for name in ("n1", "n2"):
            before = machines.disks[name].kept._state
            await machines.start(name)
            error = await machines.ended(name)
            assert type(error) is StorageError
            assert "the data directory belongs to" in str(error)
            assert machines.disks[name].kept._state == before
        machines.disks["n1"], machines.disks["n2"] = machines.disks["n2"], machines.disks["n1"]
        await machines.start()
        await machines.settled()
        assert machines["n1"].state_machine.lines == ["before"]
