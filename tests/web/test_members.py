"""Who belongs to the cluster, over plain HTTP."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.server.worlds import a_running_cluster, in_virtual_time
from trioraft import MembershipError, NotLeaderError, OutcomeUnknown, ServerStopped
from trioraft._errors import TransferFailed
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Member
from trioraft._status import PeerStatus
from trioraft._transport.http import WebRequest, WebResponse
from trioraft._web import ANSWER_SECONDS, make_respond

from .fronts import CONFIGURATION, STATUS, FakeFront
from .test_snapshots import door_of

LEARNER = Member(ServerId("n4", "i4"), "ws://h4:1")


async def ask(
    front: FakeFront, method: str, target: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    path, _, query = target.partition("?")
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    request = WebRequest(method, path, query, headers, data)
    return read(await make_respond(front)(request))


def read(response: WebResponse) -> tuple[int, Any]:
    assert response.content_type == "application/json"
    return response.status, json.loads(response.body)


# -- looking ---------------------------------------------------------------------------------------


async def test_members() -> None:
    front = FakeFront()
    status, told = await ask(front, "GET", "/members")
    assert status == 200
    assert told == {
        "cluster": "c0ffee",
        "index": 5,
        "is_settled": True,
        "leader": "n1",
        "quorum": 2,
        "voters": [
            {"name": "n1", "address": "ws://h1:1", "connected": True, "match_index": 8},
            {"name": "n2", "address": "ws://h2:1", "connected": True, "match_index": 7},
            {"name": 'n"3\\', "address": "ws://h3:1", "connected": False, "match_index": None},
        ],
        "outgoing": [],
        "learners": [],
    }


async def test_members_of_a_change_that_is_under_way() -> None:
    front = FakeFront()
    front.now = attrs.evolve(STATUS, state="follower", name="n2", leader="n1")
    front.configuration = attrs.evolve(
        CONFIGURATION, outgoing=CONFIGURATION.voters[:1], learners=(LEARNER,), index=9
    )
    _, told = await ask(front, "GET", "/members")
    assert not told["is_settled"]
    assert [row["name"] for row in told["outgoing"]] == ["n1"]
    (learner,) = told["learners"]
    assert learner == {
        "name": "n4",
        "address": "ws://h4:1",
        "connected": False,
        "match_index": None,
    }
    assert told["voters"][1]["match_index"] == 7  # a follower knows of others what it is told
    front.configuration = attrs.evolve(CONFIGURATION, index=9)
    assert not (await ask(front, "GET", "/members"))[1]["is_settled"]


# -- changing --------------------------------------------------------------------------------------

NEW = {"name": "n4", "address": "ws://h4:1"}


@pytest.mark.parametrize(
    ("verb", "fields", "asked"),
    [
        ("add", NEW, ("add", "n4", "ws://h4:1")),
        ("add-learner", NEW, ("add-learner", "n4", "ws://h4:1")),
        ("remove", {"name": "n3"}, ("remove", "n3")),
        ("address", NEW, ("address", "n4", "ws://h4:1")),
        ("change", {"members": {"n1": "ws://h:1"}}, ("change", {"n1": "ws://h:1"})),
    ],
)
async def test_each_verb(verb: str, fields: Any, asked: tuple[Any, ...]) -> None:
    front = FakeFront(12)
    assert await ask(front, "POST", f"/members/{verb}", fields) == (200, {"index": 12})
    assert await ask(front, "POST", f"/members/{verb}?expect=5", fields) == (200, {"index": 12})
    assert front.asked == [(*asked, None), (*asked, 5)]


async def test_transfer() -> None:
    front = FakeFront()
    for body in (b"", {}, {"name": "n2"}):
        assert await ask(front, "POST", "/members/transfer", body) == (200, {"leader": "n1"})
    assert front.asked == [("transfer", None), ("transfer", None), ("transfer", "n2")]


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("add", b""),
        ("add", b"nonsense"),
        ("add", []),
        ("add", {"name": "n4"}),
        ("add", {**NEW, "more": 1}),
        ("add", {"name": "n4", "address": 7}),
        ("add", {"name": "", "address": "ws://h:1"}),
        ("add", {"name": "\ud800", "address": "ws://h:1"}),
        ("add?expect=x", NEW),
        ("add?expect=", NEW),
        ("add?plan=1", NEW),
        ("remove", {"name": None}),
        ("change", {"members": ["n1"]}),
        ("change", {"members": {"n1": 7}}),
        ("change", {"members": {"": "ws://h:1"}}),
        ("transfer", {"name": 7}),
        ("transfer", []),
        ("transfer?expect=5", {}),
        ("plan", {}),
        ("plan", {"transfer": {"name": "n2"}}),
        ("plan", {"add": {"name": "n4"}}),
        ("plan", {"add": NEW, "remove": {"name": "n2"}}),
        ("plan?expect=5", {"add": NEW}),
    ],
)
async def test_what_makes_no_sense(target: str, body: Any) -> None:
    front = FakeFront()
    status, told = await ask(front, "POST", f"/members/{target}", body)
    assert (status, told["error"], told["outcome"]) == (400, "CommandRejected", "not done")
    assert not front.asked


@pytest.mark.parametrize("verb", ["add", "transfer"])
@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (MembershipError("another change is under way"), 409, "not done"),
        (TransferFailed("it did not take over"), 409, "not done"),
        (NotLeaderError("n2", "ws://h2:1", 3), 503, "not done"),
        (NotLeaderError(None, None, 3), 503, "not done"),
        (OutcomeUnknown("leadership was lost", b""), 504, "unknown"),
        (ServerStopped("the server stopped"), 503, "not done"),
    ],
)
async def test_errors(error: Exception, status: int, outcome: str, verb: str) -> None:
    front = FakeFront(error)
    body = NEW if verb == "add" else {"name": "n2"}
    found, told = await ask(front, "POST", f"/members/{verb}", body)
    assert (found, told["error"], told["outcome"]) == (status, type(error).__name__, outcome)
    assert told["message"] == str(error)
    if isinstance(error, NotLeaderError):
        assert (told["leader"], told["address"]) == (error.leader, error.address)
    else:
        assert told["leader"] == "n1"


async def test_one_that_is_still_catching_up_is_asked_for_again(
    autojump_clock: MockClock,
) -> None:
    front = FakeFront(trio.sleep_forever)
    front.configuration = attrs.evolve(CONFIGURATION, learners=(LEARNER,), index=9)
    peer = PeerStatus("n4", "ws://h4:1", True, None, 3)
    front.now = attrs.evolve(STATUS, peers=(*STATUS.peers, peer))
    status, told = await ask(front, "POST", "/members/add", NEW)
    assert trio.current_time() == ANSWER_SECONDS
    assert (status, told["error"], told["outcome"]) == (503, "Busy", "not done")
    assert told["message"] == "still catching up, ask again: n4 has 3 entries of 8"
    assert (told["catching_up"], told["index"]) == (["n4"], 9)
    body = {"members": {"n1": "ws://h1:1", "n4": "ws://h4:1"}}
    status, told = await ask(front, "POST", "/members/change", body)
    assert (status, told["catching_up"]) == (503, ["n4"])


@pytest.mark.parametrize("verb", ["add", "add-learner", "remove", "transfer"])
async def test_no_answer_in_time(verb: str, autojump_clock: MockClock) -> None:
    front = FakeFront(trio.sleep_forever)
    front.configuration = attrs.evolve(CONFIGURATION, learners=() if verb == "add" else (LEARNER,))
    body = NEW if verb.startswith("add") else {"name": "n4"}
    status, told = await ask(front, "POST", f"/members/{verb}", body)
    assert (status, told["error"], told["outcome"]) == (504, "OutcomeUnknown", "unknown")


async def test_web_pages_change_nothing() -> None:
    front = FakeFront(12)
    status, told = await ask(front, "POST", "/members/add", NEW, origin="http://elsewhere")
    assert (status, told["error"]) == (403, "Forbidden")
    status, told = await ask(front, "GET", "/members/add")
    assert (status, told["error"]) == (405, "MethodNotAllowed")
    assert not front.asked


# -- planning --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "voters", "learners"),
    [
        ({"add": {"name": "n5", "address": "ws://h5:1"}}, ["n1", "n2", "n3", "n5"], ["n4"]),
        ({"add": NEW}, ["n1", "n2", "n3", "n4"], []),
        ({"add-learner": {"name": "n5", "address": "x"}}, ["n1", "n2", "n3"], ["n4", "n5"]),
        ({"add-learner": {"name": "n1", "address": "x"}}, ["n1", "n2", "n3"], ["n4"]),
        ({"remove": {"name": "n3"}}, ["n1", "n2"], ["n4"]),
        ({"remove": {"name": "n4"}}, ["n1", "n2", "n3"], []),
        ({"address": {"name": "n3", "address": "x"}}, ["n1", "n2", "n3"], ["n4"]),
        ({"change": {"members": {"n1": "x", "n4": "y"}}}, ["n1", "n4"], []),
    ],
)
async def test_plans(wish: Any, voters: list[str], learners: list[str]) -> None:
    front = FakeFront()
    three = (*CONFIGURATION.voters[:2], Member(ServerId("n3", "i3"), "ws://h3:1"))
    front.configuration = attrs.evolve(CONFIGURATION, voters=three, learners=(LEARNER,))
    status, told = await ask(front, "POST", "/members/plan", wish)
    assert status == 200
    assert told["index"] == 5
    assert told["answering"] == ["n1", "n2"]
    before, _, after = told["phases"]
    assert (before["voters"], before["learners"]) == (["n1", "n2", "n3"], ["n4"])
    assert before["critical"] == ["n1", "n2"]
    assert (after["voters"], after["learners"]) == (voters, learners)
    assert not front.asked


# -- a real server ---------------------------------------------------------------------------------


@in_virtual_time
async def test_a_cluster_that_grows_shrinks_and_changes_its_leader() -> None:
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        await cluster.say("one")
        follower = cluster.followers()[0]
        body = json.dumps({"name": "n4", "address": "mem://n4"}).encode()

        async def post(name: str, verb: str, data: bytes) -> tuple[int, Any]:
            request = WebRequest("POST", f"/members/{verb}", "", {}, data)
            return read(await door_of(cluster, name)(request))

        status, told = await post(follower, "add", body)
        assert (status, told["error"], told["leader"]) == (503, "NotLeaderError", leader.name)
        assert told["address"] == f"mem://{leader.name}"
        status, told = await post(leader.name, "remove", b'{"name": "n9"}')
        assert (status, told["error"]) == (409, "MembershipError")
        await cluster.start("n4", initial_cluster={})
        status, told = await post(leader.name, "add", body)
        assert status == 200
        request = WebRequest("GET", "/members", "", {}, b"")
        _, table = read(await door_of(cluster, leader.name)(request))
        assert [row["name"] for row in table["voters"]] == ["n1", "n2", "n3", "n4"]
        assert (table["index"], table["is_settled"]) == (told["index"], True)
        assert all(row["connected"] for row in table["voters"])
        status, told = await post(leader.name, "transfer", json.dumps({"name": "n4"}).encode())
        assert (status, told) == (200, {"leader": "n4"})
        await cluster.say("two")
