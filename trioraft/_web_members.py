"""Who belongs to the cluster, over plain HTTP: see docs/http.md.

`/members/VERB` takes a JSON object with the verb's fields; `/members/plan` takes one with the verb
as its only key, and says what that would mean.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, Final, Protocol

import trio

from trioraft._errors import (
    CommandRejected,
    MembershipError,
    NotLeaderError,
    OutcomeUnknown,
    TransferFailed,
)
from trioraft._json import parse, render
from trioraft._plan import Plan, plan
from trioraft._rules.membership import Configuration, Half
from trioraft._status import Status
from trioraft._transport.http import WebRequest, WebResponse, problem
from trioraft._web_requests import ANSWER_SECONDS, number_of, parameters

Fields = Mapping[str, Any]
Routes = Mapping[str, tuple[str, Callable[[WebRequest], Awaitable[WebResponse]]]]

_PLACE: Final[Mapping[str, type]] = {"name": str, "address": str}
_TAKES: Final[Mapping[str, Mapping[str, type]]] = {
    "add": _PLACE,
    "add-learner": _PLACE,
    "remove": {"name": str},
    "address": _PLACE,
    "change": {"members": dict},
}
"""What each change of the members is asked for with."""


class Administrator(Protocol):
    """What `Server` can be asked for, see there.

    Everything raises `NotLeaderError`, `MembershipError`, `OutcomeUnknown` or `ServerStopped`.
    """

    async def add_peer(
        self, name: str, connection_string: str, *, expected: int | None = None
    ) -> int:
        """Take a server in."""
        ...

    async def add_learner(
        self, name: str, connection_string: str, *, expected: int | None = None
    ) -> int:
        """Take a server in that has no vote."""
        ...

    async def remove_peer(self, name: str, *, expected: int | None = None) -> int:
        """Remove a member."""
        ...

    async def change_address(
        self, name: str, connection_string: str, *, expected: int | None = None
    ) -> int:
        """Have a member dialled elsewhere."""
        ...

    async def change_membership(
        self, members: Mapping[str, str], *, expected: int | None = None
    ) -> int:
        """Have exactly these voters."""
        ...

    async def transfer_leadership(self, name: str | None = None) -> None:
        """Have another voter lead."""
        ...


class MembersFront(Protocol):
    """What a server is and does for those who ask for its members."""

    @property
    def administration(self) -> Administrator:
        """Changes them."""
        ...

    @property
    def configuration(self) -> Configuration:
        """The one in force."""
        ...

    def status(self) -> Status:
        """The server's state at a glance."""
        ...


def member_routes(front: MembersFront) -> Routes:
    """Method and answer of each path."""
    web = _Members(front)
    return {
        "/members": ("GET", web.members),
        **{f"/members/{verb}": ("POST", partial(web.change, verb)) for verb in _TAKES},
        "/members/transfer": ("POST", web.transfer),
        "/members/plan": ("POST", web.plan),
    }


