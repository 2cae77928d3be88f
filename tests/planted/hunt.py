"""Runs seeds against whichever trioraft is imported here, and says what the first failure was.

This runs in a process of its own, beside which lies a package with a bug in it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import trioraft
from tests.planted.profiles import experiment
from trioraft.testing._experiment import Trial
from trioraft.testing._simulation import play

HANGS = 60
"""Real seconds after which a single seed counts as one that hangs."""

_MOST_BYTES = 3 << 30


def main() -> int:
    """Run seeds until one fails; what came of it goes to stdout, as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--seeds", type=int, required=True)
    given = parser.parse_args()
    imported = Path(trioraft.__file__).resolve().parent
    assert imported == given.package.resolve(), f"{imported} was imported, not {given.package}"
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    tried = experiment(given.profile)
    for seed in range(given.seeds):

        def give_up(*_: object, seed: int = seed) -> None:
            _say(seed=seed, broken=f"hangs: a seed takes more than {HANGS} s")
            os._exit(0)  # there is no telling how deep the loop is in which it hangs

        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(HANGS)
        failure: BaseException | None
        try:
            failure = play(tried.scenario(Trial(seed))).failure
        except BaseException as error:  # noqa: BLE001  of whatever kind, the bug has shown
            failure = error
        signal.alarm(0)
        if failure is not None:
            _say(seed=seed, broken=_in_few_words(failure))
            return 0
    _say(seed=None, broken="")
    return 0


def _in_few_words(failure: BaseException) -> str:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    lines = str(failure).splitlines() or [""]
    return f"{type(failure).__name__}: {lines[0]}"


def _say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
