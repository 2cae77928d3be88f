"""How fresh a read is, as a type."""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import frozen

R = TypeVar("R")


@frozen
class Anything:
    """Whatever this server's machine holds now, however old: a local read, at no cost."""


@frozen
class Answer(Generic[R]):
    """What a query answered, and how fresh that is."""

    value: R
    consistency: Anything
    """The level that was asked for, and kept."""
    index: int
    """The last entry that the answering machine had applied."""
    age: float
    """Seconds that the answer may be behind the cluster; infinite where nobody has asked."""
