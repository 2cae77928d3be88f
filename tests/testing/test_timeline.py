"""What is shown of a counterexample: as text, and as a picture."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import attrs
import pytest

from trioraft import Applied, command
from trioraft.testing._counterexample import Counterexample, Step
from trioraft.testing._linearizability import check
from trioraft.testing._operations import Operation, Raised
from trioraft.testing._ordering import Start
from trioraft.testing._picture import render_svg
from trioraft.testing._timeline import asked, clipped, lanes, render_text

from .models import Lists, ReadingRegisters

SVG = "{http://www.w3.org/2000/svg}"


def op(client: str, called: float, returned: float, *given: Any, to: Any = None) -> Operation:
    return Operation(client, called, returned, given, to)


def example(*operations: Operation) -> Counterexample:
    found = check(operations, ReadingRegisters()).counterexample
    assert found is not None
    return found


STALE = (
    op("ann", 0.5, 1.25, "x", "put", 1),
    op("ann", 2, 7, "x", "cas", 1, 2, to=True),
    op("bob", 3, 6.5, "x", "add", 10, to=11),
    op("cay", 4, math.inf, "x", "put", 9),
    op("bob", 7.5, 8, "x", "get", to=1),
)


def test_the_text_says_who_asked_what_and_where_every_order_ends() -> None:
    assert str(example(*STALE)) == (
        """\
Not linearizable: 3 operations on key 'x' that no order explains

What had returned by 1.250 is left out.  Its end:
    ann  ('x', 'put', 1) -> None
The state at 1.250:
    1

     2.000               7.000
ann  [1======================]
bob        [2==========]
cay              [3]-------------->

[1]  ann  2.000 .. 7.000  ('x', 'cas', 1, 2) -> True
[2]  bob  3.000 .. 6.500  ('x', 'add', 10) -> 11
[3]  cay  4.000 ..        ('x', 'put', 9) -> ?

The longest order, from 1:
    [2]  ('x', 'add', 10) -> 11  state 11

This would have to come next:
    [1]  ('x', 'cas', 1, 2) -> True  would return False
"""
    )


def test_the_text_tells_of_several_starts_and_of_what_was_used() -> None:
    unknown = Operation("c", 0, math.inf, ("append", 1))
    given = [
        unknown,
        Operation("b", 1, 2, ("append", 2)),
        Operation("b", 3, 4, ("all",), (9,)),
        Operation("d", 3, 5, ("pop",), 9),
    ]
    found = check(given, Lists()).counterexample
    assert found is not None
    text = render_text(found)
    assert "The state at 2.000, one of these:\n    (2,)\n    (1, 2)  when [1] had" in text
    assert "From" not in text
    assert "This would have to come next, from (2,):" in text
    assert "    [2]  ('all',) -> (9,)  would return (2,)" in text


def test_the_text_names_all_that_would_have_to_come_next() -> None:
    text = str(example(op("a", 0, 2, "x", "add", 1, to=2), op("b", 1, 3, "x", "add", 1, to=2)))
    assert text.endswith(
        """
One of these would have to come next, from None:
    [1]  ('x', 'add', 1) -> 2  would return 1
    [2]  ('x', 'add', 1) -> 2  would return 1
