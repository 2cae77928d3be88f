"""What the port of a server answers to plain HTTP: see docs/http.md for those who ask.

Every answer but /metrics is JSON, and so is every error: its class, what was wrong, what became of
the command, and who leads.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import trio

from trioraft._commands import Done, Vocabulary
from trioraft._errors import (
    Busy,
    CommandError,
    CommandFailed,
    CommandRejected,
    Outcome,
    OutcomeUnknown,
    ProtocolError,
    ServerStopped,
    TrioraftError,
)
from trioraft._json import parse, render
from trioraft._json_calls import read_call
from trioraft._reads import Answer, Consistency, Token
from trioraft._sessions import Call
from trioraft._status import Status
from trioraft._transport.http import Respond, WebRequest, WebResponse, problem
from trioraft._web_metrics import metrics, sickness
from trioraft._web_requests import consistency_of, is_another_sites, parameters
from trioraft._wire.levels import LEVELS

ANSWER_SECONDS: Final = 30.0
"""How long the cluster may take: a client that has vanished without a word must not wait on."""

_CALL: Final = re.compile(r"([1-9][0-9]{0,18})/([1-9][0-9]{0,18})")
UNREADABLE: Final = ("ResultUnreadable", "ResultTooLarge")
"""Done, and what it came to can't be told: whose fault that is, the machine's author knows."""

_UNLUCKY: Final[dict[Outcome, int]] = {"done": 409, "not done": 503, "unknown": 504}
"""Which status says what became of a command."""


class Front(Protocol):
    """What a server does for those who ask from outside, whoever leads."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What the machine understands."""
        ...

    async def do(self, command: Any, call: Call | None) -> Done:
        """Have a command done, by whichever server leads.

        Raises:
            CommandError: what became of it; `CommandFailed` is what its apply raised.
            ServerStopped: this server does not run.
        """
        ...

    async def read(self, query: Any, consistency: Consistency) -> Answer[Any]:
        """Have a query answered.

        Raises:
            CommandError: it was not answered; `CommandFailed` is what its answer raised.
            ServerStopped: this server does not run.
            ProtocolError: the token is another cluster's.
            Exception: what its answer raised.
        """
        ...

    async def open_session(self) -> int:
        """Open a session, in which a command can be sent again without being done again.

        Raises:
            CommandError: it was not opened.
            ServerStopped: this server does not run.
        """
        ...

    def status(self) -> Status:
        """The server's state at a glance."""
        ...


def make_respond(front: Front) -> Respond:
    """What a `WebTransport` answers with, for one server."""
    return _Web(front).respond


