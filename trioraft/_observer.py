"""Who looks on while a server works: its trace, and the simulation's judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import outcome

from trioraft._rules.effects import Effect
from trioraft._rules.events import Event
from trioraft._rules.ids import ServerId
from trioraft._rules.messages import Message
from trioraft._rules.node import Node
from trioraft._wire.frames import Entry


class Observer(Protocol):
    """Is told of everything at the moment it happens; none of it may wait or change anything.

    What an observer raises ends the server, as a broken invariant would.
    """

    def restart(self, node: Node, now: float) -> None:
        """The server takes part from now on, with what its disk held."""
        ...

    def stepped(
        self, before: Node, event: Event, after: Node, effects: Sequence[Effect], applied: int
    ) -> None:
        """The rules have taken an event; the effects are yet to be carried out."""
        ...

    def broken(self, node: Node, event: Event, applied: int) -> None:
        """The rules have raised: nothing has changed, and the server ends."""
        ...

    def sent(self, node: Node, to: ServerId, message: Message, applied: int) -> None:
        """A message leaves, after whatever write it rested on."""
        ...

    def applied(self, node: Node, entry: Entry, result: outcome.Outcome[Any] | None) -> None:
        """An entry was applied; `result` is what a command's `apply` returned or raised."""
        ...

    def restored(self, node: Node, index: int, term: int) -> None:
        """The machine has become what an installed snapshot says of entry `index`."""
        ...

    def close(self) -> None:
        """The server takes no part any more."""
        ...
