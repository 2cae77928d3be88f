"""Shows a counterexample: who asked what when, what it got, and where every order ends."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
from attrs import frozen

from trioraft._commands import name_of
from trioraft.testing._operations import Operation, Raised

if TYPE_CHECKING:
    from trioraft.testing._counterexample import Counterexample, Step
    from trioraft.testing._ordering import Start

_LONGEST: Final = 60
_WIDEST: Final = 160
_ROOMY: Final = 100
_STARTS: Final = 6
_STEPS: Final = 12
_SHOWN: Final = 60
"""A minimal example has far fewer operations; of one that is not the end is shown."""


def render_text(example: Counterexample) -> str:
    """A counterexample as lines of text."""
    words = Words(example)
    chart = _Chart(words).lines()
    parts = [[words.title], words.past(), chart, words.table(), words.order(), words.stuck()]
    return "\n\n".join("\n".join(part) for part in filter(None, parts)) + "\n"


# -- words -----------------------------------------------------------------------------------------


def clipped(text: str) -> str:
    """The text on one line, short, and with nothing in it that a terminal would act on."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def asked(given: Any) -> str:
    """An input in a few words."""
    name = name_of(given)
    if name is None:
        return clipped(repr(given))
    values = (getattr(given, field.name) for field in attrs.fields(type(given)))
    return clipped(f"{name}({', '.join(map(repr, values))})")


def came_to(output: Any) -> str:
    """An output in a few words."""
    if isinstance(output, Raised):
        return clipped(f"raised {output.type_name}: {output.message}")
    return clipped(repr(output))


def got(operation: Operation) -> str:
    """What came of an operation in a few words."""
    return "?" if operation.is_unknown else came_to(operation.output)


def moment(seconds: float) -> str:
    """A time, to the millisecond."""
    return f"{seconds:.3f}"


class Words:
    """What there is to say of a counterexample."""

    def __init__(self, example: Counterexample) -> None:
        self.example = example
        self.operations = example.operations[-_SHOWN:]
        """Those that are shown."""
        self.drawn = [o for o in self.operations if not self._is_idle(o)]
        """Those that a chart shows."""
        self._numbers = {id(operation): n for n, operation in enumerate(example.operations, 1)}

    def _is_idle(self, operation: Operation) -> bool:
        """Whether it was called long ago, never returned, and is not in the order either."""
        example = self.example
        if not operation.is_unknown or operation.called > (example.since or -math.inf):
            return False
        ordered = [step.operation for step in example.order]
        used = [other for start in example.starts for other in start.used]
        return all(operation is not other for other in (*ordered, *used))

    @property
    def title(self) -> str:
        """What this is."""
        count = len(self.example.operations)
        what = "one operation" if count == 1 else f"{count} operations"
        key = self.example.key
        where = "" if key is None else f" on key {clipped(repr(key))}"
        return f"Not linearizable: {what}{where} that no order explains"

    def number(self, operation: Operation) -> str:
        """By what an operation is called."""
        return f"[{self._numbers[id(operation)]}]"

    def past(self) -> list[str]:
        """What led here."""
        example, lines = self.example, []
        if not example.is_minimal:
            lines.append("The search for a smaller example was given up.")
        if len(self.operations) < len(example.operations):
            lines.append(f"The last {len(self.operations)} operations are shown.")
        if left := len(self.operations) - len(self.drawn):
            lines.append(f"The chart leaves out {left} that never returned and came to nothing.")
        when = "at the beginning"
        if example.since is not None:
            when = f"at {moment(example.since)}"
            lines.append(f"What had returned by {moment(example.since)} is left out.  Its end:")
            lines += (
                f"    {clipped(o.client)}  {asked(o.input)} -> {got(o)}" for o in example.before
            )
        one_of = ", one of these" if len(example.starts) > 1 else ""
        lines.append(f"The state {when}{one_of}:")
        lines += (f"    {self._start(start)}" for start in example.starts[:_STARTS])
        if len(example.starts) > _STARTS:
            lines.append(f"    or one of {len(example.starts) - _STARTS} more")
        return lines

    def _start(self, start: Start) -> str:
        used = " and ".join(map(self.number, start.used))
        return clipped(repr(start.state)) + (f"  when {used} had taken effect" if used else "")

    def table(self) -> list[str]:
        """The operations, one a line."""
        return _columns(
            (
                self.number(o),
                clipped(o.client),
                f"{moment(o.called)} ..{'' if o.is_unknown else ' ' + moment(o.returned)}",
                f"{asked(o.input)} -> {got(o)}",
            )
            for o in self.operations
        )

    def order(self) -> list[str]:
        """The longest order."""
        example = self.example
        if not example.order:
            return []
        skipped = len(example.order) - _STEPS
        lines = [f"The longest order, from {self._start(example.begin)}:"]
        if skipped > 0:
            lines.append(f"    ({skipped} operations)")
        return lines + _columns(
            (
                f"    {self.number(step.operation)}",
                f"{asked(step.operation.input)} -> {got(step.operation)}",
                f"state {clipped(repr(step.state))}",
            )
            for step in example.order[-_STEPS:]
        )

    def stuck(self) -> list[str]:
        """What can't follow."""
        one, here = "One of these", ""
        if len(self.example.stuck) == 1:
            one = "This"
        if not self.example.order:
            here = f", from {self._start(self.example.begin)}"
        return [
            f"{one} would have to come next{here}:",
            *_columns(map(self._misfit, self.example.stuck)),
        ]

    def _misfit(self, step: Step) -> tuple[str, ...]:
        operation = step.operation
        return (
            f"    {self.number(operation)}",
            f"{asked(operation.input)} -> {got(operation)}",
            f"would return {came_to(step.output)}",
        )


