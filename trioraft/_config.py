"""What can be set, checked before anything runs."""

from __future__ import annotations

import math
import os
from typing import Any, Final, Literal, get_args

from attrs import Attribute, field, frozen, validators

from trioraft._limits import (
    DEFAULT_ELECTION_TIMEOUT,
    DEFAULT_HEARTBEAT_INTERVAL,
    DEFAULT_MAX_CLOCK_DRIFT,
    DEFAULT_SNAPSHOT_BYTES,
    DEFAULT_SNAPSHOT_ENTRIES,
    NUMBER_OF_LOG_ENTRIES_AFTER_SNAPSHOT,
)
from trioraft._snapshots.compression import Compression, check_compression

Leads = Literal["readily", "rarely", "never"]
RELUCTANCE: Final[dict[Leads, int]] = {"readily": 0, "rarely": 1, "never": 2}
"""How the rules count it."""

_HEARTBEATS_PER_TIMEOUT = 3
_SLACK = 1e-9
"""3 * 0.05 is a little more than 0.15 in floats."""


def _as_float(value: float) -> float:
    """A whole number of seconds is stored and sent as what it is: a time."""
    return float(value) if type(value) is int else value


def _positive(config: Config, attribute: Attribute[float], value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{attribute.name} must be a number of seconds, not {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be positive and finite, not {value!r}")


def _whole(config: Config, attribute: Attribute[Any], value: int) -> None:
    if type(value) is not int:
        raise TypeError(f"{attribute.name} must be a number, not {value!r}")
    if value < 0:
        raise ValueError(f"{attribute.name} must not be negative: {value}")


def _count(config: Config, attribute: Attribute[Any], value: int | None) -> None:
    if value is not None:
        _whole(config, attribute, value)


@frozen(kw_only=True)
class Config:
    """How one server behaves.  All servers of a cluster should agree on the two times.

    Raises:
        ValueError: the times make no sense; the message names the relation that is broken.
        TypeError: a time or a count is no number.
    """

    heartbeat_interval: float = field(
        default=DEFAULT_HEARTBEAT_INTERVAL, converter=_as_float, validator=_positive
    )
    """Seconds between two messages of an idle leader to each follower."""

    election_timeout: float = field(
        default=DEFAULT_ELECTION_TIMEOUT, converter=_as_float, validator=_positive
    )
    """Seconds: a follower without a leader campaigns after one to two of these, drawn anew each
    time.  At least three heartbeat intervals, so that one lost heartbeat deposes nobody."""

    max_clock_drift: float = field(default=DEFAULT_MAX_CLOCK_DRIFT, converter=_as_float)
    """How much faster than this server's clock another one may run, as a fraction: 0.05 is three
    seconds a minute.  Leases rest on it, and nothing else does."""

    snapshot_entries: int | None = field(default=DEFAULT_SNAPSHOT_ENTRIES, validator=_count)
    """A snapshot is taken after about so many entries since the last one; None: whatever their
    number.  It waits until they have at least a fourth of the bytes that the last one holds."""

    snapshot_bytes: int | None = field(default=DEFAULT_SNAPSHOT_BYTES, validator=_count)
    """The same for the bytes of the entries.  If both are None, only `take_snapshot` takes any."""

    trailing_entries: int = field(default=NUMBER_OF_LOG_ENTRIES_AFTER_SNAPSHOT, validator=_whole)
    """How many entries stay in the log behind a snapshot, for followers that are a little late."""

    snapshot_compression: Compression = field(
        default="zlib", validator=lambda _, __, value: check_compression(value)
    )
    """"zlib", or "zstd" with trioraft[zstd], which every server of the cluster then needs."""

    leads: Leads = field(default="readily", validator=validators.in_(get_args(Leads)))
    """Whether this server is to lead: "readily"; "rarely": it lets others campaign first, and hands
    over to one that leads readily; or "never": the same with more patience, for it may yet hold the
    only complete log."""

    trace: str | os.PathLike[str] | None = None
    """A file to which one JSON line per protocol event is appended (docs/trace.md); None: none."""

    @max_clock_drift.validator
    def _check_drift(self, _: Attribute[float], value: float) -> None:
        if not isinstance(value, float) or not 0 <= value < 1:
            raise ValueError(f"max_clock_drift must be a fraction from 0 to 1, not {value!r}")

    def __attrs_post_init__(self) -> None:
        least = _HEARTBEATS_PER_TIMEOUT * self.heartbeat_interval
        if self.election_timeout < least * (1 - _SLACK):
            raise ValueError(
                "election_timeout must be at least three heartbeat intervals: "
                f"{self.election_timeout} < 3 * {self.heartbeat_interval}"
            )
