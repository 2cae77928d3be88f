"""What is left of a history that is not linearizable when all is left out that can be.

Four things are left out, and none of them can make a failure of what was none.

1. All that happened after the first moment up to which there is no order.  If a history is
   linearizable, so is all that had happened by some moment, when what had not returned by then is
   taken for unknown: end its order before the first operation that was called later, and nothing
   that had returned is behind that.
2. All that had returned by a moment at which little was in flight; the states possible then take
   its place.  Every order comes to a point where all that had returned by then is in it, and
   before that nothing that was called later.  The search finds all such points: each is a state,
   and those of the operations in flight that have taken effect by then.
3. Operations that change nothing in any of the states that the rest comes to: put in again
   anywhere they would lead to no other state, so where the rest has no order, it has none with
   them.  Mostly these are reads.  Writes stay, even where the rest has no order without them
   either: that somebody reads what nobody wrote proves nothing once the write has been left out.
4. Operations that have taken effect in all the possible states: they can do no more.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Final

import attrs
from attrs import frozen

from trioraft.testing._operations import Operation
from trioraft.testing._ordering import Budget, Part, Place, Search, Start
from trioraft.testing._timeline import render_text

_IN_FLIGHT: Final = 8
"""So many more operations are rather shown than one that is in flight when the example starts."""
_CONTEXT: Final = 4
_PATIENCE: Final = 4
"""A counterexample may cost so many times what a verdict may."""


@frozen
class Step:
    """An operation at its place in an order."""

    operation: Operation
    output: Any
    """What the model returns there, in plain form."""
    state: Hashable
    """The state behind it."""


@frozen
class Counterexample:
    """The part of a history that no order explains."""

    key: Hashable
    operations: tuple[Operation, ...]
    """As they were called.  What had not returned by `end` has an unknown outcome here."""
    end: float
    """There is an order of all that had returned before, and none of what had returned by then."""
    since: float | None
    """All that had returned by then is left out; None if nothing is."""
    starts: tuple[Start, ...]
    """What was possible then: one of these, surely."""
    before: tuple[Operation, ...]
    """The last operations that are left out, for whoever wants to know what led here."""
    begin: Start
    """Where the longest order begins."""
    order: tuple[Step, ...]
    """The longest order of some of the operations."""
    stuck: tuple[Step, ...]
    """One of these would have to come next, and none can: the model returns something else."""
    is_minimal: bool
    """False if the limit was reached before all had been left out that can be."""

    def __str__(self) -> str:
        return render_text(self)


def shrink(
    key: Hashable, operations: Sequence[Operation], failed: Search, limit: int
) -> Counterexample:
    """The counterexample in operations of one key, which a search has found to have no order."""
    budget = Budget(_PATIENCE * limit)
    search = _shortest_prefix(operations, failed, budget)
    since: float | None = None
    while True:
        later = _without_past(search)
        if later is not None:
            search, since = later
        smaller = _without_idle(search)
        if later is None and smaller is None:
            break
        search = smaller or search
    part, furthest = search.part, search.furthest
    begin, order = _order(search)
    past = [] if since is None else [o for o in operations if o.returned <= since]
    past.sort(key=lambda operation: operation.returned)
    return Counterexample(
        key=key,
        operations=tuple(sorted(part.required + part.unknown, key=lambda o: o.called)),
        end=max(part.returns),
        since=since,
        starts=part.starts,
        before=tuple(past[-_CONTEXT:]),
        begin=begin,
        order=order,
        stuck=tuple(
            _step(search, furthest.state, part.required[index])
            for index in search.following(furthest)[0]
        ),
        is_minimal=not budget.is_spent,
    )


# -- the four things -------------------------------------------------------------------------------


def _shortest_prefix(operations: Sequence[Operation], failed: Search, budget: Budget) -> Search:
    """The search that fails on the shortest part from the beginning; `failed` if none is found."""
    ends = sorted(failed.part.returns)
    passes, fails = ends.index(failed.latest) - 1, len(ends)
    stride = 1
    while passes + 1 < fails:
        # Where the search on the whole got stuck the end is not far: look near there first.
        middle = min(passes + stride, (passes + fails) // 2)
        prefix = Part(_prefix(operations, ends[middle]), failed.part.starts)
        search = Search(prefix, failed.sequential, budget)
        in_order = search.run()
        if in_order is None:
            break
        if in_order:
            passes, stride = middle, stride * 2
        else:
            fails, failed = middle, search
    return failed


def _prefix(operations: Iterable[Operation], end: float) -> list[Operation]:
    return [
        o if o.returned <= end else attrs.evolve(o, returned=math.inf, output=None)
        for o in operations
        if o.called <= end
    ]


def _quiet_moments(part: Part) -> list[float]:
    """From when on the operations might be shown, the best moment first.

    Mostly that is the last one with nothing in flight but unknown operations.  Where that is long
    ago it is a later one, with little in flight.
    """
    moments, end = [], max(part.returns)
    for done, moment in enumerate(sorted(part.returns), 1):
        in_flight = bisect_right(part.calls, moment) - done
        left = len(part.required) - done
        if moment < end and in_flight * _IN_FLIGHT < done:
            moments.append((left + in_flight * _IN_FLIGHT, -moment))
    return [-moment for _, moment in sorted(moments)]


def _without_past(search: Search) -> tuple[Search, float] | None:
    """The search on what had not returned by some moment, from all that was possible then."""
    part = search.part
    everything = (*part.required, *part.unknown)
    for moment in _quiet_moments(part):
        past = Part([o for o in everything if o.called <= moment], part.starts)
        ends = Search(past, search.sequential, search.budget, until=moment).ends()
        if ends is None:
            return None
        # Without an end there is no order already when what was in flight at the moment is to
        # return what it did later: true, but nothing to start from.
        returned = {id(o) for o in part.required if o.returned <= moment}
        later = _rerun(search, returned, [past.start(end) for end in ends]) if ends else None
        if later is not None:
            return later, moment
    return None


def _without_idle(search: Search) -> Search | None:
    """The search without operations that change nothing; None if all that are left are needed."""
    part, end = search.part, max(search.part.returns)
    everything = (*part.required, *part.unknown)
    idle = [o for o in everything if _is_idle(search, o)]
    best: Search | None = None
    gone: set[int] = set()
    mostly = [o for o in idle if o.returned != end]
    for more in (mostly, *([operation] for operation in idle)):
        trial = gone.union(map(id, more))
        if trial == gone:
            continue
        smaller = _rerun(search, trial, part.starts)
        if smaller is None:
            continue
        if all(_is_idle(smaller, operation) for operation in idle if id(operation) in trial):
            best, gone = smaller, trial
    return best


def _is_idle(search: Search, operation: Operation) -> bool:
    """Whether it changes nothing wherever the search has been."""
    if search.sequential.is_read(operation.input):
        return True
    for state in search.states:
        if search.budget.is_spent:
            return False
        search.budget.spent += 1
        if search.sequential.apply(state, operation.input)[0] != state:
            return False
    return True


def _rerun(search: Search, left_out: set[int], starts: Sequence[Start]) -> Search | None:
    """A search on less; None if the budget was spent, or there is an order now."""
    part = search.part
    left_out = left_out.union(set.intersection(*(set(map(id, start.used)) for start in starts)))
    kept = [o for o in (*part.required, *part.unknown) if id(o) not in left_out]
    smaller = Part(
        kept,
        (
            Start(start.state, tuple(o for o in start.used if id(o) not in left_out))
            for start in starts
        ),
    )
    rerun = Search(smaller, search.sequential, search.budget)
    return rerun if rerun.run() is False else None


# -- what is told of it ----------------------------------------------------------------------------


def _order(search: Search) -> tuple[Start, tuple[Step, ...]]:
    steps: list[Step] = []
    place: Place = search.furthest
    while place.before is not None and place.last is not None:
        steps.append(_step(search, place.before.state, place.last))
        place = place.before
    return search.part.start(place), tuple(reversed(steps))


def _step(search: Search, state: Hashable, operation: Operation) -> Step:
    after, output = search.sequential.apply(state, operation.input)
    return Step(operation, output, after)
