"""`trioraft check`: whether a history is linearizable."""

from __future__ import annotations

import argparse
import json
import traceback
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from trioraft._cli.common import Unusable, load, say
from trioraft._commands import Vocabulary
from trioraft.testing._history import History
from trioraft.testing._history_file import HistoryUnreadable
from trioraft.testing._linearizability import LIMIT, MachineModel, Model, Verdict, check
from trioraft.testing._picture import render_svg
from trioraft.testing._report import report
from trioraft.testing._timeline import clipped

_NAMED: Final = 10


class Exit(IntEnum):
    """What the status of the process says."""

    GOOD = 0
    BAD = 1
    UNUSABLE = 2
    """The same as for a command line that `argparse` can't read."""
    UNDECIDED = 3


_CHECK: Final = """\
Say whether a history is linearizable: whether one order of its operations, each of them between its
call and its return, explains what all of them returned.
"""
_CHECK_EXITS: Final = """\
exit status:
  0  the history is linearizable
  1  it is not; a counterexample is printed
  2  the arguments, the history or the model can't be used
  3  undecided: the limit was reached first
"""


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="say whether a history is linearizable",
        description=_CHECK,
        epilog=_CHECK_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("history", metavar="HISTORY", help="a file that History.save has written")
    parser.add_argument(
        "--model",
        required=True,
        metavar="MODULE:NAME",
        help="the class of the state machine, or a model or its class",
    )
    parser.add_argument("--svg", metavar="FILE", help="draw the counterexample, if there is one")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    parser.add_argument(
        "--limit",
        type=_positive,
        default=LIMIT,
        metavar="N",
        help="how often operations are tried on one key before it is given up (%(default)s)",
    )
    parser.set_defaults(run=_check)


def _check(given: argparse.Namespace) -> int:
    model = _load_model(given.model)
    try:
        history = History.load(given.history, getattr(model, "commands", ()))
    except (OSError, HistoryUnreadable) as error:
        raise Unusable(str(error)) from error
    try:
        verdict = check(history, model, limit=given.limit)
    except Exception as error:  # a status of 1 would be a verdict
        traceback.print_exc()
        raise Unusable(f"the model raised {type(error).__name__}: {error}") from error
    found = verdict.counterexample
    say(json.dumps(report(verdict)) + "\n" if given.json else _as_text(verdict))
    if found is not None and given.svg is not None:
        try:
            Path(given.svg).write_text(render_svg(found), encoding="utf-8")
        except OSError as error:
            raise Unusable(str(error)) from error
    return {
        "linearizable": Exit.GOOD,
        "not linearizable": Exit.BAD,
        "undecided": Exit.UNDECIDED,
    }[verdict.kind]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("not positive")
    return number


def _load_model(path: str) -> Model:
    """The model that `module:name` leads to, or the one that a state machine's class makes."""
    found = load("--model", path)
    try:
        if hasattr(found, "initial"):
            model: Model = found() if isinstance(found, type) else found
        elif hasattr(found, "commands"):
            model = MachineModel(found)
        else:
            raise Unusable(f"--model: {path} is neither a state machine nor a model")
        Vocabulary(getattr(model, "commands", ()))
    except Unusable:
        raise
    except (Exception, SystemExit) as error:
        raise Unusable(f"--model: {path}: {type(error).__name__}: {error}") from error
    return model


def _as_text(verdict: Verdict) -> str:
    if verdict.counterexample is not None:
        return str(verdict.counterexample)
    keys = "1 key" if verdict.keys == 1 else f"{verdict.keys} keys"
    if verdict.kind == "linearizable":
        return f"Linearizable: {verdict.operations} operations on {keys}.\n"
    which = ", ".join(clipped(repr(key)) for key in verdict.undecided[:_NAMED])
    more = len(verdict.undecided) - _NAMED
    which += f" and {more} more" if more > 0 else ""
    return f"Undecided: gave up on {which}, of {keys}.  A larger --limit may tell.\n"
