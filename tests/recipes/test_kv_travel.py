"""What commands and queries come to can be written, within bounds, and read back."""

from __future__ import annotations

from typing import Any

import pytest

from trioraft._commands import Vocabulary, result_type
from trioraft._limits import MAX_RESULT_BYTES
from trioraft._wire.strict import strict_converter, unpack
from trioraft.recipes.kv import (
    MAX_KEY_BYTES,
    MAX_OPERATIONS,
    MAX_SCAN,
    MAX_VALUE_BYTES,
    Add,
    Changed,
    CompareAndSet,
    Condition,
    Delete,
    Get,
    KeyValues,
    Put,
    Scan,
    Step,
    Transaction,
)

from .alone import Alone

VOCABULARY = Vocabulary(KeyValues.commands)
CONVERTER = strict_converter(forbid_extra_keys=True)
STEPS: list[Step] = [Put("x", "1"), Get("x"), Add("n", 1), Delete("x"), Get("x")]


def size(given: Any, result: Any) -> int:
    return len(VOCABULARY.result_data(type(given), result))


@pytest.mark.parametrize(
    "given",
    [
        Put("a", "1"),
        Put("z", "1"),
        Delete("a"),
        Add("n", 1),
        CompareAndSet("a", expected="old", value="1"),
        Transaction(STEPS),
        Transaction(STEPS, [Condition("a")]),
        Get("a"),
        Get("z"),
        Scan(limit=1),
        Scan("z"),
    ],
)
def test_a_result_reads_back_as_it_was(given: Any) -> None:
    alone = Alone()
    alone.do(Put("a", "old"))
    alone.do(Put("b", "old"))
    result = alone.ask(given) if hasattr(given, "answer") else alone.do(given)
    data = VOCABULARY.result_data(type(given), result)
    back: Any = CONVERTER.structure(unpack(data), result_type(type(given)))
    assert (back, type(back)) == (result, type(result))


@pytest.mark.parametrize("change", [Changed("x", "1", 7), Changed("x", None, 7)])
def test_a_change_reads_back_as_it_was(change: Changed) -> None:
    assert KeyValues.changes == (Changed,)
    name, fields = unpack(VOCABULARY.change_data(change))
    assert name == "Changed"
    assert CONVERTER.structure(fields, Changed) == change


def test_no_result_is_too_large_to_be_written() -> None:
    """A few large values, or many small ones: there is room for both."""
    alone = Alone()
    large, small = "v" * MAX_VALUE_BYTES, "v" * 500
    for key in ("a" * MAX_KEY_BYTES, "b" * MAX_KEY_BYTES):
        alone.do(Put(key, large))
    for number in range(MAX_SCAN):
        alone.do(Put(f"{number:08}", small))
    assert size(Scan(limit=MAX_SCAN), alone.ask(Scan("", MAX_SCAN))) < MAX_RESULT_BYTES
    assert size(Scan("a"), alone.ask(Scan("a"))) < MAX_RESULT_BYTES
    put = Put("a" * MAX_KEY_BYTES, "")
    assert size(put, alone.do(put)) < MAX_RESULT_BYTES
    many = Transaction([Get(f"{number:08}") for number in range(MAX_OPERATIONS)])
    assert size(many, alone.do(many)) < MAX_RESULT_BYTES
