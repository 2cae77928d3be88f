"""The map against a plain dictionary, by any commands in any order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from trioraft.recipes.kv import (
    Add,
    CompareAndSet,
    Condition,
    Delete,
    Found,
    Get,
    Put,
    Scan,
    Transaction,
)
from trioraft.testing._states import state_of

from .alone import Alone

KEYS = st.sampled_from(["a", "ab", "\U0001f600"])
VALUES = st.sampled_from(["", "1", "-7", "x", str(2**63 - 1)])
AMOUNTS = st.sampled_from([-1, 0, 1, 2**63 - 1])
VERSIONS = st.integers(1, 12)

PUTS = st.builds(Put, KEYS, VALUES)
STEPS = st.one_of(
    PUTS, st.builds(Get, KEYS), st.builds(Delete, KEYS), st.builds(Add, KEYS, AMOUNTS)
)
CONDITIONS = st.one_of(
    st.builds(lambda key, value: Condition(key, expected=value), KEYS, st.none() | VALUES),
    st.builds(lambda key, version: Condition(key, version=version), KEYS, VERSIONS),
)
COMMANDS = st.one_of(
    STEPS,
    st.builds(
        lambda k, e, v: CompareAndSet(k, expected=e, value=v), KEYS, st.none() | VALUES, VALUES
    ),
    st.builds(lambda k, n, v: CompareAndSet(k, version=n, value=v), KEYS, VERSIONS, VALUES),
    st.builds(
        Transaction,
        st.lists(STEPS, min_size=1, max_size=5),
        st.lists(CONDITIONS, max_size=1),
    ),
)


class Plain:
    """What the map would be in a few lines, with a whole copy for each command."""

    def __init__(self) -> None:
        self.items: dict[str, tuple[str, int]] = {}
        self.version = 0

    def do(self, command: Any) -> Any:
        """What the command comes to; `ValueError` itself if it raises that."""
        items, self.touched = dict(self.items), False
        try:
            result = self.run(command, items)
        except ValueError:
            return ValueError
        if self.touched:
            self.items, self.version = items, self.version + 1
        return result

    def run(self, command: Any, items: dict[str, tuple[str, int]]) -> Any:
        match command:
            case Get(key):
                return Found(key, *items[key]) if key in items else None
            case Put(key, value):
                before = items.get(key, (None,))[0]
                self.put(items, key, value)
                return before
            case Delete(key):
                self.touched |= key in items
                return items.pop(key, (None,))[0]
            case Add(key, amount):
                total = int(items.get(key, ("0",))[0]) + amount
                if not -(2**63) <= total < 2**63:
                    raise ValueError
                self.put(items, key, str(total))
                return total
            case CompareAndSet(key=key, value=value):
                if holds := self.holds(command):
                    self.put(items, key, value)
                return holds
            case Transaction(operations, conditions):
                if not all(map(self.holds, conditions)):
                    return None
                return tuple(self.run(operation.step, items) for operation in operations)

    def put(self, items: dict[str, tuple[str, int]], key: str, value: str) -> None:
        items[key] = (value, self.version + 1)
        self.touched = True

    def holds(self, condition: Any) -> bool:
        value, version = self.items.get(condition.key, (None, None))
        if condition.version is not None:
            return bool(condition.version == version)
        return bool(condition.expected == value)


def outcome(alone: Alone, command: Any) -> Any:
    if isinstance(command, Get):
        return alone.ask(command)
    try:
        return alone.do(command)
    except ValueError:
        return ValueError


@settings(deadline=None)
@given(st.lists(COMMANDS, max_size=25))
def test_the_map_does_what_a_dictionary_would(commands: list[Any]) -> None:
    alone, plain = Alone(), Plain()
    for command in commands:
        assert outcome(alone, command) == plain.do(command)
        assert alone.machine.version == plain.version
        assert alone.everything() == [Found(k, *plain.items[k]) for k in sorted(plain.items)]


@settings(deadline=None)
@given(st.lists(COMMANDS, max_size=25))
def test_who_watches_knows_the_whole_map(commands: list[Any]) -> None:
    alone = Alone()
    for command in commands:
        outcome(alone, command)
    watched: dict[str, Found] = {}
    for change in alone.announced:
        if change.value is None:
            del watched[change.key]
        else:
            watched[change.key] = Found(change.key, change.value, change.version)
    assert alone.everything() == [watched[key] for key in sorted(watched)]
    versions = [change.version for change in alone.announced]
    assert versions == sorted(versions)


@settings(deadline=None)
@given(st.lists(COMMANDS, max_size=15), st.lists(COMMANDS, max_size=10))
def test_a_recovered_map_goes_on_as_the_other_one(before: list[Any], behind: list[Any]) -> None:
    alone, other = Alone(), Alone()
    for command in before:
        outcome(alone, command)
    other.machine.recover(state_of(alone.machine))
    for command in behind:
        assert outcome(other, command) == outcome(alone, command)
    assert state_of(other.machine) == state_of(alone.machine)


@settings(deadline=None)
@given(
    st.lists(KEYS | st.text(st.sampled_from("ab/"), min_size=1, max_size=4), max_size=30),
    st.text(st.sampled_from("ab/"), max_size=3),
    st.none() | st.text(st.sampled_from("ab/"), max_size=3),
    st.integers(1, 10),
)
def test_a_page_is_what_sorting_and_filtering_gives(
    keys: list[str], prefix: str, after: str | None, limit: int
) -> None:
    alone = Alone()
    for key in keys:
        alone.do(Put(key, key))
    page = alone.ask(Scan(prefix, limit, after))
    wanted = [
        key
        for key in sorted(set(keys))
        if key.startswith(prefix) and (after is None or key > after)
    ]
    assert [found.key for found in page.items] == wanted[:limit]
    assert page.after == (wanted[limit - 1] if len(wanted) > limit else None)
