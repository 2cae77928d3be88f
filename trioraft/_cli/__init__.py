"""The command line: `trioraft`, or `python -m trioraft`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from trioraft._cli import asking, bench, check, inspect, members, recover, serve, snapshot
from trioraft._cli.common import UNUSABLE, Unusable, complain

_COMMANDS: Final = (
    serve.add,
    asking.add_do,
    asking.add_read,
    asking.add_status,
    members.add_members,
    members.add_changes,
    snapshot.add,
    inspect.add,
    recover.add,
    check.add,
    bench.add,
)
"""Each adds its own parser, with a `run` that takes what was given and returns a status."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The status of the process; each command's `--help` says what it means.
    """
    parser = argparse.ArgumentParser(
        prog="trioraft",
        description="Servers of a cluster, what they are asked, and tools to check them.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in _COMMANDS:
        add(commands)
    given = parser.parse_args(arguments)
    try:
        status: int = given.run(given)
    except Unusable as error:
        complain(str(error))
        return UNUSABLE
    return status
