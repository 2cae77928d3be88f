"""The judge objects: each thing that may never happen is shown to it once, and it says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import outcome
import pytest
from attrs import evolve

from tests.server.worlds import in_virtual_time
from trioraft._errors import InternalError
from trioraft._rules import effects as do
from trioraft._rules.events import ElectionTimeout, Received
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries, Log
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.messages import (
    AppendEntries,
    AppendEntriesReply,
    PreVote,
    RequestVote,
    RequestVoteReply,
)
from trioraft._rules.node import Campaigning, Leading, Node, Progress, Settings
from trioraft._state import HardState
from trioraft._storage.memory import MemoryStorage
from trioraft._wire.frames import frame, parse_entry
from trioraft.abc import Batch, Kind, Recovered
from trioraft.testing import PropertyBroken
from trioraft.testing._disks import Disk
from trioraft.testing._judge import Judge
from trioraft.testing._seat import Seat

A, B, C = (ServerId(name, f"{name}1") for name in ("a", "b", "c"))
MEMBERS = Configuration("c1", tuple(Member(one, f"mem://{one}") for one in (A, B, C)))
LOG = Log(((1, 1),), 5)
"""Five entries of term 1."""


def node(me: ServerId = A, **changes: Any) -> Node:
    before = Node(me, Settings(0.05, 0.15, 4, 0.1, 200), MEMBERS, term=2, voted_for=me, log=LOG)
    return evolve(before, **changes)


def leading(me: ServerId = A, **changes: Any) -> Node:
    others = [one for one in (A, B, C) if one != me]
    progress = tuple(Progress(other, next_index=7, answered_at=0.0) for other in others)
    given: dict[str, Any] = {
        "role": Leading(6, progress),
        "log": Log(((1, 1), (6, 2)), 6),
        "tenure": 1,
    }
    return node(me, **(given | changes))


def frames(first: int, last: int, term: int, payload: bytes = b"x") -> list[bytes]:
    return [frame(index, term, Kind.COMMAND, payload) for index in range(first, last + 1)]


class Court:
    """A judge, and three disks that hold the five entries and the term."""

    def __init__(self) -> None:
        self.judge = Judge()
        self.disks = {one: Disk(one, LOG, 2, None) for one in (A, B, C)}
        self.judge.disks.update(self.disks)

    def steps(self, before: Node, after: Node, *effects: do.Effect) -> None:
        event = ElectionTimeout(0.0, before.tenure)
        self.judge.stepped(self.disks[after.me], before, event, after, effects)

    def elects(self, me: ServerId, **changes: Any) -> None:
        for disk in self.disks.values():
            disk.said_votes[changes.get("term", 2)] = me
        self.wins(me, **changes)

    def wins(self, me: ServerId, **changes: Any) -> None:
        candidate = node(me, role=Campaigning(pre=False, votes=frozenset()))
        after = leading(me, **changes)
        self.steps(evolve(candidate, term=after.term, voted_for=me), after)

    def commits(self, me: ServerId, index: int, **changes: Any) -> None:
        if index <= 5:  # in the term of these entries
            role = Leading(1, tuple(Progress(one, 6, 0.0) for one in (A, B, C) if one != me))
            changes = {"term": 1, "log": LOG, "role": role} | changes
        before = leading(me, **changes)
        self.steps(before, evolve(before, commit=index))


def objects(act: Callable[[Court], None], what: str) -> None:
    court = Court()
    with pytest.raises((PropertyBroken, InternalError), match=what):
        act(court)


def told(judge: Judge) -> list[tuple[str, str]]:
    moments: list[tuple[str, str]] = []
    judge.on_moment = lambda *moment: moments.append(moment)
    return moments


# -- what is seen of the protocol --------------------------------------------------------------


@in_virtual_time
async def test_two_leaders_in_a_term() -> None:
    def act(court: Court) -> None:
        court.elects(A)
        court.elects(B)

    objects(act, "a and b both lead in term 2")


@in_virtual_time
async def test_a_leader_without_what_was_committed_before_its_term() -> None:
    def act(court: Court) -> None:
        court.disks[A].log = court.disks[B].log = Log(((1, 1), (6, 2)), 6)
        court.elects(A)
        court.commits(A, 6)
        court.elects(B, term=3, role=Leading(6, ()), log=Log(((1, 1), (6, 3)), 6))

    objects(act, "b leads in term 3 without committed 6")


@in_virtual_time
async def test_a_leader_of_an_older_term_need_not_have_what_a_newer_one_has_committed() -> None:
    court = Court()
    for disk in court.disks.values():
        disk.log = Log(((1, 1), (6, 4)), 6)
    court.commits(A, 6, term=4, log=Log(((1, 1), (6, 4)), 6))
    court.elects(B, term=3, log=Log(((1, 1), (6, 3)), 6))


@in_virtual_time
async def test_a_commit_that_is_on_no_quorum_of_disks() -> None:
    def act(court: Court) -> None:
        court.disks[A].log = Log(((1, 1), (6, 2)), 6)
        court.commits(A, 6)

    objects(act, "a commits 6 of term 2, which only a has on disk")


@in_virtual_time
async def test_a_leader_that_not_a_majority_has_voted_for() -> None:
    objects(lambda court: court.wins(A), "a leads in term 2 by the votes of nobody alone")

    def with_its_own(court: Court) -> None:
        court.disks[A].voted_for = A
        court.wins(A)

    objects(with_its_own, "by the votes of a alone")


@in_virtual_time
async def test_a_leader_that_counts_replicas_of_an_older_term() -> None:
    """Figure 8 of the paper."""
    before = leading()
    objects(
        lambda court: court.steps(before, evolve(before, commit=5)),
        "a commits 5 of term 1 in term 2, by counting",
    )


@in_virtual_time
async def test_a_follower_that_knows_of_a_commit_before_any_leader() -> None:
    objects(
        lambda court: court.steps(node(B), node(B, commit=5)),
        "b takes 5 for committed, and no leader has committed it",
    )


@in_virtual_time
async def test_a_cut_of_what_is_committed_though_the_follower_does_not_know_it() -> None:
    def act(court: Court) -> None:
        court.commits(A, 5)
        new = Entries(4, 4, ((4, 2),))
        after = node(B, log=Log(((1, 1), (4, 2)), 4))
        court.steps(node(B), after, do.WriteEntries(1, new, cuts=True))

    objects(act, "b cuts 4 of term 1, which is committed")


@in_virtual_time
async def test_an_index_that_is_committed_with_two_terms() -> None:
    def act(court: Court) -> None:
        court.commits(A, 5)
        other = Log(((1, 2),), 5)
        court.steps(node(B, log=other), node(B, log=other, commit=5))

    objects(act, "b takes 1 of term 2 for committed; it is of another")


@in_virtual_time
async def test_a_step_that_breaks_a_relation_of_one_server() -> None:
    objects(lambda court: court.steps(node(), node(term=1)), "a term never falls")


def reply(match: int, term: int = 2) -> AppendEntriesReply:
    return AppendEntriesReply(term, 1, success=True, match_index=match, stickiness=0.15)


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (reply(5, term=3), "a says term 3 in AppendEntriesReply; its disk has 2"),
        (RequestVoteReply(2, vote_granted=True), "a votes for b; its disk has None"),
        (RequestVote(2, 5, 1), "a votes for a; its disk has None"),
        (reply(6), "a acknowledges 6; its disk ends at 5"),
        (AppendEntries(2, 1, 5, 1, 0, Entries(6, 5)), "a sends entries in term 2"),
    ],
)
@in_virtual_time
async def test_a_promise_that_is_not_on_disk(message: Any, what: str) -> None:
    objects(lambda court: court.judge.sent(court.disks[A], node(), B, message), what)


@in_virtual_time
async def test_two_votes_in_a_term() -> None:
    def act(court: Court) -> None:
        disk = court.disks[A]
        for candidate in (B, C):
            disk.voted_for = candidate
            court.judge.sent(disk, node(), candidate, RequestVoteReply(2, vote_granted=True))

    objects(act, "a votes for c in term 2, and for another one")


@in_virtual_time
async def test_what_promises_nothing_or_is_on_disk_may_leave() -> None:
    court = Court()
    moments = told(court.judge)
    disk = court.disks[A]
    disk.voted_for = B
    court.judge.sent(disk, node(), B, PreVote(9, 5, 1))
    court.judge.sent(disk, node(), B, RequestVoteReply(2, vote_granted=True))
    court.judge.sent(disk, node(), B, RequestVoteReply(2, vote_granted=False))
    court.judge.sent(disk, node(), B, reply(5))
    court.judge.sent(disk, node(), B, reply(3))
    assert disk.said_log == LOG
    assert moments == [("vote", "a"), ("ack", "a")]


@in_virtual_time
async def test_an_answer_of_a_term_that_is_over_tells_what_was_durable_then() -> None:
    court = Court()
    court.disks[A].term = 7
    court.judge.sent(court.disks[A], node(term=7), B, reply(9, term=2))
    assert court.disks[A].said_log == Log()


@in_virtual_time
async def test_an_acknowledgement_of_what_the_leader_does_not_have() -> None:
    def act(court: Court) -> None:
        other = leading(B, log=Log(((1, 1), (5, 2)), 6), role=Leading(5, ()))
        court.steps(other, other)
        court.judge.sent(court.disks[A], node(), B, reply(5))

    objects(act, "a acknowledges 5 to b, whose log is another one")


def heard(message: Any, now: float = 1.0) -> Received:
    return Received(now, B, message)


LEADS = AppendEntries(2, 1, 5, 1, 0, Entries(6, 5))


@in_virtual_time
async def test_a_vote_against_a_leader_that_was_just_heard() -> None:
    def act(court: Court, votes_at: float = 1.149) -> None:
        after = node(voted_for=None)
        court.judge.stepped(court.disks[A], after, heard(LEADS), after, [])
        vote = do.Send(B, RequestVoteReply(3, vote_granted=True))
        later = evolve(after, term=3, voted_for=B)
        request = heard(RequestVote(3, 5, 1), votes_at)
        court.judge.stepped(court.disks[A], after, request, later, [vote])

    objects(act, "a votes for b while it stands by a leader")
    act(Court(), votes_at=1.151)


@in_virtual_time
async def test_a_campaign_against_a_leader_that_was_just_heard() -> None:
    def act(court: Court, at: float = 1.149) -> None:
        before = node()
        court.judge.stepped(court.disks[A], before, heard(LEADS), before, [])
        asks = evolve(before, role=Campaigning(pre=True, votes=frozenset()), tenure=1)
        court.judge.stepped(court.disks[A], before, ElectionTimeout(at, 0), asks, [])

    objects(act, "a campaigns while it stands by a leader")
    act(Court(), at=1.151)


@in_virtual_time
async def test_a_higher_term_that_is_overheard() -> None:
    def act(court: Court) -> None:
        court.judge.stepped(court.disks[A], node(), heard(reply(5, term=9)), node(), [])

    objects(act, "a is told of term 9, and stays in 2")


@in_virtual_time
async def test_a_life_that_applies_twice_or_leaves_out() -> None:
    judge = Judge()
    judge.disks[A] = Disk(A, LOG, 2, None)
    judge.committed, judge._committed_in = [1] * 5, [1] * 5
    seat = Seat(judge, MemoryStorage(), "a")
    seat._disk = judge.disks[A]
    seat.applied(node(), entry(1), outcome.Value(1))
    for index in (1, 3):
        with pytest.raises(PropertyBroken, match=f"a applies {index} behind 1"):
            seat.applied(node(), entry(index), outcome.Value(1))


@in_virtual_time
async def test_a_cut_that_the_rules_ask_for_frees_of_what_was_acknowledged() -> None:
    court = Court()
    court.judge.sent(court.disks[A], node(), B, reply(5))
    new = Entries(4, 4, ((4, 2),))
    after = node(log=Log(((1, 1), (4, 2)), 4))
    court.steps(node(), after, do.WriteEntries(1, new, cuts=True))
    assert court.disks[A].said_log == Log(((1, 1),), 3)


# -- what is applied ---------------------------------------------------------------------------


def entry(index: int, payload: bytes = b"x", term: int = 1) -> Any:
    return parse_entry(frame(index, term, Kind.COMMAND, payload))


def applying(*steps: tuple[ServerId, Any, object]) -> Callable[[Court], None]:
    def act(court: Court) -> None:
        court.commits(A, 5)
        for me, given, value in steps:
            error = isinstance(value, Exception)
            result: Any = outcome.Error(value) if error else outcome.Value(value)
            court.judge.applied(court.disks[me], node(me), given, result)

    return act


@pytest.mark.parametrize(
    ("steps", "what"),
    [
        ([(A, entry(6), 1)], "a applies 6; its own disk ends at 5"),
        ([(A, entry(1, term=2), 1)], "a applies 1 of term 2, which is not committed"),
        ([(A, entry(2), 1)], "a applies 2 before 1"),
        ([(A, entry(1), 1), (B, entry(1, b"y"), 1)], "b applies another entry 1"),
        ([(A, entry(1), 1), (B, entry(1), 2)], "entry 1 came to 1 on one server and to 2 on b"),
        (
            [(A, entry(1), KeyError("k")), (B, entry(1), ValueError("k"))],
            "its apply is not deterministic",
        ),
    ],
)
@in_virtual_time
async def test_servers_that_apply_what_they_should_not(steps: Any, what: str) -> None:
    objects(applying(*steps), what)


@in_virtual_time
async def test_equal_results_are_equal_whoever_changes_them_later() -> None:
    court = Court()
    lines = ["one"]
    applying((A, entry(1), lines))(court)
    lines.append("two")
    applying((B, entry(1), ["one"]), (C, entry(1), ["one"]))(court)
    applying((A, entry(2), KeyError("k")), (B, entry(2), KeyError("k")))(court)
    no_op = parse_entry(frame(3, 1, Kind.NOOP, b""))
    court.judge.applied(court.disks[A], node(A), no_op, None)
    assert [given.index for given in court.judge.history] == [1, 2, 3]


# -- what is seen of the disks -----------------------------------------------------------------


def stored(me: ServerId = A, term: int = 2, voted_for: ServerId | None = None) -> bytes:
    return HardState(me.name, me.incarnation, term=term, voted_for=voted_for).encode()


def found(last: int = 5, **state: Any) -> Recovered:
    return Recovered(stored(**state), ((1, 1),) if last else (), last)


def having_said(disk: Disk) -> None:
    disk.said_term, disk.said_log, disk.said_votes = 2, LOG, {2: B}


@pytest.mark.parametrize(
    ("recovered", "what"),
    [
        (found(term=1, voted_for=B), "a has said term 2, and starts with 1"),
        (found(), "a has voted for b, and starts with None"),
        (found(voted_for=C), "a has voted for b, and starts with c"),
        (found(last=4, voted_for=B), "a has acknowledged 5, and starts without it"),
    ],
)
@in_virtual_time
async def test_a_disk_that_forgot_a_promise(recovered: Recovered, what: str) -> None:
    def act(court: Court) -> None:
        having_said(court.disks[A])
        court.judge.opened("a", recovered)

    objects(act, what)


@in_virtual_time
async def test_a_disk_that_forgot_everything() -> None:
    def act(court: Court) -> None:
        having_said(court.disks[A])
        court.judge.opened("a", Recovered())

    objects(act, "a has made promises, and starts with an empty disk")
    court = Court()
    having_said(court.disks[A])
    court.judge.wiped.add("a")
    assert court.judge.opened("a", Recovered()) is None


@in_virtual_time
async def test_a_disk_that_kept_its_promises_or_never_made_any() -> None:
    court = Court()
    having_said(court.disks[A])
    assert court.judge.opened("a", found(voted_for=B)) is court.disks[A]
    assert court.judge.opened("a", found(term=9, voted_for=C)) is court.disks[A]
    assert court.judge.opened("n", Recovered()) is None
    stranger = ServerId("a", "a2")
    disk = court.judge.written(None, Batch(stored(stranger)))
    assert disk is court.judge.disks[stranger]


@in_virtual_time
async def test_one_index_and_term_with_two_entries() -> None:
    def act(court: Court) -> None:
        court.judge.written(court.disks[A], Batch(None, None, frames(6, 7, 2)))
        court.judge.written(court.disks[B], Batch(None, None, frames(6, 7, 2, b"y")))

    objects(act, "b has another entry 6 of term 2 than others have")


@in_virtual_time
async def test_one_entry_behind_two_others() -> None:
    def act(court: Court) -> None:
        court.judge.written(court.disks[A], Batch(None, None, frames(6, 6, 3)))
        court.judge.written(court.disks[B], Batch(None, None, frames(6, 6, 2)))
        court.judge.written(court.disks[A], Batch(None, None, frames(7, 7, 4)))
        court.judge.written(court.disks[B], Batch(None, None, frames(7, 7, 4)))

    objects(act, "b has another entry 7 of term 4 than others have")


@in_virtual_time
async def test_what_is_written_is_what_the_disk_holds() -> None:
    court = Court()
    court.judge.written(court.disks[A], Batch(stored(term=4), 3, frames(4, 6, 4)))
    assert court.disks[A].log == Log(((1, 1), (4, 4)), 6)
    assert court.disks[A].term == 4


@in_virtual_time
async def test_a_server_that_starts_with_another_state_than_its_disk_holds() -> None:
    def act(court: Court) -> None:
        court.judge.restarted(court.disks[A], node(term=2, voted_for=None, log=Log()))

    objects(act, "a starts with something else than its disk holds")


@in_virtual_time
async def test_servers_that_know_different_members() -> None:
    def act(court: Court) -> None:
        court.judge.restarted(court.disks[A], node(voted_for=None))
        other = Configuration("c2", MEMBERS.voters)
        court.judge.restarted(court.disks[B], node(B, voted_for=None, configuration=other))

    objects(act, "b starts with another genesis")


# -- where it sits -----------------------------------------------------------------------------


@in_virtual_time
async def test_a_seat_passes_on_what_a_storage_does() -> None:
    judge = Judge()
    moments = told(judge)
    seat = Seat(judge, MemoryStorage(), "a")
    assert (await seat.open()).state is None
    await seat.write(Batch(stored(), None, frames(1, 2, 1)))
    assert await seat.read(2, 100) == frames(2, 2, 1)
    assert seat.disk.log == Log(((1, 1),), 2)
    assert moments == [("write", "a")]
    await seat.aclose()
    assert (await seat.open()).last_index == 2
    seat.broken(node(), ElectionTimeout(0.0, 0), 0)
    seat.close()


@in_virtual_time
async def test_all_that_happens_counts_for_the_fingerprint() -> None:
    one, other = Court(), Court()
    assert one.judge.digest == other.judge.digest
    for court in (one, other):
        court.elects(A)
    assert one.judge.digest == other.judge.digest
    one.commits(A, 5)
    assert one.judge.digest != other.judge.digest
