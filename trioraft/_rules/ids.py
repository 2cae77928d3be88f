"""Who a server is: its name, and which life of its disk."""

from __future__ import annotations

from attrs import frozen


@frozen(order=True, cache_hash=True)
class ServerId:
    """A name together with an incarnation.

    The incarnation is drawn when a data directory is first opened.  Votes and matches are counted
    by both, so a server whose disk was wiped is somebody else under an old name.
    """

    name: str
    incarnation: str

    def __str__(self) -> str:
        return self.name
