"""How fresh a read must be, as it travels."""

from __future__ import annotations

import math
from typing import Final

from trioraft._errors import ProtocolError
from trioraft._reads import Anything, AtLeast, Consistency, Lease, Linearizable, MaxAge, Token

LEVELS: Final[dict[type[Consistency], str]] = {
    Linearizable: "linearizable",
    Lease: "lease",
    AtLeast: "at_least",
    MaxAge: "max_age",
    Anything: "anything",
}
"""The name of each level, on the wire and in JSON."""


def level_of(consistency: Consistency) -> tuple[str, str, int, float | None]:
    """A level's name, its token's cluster and index, and its seconds; None: any age."""
    name = LEVELS[type(consistency)]
    match consistency:
        case AtLeast(token):
            return name, token.cluster, token.index, None
        case MaxAge(seconds):
            return name, "", 0, None if math.isinf(seconds) else seconds
        case _:
            return name, "", 0, None


def consistency_of(name: str, cluster: str, index: int, seconds: float | None) -> Consistency:
    """What `level_of` was given.

    Raises:
        ProtocolError: there is no such level.
    """
    match name:
        case "linearizable":
            return Linearizable()
        case "lease":
            return Lease()
        case "at_least":
            return AtLeast(Token(cluster, index))
        case "max_age":
            return MaxAge(math.inf if seconds is None else seconds)
        case "anything":
            return Anything()
        case _:
            raise ProtocolError(f"a read of the unknown level {name!r:.40}")


def level_told(name: str, asked: Consistency) -> Consistency:
    """The level that an answer has: the very one that was asked for, or another one.

    Raises:
        ProtocolError: there is no such level.
    """
    told = consistency_of(name, "", 0, None)
    return asked if type(told) is type(asked) else told
