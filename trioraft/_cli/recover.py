"""`trioraft recover`: a new cluster out of what a disaster has left of an old one."""

from __future__ import annotations

import argparse
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from enum import IntEnum
from typing import Any, Final

from trioraft._cli.common import Unusable, complain, members, say
from trioraft._cli.http import one_line, readable
from trioraft._errors import StorageError, StorageLocked
from trioraft._recovery.choosing import Choice, Survivor, Unfit, choose, survivor_of
from trioraft._recovery.recovering import check_members, finish, recover
from trioraft._recovery.swapping import before, interrupted, unfinished
from trioraft._rules.membership import Configuration
from trioraft._storage.files import OsFiles
from trioraft._storage.inspection import held

_ABOUT: Final = """\
Make a new cluster out of the data directories of servers that are left when a majority is lost.
The one whose log has the most wins: every member of the new cluster gets a copy of it.  What only
servers that are lost had acknowledged is lost with them; --dry-run says what can be known of that.
Each old directory stays beside its new one, as DIR.before-CLUSTER.

Start the members as before; take in more with `trioraft add-peer`, on empty data directories.
"""
_EXITS: Final = """\
exit status:
  0  it is done; with --dry-run: it could be done
  1  a log is damaged or can't be read, or the file system refused; one line says which, and where
  2  nothing was changed: the directories and the members don't go together, or the survivors are a
     majority, and need no recovery
  3  a directory is in use: stop the server first
"""
_ROWS: Final = ("voters", "outgoing", "learners", "survivors", "members")


class Exit(IntEnum):
    """What the status of the process says."""

    DONE = 0
    FAILED = 1
    UNUSABLE = 2
    IN_USE = 3


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "recover",
        help="make a new cluster out of what is left of one",
        description=_ABOUT,
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directories", metavar="DIR", nargs="+", help="a survivor's data directory")
    parser.add_argument(
        "--members",
        required=True,
        type=members,
        metavar="NAME=HOST:PORT,...",
        help="the servers of the new cluster; each must be the server of one of the directories",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be, change nothing")
    parser.add_argument("--json", action="store_true", help="print what is found as JSON")
    parser.set_defaults(run=_recover)


def _recover(given: argparse.Namespace) -> int:
    directories = [os.path.realpath(directory) for directory in given.directories]
    try:
        cluster = interrupted(directories)
        if cluster is not None:
            return _finish(given, directories, cluster)
        with ExitStack() as stack:
            for directory in directories:
                stack.enter_context(held(directory))
            choice = choose([survivor_of(directory) for directory in directories])
            check_members(given.members, choice)
            genesis, is_needed = None, not choice.has_all
            if is_needed and not given.dry_run:
                genesis = recover(choice, given.members, OsFiles(), lambda: secrets.token_hex(8))
    except (Unfit, OSError) as error:
        raise Unusable(str(error)) from error
    except StorageError as error:
        complain(one_line(str(error)))
        return Exit.IN_USE if isinstance(error, StorageLocked) else Exit.FAILED
    _report(given, choice, genesis)
    if not is_needed:
        complain("no recovery is needed, and nothing was changed: start the survivors as they are")
        return Exit.UNUSABLE
    return Exit.DONE


def _finish(given: argparse.Namespace, directories: Sequence[str], cluster: str) -> int:
    """Go on where another run was interrupted."""
    left = unfinished(directories, cluster)
    if not given.dry_run:
        with ExitStack() as stack:
            for directory in left:
                stack.enter_context(held(directory))
            finish(directories, cluster, given.members, OsFiles())
    told = {"new_cluster": cluster, "unfinished" if given.dry_run else "finished": left}
    if given.json:
        say(json.dumps(told) + "\n")
    else:
        say("A recovery was interrupted while directories got their names.\n" + readable(told))
    return Exit.DONE


# -- telling ---------------------------------------------------------------------------------------


def _report(given: argparse.Namespace, choice: Choice, genesis: Configuration | None) -> None:
    told = _told(choice, given.members, genesis)
    if given.json:
        say(json.dumps(told) + "\n")
        return
    advice = told.pop("advice")
    say(readable(told, _ROWS))
    for sentence in advice:
        say(f"\n{one_line(sentence)}\n")
    for survivor in choice.survivors:
        for flaw in survivor.holding.flaws:
            complain(one_line(str(flaw)))


def _told(
    choice: Choice, members: Mapping[str, str], genesis: Configuration | None
) -> dict[str, Any]:
    old, winner = choice.winner.configuration, choice.winner
    there = {survivor.id.name: survivor.directory for survivor in choice.survivors}
    cluster = None if genesis is None else genesis.cluster

    def rows(half: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"name": member.id.name, "address": member.address} for member in half]

    return {
        "old_cluster": winner.cluster,
        "configuration_index": old.index,
        "voters": rows(old.voters),
        "outgoing": rows(old.outgoing),
        "learners": rows(old.learners),
        "survivors": [_about(survivor) for survivor in choice.survivors],
        "winner": winner.id.name,
        "why": choice.why,
        "last_index": winner.last[1],
        "committed_index": choice.committed or None,
        "has_majority": choice.has_all,
        "new_cluster": cluster,
        "members": [
            {
                "name": name,
                "address": address,
                "directory": there[name],
                "old_directory": None if cluster is None else before(there[name], cluster),
            }
            for name, address in sorted(members.items())
        ],
        "advice": _advice(choice, members),
    }


def _about(survivor: Survivor) -> dict[str, Any]:
    term, index = survivor.last
    return {
        "name": survivor.id.name,
        "last_term": term,
        "last_index": index,
        "snapshot_index": None if survivor.head is None else survivor.head.index,
        "has_vote": survivor.configuration.voter(survivor.id),
        "expelled": survivor.state.expelled or None,
        "directory": survivor.directory,
    }


def _advice(choice: Choice, members: Mapping[str, str]) -> list[str]:
    """What may be lost, and what is to be done, in whole sentences."""
    _, last = choice.winner.last
    if choice.has_all:
        said = [
            "Nothing that was acknowledged is missing: the survivors are a majority, and go on as "
            "they are when they are started."
        ]
    else:
        said = [
            f"Entries behind {last} may have been acknowledged by servers that are lost, and then "
            "they are lost; how many can't be known."
        ]
    if choice.committed == 0:
        said.append(
            "How much of the log was committed can't be known: all of it is kept, though its last "
            "entries may never have been committed."
        )
    elif choice.committed < last:
        said.append(
            f"The entries behind {choice.committed} are kept, though they may never have been "
            "committed."
        )
    for survivor in choice.survivors:
        if survivor.id.name not in members:
            said.append(
                f"{survivor.directory} stays as it is, in the old cluster: do not start "
                f"{survivor.id.name} on it; take it in on an empty directory."
            )
    return said
