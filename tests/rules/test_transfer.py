"""Leadership that is handed over (thesis 3.10), one sentence a test."""

from __future__ import annotations

import pytest
from attrs import evolve

from tests.rules.net import Net, three
from tests.rules.worlds import (
    SETTINGS,
    TIMEOUT,
    A,
    B,
    C,
    D,
    hear,
    leader,
    refusal,
    success,
    take,
    with_progress,
)
from trioraft._errors import InternalError
from trioraft._rules import effects as do
from trioraft._rules.events import ElectionTimeout, Fetched, QuorumTimeout, Received, TransferDue
from trioraft._rules.ids import ServerId
from trioraft._rules.invariants import check
from trioraft._rules.log import Entries
from trioraft._rules.messages import (
    AppendEntriesReply,
    InstallSnapshotReply,
    RequestVote,
    TimeoutNow,
    TimeoutNowReply,
)
from trioraft._rules.node import Campaigning, Following, Leading, Node, Transfer
from trioraft._rules.reads import lease_until
from trioraft._rules.step import step
from trioraft._rules.transfer import retire, why_no_transfer

ABC = (A, B, C)


def transfer_of(net: Net, server: ServerId = A) -> Transfer | None:
    role = net[server].role
    assert isinstance(role, Leading)
    return role.transfer


def asked(net: Net) -> list[TimeoutNow]:
    return [message for _, _, message in net.sent if isinstance(message, TimeoutNow)]


def at_the_deadline(net: Net) -> None:
    """The time that the target was given is over."""
    transfer = transfer_of(net)
    assert transfer is not None
    net.now = transfer.until
    net.step(A, QuorumTimeout(net.now, net[A].tenure))


def slow_target() -> Net:
    """The leader has asked b to campaign, and b does not hear it."""
    net = three(genesis=ABC)
    net.pass_time(3)
    net.transfer(A, B)
    net.down = {B}
    net.settle()
    assert len(asked(net)) == 1
    return net


def test_the_target_leads_at_once_and_in_the_next_term() -> None:
    net = three(genesis=ABC)
    net.transfer(A, B)
    net.settle()
    assert net.leads(B)
    assert net[B].term == net[A].term == 2
    assert not any(isinstance(m, RequestVote) and not m.transfer for s, _, m in net.sent if s == B)


@pytest.mark.parametrize("down", [None, B])
def test_without_a_name_it_goes_to_who_has_the_most_and_answers(down: ServerId | None) -> None:
    net = three(genesis=ABC)
    net.down = {down} if down is not None else set()
    net.propose(A, 3)
    net.pass_time(5 * TIMEOUT if down else 2)
    net.transfer(A, None)
    net.settle()
    assert net.leads(C if down else B)


def test_why_it_can_not_be() -> None:
    net = three(genesis=ABC)
    assert why_no_transfer(net[B], C, net.now) == "it does not lead"
    assert why_no_transfer(net[A], A, net.now) == "a leads already"
    assert why_no_transfer(net[A], D, net.now) == "d does not answer, or has no vote"
    net.transfer(A, B)
    assert why_no_transfer(net[A], C, net.now) == "it is handing over to b"
    alone = Net(A)
    alone.elect(A)
    assert why_no_transfer(alone[A], None, alone.now) == "no other voter answers"
    assert alone.transfer(A, None) == []


def test_commands_are_refused_from_the_start_and_no_lease_stands() -> None:
    net = three(genesis=ABC)
    net.pass_time(2)
    assert lease_until(net[A]) > net.now
    net.transfer(A, B)
    assert lease_until(net[A]) < net.now
    assert net.propose(A) == [do.Refuse(None)]


def test_nobody_is_asked_before_it_has_everything() -> None:
    net = three(genesis=ABC)
    net.down = {B}
    net.propose(A, 2)
    net.settle()
    net.transfer(A, B)
    net.pass_time(TIMEOUT / 2)
    assert not asked(net)
    net.heal()
    assert len(asked(net)) == 1
    assert net.leads(B)


def test_nobody_is_asked_before_what_rests_on_the_lease_has_ended() -> None:
    net = three(genesis=ABC)
    net.free = False
    net.transfer(A, B)
    net.pass_time(2)
    assert not asked(net)
    net.free = True
    net.pass_time(2)
    assert net.leads(B)


def test_given_up_before_it_was_asked_the_leader_leads_on_with_a_lease() -> None:
    net = three(genesis=ABC)
    net.free = False
    net.transfer(A, B)
    net.pass_time(TIMEOUT - 2)
    at_the_deadline(net)
    assert transfer_of(net) is None
    assert lease_until(net[A]) > net.now
    assert isinstance(net.propose(A)[0], do.AppendOwn)


