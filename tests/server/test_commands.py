"""What becomes of a command: its result, surely nothing, or nobody knows."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import pytest
import trio

import trioraft
import trioraft._tickets
from tests.server.puppets import state_on
from tests.server.worlds import (
    TIMEOUT,
    Disk,
    Lines,
    LoudRoom,
    Refuse,
    Room,
    Say,
    Shout,
    Stranger,
    a_cluster,
    a_running_cluster,
    commands_in,
    in_virtual_time,
    run_seeded,
)
from trioraft import (
    Anything,
    Applied,
    CommandRejected,
    Config,
    NotLeaderError,
    OutcomeUnknown,
    ProtocolError,
    Server,
    ServerStopped,
)
from trioraft._limits import MAX_COMMAND_BYTES
from trioraft._wire.strict import unpack


@trioraft.command("explode")
@attrs.frozen
class Explode:
    """Raises what differs from server to server, where the context says so."""

    kind: str

    def apply(self, room: Room, applied: Applied) -> str:
        room.heard("explode", applied)
        if applied.context == "fragile":
            raise _KINDS[self.kind]("no more")
        return "survived"


class Horror(BaseException):
    """Not even an Exception."""


_KINDS: dict[str, type[BaseException]] = {
    "memory": MemoryError,
    "recursion": RecursionError,
    "disk": OSError,
    "horror": Horror,
}


@trioraft.command("raise")
@attrs.frozen
class Raise:
    """Raises what is the same everywhere."""

    kind: str

    def apply(self, room: Room, applied: Applied) -> None:
        room.heard(f"raise {self.kind}", applied)
        errors: dict[str, Exception] = {
            "value": ValueError("bad"),
            "own": Grievance("bad"),
            "group": ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
            "assertion": AssertionError(),
            "unknown": OutcomeUnknown("a lie", b""),
        }
        raise errors[self.kind]


class Grievance(Exception):
    pass


@trioraft.command("typed")
@attrs.frozen
class Typed:
    number: int
    text: str = ""
    data: bytes = b""
    parts: tuple[str, ...] = ()

    def apply(self, room: Room, applied: Applied) -> tuple[Any, ...]:
        room.heard(repr(self), applied)
        return (self.number, self.text, self.data, self.parts)


@trioraft.query("broken")
@attrs.frozen
class Broken:
    def answer(self, room: Room) -> None:
        raise LookupError("nothing there")


class WildRoom(Room):
    commands: ClassVar[Sequence[type[Any]]] = (*Room.commands, Explode, Raise, Typed, Broken)


# -- results -----------------------------------------------------------------------------------


@in_virtual_time
async def test_do_returns_what_apply_returned() -> None:
    async with a_running_cluster(3, machine=WildRoom) as cluster:
        leader = await cluster.settled()
        assert await leader.do(Say("one")) == 1
        assert await leader.do(Say("two")) == 2
        assert await leader.do(Typed(7, "é", b"\x00\xff", ("a", "b"))) == (
            7,
            "é",
            b"\x00\xff",
            ("a", "b"),
        )


@pytest.mark.parametrize("kind", ["value", "own", "group", "assertion", "unknown"])
@in_virtual_time
async def test_c9_what_apply_raises_reaches_the_caller_and_stops_nobody(kind: str) -> None:
    async with a_running_cluster(3, machine=WildRoom) as cluster:
        leader = await cluster.settled()
        with pytest.raises(Exception) as caught:
            await leader.do(Raise(kind))
        expected = {
            "value": ValueError,
            "own": Grievance,
            "group": ExceptionGroup,
            "assertion": AssertionError,
            "unknown": OutcomeUnknown,
        }
        assert type(caught.value) is expected[kind]
        assert await leader.do(Say("after")) == 2
        await cluster.settled()
        await cluster.restart(*cluster.names)
        await cluster.settled()
        for server in cluster.up:
            assert server.state_machine.lines == [f"raise {kind}", "after"]


@pytest.mark.parametrize("kind", ["memory", "recursion", "disk"])
@in_virtual_time
async def test_what_may_differ_between_servers_stops_its_server_with_the_bare_error(
    kind: str,
) -> None:
    async with a_cluster(3, machine=WildRoom) as cluster:
        await cluster.start("n1", context="fragile")
        await cluster.start("n2", "n3", context="solid")
        leader = await cluster.settled()
        if leader.name == "n1":
            with pytest.raises(OutcomeUnknown):
                await leader.do(Explode(kind))
        else:
            assert await leader.do(Explode(kind)) == "survived"
        error = await cluster.ended("n1")
        assert type(error) is _KINDS[kind]
        assert any("entry" in note for note in error.__notes__)
        await cluster.leader("n2", "n3")
        assert await cluster.say("the others go on") == 2
        assert cluster["n1"].state == "stopped"
        with pytest.raises(ServerStopped):
            await cluster["n1"].do(Say("no"))


@in_virtual_time
async def test_not_even_an_exception_stops_the_server_and_comes_bare() -> None:
    async with a_cluster(1, machine=WildRoom) as cluster:
        server = cluster.make("n1", context="fragile")

        async def serve() -> None:
            with pytest.raises(Horror):
                await server.serve()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await cluster.until(lambda: server.state == "leader")
            with pytest.raises(OutcomeUnknown):
                await server.do(Explode("horror"))
        assert not server.running


@in_virtual_time
async def test_the_command_that_stopped_a_server_stops_it_again_at_the_next_start() -> None:
    """It is not skipped, so the machine can't diverge; a repaired machine goes on."""
    async with a_cluster(3, machine=WildRoom) as cluster:
        await cluster.start("n1", context="fragile")
        await cluster.start("n2", "n3")
        await cluster.settled()
        with contextlib.suppress(OutcomeUnknown):
            await (await cluster.leader()).do(Explode("memory"))
        assert isinstance(await cluster.ended("n1"), MemoryError)
        await cluster.leader("n2", "n3")
        await cluster.start("n1", context="fragile")
        assert isinstance(await cluster.ended("n1"), MemoryError)
        await cluster.start("n1", context="solid")
        await cluster.settled()


