"""Three banks that look right and are wrong; a unit test of `apply` alone hardly ever tells."""

from __future__ import annotations

from random import Random

from examples.bank.bank import Bank


class BankOfSets(Bank):
    """Takes a set's order: strings hash differently in each process, so servers diverge."""

    def choose(self, poorest: set[str]) -> str:
        return next(iter(poorest))


class GenerousBank(Bank):
    """Forgets that somebody may send money to themselves."""

    def move(self, source: str, target: str, amount: int) -> None:
        before = self.balances[target]
        self.balances[source] -= amount
        self.balances[target] = before + amount


class LuckyBank(Bank):
    """Draws lots: each server draws for itself."""

    lots = Random()

    def choose(self, poorest: set[str]) -> str:
        return self.lots.choice(sorted(poorest))
