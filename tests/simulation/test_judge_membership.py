"""The judge objects to members that change, and to leadership that moves, as they must not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import evolve

from tests.simulation.test_judge import A, B, C, Court, leading, node, objects
from trioraft._rules import effects as do
from trioraft._rules.events import ElectionTimeout, Received
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Log
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.messages import RequestVote, RequestVoteReply, TimeoutNow, TimeoutNowReply
from trioraft._rules.node import Campaigning, Following, Leading, Node, Transfer
from trioraft.testing import PropertyBroken
from trioraft.testing import _members as members_module
from trioraft.testing._members import Members

D, E = (ServerId(name, f"{name}1") for name in "de")


def of(*servers: ServerId, outgoing: tuple[ServerId, ...] = (), index: int = 0) -> Configuration:
    here, there = (
        tuple(Member(one, f"mem://{one}") for one in half) for half in (servers, outgoing)
    )
    return Configuration("c1", here, there, (), index)


def leads(configuration: Configuration, *, commit: int = 6) -> Node:
    return leading(configuration=configuration, commit=commit)


def refuses(act: Callable[[Members], None], what: str) -> None:
    members = Members()
    members.genesis = of(A, B, C)
    with pytest.raises(PropertyBroken, match=what):
        act(members)


# -- configurations ----------------------------------------------------------------------------


def test_legal_steps_are_legal() -> None:
    members = Members()
    members.genesis = of(A, B, C)
    for new in (
        of(A, D, E, outgoing=(A, B, C), index=3),
        of(A, D, E, index=4),
        evolve(of(A, D, E, index=5), learners=of(B).voters),
        of(B, outgoing=(A, D, E), index=6),
        of(B, index=7),
    ):
        members.committed(new)


@pytest.mark.parametrize(
    "new",
    [
        of(A, B, C, D, index=3),
        of(D, E, outgoing=(A, B), index=3),
    ],
    ids=["not joint", "joint with others"],
)
def test_a_committed_configuration_that_is_no_step(new: Configuration) -> None:
    refuses(lambda members: members.committed(new), "which is no step")


@pytest.mark.parametrize(
    "new",
    [of(A, B, C, index=4), of(A, B, D, outgoing=(A, B, C), index=4)],
    ids=["back", "joint again"],
)
def test_a_joint_configuration_that_goes_elsewhere(new: Configuration) -> None:
    def act(members: Members) -> None:
        members.committed(of(A, D, E, outgoing=(A, B, C), index=3))
        members.committed(new)

    refuses(act, "which is no step")


def test_majorities_that_can_decide_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_module, "_is_next", lambda old, new: True)
    refuses(lambda members: members.committed(of(C, D, E, index=3)), "can decide apart")


def test_a_leader_goes_to_what_is_no_step() -> None:
    before = leads(of(A, B, C))
    after = evolve(before, configuration=of(A, B, C, D, index=7))
    refuses(lambda members: members.stepped(before, after), "which is no step")


def test_two_changes_in_flight() -> None:
    before = leads(of(A, B, C, index=7))
    after = evolve(before, configuration=of(D, outgoing=(A, B, C), index=8))
    refuses(lambda members: members.stepped(before, after), "before the last change is committed")


def test_a_change_before_the_own_term_is_committed() -> None:
    before = leads(of(A, B, C), commit=5)
    after = evolve(before, configuration=of(D, outgoing=(A, B, C), index=7))
    refuses(lambda members: members.stepped(before, after), "before the last change is committed")


def test_a_start_in_another_configuration_than_the_log_holds() -> None:
    written = {(3, 1): of(A, B, index=3)}
    refuses(lambda members: members.restarted(node(), written), "its log holds")


def test_a_start_with_another_genesis() -> None:
    other = node(configuration=of(A, B))
    refuses(lambda members: members.restarted(other, {}), "another genesis")


def test_a_snapshot_may_come_before_the_configurations_that_were_written() -> None:
    members = Members()
    later = node(configuration=of(A, B, index=5), log=Log((), 8, 8, 1))
    members.restarted(later, {(3, 1): of(A, B, C, index=3)})
    assert members.genesis is None


# -- elections ---------------------------------------------------------------------------------


def test_a_campaign_of_one_without_a_vote() -> None:
    refuses(lambda members: members.campaigns(node(D)), "has no vote")


def test_a_campaign_that_its_leader_asked_for_is_legal_and_no_other_is() -> None:
    def act(court: Court) -> None:
        disk = court.disks[B]
        disk.stands_by_until = 1.0
        before = node(B, role=Following(A))
        after = evolve(before, term=3, voted_for=B, role=Campaigning(pre=False, votes=frozenset()))
        after = evolve(after, tenure=1)
        court.judge.stepped(disk, before, ElectionTimeout(0.5, 0), after, [])

    objects(act, "campaigns while it stands by a leader")
    court = Court()
    court.judge.members.asked(TimeoutNow(2, 1), B)
    act(court)


def test_a_vote_in_a_leaders_name_that_asked_nobody() -> None:
    def act(court: Court) -> None:
        disk = court.disks[C]
        disk.stands_by_until = 1.0
        before = node(C, role=Following(A), voted_for=None)
        after = evolve(before, term=3, voted_for=B)
        vote = do.Send(B, RequestVoteReply(3, vote_granted=True))
        event = Received(0.5, B, RequestVote(3, 5, 1, transfer=True))
        court.judge.stepped(disk, before, event, after, [vote])

    objects(act, "votes for b while it stands by a leader")
    court = Court()
    court.judge.members.asked(TimeoutNow(2, 1, withdrawn=True), B)
    with pytest.raises(PropertyBroken):
        act(court)
    court = Court()
    court.judge.members.asked(TimeoutNow(2, 1), B)
    act(court)


# -- leases ------------------------------------------------------------------------------------


def handing_over(*, number: int = 1) -> Node:
    before = leading()
    assert isinstance(before.role, Leading)
    transfer = Transfer(B, number, until=1.0, sent=True)
    return evolve(before, role=evolve(before.role, transfer=transfer))


def test_a_lease_while_leadership_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_module, "lease_until", lambda node: 1.0)
    refuses(lambda members: members.leads(leading(), handing_over()), "has a lease")


def test_a_leader_that_leads_on_while_it_may_yet_be_obeyed() -> None:
    def act(members: Members) -> None:
        members.asked(TimeoutNow(2, 2), B)
        members.refused(TimeoutNowReply(2, 1), B)  # that was the attempt before
        members.leads(handing_over(number=2), leading())

    refuses(act, "may yet obey it")


def test_a_leader_leads_on_once_it_is_refused_or_has_asked_nobody() -> None:
    members = Members()
    members.leads(handing_over(), leading())
    members.asked(TimeoutNow(2, 1), B)
    members.refused(TimeoutNowReply(2, 1), B)
    members.leads(handing_over(), leading())


def test_what_leaves_is_heard_of() -> None:
    court = Court()
    court.judge.sent(court.disks[A], leading(), B, TimeoutNow(2, 1))
    assert court.judge.members.was_asked(B, 3)
    with pytest.raises(PropertyBroken, match="may yet obey it"):
        court.judge.members.leads(handing_over(), leading())
    court.judge.sent(court.disks[B], node(B), A, TimeoutNowReply(2, 1))
    court.judge.members.leads(handing_over(), leading())


def test_a_majority_of_one_half_alone_elects_nobody_and_commits_nothing() -> None:
    joint = of(C, D, E, outgoing=(A, B, C), index=4)

    def wins(court: Court) -> None:
        for disk in court.disks.values():
            disk.said_votes[2] = A
        candidate = node(A, configuration=joint, role=Campaigning(pre=False, votes=frozenset()))
        court.steps(candidate, leading(configuration=joint))

    objects(wins, "by the votes of c, a, b alone")
    objects(lambda court: court.commits(A, 5, configuration=joint), "which only a, b, c has")