class _Members:
    def __init__(self, front: MembersFront) -> None:
        self._front = front

    # -- asking --------------------------------------------------------------------------------

    async def members(self, request: WebRequest) -> WebResponse:
        """Who they are, and how far."""
        parameters(request)
        configuration, status = self._front.configuration, self._front.status()
        told = {
            "cluster": status.cluster,
            "index": configuration.index,
            "is_settled": not configuration.outgoing and configuration.index <= status.commit_index,
            "leader": status.leader,
            "quorum": configuration.quorum,
            "voters": _rows(configuration.voters, status),
            "outgoing": _rows(configuration.outgoing, status),
            "learners": _rows(configuration.learners, status),
        }
        return WebResponse(200, render(told) + b"\n")

    async def plan(self, request: WebRequest) -> WebResponse:
        """What a change would mean."""
        parameters(request)
        match parse(request.body):
            case dict() as outer if len(outer) == 1:
                ((verb, fields),) = outer.items()
            case _:
                raise CommandRejected('expected {"VERB": {"FIELD": VALUE, ...}}')
        if verb not in _TAKES:
            raise CommandRejected(f"{verb!r:.100} can't be planned: {', '.join(_TAKES)} can")
        return WebResponse(200, render(self._plan(verb, _checked(verb, fields))) + b"\n")

    def _plan(self, verb: str, fields: Fields) -> Plan:
        old, status = self._front.configuration, self._front.status()
        voters, learners = ({m.id.name for m in half} for half in (old.voters, old.learners))
        match verb:
            case "add":
                voters, learners = voters | {fields["name"]}, learners - {fields["name"]}
            case "add-learner":
                learners = (learners | {fields["name"]}) - voters
            case "remove":
                voters, learners = voters - {fields["name"]}, learners - {fields["name"]}
            case "change":
                voters = set(fields["members"])
                learners = learners - voters
        return plan(old, voters, learners, _answering(status))

    # -- changing ------------------------------------------------------------------------------

    async def change(self, verb: str, request: WebRequest) -> WebResponse:
        """Have the members changed."""
        given = parameters(request, "expect")
        expected = number_of(given, "expect") if given else None
        fields = _checked(verb, parse(request.body))
        names = {fields["name"]} if "name" in fields else set(fields["members"])

        async def carry_out() -> WebResponse:
            index = await self._carry_out(verb, fields, expected)
            return WebResponse(200, render({"index": index}) + b"\n")

        return await self._in_time(carry_out, names if verb in ("add", "change") else ())

    async def _carry_out(self, verb: str, fields: Fields, expected: int | None) -> int:
        administration = self._front.administration
        match verb:
            case "add":
                add = administration.add_peer
                return await add(fields["name"], fields["address"], expected=expected)
            case "add-learner":
                add = administration.add_learner
                return await add(fields["name"], fields["address"], expected=expected)
            case "address":
                move = administration.change_address
                return await move(fields["name"], fields["address"], expected=expected)
            case "change":
                return await administration.change_membership(fields["members"], expected=expected)
        return await administration.remove_peer(fields["name"], expected=expected)

    async def transfer(self, request: WebRequest) -> WebResponse:
        """Have another server lead."""
        parameters(request)
        fields = parse(request.body) if request.body.strip() else {}
        name = None if fields == {} else _checked_for({"name": str}, fields)["name"]

        async def carry_out() -> WebResponse:
            await self._front.administration.transfer_leadership(name)
            return WebResponse(200, render({"leader": self._front.status().leader}) + b"\n")

        return await self._in_time(carry_out, ())

    async def _in_time(
        self, carry_out: Callable[[], Awaitable[WebResponse]], may_be_late: Collection[str]
    ) -> WebResponse:
        try:
            with trio.move_on_after(ANSWER_SECONDS):
                return await carry_out()
        except NotLeaderError as error:
            more = {"address": error.address}
            return problem(503, "NotLeaderError", str(error), leader=error.leader, more=more)
        except (MembershipError, TransferFailed) as error:
            leader = self._front.status().leader
            return problem(409, type(error).__name__, str(error), leader=leader)
        return self._late(may_be_late)

    def _late(self, names: Collection[str]) -> WebResponse:
        """No answer yet: because somebody is still catching up, or nobody knows why."""
        configuration, status = self._front.configuration, self._front.status()
        late = [row for row in _rows(configuration.learners, status) if row["name"] in names]
        if not late:
            raise OutcomeUnknown(f"no answer within {ANSWER_SECONDS:g} s", b"")
        told = ", ".join(f"{row['name']} has {row['match_index'] or 0} entries" for row in late)
        return problem(
            503,
            "Busy",
            f"still catching up, ask again: {told} of {status.last_index}",
            leader=status.leader,
            more={"catching_up": [row["name"] for row in late], "index": configuration.index},
        )


def _rows(half: Half, status: Status) -> list[dict[str, Any]]:
    peers = {peer.name: peer for peer in status.peers}
    rows = []
    for member in half:
        name, peer = member.id.name, peers.get(member.id.name)
        match = None if peer is None else peer.match_index
        if name == status.name and status.state == "leader":
            match = status.last_index
        rows.append(
            {
                "name": name,
                "address": member.address,
                "connected": name in _answering(status),
                "match_index": match,
            }
        )
    return rows


def _answering(status: Status) -> set[str]:
    return {status.name} | {peer.name for peer in status.peers if peer.connected}


def _checked(verb: str, fields: Any) -> Fields:
    """The fields of a verb.

    Raises:
        CommandRejected: they are not those, or not of their types.
    """
    return _checked_for(_TAKES[verb], fields)


def _checked_for(takes: Mapping[str, type], fields: Any) -> Fields:
    if not isinstance(fields, dict) or fields.keys() != takes.keys():
        raise CommandRejected(f"expected an object with {' and '.join(takes)}")
    for name, kind in takes.items():
        value = fields[name]
        texts = [*value, *value.values()] if isinstance(value, dict) else [value]
        if not isinstance(value, kind) or not all(map(_is_text, texts)):
            what = "a string" if kind is str else "an object of names and addresses"
            raise CommandRejected(f"{name} must be {what}")
    return fields


def _is_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode("utf-8"))
    except UnicodeEncodeError:  # half a surrogate pair
        return False
