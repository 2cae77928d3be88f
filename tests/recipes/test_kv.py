"""The key-value map: what each command does, comes to, and announces."""

from __future__ import annotations

from typing import Any

import pytest

from trioraft.recipes.kv import (
    MAX_ANSWER_BYTES,
    MAX_VALUE_BYTES,
    Add,
    Changed,
    CompareAndSet,
    Condition,
    Delete,
    Draft,
    Found,
    Get,
    KeyValues,
    Operation,
    Page,
    Put,
    Scan,
    Step,
    Transaction,
)
from trioraft.testing._states import state_of

from .alone import Alone

LARGE = "v" * MAX_VALUE_BYTES


@pytest.fixture
def alone() -> Alone:
    return Alone()


def unchanged(alone: Alone, command: Any) -> Any:
    """What a command comes to that must change nothing and announce nothing."""
    before, announced = state_of(alone.machine), list(alone.announced)
    try:
        return alone.do(command)
    finally:
        assert state_of(alone.machine) == before
        assert alone.announced == announced


# -- one key -----------------------------------------------------------------------------------


def test_put_comes_to_the_value_before(alone: Alone) -> None:
    assert alone.do(Put("x", "1")) is None
    assert alone.do(Put("x", "")) == "1"
    assert alone.do(Put("x", "2")) == ""


def test_get_finds_value_and_version_or_nothing(alone: Alone) -> None:
    assert alone.ask(Get("x")) is None
    alone.do(Put("w", "0"))
    alone.do(Put("x", "1"))
    assert alone.ask(Get("x")) == Found("x", "1", 2)


def test_each_put_is_a_change_also_of_the_same_value(alone: Alone) -> None:
    alone.do(Put("x", "1"))
    alone.do(Put("x", "1"))
    assert alone.ask(Get("x")) == Found("x", "1", 2)
    assert alone.announced == [Changed("x", "1", 1), Changed("x", "1", 2)]


def test_delete_comes_to_what_was_there(alone: Alone) -> None:
    alone.do(Put("x", "1"))
    assert alone.do(Delete("x")) == "1"
    assert alone.ask(Get("x")) is None
    assert alone.announced[-1] == Changed("x", None, 2)


def test_to_delete_nothing_changes_nothing(alone: Alone) -> None:
    assert unchanged(alone, Delete("x")) is None


def test_no_version_comes_twice_though_its_key_is_gone(alone: Alone) -> None:
    """Whoever expects the first one must not find the second one."""
    alone.do(Put("x", "1"))
    alone.do(Delete("x"))
    alone.do(Put("x", "1"))
    assert alone.ask(Get("x")) == Found("x", "1", 3)
    assert unchanged(alone, CompareAndSet("x", version=1, value="2")) is False


# -- compare and set ---------------------------------------------------------------------------


def test_compare_and_set_by_value(alone: Alone) -> None:
    alone.do(Put("x", "1"))
    assert unchanged(alone, CompareAndSet("x", expected="2", value="3")) is False
    assert unchanged(alone, CompareAndSet("y", expected="", value="3")) is False
    assert alone.do(CompareAndSet("x", expected="1", value="3")) is True
    assert alone.ask(Get("x")) == Found("x", "3", 2)
    assert alone.announced[-1] == Changed("x", "3", 2)


def test_compare_and_set_by_version(alone: Alone) -> None:
    alone.do(Put("x", "1"))
    assert unchanged(alone, CompareAndSet("x", version=2, value="3")) is False
    assert unchanged(alone, CompareAndSet("y", version=1, value="3")) is False
    assert alone.do(CompareAndSet("x", version=1, value="3")) is True
    assert alone.ask(Get("x")) == Found("x", "3", 2)


def test_who_expects_nothing_finds_nothing(alone: Alone) -> None:
    """So two that create one key are never both told that they did."""
    assert alone.do(CompareAndSet("x", value="")) is True
    assert unchanged(alone, CompareAndSet("x", value="2")) is False


# -- add ---------------------------------------------------------------------------------------


