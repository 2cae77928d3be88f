"""Changes of the members (section 6), one sentence a test."""

from __future__ import annotations

import pytest

from tests.rules.net import Net, members, three
from tests.rules.worlds import TIMEOUT, A, B, C, D, E
from trioraft._rules import effects as do
from trioraft._rules.elections import quorum_deadline
from trioraft._rules.events import (
    ChangeDue,
    ElectionTimeout,
    QuorumTimeout,
    ReadIndexDue,
    Received,
    SnapshotTaken,
)
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration
from trioraft._rules.messages import InstallSnapshot, RequestVote
from trioraft._rules.node import Campaigning, Following, Leading
from trioraft._rules.reads import lease_until
from trioraft._rules.reconfiguration import why_no_change

ABC = (A, B, C)


def names(net: Net, server: ServerId) -> tuple[str, str, str]:
    """Voters, those that go, and learners, as a server has them."""
    one = net[server].configuration
    halves = (one.voters, one.outgoing, one.learners)
    voters, outgoing, learners = ("".join(m.id.name for m in half) for half in halves)
    return voters, outgoing, learners


def with_learner() -> Net:
    """Three voters, and one that has the log and no vote."""
    net = three(genesis=ABC)
    net.add(D)
    net.change(A, ABC, (D,))
    net.settle()
    return net


def test_a_configuration_is_in_force_as_soon_as_it_stands_in_the_log() -> None:
    net = with_learner()
    net.change(A, (A, B, D))
    assert names(net, A) == ("abd", "abc", "")
    assert net[A].configuration.index == net[A].log.last_index > net[A].commit


def test_a_change_of_voters_is_two_entries_the_second_once_the_first_is_committed() -> None:
    net = with_learner()
    before = net[A].log.last_index
    net.change(A, (A, B, D))
    net.settle()
    assert names(net, A) == ("abd", "", "")
    assert net[A].log.last_index == before + 2
    assert net[A].commit == before + 2
    assert all(names(net, one) == ("abd", "", "") for one in (B, D))


def test_g78_a_change_that_leaves_the_voters_is_one_entry() -> None:
    net = three(genesis=ABC)
    moved = tuple(
        type(m)(m.id, "ws://elsewhere") if m.id == B else m for m in net[A].configuration.voters
    )
    before = net[A].log.last_index
    net.step(A, ChangeDue(net.now, moved, ()))
    net.settle()
    assert net[A].log.last_index == before + 1
    assert net[C].configuration.member(B).address == "ws://elsewhere"  # type: ignore[union-attr]


def test_g03_what_is_cut_is_in_force_no_more() -> None:
    net = with_learner()
    net.down = {B, C, D}
    net.change(A, (A, B, D))
    net.settle()
    assert names(net, A) == ("abd", "abc", "")
    net.down = {A}
    net.elect(B)
    assert net.leads(B)
    net.propose(B)
    net.heal()
    assert names(net, A) == ("abc", "", "d")
    assert net[A].log == net[B].log


def test_g13_none_before_an_entry_of_the_leaders_own_term_is_committed() -> None:
    net = with_learner()
    net.down = {A}
    net.now += 3 * TIMEOUT
    net.step(B, ElectionTimeout(net.now, net[B].tenure))
    while not net.leads(B):
        net.settle(1)
    due = ChangeDue(net.now, members(*ABC), ())
    assert why_no_change(net[B], due) == "its first entry is not committed yet"
    assert net.step(B, due) == []
    net.settle()
    assert why_no_change(net[B], due) is None


def test_g13_one_at_a_time() -> None:
    net = with_learner()
    net.change(A, (A, B, D))
    index = net[A].configuration.index
    net.change(A, (A, B))
    assert net[A].configuration.index == index
    assert why_no_change(net[A], ChangeDue(net.now, members(A, B), ())) == (
        "another change is under way"
    )


