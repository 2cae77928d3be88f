"""The pytest plugin: the fixture `raft_simulation`, and the options that replay what it found."""

from __future__ import annotations

import os
import shlex
from typing import Final

import pytest

from trioraft.testing._experiment import Trial, trial_of_argument
from trioraft.testing._fixture import RaftSimulation

_RUNNING: Final = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("trioraft", "simulated Raft clusters")
    group.addoption(
        "--raft-replay",
        type=trial_of_argument,
        metavar="TRIAL",
        help="run this one trial (a seed, or what a failure printed) in each simulation",
    )
    group.addoption(
        "--raft-runs",
        type=int,
        metavar="N",
        help="try N seeds in each simulation, whatever the tests say",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember which test runs: the fixture is older than it, and names it in its reports."""
    _, *rest = item.nodeid.split("::")
    here = os.path.relpath(item.path, item.config.invocation_params.dir)
    item.config.stash[_RUNNING] = "::".join([here, *rest])


@pytest.fixture(scope="session")
def raft_simulation(pytestconfig: pytest.Config) -> RaftSimulation:
    """Runs a state machine in simulated clusters; see `trioraft.testing.RaftSimulation`.

    It keeps nothing from test to test, so Hypothesis may call it again and again.
    """

    def command(tried: Trial) -> str:
        test = shlex.quote(pytestconfig.stash[_RUNNING])
        return f"python -m pytest {test} --raft-replay '{tried}'"

    return RaftSimulation(
        pytestconfig.getoption("--raft-replay"), pytestconfig.getoption("--raft-runs"), command
    )
