"""What the port of a server answers to plain HTTP: see docs/http.md for those who ask.

Every answer but /metrics is JSON, and so is every error: its class, what was wrong, what became of
the command, and who leads.
"""

from __future__ import annotations

import json
import math
import re
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
    StorageError,
    TrioraftError,
)
from trioraft._json import brief, parse, render
from trioraft._json_calls import read_call
from trioraft._reads import Answer, Consistency, Token
from trioraft._sessions import Call
from trioraft._snapshots.form import Summary
from trioraft._transport.http import Respond, WebRequest, WebResponse, problem
from trioraft._web_members import MembersFront, Routes, member_routes
from trioraft._web_metrics import metrics, sickness
from trioraft._web_requests import (
    ANSWER_SECONDS,
    consistency_of,
    is_another_sites,
    number_of,
    parameters,
)
from trioraft._wire.levels import LEVELS
from trioraft.abc import SnapshotId

_CALL: Final = re.compile(r"([1-9][0-9]{0,18})/([1-9][0-9]{0,18})")
UNREADABLE: Final = ("ResultUnreadable", "ResultTooLarge")
"""Done, and what it came to can't be told: whose fault that is, the machine's author knows."""

_UNLUCKY: Final[dict[Outcome, int]] = {"done": 409, "not done": 503, "unknown": 504}
"""Which status says what became of a command."""


class Front(MembersFront, Protocol):
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

    async def take_snapshot(self, least: int | None) -> Summary:
        """Have a snapshot taken of all that is applied here, unless there is one.

        One that holds entry `least` will do.

        Raises:
            ServerStopped: this server does not run.
            StorageError: the disk refuses.
            Exception: what the machine raised.
        """
        ...

    async def snapshot_piece(self, snapshot: SnapshotId, offset: int) -> bytes:
        """Some bytes of a snapshot from `offset` on; it stays for a minute after each piece.

        Raises:
            StorageError: it is gone.
        """
        ...


def make_respond(front: Front) -> Respond:
    """What a `WebTransport` answers with, for one server."""
    return _Web(front).respond


class _Web:
    def __init__(self, front: Front) -> None:
        self._front = front
        self._routes: Routes = {
            "/do": ("POST", self._do),
            "/read": ("POST", self._read),
            "/session": ("POST", self._session),
            "/snapshot": ("POST", self._snapshot),
            # No GET: a page whose own name leads here can read those, and this is the whole state.
            "/snapshot/piece": ("POST", self._snapshot_piece),
            **member_routes(front),
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

    # -- what this server keeps ----------------------------------------------------------------

    async def _snapshot(self, request: WebRequest) -> WebResponse:
        given = parameters(request, "index")
        least = number_of(given, "index") if given else None
        if request.body.strip() and parse(request.body) != {}:
            raise CommandRejected("a snapshot is asked for with an empty body, or {}")
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                summary = await self._front.take_snapshot(least)
            except ServerStopped:
                raise
            except Exception as error:  # noqa: BLE001  the machine's own, or the disk's
                return problem(500, type(error).__name__, f"no snapshot was taken: {brief(error)}")
            head = summary.head
            told = {"index": head.index, "term": head.term, "size": summary.size}
            return _as_json({**told, "digest": summary.digest.hex()})
        raise Busy("the snapshot takes its time; the status will name it")

    async def _snapshot_piece(self, request: WebRequest) -> WebResponse:
        given = parameters(request, "index", "term", "offset")
        index, term, offset = (number_of(given, name) for name in ("index", "term", "offset"))
        try:
            piece = await self._front.snapshot_piece(SnapshotId(index, term), offset)
        except StorageError as error:
            return problem(404, "NotFound", str(error))
        return WebResponse(200, piece, "application/octet-stream")

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
