"""The checker: known histories good and bad, and a comparison with trying every order."""

from __future__ import annotations

import ast
import math
from collections.abc import Hashable, Iterable, Sequence
from random import Random
from typing import Any

import attrs
import pytest

from trioraft import Applied, CommandRejected, command, query
from trioraft.testing import _counterexample, _model
from trioraft.testing._counterexample import Counterexample
from trioraft.testing._history import History
from trioraft.testing._linearizability import Verdict, check
from trioraft.testing._model import MachineModel, Model
from trioraft.testing._operations import Operation, Raised
from trioraft.testing._ordering import Start

from .models import Lists, ReadingRegisters, Registers, has_order, some_history

REGISTERS: list[Model] = [Registers(), ReadingRegisters()]
ALL: list[Registers | Lists] = [Registers(), ReadingRegisters(), Lists()]


def op(client: str, called: float, returned: float, *given: Any, to: Any = None) -> Operation:
    return Operation(client, called, returned, given, to)


def lost(client: str, called: float, *given: Any) -> Operation:
    return Operation(client, called, math.inf, given)


def is_good(*operations: Operation) -> bool:
    """The verdict, which both kinds of model must agree on, as must the order of the file."""
    verdicts = {
        check(given, model).kind for model in REGISTERS for given in (operations, operations[::-1])
    }
    (kind,) = verdicts
    assert kind != "undecided"
    return kind == "linearizable"


# -- known histories -------------------------------------------------------------------------------


def test_nothing_at_all_is_linearizable() -> None:
    """No operation contradicts another."""
    assert is_good()


def test_a_write_and_a_read_of_it() -> None:
    """The read comes after the write and sees it."""
    assert is_good(op("a", 0, 1, "x", "put", 1), op("b", 2, 3, "x", "get", to=1))


def test_a_stale_read() -> None:
    """The second write had returned before the read was called, which sees the first one."""
    assert not is_good(
        op("a", 0, 1, "x", "put", 1),
        op("a", 2, 3, "x", "put", 2),
        op("b", 4, 5, "x", "get", to=1),
    )


def test_an_old_value_while_the_write_is_under_way() -> None:
    """The read overlaps the second write, so it may come before it."""
    assert is_good(
        op("a", 0, 1, "x", "put", 1),
        op("a", 2, 5, "x", "put", 2),
        op("b", 3, 4, "x", "get", to=1),
    )


def test_reads_that_go_back() -> None:
    """Both reads overlap the write, but the first one saw it and the second, later one did not."""
    assert not is_good(
        op("a", 0, 1, "x", "put", 1),
        op("a", 2, 9, "x", "put", 2),
        op("b", 3, 4, "x", "get", to=2),
        op("c", 5, 6, "x", "get", to=1),
    )


def test_a_lost_update() -> None:
    """Two additions of one each returned one: one of them was lost."""
    assert not is_good(op("a", 0, 2, "x", "add", 1, to=1), op("b", 1, 3, "x", "add", 1, to=1))


def test_a_duplicated_increment() -> None:
    """One addition was asked for, and two are seen."""
    assert not is_good(op("a", 0, 1, "x", "add", 1, to=1), op("b", 2, 3, "x", "get", to=2))


def test_a_read_of_what_nobody_wrote() -> None:
    """No order brings a value that no operation has."""
    assert not is_good(op("a", 0, 4, "x", "put", 1), op("b", 1, 3, "x", "get", to=5))


def test_a_read_before_the_write_was_asked_for() -> None:
    """The value is known before anybody wrote it."""
    assert not is_good(op("b", 0, 1, "x", "get", to=1), op("a", 2, 3, "x", "put", 1))


def test_call_and_return_at_one_instant_are_simultaneous() -> None:
    """The read returns at the very instant at which the write is called, and may come behind it."""
    assert is_good(op("b", 0, 1, "x", "get", to=1), op("a", 1, 2, "x", "put", 1))


