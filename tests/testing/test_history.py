"""Recording what clients ask, and keeping it in a file that may have been anybody's."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trioraft import Applied, CommandFailed, command, query
from trioraft.testing._history import History
from trioraft.testing._history_file import HistoryUnreadable, to_json
from trioraft.testing._operations import Operation, Raised, plain


@command("put")
@attrs.frozen
class Put:
    key: str
    value: bytes = b""
    limits: dict[str, int] = attrs.field(factory=dict)
    names: tuple[str, ...] = ()

    def apply(self, machine: Any, applied: Applied) -> None:
        raise NotImplementedError


@query("get")
@attrs.frozen
class Get:
    key: str

    def answer(self, machine: Any) -> bytes:
        raise NotImplementedError


@attrs.frozen
class Point:
    x: int
    ys: Sequence[int]


class Colour(enum.Enum):
    RED = "red"


COMMANDS = (Put, Get)


# -- recording -------------------------------------------------------------------------------------


async def test_operations_are_recorded_as_they_are_called_and_return(
    autojump_clock: MockClock,
) -> None:
    history = History()
    slow = history.begin("a", Put("x"))
    await trio.sleep(1)
    quick = history.begin("b", Get("x"))
    await trio.sleep(1)
    history.done(quick, b"1")
    await trio.sleep(1)
    history.failed(slow, ValueError("too much"))
    assert history.operations == (
        Operation("a", 0, 3, Put("x"), Raised("ValueError", "too much")),
        Operation("b", 1, 2, Get("x"), b"1"),
    )


async def test_what_happens_at_one_instant_keeps_its_order(autojump_clock: MockClock) -> None:
    history = History()
    for _ in range(3):
        history.done(history.begin("a", Get("x")), b"")
    times = [moment for o in history.operations for moment in (o.called, o.returned)]
    assert times == sorted(set(times))
    assert times[-1] == pytest.approx(times[0])


def test_what_is_under_way_is_unknown_so_far() -> None:
    history = History(lambda: 2.0)
    begun = history.begin("a", Get("x"))
    assert history.operations == (Operation("a", 2, math.inf, Get("x")),)
    assert history.operations[0].is_unknown
    history.unknown(begun)
    assert history.operations == (Operation("a", 2, math.inf, Get("x")),)


def test_what_was_surely_not_done_is_forgotten() -> None:
    history = History(lambda: 2.0)
    history.not_done(history.begin("a", Get("x")))
    assert history.operations == ()


def test_an_operation_ends_once() -> None:
    history, other = History(lambda: 0.0), History(lambda: 0.0)
    ended = history.begin("a", Get("x"))
    history.done(ended, b"")
    forgotten = history.begin("a", Get("x"))
    history.not_done(forgotten)
    for begun in (ended, forgotten, other.begin("a", Get("x"))):
        with pytest.raises(ValueError, match="has ended before, or is of another history"):
            history.done(begun, b"")
        with pytest.raises(ValueError, match="has ended before"):
            history.not_done(begun)


def test_what_apply_raised_is_the_same_wherever_it_was_seen() -> None:
    """On the leader as it is; over the network as a `CommandFailed` that names it."""
    assert Raised.of(KeyError("x")) == Raised.of(CommandFailed("KeyError", "'x'"))


@pytest.mark.parametrize(
    ("called", "returned"), [(2, 1), (math.inf, math.inf), (math.nan, 1), (0, math.nan)]
)
def test_nothing_returns_before_it_is_called(called: float, returned: float) -> None:
    with pytest.raises(ValueError, match=r"called at .* can't return at"):
        Operation("a", called, returned, None)


@pytest.mark.parametrize(
    ("output", "form"),
    [
        ([1, [2]], (1, (2,))),
        (Point(1, [2, 3]), {"x": 1, "ys": (2, 3)}),
        ({Point(1, ()): [Point(2, [])]}, {(("x", 1), ("ys", ())): ({"x": 2, "ys": ()},)}),
        ({"b", "a"}, ("a", "b")),
        (collections.deque([1]), (1,)),
        (Colour.RED, "red"),
        (dt.date(1970, 1, 2), 86400.0),
        (Raised("A", "b"), Raised("A", "b")),
    ],
)
def test_outputs_are_kept_in_plain_form(output: Any, form: Any) -> None:
    assert Operation("a", 0, 1, None, output).output == form
    assert plain(form) == form


def test_an_output_that_changes_later_is_kept_as_it_was() -> None:
    output = {"x": [1]}
    operation = Operation("a", 0, 1, None, output)
    output["x"].append(2)
    assert operation.output == {"x": (1,)}


# -- the file --------------------------------------------------------------------------------------


def saved(path: Path, *operations: Operation) -> list[str]:
    """What a history of these operations is as a file."""
    moments: list[float] = []
    history = History(lambda: moments.pop(0))
    for operation in operations:
        moments.append(operation.called)
        begun = history.begin(operation.client, operation.input)
        if operation.is_unknown:
            history.unknown(begun)
            continue
        moments.append(operation.returned)
        history.done(begun, operation.output)
    history.save(path)
    return path.read_text(encoding="utf-8").splitlines()


def test_the_file_is_what_it_is_said_to_be(tmp_path: Path) -> None:
    put = Put("x", b"\xff", {"base64": 1}, ("a",))
    assert saved(
        tmp_path / "h",
        Operation("c1", 0.5, 0.75, put, None),
        Operation("c2", 1, 2, Get("é"), Raised("KeyError", "'é'")),
        Operation("c1", 3, math.inf, Get("x")),
        Operation("c1", 4, 5, ["get", math.inf, {1: b""}], {"x": [1.5, True]}),
    ) == [
        '{"client": "c1", "called": 0.5, "returned": 0.75, "input": {"put": {"key": "x", '
        '"value": {"base64": "/w=="}, "limits": {"dict": [["base64", 1]]}, "names": ["a"]}}, '
        '"output": null}',
        '{"client": "c2", "called": 1, "returned": 2, "input": {"get": {"key": "\\u00e9"}}, '
        '"raised": {"type": "KeyError", "message": "\'\\u00e9\'"}}',
        '{"client": "c1", "called": 3, "returned": null, "input": {"get": {"key": "x"}}}',
        '{"client": "c1", "called": 4, "returned": 5, "input": ["get", {"float": "inf"}, '
        '{"dict": [[1, {"base64": ""}]]}], "output": {"x": [1.5, true]}}',
    ]


def test_commands_come_back_from_the_file(tmp_path: Path) -> None:
    operations = (
        Operation("c1", 0.5, 0.75, Put("x", b"\xff", {"base64": 1}, ("a",)), Point(1, [2])),
        Operation("c2", 0.8, math.inf, Get("x")),
        Operation("c3", 0.9, 1.5, Get("y"), Raised("KeyError", "'y'")),
    )
    saved(tmp_path / "h", *operations)
    assert History.load(tmp_path / "h", COMMANDS).operations == operations


def test_odd_values_come_back_from_the_file(tmp_path: Path) -> None:
    odd: Any = (math.inf, -math.inf, {"float": "inf"}, {"base64": b"="}, {(1, b""): {None: ()}}, {})
    saved(tmp_path / "h", Operation("a", 0, 1, odd, odd))
    assert History.load(tmp_path / "h").operations == (Operation("a", 0, 1, odd, odd),)
    saved(tmp_path / "h", Operation("a", 0, 1, math.nan))
    assert math.isnan(History.load(tmp_path / "h").operations[0].input)


KEYS = st.text(max_size=3) | st.sampled_from(["base64", "dict", "float"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=2)
        | st.dictionaries(
            st.integers() | st.tuples(st.text(max_size=2), st.binary()), inner, max_size=2
        )
    ),
    max_leaves=8,
)
TIMES = st.floats(0, 1e9)


@given(st.lists(st.tuples(st.text(), TIMES, TIMES, VALUES, VALUES), max_size=4))
@settings(deadline=None, max_examples=30)
def test_plain_values_come_back_from_the_file(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, float, float, Any, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "history"
    operations = [
        Operation(client, called, called + took, plain(asked), got)
        for client, called, took, asked, got in drawn
    ]
    path.write_text("".join(json.dumps(to_json(o)) + "\n" for o in operations), encoding="utf-8")
    assert History.load(path).operations == tuple(operations)


@pytest.mark.parametrize("value", [object(), [1j], {"x": {object()}}])
def test_what_has_no_form_is_not_written(tmp_path: Path, value: Any) -> None:
    for operation in (Operation("a", 0, 1, value), Operation("a", 0, 1, None, value)):
        with pytest.raises(TypeError, match="a history has no form for"):
            saved(tmp_path / "h", operation)
    assert not (tmp_path / "h").exists()


LINE = (
    b'{"client": "c", "called": 0, "returned": 1, "input": {"get": {"key": "x"}}, "output": null}'
)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (LINE, b"", "Expecting value"),
        (LINE, LINE[:40], "Expecting|Unterminated|delimiter"),
        (LINE, LINE + LINE, "Extra data"),
        (LINE, b"[]", "expected an object"),
        (LINE, b"[" * 100_000, "recursion"),
        (b'"c"', b'"\xff"', "can't decode"),
        (b'"c"', b"5", "client: expected a text, got int"),
        (b'"client": "c", ', b"", "'client' is missing"),
        (b'"client"', b'"client": "d", "client"', "a key comes twice"),
        (b'"client"', b'"process": 1, "client"', "unknown keys: process"),
        (b'"called": 0', b'"called": "0"', "expected a time in seconds, got '0'"),
        (b'"called": 0', b'"called": true', "expected a time in seconds, got True"),
        (b'"called": 0', b'"called": NaN', "NaN is no number"),
        (b'"called": 0', b'"called": 1e999', "expected a time in seconds, got inf"),
        (b'"called": 0', b'"called": ' + b"9" * 400, "too large"),
        (b'"called": 0', b'"called": ' + b"9" * 9000, "digits"),
        (b'"called": 0', b'"called": 2', "called at 2.0 can't return at 1.0"),
        (b'"returned": 1', b'"returned": -Infinity', "-Infinity is no number"),
        (b'"returned": 1', b'"returned": null', "can't have an output"),
        (b', "output": null', b"", "has an output, or else raised"),
        (b'"output"', b'"raised": {}, "output"', "has an output, or else raised"),
        (b'"output": null', b'"raised": {"type": "E"}', "raised: expected a type and a message"),
        (
            b'"output": null',
            b'"raised": {"type": "E", "message": "m", "trace": ""}',
            "raised: expected a type and a message",
        ),
        (b'{"get": {"key": "x"}}', b'["get"]', "expected a command's name and its fields"),
        (b'{"get": {"key": "x"}}', b"{}", "expected a command's name and its fields"),
        (b'{"get"', b'{"cut"', "no command 'cut'"),
        (b'{"key": "x"}', b'{"key": 5}', "expected str, got int"),
        (b'{"key": "x"}', b"{}", "'key' is missing"),
        (b'{"key": "x"}', b'{"key": "x", "more": 1}', "Extra fields"),
        (b'{"key": "x"}', b"[]", "."),
        (b'{"key": "x"}', b'{"key": {"base64": "eA=="}}', "expected str, got bytes"),
        (b"null", b'{"base64": "="}', "padding"),
        (b"null", b'{"base64": 5}', "'base64' stands before something else"),
        (b"null", b'{"float": "1"}', "'float' stands before something else"),
        (b"null", b'{"dict": [1]}', "."),
        (b"null", b'{"dict": [[{"dict": []}, 1]]}', "unhashable"),
    ],
)
def test_a_line_that_is_no_operation_is_named(
    tmp_path: Path, old: bytes, new: bytes, reason: str
) -> None:
    assert LINE.count(old) == 1
    path = tmp_path / "h"
    path.write_bytes(LINE + b"\n" + LINE.replace(old, new) + b"\n")
    with pytest.raises(HistoryUnreadable, match=reason) as caught:
        History.load(path, COMMANDS)
    assert (caught.value.file, caught.value.line) == (str(path), 2)
    assert str(caught.value).startswith(f"{path}, line 2: ")


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_no_file_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(LINE))] * 2)))
    words = st.sampled_from(
        [b"null", b"{}", b"[]", b'"', b'{"dict": [[1, 2]]}', b"1e400", b"\\ud800"]
    )
    line = LINE[:start] + data.draw(words | st.binary(max_size=9)) + LINE[end:]
    path = tmp_path_factory.getbasetemp() / "history"
    path.write_bytes(line)
    for commands in (COMMANDS, ()):
        try:
            history = History.load(path, commands)
        except HistoryUnreadable:
            continue
        assert len(history.operations) <= 1


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        History.load(tmp_path / "h")


@pytest.mark.parametrize(("commands", "error"), [((Put, Put), ValueError), ((Point,), TypeError)])
def test_commands_must_be_some(
    tmp_path: Path, commands: Sequence[type[Any]], error: type[Exception]
) -> None:
    (tmp_path / "h").write_bytes(LINE)
    with pytest.raises(error):
        History.load(tmp_path / "h", commands)