def _columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    kept = list(rows)
    widths = [max(map(len, column)) for column in zip(*kept, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in kept
    ]


# -- the chart -------------------------------------------------------------------------------------


@frozen
class Lane:
    """A row of a client's operations, none of which overlap."""

    client: str
    operations: list[Operation]


def lanes(operations: Sequence[Operation]) -> list[Lane]:
    """The rows that it takes to show operations: one for each client, or more if it must be."""
    found: dict[str, list[Lane]] = {}
    for operation in operations:
        its_own = found.setdefault(operation.client, [])
        free = (lane for lane in its_own if lane.operations[-1].returned < operation.called)
        lane = next(free, None)
        if lane is None:
            its_own.append(Lane(operation.client, [operation]))
        else:
            lane.operations.append(operation)
    return [lane for its_own in found.values() for lane in its_own]


def instants(operations: Iterable[Operation]) -> list[float]:
    """When something was called or returned; charts give each of these a place of its own."""
    both = {o.called for o in operations} | {o.returned for o in operations}
    return sorted(both - {math.inf})


class _Chart:
    """The lanes, drawn in letters."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._instants = instants(words.drawn)
        least = len(str(len(words.example.operations))) + 2
        self._step = max(least, min(_ROOMY // len(self._instants), least + 3))
        self._width = len(self._instants) * self._step

    def lines(self) -> list[str]:
        """The chart; nothing if it is too wide."""
        if self._width > _WIDEST:
            return []
        rows = lanes(self._words.drawn)
        names = [clipped(lane.client) for lane in rows]
        margin = max(map(len, names)) + 2
        first, last = moment(self._instants[0]), moment(self._instants[-1])
        head = " " * margin + first + last.rjust(self._at(self._instants[-1]) + 1 - len(first))
        return [head, *(n.ljust(margin) + self._row(r) for n, r in zip(names, rows, strict=True))]

    def _at(self, instant: float) -> int:
        return bisect_left(self._instants, instant) * self._step

    def _row(self, lane: Lane) -> str:
        cells = [" "] * self._width
        for operation in lane.operations:
            start, number = self._at(operation.called), self._words.number(operation)
            if operation.is_unknown:
                bar = number.ljust(self._width - start - 1, "-") + ">"
            else:
                length = self._at(operation.returned) - start + 1
                bar = number[:-1].ljust(length - 1, "=") + "]"
            cells[start : start + len(bar)] = bar
        return "".join(cells).rstrip()