class _Web:
    def __init__(self, front: Front) -> None:
        self._front = front
        self._routes: Mapping[str, tuple[str, Callable[[WebRequest], Awaitable[WebResponse]]]] = {
            "/do": ("POST", self._do),
            "/read": ("POST", self._read),
            "/session": ("POST", self._session),
            "/status": ("GET", self._status),
            "/healthz": ("GET", self._healthz),
            "/metrics": ("GET", self._metrics),
        }

    async def respond(self, request: WebRequest) -> WebResponse:
        """Answer one request."""
        if is_another_sites(request):
            return problem(403, "Forbidden", "this port answers no web pages", close=True)
        route = self._routes.get(request.path)
        if route is None:
            there = ", ".join(f"{method} {path}" for path, (method, _) in self._routes.items())
            return problem(404, "NotFound", f"nothing is there; there is {there}")
        method, answer = route
        if request.method != method:
            allow = "GET, HEAD" if method == "GET" else method
            wrong = f"{request.path} answers to {allow}"
            return problem(405, "MethodNotAllowed", wrong, headers={"Allow": allow})
        try:
            return await answer(request)
        except (CommandError, ServerStopped) as error:
            return self._problem(error)

    def _problem(self, error: CommandError | ServerStopped) -> WebResponse:
        status, name, message = _UNLUCKY[error.outcome], type(error).__name__, str(error)
        if isinstance(error, CommandFailed) and error.error in UNREADABLE:
            status, name, message = 500, error.error, error.message
        if isinstance(error, CommandRejected) and not isinstance(error, Busy):
            status = 400
        return problem(
            status,
            name,
            message,
            outcome=error.outcome,
            leader=self._front.status().leader,
            close=isinstance(error, ServerStopped),
        )

    # -- what the cluster does -----------------------------------------------------------------

    async def _do(self, request: WebRequest) -> WebResponse:
        parameters(request)
        call = _call_of(request)
        command = read_call(self._front.vocabulary, "apply", request.body)
        with trio.move_on_after(ANSWER_SECONDS):
            done = await self._front.do(command, call)
            return self._result(done.value, {"index": done.index, "term": done.term})
        raise OutcomeUnknown(f"no answer within {ANSWER_SECONDS:g} s", b"")

    async def _read(self, request: WebRequest) -> WebResponse:
        consistency = consistency_of(parameters(request, "consistency", "token", "seconds"))
        query = read_call(self._front.vocabulary, "answer", request.body)
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                answer = await self._front.read(query, consistency)
            except (CommandError, ServerStopped):
                raise
            except TrioraftError as error:  # a token of another cluster, say
                status = 400 if isinstance(error, ProtocolError) else 503
                leader = self._front.status().leader
                return problem(status, type(error).__name__, str(error), leader=leader)
            except Exception as error:  # what the machine says to this query
                raise CommandFailed(type(error).__name__, str(error)) from error
            about = {
                "consistency": LEVELS[type(answer.consistency)],
                "index": answer.index,
                "age": None if math.isinf(answer.age) else answer.age,
            }
            return self._result(answer.value, about)
        raise Busy(f"no answer within {ANSWER_SECONDS:g} s")

    async def _session(self, request: WebRequest) -> WebResponse:
        parameters(request)
        if request.body.strip() and parse(request.body) != {}:
            raise CommandRejected("a session is opened with an empty body, or {}")
        with trio.move_on_after(ANSWER_SECONDS):
            return _as_json({"session": await self._front.open_session()})
        raise OutcomeUnknown(f"no answer within {ANSWER_SECONDS:g} s", b"")

    def _result(self, value: Any, about: dict[str, Any]) -> WebResponse:
        try:
            result = render(value)
        except ValueError as error:
            what = f"what it returned has no form in JSON: {error}"
            leader = self._front.status().leader
            return problem(500, "ResultUnreadable", what, outcome="done", leader=leader)
        cluster = self._front.status().cluster
        token = None if cluster is None else str(Token(cluster, about["index"]))
        rest = json.dumps({**about, "token": token}).encode()
        return WebResponse(200, b'{"result": ' + result + b", " + rest[1:] + b"\n")

    # -- what this server is about -------------------------------------------------------------

    async def _status(self, request: WebRequest) -> WebResponse:
        return _as_json(self._front.status())

    async def _healthz(self, request: WebRequest) -> WebResponse:
        status = self._front.status()
        sick = sickness(status)
        if sick is not None:
            return problem(503, "Unhealthy", sick, leader=status.leader)
        return _as_json({"state": status.state, "leader": status.leader})

    async def _metrics(self, request: WebRequest) -> WebResponse:
        text = metrics(self._front.status())
        return WebResponse(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")


def _call_of(request: WebRequest) -> Call | None:
    given = request.headers.get("trioraft-session")
    if given is None:
        return None
    match = _CALL.fullmatch(given)
    if match is None:
        raise CommandRejected(
            f"Trioraft-Session: expected ID/SEQUENCE, both from 1, got {given!r:.100}"
        )
    return Call(int(match[1]), int(match[2]), lowest=0)  # any of them may be asked for again


def _as_json(value: Any) -> WebResponse:
    return WebResponse(200, render(value) + b"\n")