def test_g45_what_those_who_answer_could_not_commit_is_refused() -> None:
    net = three(genesis=ABC)
    reason = why_no_change(net[A], ChangeDue(net.now, members(A, D), ()))
    assert reason is not None
    assert "d do not answer" in reason
    net.down = {C}
    net.pass_time(1.5 * TIMEOUT)
    reason = why_no_change(net[A], ChangeDue(net.now, members(A, C), ()))
    assert reason is not None
    assert net.change(A, (A, C)) == []


@pytest.mark.parametrize(
    ("voters", "learners", "reason"),
    [
        ((), (), "a cluster needs a voter"),
        ((A, B, C), (C,), "c can't be voter and learner"),
        ((A, B, ServerId("b", "b-2")), (), "two members have the name b"),
    ],
)
def test_what_makes_no_sense_is_refused(
    voters: tuple[ServerId, ...], learners: tuple[ServerId, ...], reason: str
) -> None:
    net = three(genesis=ABC)
    due = ChangeDue(net.now, members(*voters), members(*learners))
    assert why_no_change(net[A], due) == reason
    assert why_no_change(net[B], due) == "it does not lead"


def test_while_it_hands_over_a_leader_changes_nothing() -> None:
    net = three(genesis=ABC)
    net.transfer(A, B)
    due = ChangeDue(net.now, members(A, B), ())
    assert why_no_change(net[A], due) == "it is handing over to b"


def test_joint_commits_need_both_majorities() -> None:
    net = with_learner()
    net.add(E)
    net.change(A, ABC, (D, E))
    net.settle()
    net.change(A, (A, D, E))  # of a, b and c, and of a, d and e
    commit = net[A].commit
    net.down = {B, C}
    net.settle()
    assert net[A].commit == commit, "a, d and e are all of the new, and one of three of the old"
    net.heal()
    assert names(net, A) == ("ade", "", "")


def test_joint_elections_leases_rounds_and_check_quorum_need_both_majorities() -> None:
    net = with_learner()
    net.add(E)
    net.change(A, ABC, (D, E))
    net.settle()
    net.down = {B, C}
    net.change(A, (A, D, E))
    net.step(A, ReadIndexDue(net.now))
    asked = net.now
    net.pass_time(TIMEOUT / 2)
    role = net[A].role
    assert isinstance(role, Leading)
    assert role.confirmed < role.wanted
    assert lease_until(net[A]) <= asked + TIMEOUT
    assert quorum_deadline(net[A], role) <= asked + TIMEOUT
    net.down = {A, B, C}
    net.elect(D)
    assert not net.leads(D), "d and e are no majority of a, b and c"


def test_a_new_leader_finishes_the_change_that_it_inherits() -> None:
    net = with_learner()
    net.change(A, (A, B, D))
    net.settle(2)
    net.down = {A}
    assert names(net, B) == ("abd", "abc", "")
    net.elect(B)
    assert net.leads(B)
    net.settle()
    assert names(net, B) == ("abd", "", "")
    assert net[B].commit == net[B].log.last_index


def test_a_learner_gets_the_log_and_counts_for_nothing() -> None:
    net = with_learner()
    assert net[D].log == net[A].log
    net.down = {B, C}
    commit = net[A].commit
    net.propose(A)
    net.settle()
    assert net[D].log == net[A].log
    assert net[A].commit == commit
    net.down = {A}
    net.now += 10 * TIMEOUT
    net.step(D, ElectionTimeout(net.now, net[D].tenure))
    assert isinstance(net[D].role, Following), "and it does not campaign"


def test_votes_are_granted_whatever_the_own_configuration_says() -> None:
    net = with_learner()
    net.now += 3 * TIMEOUT
    net.step(D, Received(net.now, E, RequestVote(9, 99, 8)))
    assert net[D].voted_for == E


def test_a_voter_that_goes_has_its_vote_until_the_change_is_over() -> None:
    net = three(genesis=ABC)
    net.down = {B}
    net.change(A, (A, B), (C,))
    assert net[A].configuration.voter(C)
    net.settle()
    assert names(net, A) == ("ab", "abc", "c"), "two of a and b are needed"
    net.heal()
    assert names(net, A) == ("ab", "", "c")
    assert C in net[A].followers


