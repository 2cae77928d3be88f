"""What a step has changed, as events: one place, so that no way of learning it is forgotten."""

from __future__ import annotations

import logging
import math
from typing import Final

from trioraft import _events as say
from trioraft._config import Config
from trioraft._rules.node import Node
from trioraft._trace import state_name

_LOG: Final = logging.getLogger("trioraft.server")
_LONG: Final = 0.8
"""A silence of so much of the election time-out is worth telling."""


class Silence:
    """How long the leader was not heard."""

    def __init__(self, hub: say.Hub, config: Config) -> None:
        self._hub = hub
        self._long = _LONG * config.election_timeout
        self._heard_at = -math.inf

    def heard(self, now: float) -> None:
        """A leader's message came: tell if it was nearly too late."""
        silence = now - self._heard_at
        self._heard_at = now
        if self._long < silence < math.inf:
            self._hub.emit(say.ElectionTimeoutThreshold(silence))


def announce(hub: say.Hub, before: Node, after: Node) -> None:
    """Tell what has changed: one place, so that no way of learning it is forgotten."""
    if before.term != after.term:
        hub.emit(say.TermChange(after.term, before.term))
    if type(before.role) is not type(after.role):
        hub.emit(say.StateChange(state_name(after), state_name(before)))
        _LOG.info("%s: %s in term %d", after.me.name, state_name(after), after.term)
    if before.leader != after.leader:
        old = None if before.leader is None else before.leader.name
        new = None if after.leader is None else after.leader.name
        hub.emit(say.LeaderChange(new, old))
