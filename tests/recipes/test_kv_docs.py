"""What docs/kv.md shows is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest

import trioraft
from trioraft._commands import Vocabulary
from trioraft._wire.strict import pack
from trioraft.recipes import kv
from trioraft.recipes.kv import Add, Condition, Get, KeyValues, Put, Transaction

from .alone import Alone

DOCS = (Path(__file__).parent.parent.parent / "docs" / "kv.md").read_text()
VOCABULARY = Vocabulary(KeyValues.commands)


def shown() -> list[tuple[str, dict[str, Any]]]:
    """Each command and query that the page shows in JSON."""
    texts = re.findall(r"`(\{[^`]*\})`", DOCS) + re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)
    given = [json.loads(text) for text in texts]
    return [next(iter(call.items())) for call in given if len(call) == 1]


def read(name: str, fields: dict[str, Any]) -> Any:
    decode = VOCABULARY.decode if name in VOCABULARY.commands else VOCABULARY.decode_query
    return decode(pack([name, fields]))


def test_each_command_and_query_is_shown() -> None:
    names = {vars(cls)["__trioraft_name__"] for cls in KeyValues.commands}
    assert {name for name, _ in shown()} == names


@pytest.mark.parametrize(("name", "fields"), shown())
def test_what_is_shown_is_read(name: str, fields: dict[str, Any]) -> None:
    assert type(read(name, fields)) in KeyValues.commands


def test_the_transaction() -> None:
    """The one in JSON is the one in Python, and comes to what the page says."""
    in_python = Transaction(
        [Add("ann", -5), Add("bob", 5), Get("ann")],
        [Condition("ann", version=7), Condition("eve")],
    )
    fields = dict(shown())["transaction"]
    assert read("transaction", fields) == in_python
    alone = Alone()
    for value in ("7", "7", "7", "7", "7", "7", "42"):
        alone.do(Put("ann", value))
    assert alone.do(in_python) == (37, 5, kv.Found("ann", "37", 8))


def test_a_command_of_ones_own() -> None:
    code = DOCS[DOCS.index("## Commands of your own") :]
    code = code[code.index("```python") + len("```python") : code.rindex("```")]
    names: dict[str, Any] = vars(kv) | {"attrs": attrs, "trioraft": trioraft}
    exec(code, names)
    alone = Alone()
    alone.machine = names["Names"]()
    alone.do(Put("x", "1"))
    alone.do(names["Rename"]("x", "y"))
    assert alone.everything() == [kv.Found("y", "1", 2)]
    with pytest.raises(ValueError, match="nothing to rename"):
        alone.do(names["Rename"]("x", "y"))
    assert len(alone.machine.commands) == len(KeyValues.commands) + 1
