"""A map without a cluster."""

from __future__ import annotations

from typing import Any

from trioraft.recipes.kv import Changed, Found, KeyValues, Scan


class Alone:
    """Applies commands to a map of its own, and collects what they announce."""

    def __init__(self) -> None:
        self.machine = KeyValues()
        self.announced: list[Changed] = []

    def announce(self, change: Changed) -> None:
        self.announced.append(change)

    def do(self, command: Any) -> Any:
        """What the command comes to; stands in for `Applied`, too."""
        return command.apply(self.machine, self)

    def ask(self, query: Any) -> Any:
        return query.answer(self.machine)

    def everything(self) -> list[Found]:
        """All that is in the map, page by page."""
        found: list[Found] = []
        after: str | None = ""
        while after is not None:
            page = self.ask(Scan(limit=3, after=after))
            found += page.items
            after = page.after
        return found