def test_an_unknown_write_that_takes_effect_late() -> None:
    """Nobody knows when it was done: here after a read that does not see it."""
    assert is_good(
        lost("a", 0, "x", "put", 1),
        op("b", 1, 2, "x", "get"),
        op("b", 3, 4, "x", "put", 2),
        op("b", 5, 6, "x", "get", to=1),
    )


def test_an_unknown_write_that_never_takes_effect() -> None:
    """It need not be done at all."""
    assert is_good(lost("a", 0, "x", "put", 1), op("b", 1, 2, "x", "get"))


def test_an_unknown_write_that_is_done_and_undone() -> None:
    """It is seen, and then it is not: nobody else wrote, and it can't be taken back."""
    assert not is_good(
        lost("a", 0, "x", "put", 1),
        op("b", 1, 2, "x", "get", to=1),
        op("b", 3, 4, "x", "get"),
    )


def test_an_unknown_write_is_done_once() -> None:
    """It is seen, written over, and seen again: it would have been done twice."""
    assert not is_good(
        lost("a", 0, "x", "put", 1),
        op("b", 1, 2, "x", "get", to=1),
        op("b", 3, 4, "x", "put", 2),
        op("b", 5, 6, "x", "get", to=1),
    )


def test_two_unknown_writes_alike_are_two() -> None:
    """What one of them can't do twice, the two of them can."""
    assert is_good(
        lost("a", 0, "x", "put", 1),
        lost("c", 0, "x", "put", 1),
        op("b", 1, 2, "x", "get", to=1),
        op("b", 3, 4, "x", "put", 2),
        op("b", 5, 6, "x", "get", to=1),
    )


def test_an_unknown_write_is_not_done_before_it_is_asked_for() -> None:
    """The read had returned before the write was called."""
    assert not is_good(op("b", 0, 1, "x", "get", to=1), lost("a", 2, "x", "put", 1))


def test_unknown_ones_that_nobody_can_compare_are_two_as_well() -> None:
    """Their inputs have no form in a file, so nothing is known of how alike they are."""
    history = [
        Operation("a", 0, math.inf, ("append", 1j)),
        Operation("a", 0, math.inf, ("append", 1j)),
        Operation("b", 1, 2, ("all",), (1j, 1j)),
    ]
    assert check(history, Lists()).is_linearizable
    assert not check(history[1:], Lists()).is_linearizable


def test_an_unknown_one_that_needs_another_unknown_one() -> None:
    """The swap succeeds only behind the write, and the read sees the swap."""
    steps = [lost("a", 0, "x", "put", 1), lost("b", 0, "x", "cas", 1, 2)]
    seen = op("c", 1, 2, "x", "get", to=2)
    assert is_good(*steps, seen)
    assert not is_good(steps[1], seen)


@pytest.mark.parametrize("late", ["put", "cas"])
def test_which_of_two_unknown_ones_was_done_is_left_open(late: str) -> None:
    """Either explains the first read, and only the write can explain the second one."""
    put, swap = ("x", "put", 1), ("x", "cas", None, 1)
    assert is_good(
        lost("a", 0, *(swap if late == "put" else put)),
        lost("b", 0.5, *(put if late == "put" else swap)),
        op("c", 1, 2, "x", "get", to=1),
        op("c", 3, 4, "x", "put", 2),
        op("c", 5, 6, "x", "get", to=1),
    )


DETOUR = (
    op("a", 0, 2, "x", "put", 1),
    op("b", 0, 3, "x", "put", 2),
    lost("c", 0, "x", "put", 1),
    *(op("d", n, n + 0.5, "x", "cas", 7, 8, to=False) for n in range(4, 10)),
    op("d", 11, 12, "x", "get", to=1),
)
"""The search first has 2 for the last write, and uses the unknown one before it looks again."""


