"""`trioraft members`, `add-peer`, ...: who belongs to the cluster, and who is to."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from trioraft._cli.common import complain, member_address, members, say
from trioraft._cli.http import Answer, add_parser, ask, one_line, tell
from trioraft._transport.addresses import Address, parse_address

_EXITS: Final = """\
exit status:
  0  it is done; with --plan: what it would mean is printed
  1  the cluster refuses it; one line says why
  2  the arguments can't be used
  3  it is not done: no such server, or no leader; try again
  4  nobody can say: the connection broke, or the cluster did not answer in time; `trioraft members`
     says what is so, and to ask once more does no harm
"""
_TRANSFER_EXITS: Final = """\
exit status:
  0  another server leads
  1  the cluster refuses it, or the other one did not take over; one line says why
  2  the arguments can't be used
  3  it is not done: no such server, or no leader; try again
  4  nobody can say: the connection broke, or the cluster did not answer in time
"""
_MEMBERS_EXITS: Final = """\
exit status:
  0  the server answered
  1  what answered is no server of a cluster
  2  the arguments can't be used
  3  nobody answered
"""
_HOPS: Final = 3
"""How often a server may say that another one leads."""

_PAUSE: Final = 1.0
"""Seconds before a server that is catching up is asked for again."""

Asked = dict[str, Any]


def pause() -> None:
    """Do nothing for a moment."""
    trio.run(trio.sleep, _PAUSE)


# -- arguments -------------------------------------------------------------------------------------


def add_members(commands: Any) -> None:
    """Add the command `members`."""
    about = "Say who belongs to the cluster, who is connected, and how far each one is."
    parser = add_parser(commands, "members", "say who belongs", about, _MEMBERS_EXITS)
    parser.set_defaults(run=_members)


def add_changes(commands: Any) -> None:
    """Add the commands that change who belongs to the cluster, and who leads."""
    about = (
        "Take a server in: it gets the log, and votes once it has caught up.  It runs by then, on "
        "an\nempty data directory and without --initial-cluster."
    )
    parser = _change(commands, "add-peer", "take a server in", about, _add_peer)
    _place(parser)
    parser.add_argument("--learner", action="store_true", help="it is to have no vote")

    about = "Remove a member.  It learns of that, and ends.  A leader hands over first."
    parser = _change(commands, "remove-peer", "remove a member", about, _remove_peer)
    parser.add_argument("name", metavar="NAME", help="the member's name")

    about = "Have a member dialled elsewhere: it must answer there."
    _place(_change(commands, "change-address", "say where a member is", about, _change_address))

    about = (
        "Have exactly these voters, all at once.  New ones are taken in first, and vote once they "
        "have\ncaught up."
    )
    parser = _change(commands, "change-membership", "say who votes", about, _change_membership)
    parser.add_argument("members", metavar="NAME=HOST:PORT,...", type=members, help="the voters")

    about = "Have another server lead: the one named, or whichever is fit for it."
    parser = add_parser(commands, "transfer", "have another server lead", about, _TRANSFER_EXITS)
    parser.add_argument("name", metavar="NAME", nargs="?", help="the server that is to lead")
    parser.set_defaults(run=_transfer)


def _change(
    commands: Any,
    name: str,
    help_: str,
    about: str,
    asked: Callable[[argparse.Namespace], tuple[str, Asked]],
) -> argparse.ArgumentParser:
    """A command that changes the members; `asked` gives the verb and what it is asked with."""
    parser = add_parser(commands, name, help_, f"{about}  Any server can be asked.", _EXITS)
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--plan", action="store_true", help="say what it would mean, and change nothing"
    )
    either.add_argument(
        "--expect",
        metavar="INDEX",
        type=int,
        help="only if this is the index that `trioraft members` tells; else it is refused",
    )
    parser.set_defaults(run=lambda given: _run(given, *asked(given)))
    return parser


def _place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the server's name")
    parser.add_argument("place", metavar="HOST:PORT", type=member_address, help="where it listens")


def _add_peer(given: argparse.Namespace) -> tuple[str, Asked]:
    verb = "add-learner" if given.learner else "add"
    return verb, {"name": given.name, "address": given.place}


def _remove_peer(given: argparse.Namespace) -> tuple[str, Asked]:
    return "remove", {"name": given.name}


def _change_address(given: argparse.Namespace) -> tuple[str, Asked]:
    return "address", {"name": given.name, "address": given.place}


def _change_membership(given: argparse.Namespace) -> tuple[str, Asked]:
    return "change", {"members": given.members}


# -- asking ----------------------------------------------------------------------------------------


def _members(given: argparse.Namespace) -> int:
    answer = ask(given.address, "GET", "/members", expect={"index": int, "voters": list})
    return tell(answer, as_json=given.json, rows=["voters", "outgoing", "learners"])


def _transfer(given: argparse.Namespace) -> int:
    fields = {} if given.name is None else {"name": given.name}
    answer = _ask_leader(given.address, "transfer", fields, None, {"leader": object})
    return tell(answer, as_json=given.json)


def _run(given: argparse.Namespace, verb: str, fields: Asked) -> int:
    if given.plan:
        return _plan(given, verb, fields)
    expect = given.expect
    while True:
        answer = _ask_leader(given.address, verb, fields, expect, {"index": int})
        if "catching_up" not in answer.told:
            return tell(answer, as_json=given.json)
        complain(one_line(str(answer.told.get("message"))))
        if expect is not None:  # what was expected was so: by now the server is a learner
            expect = answer.told.get("index")
        pause()


def _plan(given: argparse.Namespace, verb: str, fields: Asked) -> int:
    body = json.dumps({verb: fields}).encode()
    wanted = {"phases": list, "advice": list}
    answer = ask(given.address, "POST", "/members/plan", body, expect=wanted)
    if answer.status != 200 or given.json:
        return tell(answer, as_json=given.json)
    told = dict(answer.told)
    advice = told.pop("advice")
    status = tell(Answer(200, told), as_json=False, rows=["phases"])
    for sentence in advice:
        say(f"\n{one_line(str(sentence))}\n")
    return status


def _ask_leader(
    address: Address,
    verb: str,
    fields: Asked,
    expected: int | None,
    expect: Mapping[str, type[object]],
) -> Answer:
    """Ask a server, and whoever leads by its word."""
    body = json.dumps(fields).encode()
    target = f"/members/{verb}" + ("" if expected is None else f"?expect={expected}")
    for _ in range(_HOPS):
        answer = ask(address, "POST", target, body, expect=expect, lost="unknown")
        leader = answer.told.get("address")
        if answer.told.get("error") != "NotLeaderError" or not isinstance(leader, str):
            break
        try:
            address = parse_address(leader)
        except ValueError:
            break
    return answer
