"""What the commands share: how they load, speak and fail."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from trioraft._transport.addresses import parse_address

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


def addresses(text: str) -> Mapping[str, str]:
    """`NAME=ADDRESS,...`; whether each makes sense is for others to say."""
    found: dict[str, str] = {}
    for pair in text.split(","):
        name, equals, address = pair.strip().partition("=")
        if not equals or not name or not address:
            raise argparse.ArgumentTypeError(f"expected NAME=ADDRESS, got {pair!r}")
        if name in found:
            raise argparse.ArgumentTypeError(f"{name} stands there twice")
        found[name] = address
    return found


def members(text: str) -> Mapping[str, str]:
    """`NAME=HOST:PORT,...`, or with `ws://`: servers, and where they listen."""
    return {name: member_address(address) for name, address in addresses(text).items()}


def member_address(text: str) -> str:
    """`HOST:PORT`, or with `ws://`: where a server listens, as others of the cluster write it."""
    try:
        return str(parse_address(text if "://" in text else f"ws://{text}"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
