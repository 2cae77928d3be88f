"""What must hold of one server before and after every step; tests and simulations check it.

What must hold between servers (figure 3 of the paper) is checked by whoever sees them all.
"""

from __future__ import annotations

from trioraft._errors import InternalError
from trioraft._rules.node import Following, Leading, Node


def check(before: Node, after: Node) -> None:
    """Compare a server's state before and after a step.

    Raises:
        InternalError: naming the first relation that is broken.
    """
    what = None if after is before else _broken(before, after) or _broken_by_role(before, after)
    if what is not None:
        raise InternalError(f"{after.me}: {what}\nbefore {before}\nafter {after}")


def _broken(before: Node, after: Node) -> str | None:
    """The first relation that no server's step may break, and this one does."""
    log, disk = after.log, after.disk
    if after.term < before.term:
        return "a term never falls"
    if after.term == before.term and before.voted_for not in (None, after.voted_for):
        return "a vote is cast once a term"
    if after.commit < before.commit:
        return "the commit index never falls"
    if after.commit > log.last_index:
        return "what is committed is in the log"
    if log is not before.log and not log.agrees(before.log, before.commit):
        return "what is committed is never cut"
    if not before.log.base_index <= log.base_index <= after.snapshot_index <= after.commit:
        return "what the log has forgotten is in a snapshot, and that is committed"
    if after.snapshot_index < before.snapshot_index:
        return "a snapshot never gives way to an older one"
    if after.configuration.index > log.last_index:
        return "the configuration in force stands in the log"
    if log.last_term > after.term:
        return "no entry is of a later term than the server"
    if disk.index > log.last_index:
        return "what is durable is in the log"
    if disk.done > disk.asked:
        return "the disk does no more than it was asked"
    if type(after.role) is not type(before.role) and after.tenure <= before.tenure:
        return "a new role is a new tenure"
    return None


def _broken_by_role(before: Node, after: Node) -> str | None:
    """The first relation that this role may not break, and does."""
    role, log = after.role, after.log
    if isinstance(role, Following) and role.verified > log.last_index:
        return "what is verified is in the log"
    if not isinstance(role, Leading):
        return None
    if log.term_at(max(role.first_index, log.base_index)) != after.term:
        return "a leader's term begins with its no-op"
    if after.configuration is not before.configuration and (
        before.configuration.index > after.commit or after.commit < role.first_index
    ):
        return "one change at a time, and none before this term's first entry is committed"
    appends = log is before.log or log.agrees(before.log, before.log.last_index)
    if isinstance(before.role, Leading) and not appends:
        return "a leader only appends"
    if after.voted_for != after.me:
        return "a leader voted for itself"
    for follower in role.progress:
        if follower.match_index > log.last_index:
            return "no match is beyond the log"
        if not follower.match_index < follower.next_index <= log.last_index + 1:
            return "next follows match, and is at most one behind the end"
    return None
