"""A recovery as a whole: new directories are made, and take the place of the old ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from shutil import rmtree

from trioraft._errors import StorageError
from trioraft._recovery.choosing import Choice, Unfit
from trioraft._recovery.making import Heritage, make
from trioraft._recovery.swapping import after, swap, unfinished
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Member
from trioraft._state import HardState
from trioraft._storage.files import Files
from trioraft._storage.inspection import look_at_log


def check_members(members: Mapping[str, str], choice: Choice) -> dict[str, str]:
    """See that the members of the new cluster make sense; return each one's directory.

    Raises:
        Unfit: they don't.
    """
    there = {survivor.id.name: survivor.directory for survivor in choice.survivors}
    for name in members:
        if name not in there:
            raise Unfit(
                f"{name} has no directory here, only {', '.join(sorted(there))}: leave it out, "
                "start it on an empty directory when the new cluster runs, and take it in with "
                "`trioraft add-peer`"
            )
        if os.path.ismount(there[name]):
            raise Unfit(f"{there[name]} can't be renamed, something is mounted there: use a copy")
    if len(set(members.values())) < len(members):
        raise Unfit(f"two members have one address: {dict(members)}")
    return {name: there[name] for name in members}


def recover(
    choice: Choice, members: Mapping[str, str], files: Files, draw: Callable[[], str]
) -> Configuration:
    """Make a new cluster of these members, each of which has the winner's log.

    Args:
        choice: whose log it is.
        members: their names and addresses.
        files: the file system, to write to.
        draw: sixteen random hexadecimal digits.

    Returns:
        Its first configuration.

    Raises:
        Unfit: the members make no sense.
        StorageError: the file system refuses; what has begun to take place, the next run ends.
        OSError: what was written can't be read.
    """
    directories = check_members(members, choice)
    old = choice.winner.configuration
    voters = []
    for name, address in sorted(members.items()):
        known = old.named(name)
        commands = () if known is None else known.commands
        voters.append(Member(ServerId(name, draw()), address, commands))
    genesis = Configuration(draw(), tuple(voters))
    heritage = Heritage(genesis, choice.term, choice.winner)
    made: list[str] = []
    try:
        for voter in voters:
            made.append(after(directories[voter.id.name], genesis.cluster))
            make(made[-1], voter.id, heritage, files)
    except BaseException:
        for directory in made:
            rmtree(directory, ignore_errors=True)
        raise
    for directory in directories.values():
        swap(directory, genesis.cluster, files)
    return genesis


def finish(
    directories: Sequence[str], cluster: str, members: Mapping[str, str], files: Files
) -> list[str]:
    """Go on with a recovery that was interrupted while directories were renamed; say with which.

    Raises:
        Unfit: it was one of other members.
        StorageError: the file system refuses, or what was made can't be read.
    """
    left = unfinished(directories, cluster)
    for directory in left:
        state = look_at_log(after(directory, cluster)).recovered.state
        if state is None:
            raise StorageError(f"{after(directory, cluster)} holds nothing")
        genesis = HardState.decode(state).genesis
        voters = () if genesis is None else genesis.voters
        meant = {voter.id.name: voter.address for voter in voters}
        if meant != dict(members):
            given = ",".join(f"{name}={address}" for name, address in meant.items())
            raise Unfit(f"a recovery was interrupted: to finish it give --members {given}")
    for directory in left:
        swap(directory, cluster, files)
    return left