def test_an_unknown_one_that_was_used_without_need_is_given_back() -> None:
    """The first read is explained without the unknown write, which the second one needs."""
    more = (op("d", 13, 14, "x", "put", 3), op("d", 15, 16, "x", "get", to=1))
    assert is_good(*DETOUR, *more)
    assert not is_good(
        *DETOUR,
        *more,
        op("d", 17, 18, "x", "put", 3),
        attrs.evolve(more[1], called=19, returned=20),
    )


def test_keys_do_not_touch_each_other() -> None:
    """One register is written, the other one read; and what is wrong with one is wrong."""
    good = [op("a", 0, 1, "x", "put", 1), op("a", 2, 3, "y", "get")]
    assert is_good(*good)
    assert not is_good(*good, op("a", 4, 5, "y", "get", to=1))


def test_overlapping_operations_in_an_order_that_must_be_found() -> None:
    """Only put 2, swap 2 for 3, put 1 explains both reads; the search takes others back first."""
    assert is_good(
        op("a", 0, 9, "x", "put", 1),
        op("b", 0, 9, "x", "put", 2),
        op("c", 0, 9, "x", "cas", 2, 3, to=True),
        op("d", 4, 5, "x", "get", to=3),
        op("d", 6, 7, "x", "get", to=1),
    )


def test_a_swap_that_must_have_failed() -> None:
    """The register held another value all the time, and yet the swap says that it was done."""
    assert not is_good(op("a", 0, 1, "x", "put", 1), op("b", 2, 3, "x", "cas", 2, 3, to=True))


def test_a_swap_that_can_have_failed() -> None:
    """It comes before the write that would have let it succeed."""
    overlapping = [op("a", 0, 3, "x", "put", 1), op("b", 0, 3, "x", "cas", 1, 2, to=False)]
    assert is_good(*overlapping, op("a", 4, 5, "x", "get", to=1))
    assert not is_good(*overlapping, op("a", 4, 5, "x", "get", to=2))


def test_an_error_is_an_output() -> None:
    """What `apply` raised must be what it would have raised in its place."""
    empty = Raised("KeyError", "empty")
    assert is_good(op("a", 0, 1, "x", "drop", to=empty))
    assert not is_good(op("a", 0, 1, "x", "put", 1), op("a", 2, 3, "x", "drop", to=empty))
    assert not is_good(op("a", 0, 1, "x", "drop", to=Raised("KeyError", "another")))


# -- a comparison ----------------------------------------------------------------------------------


def compare(histories: Iterable[list[Operation]], model: Model) -> dict[bool, int]:
    counts = {True: 0, False: 0}
    for history in histories:
        expected = has_order(history, model, model.initial())
        verdict = check(history, model)
        assert verdict.kind == ("linearizable" if expected else "not linearizable"), history
        if verdict.counterexample is not None:
            is_right(verdict.counterexample, history, model)
        counts[expected] += 1
    return counts


def is_right(example: Counterexample, history: Sequence[Operation], model: Model) -> None:
    assert example.is_minimal
    assert all(o.called <= example.end for o in example.operations)
    until = [as_known_before(o, example.end) for o in history if o.called < example.end]
    assert has_order(until, model, model.initial()), "a shorter prefix fails as well"
    assert example.starts
    assert all(fails(example.operations, start, model) for start in example.starts)
    for operation in filter(is_read, example.operations):
        rest = [o for o in example.operations if o is not operation]
        assert not all(fails(rest, start, model) for start in example.starts), "a read too many"
    follows(example, model)


def as_known_before(operation: Operation, end: float) -> Operation:
    if operation.returned < end:
        return operation
    return attrs.evolve(operation, returned=math.inf, output=None)


def fails(operations: Sequence[Operation], start: Start, model: Model) -> bool:
    left = [o for o in operations if not any(o is used for used in start.used)]
    return not has_order(left, model, start.state)


def is_read(operation: Operation) -> bool:
    return bool(operation.input == ("all",) or operation.input[-1] == "get")


