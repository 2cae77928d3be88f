"""What was said but may not leave yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from trioraft._rules.effects import Send


class Outbox:
    """Holds messages until the writes that they rest on are durable, first in, first out.

    Seen from outside, the server is one whose whole state is what its disk holds, only a little
    slow.  What says only what the disk already has passes at once.
    """

    def __init__(self, post: Callable[[Send], None]) -> None:
        self._post = post
        self._held: deque[Send] = deque()
        self._done = 0

    def send(self, message: Send) -> None:
        """Let the message go, now or when it may."""
        if message.after <= self._done:
            self._post(message)
        else:
            self._held.append(message)

    def release(self, done: int) -> None:
        """Write number `done` is durable: let go of what rested on it."""
        self._done = done
        while self._held and self._held[0].after <= done:
            self._post(self._held.popleft())
