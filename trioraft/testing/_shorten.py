"""From a failing trial to the shortest one that can be found to fail as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import evolve

from trioraft.testing._experiment import Experiment, Trial
from trioraft.testing._simulation import Report, play

MOST_TRIES: Final = 100

_MARGIN: Final = 0.001
"""Seconds that a run goes on behind its failure."""


def shorten(
    experiment: Experiment, failed: Report, tell: Callable[[str], None] = lambda what: None
) -> tuple[Trial, Report]:
    """Leave out time, faults and commands as long as the trial still fails.

    Whatever is left out makes another run, so this is a search, not a proof: a shorter one may
    exist.  A failure counts if it is of the same kind.

    Args:
        experiment: what was tried.
        failed: the report of a trial by seed alone.
        tell: is told of each success.

    Returns:
        The shortest failing trial, and its report.  If the trial does not even fail again in the
        same way, because something outlives the machine or is drawn by itself: the trial.
    """
    again = play(experiment.scenario(Trial(failed.seed)))
    if (again.digest, type(again.failure)) != (failed.digest, type(failed.failure)):
        tell("two runs with this seed differ: nothing can be left out")
        return Trial(failed.seed), failed
    search = _Search(experiment, failed, tell)
    before = None
    while before != search.best and search.tries < MOST_TRIES:
        before = search.best
        search.cut_time()
        search.leave_out(_faults, lambda trial, kept: evolve(trial, faults=kept))
        search.leave_out(_commands, lambda trial, kept: evolve(trial, commands=kept))
    return search.best, search.report


class _Search:
    """The shortest failing trial so far."""

    def __init__(self, experiment: Experiment, failed: Report, tell: Callable[[str], None]) -> None:
        plan = experiment.scenario(Trial(failed.seed)).plan
        self.best = Trial(
            failed.seed, tuple(range(len(plan))), experiment.seconds, tuple(sorted(failed.drawn))
        )
        self.report = failed
        self.tries = 0
        self._experiment = experiment
        self._kind = type(failed.failure)
        self._tell = tell

    def fails(self, trial: Trial) -> bool:
        """Try a shorter trial; if it fails as well, it is the best one."""
        if self.tries >= MOST_TRIES:
            return False
        self.tries += 1
        report = play(self._experiment.scenario(trial))
        if type(report.failure) is not self._kind:
            return False
        self.best, self.report = trial, report
        left = f"{len(_faults(trial))} faults, {len(_commands(trial))} commands"
        self._tell(f"{trial.seconds:.3g} s, {left}")
        return True

    def cut_time(self) -> None:
        """Stop behind the failure, and ask for nothing that nobody asked for by then."""
        after = self.report.failed_after
        if after is None:
            for part in (0.125, 0.25, 0.5, 0.75):
                if self.fails(evolve(self.best, seconds=round(self.best.seconds * part, 6))):
                    return
        elif after + 2 * _MARGIN < self.best.seconds:
            plan = self._experiment.scenario(self.best).plan
            pairs = zip(_faults(self.best), plan, strict=True)
            begun = tuple(number for number, fault in pairs if fault.at <= after)
            drawn = set(self.report.drawn)
            asked = tuple(number for number in _commands(self.best) if number in drawn)
            seconds = round(after + _MARGIN, 6)
            self.fails(evolve(self.best, seconds=seconds, faults=begun, commands=asked))

    def leave_out(
        self,
        of: Callable[[Trial], tuple[int, ...]],
        keep: Callable[[Trial, tuple[int, ...]], Trial],
    ) -> None:
        """Leave out all of something, then one half or the other, one quarter, ..., one by one."""
        if not of(self.best) or self.fails(keep(self.best, ())):
            return
        size = len(of(self.best)) // 2
        while size:
            start = 0
            while start < len(numbers := of(self.best)):
                if not self.fails(keep(self.best, numbers[:start] + numbers[start + size :])):
                    start += size
            size //= 2


def _faults(trial: Trial) -> tuple[int, ...]:
    return trial.faults or ()


def _commands(trial: Trial) -> tuple[int, ...]:
    return trial.commands or ()
