"""Who the members are to be after a change: small pieces that the verbs are made of."""

from __future__ import annotations

from collections.abc import Iterable

from trioraft._errors import MembershipError
from trioraft._limits import MAX_CONFIGURATION_BYTES
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Half, Member
from trioraft._wire.codec import configuration_data

Members = tuple[Half, tuple[Member, ...]]
"""Voters and learners."""


def taken_out(learner: ServerId, old: Configuration) -> Members:
    """The members without a learner."""
    return old.voters, tuple(member for member in old.learners if member.id != learner)


def voter_named(configuration: Configuration, name: str) -> Member | None:
    """The voter of that name, if there is one."""
    return next((member for member in configuration.voters if member.id.name == name), None)


def is_at(member: Member | None, address: str) -> bool:
    """Whether it is a member, and listens there."""
    return member is not None and member.address == address


def without(members: tuple[Member, ...], name: str) -> tuple[Member, ...]:
    """The members without the one of that name."""
    return tuple(member for member in members if member.id.name != name)


def in_order(members: Iterable[Member]) -> tuple[Member, ...]:
    """The members in the order in which a configuration has them."""
    return tuple(sorted(members, key=lambda member: member.id.name))


def check_size(voters: Half, learners: tuple[Member, ...], old: Configuration) -> None:
    """See that the change, with the old voters, is not large: each Hello carries it."""
    whole = Configuration(old.cluster, voters, old.voters, learners, old.index)
    size, most = len(configuration_data(whole)), MAX_CONFIGURATION_BYTES
    if size > most:
        raise MembershipError(f"a configuration of {size} bytes; the most is {most}")
