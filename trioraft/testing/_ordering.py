"""Looks for one order of operations that explains what all of them returned.

In such an order every operation takes effect at one moment between its call and its return, and
returns what the model returns there.

The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993): put next an
operation that no other one must come before, see that the model returns what it returned, go on,
and take back what leads nowhere; with Lowe's memory ("Testing for Linearizability", 2017) of where
the search has been.  A place is what has been put in order, as a set, and the state that it made.

Five things keep it small.

- What has been put in order is a number of operations without a gap, and a short mask for those
  behind it.  So where nothing is in flight a place is a state and nothing else: however many orders
  there are before such a moment, only the states they lead to count behind it.
- A read that fits comes at once: it changes nothing, so nothing is lost by not having it later.
- An operation of unknown outcome may come anywhere after its call, and need not come at all.  So
  of two places that differ only in the unknown ones that have been used, that which has used fewer
  can do whatever the other can, and the other is dropped.
- An unknown one is used just before what needs it: where the next one does the same without it, or
  does the same before it, it may come later, or not at all.
- Of two unknown ones with the same input, the one that was called first is used first: it may come
  wherever the other may.
"""

from __future__ import annotations

import heapq
import json
import math
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence
from typing import Final

from attrs import define, frozen

from trioraft.testing._history_file import input_to_json
from trioraft.testing._model import Sequential
from trioraft.testing._operations import Operation

_UNKNOWN: Final = -1
"""Stands for all operations of unknown outcome that may be used at a place."""
_PRICE: Final = 4
"""So many operations the search takes back before it tries with one more of unknown outcome."""


@define
class Budget:
    """How often an operation may be tried at a place."""

    limit: int
    spent: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether it is time to give up."""
        return self.spent >= self.limit


@frozen
class Start:
    """A state to start from."""

    state: Hashable
    used: tuple[Operation, ...] = ()
    """What of the operations has taken effect by then, and can't again."""


@define(eq=False)
class Place:
    """What has been put in order, and how."""

    low: int
    """So many of the required operations are in the order without a gap."""
    mask: int
    """Which of those behind them are."""
    used: int
    """Which of the unknown ones are."""
    state: Hashable
    count: int
    """How many of the required ones are."""
    before: Place | None = None
    last: Operation | None = None
    """What has been put in order there."""


class Part:
    """Operations on one key, and the states that they may start from."""

    def __init__(self, operations: Iterable[Operation], starts: Iterable[Start]) -> None:
        called = sorted(operations, key=lambda operation: operation.called)
        self.required = tuple(operation for operation in called if not operation.is_unknown)
        """What returned, as it was called."""
        self.unknown = tuple(operation for operation in called if operation.is_unknown)
        """What has an unknown outcome, as it was called."""
        self.starts = tuple(starts)
        self.calls = [operation.called for operation in self.required]
        self.returns = [operation.returned for operation in self.required]
        self.unknown_calls = [operation.called for operation in self.unknown]
        self.twins = _twins(self.unknown)
        """Of each unknown one the mask of the last one before it with the same input."""

    def place(self, start: Start) -> Place:
        """Where a start is."""
        gone = set(map(id, start.used))
        mask = sum(1 << n for n, operation in enumerate(self.required) if id(operation) in gone)
        used = sum(1 << n for n, operation in enumerate(self.unknown) if id(operation) in gone)
        return Place(*_shifted(0, mask), used, start.state, mask.bit_count())

    def start(self, place: Place) -> Start:
        """A place as a start."""
        order = place.mask << place.low | ((1 << place.low) - 1)
        required = (o for n, o in enumerate(self.required) if order >> n & 1)
        unknown = (o for n, o in enumerate(self.unknown) if place.used >> n & 1)
        return Start(place.state, (*required, *unknown))


def _shifted(low: int, mask: int) -> tuple[int, int]:
    while mask & 1:
        mask >>= 1
        low += 1
    return low, mask


def _twins(unknown: Sequence[Operation]) -> list[int]:
    last: dict[Hashable, int] = {}
    twins = []
    for number, operation in enumerate(unknown):
        try:
            given = (type(operation.input), json.dumps(input_to_json(operation.input)))
        except (TypeError, ValueError):
            twins.append(0)  # nobody can say what it is like
        else:
            twins.append(last.get(given, 0))
            last[given] = 1 << number
    return twins


