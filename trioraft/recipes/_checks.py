"""Validators of fields: what they refuse is refused where it is made, and where it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]
"""A validator as attrs takes it.  Raises `TypeError` or `ValueError`, and names the field."""


def size(*texts: str) -> int:
    """How many bytes of UTF-8 the texts have.

    Raises:
        UnicodeEncodeError: one is half a surrogate pair, which is no text; it is a `ValueError`.
    """
    return sum([len(text) if text.isascii() else len(text.encode()) for text in texts])


def text(least: int, most: int) -> Check:
    """A text of so many bytes of UTF-8."""

    def check(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if type(value) is str and value.isascii() and least <= len(value) <= most:
            return  # most are: what is below takes four times as long
        if not isinstance(value, str):
            raise TypeError(f"{attribute.name} must be text, not {type(value).__name__}")
        # A text has no more characters than bytes: what is much too long is not even encoded.
        if len(value) > most or not least <= size(value) <= most:
            raise ValueError(f"{attribute.name} must have {least} to {most} bytes of UTF-8")

    return check


def whole(least: int, most: int) -> Check:
    """A whole number; `True` is none."""

    def check(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if type(value) is not int:
            raise TypeError(f"{attribute.name} must be an int, not {type(value).__name__}")
        if not least <= value <= most:
            raise ValueError(f"{attribute.name} must be from {least} to {most}")

    return check
