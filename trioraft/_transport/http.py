"""What is asked and answered in plain HTTP, and what a transport that can do that looks like."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from attrs import field, frozen

from trioraft._errors import Outcome


@frozen
class WebRequest:
    """A request whose body has come."""

    method: str
    """A HEAD is a GET here, and loses its body on the way out."""
    path: str
    query: str
    """What stands behind the question mark, as it came."""
    headers: Mapping[str, str]
    """By names in lower case; what came several times is joined by commas."""
    body: bytes


@frozen
class WebResponse:
    """An answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(factory=dict)
    close: bool = False
    """Whether the connection is closed behind it."""


Respond = Callable[[WebRequest], Awaitable[WebResponse]]


@runtime_checkable
class WebTransport(Protocol):
    """A transport that can answer plain HTTP beside its own protocol."""

    def answer_web(self, respond: Respond) -> None:
        """Answer plain HTTP with what `respond` returns.  To be called before `listen`.

        `respond` is cancelled when its client hangs up.  What it raises is logged, and answered
        with 500.
        """
        ...


def problem(
    status: int,
    error: str,
    message: str,
    *,
    outcome: Outcome = "not done",
    leader: str | None = None,
    headers: Mapping[str, str] | None = None,
    close: bool = False,
    more: Mapping[str, Any] | None = None,
) -> WebResponse:
    """An error, as every error is told; `more` is what else some are told with."""
    told: dict[str, Any] = {
        "error": error,
        "message": message,
        "outcome": outcome,
        "leader": leader,
    }
    told |= more or {}
    body = json.dumps(told).encode() + b"\n"
    return WebResponse(status, body, headers=headers or {}, close=close)
