"""Plants one bug in a copy of the package, and looks for what kills it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.planted.bug import ROOT, Bug

BOUND: Final = 1200.0
"""Real seconds for all seeds of one bug under one profile: a mutant may be slow."""

DIRECTED_BOUND: Final = 600.0
"""Real seconds for a directed test."""

UNSEEN_SEEDS: Final = 5
"""So many seeds are tried with a bug that no simulated run can show: it must not break all."""

_COPIED: Final = ("trioraft", "tests", "pyproject.toml")


@frozen
class Verdict:
    """What became of one bug."""

    bug: Bug
    killed_by: str | None
    """None: it survives."""
    seconds: float
    by_chance: bool = False
    """Whether a seed has found it, and no test that was written for it."""
    trouble: str = ""
    """Why it could not be tried."""


def tried(bug: Bug, seeds: int) -> Verdict:
    """Plant a bug, and let seeds and its directed test have a go at it."""
    began = time.monotonic()
    killed_by, by_chance, trouble = None, False, ""
    with planted(bug) as place:
        try:
            killed_by = _by_chance(place, bug, seeds)
            by_chance = killed_by is not None
            if killed_by is None and bug.directed is not None:
                killed_by = _by_test(place, bug.directed)
        except RuntimeError as error:
            trouble = str(error)
    return Verdict(bug, killed_by, time.monotonic() - began, by_chance, trouble)


@contextmanager
def planted(*bugs: Bug) -> Iterator[Path]:
    """A directory with a copy of the package and its tests, in which these bugs are planted."""
    with tempfile.TemporaryDirectory(prefix="planted") as name:
        place = Path(name)
        for part in _COPIED:
            source = ROOT / part
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, place / part, ignore=ignored)
            else:
                shutil.copy(source, place / part)
        for bug in bugs:
            bug.plant(place / "trioraft")
        yield place


def hunt(place: Path, profile: str, seeds: int) -> tuple[int | None, str]:
    """Run seeds against a copy of the package: the first that fails, and what it has broken.

    Raises:
        RuntimeError: nothing has come of it, and the bug is not to blame.
    """
    command = [
        *("-m", "tests.planted.hunt", "--package", str(place / "trioraft")),
        *("--profile", profile, "--seeds", str(seeds)),
    ]
    done = _python(place, command, BOUND)
    if done is None:
        return None, ""
    lines = done.stdout.splitlines()
    if done.returncode < 0:
        raise RuntimeError(f"somebody has ended it by signal {-done.returncode}")
    if done.returncode:
        raise RuntimeError(f"the simulation can't be run:\n{done.stderr}")
    said = json.loads(lines[-1])
    return said["seed"], said["broken"]


def _by_chance(place: Path, bug: Bug, seeds: int) -> str | None:
    most = min(seeds, UNSEEN_SEEDS) if bug.unseen else seeds
    for profile in dict.fromkeys(("harsh", bug.profile)):
        seed, broken = hunt(place, profile, most)
        if seed is not None:
            return f"{profile} {seed} -> {broken}"
    return None


def _by_test(place: Path, test: str) -> str | None:
    command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    done = _python(place, command, DIRECTED_BOUND)
    if done is None:
        return f"{test} (hangs)"
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{test} can't be run:\n{done.stdout}\n{done.stderr}")
    return test if done.returncode else None


def _python(
    place: Path, command: list[str], bound: float
) -> subprocess.CompletedProcess[str] | None:
    """Run Python so that the copy is what it imports; None if it takes too long."""
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(
            [sys.executable, *command],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=bound,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
