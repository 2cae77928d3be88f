"""Draws a counterexample: a self-contained SVG, with time from left to right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final
from unicodedata import combining, east_asian_width

from trioraft.testing._operations import Operation
from trioraft.testing._timeline import Lane, Words, asked, clipped, got, instants, lanes, moment

if TYPE_CHECKING:
    from trioraft.testing._counterexample import Counterexample

_EDGE: Final = 28
_LETTER: Final = 7.9
"""What a letter takes of the width; fonts differ, so this is the widest of the usual ones."""
_LINE: Final = 20
_BAR: Final = 42
_LANE: Final = _BAR + 14
_DIGIT: Final = 6.7
_GAP: Final = 10
_BADGE: Final = 24

_STYLE: Final = """
text { font: 13px "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #24292f; }
.title { font-size: 16px; font-weight: bold; }
.quiet { fill: #6e7781; }
.time { font-size: 11px; fill: #6e7781; }
.wrong { fill: #a4262c; }
.grid { stroke: #eaeef2; }
.lane { stroke: #d8dee4; }
.bar { fill: #eef3f8; stroke: #8fa6bd; }
.late { fill: #f6f8fa; stroke: #c4ccd4; }
.stuck { fill: #fdecea; stroke: #c9534f; }
.place { fill: #57738f; }
.digit { font-size: 11px; fill: #ffffff; text-anchor: middle; }
"""


def render_svg(example: Counterexample) -> str:
    """A counterexample as an SVG document that needs nothing else."""
    return _Picture(Words(example)).document()


def _width(text: str) -> float:
    """What a text takes in a monospaced font, where some letters are two wide and some none."""
    wide = sum(2 if east_asian_width(c) in "WF" else not combining(c) for c in text)
    return wide * _LETTER


class _Picture:
    def __init__(self, words: Words) -> None:
        self._words = words
        example = words.example
        self._places = {id(step.operation): n for n, step in enumerate(example.order, 1)}
        self._stuck = {id(step.operation) for step in example.stuck}
        self._elements: list[str] = []
        self._right = 0.0
        self._y = float(_EDGE)

    def document(self) -> str:
        words = self._words
        self._text([words.title], "title")
        self._text(words.past(), "quiet")
        self._y += _LINE / 2
        self._chart(lanes(words.drawn))
        self._text(words.table())
        self._text(words.order())
        self._text(words.stuck(), "wrong")
        width, height = math.ceil(self._right + _EDGE), math.ceil(self._y)
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                f'viewBox="0 0 {width} {height}" role="img">',
                f"<title>{escape(words.title)}</title>",
                f"<style>{_STYLE}</style>",
                f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
                *self._elements,
                "</svg>\n",
            )
        )

    def _text(self, lines: Sequence[str], kind: str = "") -> None:
        for line in lines:
            self._put_text(_EDGE, self._y, line, kind)
            self._y += _LINE
        if lines:
            self._y += _LINE * 0.6

    def _put_text(self, x: float, y: float, text: str, kind: str) -> None:
        self._right = max(self._right, x + _width(text) * (1.25 if kind == "title" else 1))
        where = f'x="{x:.1f}" y="{y:.1f}" xml:space="preserve"'
        self._add(f'<text class="{kind}" {where}>{escape(text)}</text>')

    def _add(self, element: str) -> None:
        self._elements.append(element)

    # The chart

    def _chart(self, rows: Sequence[Lane]) -> None:
        start = _EDGE + max(_width(clipped(lane.client)) for lane in rows) + 2 * _LETTER
        across = self._instants(start)
        last = max(across)
        end = across[last] + len(moment(last)) * _DIGIT
        for operation in self._words.drawn:
            if operation.is_unknown:
                end = max(end, across[operation.called] + self._needs(operation))
        self._right = max(self._right, end)
        top = self._y
        self._y = bottom = top + _LANE * len(rows)
        for instant, x in across.items():
            self._add(f'<path class="grid" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>')
            self._add(f'<text class="time" x="{x:.1f}" y="{top - 6:.1f}">{moment(instant)}</text>')
        for number, lane in enumerate(rows):
            y = top + number * _LANE
            is_first = number == 0 or lane.client != rows[number - 1].client
            if is_first:
                self._add(f'<path class="lane" d="M{_EDGE} {y:.1f}H{end:.1f}"/>')
                self._put_text(_EDGE, y + _LANE / 2 + 4, clipped(lane.client), "")
            for operation in lane.operations:
                x = across[operation.called]
                until = end if operation.is_unknown else across[operation.returned]
                self._bar(operation, x, y + (_LANE - _BAR) / 2, until - x)
        self._add(f'<path class="lane" d="M{_EDGE} {bottom:.1f}H{end:.1f}"/>')
        self._y += 2 * _LINE

    def _instants(self, start: float) -> dict[float, float]:
        """Where each instant is: as near to the one before as what is written there allows."""
        across: dict[float, float] = {}
        x = start
        for instant in instants(self._words.drawn):
            for operation in self._words.drawn:
                if operation.returned == instant:
                    x = max(x, across[operation.called] + self._needs(operation))
            across[instant] = x
            x += len(moment(instant)) * _DIGIT + _GAP
        return across

    def _needs(self, operation: Operation) -> float:
        """The width of a bar that holds its words."""
        first = _width(self._asked(operation)) + (_BADGE if id(operation) in self._places else 0)
        return max(first, _width(f"→ {got(operation)}")) + 2 * _LETTER

    def _asked(self, operation: Operation) -> str:
        return f"{self._words.number(operation)} {asked(operation.input)}"

    def _bar(self, operation: Operation, x: float, y: float, width: float) -> None:
        place = self._places.get(id(operation))
        kind = "stuck" if id(operation) in self._stuck else "late" if place is None else "bar"
        if operation.is_unknown:
            shape = f'd="M{x + width:.1f} {y:.1f}H{x:.1f}V{y + _BAR:.1f}H{x + width:.1f}"'
            self._add(f'<path class="{kind}" stroke-dasharray="5 3" {shape}/>')
        else:
            shape = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BAR}" rx="4"'
            self._add(f'<rect class="{kind}" {shape}/>')
        self._put_text(x + _LETTER, y + 17, self._asked(operation), "")
        self._put_text(x + _LETTER, y + 34, f"→ {got(operation)}", "quiet")
        if place is not None:
            middle = x + width - _BADGE / 2 - 2
            self._add(f'<circle class="place" cx="{middle:.1f}" cy="{y + 13:.1f}" r="9"/>')
            self._add(f'<text class="digit" x="{middle:.1f}" y="{y + 17:.1f}">{place}</text>')
