"""Every step of every server in these tests is checked against the invariants."""

from __future__ import annotations

import pytest

import trioraft._core
from trioraft._rules.effects import Effect
from trioraft._rules.events import Event
from trioraft._rules.invariants import check
from trioraft._rules.node import Node
from trioraft._rules.step import step


def checked_step(node: Node, event: Event) -> tuple[Node, list[Effect]]:
    after, effects = step(node, event)
    check(node, after)
    return after, effects


@pytest.fixture(autouse=True)
def every_step_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trioraft._core, "step", checked_step)
