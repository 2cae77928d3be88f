"""Leadership that is handed over (thesis 3.10), and how a leader's time ends in general.

The target is brought up to date while no new commands are taken; then it is asked to campaign at
once, and its votes are asked for in the leader's name, so nobody stands by that leader any more.
From then on the leader has no lease, until the target has said that it will not obey.
"""

from __future__ import annotations

from trioraft._rules import effects as do
from trioraft._rules.effects import Effect
from trioraft._rules.elections import become_candidate, become_follower, quorum_deadline
from trioraft._rules.events import AppendDue, QuorumTimeout, TransferDue
from trioraft._rules.evolving import evolve
from trioraft._rules.ids import ServerId
from trioraft._rules.messages import TimeoutNow, TimeoutNowReply
from trioraft._rules.node import Following, Leading, Node, Progress, Transfer
from trioraft._rules.tenure import wake_up_at, watch_own_disk

Outcome = tuple[Node, list[Effect]]

_PAUSE = 4
"""Election time-outs between two attempts that nobody asked for."""


# -- the leader's side -------------------------------------------------------------------------


def why_no_transfer(node: Node, target: ServerId | None, now: float) -> str | None:
    """Why this server can't hand over, to that server or to any; None: it can."""
    role = node.role
    if not isinstance(role, Leading):
        return "it does not lead"
    if role.transfer is not None:
        return f"it is handing over to {role.transfer.target}"
    if target == node.me:
        return f"{target} leads already"
    fit = _fit(node, role, now)
    if target is None:
        return None if fit else "no other voter answers"
    if not any(progress.peer == target for progress in fit):
        return f"{target} does not answer, or has no vote"
    return None


def on_transfer_due(node: Node, event: TransferDue) -> Outcome:
    """Begin to hand over, if that can be."""
    role = node.role
    if why_no_transfer(node, event.target, event.now) is not None:
        return node, []
    assert isinstance(role, Leading)
    target = event.target or _fit(node, role, event.now)[0].peer
    return begin(node, role, target, event.now)


def _fit(node: Node, role: Leading, now: float) -> list[Progress]:
    """The followers that could lead: the least reluctant first, then who has the most."""
    voters = {member.id for member in node.configuration.voters}
    fit = [
        progress
        for progress in role.progress
        if progress.peer in voters and node.is_live(progress, now) and not progress.expelled
    ]
    return sorted(fit, key=lambda progress: (progress.reluctance, -progress.match_index))


def begin(node: Node, role: Leading, target: ServerId, now: float) -> Outcome:
    """From here on no command is taken until it is given up, and no lease stands."""
    until = now + node.settings.election_timeout
    number = role.transfers + 1
    role = evolve(role, transfer=Transfer(target, number, until), transfers=number)
    return evolve(node, role=role), [do.QuorumBy(wake_up_at(node, role)), do.Wake(target)]


def is_handing_over(role: Leading) -> bool:
    """Whether an attempt is under way that has not been given up."""
    return role.transfer is not None and not role.transfer.withdrawn


def retire(node: Node, now: float) -> Outcome:
    """This leader is no voter any more, and that is committed: somebody else has to lead (6)."""
    role = node.role
    assert isinstance(role, Leading)
    if role.transfer is not None:
        return node, []
    fit = _fit(node, role, now)
    if not fit:
        return become_follower(node, now, node.term)
    return begin(node, role, fit[0].peer, now)


def hand_over_if_reluctant(node: Node, role: Leading, progress: Progress, now: float) -> Outcome:
    """A leader that had better not lead hands over to one that rather may, once it can."""
    if progress.reluctance >= node.settings.reluctance:
        return node, []
    can = any(member.id == progress.peer for member in node.configuration.voters)
    has_all = progress.match_index >= node.commit >= role.first_index
    if not can or not has_all or role.transfer is not None or now < role.hand_over_at:
        return node, []
    return begin(node, role, progress.peer, now)