def test_given_up_after_it_was_asked_there_is_no_lease_before_the_target_says_so() -> None:
    net = slow_target()
    net.pass_time(TIMEOUT - 2)
    at_the_deadline(net)
    transfer = transfer_of(net)
    assert transfer is not None
    assert transfer.withdrawn
    assert isinstance(net.propose(A)[0], do.AppendOwn), "it takes commands again"
    net.settle()
    assert lease_until(net[A]) < net.now
    net.down = set()
    net.pass_time(2)
    assert transfer_of(net) is None
    assert lease_until(net[A]) > net.now
    assert net[B].withdrawn == (1, 1)
    net.step(B, Received(net.now, A, TimeoutNow(1, 1)))
    assert isinstance(net[B].role, Following), "what was withdrawn is not obeyed, however late"


def test_a_target_that_is_silent_even_then_costs_the_leader_its_term() -> None:
    net = slow_target()
    net.pass_time(TIMEOUT - 2)
    at_the_deadline(net)
    net.pass_time(TIMEOUT - 2)
    at_the_deadline(net)
    assert not net.leads(A)


def test_it_is_taken_back_once_a_heartbeat_and_not_at_each_turn() -> None:
    net = slow_target()
    net.pass_time(TIMEOUT - 2)
    at_the_deadline(net)
    before = len(asked(net))
    net.settle()
    assert len(asked(net)) == before + 1
    net.pass_time(3)
    assert before + 3 <= len(asked(net)) <= before + 5


def follower_of(server: ServerId = A) -> Net:
    net = three(genesis=ABC)
    net.pass_time(1)
    return net


@pytest.mark.parametrize(
    ("sender", "message"),
    [(C, TimeoutNow(1, 1)), (A, TimeoutNow(2, 1))],
    ids=["of no leader", "of a later term"],
)
def test_who_is_not_the_leader_of_this_term_is_not_obeyed(
    sender: ServerId, message: TimeoutNow
) -> None:
    net = follower_of()
    assert net.step(B, Received(net.now, sender, message)) == []
    assert isinstance(net[B].role, Following)


def test_one_of_an_earlier_term_is_told_the_present_one() -> None:
    net = follower_of()
    net.transfer(A, B)
    net.settle()
    effects = net.step(B, Received(net.now, C, TimeoutNow(1, 1)))
    assert effects == [do.Send(C, TimeoutNowReply(2, 0), net[B].disk.term_write)]


def test_whose_log_is_not_durable_says_no() -> None:
    net = follower_of()
    lagging = evolve(net[B].disk, index=net[B].log.last_index - 1)
    net.nodes[B] = evolve(net[B], disk=lagging)
    effects = net.step(B, Received(net.now, A, TimeoutNow(1, 1)))
    assert [e.message for e in effects if isinstance(e, do.Send)] == [TimeoutNowReply(1, 1)]
    assert isinstance(net[B].role, Following)


def test_an_answer_to_another_attempt_or_of_another_server_ends_nothing() -> None:
    net = slow_target()
    for sender, message in (
        (C, TimeoutNowReply(1, 1)),
        (B, TimeoutNowReply(1, 0)),
        (B, TimeoutNowReply(0, 1)),
    ):
        net.step(A, Received(net.now, sender, message))
        assert transfer_of(net) is not None
    net.step(A, Received(net.now, B, TimeoutNowReply(1, 1)))
    assert transfer_of(net) is None


def test_the_leaders_name_helps_for_one_campaign_only() -> None:
    net = follower_of()
    net.transfer(A, B)
    net.down = {C}
    while not isinstance(net[B].role, Campaigning):
        net.settle(1)
    net.down = {A, C}
    net.settle()
    role = net[B].role
    assert isinstance(role, Campaigning)
    assert role.transfer
    net.now += 3 * TIMEOUT
    net.step(B, ElectionTimeout(net.now, net[B].tenure))
    role = net[B].role
    assert isinstance(role, Campaigning)
    assert role.pre
    assert not role.transfer


def test_who_is_down_or_was_expelled_is_not_chosen() -> None:
    net = three(genesis=ABC)
    net.pass_time(2)
    role = net[A].role
    assert isinstance(role, Leading)
    progress = role.of(B)
    assert progress is not None
    role = role.with_progress(evolve(progress, expelled=True))
    net.nodes[A] = evolve(net[A], role=role)
    net.step(A, TransferDue(net.now, None))
    transfer = transfer_of(net)
    assert transfer is not None
    assert transfer.target == C


# -- reluctance --------------------------------------------------------------------------------


def reluctant(net: Net, server: ServerId, how: int) -> None:
    settings = evolve(SETTINGS, reluctance=how)
    net.nodes[server] = evolve(net[server], settings=settings)


@pytest.mark.parametrize(("how", "silences"), [(0, 0), (1, 1), (2, 4)])
def test_who_had_better_not_lead_lets_others_go_first(how: int, silences: int) -> None:
    net = Net(*ABC)
    reluctant(net, A, how)
    net.nodes[A] = evolve(net[A], role=Following(B if silences else None))
    for _ in range(silences):
        net.now += 3 * TIMEOUT
        net.step(A, ElectionTimeout(net.now, net[A].tenure))
        assert isinstance(net[A].role, Following)
        assert net[A].leader is None, "nobody is sent to one that is not heard"
    net.now += 3 * TIMEOUT
    net.step(A, ElectionTimeout(net.now, net[A].tenure))
    assert isinstance(net[A].role, Campaigning)