"""
    )


def test_what_never_returned_and_came_to_nothing_is_not_drawn() -> None:
    found = example(
        Operation("c", 0, math.inf, ("x", "put", 9)),
        op("a", 1, 2, "x", "put", 1),
        op("b", 3, 4, "x", "get", to=5),
    )
    text = render_text(found)
    assert "The chart leaves out 1 that never returned and came to nothing." in text
    assert "\nb  [2====]\n" in text
    assert "[1]  c  0.000 ..        ('x', 'put', 9) -> ?" in text


def test_of_an_example_that_is_not_small_the_end_is_shown() -> None:
    small = example(*STALE)
    steps = [Step(op("a", n, n + 0.5, "x", "put", n), None, n) for n in range(200)]
    large = attrs.evolve(
        small,
        operations=(*(step.operation for step in steps), *small.operations),
        order=tuple(steps),
        starts=tuple(map(Start, range(50))),
        is_minimal=False,
    )
    text = render_text(large)
    assert "The search for a smaller example was given up." in text
    assert "The last 60 operations are shown." in text
    assert "    or one of 44 more" in text
    assert "    (188 operations)\n    [189]  ('x', 'put', 188) -> None  state 188" in text
    assert "====" not in text, "the chart would be too wide"
    assert text.count("\n") < 100
    assert len(rectangles(render_svg(large))) < 70


# -- words -----------------------------------------------------------------------------------------


@command("move")
@attrs.frozen
class Move:
    source: str
    amount: int

    def apply(self, machine: Any, applied: Applied) -> None:
        raise NotImplementedError


def test_a_command_is_shown_by_its_name_and_a_value_as_it_is() -> None:
    assert asked(Move("ann", 3)) == "move('ann', 3)"
    assert asked(("x", "get")) == "('x', 'get')"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short", "short"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        ("a\x1b[2J\n\u202e\ud800", r"a\x1b[2J\n\u202e\ud800"),
        ("\n" * 100_000, r"\n" * 29 + "\\…"),
        ("日本", "日本"),
    ],
)
def test_what_is_shown_is_short_and_does_nothing_to_a_terminal(text: str, shown: str) -> None:
    assert clipped(text) == shown


def test_operations_of_a_client_that_overlap_get_lanes_of_their_own() -> None:
    first, second = op("a", 0, 2), op("b", 1, 3)
    third, fourth = op("a", 2, 4), op("a", 5, 6)
    rows = [(lane.client, lane.operations) for lane in lanes([first, second, third, fourth])]
    assert rows == [("a", [first, fourth]), ("a", [third]), ("b", [second])]


# -- the picture -----------------------------------------------------------------------------------

HOSTILE = (
    op("a\x1b[2J</text><script>&\"'", 0, 9, "日本", "put", "x" * 80),
    op("b", 1, 8, "日本", "put", "\u202e\ud800\n\x00"),
    op("b", 9, 11, "日本", "drop", to=Raised("<E>", "&amp; " + "long " * 30)),
)
BUSY = (
    *(op(f"c{n % 7}", n, n + 6.5, "k", "add", 1, to=n + 1) for n in range(14)),
    op("z", 13.2, 14, "k", "get", to=99),
    Operation("z", 5, math.inf, ("k", "cas", 3, 4)),
)


def rectangles(svg: str) -> list[ET.Element]:
    return [r for r in ET.fromstring(svg).iter(f"{SVG}rect") if r.get("class")]


@pytest.mark.parametrize("operations", [STALE, HOSTILE, BUSY], ids=["stale", "hostile", "busy"])
def test_the_picture_needs_nothing_else_and_has_all_its_texts_inside(
    operations: Sequence[Operation],
) -> None:
    svg = render_svg(example(*operations))
    root = ET.fromstring(svg)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "title", "style", "rect", "path", "circle", "text")
    }
    assert "href" not in svg
    assert "url(" not in svg
    assert "@import" not in svg
    for text in root.iter(f"{SVG}text"):
        assert float(text.get("x", "")) + 6 * len(text.text or "") <= float(root.get("width", ""))
        assert float(text.get("y", "")) <= float(root.get("height", ""))


@pytest.mark.parametrize("operations", [STALE, HOSTILE, BUSY], ids=["stale", "hostile", "busy"])
def test_bars_and_what_is_written_on_them_do_not_overlap(operations: Sequence[Operation]) -> None:
    svg = render_svg(example(*operations))
    rows: dict[str, list[tuple[float, float]]] = {}
    for bar in rectangles(svg):
        start, width = float(bar.get("x", "")), float(bar.get("width", ""))
        rows.setdefault(bar.get("y", ""), []).append((start, start + width))
        for text in ET.fromstring(svg).iter(f"{SVG}text"):
            x, below = float(text.get("x", "")), float(text.get("y", "")) - float(bar.get("y", ""))
            if start < x < start + width and 0 < below < 42 and text.get("class") != "digit":
                assert x + 7.9 * len(text.text or "") <= start + width
    for bars in rows.values():
        bars.sort()
        assert all(end <= start for (_, end), (start, _) in pairwise(bars))


def test_times_at_the_top_do_not_overlap() -> None:
    root = ET.fromstring(render_svg(example(*BUSY)))
    times = [text for text in root.iter(f"{SVG}text") if text.get("class") == "time"]
    assert [text.text for text in times][:3] == ["0.000", "1.000", "2.000"]
    for one, other in pairwise(times):
        end = float(one.get("x", "")) + 6.7 * len(one.text or "")
        assert end < float(other.get("x", ""))


def test_what_strangers_named_is_only_text() -> None:
    root = ET.fromstring(render_svg(example(*HOSTILE)))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "a\\x1b[2J</text><script>&\"'" in texts
    assert not list(root.iter(f"{SVG}script"))


def test_places_in_the_order_and_what_is_stuck_are_marked() -> None:
    root = ET.fromstring(render_svg(example(*STALE)))
    digits = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "digit"]
    assert digits == ["1"]
    kinds = [element.get("class") for element in root.iter() if element.get("class") in BARS]
    assert kinds == ["stuck", "bar", "late"]


BARS = {"bar", "late", "stuck"}
