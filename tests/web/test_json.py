"""Commands out of JSON: what is taken, what is refused, and what results look like."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trioraft
from trioraft import CommandRejected
from trioraft._commands import Vocabulary
from trioraft._json import parse, render
from trioraft._json_calls import read_call


class Colour(Enum):
    RED = "red"
    TWO = 2


class Number(IntEnum):
    THREE = 3


@attrs.frozen
class Inner:
    x: int
    more: list[Inner] = attrs.field(factory=list)


@attrs.frozen
class Easy:
    x: int = 0


@trioraft.command("all")
@attrs.frozen
class All:
    i: int = 1
    f: float = 1.0
    s: str = ""
    b: bytes = b""
    t: bool = True
    maybe: bytes | None = None
    either: str | int = 1
    blob: bytes | int = 1
    ints: list[int] = attrs.field(factory=list)
    pair: tuple[str, int] = ("", 1)
    names: frozenset[str] = frozenset()
    words: Sequence[str] = ()
    queue: deque[str] = attrs.field(factory=deque)
    any: list = attrs.field(factory=list)  # type: ignore[type-arg]
    rates: Mapping[str, float] = attrs.field(factory=dict)
    by_number: dict[int, str] = attrs.field(factory=dict)
    inner: Inner | None = None
    easy: Easy = Easy()
    colour: Colour = Colour.RED
    literal: Literal[1, "x"] = 1
    free: Any = None
    odd: complex | None = None
    small: int = attrs.field(default=0, validator=attrs.validators.lt(10))

    def apply(self, machine: Any, applied: Any) -> None: ...


@trioraft.query("ask")
@attrs.frozen
class Ask:
    key: str

    def answer(self, machine: Any) -> None: ...


VOCABULARY = Vocabulary((All, Ask))


def read(fields: str) -> All:
    made = read_call(VOCABULARY, "apply", f'{{"all": {{{fields}}}}}'.encode())
    assert isinstance(made, All)
    return made


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ('"i": -5', -5),
        ('"i": 123456789012345678901234567890', 123456789012345678901234567890),
        ('"f": 2', 2.0),
        ('"f": 2.5e3', 2500.0),
        ('"s": "\\u00e9\\ud83d\\ude00"', "é😀"),
        ('"b": "AAH/"', b"\x00\x01\xff"),
        ('"b": ""', b""),
        ('"maybe": null', None),
        ('"maybe": "YQ=="', b"a"),
        ('"either": "x"', "x"),
        ('"either": 7', 7),
        ('"blob": "YQ=="', b"a"),
        ('"ints": [1, 2]', [1, 2]),
        ('"pair": ["a", 2]', ("a", 2)),
        ('"names": ["a", "b", "a"]', frozenset("ab")),
        ('"words": ["a"]', ("a",)),
        ('"queue": ["a"]', deque(["a"])),
        ('"any": [1, "a", null]', [1, "a", None]),
        ('"rates": {"a": 1}', {"a": 1.0}),
        ('"by_number": [[1, "a"]]', {1: "a"}),
        ('"by_number": {}', {}),
        ('"inner": {"x": 1, "more": [{"x": 2}]}', Inner(1, [Inner(2)])),
        ('"colour": 2', Colour.TWO),
        ('"literal": "x"', "x"),
        ('"free": {"a": [1.5, {}]}', {"a": [1.5, {}]}),
    ],
)
def test_what_is_taken(field: str, value: Any) -> None:
    name = field.partition('"')[2].partition('"')[0]
    found = getattr(read(field), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ('"i": true', "expected a whole number, got true or false at all.i"),
        ('"i": 1.0', "expected a whole number, got a number"),
        ('"i": "1"', "got a string"),
        ('"i": null', "got null"),
        ('"f": true', "expected a number"),
        ('"f": "1"', "expected a number"),
        ('"f": 9007199254740993', "no number that a float can hold"),
        ('"f": 1' + "0" * 400, "too large"),
        ('"t": 1', "expected true or false"),
        ('"s": 1', "expected a string"),
        ('"s": "\\ud800"', "surrogates"),
        ('"b": "YQ"', "padding"),
        ('"b": "Y Q="', "base64"),
        ('"b": "é"', "ASCII"),
        ('"b": [1]', "expected a string"),
        ('"maybe": "x"', "all.maybe"),
        ('"either": 1.5', "all.either"),
        ('"ints": "12"', "expected an array, got a string"),
        ('"ints": [true]', "expected a whole number"),
        ('"pair": ["a"]', "expected 2 items, got 1"),
        ('"words": "ab"', "expected an array"),
        ('"queue": "ab"', "expected an array"),
        ('"any": "ab"', "expected an array"),
        ('"rates": []', "expected an object"),
        ('"rates": {"a": "b"}', "expected a number"),
        ('"by_number": {"1": "a"}', "expected an array"),
        ('"by_number": [[1, "a"], [1, "b"]]', "twice"),
        ('"by_number": [[1]]', "pairs"),
        ('"by_number": [1]', "expected an array"),
        ('"inner": {}', "this field is missing at all.inner.x"),
        ('"inner": {"x": 1, "y": 2}', "there is no field 'y' at all.inner"),
        ('"inner": 5', "expected an object"),
        ('"easy": []', "expected an object"),
        ('"easy": ""', "expected an object"),
        ('"colour": 2.0', "2.0 is no Colour"),
        ('"colour": "blue"', "not a valid Colour"),
        ('"colour": []', "not a valid Colour"),
        ('"literal": true', "expected one of"),
        ('"odd": 1', "no form in JSON"),
        ('"small": 10', "small"),
        ('"zz": 1', "there is no field 'zz' at all"),
        ('"i": 1, "i": 2', "the key 'i' stands there twice"),
        ('"free": NaN', "NaN is no number"),
        ('"free": -Infinity', "-Infinity is no number"),
        ('"free": 1e999', "the number 1e999 is too large"),
        ('"free": ' + "9" * 5000, "limit"),
        ('"free": ' + "[" * 3000 + "]" * 3000, "nested too deep"),
        ('"i": "", "f": "", "t": "", "s": 1, "b": 1', "; and 2 more"),
    ],
)
def test_what_is_refused(fields: str, complaint: str) -> None:
    with pytest.raises(CommandRejected) as caught:
        read(fields)
    assert complaint in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("depth", [100, 200, 300, 400, 600, 900, 1200])
def test_deep_objects_are_read_or_refused(depth: int) -> None:
    text = '"inner": ' + '{"x": 1, "more": [' * depth + "]}" * depth
    try:
        read(text)
    except CommandRejected as error:
        assert "deep" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nul",
        b"[]",
        b"{}",
        b"1",
        b'"all"',
        b'{"all": 1}',
        b'{"all": []}',
        b'{"all": null}',
        b'{"none": {}}',
        b'{"ask": {"key": "x"}}',
        b'{"all": {}, "ask": {}}',
        b'{"all": {}, "all": {}}',
        b'{"all": {}} x',
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        '{"all": {}}'.encode("utf-16"),
        b'{"all": {"s": "\x00"}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_command(text: bytes) -> None:
    with pytest.raises(CommandRejected):
        read_call(VOCABULARY, "apply", text)


def test_a_query() -> None:
    assert read_call(VOCABULARY, "answer", b'{"ask": {"key": "x"}}') == Ask("x")
    with pytest.raises(CommandRejected, match="no query 'all'"):
        read_call(VOCABULARY, "answer", b'{"all": {}}')


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    for data in (text, b'{"all": {' + text + b"}}"):
        with contextlib.suppress(CommandRejected):
            read_call(VOCABULARY, "apply", data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_what_is_rendered_is_read_again(value: Any) -> None:
    assert parse(render(value)) == value


@given(st.sampled_from([field.name for field in attrs.fields(All)]), JSON)
def test_any_value_of_any_field_is_taken_or_refused(name: str, value: Any) -> None:
    text = render({"all": {name: value}})
    with contextlib.suppress(CommandRejected):
        read_call(VOCABULARY, "apply", text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, b"null"),
        (True, b"true"),
        (1.0, b"1.0"),
        ("é\n", b'"\\u00e9\\n"'),
        (b"\x00\xff", b'"AP8="'),
        (bytearray(b"a"), b'"YQ=="'),
        ((1, "a"), b'[1, "a"]'),
        (deque([1]), b"[1]"),
        ({3, 1, 2}, b"[1, 2, 3]"),
        ({"a": {}}, b'{"a": {}}'),
        ({1: "a"}, b'[[1, "a"]]'),
        ({("a", 1): b""}, b'[[["a", 1], ""]]'),
        (Inner(1, [Inner(2)]), b'{"x": 1, "more": [{"x": 2, "more": []}]}'),
        (Colour.RED, b'"red"'),
        (Number.THREE, b"3"),
    ],
)
def test_results(value: Any, text: bytes) -> None:
    assert render(value) == text


@pytest.mark.parametrize(
    "value", [math.nan, -math.inf, object(), 1j, {"a": [math.inf]}, [10**5000], All]
)
def test_what_has_no_form(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        render(value)


def test_what_holds_itself_has_no_form() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested"):
        render(endless)
