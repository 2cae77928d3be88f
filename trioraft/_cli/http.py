"""One server, asked over plain HTTP by a command line: how that is done, and how it is told."""

from __future__ import annotations

import argparse
import http.client
import json
from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Any, Final

from attrs import frozen

from trioraft._cli.common import Unusable, complain, say
from trioraft._errors import Outcome
from trioraft._transport.addresses import Address, parse_address

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 60.0  # the server itself gives up before


class Exit(IntEnum):
    """What the status of the process says."""

    DONE = 0
    FAILED = 1
    UNUSABLE = 2
    NOT_DONE = 3
    UNKNOWN = 4


@frozen
class Answer:
    """What a server said, or why it said nothing, in the form of docs/http.md."""

    status: int
    """HTTP's; 0: none came."""
    told: Mapping[str, Any]


class _Lost(Exception):
    """No answer came."""

    def __init__(self, what: str, error: Exception, *, was_sent: bool) -> None:
        name = type(error).__name__
        super().__init__(f"{what}: {error or name}")
        self.name = name
        self.was_sent = was_sent


# -- arguments -------------------------------------------------------------------------------------


def add_parser(
    commands: Any, name: str, help_: str, about: str, exits: str
) -> argparse.ArgumentParser:
    """Add a command that asks the server at `address`, and may print as `json`."""
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


# -- asking ----------------------------------------------------------------------------------------


def ask(
    address: Address,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    expect: Mapping[str, type[object]],
    lost: Outcome = "not done",
) -> Answer:
    """Ask one thing.

    Args:
        address: whom.
        method: of HTTP.
        target: the path, and what stands behind the question mark.
        body: what is sent.
        headers: besides HTTP's own.
        expect: what a server of a cluster answers, by name and type.
        lost: what may be concluded if no answer comes, or a stranger's.

    Raises:
        Unusable: a header is none; nothing was sent.
    """
    try:
        status, text = _exchange(address, method, target, body, headers or {})
    except _Lost as error:
        outcome: Outcome = lost if error.was_sent else "not done"
        return Answer(0, problem(error.name, str(error), outcome))
    return _read(address, status, text, expect, lost)


def fetch(address: Address, target: str) -> bytes | Answer:
    """Have a server send bytes; an answer says why it did not."""
    try:
        status, data = _exchange(address, "POST", target, None, {})
    except _Lost as error:
        return Answer(0, problem(error.name, str(error), "not done"))
    return data if status == 200 else _read(address, status, data, {}, "not done")


def _exchange(
    address: Address, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_CONNECT_SECONDS)
    try:
        connection.connect()
        connection.sock.settimeout(_ANSWER_SECONDS)
    except OSError as error:
        raise _Lost(f"{address} can't be reached", error, was_sent=False) from error
    try:
        connection.request(method, target, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    except ValueError as error:  # a header that is none
        raise Unusable(str(error)) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Lost(f"{address} did not answer", error, was_sent=True) from error
    finally:
        connection.close()


def _read(
    address: Address, status: int, text: bytes, expect: Mapping[str, type[object]], lost: Outcome
) -> Answer:
    told, wanted = _told(text), expect if status == 200 else {"error": object}
    if any(name not in told or not isinstance(told[name], wanted[name]) for name in wanted):
        about = f"{address} is no server of a cluster: it answers HTTP {status}"
        return Answer(500, problem("ProtocolError", about, lost))
    return Answer(status, told)


def _told(text: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def problem(error: str, message: str, outcome: Outcome) -> Mapping[str, Any]:
    """An error of this side, in the form in which servers tell theirs."""
    return {"error": error, "message": message, "outcome": outcome, "leader": None}


# -- telling ---------------------------------------------------------------------------------------


def tell(answer: Answer, *, as_json: bool, rows: Collection[str] = ()) -> int:
    """Print an answer, and return the status of the process; `rows` as in `readable`."""
    told = answer.told
    if as_json:
        say(json.dumps(told) + "\n")
    elif answer.status == 200:
        say(readable(told, rows))
    else:
        complain(one_line(f"{told.get('error')}: {told.get('message')}"))
    match answer.status, told.get("outcome"):
        case 200, _:
            return Exit.DONE
        case 0 | 503 | 504, "not done":
            return Exit.NOT_DONE
        case 409, "not done":  # a change of the members that the cluster refuses
            return Exit.FAILED
        case _, "done":
            return Exit.FAILED
        case _, "unknown":
            return Exit.UNKNOWN
        case status, _ if 400 <= status < 500:
            return Exit.UNUSABLE
    return Exit.FAILED


def readable(told: Mapping[str, Any], rows: Collection[str] = ()) -> str:
    """One line for each figure; under those named in `rows`, one line for each of their objects."""
    width = max(map(len, told), default=0)
    lines = []
    for name, value in told.items():
        objects = value if name in rows and isinstance(value, list) and value else []
        if objects and all(isinstance(row, dict) for row in objects):
            lines.append(f"{name}\n")
            lines += [f"  {one_line(', '.join(_pairs(row)))}\n" for row in objects]
        else:
            lines.append(f"{name:{width}}  {one_line(_as_text(value))}\n")
    return "".join(lines)


def _pairs(row: Mapping[str, Any]) -> list[str]:
    return [f"{name} {_as_text(value)}" for name, value in row.items()]


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def one_line(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
