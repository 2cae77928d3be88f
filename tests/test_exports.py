"""The public names are public: typed, documented, and nothing else."""

from __future__ import annotations

import inspect

import pytest

import trioraft
import trioraft.abc
import trioraft.testing

SHELVES = [trioraft, trioraft.abc, trioraft.testing]


@pytest.mark.parametrize("shelf", SHELVES, ids=lambda shelf: shelf.__name__)
def test_every_public_class_and_function_is_documented(shelf: object) -> None:
    for name, value in vars(shelf).items():
        if name.startswith("_") or not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        if not value.__module__.startswith("trioraft"):
            continue
        assert inspect.getdoc(value), f"{name} has no docstring"
        if inspect.isclass(value):
            for method, function in vars(value).items():
                if not method.startswith("_") and inspect.isfunction(function):
                    assert inspect.getdoc(function), f"{name}.{method} has no docstring"


def test_errors_form_one_tree() -> None:
    errors = [v for v in vars(trioraft).values() if inspect.isclass(v) and issubclass(v, Exception)]
    assert all(issubclass(error, trioraft.TrioraftError) for error in errors)
    assert issubclass(trioraft.Busy, trioraft.CommandRejected)
    assert issubclass(trioraft.StorageCorrupt, trioraft.StorageError)


def test_every_command_error_says_what_became_of_the_command() -> None:
    outcomes = {
        trioraft.NotLeaderError: "not done",
        trioraft.CommandRejected: "not done",
        trioraft.Busy: "not done",
        trioraft.OutcomeUnknown: "unknown",
        trioraft.CommandFailed: "done",
        trioraft.ResultLost: "done",
        trioraft.SessionExpired: "unknown",
    }
    assert {error: error.outcome for error in outcomes} == outcomes
