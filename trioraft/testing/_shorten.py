"""From a failing trial to the shortest one that can be found to fail as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from attrs import evolve

from trioraft.testing._experiment import Experiment, Trial
from trioraft.testing._plan import Fault
from trioraft.testing._simulation import Report, play

MOST_TRIES: Final = 80


def shorten(
    experiment: Experiment, failed: Report, tell: Callable[[str], None]
) -> tuple[Trial, Report]:
    """Leave out faults, callers, commands and time as long as the trial still fails.

    Whatever is left out makes another run, so this is a search, not a proof: a shorter one may
    exist.  A failure counts if it is of the same kind.

    Args:
        experiment: what was tried.
        failed: the report of a trial by seed alone.
        tell: is told of each success.

    Returns:
        The shortest failing trial, and its report.
    """
    scenario = experiment.scenario(Trial(failed.seed))
    best = Trial(
        scenario.seed,
        tuple(range(len(scenario.plan))),
        scenario.seconds,
        scenario.clients,
        scenario.most_commands,
    )
    report, tries = failed, 0
    found = True
    while found:
        found = False
        plan = experiment.scenario(best).plan
        for shorter in _shorter(best, plan, report):
            if tries >= MOST_TRIES:
                return best, report
            tries += 1
            again = play(experiment.scenario(shorter))
            if type(again.failure) is type(failed.failure):
                best, report, found = shorter, again, True
                kept = 0 if best.faults is None else len(best.faults)
                tell(
                    f"{kept} faults, {best.seconds:.3g} s, {sum(again.commands.values())} commands"
                )
                break
    return best, report


def _shorter(trial: Trial, plan: Sequence[Fault], report: Report) -> Iterator[Trial]:
    """What to try next, the boldest first."""
    faults = trial.faults or ()
    asked = sum(report.commands.values())
    ended = report.failed_after
    if ended is not None and ended + 0.001 < trial.seconds:
        begun = tuple(n for n, fault in zip(faults, plan, strict=True) if fault.at <= ended)
        yield evolve(trial, seconds=round(ended + 0.001, 6), faults=begun)
    if faults:
        yield evolve(trial, faults=())
    size = len(faults) // 2
    while size:
        for start in range(0, len(faults), size):
            yield evolve(trial, faults=faults[:start] + faults[start + size :])
        size //= 2
    if trial.clients > 1:
        yield evolve(trial, clients=1)
    for most in (asked // 4, asked // 2, asked * 3 // 4, asked - 1):
        if 0 < most < asked:
            yield evolve(trial, most_commands=most)
    for part in (0.25, 0.5, 0.75):
        if trial.seconds > 0.1:
            yield evolve(trial, seconds=round(trial.seconds * part, 6))
