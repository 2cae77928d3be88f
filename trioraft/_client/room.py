"""How much of one client may be under way at a time."""

from __future__ import annotations

import trio

from trioraft._limits import MAX_CLIENT_BYTES, MAX_CLIENT_COMMANDS


class Room:
    """Lets commands in while fewer and smaller ones are under way than may be."""

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self._in_front = trio.lowlevel.ParkingLot()

    @property
    def is_full(self) -> bool:
        """Whether nothing more is let in for now."""
        return self.count >= MAX_CLIENT_COMMANDS or self.bytes >= MAX_CLIENT_BYTES

    async def wait(self) -> None:
        """Wait in front until there is room; whoever did takes it at once."""
        while self.is_full:
            await self._in_front.park()

    def take(self, size: int) -> None:
        """Take room; whoever does gives it back."""
        self.count += 1
        self.bytes += size
        self._let_one_in()  # and that one lets the next one in, as long as there is room

    def give_back(self, size: int) -> None:
        """There is room for another one."""
        self.count -= 1
        self.bytes -= size
        self._let_one_in()

    def _let_one_in(self) -> None:
        if self._in_front and not self.is_full:
            self._in_front.unpark()
