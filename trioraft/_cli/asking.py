"""`trioraft do`, `read`, `status`: ask a server over plain HTTP, and say what became of it."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final
from urllib.parse import urlencode

from attrs import frozen

from trioraft._cli.common import Unusable, complain, say
from trioraft._errors import CommandRejected, Outcome
from trioraft._json import parse
from trioraft._transport.addresses import Address, parse_address
from trioraft._wire.levels import LEVELS

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 60.0  # the server itself gives up before


class Exit(IntEnum):
    """What the status of the process says."""

    DONE = 0
    FAILED = 1
    UNUSABLE = 2
    NOT_DONE = 3
    UNKNOWN = 4


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


@frozen
class _Answer:
    status: int
    """HTTP's; 0: none came."""
    told: Mapping[str, Any]


# -- arguments -------------------------------------------------------------------------------------


def add_do(commands: Any) -> None:
    """Add the command `do`."""
    about = "Have a command done by the cluster.  Any server can be asked."
    parser = _parser(commands, "do", "have a command done", about, _DO_EXITS)
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
    parser = _parser(commands, "read", "have a query answered", about, _READ_EXITS)
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
    parser = _parser(commands, "status", "say what a server is about", about, _STATUS_EXITS)
    parser.set_defaults(run=_status)


_HELP: Final = """the {0} as JSON, {{"NAME": {{"FIELD": VALUE, ...}}}}; - reads it from stdin"""


def _parser(
    commands: Any, name: str, help_: str, about: str, exits: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_,
        description=about,
        epilog=exits,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "address", metavar="ADDRESS", type=_address, help="ws://HOST:PORT or http://HOST:PORT"
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    return parser


def _address(text: str) -> Address:
    try:
        return parse_address(text.removesuffix("/").replace("http://", "ws://", 1))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _call(text: str) -> bytes:
    data = sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape")
    try:
        parse(data)
    except CommandRejected as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return data


# -- asking ----------------------------------------------------------------------------------------


def _do(given: argparse.Namespace) -> int:
    headers = {} if given.session is None else {"Trioraft-Session": given.session}
    answer = _ask(
        given.address, "POST", "/do", given.command, headers, expect="result", lost="unknown"
    )
    return _tell(given, answer)


def _read(given: argparse.Namespace) -> int:
    asked = {"consistency": given.consistency, "token": given.token, "seconds": given.seconds}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    return _tell(given, _ask(given.address, "POST", f"/read?{query}", given.query, expect="result"))


def _status(given: argparse.Namespace) -> int:
    return _tell(given, _ask(given.address, "GET", "/status", expect="name"))


def _ask(
    address: Address,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    expect: str,
    lost: Outcome = "not done",
) -> _Answer:
    """Ask one thing; `lost` is what may be concluded if no answer comes, or a stranger's."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_CONNECT_SECONDS)
    try:
        connection.connect()
        connection.sock.settimeout(_ANSWER_SECONDS)
    except OSError as error:
        return _lost(error, f"{address} can't be reached", "not done")
    try:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        text = response.read()
    except ValueError as error:  # a header that is none; nothing was sent
        raise Unusable(str(error)) from None
    except (OSError, http.client.HTTPException) as error:
        return _lost(error, f"{address} did not answer", lost)
    finally:
        connection.close()
    told = _told(text)
    if ("error" if response.status != 200 else expect) not in told:
        about = f"{address} is no server of a cluster: it answers HTTP {response.status}"
        return _Answer(500, _problem("ProtocolError", about, lost))
    return _Answer(response.status, told)


def _told(text: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _lost(error: Exception, what: str, outcome: Outcome) -> _Answer:
    name = type(error).__name__
    return _Answer(0, _problem(name, f"{what}: {error or name}", outcome))


def _problem(error: str, message: str, outcome: Outcome) -> Mapping[str, Any]:
    return {"error": error, "message": message, "outcome": outcome, "leader": None}


# -- telling ---------------------------------------------------------------------------------------


def _tell(given: argparse.Namespace, answer: _Answer) -> int:
    told = answer.told
    if given.json:
        say(json.dumps(told) + "\n")
    elif answer.status == 200:
        say(_readable(told))
    else:
        complain(_one_line(f"{told.get('error')}: {told.get('message')}"))
    match answer.status, told.get("outcome"):
        case 200, _:
            return Exit.DONE
        case 0 | 503 | 504, "not done":
            return Exit.NOT_DONE
        case _, "done":
            return Exit.FAILED
        case _, "unknown":
            return Exit.UNKNOWN
        case status, _ if 400 <= status < 500:
            return Exit.UNUSABLE
    return Exit.FAILED


def _readable(told: Mapping[str, Any], indent: str = "") -> str:
    """One line for each figure; under a list of objects one line for each of them."""
    width = max(map(len, told), default=0)
    lines = []
    for name, value in told.items():
        rows = value if isinstance(value, list) and value else []
        if name == "peers" and all(isinstance(row, dict) for row in rows):
            lines.append(f"{name}\n")
            lines += [f"  {_one_line(', '.join(_pairs(row)))}\n" for row in rows]
        else:
            lines.append(f"{name:{width}}  {_one_line(_as_text(value))}\n")
    return "".join(lines)


def _pairs(row: Mapping[str, Any]) -> list[str]:
    return [f"{name} {_as_text(value)}" for name, value in row.items()]


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _one_line(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
