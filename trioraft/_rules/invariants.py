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
    if after is before:
        return
    for what, holds in _relations(before, after):
        if not holds:
            raise InternalError(f"{after.me}: {what}\nbefore {before}\nafter {after}")


def _relations(before: Node, after: Node) -> list[tuple[str, bool]]:
    same_term = after.term == before.term
    last = after.log.last_index
    relations = [
        ("a term never falls", after.term >= before.term),
        (
            "a vote is cast once a term",
            not same_term or before.voted_for in (None, after.voted_for),
        ),
        ("the commit index never falls", after.commit >= before.commit),
        ("what is committed is in the log", after.commit <= last),
        (
            "what is committed is never cut",
            after.log is before.log
            or after.log.cut(before.commit) == before.log.cut(before.commit),
        ),
        ("no entry is of a later term than the server", after.log.last_term <= after.term),
        ("what is durable is in the log", after.disk.index <= last),
        ("the disk does no more than it was asked", after.disk.done <= after.disk.asked),
        (
            "a new role is a new tenure",
            type(after.role) is type(before.role) or after.tenure > before.tenure,
        ),
    ]
    match after.role:
        case Following(verified=verified):
            relations.append(("what is verified is in the log", verified <= last))
        case Leading(first_index=first, progress=progress):
            relations += [
                ("a leader's term begins with its no-op", after.log.term_at(first) == after.term),
                (
                    "a leader only appends",
                    after.log is before.log
                    or not isinstance(before.role, Leading)
                    or after.log.cut(before.log.last_index) == before.log,
                ),
                ("a leader voted for itself", after.voted_for == after.me),
                ("no match is beyond the log", all(p.match_index <= last for p in progress)),
                (
                    "next follows match, and is at most one behind the end",
                    all(p.match_index < p.next_index <= last + 1 for p in progress),
                ),
            ]
    return relations