@in_virtual_time
async def test_entries_are_applied_in_order_with_their_own_index_term_and_time() -> None:
    async with a_running_cluster(3) as cluster:
        began = trio.current_time()
        for number in range(10):
            await cluster.say(f"{number}")
            await trio.sleep(1)
        await cluster.restart((await cluster.settled()).name)
        await cluster.say("in another term")
        await cluster.settled()
        for server in cluster.up:
            applied = server.state_machine.applied
            assert [entry.index for entry in applied] == sorted(entry.index for entry in applied)
            assert [entry.term for entry in applied] == [
                cluster.history[entry.index].term for entry in applied
            ]
            times = [entry.time for entry in applied]
            assert times == sorted(times)
            assert times[9] - times[0] == pytest.approx(9, abs=0.1)
            assert times[0] == pytest.approx(1_700_000_000 + began, abs=1)
            assert applied == cluster["n1"].state_machine.applied
            assert applied[-1].term > applied[0].term


@in_virtual_time
async def test_the_time_of_entries_follows_no_jump_of_a_wall_clock() -> None:
    class Jumping(trioraft._clock.Clock):
        jump = 0.0

        def utc(self) -> float:
            return 1_800_000_000.0 + self.jump

    async with a_cluster(3) as cluster:
        clock = Jumping()
        await cluster.start(clock=clock)
        await cluster.settled()
        await cluster.say("before")
        for jump in (-3600.0, 7200.0):
            clock.jump = jump
            await cluster.restart((await cluster.settled()).name, clock=clock)
            await cluster.say(f"{jump}")
        await cluster.settled()
        times = [applied.time for applied in cluster["n1"].state_machine.applied]
        assert times == sorted(times)
        assert times[-1] - times[0] <= 10


@in_virtual_time
async def test_context_is_each_servers_own() -> None:
    async with a_cluster(3) as cluster:
        for name in cluster.names:
            await cluster.start(name, context={"me": name})
        await cluster.settled()
        await cluster.say("who am I")
        await cluster.settled()
        for name in cluster.names:
            assert cluster[name].context == {"me": name}
            assert cluster[name].state_machine.applied[0].context == {"me": name}


# -- surely not done ---------------------------------------------------------------------------


@in_virtual_time
async def test_g66_who_does_not_lead_says_who_does() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        for name in cluster.followers():
            with pytest.raises(NotLeaderError) as caught:
                await cluster[name].do(Say("wrong door"))
            error = caught.value
            assert (error.leader, error.address) == (leader.name, f"mem://{leader.name}")
            assert error.term == leader.term
            assert error.outcome == "not done"
            assert leader.name in str(error)


