"""A replicated key-value map: texts under keys, each with the number of the change that set it.

    server = trioraft.Server(..., state_machine=KeyValues(), ...)
    before = await server.do(Put("colour", "red"))

docs/kv.md has all commands, in JSON too.

What is no key, value or number raises where it is made, `TypeError` or `ValueError`, and once more
where it is read from the network.  What `apply` raises is a `ValueError`, the same on every server,
and the map is then as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar, Final

import attrs
from attrs import field, frozen

import trioraft
from trioraft.recipes._checks import size, text, whole
from trioraft.recipes._shelf import MAX_ANSWER_BYTES as MAX_ANSWER_BYTES
from trioraft.recipes._shelf import Changed as Changed
from trioraft.recipes._shelf import Draft as Draft
from trioraft.recipes._shelf import Found as Found
from trioraft.recipes._shelf import Page as Page
from trioraft.recipes._shelf import Shelf

MAX_KEY_BYTES: Final = 1 << 10
"""The longest key, in bytes of UTF-8."""
MAX_VALUE_BYTES: Final = 1 << 18
"""The longest value, in bytes of UTF-8: 256 KiB."""
MAX_SCAN: Final = 1000
"""The most keys in one page of a scan."""
MAX_OPERATIONS: Final = 128
"""The most operations in one transaction, and the most conditions."""

_BITS: Final = 63
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")

Result = str | int | Found | None
"""What an operation of a transaction comes to: what its command would."""

_KEY: Final = text(1, MAX_KEY_BYTES)
_PREFIX: Final = text(0, MAX_KEY_BYTES)
_VALUE: Final = text(0, MAX_VALUE_BYTES)
_EXPECTED: Final = attrs.validators.optional(_VALUE)
_VERSION: Final = attrs.validators.optional(whole(1, 2**_BITS - 1))
_AMOUNT: Final = whole(-(2**_BITS), 2**_BITS - 1)


@trioraft.command("put")
@frozen
class Put:
    """Put a value under a key; comes to the value before it, or None."""

    key: str = field(validator=_KEY)
    value: str = field(validator=_VALUE)

    def apply(self, values: KeyValues, applied: trioraft.Applied) -> str | None:
        return values.put(self.key, self.value, applied)

    def _run(self, draft: Draft) -> str | None:
        before = draft.value(self.key)
        draft.put(self.key, self.value)
        return before


@trioraft.query("get")
@frozen
class Get:
    """What is under a key: `Found`, or None."""

    key: str = field(validator=_KEY)

    def answer(self, values: KeyValues) -> Found | None:
        return values.get(self.key)

    def _run(self, draft: Draft) -> Found | None:
        return draft.get(self.key)


@trioraft.command("delete")
@frozen
class Delete:
    """Take away what is under a key; comes to the value that was there, or None."""

    key: str = field(validator=_KEY)

    def apply(self, values: KeyValues, applied: trioraft.Applied) -> str | None:
        return values.atomically(self._run, applied)

    def _run(self, draft: Draft) -> str | None:
        before = draft.value(self.key)
        draft.delete(self.key)
        return before


@trioraft.command("add")
@frozen
class Add:
    """Add to the whole number under a key; comes to the sum.  Where nothing is, 0 is.

    Raises, when applied:
        ValueError: the value is no number, or the sum has no place in 64 bits.
    """

    key: str = field(validator=_KEY)
    amount: int = field(validator=_AMOUNT)

    def apply(self, values: KeyValues, applied: trioraft.Applied) -> int:
        return values.atomically(self._run, applied)

    def _run(self, draft: Draft) -> int:
        before = draft.value(self.key)
        if before is not None and not _NUMBER.fullmatch(before):
            raise ValueError(f"{self.key!r:.40}: what is there is no whole number")
        total = int(before or 0) + self.amount
        if not -(2**_BITS) <= total < 2**_BITS:
            raise ValueError(f"{self.key!r:.40}: the sum has no place in 64 bits")
        draft.put(self.key, str(total))
        return total


@frozen
class _Expectation:
    key: str = field(validator=_KEY)
    expected: str | None = field(default=None, kw_only=True, validator=_EXPECTED)
    version: int | None = field(default=None, kw_only=True, validator=_VERSION)

    def __attrs_post_init__(self) -> None:
        if self.expected is not None and self.version is not None:
            raise ValueError("give what is expected, or its version, not both")

    def _holds(self, draft: Draft) -> bool:
        found = draft.get(self.key)
        if self.version is not None:
            return found is not None and found.version == self.version
        return self.expected == (None if found is None else found.value)


@frozen
class Condition(_Expectation):
    """That a key has the value `expected`, or the version `version`; with neither: has nothing."""


@trioraft.command("compare_and_set")
@frozen
class CompareAndSet(_Expectation):
    """Put a value under a key that has what is expected; comes to whether it had.

    Expected is a value (`expected`), or a version (`version`); with neither: that nothing is there.
    """

    value: str = field(kw_only=True, validator=_VALUE)

    def apply(self, values: KeyValues, applied: trioraft.Applied) -> bool:
        return values.atomically(self._run, applied)

    def _run(self, draft: Draft) -> bool:
        if not self._holds(draft):
            return False
        draft.put(self.key, self.value)
        return True


Step = Put | Get | Delete | Add
"""What a transaction can do."""


@frozen
class Operation:
    """One step of a transaction, under its name: exactly one of these is given."""

    put: Put | None = None
    get: Get | None = None
    delete: Delete | None = None
    add: Add | None = None

    def __attrs_post_init__(self) -> None:
        if sum(step is not None for step in attrs.astuple(self, recurse=False)) != 1:
            raise ValueError("an operation is one of put, get, delete and add")

    @classmethod
    def of(cls, step: Step | Operation) -> Operation:
        """The operation that a step makes."""
        match step:
            case Put():
                return cls(put=step)
            case Get():
                return cls(get=step)
            case Delete():
                return cls(delete=step)
            case Add():
                return cls(add=step)
            case Operation():
                return step
        raise TypeError(f"a transaction can't do {type(step).__name__}")

    @property
    def step(self) -> Step:
        """What is to be done."""
        step = self.put or self.get or self.delete or self.add
        assert step is not None
        return step


def _operations(steps: Iterable[Step | Operation]) -> tuple[Operation, ...]:
    return tuple(map(Operation.of, steps))


def _conditions(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    return tuple(conditions)


@trioraft.command("transaction")
@frozen
class Transaction:
    """If all conditions hold, do all operations, in order; comes to what each came to.

    Comes to None if a condition does not hold; then nothing is done.  The conditions are about the
    map as it was, an operation sees what those before it did.  Write the operations as the
    commands and queries they are: `Transaction([Put("x", "1"), Get("y")])`.

    Raises, when applied:
        ValueError: an operation raised it, or the results are larger than `MAX_ANSWER_BYTES`;
            then nothing is done.
    """

    operations: tuple[Operation, ...] = field(
        converter=_operations,
        validator=[attrs.validators.min_len(1), attrs.validators.max_len(MAX_OPERATIONS)],
    )
    conditions: tuple[Condition, ...] = field(
        default=(),
        converter=_conditions,
        validator=[
            attrs.validators.deep_iterable(attrs.validators.instance_of(Condition)),
            attrs.validators.max_len(MAX_OPERATIONS),
        ],
    )

    def apply(self, values: KeyValues, applied: trioraft.Applied) -> tuple[Result, ...] | None:
        return values.atomically(self._run, applied)

    def _run(self, draft: Draft) -> tuple[Result, ...] | None:
        if not all(condition._holds(draft) for condition in self.conditions):
            return None
        results: list[Result] = []
        room = MAX_ANSWER_BYTES
        for operation in self.operations:
            result = operation.step._run(draft)
            match result:
                case str():
                    room -= size(result)
                case Found(key, value):
                    room -= size(key, value)
            if room < 0:
                raise ValueError(f"the results have more than {MAX_ANSWER_BYTES} bytes")
            results.append(result)
        return tuple(results)


@trioraft.query("scan")
@frozen
class Scan:
    """The keys that begin with a prefix, page by page, sorted: a `Page`.

    At most `limit` of them, behind the key `after`; fewer if they would not fit in
    `MAX_ANSWER_BYTES`.  `Page.after` says where the next page begins.
    """

    prefix: str = field(default="", validator=_PREFIX)
    limit: int = field(default=100, validator=whole(1, MAX_SCAN))
    after: str | None = field(default=None, validator=attrs.validators.optional(_PREFIX))

    def answer(self, values: KeyValues) -> Page:
        return values.scan(self.prefix, self.limit, self.after)


class KeyValues(Shelf):
    """The map: a state machine."""

    commands: ClassVar[tuple[type[Any], ...]] = (
        Put,
        Get,
        Delete,
        CompareAndSet,
        Add,
        Scan,
        Transaction,
    )
    changes: ClassVar[tuple[type[Any], ...]] = (Changed,)
    """What it announces to those who watch it."""