def test_add_comes_to_the_sum_and_begins_at_nothing(alone: Alone) -> None:
    assert alone.do(Add("n", 3)) == 3
    assert alone.do(Add("n", -5)) == -2
    assert alone.ask(Get("n")) == Found("n", "-2", 2)
    assert alone.announced == [Changed("n", "3", 1), Changed("n", "-2", 2)]


@pytest.mark.parametrize("value", ["007", "-0", str(2**63 - 2), str(-(2**63))])
def test_add_takes_decimal_numbers(alone: Alone, value: str) -> None:
    alone.do(Put("n", value))
    assert alone.do(Add("n", 1)) == int(value) + 1


@pytest.mark.parametrize(
    "value", ["", "x", "1.5", " 1", "1\n", "+1", "--1", "1_0", "٣", "0x1", "9" * 20, "9" * 5000]
)
def test_add_to_what_is_no_number_is_an_error(alone: Alone, value: str) -> None:
    alone.do(Put("n", value))
    with pytest.raises(ValueError, match="'n': what is there is no whole number"):
        unchanged(alone, Add("n", 1))


@pytest.mark.parametrize(("start", "amount"), [(2**63 - 2, 1), (1 - 2**63, -1), (2**63, -1)])
def test_a_sum_may_have_64_bits(alone: Alone, start: int, amount: int) -> None:
    alone.do(Put("n", str(start)))
    assert alone.do(Add("n", amount)) == start + amount


@pytest.mark.parametrize(("start", "amount"), [(2**63 - 1, 1), (-(2**63), -1)])
def test_a_sum_beyond_64_bits_is_an_error(alone: Alone, start: int, amount: int) -> None:
    alone.do(Put("n", str(start)))
    with pytest.raises(ValueError, match="'n': the sum has no place in 64 bits"):
        unchanged(alone, Add("n", amount))


# -- scan --------------------------------------------------------------------------------------


def put_all(alone: Alone, *keys: str) -> None:
    for key in keys:
        alone.do(Put(key, ""))


def keys(page: Page) -> list[str]:
    return [found.key for found in page.items]


def test_scan_finds_by_prefix_sorted_by_code_point(alone: Alone) -> None:
    put_all(alone, "b/é", "b", "b/\U0001f600", "c", "b/\uffff", "a", "b/", "b/a", "b0")
    assert keys(alone.ask(Scan("b/"))) == ["b/", "b/a", "b/é", "b/\uffff", "b/\U0001f600"]
    in_bytes = sorted(keys(alone.ask(Scan())), key=str.encode)
    assert keys(alone.ask(Scan())) == in_bytes
    assert alone.ask(Scan("d")) == Page((), None)


def test_pages_follow_each_other(alone: Alone) -> None:
    put_all(alone, *"fbdcae", "ba")
    first = alone.ask(Scan(limit=3))
    assert first.items[1] == Found("b", "", 2)
    assert (keys(first), first.after) == (["a", "b", "ba"], "ba")
    second = alone.ask(Scan(limit=3, after=first.after))
    assert (keys(second), second.after) == (["c", "d", "e"], "e")
    last = alone.ask(Scan(limit=3, after=second.after))
    assert (keys(last), last.after) == (["f"], None)


def test_a_full_page_is_the_last_one_if_nothing_follows(alone: Alone) -> None:
    put_all(alone, "a", "b", "c")
    assert alone.ask(Scan(limit=3)).after is None
    put_all(alone, "pa", "pb", "q")
    assert alone.ask(Scan("p", limit=2)).after is None


@pytest.mark.parametrize(
    ("after", "found"),
    [
        ("", ["p", "pa", "pb"]),
        ("a", ["p", "pa", "pb"]),
        ("p", ["pa", "pb"]),
        ("paa", ["pb"]),
        ("pb", []),
        ("z", []),
    ],
)
def test_a_page_may_begin_anywhere(alone: Alone, after: str, found: list[str]) -> None:
    """The key may be gone by now, or have another prefix."""
    put_all(alone, "a", "p", "pa", "pb", "q")
    assert keys(alone.ask(Scan("p", after=after))) == found


