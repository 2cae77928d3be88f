"""How far snapshots that travel have come."""

from __future__ import annotations

from collections.abc import Callable

from trioraft._events import SnapshotProgress


class Progress:
    """By the other server's name; tells of each hundredth."""

    def __init__(self, emit: Callable[[SnapshotProgress], None]) -> None:
        self._emit = emit
        self.fractions: dict[str, float] = {}
        """From 0 to 1."""

    def reached(self, peer: str, offset: int, size: int) -> None:
        """So many bytes of it are over."""
        before, now = self.fractions.get(peer, 0.0), offset / size
        self.fractions[peer] = now
        if int(100 * before) != int(100 * now):
            self._emit(SnapshotProgress(now, before, peer=peer))

    def ended(self, peer: str) -> None:
        """Nothing is under way any more."""
        self.fractions.pop(peer, None)