def transferring(node: Node, role: Leading, event: AppendDue) -> Outcome:
    """A turn for the target: ask it to campaign once it has everything, or take that back."""
    transfer, progress = role.transfer, role.of(event.peer)
    if transfer is None or progress is None or transfer.target != event.peer:
        return node, []
    if transfer.withdrawn:
        if event.now < transfer.again_at:
            return node, []
        again_at = event.now + node.settings.heartbeat_interval
        role = evolve(role, transfer=evolve(transfer, again_at=again_at))
        again = TimeoutNow(node.term, transfer.number, withdrawn=True)
        return evolve(node, role=role), [do.Send(event.peer, again)]
    has_all = progress.match_index == node.log.last_index
    if transfer.sent or not has_all or not event.free:
        return node, []
    role = evolve(role, transfer=evolve(transfer, sent=True))
    return evolve(node, role=role), [do.Send(event.peer, TimeoutNow(node.term, transfer.number))]


def on_timeout_now_reply(
    node: Node, now: float, sender: ServerId, reply: TimeoutNowReply
) -> Outcome:
    """The target will not obey: this server leads on, with a lease."""
    role = node.role
    if not isinstance(role, Leading) or reply.term != node.term:
        return node, []
    transfer = role.transfer
    if transfer is None or transfer.target != sender or reply.number < transfer.number:
        return node, []
    return _end(node, role, now)


def _end(node: Node, role: Leading, now: float) -> Outcome:
    """The attempt is over, and this server leads; one that is no voter steps down instead."""
    if not node.configuration.voter(node.me):
        return become_follower(node, now, node.term)
    pause = now + _PAUSE * node.settings.election_timeout
    role = evolve(role, transfer=None, hand_over_at=pause)
    return evolve(node, role=role), [do.QuorumBy(wake_up_at(node, role))]


def on_quorum_timeout(node: Node, event: QuorumTimeout) -> Outcome:
    """Step down if no majority has answered in time (thesis 6.2), or if only this disk lags."""
    role = node.role
    assert isinstance(role, Leading), "the tenure was checked"
    if event.now >= quorum_deadline(node, role):
        return become_follower(node, event.now, node.term)
    node, effects = watch_own_disk(node, event.now)
    if isinstance(node.role, Leading):
        node, more = _give_up(node, node.role, event.now)
        effects += more
    if not isinstance(node.role, Leading):
        return node, effects
    return node, [*effects, do.QuorumBy(wake_up_at(node, node.role))]


def _give_up(node: Node, role: Leading, now: float) -> Outcome:
    """An election time-out was all that the target had.

    What was never asked for ends at once.  Else the target may still campaign: it is asked not to,
    and if it does not even answer that, only a new term makes it sure that it won't.
    """
    transfer = role.transfer
    if transfer is None or now < transfer.until:
        return node, []
    if not transfer.sent:
        return _end(node, role, now)
    if transfer.withdrawn or not node.configuration.voter(node.me):
        return become_follower(node, now, node.term)
    until = now + node.settings.election_timeout
    role = evolve(role, transfer=evolve(transfer, withdrawn=True, until=until))
    return evolve(node, role=role), [do.Wake(transfer.target)]


# -- the target's side -------------------------------------------------------------------------


def on_timeout_now(node: Node, now: float, leader: ServerId, request: TimeoutNow) -> Outcome:
    """TimeoutNow, receiver's side: campaign at once, or answer that this will not be.

    It is valid only in its own term and from its leader, for a server whose log is durable.
    """
    role, attempt = node.role, (request.term, request.number)
    if request.term < node.term:
        # It tells this term, and answers no attempt that was made in it.
        refusal = TimeoutNowReply(node.term, number=0)
        return node, [do.Send(leader, refusal, after=node.disk.term_write)]
    is_theirs = isinstance(role, Following) and role.leader == leader
    if request.term > node.term or not is_theirs:
        return node, []
    can = node.configuration.voter(node.me) and node.disk.index == node.log.last_index
    if not request.withdrawn and can and attempt > node.withdrawn:
        return become_candidate(node, now, transfer=True)
    node = evolve(node, withdrawn=max(node.withdrawn, attempt))
    answer = TimeoutNowReply(node.term, request.number)
    return node, [do.Send(leader, answer, after=node.disk.term_write)]
