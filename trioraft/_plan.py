"""What a change of the members would mean: for the votes that are needed, and for what may fail."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from attrs import frozen

from trioraft._rules.membership import Configuration, Member


@frozen
class Phase:
    """The cluster before the change, while it is under way, or after it."""

    phase: str
    """ "before", "during" or "after"."""
    voters: tuple[str, ...]
    outgoing: tuple[str, ...]
    """The voters that go, of which a majority is needed as well; empty: there are none."""
    learners: tuple[str, ...]
    quorum: int
    """How many of the voters are a majority."""
    may_be_lost: int
    """However many servers these are, and whichever: the others are a majority."""
    has_majority: bool
    """Whether those that answer now are one."""
    critical: tuple[str, ...]
    """Whose loss alone would stop the cluster, of those that answer now."""


@frozen
class Plan:
    """What a change of the members would mean."""

    index: int
    """The configuration that would be changed."""
    answering: tuple[str, ...]
    """The members that answer now."""
    phases: tuple[Phase, ...]
    """Before, during and after."""
    advice: tuple[str, ...]
    """What had better be known, in whole sentences."""


def plan(
    old: Configuration, voters: Iterable[str], learners: Iterable[str], answering: Collection[str]
) -> Plan:
    """What it would mean to have these voters and learners.

    Who is taken in votes only once it has caught up, so it answers by then.

    Args:
        old: the configuration that is in force.
        voters: the names of those that are to vote.
        learners: the names of those that are to get the log, and have no vote.
        answering: the names of those that answer now.
    """
    before, leaving = _names(old.voters), _names(old.outgoing)
    after, students = tuple(sorted(set(voters))), tuple(sorted(set(learners)))
    here = set(answering)
    then = here | (set(after) - set(before))
    phases = (
        _phase("before", before, leaving, _names(old.learners), here),
        _phase("during", after, before if set(after) != set(before) else (), students, then),
        _phase("after", after, (), students, then),
    )
    advice = tuple(_advice(old, phases))
    return Plan(old.index, tuple(sorted(old.names & here)), phases, advice)


def _names(half: Iterable[Member]) -> tuple[str, ...]:
    return tuple(sorted({member.id.name for member in half}))


def _phase(
    phase: str,
    voters: tuple[str, ...],
    outgoing: tuple[str, ...],
    learners: tuple[str, ...],
    answering: set[str],
) -> Phase:
    halves = [set(half) for half in (voters, outgoing) if half]
    has_majority = _is_quorum(halves, answering)
    critical = [
        name
        for name in sorted(answering)
        if has_majority and not _is_quorum(halves, answering - {name})
    ]
    return Phase(
        phase,
        voters,
        outgoing,
        learners,
        quorum=len(voters) // 2 + 1,
        may_be_lost=min((_spare(half) for half in halves), default=0),
        has_majority=has_majority,
        critical=tuple(critical),
    )


def _is_quorum(halves: list[set[str]], servers: set[str]) -> bool:
    return all(2 * len(half & servers) > len(half) for half in halves)


def _spare(half: Collection[str]) -> int:
    return (len(half) - 1) // 2


def _advice(old: Configuration, phases: tuple[Phase, ...]) -> Iterable[str]:
    before, during, after = phases
    if not after.voters:
        yield "A cluster needs a voter: this would be refused."
        return
    if old.outgoing:
        yield "Another change is under way: this one is refused until that is over."
    if (before.voters, before.learners) == (after.voters, after.learners):
        yield "The members would stay the same."
    if not before.has_majority:
        yield "Those that answer now are no majority: nothing can be changed until one more does."
    elif not during.has_majority:
        yield "Those that answer now are no majority of the new voters: this would be refused."
    if after.may_be_lost != before.may_be_lost:
        yield f"{after.may_be_lost} may be lost after it, and {before.may_be_lost} now."
    if len(after.voters) % 2 == 0:
        yield f"{len(after.voters)} voters bear no more losses than {len(after.voters) - 1}."
    for phase, when in ((before, "now"), (during, "during the change"), (after, "after it")):
        if phase.critical and phase.critical != tuple(sorted(phase.voters)):
            yield f"The loss of {' or '.join(phase.critical)} alone would stop the cluster {when}."
        elif phase.critical:
            yield f"The loss of any one voter would stop the cluster {when}."