def test_who_is_removed_is_told_and_then_let_go() -> None:
    net = three(genesis=ABC)
    net.change(A, (A, B))
    net.settle()
    net.pass_time(3)
    assert names(net, C) == ("ab", "", "")
    assert net[C].commit >= net[C].configuration.index
    assert net[A].followers == (B,)
    assert (A, do.Dismiss(C)) in net.done


def test_who_can_not_be_told_is_let_go_in_the_end() -> None:
    net = three(genesis=ABC)
    net.down = {C}
    net.change(A, (A, B))
    net.settle()
    assert C in net[A].followers
    net.pass_time(15 * TIMEOUT)
    assert C in net[A].followers
    net.pass_time(2 * TIMEOUT)
    assert net[A].followers == (B,)


def test_who_is_taken_in_again_meanwhile_stays() -> None:
    net = three(genesis=ABC)
    net.down = {C}
    net.change(A, (A, B))
    net.settle()
    net.change(A, (A, B), (C,))
    net.settle()
    net.pass_time(20 * TIMEOUT)
    assert C in net[A].followers
    net.down = set()
    net.pass_time(3)
    assert net[C].log == net[A].log


def test_requests_to_who_comes_back_are_numbered_on() -> None:
    net = with_learner()
    net.pass_time(30)
    number = next(m.number for s, t, m in reversed(net.sent) if t == D)  # type: ignore[union-attr]
    net.down = {D}
    net.change(A, ABC)
    net.settle()
    net.pass_time(17 * TIMEOUT)
    assert D not in net[A].followers
    net.down = set()
    net.change(A, ABC, (D,))
    net.settle()
    net.pass_time(3)
    assert net[D].log == net[A].log
    role = net[A].role
    assert isinstance(role, Leading)
    progress = role.of(D)
    assert progress is not None
    assert progress.match_index == net[A].log.last_index
    assert progress.number > number


def test_g06_a_leader_that_removes_itself_does_not_count_itself_hands_over_and_steps_down() -> None:
    net = three(genesis=ABC)
    net.down = {C}
    net.change(A, (B, C))
    net.settle()
    commit = net[A].commit
    assert names(net, A) == ("bc", "abc", ""), "a and b are a majority of the old half alone"
    net.heal()
    assert names(net, A) == ("bc", "", "")
    assert net[A].commit > commit
    assert not net.leads(A)
    assert sum(net.leads(one) for one in (B, C)) == 1
    assert net[A].term == net[B].term == 2


def test_g06_and_if_nobody_takes_over_it_steps_down_all_the_same() -> None:
    net = three(genesis=ABC)
    net.free = False  # what rests on the lease does not end
    net.change(A, (B, C))
    net.settle()
    assert net.leads(A)
    assert net.propose(A)[-1] == do.Refuse(None)
    deadline = [e.instant for s, e in net.done if s == A and isinstance(e, do.QuorumBy)][-1]
    net.now = deadline
    net.step(A, QuorumTimeout(net.now, net[A].tenure))
    assert not net.leads(A)


def test_g06_a_leader_that_removes_itself_and_reaches_nobody_ends_at_once() -> None:
    net = Net(A, B)
    net.elect(A)
    net.change(A, (B,))
    net.settle()
    assert not net.leads(A)


def test_g05_a_removed_server_does_not_campaign_once_it_knows() -> None:
    net = three(genesis=ABC)
    net.change(A, (A, B))
    net.settle()
    net.pass_time(3)
    net.now += 10 * TIMEOUT
    net.step(C, ElectionTimeout(net.now, net[C].tenure))
    assert isinstance(net[C].role, Following)


