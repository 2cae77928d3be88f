"""A cattrs converter that believes nothing.

Left to itself cattrs calls `int("12")`, `bool("no")` and `bytes(10**10)` on what a stranger sends.
Here a value has the type that its field says, or it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs
import msgpack  # type: ignore[import-untyped]
from cattrs.preconf.msgpack import MsgpackConverter, make_converter

from trioraft._errors import ProtocolError

MALFORMED = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
    cattrs.BaseValidationError,
    cattrs.ForbiddenExtraKeysError,
)
"""What unpacking and structuring raise on bytes that are not what they should be."""

_MOST: Final = 1 << 63
_PRIMITIVES: Final[frozenset[type]] = frozenset((int, str, bytes, bool, float, NoneType))


@cache
def strict_converter(*, forbid_extra_keys: bool) -> MsgpackConverter:
    """The converter to and from msgpack with strict primitives.

    Unknown keys are ignored where a newer version may add some, and forbidden where a server that
    ignores one would diverge from a server that knows it.  All share it: a class is looked at once
    in a process, not once in each server's life.
    """
    return _new_converter(forbid_extra_keys=forbid_extra_keys)


def _new_converter(*, forbid_extra_keys: bool) -> MsgpackConverter:
    converter = make_converter(forbid_extra_keys=forbid_extra_keys, detailed_validation=False)
    for primitive in _PRIMITIVES:
        converter.register_structure_hook(primitive, _exactly(primitive))
    converter.register_structure_hook_factory(_is_primitive_or_none, _or_none)
    converter.register_structure_hook_factory(_is_collection, _from_list)
    return converter


def counting_converter() -> MsgpackConverter:
    """A strict converter for our own messages and state, where every number counts something.

    Terms, indexes and requests are natural; times are seconds; unknown keys are ignored, for a
    newer version may add some.
    """
    converter = _new_converter(forbid_extra_keys=False)
    converter.register_structure_hook(int, _natural)
    converter.register_structure_hook(float, _seconds)
    return converter


def _exactly(primitive: type) -> Any:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is not primitive:
            raise TypeError(f"expected {primitive.__name__}, got {type(value).__name__}")
        return value

    return hook


def _is_primitive_or_none(of: Any) -> bool:
    some = set(get_args(of)) if get_origin(of) in (Union, UnionType) else set()
    return len(some) == 2 and NoneType in some and some <= _PRIMITIVES


def _or_none(of: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    (primitive,) = set(get_args(of)) - {NoneType}
    read = converter.get_structure_hook(primitive)

    def hook(value: Any, _: Any) -> Any:
        return None if value is None else read(value, primitive)

    return hook


def _natural(value: Any, _: Any) -> int:
    if type(value) is not int or not 0 <= value < _MOST:
        raise ValueError(f"expected a number from 0 to 2**63 - 1, got {value!r:.40}")
    return value


def _seconds(value: Any, _: Any) -> float:
    if type(value) is not float or not 0 <= value < math.inf:
        raise ValueError(f"expected a time in seconds, got {value!r:.40}")
    return value


_MADE_OF: Final[dict[Any, type[Any]]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: tuple,
    AbstractSet: frozenset,
}
"""What a field's values are made of, by what its type is declared with."""


def _is_collection(cls: Any) -> bool:
    return get_origin(cls) in _MADE_OF


def _from_list(cls: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    """A hook that takes a list and nothing else: any string is a sequence of strings, too."""
    made: Any = _MADE_OF[get_origin(cls)]
    types = get_args(cls)
    is_record = get_origin(cls) is tuple and types[1:] != (...,)

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise TypeError(f"expected a list, got {type(value).__name__}")
        if is_record and len(value) != len(types):
            raise ValueError(f"expected {len(types)} items, got {len(value)}")
        wanted = types if is_record else types[:1] * len(value)
        return made(converter.structure(item, of) for item, of in zip(value, wanted, strict=True))

    return hook


def unpack(data: bytes, *, any_keys: bool = False) -> Any:
    """The one msgpack value that `data` holds.

    Keys are texts or bytes, whose hashes no stranger can choose, unless others are expected.

    Raises:
        ProtocolError: it holds none, or more than one, or one nested too deep.
    """
    try:
        return msgpack.unpackb(data, strict_map_key=not any_keys)
    except MALFORMED as error:
        raise ProtocolError(f"no msgpack: {str(error) or type(error).__name__}") from error


def is_deeper(value: Any, most: int) -> bool:
    """Whether lists and maps are nested deeper than that in a value that `unpack` gave."""
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in (list, dict)
        ]
        if not level:
            return False
    return True


def is_flat(cls: type[Any]) -> bool:
    """Whether a strict converter refuses lists and maps in every field of an attrs class."""
    try:
        hints = get_type_hints(cls)
    except (NameError, TypeError):  # a type that is imported for type checkers only
        return False
    types = [hints.get(field.name) for field in attrs.fields(cls)]
    return all(of in _PRIMITIVES or _is_primitive_or_none(of) for of in types)


def own_pack() -> Callable[[Any], bytes]:
    """A `pack` for one thread only, in half the time."""
    packed: Callable[[Any], bytes] = msgpack.Packer().pack
    return packed


def pack(value: Any) -> bytes:
    """The value as msgpack.

    Raises:
        ValueError, TypeError, OverflowError: msgpack has no form for it.
    """
    packed: bytes = msgpack.packb(value)
    return packed
