"""A state that differs from another one in a few fields: half of what rules do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from attrs import evolve as evolve  # whose fields the type checker knows
else:
    State = TypeVar("State")
    _new = object.__new__

    def evolve(state: State, /, **changes: Any) -> State:
        """As `attrs.evolve`, at a quarter of its cost, for classes that have no slots.

        The fields are copied as one dictionary, and `__init__` is not called: the states' have
        nothing to convert and nothing to check.
        """
        changed = _new(type(state))
        fields = changed.__dict__
        fields.update(state.__dict__)
        fields.update(changes)
        return changed