@in_virtual_time
async def test_without_a_leader_the_error_names_nobody() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        lone = cluster.followers()[0]
        await cluster.crash(*[name for name in cluster.names if name != lone])
        await trio.sleep(1)
        with pytest.raises(NotLeaderError) as caught:
            await cluster[lone].do(Say("hello?"))
        assert (caught.value.leader, caught.value.address) == (None, None)
        assert leader.name not in str(caught.value)


class Plain:
    pass


@pytest.mark.parametrize(
    "given",
    [
        Shout("unknown"),
        Lines(),
        Typed("7"),  # type: ignore[arg-type]
        Typed(7, text=b"7"),  # type: ignore[arg-type]
        Typed(7.0),  # type: ignore[arg-type]
        Typed(True),
        Typed(7, parts=[1]),  # type: ignore[arg-type]
        Typed(1 << 70),
        Say("\ud800"),
        Say("x" * (MAX_COMMAND_BYTES + 1)),
        Plain(),
        None,
        "say",
        Say,
        b"\x00",
    ],
    ids=lambda given: f"{given!r:.40}",
)
@in_virtual_time
async def test_what_is_rejected_never_enters_the_log(given: Any) -> None:
    async with a_running_cluster(3, machine=WildRoom) as cluster:
        leader = await cluster.settled()
        before = leader.status().last_index
        with pytest.raises(CommandRejected) as caught:
            await leader.do(given)
        assert caught.value.outcome == "not done"
        assert await leader.do(Say("next")) == 1
        assert leader.status().last_index == before + 1


@in_virtual_time
async def test_the_largest_command_goes_through() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        assert await leader.do(Say("x" * (MAX_COMMAND_BYTES - 20))) == 1
        await cluster.settled()