def test_a_page_has_no_more_bytes_than_it_may(alone: Alone) -> None:
    for number in range(3):
        alone.do(Put(f"k{number}", LARGE[:-2]))
    page = alone.ask(Scan())
    assert (keys(page), page.after) == (["k0", "k1"], "k1")
    alone.do(Put("k1", LARGE[:-1]))
    page = alone.ask(Scan())
    assert (keys(page), page.after) == (["k0"], "k0")
    assert keys(alone.ask(Scan(after=page.after))) == ["k1"]


def test_a_page_has_one_key_at_least(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioraft.recipes._shelf.MAX_ANSWER_BYTES", 0)
    put_all(alone, "a", "b")
    assert alone.ask(Scan()) == Page((Found("a", "", 1),), "a")


# -- transactions ------------------------------------------------------------------------------


def test_a_transaction_does_all_and_comes_to_all_results(alone: Alone) -> None:
    alone.do(Put("x", "1"))
    alone.do(Put("z", "old"))
    steps: list[Step] = [
        Get("x"),
        Put("x", "2"),
        Get("x"),
        Add("n", 5),
        Add("n", 1),
        Delete("z"),
        Delete("y"),
    ]
    results = (Found("x", "1", 1), "1", Found("x", "2", 3), 5, 6, "old", None)
    assert alone.do(Transaction(steps)) == results
    assert alone.everything() == [Found("n", "6", 3), Found("x", "2", 3)]


def test_a_step_sees_what_those_before_it_took_away(alone: Alone) -> None:
    alone.do(Put("x", "5"))
    steps: list[Step] = [
        Delete("x"),
        Get("x"),
        Delete("x"),
        Add("x", 1),
        Delete("x"),
        Put("x", "2"),
    ]
    assert alone.do(Transaction(steps)) == ("5", None, None, 1, "1", None)
    assert alone.everything() == [Found("x", "2", 2)]


def test_a_transaction_is_one_change_and_announces_each_key_once(alone: Alone) -> None:
    alone.do(Put("z", "old"))
    alone.announced.clear()
    alone.do(Transaction([Put("x", "1"), Delete("z"), Put("a", "1"), Add("x", 1)]))
    assert alone.announced == [Changed("x", "2", 2), Changed("z", None, 2), Changed("a", "1", 2)]
    alone.do(Put("x", "3"))
    assert alone.announced[-1].version == 3


def test_what_comes_and_goes_in_a_transaction_is_not_announced(alone: Alone) -> None:
    """It was seen by a get inside, so its version is not given again."""
    steps: list[Step] = [Put("x", "1"), Get("x"), Delete("x")]
    assert alone.do(Transaction(steps)) == (None, Found("x", "1", 1), "1")
    assert alone.announced == []
    alone.do(Put("x", "1"))
    assert alone.ask(Get("x")) == Found("x", "1", 2)


def test_a_transaction_that_only_reads_changes_nothing(alone: Alone) -> None:
    alone.do(Put("x", "1"))
    results = (Found("x", "1", 1), None)
    assert unchanged(alone, Transaction([Get("x"), Get("y")], [Condition("x", version=1)])) == (
        results
    )


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Condition("x", expected="1"), True),
        (Condition("x", expected="2"), False),
        (Condition("x", version=1), True),
        (Condition("x", version=2), False),
        (Condition("x"), False),
        (Condition("y"), True),
        (Condition("y", expected=""), False),
        (Condition("y", version=1), False),
    ],
)
def test_a_condition(alone: Alone, condition: Condition, holds: bool) -> None:
    alone.do(Put("x", "1"))
    transaction = Transaction([Put("z", "1")], [Condition("x", expected="1"), condition])
    if holds:
        assert alone.do(transaction) == (None,)
        assert alone.ask(Get("z")) == Found("z", "1", 2)
    else:
        assert unchanged(alone, transaction) is None


def test_conditions_are_about_the_map_as_it_was(alone: Alone) -> None:
    transaction = Transaction([Put("x", "1")], [Condition("x")])
    assert alone.do(transaction) == (None,)
    assert alone.do(transaction) is None


