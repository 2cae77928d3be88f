"""What callers read without the log, and whether it was as fresh as they had asked."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import trio
from attrs import frozen

from trioraft._commands import Applied, Vocabulary
from trioraft._reads import (
    Answer,
    AtLeast,
    Consistency,
    Lease,
    Linearizable,
    MaxAge,
    Token,
)
from trioraft._wire.frames import Entry
from trioraft._wire.stamps import stamped_time
from trioraft.testing._disks import broken
from trioraft.testing._history import Begun, History
from trioraft.testing._judge import Judge
from trioraft.testing._operations import Raised, plain

_ON_ITS_WAY: Final = 0.05
"""Seconds that an answer may take to whoever asked; it does not grow younger meanwhile."""


@frozen
class _Read:
    """One answer."""

    who: str
    query: Any
    index: int
    value: object


class Reads:
    """Draws how fresh a read is to be, and holds the answers to it."""

    def __init__(self, judge: Judge, *, clocks_agree: bool) -> None:
        self._judge = judge
        self._clocks_agree = clocks_agree
        self._seen: dict[str, int] = {}
        self._reads: list[_Read] = []

    def draw(self, chance: Random, who: str, cluster: str) -> Consistency:
        """Any level; those that rest on clocks only where the clocks can be relied on."""
        level, seconds = chance.randrange(6), chance.choice((0.02, 0.1, 1.0))
        match level:
            case 3 if self._clocks_agree:
                return Lease()
            case 4 if self._clocks_agree:
                return MaxAge(seconds)
            case 5:
                return AtLeast(Token(cluster, self._seen.get(who, 0)))
            case _:
                return Linearizable()

    def begin(
        self, history: History, who: str, query: Any, consistency: Consistency
    ) -> Begun | None:
        """What takes its place in the history is what has to be linearizable."""
        fresh = isinstance(consistency, Linearizable | Lease)
        return history.begin(who, query) if fresh else None

    def answered(
        self, who: str, query: Any, consistency: Consistency, answer: Answer[Any], began: float
    ) -> None:
        """A caller has an answer to what it has asked for since `began`.

        Raises:
            PropertyBroken: it is older than was asked for.
        """
        self._reads.append(_Read(who, query, answer.index, plain(answer.value)))
        match consistency:
            case AtLeast(token) if answer.index < token.index:
                broken(f"{who} asks for {token.index} at least, and reads {answer.index}")
            case MaxAge(seconds):
                if isinstance(answer.consistency, MaxAge) and answer.age > seconds:
                    broken(f"{who} asks for {seconds:g} s at most, and is told {answer.age:g} s")
                self._check_age(who, answer, began)
        self._seen[who] = max(self._seen.get(who, 0), answer.index)

    def _check_age(self, who: str, answer: Answer[Any], began: float) -> None:
        """All that anybody had applied before that time is in the answer."""
        when = trio.current_time() - answer.age - _ON_ITS_WAY
        if isinstance(answer.consistency, Linearizable | Lease):
            when = began  # a round may take its time, and what was done meanwhile may be missing
        least = bisect_right(self._judge.applied_at, when)
        if answer.index < least:
            broken(
                f"{who} is told that its answer, of entry {answer.index}, is {answer.age:g} s old; "
                f"entry {least} had been applied before"
            )

    def check(
        self, machine: Any, history: Sequence[Entry], applied: Sequence[bytes | None]
    ) -> None:
        """Every answer is what the machine says at the entry that the answer names.

        Raises:
            PropertyBroken: one is not.
        """
        vocabulary = Vocabulary(machine.commands)
        due = sorted(self._reads, key=lambda read: read.index)
        place = 0
        for index in range(len(history) + 1):
            if index and (data := applied[index - 1]) is not None:
                _apply(machine, vocabulary.decode(data), history[index - 1])
            while place < len(due) and due[place].index == index:
                _check(due[place], machine)
                place += 1


def _apply(machine: Any, command: Any, entry: Entry) -> None:
    applied = Applied(entry.index, entry.term, stamped_time(entry.payload))
    try:
        command.apply(machine, applied)
    except Exception:  # noqa: BLE001  a result like any other, and not of interest here
        return


def _check(read: _Read, machine: Any) -> None:
    try:
        value: object = plain(read.query.answer(machine))
    except Exception as error:  # noqa: BLE001  a result like any other
        value = Raised.of(error)
    if repr(value) != repr(read.value):
        broken(
            f"{read.who} reads {read.value!r} by {read.query} at entry {read.index}, "
            f"where the machine has {value!r}"
        )