def test_g05_and_unsettles_nobody_if_it_does_not() -> None:
    net = three(genesis=ABC)
    net.down = {C}
    net.change(A, (A, B))
    net.settle()
    net.pass_time(20 * TIMEOUT)
    net.down = set()
    term = net[A].term
    net.step(C, ElectionTimeout(net.now, net[C].tenure))
    assert isinstance(net[C].role, Campaigning)
    net.settle()
    assert net.leads(A)
    assert net[A].term == net[B].term == term


def test_a_leaver_that_alone_has_the_last_configuration_can_still_win() -> None:
    """Nobody else's log is complete: thesis 4.2.2."""
    net = with_learner()
    net.change(A, (A, B, D))
    net.settle(2)
    net.down = {B, D}
    net.settle()
    net.down = set()
    before = {one: net[one].configuration for one in (B, C, D)}
    assert all(one.outgoing for one in before.values()) or names(net, C)[1] == ""
    net.down = {A}
    for one in (C, B, D):
        if not any(net.leads(other) for other in (B, C, D)):
            net.elect(one)
    net.settle()
    assert any(net.leads(one) for one in (B, D)) or net.leads(C)


def test_g04_a_server_whose_log_names_others_does_not_elect_itself_alone() -> None:
    net = three(genesis=(A,))
    net.add(B)
    net.change(A, (A,), (B,))
    net.settle()
    net.change(A, (A, B))
    net.settle()
    assert names(net, A) == ("ab", "", "")
    net.down = {B}
    net.nodes[A] = type(net[A])(
        A,
        net[A].settings,
        net[A].configuration,
        term=net[A].term,
        voted_for=A,
        log=net[A].log,
        disk=net[A].disk,
        earlier=net[A].earlier,
    )
    net.elect(A)
    assert not net.leads(A)


def test_a_sole_voter_that_gets_company_is_watched_from_then_on() -> None:
    net = three(genesis=(A,))
    net.add(B)
    net.change(A, (A,), (B,))
    net.settle()
    net.done.clear()
    net.change(A, (A, B))
    deadlines = [e.instant for _, e in net.done if isinstance(e, do.QuorumBy)]
    assert deadlines
    assert deadlines[-1] <= net.now + TIMEOUT


def test_readers_that_wait_for_who_has_left_are_released() -> None:
    net = Net(A, B)
    net.elect(A)
    net.step(A, ReadIndexDue(net.now))
    net.change(A, (A,))
    net.settle(3)
    net.step(A, ReadIndexDue(net.now))
    net.down = {B}
    net.settle()
    role = net[A].role
    assert isinstance(role, Leading)
    assert role.confirmed == role.wanted


def test_an_installed_snapshot_brings_its_own_configuration() -> None:
    net = with_learner()
    brought = Configuration("cluster", members(A, D, E), index=40)
    net.step(B, Received(net.now, A, InstallSnapshot(net[A].term, 50, net[A].term, brought)))
    assert net[B].configurations == (brought,)


def test_what_is_compacted_keeps_what_is_in_force() -> None:
    net = with_learner()
    net.change(A, ABC)
    net.propose(A, 8)
    net.settle()
    assert len(net[A].configurations) == 3
    index = net[A].commit
    net.step(A, SnapshotTaken(net.now, index, index))
    assert [one.index for one in net[A].configurations] == [net[A].configuration.index]
    assert net[A].configuration_at(index) == net[A].configuration
    assert net[A].possible == (net[A].configuration,)


def test_a_change_of_other_voters_leaves_an_earlier_leaver_its_time() -> None:
    net = Net(A, B, C, D)
    net.elect(A)
    net.down = {D}
    net.change(A, ABC)
    net.settle()
    role = net[A].role
    assert isinstance(role, Leading)
    leaves_at = role.of(D).leaves_at  # type: ignore[union-attr]
    net.pass_time(TIMEOUT)
    net.change(A, (A, B))
    net.settle()
    role = net[A].role
    assert isinstance(role, Leading)
    assert role.of(D).leaves_at == leaves_at  # type: ignore[union-attr]
