"""What is asked behind a question mark and in headers, and by whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from trioraft._errors import CommandRejected
from trioraft._reads import Anything, AtLeast, Consistency, Lease, Linearizable, MaxAge, Token
from trioraft._transport.http import WebRequest
from trioraft._wire.levels import LEVELS

ANSWER_SECONDS: Final = 30.0
"""How long the cluster may take: a client that has vanished without a word must not wait on."""

_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_SECONDS: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")


def is_another_sites(request: WebRequest) -> bool:
    """Does a web page ask this?

    Any page in a browser may post to anywhere, loopback too, and a name of its own may lead there;
    but the browser says so.
    """
    site = request.headers.get("sec-fetch-site", "none")
    return "origin" in request.headers or site not in ("none", "same-origin")


def parameters(request: WebRequest, *known: str) -> dict[str, str]:
    """What stands behind the question mark.

    Raises:
        CommandRejected: it makes no sense; the message says what.
    """
    try:
        pairs = parse_qsl(
            request.query,
            keep_blank_values=True,
            strict_parsing=bool(request.query),
            errors="strict",
            max_num_fields=2 * len(LEVELS),
        )
    except ValueError:
        raise CommandRejected("what stands behind the ? can't be read") from None
    given = dict(pairs)
    for name in given:
        if name not in known:
            raise CommandRejected(f"{request.path} knows no parameter {name!r:.100}")
    if len(given) < len(pairs):
        raise CommandRejected("a parameter stands there twice")
    return given


def consistency_of(given: dict[str, str]) -> Consistency:
    """How fresh the answer must be.

    Raises:
        CommandRejected: that makes no sense.
    """
    level = given.pop("consistency", "linearizable")
    needs = {"at_least": "token", "max_age": "seconds"}.get(level)
    if sorted(given) != ([] if needs is None else [needs]):
        wants = "no more" if needs is None else f"a {needs}"
        raise CommandRejected(f"the consistency {level!r:.100} takes {wants}")
    match level:
        case "at_least":
            try:
                return AtLeast(Token.parse(given["token"]))
            except ValueError as error:
                raise CommandRejected(str(error)) from None
        case "max_age":
            if not _SECONDS.fullmatch(given["seconds"]):
                raise CommandRejected(f"seconds must be a number, not {given['seconds']!r:.100}")
            return MaxAge(float(given["seconds"]))
        case "linearizable":
            return Linearizable()
        case "lease":
            return Lease()
        case "anything":
            return Anything()
    names = ", ".join(LEVELS.values())
    raise CommandRejected(f"there is no consistency {level!r:.100}: it is one of {names}")


def number_of(given: Mapping[str, str], name: str) -> int:
    """A whole number behind the question mark.

    Raises:
        CommandRejected: there is none.
    """
    text = given.get(name, "")
    if not _NUMBER.fullmatch(text):
        raise CommandRejected(f"{name}: expected a whole number, got {text!r:.100}")
    return int(text)
