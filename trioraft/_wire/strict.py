"""A cattrs converter that believes nothing.

Left to itself cattrs calls `int("12")`, `bool("no")` and `bytes(10**10)` on what a stranger sends.
Here a value has the type that its field says, or it is refused.
"""

from __future__ import annotations

from typing import Any

import cattrs
import msgpack  # type: ignore[import-untyped]
from cattrs.preconf.msgpack import MsgpackConverter, make_converter

from trioraft._errors import ProtocolError

MALFORMED = (
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    RecursionError,
    cattrs.BaseValidationError,
)
"""What unpacking and structuring raise on bytes that are not what they should be."""


def strict_converter(*, forbid_extra_keys: bool) -> MsgpackConverter:
    """A converter to and from msgpack with strict primitives.

    Unknown keys are ignored where a newer version may add some, and forbidden where a server that
    ignores one would diverge from a server that knows it.
    """
    converter = make_converter(forbid_extra_keys=forbid_extra_keys, detailed_validation=False)
    for primitive in (int, str, bytes, bool, float):
        converter.register_structure_hook(primitive, _exactly(primitive))
    return converter


def _exactly(primitive: type) -> Any:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is not primitive:
            raise TypeError(f"expected {primitive.__name__}, got {type(value).__name__}")
        return value

    return hook


def unpack(data: bytes) -> Any:
    """The one msgpack value that `data` holds.

    Raises:
        ProtocolError: it holds none, or more than one, or one nested too deep.
    """
    try:
        return msgpack.unpackb(data, strict_map_key=True)
    except MALFORMED as error:
        raise ProtocolError(f"no msgpack: {error or type(error).__name__}") from error


def pack(value: Any) -> bytes:
    """The value as msgpack.

    Raises:
        ValueError, TypeError, OverflowError: msgpack has no form for it.
    """
    packed: bytes = msgpack.packb(value)
    return packed