def test_a_transaction_that_fails_in_the_middle_has_done_nothing(alone: Alone) -> None:
    alone.do(Put("x", "no number"))
    alone.do(Put("y", "1"))
    with pytest.raises(ValueError, match="no whole number"):
        unchanged(alone, Transaction([Put("z", "1"), Delete("y"), Put("y", "2"), Add("x", 1)]))
    alone.do(Put("z", "1"))
    assert alone.ask(Get("z")) == Found("z", "1", 3), "no version was used up"


def test_results_have_a_largest_size_and_beyond_it_nothing_is_done(alone: Alone) -> None:
    alone.do(Put("a", LARGE))
    alone.do(Put("b", LARGE))
    exactly = [Put("a", ""), Put("b", "")]
    with pytest.raises(ValueError, match=f"the results have more than {MAX_ANSWER_BYTES} bytes"):
        unchanged(alone, Transaction([*exactly, Put("c", ""), Put("c", "1"), Delete("c")]))
    with pytest.raises(ValueError, match="the results have more than"):
        unchanged(alone, Transaction([Get("a"), Get("b")]))
    assert alone.do(Transaction(exactly)) == (LARGE,) * 2


def test_a_step_may_be_written_out(alone: Alone) -> None:
    assert Transaction([Operation(put=Put("x", "1"))]) == Transaction(iter([Put("x", "1")]))
    assert Operation(delete=Delete("x")).step == Delete("x")


# -- the whole ---------------------------------------------------------------------------------


def test_equal_maps_save_equal_bytes_however_they_came_about() -> None:
    one, other = Alone(), Alone()
    one.do(Transaction([Put("a", "1"), Put("b", "2"), Put("c", "3")]))
    other.do(Transaction([Put("c", "x"), Put("b", "2"), Delete("c"), Put("c", "3"), Put("a", "1")]))
    assert state_of(one.machine) == state_of(other.machine)


def test_recover_replaces_the_whole_map(alone: Alone) -> None:
    empty = state_of(alone.machine)
    alone.do(Put("x\n\0\u2028", '"1"\U0001f600\\'))
    full = state_of(alone.machine)
    other = Alone()
    other.do(Put("y", "1"))
    other.do(Put("z", "1"))
    other.machine.recover(full)
    assert other.everything() == alone.everything()
    assert state_of(other.machine) == full
    other.machine.recover(empty)
    assert other.everything() == []
    assert other.do(Put("x", "1")) is None
    assert other.machine.version == 1


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"version":1}\n["x"]',
        b'{"version":1}\n["x","1",1]\n["y"',
    ],
)
def test_what_save_has_not_written_is_not_recovered(alone: Alone, state: bytes) -> None:
    alone.do(Put("x", "1"))
    before = state_of(alone.machine)
    with pytest.raises((ValueError, LookupError, TypeError)):
        alone.machine.recover(state)
    assert state_of(alone.machine) == before


def test_if_nothing_can_be_announced_nothing_changes(alone: Alone) -> None:
    class Mute(Alone):
        def announce(self, change: Changed) -> None:
            raise ValueError("mute")

    mute = Mute()
    mute.machine = alone.machine
    with pytest.raises(ValueError, match="mute"):
        unchanged(mute, Put("x", "1"))


def test_a_command_of_ones_own_changes_all_or_nothing(alone: Alone) -> None:
    def move(draft: Draft) -> str:
        value = draft.value("x")
        draft.delete("x")
        if value is None:
            raise ValueError("nothing to move")
        draft.put("y", value)
        return value

    alone.do(Put("x", "1"))
    applied: Any = alone
    assert alone.machine.atomically(move, applied) == "1"
    assert alone.everything() == [Found("y", "1", 2)]
    with pytest.raises(ValueError, match="nothing to move"):
        alone.machine.atomically(move, applied)
    assert alone.everything() == [Found("y", "1", 2)]


def test_the_names_on_the_wire_stay() -> None:
    names = [vars(cls)["__trioraft_name__"] for cls in KeyValues.commands]
    assert names == ["put", "get", "delete", "compare_and_set", "add", "scan", "transaction"]
