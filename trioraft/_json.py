"""JSON as strict as what travels between servers: what stands there is what is meant, or refused.

docs/http.md has the rules for those who write it.
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter, abc, deque
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, NoReturn

import attrs

from trioraft._errors import CommandRejected

_MOST_LETTERS: Final = 300


def parse(text: bytes) -> Any:
    """The one value that a JSON text holds.

    Raises:
        CommandRejected: it is no JSON in UTF-8, says a key twice, or has a number that is none.
    """
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_float=_finite,
        )
    except RecursionError:
        raise CommandRejected("no JSON that can be read: nested too deep") from None
    except ValueError as error:
        raise CommandRejected(f"no JSON that can be read: {brief(error)}") from error


def render(value: Any) -> bytes:
    """A result as JSON, in ASCII.

    Raises:
        ValueError: it has no form there; the message says why.
    """
    try:
        return json.dumps(plain(value), allow_nan=False).encode("ascii")
    except RecursionError:
        raise ValueError("nested too deep, or in itself") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r:.100} stands there twice")
    return made


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text:.40} is too large")
    return number


def brief(error: BaseException) -> str:
    """What an error says, if that is not too much."""
    return clipped(str(error) or type(error).__name__)


def clipped(text: str) -> str:
    """The text, or the beginning of it."""
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."


def plain(value: Any) -> Any:
    """A value of Python as what JSON has: see docs/http.md.

    Raises:
        ValueError: it has no form there.
        RecursionError: it is nested too deep, or in itself.
    """
    match value:
        case None | bool() | str() if not isinstance(value, Enum):
            return value
        case Enum():
            return plain(value.value)
        case int() | float():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{value} is no number in JSON")
            return value
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
        case list() | tuple() | deque():
            return [plain(item) for item in value]
        case abc.Set():
            return sorted((plain(item) for item in value), key=json.dumps)
        case Mapping():
            if all(isinstance(key, str) for key in value):
                return {str(key): plain(item) for key, item in value.items()}
            return [[plain(key), plain(item)] for key, item in value.items()]
        case _ if attrs.has(type(value)):
            names = [field.name for field in attrs.fields(type(value))]
            return {name: plain(getattr(value, name)) for name in names}
    raise ValueError(f"a {type(value).__name__} has no form in JSON")
