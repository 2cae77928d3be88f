"""How much one message to a follower may hold: what its line carries in good time, and no more.

Heartbeats travel behind the entries, on the same stream.  On a slow line a large message would keep
them back until the follower campaigns, or until the stream is taken for dead and the message sent
again, for ever.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from trioraft._limits import MAX_APPEND_BYTES

LEAST: Final = 1 << 12
START: Final = 1 << 14


class Pace:
    """The bytes that the next message to one follower may hold.

    Doubled when a message that used what it might was answered quickly, halved when an answer came
    late, or never.
    """

    def __init__(self, quick: float, late: float, start: int | None = None) -> None:
        """Begin with little; a good line is up to its full speed within a few answers.

        Args:
            quick: seconds from a request to its answer that are no sign of a slow line.
            late: seconds that are one.
            start: the bytes of the first message, if not the usual ones.
        """
        self._quick = quick
        self._late = late
        self._sent: deque[tuple[int, int]] = deque()
        self.bytes = START if start is None else start

    def sent(self, number: int, size: int) -> None:
        """Request `number` has left with so many bytes of entries."""
        self._sent.append((number, size))

    def answered(self, number: int, seconds: float) -> None:
        """Everything up to request `number` has been answered, that one after so many seconds."""
        most = 0
        while self._sent and self._sent[0][0] <= number:
            most = max(most, self._sent.popleft()[1])
        if seconds >= self._late:
            self._slow_down()
        elif seconds <= self._quick and 2 * most >= self.bytes:
            self.bytes = min(2 * self.bytes, MAX_APPEND_BYTES)

    def broke(self) -> None:
        """The stream broke, and what was on its way in it is lost."""
        if self._sent:
            self._slow_down()
        self._sent.clear()

    def _slow_down(self) -> None:
        self.bytes = max(self.bytes // 2, min(self.bytes, LEAST))
