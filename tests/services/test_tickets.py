"""Every command gets exactly one answer, and the right one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack  # type: ignore[import-untyped]
import outcome
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioraft import NotLeaderError, OutcomeUnknown, ServerStopped
from trioraft import _tickets as module
from trioraft._limits import MAX_APPEND_BYTES, MAX_LOG_ENTRIES_PER_REQUEST, MAX_PENDING_COMMANDS
from trioraft._promise import Promise
from trioraft._tickets import Ticket, Tickets

NOT_LEADER = NotLeaderError("n2", "ws://n2", 7)


class Callers:
    """Tasks that wait for their commands."""

    def __init__(self, tickets: Tickets, nursery: trio.Nursery) -> None:
        self.tickets = tickets
        self.nursery = nursery
        self.answers: dict[str, Any] = {}
        self.scopes: dict[str, trio.CancelScope] = {}

    async def ask(self, *names: str, size: int = 10) -> list[Ticket]:
        """Let callers queue, one after the other."""
        asked = []
        for name in names:
            ticket = Ticket(bytes(size), name)
            asked.append(ticket)
            self.nursery.start_soon(self._wait, name, ticket)
            await wait_all_tasks_blocked()
        return asked

    async def _wait(self, name: str, ticket: Ticket) -> None:
        with trio.CancelScope() as self.scopes[name]:
            try:
                self.answers[name] = outcome.Value(await self.tickets.answer(ticket))
            except Exception as error:  # noqa: BLE001  whatever the answer is
                self.answers[name] = outcome.Error(error)

    async def cancel(self, name: str) -> None:
        self.scopes[name].cancel()
        await wait_all_tasks_blocked()
        assert self.scopes[name].cancelled_caught or name in self.answers

    def error(self, name: str) -> Exception:
        answer = self.answers.pop(name)
        assert isinstance(answer, outcome.Error)
        return answer.error

    def value(self, name: str) -> Any:
        return self.answers.pop(name).unwrap()


@asynccontextmanager
async def callers() -> AsyncIterator[Callers]:
    async with trio.open_nursery() as nursery:
        yield Callers(Tickets(), nursery)
        nursery.cancel_scope.cancel()


def commands(taken: tuple[Ticket, ...]) -> list[Any]:
    return [ticket.command for ticket in taken]


async def is_full(tickets: Tickets) -> bool:
    with trio.move_on_after(0) as scope:
        await tickets.room()
    return scope.cancelled_caught


# -- the queue ---------------------------------------------------------------------------------


async def test_commands_are_taken_in_the_order_in_which_they_came() -> None:
    async with callers() as they:
        await they.ask("a", "b", "c")
        assert commands(they.tickets.take()) == ["a", "b", "c"]
        assert they.tickets.take() == ()


async def test_the_bell_rings_once_for_all_that_queue() -> None:
    async with callers() as they:
        await they.ask("a", "b")
        await they.tickets.bell.wait()
        with trio.move_on_after(0) as scope:
            await they.tickets.bell.wait()
        assert scope.cancelled_caught
        assert len(they.tickets.take()) == 2


async def test_no_more_are_taken_than_one_request_holds() -> None:
    async with callers() as they:
        tickets = [Ticket(b"x", number) for number in range(MAX_LOG_ENTRIES_PER_REQUEST + 3)]
        for ticket in tickets:
            they.nursery.start_soon(they.tickets.answer, ticket)
        await wait_all_tasks_blocked()
        await they.tickets.bell.wait()
        first = they.tickets.take()
        assert len(first) == MAX_LOG_ENTRIES_PER_REQUEST
        await they.tickets.bell.wait()  # for the rest
        assert len(first) + len(they.tickets.take()) == len(tickets)


async def test_no_more_bytes_are_taken_than_one_request_holds_and_one_command() -> None:
    async with callers() as they:
        await they.ask("a", "b", "c", "d", size=MAX_APPEND_BYTES // 2)
        assert commands(they.tickets.take()) == ["a", "b"]
        await they.ask("e", size=2 * MAX_APPEND_BYTES)
        assert commands(they.tickets.take()) == ["c", "d"]
        assert commands(they.tickets.take()) == ["e"]


# -- answers -----------------------------------------------------------------------------------


async def test_each_caller_gets_the_result_of_its_own_command() -> None:
    async with callers() as they:
        a, b = await they.ask("a", "b")
        they.tickets.appended(they.tickets.take(), 5, 2)
        assert (a.index, a.term, b.index, b.term) == (5, 2, 6, 2)
        they.tickets.applied(b, outcome.Value("B"))
        they.tickets.applied(a, outcome.Error(KeyError("A")))
        await wait_all_tasks_blocked()
        assert they.value("b") == "B"
        assert isinstance(they.error("a"), KeyError)


async def test_a_command_is_found_by_index_and_term() -> None:
    async with callers() as they:
        (a,) = await they.ask("a")
        assert they.tickets.at(5, 2) is None
        they.tickets.appended(they.tickets.take(), 5, 2)
        assert they.tickets.at(5, 2) is a
        for index, term in ((5, 1), (5, 3), (4, 2), (6, 2)):
            assert they.tickets.at(index, term) is None
        they.tickets.applied(a, outcome.Value(None))
        assert they.tickets.at(5, 2) is None


async def test_an_answer_that_is_there_already_is_not_waited_for() -> None:
    promise: Promise[int] = Promise()
    promise.keep(1)
    assert await promise.result() == 1


async def test_refused_commands_answer_with_an_error_of_their_own() -> None:
    async with callers() as they:
        await they.ask("a", "b")
        they.tickets.refuse(they.tickets.take(), NOT_LEADER)
        await wait_all_tasks_blocked()
        a, b = they.error("a"), they.error("b")
        assert a is not b
        for error in (a, b):
            assert isinstance(error, NotLeaderError)
            assert (error.leader, error.address, error.term) == ("n2", "ws://n2", 7)
            assert error.outcome == "not done"


# -- cancelling --------------------------------------------------------------------------------


async def test_cancelling_withdraws_a_command_that_queues() -> None:
    async with callers() as they:
        await they.ask("a", "b", "c")
        await they.cancel("b")
        assert commands(they.tickets.take()) == ["a", "c"]


async def test_cancelling_does_not_withdraw_a_command_that_was_appended() -> None:
    async with callers() as they:
        (a,) = await they.ask("a")
        they.tickets.appended(they.tickets.take(), 5, 2)
        await they.cancel("a")
        assert they.tickets.at(5, 2) is a
        they.tickets.applied(a, outcome.Value(1))
        await wait_all_tasks_blocked()
        assert they.tickets.at(5, 2) is None
        assert they.answers == {}


async def test_cancelling_comes_too_late_for_a_command_that_was_answered() -> None:
    async with callers() as they:
        (a,) = await they.ask("a")
        they.tickets.appended(they.tickets.take(), 5, 2)
        they.tickets.applied(a, outcome.Value(1))
        they.scopes["a"].cancel()
        await wait_all_tasks_blocked()
        assert they.value("a") == 1


async def test_a_command_that_was_taken_but_not_appended_yet_is_refused_in_peace() -> None:
    async with callers() as they:
        await they.ask("a")
        taken = they.tickets.take()
        await they.cancel("a")
        they.tickets.refuse(taken, NOT_LEADER)
        assert they.answers == {}
        assert not await is_full(they.tickets)


# -- the end of a tenure, and of the server ----------------------------------------------------


async def test_lost_leadership_answers_all_but_what_is_committed() -> None:
    async with callers() as they:
        tickets = await they.ask("a", "b", "c", "d")
        they.tickets.appended(they.tickets.take(), 5, 2)
        await they.ask("e", "f")
        they.tickets.leadership_lost(6, "cluster", NOT_LEADER)
        await wait_all_tasks_blocked()
        assert they.answers.keys() == {"c", "d", "e", "f"}
        for name in ("e", "f"):
            assert isinstance(they.error(name), NotLeaderError)
        for name, index in (("c", 7), ("d", 8)):
            error = they.error(name)
            assert isinstance(error, OutcomeUnknown)
            assert error.outcome == "unknown"
            assert msgpack.unpackb(error.handle) == ["cluster", index, 2]
            assert f"entry {index} of term 2" in str(error)
        # What is committed, the applier answers.
        assert they.tickets.at(5, 2) is tickets[0]
        they.tickets.applied(tickets[0], outcome.Value("A"))
        they.tickets.applied(tickets[1], outcome.Value("B"))
        await wait_all_tasks_blocked()
        assert (they.value("a"), they.value("b")) == ("A", "B")


async def test_an_index_can_be_used_again_after_leadership_was_lost() -> None:
    async with callers() as they:
        await they.ask("a")
        they.tickets.appended(they.tickets.take(), 5, 2)
        they.tickets.leadership_lost(4, "cluster", NOT_LEADER)
        (b,) = await they.ask("b")
        they.tickets.appended(they.tickets.take(), 5, 3)
        assert they.tickets.at(5, 2) is None
        assert they.tickets.at(5, 3) is b


async def test_a_cancelled_caller_of_a_lost_command_is_not_missed() -> None:
    async with callers() as they:
        await they.ask("a", "b")
        they.tickets.appended(they.tickets.take(), 5, 2)
        await they.cancel("a")
        they.tickets.leadership_lost(0, "cluster", NOT_LEADER)
        await wait_all_tasks_blocked()
        assert they.answers.keys() == {"b"}


async def test_the_end_of_the_server_answers_everybody() -> None:
    async with callers() as they:
        await they.ask("a", "b")
        they.tickets.appended(they.tickets.take(), 5, 2)
        await they.ask("c")
        they.tickets.server_stopped("cluster")
        await wait_all_tasks_blocked()
        for name, index in (("a", 5), ("b", 6)):
            error = they.error(name)
            assert isinstance(error, OutcomeUnknown)
            assert "the server stopped" in str(error)
            assert msgpack.unpackb(error.handle) == ["cluster", index, 2]
        assert isinstance(they.error("c"), ServerStopped)
        assert they.tickets.take() == ()
        they.tickets.server_stopped("cluster")  # and there is nobody left


# -- bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "size"), [("MAX_PENDING_COMMANDS", 1), ("MAX_PENDING_BYTES", 10)])
async def test_the_rest_waits_in_front(
    monkeypatch: pytest.MonkeyPatch, most: str, size: int
) -> None:
    monkeypatch.setattr(module, most, 3 * size)
    async with callers() as they:
        assert not await is_full(they.tickets)
        tickets = await they.ask("a", "b", "c", size=10)
        assert await is_full(they.tickets)
        they.tickets.appended(they.tickets.take(), 1, 1)
        assert await is_full(they.tickets), "what is under way counts until it is answered"
        entered = trio.Event()

        async def enter() -> None:
            await they.tickets.room()
            entered.set()

        they.nursery.start_soon(enter)
        await wait_all_tasks_blocked()
        assert not entered.is_set()
        they.tickets.applied(tickets[0], outcome.Value(None))
        await entered.wait()


async def test_whoever_waits_in_front_is_let_in_when_others_give_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING_COMMANDS", 1)
    async with callers() as they:
        for end in (
            lambda: they.scopes["a"].cancel(),
            lambda: they.tickets.refuse(they.tickets.take(), NOT_LEADER),
            lambda: they.tickets.leadership_lost(0, "c", NOT_LEADER),
            lambda: they.tickets.server_stopped("c"),
        ):
            await they.ask("a")
            assert await is_full(they.tickets)
            end()
            await wait_all_tasks_blocked()
            assert not await is_full(they.tickets)


async def test_ten_thousand_refused_commands_leave_nothing_behind() -> None:
    """A count that leaks would end with a server that takes no command any more."""
    tickets = Tickets()
    async with trio.open_nursery() as nursery:

        async def refused(number: int) -> None:
            with pytest.raises((NotLeaderError, OutcomeUnknown, ServerStopped)):
                await tickets.answer(Ticket(bytes(10_000), number))

        for turn in range(100):
            for number in range(100):
                nursery.start_soon(refused, number)
            await wait_all_tasks_blocked()
            match turn % 4:
                case 0:
                    tickets.refuse(tickets.take(), NOT_LEADER)
                case 1:
                    tickets.appended(tickets.take(), 1, turn)
                case 2:
                    tickets.server_stopped("c")
            tickets.leadership_lost(0, "c", NOT_LEADER)
    assert not await is_full(tickets)
    assert (tickets._count, tickets._bytes) == (0, 0)
    assert tickets.take() == ()


async def test_as_many_as_fit_are_let_in_at_once() -> None:
    tickets = Tickets()
    async with trio.open_nursery() as nursery:
        for number in range(MAX_PENDING_COMMANDS - 1):
            nursery.start_soon(tickets.answer, Ticket(b"", number))
        await wait_all_tasks_blocked()
        assert not await is_full(tickets)
        nursery.start_soon(tickets.answer, Ticket(b"", None))
        await wait_all_tasks_blocked()
        assert await is_full(tickets)
        nursery.cancel_scope.cancel()
    assert not await is_full(tickets), "all were withdrawn"


async def test_what_a_snapshot_holds_is_given_up_and_the_rest_still_waits() -> None:
    """The commands of one that led are committed, and what came of them is in the snapshot."""
    tickets = Tickets()
    async with trio.open_nursery() as nursery:
        they = Callers(tickets, nursery)
        await they.ask("a", "b", "c")
        tickets.appended(tickets.take(), 7, 3)
        tickets.skipped(8, "cluster")
        await wait_all_tasks_blocked()
        assert set(they.answers) == {"a", "b"}
        error = they.error("a")
        assert isinstance(error, OutcomeUnknown)
        assert "a snapshot was installed before entry 7 of term 3" in str(error)
        assert msgpack.unpackb(error.handle) == ["cluster", 7, 3]
        third = tickets.at(9, 3)
        assert third is not None
        tickets.applied(third, outcome.Value(5))
        await wait_all_tasks_blocked()
        assert they.value("c") == 5
    assert (tickets._count, tickets._bytes) == (0, 0)
