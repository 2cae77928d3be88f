"""How fresh a read is, as a type."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

from attrs import Attribute, field, frozen

R = TypeVar("R")


def _is_index(_: object, __: Attribute[int], value: int) -> None:
    if not 0 <= value < 1 << 63:
        raise ValueError(f"a token of entry {value!r:.40}: there can't be one")


@frozen
class Token:
    """A place in one cluster's history: everything up to an index.

    As text it is `CLUSTER/INDEX`; `Token.parse` reads that.
    """

    cluster: str
    index: int = field(validator=_is_index)

    def __str__(self) -> str:
        return f"{self.cluster}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read what `str` has written.

        Raises:
            ValueError: it is none; the message quotes it.
        """
        cluster, slash, index = text.rpartition("/")
        if not slash or not (index.isascii() and index.isdigit() and len(index) < 20):
            raise ValueError(f"bad token {text!r:.100}: expected CLUSTER/INDEX")
        return cls(cluster, int(index))


@frozen
class Linearizable:
    """All that was done before the read began, wherever and by whomever: the default.

    The leader confirms by a round of heartbeats that it still leads (ReadIndex, thesis 6.4); many
    reads share one.  A follower asks the leader how far it must have applied, and answers itself.
    """


@frozen
class Lease:
    """As fresh as `Linearizable`, without a round, as long as clocks drift no more than is stated.

    Where no lease is held it comes down to `Linearizable`, and the answer says so.
    """


def _a_token(_: object, attribute: Attribute[Token], value: object) -> None:
    if not isinstance(value, Token):
        raise TypeError(f"{attribute.name} must be a Token, not {value!r:.100}: see Token.parse")


@frozen
class AtLeast:
    """All up to a token: what a client has written or seen before.  Waits if the server lags."""

    token: Token = field(validator=_a_token)


def _not_negative(_: object, attribute: Attribute[float], value: float) -> None:
    if not 0 <= value <= math.inf:
        raise ValueError(f"{attribute.name} must be a number of seconds, not {value!r}")


@frozen
class MaxAge:
    """No older than so many seconds: a local read while this server hears of the leader."""

    seconds: float = field(converter=float, validator=_not_negative)


@frozen
class Anything:
    """Whatever this server's machine holds now, however old: a local read, at no cost."""


def no_consistency(given: object) -> str:
    """What to say of something that was given for one."""
    return f"{given!r:.100} is no consistency: give an instance, such as trioraft.Lease()"


Consistency = Linearizable | Lease | AtLeast | MaxAge | Anything


@frozen
class Answer(Generic[R]):
    """What a query answered, and how fresh that is."""

    value: R
    consistency: Consistency
    """The level that the answer has: the one asked for, or a stronger one."""
    index: int
    """The last entry that the answering machine had applied."""
    age: float
    """Seconds that the answer may be behind the cluster; infinite where nobody has asked.

    0 of `Linearizable` and `Lease`: nothing that was done before the read began is missing.
    """
    cluster: str = ""
    """The cluster's id."""

    @property
    def token(self) -> Token:
        """Covers what the answer has seen: for `AtLeast`, and for a watch that goes on from it."""
        return Token(self.cluster, self.index)
