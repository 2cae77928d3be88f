"""A verdict as JSON, for other programs."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from trioraft.testing._counterexample import Counterexample, Step
from trioraft.testing._history_file import output_to_json, to_json, value_to_json
from trioraft.testing._linearizability import Verdict
from trioraft.testing._operations import Raised, plain
from trioraft.testing._ordering import Start


def report(verdict: Verdict) -> dict[str, Any]:
    """The verdict.  A counterexample's operations have numbers, from 1."""
    example = verdict.counterexample
    return {
        "verdict": verdict.kind,
        "operations": verdict.operations,
        "keys": verdict.keys,
        "steps": verdict.steps,
        "undecided": [_shown(key) for key in verdict.undecided],
        "counterexample": None if example is None else _Numbered(example).report(),
    }


def _shown(value: Hashable) -> Any:
    """A key, a state or an output: as it would stand in a history, or else as Python shows it."""
    try:
        return value_to_json(plain(value))
    except TypeError:
        return repr(value)


class _Numbered:
    def __init__(self, example: Counterexample) -> None:
        self._example = example
        self._numbers = {id(operation): n for n, operation in enumerate(example.operations, 1)}

    def report(self) -> dict[str, Any]:
        example = self._example
        return {
            "key": _shown(example.key),
            "since": example.since,
            "end": example.end,
            "minimal": example.is_minimal,
            "operations": [to_json(operation) for operation in example.operations],
            "before": [to_json(operation) for operation in example.before],
            "starts": [self._start(start) for start in example.starts],
            "begin": self._start(example.begin),
            "order": [self._step(step) for step in example.order],
            "stuck": [self._step(step) for step in example.stuck],
        }

    def _start(self, start: Start) -> dict[str, Any]:
        used = [self._numbers[id(operation)] for operation in start.used]
        return {"state": _shown(start.state), "used": used}

    def _step(self, step: Step) -> dict[str, Any]:
        number = self._numbers[id(step.operation)]
        output = step.output
        came_to = (
            output_to_json(output) if isinstance(output, Raised) else {"output": _shown(output)}
        )
        return {"operation": number, **came_to, "state": _shown(step.state)}
