"""What servers say to each other: the RPCs of figure 2, and the pre-vote of the thesis (9.6).

A message is a request or its reply.  Who sent it is known from the stream that it came on, by name
and incarnation, so no message claims a sender.
"""

from __future__ import annotations

from attrs import frozen

from trioraft._rules.log import Entries
from trioraft._rules.membership import Configuration


@frozen
class RequestVote:
    """A candidate asks for a vote (5.2).

    `transfer` says that the leader itself has asked it to campaign (thesis 3.10): nobody needs to
    stand by that leader any more.
    """

    term: int
    last_log_index: int
    last_log_term: int
    transfer: bool = False


@frozen
class RequestVoteReply:
    """`vote_granted` counts in `term` only."""

    term: int
    vote_granted: bool


@frozen
class PreVote:
    """A server asks whether it would get a vote in `term`, the one after its own (thesis 9.6)."""

    term: int
    last_log_index: int
    last_log_term: int


@frozen
class PreVoteReply:
    """`term` is the answerer's own; `asked_term` is the one that the grant is for."""

    term: int
    asked_term: int
    vote_granted: bool


@frozen
class AppendEntries:
    """The leader's entries, or none: then it is a heartbeat (5.3).

    `number` rises with each request to one follower in one term.
    """

    term: int
    number: int
    prev_log_index: int
    prev_log_term: int
    leader_commit: int
    entries: Entries


@frozen
class AppendEntriesReply:
    """The answer to request `number`, and so to the ones before it.

    `match_index` is durable at the follower and known to agree with the leader's log.  After a
    failed consistency check the conflict's term and first index say where to look next; term 0
    says that the log ends before `conflict_index`.  `stickiness` is how long, in seconds, the
    follower now refuses its vote to others; `reluctance` is how little it wants to lead.
    """

    term: int
    number: int
    success: bool
    match_index: int
    stickiness: float
    conflict_term: int = 0
    conflict_index: int = 0
    reluctance: int = 0


@frozen
class InstallSnapshot:
    """The leader's snapshot has come over a stream of its own, and is whole and durable here (7).

    `configuration` is the one in force at its end; None: that of the genesis.
    """

    term: int
    last_included_index: int
    last_included_term: int
    configuration: Configuration | None


@frozen
class InstallSnapshotReply:
    """`match_index` is durable at the follower, and agrees with the leader's log of `term`."""

    term: int
    match_index: int


@frozen
class TimeoutNow:
    """The leader asks a follower to campaign at once (thesis 3.10), in its `number`-th attempt.

    `withdrawn`: not any more; it and all attempts before it are to be answered, and not obeyed.
    """

    term: int
    number: int
    withdrawn: bool = False


@frozen
class TimeoutNowReply:
    """The follower did not and will not obey the leader's attempts up to `number`."""

    term: int
    number: int


Message = (
    RequestVote
    | RequestVoteReply
    | PreVote
    | PreVoteReply
    | AppendEntries
    | AppendEntriesReply
    | InstallSnapshot
    | InstallSnapshotReply
    | TimeoutNow
    | TimeoutNowReply
)
Reply = (
    RequestVoteReply | PreVoteReply | AppendEntriesReply | InstallSnapshotReply | TimeoutNowReply
)
