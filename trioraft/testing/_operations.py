"""One operation of a client: what it asked, what it got, and when."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

import attrs
from attrs import field, frozen

from trioraft._errors import CommandFailed
from trioraft._wire.strict import strict_converter

_CONVERTER: Final = strict_converter(forbid_extra_keys=True)
_ATOMS: Final = frozenset((type(None), bool, int, float, str, bytes))


@frozen
class Raised:
    """The output of an operation whose `apply` raised."""

    type_name: str
    message: str

    @classmethod
    def of(cls, error: Exception) -> Raised:
        """What an exception leaves behind, whether it travelled as `CommandFailed` or not."""
        if isinstance(error, CommandFailed):
            return cls(error.error, error.message)
        return cls(type(error).__name__, str(error))


def plain(value: Any) -> Any:
    """The value in the form in which outputs are compared: as it would come back from a file.

    Objects become dictionaries, lists become tuples, and nothing that changes later is shared.
    """
    if type(value) in _ATOMS or type(value) is Raised:
        return value
    if isinstance(value, Mapping):
        return {_as_key(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return tuple(sorted(map(plain, value), key=repr))
    if isinstance(value, list | tuple | deque):
        return tuple(map(plain, value))
    if attrs.has(type(value)):
        return {key: plain(item) for key, item in attrs.asdict(value, recurse=False).items()}
    simpler = _CONVERTER.unstructure(value)
    return value if simpler is value else plain(simpler)


def _as_key(form: Any) -> Any:
    """A plain value as a key: objects have become dictionaries, which can't be one."""
    if isinstance(form, dict):
        return tuple((key, _as_key(item)) for key, item in form.items())
    return tuple(map(_as_key, form)) if isinstance(form, tuple) else form


@frozen
class Operation:
    """One call of a client.

    Raises:
        ValueError: it returned before it was called.
    """

    client: str
    called: float
    returned: float = field()
    """`math.inf` if it never returned, or nobody knows what became of it."""
    input: Any
    """A command, a query, or any value that the model understands."""
    output: Any = field(default=None, converter=plain)
    """What was returned, in plain form; or what `apply` raised, as `Raised`."""

    @returned.validator
    def _check_times(self, _: object, returned: float) -> None:
        if not (math.isfinite(self.called) and self.called <= returned):
            raise ValueError(f"an operation called at {self.called} can't return at {returned}")

    @property
    def is_unknown(self) -> bool:
        """Whether it may have taken effect at any time since it was called, or never."""
        return self.returned == math.inf
