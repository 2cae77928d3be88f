"""The simulation finds what is wrong with a user's machine, and finds nothing in a good one."""

from __future__ import annotations

import pytest

from examples.bank import test_bank as of_its_author
from examples.bank.bank import Bank, draw, no_money_is_made
from examples.bank.bugs import BankOfSets, GenerousBank, LuckyBank
from trioraft.testing import RaftSimulation, SimulationFailed


@pytest.mark.unmeasured
def test_a_good_bank_passes(raft_simulation: RaftSimulation) -> None:
    of_its_author.test_the_bank_survives_whatever_befalls_its_servers(raft_simulation)


@pytest.mark.parametrize(
    ("bank", "finding"),
    [
        (BankOfSets, "its apply follows the order of a set"),
        (GenerousBank, "AssertionError: {"),
        (LuckyBank, "its apply is not deterministic"),
    ],
)
def test_a_bad_bank_is_found_and_the_report_says_how(
    raft_simulation: RaftSimulation, bank: type[Bank], finding: str
) -> None:
    with pytest.raises(SimulationFailed) as raised:
        raft_simulation(bank, draw, check=no_money_is_made, runs=10, seconds=2.0)
    report = str(raised.value)
    assert finding in report
    assert "to replay: python -m pytest 'tests/examples/test_bank.py::" in report
    assert "--raft-replay '" in report


@pytest.mark.unmeasured
def test_the_shortest_history_is_two_commands(raft_simulation: RaftSimulation) -> None:
    """Open an account, send money to oneself: nothing else is left of ten seconds of faults."""
    with pytest.raises(SimulationFailed) as raised:
        raft_simulation(GenerousBank, draw, check=no_money_is_made, runs=10)
    lines = str(raised.value).splitlines()
    asked = [line for line in lines if "->" in line and " last " not in line]
    assert len(asked) == 2
    assert "Open(" in asked[0]
    assert ", 0 faults." in str(raised.value)