class Search:
    """Looks for an order of one part, from the most promising place first.

    The order need not hold what returned later than `until`.
    """

    def __init__(
        self, part: Part, sequential: Sequential, budget: Budget, *, until: float = math.inf
    ) -> None:
        self.part = part
        self.sequential = sequential
        self.budget = budget
        self.states: set[Hashable] = set()
        """Every state that any order comes to."""
        self.furthest = Place(0, 0, 0, None, -1)
        """Where most of the required operations are in order."""
        self.latest = -math.inf
        """There are orders of all that returned before this moment."""
        self._until = until
        self._seen: dict[tuple[int, int, Hashable], tuple[int, ...]] = {}
        """For `low`, `mask` and state the smallest sets of unknown operations used to get there."""
        self._ends: list[Place] = []
        self._known_effects: dict[Hashable, list[Hashable]] = {}
        self._reads = [sequential.is_read(operation.input) for operation in part.required]
        self._to_try: list[tuple[int, int, Place, int]] = []
        self._number = 0
        for start in part.starts:
            self._come_to(part.place(start))

    def run(self) -> bool | None:
        """Whether there is an order; None if the budget was spent first."""
        while not self._ends:
            if not self._to_try:
                return False
            if self.budget.is_spent:
                return None
            self._try_next()
        return True

    def ends(self) -> list[Place] | None:
        """Every place where an order is complete; None if the budget was spent first."""
        while self._to_try:
            if self.budget.is_spent:
                return None
            self._try_next()
        return [end for end in self._ends if end.used in self._seen[end.low, end.mask, end.state]]

    def following(self, place: Place) -> tuple[list[int], float]:
        """The required operations that may come next, and when the first of them returned.

        What was called after another one had returned comes after it.  Call and return at one
        instant are taken for simultaneous: that accepts more, and accuses nobody wrongly.
        """
        calls, returns = self.part.calls, self.part.returns
        found: list[int] = []
        deadline = math.inf
        index, mask = place.low, place.mask
        while index < len(calls) and calls[index] <= deadline:
            if not mask & 1:
                found.append(index)
                deadline = min(deadline, returns[index])
            mask >>= 1
            index += 1
        return found, deadline

    def _come_to(self, place: Place) -> None:
        """Go on from here, unless the search has been where as much can be done."""
        following, deadline = self.following(place)
        while (read := self._fitting_read(place, following)) is not None:
            place = self._with(place, read, place.state)
            following, deadline = self.following(place)
        position = (place.low, place.mask, place.state)
        known = self._seen.get(position, ())
        if any(used & place.used == used for used in known):
            return
        self._seen[position] = (*(u for u in known if place.used & u != place.used), place.used)
        self.states.add(place.state)
        uses = place.used.bit_count()
        if (place.count, -uses) > (self.furthest.count, -self.furthest.used.bit_count()):
            self.furthest = place
        if not following or deadline > self._until:
            self._ends.append(place)
            return
        self.latest = max(self.latest, deadline)
        price = _PRICE * uses - place.count
        if self.part.unknown:
            self._try_later(price + _PRICE, place, _UNKNOWN)
        following.sort(key=self.part.returns.__getitem__, reverse=True)
        for index in following:
            if not self._reads[index]:
                self._try_later(price - 1, place, index)

    def _fitting_read(self, place: Place, following: Sequence[int]) -> int | None:
        for index in following:
            if self._reads[index]:
                self.budget.spent += 1
                operation = self.part.required[index]
                if self.sequential.apply(place.state, operation.input)[1] == operation.output:
                    return index
        return None

    def _try_later(self, price: int, place: Place, index: int) -> None:
        """Of what costs the same, the last one that came is tried first."""
        self._number -= 1
        heapq.heappush(self._to_try, (price, self._number, place, index))

    def _try_next(self) -> None:
        _, _, place, index = heapq.heappop(self._to_try)
        if index == _UNKNOWN:
            self._use_unknown(place)
            return
        self.budget.spent += 1
        operation = self.part.required[index]
        state, output = self.sequential.apply(place.state, operation.input)
        if output == operation.output:
            self._come_to(self._with(place, index, state))

    def _with(self, place: Place, index: int, state: Hashable) -> Place:
        low, mask = _shifted(place.low, place.mask | 1 << (index - place.low))
        operation = self.part.required[index]
        return Place(low, mask, place.used, state, place.count + 1, place, operation)

    def _use_unknown(self, place: Place) -> None:
        """Use one more unknown operation, with a required one that needs it behind it.

        If yet another unknown one needs it, that is tried later.
        """
        following, deadline = self.following(place)
        effects = self._effects(place.state)
        for number in range(bisect_right(self.part.unknown_calls, deadline)):
            bit, twin = 1 << number, self.part.twins[number]
            if place.used & bit or place.used & twin != twin:
                continue
            state = effects[number]
            self.states.add(state)
            if state == place.state or not self._needs_last(place, number, state):
                continue
            used, operation = place.used | bit, self.part.unknown[number]
            chain = Place(place.low, place.mask, used, state, place.count, place, operation)
            for index in following:
                self._put_behind(chain, operation, index)
            if self._effects(state) != effects:  # else no other one needs it
                self._try_later(_PRICE * (used.bit_count() + 1) - place.count, chain, _UNKNOWN)

    def _effects(self, state: Hashable) -> list[Hashable]:
        """What each unknown operation makes of a state."""
        known = self._known_effects.get(state)
        if known is None:
            self.budget.spent += len(self.part.unknown)
            known = [self.sequential.apply(state, o.input)[0] for o in self.part.unknown]
            self._known_effects[state] = known
        return known

    def _needs_last(self, place: Place, number: int, state: Hashable) -> bool:
        """Whether an unknown operation needs the unknown one that came last, if one did."""
        before = place.before
        if before is None or before.count < place.count:
            return True
        alone = self._effects(before.state)[number]
        if alone == state:
            return False
        last = (place.used ^ before.used).bit_length() - 1
        # Where both orders do the same, one of them is enough.
        return number > last or self._effects(alone)[last] != state

    def _put_behind(self, chain: Place, unknown: Operation, index: int) -> None:
        """Put a required operation behind an unknown one, if it needs it."""
        self.budget.spent += 1
        operation = self.part.required[index]
        state, output = self.sequential.apply(chain.state, operation.input)
        if output != operation.output or chain.before is None:
            return
        alone, output = self.sequential.apply(chain.before.state, operation.input)
        needs_it = output != operation.output or (
            alone != state and self.sequential.apply(alone, unknown.input)[0] != state
        )
        if needs_it:
            self._come_to(self._with(chain, index, state))
