"""What the commands share: how they load, speak and fail."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Final

UNUSABLE: Final = 2
"""The status of a process whose arguments can't be used; argparse has the same."""


class Unusable(Exception):
    """What the command line names can't be used."""


def say(text: str) -> None:
    """Print, whatever the terminal has letters for."""
    sys.stdout.write(_printable(text, sys.stdout.encoding))


def complain(text: str) -> None:
    """Say in one line what went wrong."""
    sys.stderr.write(_printable(f"trioraft: {text}\n", sys.stderr.encoding))


def _printable(text: str, encoding: str | None) -> str:
    """The text, with escapes for what the terminal has no letters for."""
    name = encoding or "utf-8"
    return text.encode(name, "backslashreplace").decode(name)


def load(option: str, path: str) -> Any:
    """What `module:name` leads to; the current directory is searched first.

    Raises:
        Unusable: it leads nowhere, or the module can't be imported.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise Unusable(f"{option}: expected MODULE:NAME, got {path!r}")
    if not {"", os.getcwd()}.intersection(sys.path):
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise Unusable(f"{option}: {path}: {type(error).__name__}: {error}") from error
    return found
