"""`trioraft do`, `read`, `status`: ask a server over plain HTTP, and say what became of it."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final
from urllib.parse import urlencode

from trioraft._cli.http import add_parser, ask, tell
from trioraft._errors import CommandRejected
from trioraft._json import parse
from trioraft._wire.levels import LEVELS

_DO_EXITS: Final = """\
exit status:
  0  it is done
  1  it is done, and its apply raised or returned what has no form in JSON
  2  it is not done: the arguments or the command can't be used
  3  it is not done: no such server, or no leader; try again
  4  nobody can say: the connection broke, or the cluster did not answer in time
"""
_READ_EXITS: Final = """\
exit status:
  0  it is answered
  1  its answer raised, or has no form in JSON
  2  the arguments or the query can't be used
  3  it is not answered: no such server, or it can't say; try again
"""
_STATUS_EXITS: Final = """\
exit status:
  0  the server answered
  1  what answered is no server of a cluster
  2  the arguments can't be used
  3  nobody answered
"""
_HELP: Final = """the {0} as JSON, {{"NAME": {{"FIELD": VALUE, ...}}}}; - reads it from stdin"""
_ANY_RESULT: Final = {"result": object}


def add_do(commands: Any) -> None:
    """Add the command `do`."""
    about = "Have a command done by the cluster.  Any server can be asked."
    parser = add_parser(commands, "do", "have a command done", about, _DO_EXITS)
    parser.add_argument("command", metavar="COMMAND", type=_call, help=_HELP.format("command"))
    parser.add_argument(
        "--session",
        metavar="ID/SEQUENCE",
        help="the same pair again is the same command, which is done once",
    )
    parser.set_defaults(run=_do)


def add_read(commands: Any) -> None:
    """Add the command `read`."""
    about = "Have a query answered.  Any server can be asked."
    parser = add_parser(commands, "read", "have a query answered", about, _READ_EXITS)
    parser.add_argument("query", metavar="QUERY", type=_call, help=_HELP.format("query"))
    parser.add_argument(
        "--consistency",
        choices=list(LEVELS.values()),
        default="linearizable",
        help="how fresh the answer must be (%(default)s)",
    )
    parser.add_argument("--token", help="for at_least: a token out of an earlier answer")
    parser.add_argument("--seconds", help="for max_age: how old it may be")
    parser.set_defaults(run=_read)


def add_status(commands: Any) -> None:
    """Add the command `status`."""
    about = "Say what a server is about: who leads, how far it is, who is connected."
    parser = add_parser(commands, "status", "say what a server is about", about, _STATUS_EXITS)
    parser.set_defaults(run=_status)


def _call(text: str) -> bytes:
    data = sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape")
    try:
        parse(data)
    except CommandRejected as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return data


def _do(given: argparse.Namespace) -> int:
    headers = {} if given.session is None else {"Trioraft-Session": given.session}
    body, expect = given.command, _ANY_RESULT
    answer = ask(given.address, "POST", "/do", body, headers, expect=expect, lost="unknown")
    return tell(answer, as_json=given.json)


def _read(given: argparse.Namespace) -> int:
    asked = {"consistency": given.consistency, "token": given.token, "seconds": given.seconds}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    answer = ask(given.address, "POST", f"/read?{query}", given.query, expect=_ANY_RESULT)
    return tell(answer, as_json=given.json)


def _status(given: argparse.Namespace) -> int:
    answer = ask(given.address, "GET", "/status", expect={"name": object})
    return tell(answer, as_json=given.json, rows=["peers"])
