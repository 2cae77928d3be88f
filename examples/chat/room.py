"""The room: the state that every server holds, and the one command that changes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs

import trioraft

KEPT = 10_000
"""Lines that the room remembers; with a line goes its id, so a very late double would count."""


def _text(limit: int) -> Callable[[object, attrs.Attribute[str], Any], None]:
    def check(_: object, attribute: attrs.Attribute[str], value: Any) -> None:
        if not isinstance(value, str) or not 0 < len(value) <= limit:
            raise ValueError(f"{attribute.name}: between 1 and {limit} characters")
        value.encode()  # half a surrogate pair is no text; the error is a ValueError

    return check


@attrs.frozen
class Line:
    """One line of the room.  Numbers start at 1 and have no gaps."""

    number: int
    id: str
    author: str
    text: str
    time: float
    term: int


@trioraft.command("say")
@attrs.frozen
class Say:
    """Say something.  The result is the number of the line, also when it had been said before."""

    author: str = attrs.field(validator=_text(40))
    text: str = attrs.field(validator=_text(2000))
    id: str = attrs.field(validator=_text(64))
    """Drawn by whoever says it, so that saying it again after a failure is no second line."""

    def apply(self, room: Room, applied: trioraft.Applied) -> int:
        return room.add(self, applied)


@trioraft.query("lines")
@attrs.frozen
class Lines:
    """The lines behind number `after`, at most `limit` of them, the oldest first."""

    after: int = 0
    limit: int = 200

    def answer(self, room: Room) -> list[Line]:
        first = room.lines[0].number if room.lines else 1
        start = max(0, self.after + 1 - first)
        return room.lines[start : start + self.limit]


class Room:
    """All lines, in the order in which the cluster agreed on them."""

    commands = (Say, Lines)

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._numbers: dict[str, int] = {}

    def add(self, say: Say, applied: trioraft.Applied) -> int:
        if say.id in self._numbers:
            return self._numbers[say.id]
        number = self.lines[-1].number + 1 if self.lines else 1
        self.lines.append(Line(number, say.id, say.author, say.text, applied.time, applied.term))
        self._numbers[say.id] = number
        if len(self.lines) > KEPT:
            del self._numbers[self.lines.pop(0).id]
        return number

    def save(self) -> bytes:
        return json.dumps([attrs.astuple(line) for line in self.lines]).encode()

    def recover(self, state: bytes) -> None:
        self.lines = [Line(*values) for values in json.loads(state)]
        self._numbers = {line.id: line.number for line in self.lines}
