"""The bank's own test.  `python -m pytest examples/bank` runs it."""

from __future__ import annotations

from examples.bank.bank import Bank, draw, no_money_is_made
from trioraft.testing import RaftSimulation


def test_the_bank_survives_whatever_befalls_its_servers(raft_simulation: RaftSimulation) -> None:
    raft_simulation(Bank, draw, check=no_money_is_made, servers=3, runs=5)
