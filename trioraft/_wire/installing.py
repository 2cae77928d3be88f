"""What travels on the stream that carries a snapshot: one piece at a time, each asked for."""

from __future__ import annotations

from attrs import frozen


@frozen
class SnapshotOffer:
    """The leader of `term` offers a snapshot; the same five again are the same bytes."""

    term: int
    cluster: str | None
    last_included_index: int
    last_included_term: int
    size: int
    """In bytes."""
    digest: bytes


@frozen
class SnapshotPiece:
    """The bytes from `offset` on, as many as the leader likes."""

    offset: int
    data: bytes


@frozen
class SnapshotWanted:
    """The follower has everything up to `offset`; at the offered size it wants nothing more."""

    offset: int
