"""Every route and every error, with a front that does what it is told."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

import trioraft
from trioraft._reads import Anything, AtLeast, Lease, Linearizable, MaxAge, Token
from trioraft._sessions import Call
from trioraft._transport.http import WebRequest, WebResponse
from trioraft._web import ANSWER_SECONDS, make_respond
from trioraft._web_metrics import metrics, sickness
from trioraft.abc import SnapshotId

from .callers import Caller, get, post, with_caller
from .fronts import STATUS, FakeFront, Get, Put

PUT = '{"put": {"key": "x", "value": "AAE="}}'
GET = '{"get": {"key": "x"}}'


async def ask(
    front: FakeFront, method: str, target: str, body: str | bytes = b"", **headers: str
) -> WebResponse:
    path, _, query = target.partition("?")
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body.encode() if isinstance(body, str) else body
    return await make_respond(front)(WebRequest(method, path, query, names, data))


def told(response: WebResponse) -> Any:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    assert response.content_type == "application/json"
    return json.loads(response.body, parse_constant=refuse)


async def test_do() -> None:
    front = FakeFront({"a": b"\x00"})
    response = await ask(front, "POST", "/do", PUT)
    assert response.status == 200
    assert told(response) == {
        "result": {"a": "AA=="},
        "index": 7,
        "term": 3,
        "token": "c0ffee/7",
    }
    assert front.asked == [(Put("x", b"\x00\x01"), None)]


async def test_do_in_a_session() -> None:
    front = FakeFront()
    await ask(front, "POST", "/do", PUT, trioraft_session="12/5")
    assert front.asked == [(Put("x", b"\x00\x01"), Call(12, 5, 0))]


@pytest.mark.parametrize(
    "session",
    ["", "12", "12/", "/5", "-1/5", "0/1", "1/0", "01/1", "1/2/3", "a/b", "٣/٤", "1/" * 40],
)
async def test_a_malformed_session(session: str) -> None:
    front = FakeFront()
    response = await ask(front, "POST", "/do", PUT, trioraft_session=session)
    assert (response.status, told(response)["error"]) == (400, "CommandRejected")
    assert not front.asked


@pytest.mark.parametrize(
    ("query", "consistency", "name"),
    [
        ("", Linearizable(), "linearizable"),
        ("?consistency=linearizable", Linearizable(), "linearizable"),
        ("?consistency=lease", Lease(), "lease"),
        ("?consistency=anything", Anything(), "anything"),
        ("?consistency=at_least&token=c0ffee/7", AtLeast(Token("c0ffee", 7)), "at_least"),
        ("?token=c0ffee%2F7&consistency=at_least", AtLeast(Token("c0ffee", 7)), "at_least"),
        ("?consistency=max_age&seconds=1.5", MaxAge(1.5), "max_age"),
        ("?consistency=max_age&seconds=0", MaxAge(0.0), "max_age"),
    ],
)
async def test_read(query: str, consistency: Any, name: str) -> None:
    front = FakeFront(["a", 1.5])
    response = await ask(front, "POST", f"/read{query}", GET)
    assert front.asked == [(Get("x"), consistency)]
    assert response.status == 200
    assert told(response) == {
        "result": ["a", 1.5],
        "consistency": name,
        "index": 7,
        "age": None,
        "token": "c0ffee/7",
    }


async def test_an_age_that_is_known() -> None:
    front = FakeFront()
    front.age = 0.25
    assert told(await ask(front, "POST", "/read", GET))["age"] == 0.25


async def test_before_the_cluster_has_formed_there_is_no_token() -> None:
    front = FakeFront()
    front.now = attrs.evolve(STATUS, cluster=None)
    assert told(await ask(front, "POST", "/read", GET))["token"] is None


@pytest.mark.parametrize(
    "query",
    [
        "consistency=strong",
        "consistency=",
        "consistency",
        "consistency=lease&consistency=lease",
        "consistency=at_least",
        "consistency=at_least&token=7",
        "consistency=at_least&token=c/%D9%A3",
        "consistency=lease&token=c0ffee/7",
        "consistency=max_age",
        "consistency=max_age&seconds=",
        "consistency=max_age&seconds=nan",
        "consistency=max_age&seconds=inf",
        "consistency=max_age&seconds=-1",
        "consistency=max_age&seconds=1e400",
        "consistency=max_age&seconds=1_0",
        "consistency=max_age&seconds=1&token=c/1",
        "seconds=1",
        "%ff=1",
        "a;b",
        "&",
        "&".join(["consistency=lease"] * 1000),
    ],
)
async def test_a_malformed_consistency(query: str) -> None:
    front = FakeFront()
    response = await ask(front, "POST", f"/read?{query}", GET)
    assert (response.status, told(response)["error"]) == (400, "CommandRejected")
    assert not front.asked


@pytest.mark.parametrize("body", ["", "{}", " {} \n"])
async def test_a_session(body: str) -> None:
    response = await ask(FakeFront(12), "POST", "/session", body)
    assert (response.status, told(response)) == (200, {"session": 12})


async def test_a_session_takes_nothing() -> None:
    assert (await ask(FakeFront(12), "POST", "/session", PUT)).status == 400
    assert (await ask(FakeFront(12), "POST", "/session?a=b")).status == 400
    assert (await ask(FakeFront(12), "POST", "/do?a=b", PUT)).status == 400


@pytest.mark.parametrize(("query", "least"), [("", None), ("?index=0", 0), ("?index=7", 7)])
@pytest.mark.parametrize("body", ["", " {} "])
async def test_a_snapshot(query: str, least: int | None, body: str) -> None:
    front = FakeFront()
    response = await ask(front, "POST", f"/snapshot{query}", body)
    assert response.status == 200
    assert told(response) == {"index": 7, "term": 3, "size": 4096, "digest": "00ff"}
    assert front.asked == [("snapshot", least)]


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/snapshot", PUT),
        ("/snapshot?term=7", ""),
        ("/snapshot?index=", ""),
        ("/snapshot?index=-1", ""),
        ("/snapshot/piece", ""),
        ("/snapshot/piece?index=7&term=3", ""),
        ("/snapshot/piece?index=7&term=3&offset=", ""),
        ("/snapshot/piece?index=7&term=3&offset=-1", ""),
        ("/snapshot/piece?index=7&term=3&offset=٣", ""),
        ("/snapshot/piece?index=7&term=3&offset=" + "1" * 19, ""),
        ("/snapshot/piece?index=7&term=3&offset=0&path=a", ""),
    ],
)
async def test_what_asks_for_no_snapshot(target: str, body: str) -> None:
    front = FakeFront(b"")
    response = await ask(front, "POST", target, body)
    assert (response.status, told(response)["error"]) == (400, "CommandRejected")
    assert not front.asked


@pytest.mark.parametrize("error", [trioraft.StorageError("full"), TypeError("x" * 9999)])
async def test_a_snapshot_that_was_not_taken(error: Exception) -> None:
    response = await ask(FakeFront(error), "POST", "/snapshot")
    assert response.status == 500
    answer = told(response)
    assert answer.pop("message").startswith(f"no snapshot was taken: {error}"[:100])
    assert answer == {"error": type(error).__name__, "outcome": "not done", "leader": None}
    assert len(response.body) < 1000


async def test_a_piece_of_a_snapshot() -> None:
    front = FakeFront(b"\x00piece")
    target = "/snapshot/piece?index=7&term=3&offset=4096"
    response = await ask(front, "POST", target)
    assert (response.status, response.body) == (200, b"\x00piece")
    assert response.content_type == "application/octet-stream"
    assert front.asked == [(SnapshotId(7, 3), 4096)]
    response = await ask(FakeFront(trioraft.StorageError("it is gone")), "POST", target)
    assert (response.status, told(response)["error"]) == (404, "NotFound")


async def test_no_page_that_looks_like_this_servers_own_can_read_the_state() -> None:
    target = "/snapshot/piece?index=7&term=3&offset=0"
    assert (await ask(FakeFront(b""), "GET", target)).status == 405
    page = {"origin": "http://rebound.example:7001", "sec_fetch_site": "same-origin"}
    assert (await ask(FakeFront(b""), "POST", target, **page)).status == 403


@pytest.mark.parametrize(
    ("path", "body"), [("/do", GET), ("/read", PUT), ("/do", "{"), ("/read", ""), ("/do", b"\xff")]
)
async def test_what_is_no_command(path: str, body: str | bytes) -> None:
    front = FakeFront()
    response = await ask(front, "POST", path, body)
    assert response.status == 400
    answer = told(response)
    assert answer.pop("message")
    assert answer == {"error": "CommandRejected", "outcome": "not done", "leader": "n1"}
    assert not front.asked


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (trioraft.CommandRejected("x"), 400, "not done"),
        (trioraft.CommandFailed("ValueError", "x"), 409, "done"),
        (trioraft.Busy("x"), 503, "not done"),
        (trioraft.NotLeaderError("n1", "ws://h1:1", 3), 503, "not done"),
        (trioraft.ServerStopped("x"), 503, "not done"),
        (trioraft.OutcomeUnknown("x", b""), 504, "unknown"),
        (trioraft._errors.SessionExpired("x", b""), 504, "unknown"),
    ],
)
@pytest.mark.parametrize(("path", "body"), [("/do", PUT), ("/read", GET), ("/session", "")])
async def test_errors(path: str, body: str, error: Exception, status: int, outcome: str) -> None:
    response = await ask(FakeFront(error), "POST", path, body)
    assert response.status == status
    assert told(response) == {
        "error": type(error).__name__,
        "message": str(error),
        "outcome": outcome,
        "leader": "n1",
    }
    assert response.close == isinstance(error, trioraft.ServerStopped)


async def test_what_an_answer_raises() -> None:
    response = await ask(FakeFront(KeyError("x")), "POST", "/read", GET)
    assert response.status == 409
    assert told(response)["error"] == "CommandFailed"
    assert told(response)["message"] == "KeyError: 'x'"


async def test_a_token_of_another_cluster() -> None:
    response = await ask(FakeFront(trioraft.ProtocolError("x")), "POST", "/read", GET)
    assert (response.status, told(response)["error"]) == (400, "ProtocolError")
    response = await ask(FakeFront(trioraft.Compacted("x")), "POST", "/read", GET)
    assert (response.status, told(response)["error"]) == (503, "Compacted")


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), [{1: 2j}]])
async def test_a_result_without_a_form_is_done_all_the_same(value: Any) -> None:
    response = await ask(FakeFront(value), "POST", "/do", PUT)
    assert response.status == 500
    assert told(response)["error"] == "ResultUnreadable"
    assert told(response)["outcome"] == "done"


async def test_a_result_that_no_client_can_be_told_is_the_servers_fault() -> None:
    error = trioraft.CommandFailed("ResultTooLarge", "the result has 2 bytes")
    response = await ask(FakeFront(error), "POST", "/do", PUT)
    assert response.status == 500
    assert told(response)["error"] == "ResultTooLarge"
    assert told(response)["outcome"] == "done"


async def test_a_cluster_that_does_not_answer(autojump_clock: MockClock) -> None:
    front = FakeFront(trio.sleep_forever)
    for path, body, status, error, outcome in [
        ("/do", PUT, 504, "OutcomeUnknown", "unknown"),
        ("/read", GET, 503, "Busy", "not done"),
        ("/session", "", 504, "OutcomeUnknown", "unknown"),
        ("/snapshot", "", 503, "Busy", "not done"),
    ]:
        before = trio.current_time()
        response = await ask(front, "POST", path, body)
        assert trio.current_time() - before == ANSWER_SECONDS
        assert response.status == status
        assert (told(response)["error"], told(response)["outcome"]) == (error, outcome)


async def test_status() -> None:
    response = await ask(FakeFront(), "GET", "/status?cache=no")
    answer = told(response)
    assert response.status == 200
    assert set(answer) == {field.name for field in attrs.fields(type(STATUS))}
    assert answer["name"] == "n1"
    assert answer["peers"][0] == {
        "name": "n2",
        "address": "ws://h2:1",
        "connected": True,
        "error": None,
        "match_index": 7,
        "snapshot": 0.25,
    }


async def test_healthz() -> None:
    front = FakeFront()
    assert told(await ask(front, "GET", "/healthz")) == {"state": "leader", "leader": "n1"}
    front.now = attrs.evolve(STATUS, state="candidate", leader=None)
    response = await ask(front, "GET", "/healthz")
    assert (response.status, told(response)["error"]) == (503, "Unhealthy")
    assert "candidate in term 3; not connected: " in told(response)["message"]
    assert "(refused)" in told(response)["message"]


def test_sicknesses() -> None:
    assert sickness(STATUS) is None
    assert sickness(attrs.evolve(STATUS, state="stopped")) == "the server does not run"
    young = attrs.evolve(STATUS, cluster=None, missing=("n2", "n3"))
    assert sickness(young) == "the cluster has not formed: it waits for n2, n3"
    assert sickness(attrs.evolve(young, missing=())) == "the cluster has not formed"
    lost = attrs.evolve(STATUS, leader=None, state="follower", peers=())
    assert sickness(lost) == "no leader is known: follower in term 3"


async def test_metrics() -> None:
    front = FakeFront()
    front.now = attrs.evolve(STATUS, term=123456789012345, installing=0.5)
    response = await ask(front, "GET", "/metrics")
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    text = response.body.decode()
    line = re.compile(
        r'(# (HELP|TYPE) trioraft_\w+ .*|trioraft_\w+(\{\w+="(\\.|[^"\\\n])*"\})? [0-9.]+)\n'
    )
    assert all(line.fullmatch(text) for text in text.splitlines(keepends=True))
    assert "trioraft_term 123456789012345\n" in text
    assert 'trioraft_state{state="leader"} 1\n' in text
    assert 'trioraft_state{state="follower"} 0\n' in text
    assert 'trioraft_peer_connected{peer="n\\"3\\\\"} 0\n' in text
    assert 'trioraft_peer_match_index{peer="n2"} 7\n' in text
    assert 'trioraft_peer_snapshot{peer="n2"} 0.25\n' in text
    assert 'trioraft_peer_snapshot{peer="n\\"3' not in text
    assert "\ntrioraft_installing 0.5\n" in text
    assert "\ntrioraft_installing " not in metrics(STATUS)


@pytest.mark.parametrize("path", ["/", "/nothing", "/do/", "//do", "/status/x", "*", ""])
async def test_elsewhere_is_nothing(path: str) -> None:
    response = await ask(FakeFront(), "GET", path)
    assert (response.status, told(response)["error"]) == (404, "NotFound")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/do", "POST"),
        ("PUT", "/read", "POST"),
        ("OPTIONS", "/session", "POST"),
        ("POST", "/status", "GET, HEAD"),
        ("DELETE", "/healthz", "GET, HEAD"),
    ],
)
async def test_other_methods(method: str, path: str, allow: str) -> None:
    response = await ask(FakeFront(), method, path, PUT)
    assert (response.status, told(response)["error"]) == (405, "MethodNotAllowed")
    assert response.headers == {"Allow": allow}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:7001"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/do"), ("GET", "/status")])
async def test_web_pages_are_refused(method: str, path: str, headers: dict[str, str]) -> None:
    front = FakeFront()
    response = await ask(front, method, path, PUT, **headers)
    assert (response.status, told(response)["error"]) == (403, "Forbidden")
    assert not front.asked


async def test_a_person_may_look_with_a_browser() -> None:
    for site in ("none", "same-origin"):
        assert (await ask(FakeFront(), "GET", "/status", sec_fetch_site=site)).status == 200


async def test_all_of_it_over_a_stream(autojump_clock: MockClock) -> None:
    async def use(caller: Caller) -> None:
        await caller.send(
            post("/do", PUT.encode(), "Content-Type: application/x-www-form-urlencoded")
            + get("/healthz", method="HEAD")
            + get("/do", method="HEAD")
            + post("/read", GET.encode(), "Origin: null")
        )
        assert (await caller.hear()).told["index"] == 7
        assert (await caller.hear("HEAD")).status == 200
        assert (await caller.hear("HEAD")).headers["allow"] == "POST"
        assert (await caller.hear()).status == 403
        assert await caller.rest() == b""

    await with_caller(use, make_respond(FakeFront()))
