"""What the fixture `raft_simulation` gives to a test."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Hashable, Sequence
from random import Random
from typing import Any

from trioraft._commands import Command, Query
from trioraft._config import Config
from trioraft.abc import StateMachine
from trioraft.testing._elsewhere import differs_elsewhere
from trioraft.testing._experiment import OFTEN, Experiment, Trial
from trioraft.testing._model import MachineModel
from trioraft.testing._plan import HARSH, Fault, Profile
from trioraft.testing._shorten import shorten
from trioraft.testing._simulation import Report, play
from trioraft.testing._telling import told


class SimulationFailed(AssertionError):
    """A simulated run broke something; the message tells what, the way there, and the replay."""


class RaftSimulation:
    """Runs a state machine of one's own in simulated clusters, and sees that nothing breaks."""

    def __init__(
        self, replay: Trial | None, runs: int | None, command: Callable[[Trial], str]
    ) -> None:
        """Take what the command line says.

        Args:
            replay: the one trial to run, in place of all others.
            runs: how many seeds to try, in place of what the test says.
            command: how a trial is run again.
        """
        self._replay = replay
        self._runs = runs
        self._command = command

    def __call__(
        self,
        machine: Callable[[], StateMachine],
        commands: Callable[[Random], Command[Any] | Query[Any]],
        *,
        check: Callable[[Any], None] | None = None,
        servers: int = 3,
        profile: Profile = HARSH,
        plan: Sequence[Fault] | None = None,
        seed: int | None = None,
        runs: int = 20,
        seconds: float = 10.0,
        clients: int = 3,
        pause: float = 0.05,
        config: Config | None = None,
        linearizable: bool = True,
        key: Callable[[Any], Hashable] | None = None,
    ) -> None:
        """Run the machine on clusters on which things go wrong, in virtual time.

        docs/testing.md says what befalls them and what is checked.  Within Hypothesis, which
        shortens by itself, and calls often, no other hash seeds are tried and nothing is shortened.

        Args:
            machine: makes the state machine; `save` must give equal bytes for equal histories.
            commands: draws a caller's next command or query.
            check: is given each server's machine after each entry; raises if something is wrong.
            servers: how many.
            profile: how they fare: `CALM`, `HARSH`, or a `Profile` of one's own.
            plan: a plan of faults of one's own, in place of those that the profile draws.
            seed: the one seed to try; None: those from 0 on.
            runs: how many seeds to try.
            seconds: virtual seconds of faults in each run.
            clients: how many callers.
            pause: virtual seconds between two commands of a caller, on average.
            config: as each server gets it; without one they take snapshots often.
            linearizable: whether the answers are checked against the machine run alone; not if
                they follow from an entry's index, term or time.
            key: which part of the state a command touches; makes long histories quick to check.

        Raises:
            SimulationFailed: with the seed, the shortest history found, and how to replay it.
        """
        __tracebackhide__ = True
        experiment = Experiment(
            machine,
            commands,
            servers=(servers,),
            profile=profile,
            plan=plan,
            seconds=seconds,
            clients=clients,
            pause=pause,
            configs=(OFTEN if config is None else config,),
            model=MachineModel(machine, key) if linearizable else None,
            check=check,
        )
        self._run(experiment, self._trials(seed, runs))

    def _run(self, experiment: Experiment, trials: Sequence[Trial]) -> None:
        __tracebackhide__ = True
        for trial in trials:
            report = play(experiment.scenario(trial))
            if report.failure is not None:
                self._fail(experiment, trial, report)
            if report.counts["undecided"]:
                what = "is too entangled to be checked; `key=` may help, or fewer clients"
                warnings.warn(f"the history of seed {trial.seed} {what}", stacklevel=3)
        found = _elsewhere(experiment, report)
        if found is not None:
            raise SimulationFailed(f"{found}\nto replay: {self._command(Trial(report.seed))}")

    def _trials(self, seed: int | None, runs: int) -> list[Trial]:
        if self._replay is not None:
            return [self._replay]
        if seed is not None:
            return [Trial(seed)]
        count = runs if self._runs is None else self._runs
        if count < 1:
            raise ValueError(f"{count} runs would show nothing")
        return [Trial(number) for number in range(count)]

    def _fail(self, experiment: Experiment, trial: Trial, report: Report) -> None:
        __tracebackhide__ = True
        if _in_hypothesis():
            raise SimulationFailed(str(report.failure)) from report.failure
        remark = _elsewhere(experiment, report)
        if trial.faults is None:
            trial, report = shorten(experiment, report)
        text = told(experiment.scenario(trial), report, self._command(trial), remark)
        raise SimulationFailed(text) from report.failure


def _elsewhere(experiment: Experiment, report: Report) -> str | None:
    if _in_hypothesis():
        return None
    return differs_elsewhere(experiment.machine, report.history, report.results)


def _in_hypothesis() -> bool:
    """Whether Hypothesis calls this test; it need not be installed."""
    hypothesis: Any = sys.modules.get("hypothesis")
    return hypothesis is not None and bool(hypothesis.currently_in_test_context())
