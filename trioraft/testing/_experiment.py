"""What is tried over and over, and the name of one trial of it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from attrs import evolve, frozen

from trioraft._config import Config, Leads
from trioraft.abc import StateMachine
from trioraft.testing._kinds import FAULTS
from trioraft.testing._model import Model
from trioraft.testing._plan import HARSH, LEADER, Fault, Profile
from trioraft.testing._simulation import Scenario
from trioraft.testing._workload import RegisterModel, Registers, draw_command

_TRIAL: Final = re.compile(
    r"(?P<seed>\d+)"
    r"(?::s=(?P<seconds>[\d.]+),f=(?P<faults>[\d+]*),c=(?P<commands>all|[\d+]*))?"
)


OFTEN: Final = Config(snapshot_entries=25, trailing_entries=3)
"""Snapshots so often that a run of some seconds sees many."""

AT_ONCE: Final = Config(snapshot_entries=6, trailing_entries=0)
"""So often that a follower which misses a few messages needs one."""


@frozen
class Trial:
    """One trial of an experiment: a seed, and what may be left out without losing the failure.

    Written as `4711`, or `4711:s=1.25,f=0+3,c=7`: 1.25 seconds, of the faults that the seed draws
    only the first and the fourth, and of the commands only the eighth.
    """

    seed: int
    faults: tuple[int, ...] | None = None
    """Which faults of the drawn plan to keep; None: all."""
    seconds: float = 0.0
    commands: tuple[int, ...] | None = None
    """Which of the drawn commands to ask for; None: all."""

    def __str__(self) -> str:
        if self.faults is None:
            return str(self.seed)
        faults = "+".join(map(str, self.faults))
        commands = "all" if self.commands is None else "+".join(map(str, self.commands))
        return f"{self.seed}:s={self.seconds!r},f={faults},c={commands}"

    @classmethod
    def parse(cls, text: str) -> Trial:
        """Read what `str` wrote.

        Raises:
            ValueError: it is no name of a trial.
        """
        match = _TRIAL.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} names no trial: expected a seed, or what a report printed")
        if match["faults"] is None:
            return cls(int(match["seed"]))
        commands = None if match["commands"] == "all" else _numbers(match["commands"])
        return cls(int(match["seed"]), _numbers(match["faults"]), float(match["seconds"]), commands)


@frozen
class Experiment:
    """A machine, what is asked of it, and what befalls it; a seed makes a scenario of it."""

    machine: Callable[[], StateMachine]
    draw: Callable[[Random], Any]
    servers: Sequence[int] = (3,)
    """How many servers; one of these is drawn."""
    profile: Profile = HARSH
    plan: Sequence[Fault] | None = None
    """A plan of one's own, in place of those that the profile draws."""
    seconds: float = 10.0
    clients: int = 3
    pause: float = 0.05
    websockets: float = 0.0
    """The part of the trials whose messages go through the real websocket code."""
    configs: Sequence[Config] = (OFTEN,)
    """How the servers behave; one of these is drawn."""
    reluctant: float = 0.0
    """The part of the trials in which some servers are to lead rarely or never."""
    model: Model | None = None
    check: Callable[[Any], None] | None = None

    def scenario(self, trial: Trial) -> Scenario:
        """The scenario of one trial.

        Raises:
            ValueError: the plan or the trial names what there is not.
        """
        chance = Random(f"{trial.seed} scenario")
        servers = chance.choice(self.servers)
        names = [f"n{number}" for number in range(1, servers + 1)]
        plan: Sequence[Fault] = self.plan or ()
        if self.plan is None:
            plan = self.profile.draw(chance, names, self.seconds)
        for fault in plan:
            if fault.kind not in FAULTS:
                raise ValueError(f"there is no fault {fault.kind!r}; there are {', '.join(FAULTS)}")
            if not {fault.server, *fault.others} <= {LEADER, *names}:
                raise ValueError(f"{fault} names a server that is not one of {', '.join(names)}")
        websockets = chance.random() < self.websockets
        config = chance.choice(self.configs)
        scenario = Scenario(
            machine=self.machine,
            draw=self.draw,
            seed=trial.seed,
            servers=servers,
            seconds=self.seconds,
            plan=tuple(plan),
            clients=self.clients,
            pause=self.pause,
            websockets=websockets,
            config=config,
            leads=_reluctant(chance, names) if chance.random() < self.reluctant else {},
            model=self.model,
            check=self.check,
        )
        if trial.faults is None:
            return scenario
        if max(trial.faults, default=-1) >= len(plan):
            raise ValueError(f"{trial} is not of this test: its plan has {len(plan)} faults")
        return evolve(
            scenario,
            plan=tuple(plan[number] for number in trial.faults),
            seconds=trial.seconds,
            commands=trial.commands,
        )


def trial_of_argument(text: str) -> Trial:
    """A trial out of a command line.

    Raises:
        argparse.ArgumentTypeError: it is no name of a trial.
    """
    try:
        return Trial.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _reluctant(chance: Random, names: Sequence[str]) -> dict[str, Leads]:
    """Some servers, but not all."""
    some = chance.sample(names, chance.randrange(len(names)))
    levels: Sequence[Leads] = ("rarely", "never")
    return {name: chance.choice(levels) for name in some}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, filter(None, text.split("+"))))


def library(profile: Profile = HARSH) -> Experiment:
    """What this library tests itself with: registers, on clusters of every size."""
    return Experiment(
        Registers,
        draw_command,
        servers=(3, 3, 3, 5, 5, 1, 2, 4, 7),
        profile=profile,
        websockets=0.05,
        reluctant=0.5 if profile.faults else 0.0,
        model=RegisterModel(),
        configs=(Config(), OFTEN, OFTEN, AT_ONCE),
    )
