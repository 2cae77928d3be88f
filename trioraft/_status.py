"""A server's state at a glance."""

from __future__ import annotations

from attrs import frozen


@frozen
class PeerStatus:
    """One other server."""

    name: str
    address: str
    connected: bool
    error: str | None
    """Why there is no connection to it; None if there is one, or none was tried yet."""
    match_index: int | None
    """How far its log is known to agree with this one; None unless this server leads."""
    snapshot: float | None = None
    """How much of a snapshot has been sent to it, from 0 to 1; None: none is under way."""


@frozen
class Status:
    """What a server is about."""

    name: str
    cluster: str | None
    """The cluster's id; None before it has formed."""
    state: str
    """"stopped", "follower", "candidate" or "leader"."""
    term: int
    leader: str | None
    voted_for: str | None
    commit_index: int
    last_applied: int
    last_index: int
    last_term: int
    snapshot_index: int
    member_count: int
    """How many voters there are; while they change, how many there will be."""
    quorum_size: int
    peers: tuple[PeerStatus, ...]
    missing: tuple[str, ...]
    """The initial servers that a cluster still waits for to form."""
    configuration_index: int = 0
    """Where the present members stand in the log; 0: they are the first ones."""
    learners: tuple[str, ...] = ()
    """The names of the members without a vote."""
    installing: float | None = None
    """How much of a snapshot has come from the leader, from 0 to 1; None: none is under way."""
