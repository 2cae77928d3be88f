"""What is no key, no value, no limit: refused where it is made, and where it is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from trioraft import CommandRejected, ProtocolError
from trioraft._commands import Vocabulary
from trioraft._limits import MAX_COMMAND_BYTES
from trioraft._wire.strict import pack
from trioraft.recipes.kv import (
    MAX_KEY_BYTES,
    MAX_OPERATIONS,
    MAX_SCAN,
    MAX_VALUE_BYTES,
    Add,
    CompareAndSet,
    Condition,
    Delete,
    Get,
    KeyValues,
    Operation,
    Put,
    Scan,
    Transaction,
)

VOCABULARY = Vocabulary(KeyValues.commands)
KEY = "é" * (MAX_KEY_BYTES // 2)
VALUE = "é" * (MAX_VALUE_BYTES // 2)
PUT = Put("x", "1")

Make = Callable[[Any], Any]
KEYED: list[Make] = [
    lambda key: Put(key, "1"),
    Get,
    Delete,
    lambda key: Add(key, 1),
    lambda key: CompareAndSet(key, value="1"),
    Condition,
]
VALUED: list[Make] = [
    lambda value: Put("x", value),
    lambda value: CompareAndSet("x", value=value),
    lambda value: CompareAndSet("x", expected=value, value="1"),
    lambda value: Condition("x", expected=value),
]


@pytest.mark.parametrize("make", KEYED)
@pytest.mark.parametrize("key", ["", KEY + "x", "x" * 10**6, "\ud800"])
def test_a_bad_key(make: Make, key: str) -> None:
    with pytest.raises(ValueError):
        make(key)


@pytest.mark.parametrize("make", VALUED)
@pytest.mark.parametrize("value", [VALUE + "x", "\udfff"])
def test_a_bad_value(make: Make, value: str) -> None:
    with pytest.raises(ValueError):
        make(value)


@pytest.mark.parametrize("make", [*KEYED, lambda value: Put("x", value)])
@pytest.mark.parametrize("text", [None, 1, b"x", ["x"]])
def test_what_is_no_text(make: Make, text: Any) -> None:
    with pytest.raises(TypeError, match="must be text, not"):
        make(text)


def test_the_message_names_the_field_and_its_bounds() -> None:
    with pytest.raises(ValueError, match=r"^key must have 1 to 1024 bytes of UTF-8$"):
        Get("")
    with pytest.raises(ValueError, match=r"^value must have 0 to 262144 bytes of UTF-8$"):
        Put("x", VALUE + "x")
    with pytest.raises(ValueError, match=r"^limit must be from 1 to 1000$"):
        Scan(limit=0)


def test_the_longest_key_and_value_travel() -> None:
    """Both in one command, twice the value in another one."""
    for command in (Put(KEY, VALUE), CompareAndSet(KEY, expected=VALUE, value=VALUE)):
        assert VOCABULARY.encode(command)[1] == command


@pytest.mark.parametrize("amount", [2**63, -(2**63) - 1])
def test_an_amount_beyond_64_bits(amount: int) -> None:
    with pytest.raises(ValueError):
        Add("x", amount)


@pytest.mark.parametrize("number", [True, 1.0, "1", None])
def test_what_is_no_whole_number(number: Any) -> None:
    with pytest.raises(TypeError, match="must be an int"):
        Add("x", number)
    with pytest.raises(TypeError, match="must be an int"):
        Scan(limit=number)


@pytest.mark.parametrize("limit", [0, -1, MAX_SCAN + 1, 10**30])
def test_a_bad_limit(limit: int) -> None:
    with pytest.raises(ValueError):
        Scan(limit=limit)


def test_a_bad_prefix_or_after() -> None:
    with pytest.raises(ValueError):
        Scan(KEY + "x")
    with pytest.raises(ValueError):
        Scan(after=KEY + "x")
    assert Scan(KEY, MAX_SCAN, KEY)


@pytest.mark.parametrize("make", [Condition, lambda key, **be: CompareAndSet(key, value="", **be)])
def test_a_bad_expectation(make: Any) -> None:
    for version in (0, -1, 2**63):
        with pytest.raises(ValueError, match="version must be from 1 to"):
            make("x", version=version)
    with pytest.raises(ValueError, match="not both"):
        make("x", expected="1", version=1)


@pytest.mark.parametrize("operations", [[], [PUT] * (MAX_OPERATIONS + 1)])
def test_too_few_or_too_many_operations(operations: list[Put]) -> None:
    with pytest.raises(ValueError):
        Transaction(operations)


def test_too_many_conditions() -> None:
    with pytest.raises(ValueError):
        Transaction([PUT], [Condition("x")] * (MAX_OPERATIONS + 1))


@pytest.mark.parametrize(
    "step", [None, "x", Scan(), CompareAndSet("x", value="1"), Transaction([PUT]), Condition("x")]
)
def test_what_a_transaction_can_not_do(step: Any) -> None:
    with pytest.raises(TypeError, match="a transaction can't do"):
        Transaction([step])


@pytest.mark.parametrize("condition", [None, "x", PUT, CompareAndSet("x", value="1")])
def test_what_is_no_condition(condition: Any) -> None:
    with pytest.raises(TypeError):
        Transaction([PUT], [condition])


@pytest.mark.parametrize("given", [{}, {"put": PUT, "get": Get("x")}])
def test_an_operation_is_one_thing(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one of put, get, delete and add"):
        Operation(**given)


def test_an_operation_under_another_ones_name_is_rejected() -> None:
    wrong: Any = Get("x")
    for operation in (Operation(put=wrong), Operation(add=wrong)):
        with pytest.raises(CommandRejected):
            VOCABULARY.encode(Transaction([operation]))


def test_a_command_may_be_too_large_as_a_whole() -> None:
    with pytest.raises(CommandRejected, match=re.escape(f"the most is {MAX_COMMAND_BYTES}")):
        VOCABULARY.encode(Transaction([Put(f"k{number}", VALUE) for number in range(4)]))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("put", {"key": "", "value": "1"}),
        ("put", {"key": KEY + "x", "value": "1"}),
        ("put", {"key": "x", "value": VALUE + "x"}),
        ("put", {"key": "x", "value": 1}),
        ("put", {"key": "x", "value": b"1"}),
        ("put", {"key": "x", "value": None}),
        ("put", {"key": "x"}),
        ("put", {"key": "x", "value": "1", "time_to_live": 1}),
        ("delete", {"key": ["x"]}),
        ("add", {"key": "x", "amount": "1"}),
        ("add", {"key": "x", "amount": 1.0}),
        ("add", {"key": "x", "amount": True}),
        ("add", {"key": "x", "amount": 2**63}),
        ("compare_and_set", {"key": "x", "expected": "1", "version": 1, "value": "1"}),
        ("compare_and_set", {"key": "x", "version": 0, "value": "1"}),
        ("compare_and_set", {"key": "x", "expected": "1"}),
        ("transaction", {}),
        ("transaction", {"operations": []}),
        ("transaction", {"operations": "put"}),
        ("transaction", {"operations": [{}]}),
        ("transaction", {"operations": [{"put": None}]}),
        ("transaction", {"operations": [{"put": {"key": "", "value": "1"}}]}),
        ("transaction", {"operations": [{"get": {"key": "x"}, "delete": {"key": "x"}}]}),
        ("transaction", {"operations": [{"scan": {}}]}),
        ("transaction", {"operations": [{"get": {"key": "x"}}] * 129}),
        ("transaction", {"operations": [{"get": {"key": "x"}}], "conditions": [{}]}),
        ("transaction", {"operations": [{"get": {"key": "x"}}], "conditions": None}),
        ("get", {"key": "x"}),
    ],
)
def test_what_a_stranger_sends_is_refused_before_it_is_applied(
    name: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(ProtocolError):
        VOCABULARY.decode(pack([name, fields]))


@pytest.mark.parametrize(
    ("name", "fields", "command"),
    [
        ("put", {"key": "x", "value": "1"}, PUT),
        ("delete", {"key": "x"}, Delete("x")),
        ("add", {"key": "x", "amount": -1}, Add("x", -1)),
        ("compare_and_set", {"key": "x", "value": "1"}, CompareAndSet("x", value="1")),
        (
            "compare_and_set",
            {"key": "x", "version": 7, "value": "1"},
            CompareAndSet("x", version=7, value="1"),
        ),
        (
            "transaction",
            {"conditions": [{"key": "y"}], "operations": [{"put": {"key": "x", "value": "1"}}]},
            Transaction([PUT], [Condition("y")]),
        ),
    ],
)
def test_what_may_be_left_out_on_the_wire(
    name: str, fields: dict[str, Any], command: object
) -> None:
    assert VOCABULARY.decode(pack([name, fields])) == command