@in_virtual_time
async def test_a_command_that_changes_after_do_began_is_applied_as_it_was() -> None:
    @trioraft.command("listed")
    @attrs.define
    class Listed:
        texts: list[str]

        def apply(self, room: Room, applied: Applied) -> int:
            room.heard(",".join(self.texts), applied)
            return len(self.texts)

    class ListRoom(Room):
        commands: ClassVar[Sequence[type[Any]]] = (Listed,)

    async with a_running_cluster(3, machine=ListRoom) as cluster:
        leader = await cluster.settled()
        command = Listed(["a"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.do, command)
            await trio.sleep(0.0005)
            command.texts.append("b")
        await cluster.settled()
        assert all(server.state_machine.lines == ["a"] for server in cluster.up)


@in_virtual_time
async def test_a_rolling_upgrade_stops_nobody() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.say("old")
        for name in cluster.names:
            leader = await cluster.settled()
            with pytest.raises(CommandRejected):
                await leader.do(Shout("too early"))
            await cluster.restart(name, state_machine=LoudRoom())
        leader = await cluster.settled()
        assert await leader.do(Shout("now")) == "NOW"
        await cluster.settled()
        assert {tuple(server.state_machine.lines) for server in cluster.up} == {("old", "NOW")}


@in_virtual_time
async def test_a_member_that_is_down_blocks_only_the_commands_that_it_does_not_know() -> None:
    async with a_running_cluster(3) as cluster:
        await cluster.crash("n3")
        for name in ("n1", "n2"):
            await cluster.restart(name, state_machine=LoudRoom())
        leader = await cluster.leader("n1", "n2")
        for _ in range(2):
            with pytest.raises(CommandRejected, match="n3 does not know the command 'shout' yet"):
                await leader.do(Shout("too early"))
            await leader.do(Say("known to all"))
            if not cluster.is_up("n3"):
                await cluster.start("n3")
            await cluster.settled()
            if leader.state != "leader" or leader.name == "n3":
                break
        await cluster.restart("n3", state_machine=LoudRoom())
        leader = await cluster.settled()
        assert await leader.do(Shout("now")) == "NOW"
        await cluster.settled()


@in_virtual_time
async def test_g12_an_entry_that_cannot_be_read_stops_that_server_and_is_never_skipped() -> None:
    async with a_cluster(3, machine=LoudRoom) as cluster:
        leader = await cluster.formed()
        victim = cluster.followers()[0]
        await leader.do(Say("before"))
        await leader.do(Shout("new"))
        await leader.do(Say("after"))
        await cluster.settled()
        for _ in range(2):
            await cluster.restart(victim, state_machine=Room())
            error = await cluster.ended(victim)
            assert type(error) is ProtocolError
            assert "'shout' is unknown here" in str(error)
            assert "not skipped" in str(error)
            assert cluster[victim].state_machine.lines == ["before"]
            assert cluster[victim].last_applied == cluster[victim].state_machine.applied[0].index
        await leader.do(Say("the others go on"))
        await cluster.start(victim)
        await cluster.settled()


# -- nobody knows ------------------------------------------------------------------------------


@in_virtual_time
async def test_the_handle_of_an_unknown_command_names_cluster_index_and_term() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        term, index = leader.term, leader.status().last_index + 1
        cluster.isolate(leader.name)
        with pytest.raises(OutcomeUnknown) as caught:
            await leader.do(Say("?"))
        assert unpack(caught.value.handle) == [leader.status().cluster, index, term]


@in_virtual_time
async def test_what_a_stopping_server_held_is_unknown_and_what_queues_is_not_done() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        for disk in cluster.disks.values():
            disk.seconds = 0.05
        outcomes: list[BaseException] = []

        async def one() -> None:
            try:
                await leader.do(Say("x"))
            except (OutcomeUnknown, ServerStopped) as error:
                outcomes.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
            await trio.sleep(0.01)
            await cluster.crash(leader.name)
        assert len(outcomes) == 10
        assert all(type(error) is OutcomeUnknown for error in outcomes)
        assert "the server stopped" in str(outcomes[0])


def test_what_still_queues_when_the_server_ends_is_surely_not_done() -> None:
    errors: set[type[BaseException]] = set()

    async def main() -> None:
        async with a_running_cluster(1) as cluster:
            server = cluster["n1"]

            async def one() -> None:
                try:
                    await server.do(Say("perhaps"))
                except (OutcomeUnknown, ServerStopped) as error:
                    errors.add(type(error))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(one)
                await trio.lowlevel.checkpoint()
                await cluster.crash("n1")
            await cluster.start("n1")
            await cluster.say("after")

    for seed in range(12):
        run_seeded(seed, main)
    # Chance decides whether the leader took it up in its last turn; each outcome has its error.
    assert errors == {OutcomeUnknown, ServerStopped}


@in_virtual_time
async def test_what_is_committed_when_leadership_is_lost_is_still_answered() -> None:
    """Committed by two other disks, not yet on the leader's own: the caller gets the result."""
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        cluster.disks[leader.name].seconds = 0.4
        results: list[int] = []

        async def one() -> None:
            results.append(await leader.do(Say("slow at home")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await trio.sleep(0.02)
            assert leader.commit_index == leader.status().last_index
            cluster.isolate(leader.name)
        assert results == [1]
        assert leader.state != "leader"
        cluster.disks[leader.name].seconds = 0.0
        cluster.heal()
        await cluster.settled()


# -- cancelling --------------------------------------------------------------------------------


@in_virtual_time
async def test_cancelling_withdraws_a_command_that_still_queues() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        with trio.CancelScope() as scope:
            scope.cancel()
            await leader.do(Say("never"))
        assert scope.cancelled_caught
        await trio.sleep(1)
        assert await leader.do(Say("next")) == 1
        assert leader._core.tickets._count == 0


@in_virtual_time
async def test_cancelling_after_the_append_ends_the_waiting_only() -> None:
    async with a_running_cluster(3, delay=0.01) as cluster:
        leader = await cluster.settled()
        with trio.move_on_after(0.005) as scope:
            await leader.do(Say("on its way"))
        assert scope.cancelled_caught
        await cluster.settled()
        assert all(server.state_machine.lines == ["on its way"] for server in cluster.up)
        assert leader._core.tickets._count == 0


def test_cancelling_in_front_gives_the_place_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trioraft._tickets, "MAX_PENDING_COMMANDS", 2)

    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster:
            leader = await cluster.settled()
            for disk in cluster.disks.values():
                disk.seconds = 0.1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leader.do, Say("a"))
                nursery.start_soon(leader.do, Say("b"))
                await trio.sleep(0.001)
                with trio.move_on_after(0.01) as scope:
                    await leader.do(Say("never"))
                assert scope.cancelled_caught
                nursery.start_soon(leader.do, Say("c"))
            assert sorted(leader.state_machine.lines) == ["a", "b", "c"]

    check()


# -- reads -------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_read_of_anything_asks_this_servers_machine_and_nobody_else() -> None:
    async with a_running_cluster(3, machine=WildRoom) as cluster:
        await cluster.say("hello")
        leader = await cluster.settled()
        lone = cluster[cluster.followers()[0]]
        cluster.isolate(lone.name)
        await leader.do(Say("news"))
        answer = await lone.read(Lines(), Anything())
        assert answer.value == ["hello"]
        assert answer.index == lone.last_applied
        assert answer.consistency == Anything()
        assert answer.age == float("inf")
        assert (await leader.read(Lines(), Anything())).value == ["hello", "news"]
        cluster.heal()
        await cluster.settled()


@pytest.mark.parametrize("given", [Stranger(), Say("no query"), Plain(), None])
@in_virtual_time
async def test_an_unknown_query_is_rejected(given: Any) -> None:
    async with a_running_cluster(1) as cluster:
        with pytest.raises(CommandRejected):
            await cluster["n1"].read(given, Anything())


@in_virtual_time
async def test_what_answer_raises_reaches_the_reader_and_stops_nobody() -> None:
    async with a_running_cluster(1, machine=WildRoom) as cluster:
        with pytest.raises(LookupError, match="nothing there"):
            await cluster["n1"].read(Broken(), Anything())
        assert await cluster.say("after") == 1


@in_virtual_time
async def test_a_read_of_a_stopped_server_is_an_error_at_once() -> None:
    async with a_running_cluster(1) as cluster:
        with pytest.raises(ServerStopped):
            await cluster.make("n2", initial_cluster=None).read(Lines(), Anything())
        await cluster.crash("n1")
        with pytest.raises(ServerStopped):
            await cluster["n1"].read(Lines(), Anything())


# -- the log as goraft's users know it ---------------------------------------------------------


@in_virtual_time
async def test_the_log_can_be_looked_at() -> None:
    async with a_cluster(1) as cluster:
        server = cluster.make("n1")
        assert server.is_log_empty
        assert server.log_entries == ()
        assert server.last_command_name is None
        await cluster.run(server)
        await cluster.settled()
        assert not server.is_log_empty
        assert server.last_command_name is None  # the no-op of the new leader
        await server.do(Say("x"))
        assert server.last_command_name == "say"
        assert [entry.index for entry in server.log_entries] == [1, 2]
        assert server.voted_for == "n1"
        with pytest.raises(ValueError):
            await server.do(Refuse("x"))
        assert server.last_command_name == "refuse"
        assert commands_in(cluster.history) == 2


@in_virtual_time
async def test_u7_a_machine_that_calls_back_commits_once_and_hangs_nobody() -> None:
    """An apply that has more commands sent does not loop: they are commands like any other."""
    async with trio.open_nursery() as echoes, a_cluster(3) as cluster:

        @trioraft.command("echo")
        @attrs.frozen
        class Echo:
            text: str

            def apply(self, room: Room, applied: Applied) -> None:
                room.heard(self.text, applied)
                server: Server = applied.context()
                if server.state == "leader":
                    echoes.start_soon(server.do, Say(f"echo of {self.text}"))

        class EchoRoom(Room):
            commands: ClassVar[Sequence[type[Any]]] = (Echo, Say)

        for name in cluster.names:
            await cluster.start(
                name, state_machine=EchoRoom(), context=lambda name=name: cluster[name]
            )
        leader = await cluster.settled()
        await leader.do(Echo("hello"))
        await trio.sleep(1)
        await cluster.settled()
        assert all(
            server.state_machine.lines == ["hello", "echo of hello"] for server in cluster.up
        )


@in_virtual_time
async def test_incarnation_and_starts_are_kept_and_counted() -> None:
    async with a_running_cluster(3) as cluster:
        first = state_on(cluster.disks["n1"])
        await cluster.restart("n1")
        second = state_on(cluster.disks["n1"])
        assert first.incarnation == second.incarnation
        assert (first.starts, second.starts) == (1, 2)
        assert second.stickiness == TIMEOUT
        await cluster.restart("n1", config=Config(heartbeat_interval=0.01, election_timeout=0.05))
        assert state_on(cluster.disks["n1"]).stickiness == TIMEOUT
        assert Disk().kept._state is None
        await cluster.settled()