def follows(example: Counterexample, model: Model) -> None:
    """The order that is shown is one, and what is stuck behind it is stuck."""
    state = example.begin.state
    for step in example.order:
        state, output = model.apply(state, step.operation.input)
        assert (state, output) == (step.state, step.output)
        assert step.operation.is_unknown or output == step.operation.output
    assert example.stuck
    for step in example.stuck:
        assert model.apply(state, step.operation.input)[1] == step.output != step.operation.output


def histories(seed: int, model: Registers | Lists, doubt: float) -> Iterable[list[Operation]]:
    chance = Random(seed)
    for _ in range(100):
        size = chance.choice((1, 2, 3, 4, 5, 5, 5, 6))
        yield some_history(chance, model, size=size, doubt=doubt, lies=0.2)


@pytest.mark.parametrize("doubt", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("model", ALL, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("seed", range(3))
def test_trying_every_order_comes_to_the_same(
    seed: int, model: Registers | Lists, doubt: float
) -> None:
    """Many thousand orders of some thousand histories, good and bad ones."""
    counts = compare(histories(seed, model, doubt), model)
    assert counts[True] > 10
    assert counts[False] > 2


@pytest.mark.parametrize("seed", range(3))
def test_a_counterexample_that_starts_in_the_middle_is_right(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short histories have a quiet moment mostly; here they start wherever it is the shortest."""
    monkeypatch.setattr(_counterexample, "_IN_FLIGHT", 0)
    compare(histories(seed, Registers(), 0.2), Registers())


# -- the counterexample ----------------------------------------------------------------------------


def counterexample(*operations: Operation, model: Model = REGISTERS[1]) -> Counterexample:
    found = check(operations, model).counterexample
    assert found is not None
    return found


def test_it_ends_where_the_history_went_wrong_and_starts_at_the_last_quiet_moment() -> None:
    wrong = op("b", 6, 7, "x", "get", to=1)
    found = counterexample(
        op("a", 0, 1, "x", "put", 1),
        op("a", 2, 4, "x", "put", 2),
        op("b", 3, 5, "x", "get", to=1),
        wrong,
        op("a", 8, 9, "x", "get", to=1),
    )
    assert found.operations == (wrong,)
    assert (found.since, found.end) == (5, 7)
    assert found.starts == (Start(2),)
    assert [o.returned for o in found.before] == [1, 4, 5]
    assert found.order == ()
    assert [(step.operation, step.output) for step in found.stuck] == [(wrong, 2)]


def test_all_states_of_the_quiet_moment_are_told() -> None:
    found = counterexample(
        op("a", 0, 2, "x", "put", 1),
        op("b", 0, 2, "x", "put", 2),
        lost("c", 0, "x", "put", 3),
        op("d", 4, 5, "x", "get", to=7),
    )
    assert {start.state for start in found.starts} == {1, 2}
    # 3 is not among them: the write that nobody knows of is still under way, as far as it goes.
    assert [o.input for o in found.operations] == [("x", "put", 3), ("x", "get")]


def test_an_unknown_write_that_was_seen_is_in_the_state() -> None:
    found = counterexample(
        lost("c", 0, "x", "put", 3),
        op("d", 1, 2, "x", "get", to=3),
        op("d", 3, 4, "x", "put", 4),
        op("d", 5, 6, "x", "get", to=3),
    )
    assert found.starts == (Start(4),)
    assert [o.input for o in found.operations] == [("x", "get")]


def test_what_had_not_returned_by_the_end_is_unknown_there() -> None:
    slow = op("a", 2, 99, "x", "put", 2)
    found = counterexample(op("a", 0, 1, "x", "put", 1), slow, op("b", 3, 4, "x", "get", to=5))
    assert as_known_before(slow, 4) in found.operations


def test_reads_that_prove_nothing_are_left_out_and_writes_stay() -> None:
    found = counterexample(
        op("a", 0, 9, "x", "put", 1),
        op("b", 1, 8, "x", "get"),
        op("c", 2, 7, "x", "get", to=1),
        op("d", 3, 6, "x", "get", to=5),
    )
    assert [o.client for o in found.operations] == ["a", "d"]


def test_reads_are_left_out_though_the_model_says_nothing_of_reads() -> None:
    found = counterexample(
        op("b", 1, 8, "x", "get"), op("d", 3, 6, "x", "get", to=5), model=Registers()
    )
    assert [o.client for o in found.operations] == ["d"]


def test_the_last_of_what_is_left_out_is_told() -> None:
    puts = [op("a", n, n + 0.5, "x", "put", n) for n in range(9)]
    found = counterexample(*puts, op("b", 20, 21, "x", "get", to=3))
    assert found.before == tuple(puts[5:])


def test_no_start_needs_more_than_another_one() -> None:
    found = counterexample(*DETOUR, op("d", 13, 14, "x", "get", to=9))
    assert found.starts == (Start(1),)


def test_what_does_something_after_an_unknown_one_is_not_left_out() -> None:
    """The swap does nothing, unless the unknown write came just before it."""
    found = counterexample(
        lost("a", 0, "x", "put", 1),
        op("b", 1, 5, "x", "cas", 1, 2, to=False),
        op("c", 1, 5, "x", "get", to=5),
    )
    assert [o.client for o in found.operations] == ["a", "b", "c"]


def test_where_nothing_is_ever_quiet_it_starts_with_little_in_flight() -> None:
    """Two clients take turns for ever, each calling before the other one has returned."""
    turns = [op("ab"[n % 2], n, n + 1.5, "x", "add", 1, to=n + 1) for n in range(40)]
    turns[39] = op("b", 39, 40.5, "x", "add", 1, to=39)
    found = counterexample(*turns)
    assert found.since == 39.5
    assert found.operations == (turns[39],)
    assert found.starts == (Start(39),)


def test_the_start_says_what_of_unknown_outcome_was_done() -> None:
    """The lost one may have come before the other one; if it did, it can't come again."""
    unknown = lost("a", 0, "append", 1)
    wrong = op("c", 3, 4, "all", to=())
    found = counterexample(unknown, op("b", 1, 2, "append", 2), wrong, model=Lists())
    assert found.operations == (unknown, wrong)
    assert set(found.starts) == {Start((2,)), Start((1, 2), (unknown,))}


def test_the_start_says_what_of_the_operations_in_flight_was_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The slow one may have come before, between and behind what had returned by the start."""
    monkeypatch.setattr(_counterexample, "_IN_FLIGHT", 0)
    slow, wrong = op("a", 0, 6, "append", 1), op("b", 4, 6, "all", to=())
    quick = [op("b", 0, 1, "append", 2), op("b", 2, 3, "append", 3)]
    found = counterexample(slow, *quick, wrong, model=Lists())
    assert found.since == 3
    assert found.operations == (slow, wrong)
    assert set(found.starts) == {
        Start((2, 3)),
        Start((1, 2, 3), (slow,)),
        Start((2, 1, 3), (slow,)),
    }


def test_the_limit_may_be_reached_on_the_way_to_a_quiet_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = [op(f"c{n}", 0, 10 + n, "x", "put", n) for n in range(4)]
    history.append(op("d", 20, 21, "x", "get", to=7))
    steps = check(history, Registers()).steps
    monkeypatch.setattr(_counterexample, "_PATIENCE", 1.5)
    found = check(history, Registers(), limit=steps + 1).counterexample
    assert found is not None
    assert (found.since, found.is_minimal) == (None, False)


def test_the_limit_also_ends_the_search_for_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is reached, what has been found by then fails."""
    history = some_history(Random(4), Registers(), size=6, doubt=0.2, lies=0.5)
    assert not has_order(history, Registers(), None)
    needed = check(history, Registers()).steps
    seen = set()
    for patience in range(1, 40):
        monkeypatch.setattr(_counterexample, "_PATIENCE", patience / 10)
        found = check(history, Registers(), limit=needed + 1).counterexample
        assert found is not None
        assert all(fails(found.operations, start, Registers()) for start in found.starts)
        seen.add(found.is_minimal)
    assert seen == {False, True}


# -- how far it goes -------------------------------------------------------------------------------


def test_it_gives_up_at_the_limit_and_says_where() -> None:
    history = [op("a", 0, 1, "x", "put", 1), op("a", 2, 3, "x", "put", 2)]
    history += [op("a", n, n + 1, "y", "put", n) for n in range(0, 20, 2)]
    verdict = check(history, Registers(), limit=5)
    assert verdict == Verdict("undecided", 12, 2, 7, ("y",))
    assert not verdict.is_linearizable
    assert check(history, Registers(), limit=10).is_linearizable


def test_a_failure_counts_for_more_than_what_is_undecided() -> None:
    history = [op("a", n, n + 1, "y", "put", n) for n in range(0, 20, 2)]
    history.append(op("b", 0, 1, "x", "get", to=1))
    verdict = check(history, Registers(), limit=5)
    assert (verdict.kind, verdict.undecided) == ("not linearizable", ())


def busy_history(size: int, *, keys: int, clients: int, doubt: float = 0.0) -> list[Operation]:
    """Clients that ask all the time; what they ask takes effect at some moment of the call."""
    chance = Random(17)
    free = [(chance.random(), f"c{n}") for n in range(clients)]
    drawn = []
    for number in range(size):
        now, client = min(free)
        free.remove((now, client))
        verb = chance.choice([("get",), ("put", number), ("add", 1)])
        point = now + chance.random()
        returned = point + chance.random()
        free.append((returned + chance.random(), client))
        until = math.inf if chance.random() < doubt else returned
        drawn.append((point, client, now, until, (f"k{chance.randrange(keys)}", *verb)))
    states: dict[Any, Hashable] = {}
    told = []
    for _, client, called, until, given in sorted(drawn):
        states[given[0]], output = Registers().apply(states.get(given[0]), given)
        told.append(Operation(client, called, until, given, None if until == math.inf else output))
    return told


def test_a_long_history_is_checked_in_about_as_many_steps_as_it_has_operations() -> None:
    history = busy_history(5_000, keys=20, clients=10, doubt=0.01)
    verdict = check(history, ReadingRegisters())
    assert verdict.is_linearizable
    assert verdict.steps < 3 * len(history)


def test_nothing_recurses() -> None:
    """A single key, and a chain of places that is far longer than any stack is deep."""
    history = [op("a", n, n + 0.5, "x", "add", 1, to=n + 1) for n in range(4_000)]
    assert check(history, Registers()).is_linearizable
    history.append(op("a", 5_000, 5_001, "x", "get", to=0))
    assert check(history, Registers()).kind == "not linearizable"


def test_what_is_wrong_at_the_end_of_a_busy_history_is_found() -> None:
    history = busy_history(300, keys=1, clients=5, doubt=0.02)
    end = max(o.returned for o in history if not o.is_unknown)
    history.append(op("c", end + 1, end + 2, "k0", "get", to=-1))
    found = counterexample(*history)
    assert found.is_minimal
    assert [o for o in found.operations if not o.is_unknown] == [history[-1]]


# -- machines --------------------------------------------------------------------------------------


@command("deposit")
@attrs.frozen
class Deposit:
    account: str
    amount: int

    def apply(self, bank: Bank, applied: Applied) -> int:
        if self.amount < 0:
            bank.refused += 1
            raise ValueError("deposit something")
        bank.balances[self.account] = bank.balances.get(self.account, 0) + self.amount
        return bank.balances[self.account]


@command("breaks")
@attrs.frozen
class Breaks:
    def apply(self, bank: Bank, applied: Applied) -> None:
        raise OSError("no disk")


@query("balances")
@attrs.frozen
class Balances:
    names: list[str]

    def answer(self, bank: Bank) -> list[int]:
        return [bank.balances[name] for name in self.names]


@query("touch")
@attrs.frozen
class Touch:
    def answer(self, bank: Bank) -> int:
        bank.refused += 1
        return bank.refused


class Bank:
    def __init__(self) -> None:
        self.balances: dict[str, int] = {}
        self.refused = 0

    @property
    def commands(self) -> Sequence[type[Any]]:
        return (Deposit, Breaks, Balances, Touch)

    def save(self) -> bytes:
        return repr((sorted(self.balances.items()), self.refused)).encode()

    def recover(self, state: bytes) -> None:
        items, self.refused = ast.literal_eval(state.decode())
        self.balances = dict(items)


def test_a_machine_is_its_own_model() -> None:
    model = MachineModel(Bank)
    deposits = [
        Operation("a", 0, 1, Deposit("ann", 30), 30),
        Operation("b", 0, 1, Deposit("bob", 5), 5),
        Operation("a", 2, 3, Deposit("ann", 12), 42),
    ]
    assert check([*deposits, Operation("b", 4, 5, Balances(["ann"]), [42])], model).is_linearizable
    found = check([*deposits, Operation("b", 4, 5, Balances(["ann"]), [30])], model).counterexample
    assert found is not None
    assert found.stuck[0].output == (42,)


def test_what_a_machine_raises_is_an_output_and_its_state_is_what_it_left() -> None:
    model = MachineModel(Bank)
    state, output = model.apply(model.initial(), Deposit("ann", -1))
    assert output == Raised("ValueError", "deposit something")
    assert state == b"([], 1)"
    assert model.apply(state, Balances(["ann"])) == (state, Raised("KeyError", "'ann'"))


def test_a_query_changes_nothing_whatever_it_does_to_the_machine() -> None:
    model = MachineModel(Bank)
    assert model.apply(model.initial(), Touch()) == (model.initial(), 1)


def test_what_stops_a_server_is_no_output() -> None:
    model = MachineModel(Bank)
    with pytest.raises(OSError, match="no disk"):
        model.apply(model.initial(), Breaks())


def test_what_the_model_said_is_remembered_up_to_some_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = [op("a", n, n + 0.5, "x", "add", 1, to=n + 1) for n in range(40)]
    monkeypatch.setattr(_model, "_REMEMBERED", 5)
    sequential = _model.Sequential(Registers())
    for operation in history:
        assert sequential.apply(operation.called, operation.input)[1] == operation.output
        assert len(sequential._known) <= 5


def test_a_machine_can_be_split_by_key() -> None:
    history = [
        Operation("a", 0, 1, Deposit("ann", 30), 30),
        Operation("b", 2, 3, Deposit("bob", 5), 5),
    ]
    assert check(history, MachineModel(Bank)).keys == 1
    assert check(history, MachineModel(Bank, key=lambda given: given.account)).keys == 2


def test_a_machine_knows_its_reads_and_no_others() -> None:
    model = MachineModel(Bank)
    assert model.is_read(Balances([]))
    assert not model.is_read(Deposit("ann", 1))


@pytest.mark.parametrize("given", [("x", "get"), object(), None])
def test_a_machine_takes_its_commands_and_nothing_else(given: Any) -> None:
    with pytest.raises(CommandRejected):
        check([Operation("a", 0, 1, given)], MachineModel(Bank))


def test_a_history_is_checked_as_it_was_recorded() -> None:
    """One instant of time, and an order all the same."""
    history = History(lambda: 0.0)
    for output in (2, 1):
        history.done(history.begin("a", ("x", "add", 1)), output)
    assert not check(history, Registers()).is_linearizable


class Shelf(Lists):
    """It returns lists, which are tuples in a history."""

    def apply(self, state: Any, given: Any) -> tuple[Hashable, Any]:
        after, output = super().apply(state, given)
        return after, list(output) if isinstance(output, tuple) else output


def test_outputs_are_compared_in_plain_form() -> None:
    history = [Operation("a", 0, 1, ("append", 5)), Operation("a", 2, 3, ("all",), [5])]
    assert check(history, Shelf()).is_linearizable