def test_it_hands_over_to_who_leads_more_readily_and_has_all() -> None:
    net = Net(*ABC)
    reluctant(net, A, 2)
    for one in (B, C):
        reluctant(net, one, 1)
    for _ in range(4):
        net.now += 3 * TIMEOUT
        net.step(A, ElectionTimeout(net.now, net[A].tenure))
    net.elect(A)
    net.pass_time(3)
    assert not net.leads(A)
    assert sum(net.leads(one) for one in (B, C)) == 1


def test_it_does_not_try_again_at_once() -> None:
    net = Net(*ABC)
    reluctant(net, A, 1)
    net.now += 3 * TIMEOUT
    net.step(A, ElectionTimeout(net.now, net[A].tenure))
    net.free = False
    net.elect(A)
    net.pass_time(2)
    assert transfer_of(net) is not None
    at_the_deadline(net)
    assert transfer_of(net) is None
    net.pass_time(TIMEOUT)
    assert transfer_of(net) is None
    net.pass_time(4 * TIMEOUT)
    assert transfer_of(net) is not None


# -- who has lost what it had said ---------------------------------------------------------------


def led() -> Node:
    """A leader of three entries, which b has acknowledged by its first request."""
    from tests.rules.worlds import acked, fed, propose

    node, _ = propose(leader(1), 2)
    node, _ = fed(node, B)
    node, _ = acked(node, B, node.log.last_index)
    return fed(node, B, now=50.0)[0]


def test_who_lacks_what_it_has_acknowledged_is_expelled_once_and_counts_no_more() -> None:
    from tests.rules.worlds import feed, progress_of

    node = led()
    node, effects = hear(node, B, refusal(node.term, 2, 0, 2))
    assert do.Expel(B, "it had entry 4, and has it no more") in effects
    progress = progress_of(node, B)
    assert progress.expelled
    assert progress.match_index == 0
    assert hear(node, B, success(node.term, 2, 4)) == (node, [])
    assert hear(node, B, InstallSnapshotReply(node.term, 4)) == (node, [])
    assert feed(node, B, now=99.0)[1] == []
    fetched = Fetched(99.0, node.tenure, B, Entries(5, 4))
    assert take(node, fetched) == (node, [])
    assert node.heartbeat_at(B) == float("inf")


def test_who_has_another_entry_there_is_expelled_too() -> None:
    from tests.rules.worlds import fed
    from trioraft._rules.events import LinkUp

    node, _ = take(led(), LinkUp(60.0, B))
    node, request = fed(node, B, now=61.0)
    assert request.prev_log_index == 4
    _, effects = hear(node, B, refusal(node.term, request.number, 1, 3))
    assert any(isinstance(effect, do.Expel) for effect in effects)


@pytest.mark.parametrize(
    "answer",
    [
        refusal(2, 1, 0, 1),
        AppendEntriesReply(2, 0, success=False, match_index=0, stickiness=0.0),
        refusal(2, 2, 1, 1),
    ],
    ids=["sent before what proved it", "of who has a later term", "of what is not acknowledged"],
)
def test_nobody_is_expelled_for_less(answer: AppendEntriesReply) -> None:
    _, effects = hear(led(), B, answer)
    assert not any(isinstance(effect, do.Expel) for effect in effects)


# -- a leader that is no voter any more ------------------------------------------------------------


def outside(node: Node) -> Node:
    """The same leader, in a configuration that does not name it."""
    voters = tuple(m for m in node.configuration.voters if m.id != node.me)
    return evolve(node, configuration=evolve(node.configuration, voters=voters))


def test_if_nobody_can_take_over_it_steps_down_at_once() -> None:
    node = outside(leader(1, 1, 1))
    for peer in (B, C):
        node = with_progress(node, peer, expelled=True)
    after, _ = retire(node, 0.0)
    assert isinstance(after.role, Following)


def test_one_that_hands_over_already_goes_on_with_that() -> None:
    node, _ = take(leader(1, 1, 1), TransferDue(0.0, C))
    assert retire(outside(node), 0.0) == (outside(node), [])


def test_if_the_target_refuses_it_steps_down_all_the_same() -> None:
    node, _ = take(leader(1, 1, 1), TransferDue(0.0, C))
    after, _ = step(outside(node), Received(1.0, C, TimeoutNowReply(node.term, 1)))
    assert isinstance(after.role, Following)


# -- what may never be -----------------------------------------------------------------------------


def test_invariants_of_members() -> None:
    node = leader(1, 1, 1)
    beyond = evolve(node.configuration, index=99)
    with pytest.raises(InternalError, match="the configuration in force stands in the log"):
        check(node, evolve(node, configuration=beyond))
    early = evolve(node.configuration, index=node.log.last_index)
    with pytest.raises(InternalError, match="one change at a time"):
        check(node, evolve(node, configuration=early, commit=0))
