"""A bank: accounts, transfers between them, and a reward for somebody."""

from __future__ import annotations

import json
from random import Random
from typing import Any, ClassVar

import attrs

import trioraft

NAMES = ("ann", "bob", "cay", "dan", "eve")
START = 100


@trioraft.command("open")
@attrs.frozen
class Open:
    """Open an account with a first deposit; says whether it is new."""

    account: str

    def apply(self, bank: Bank, applied: trioraft.Applied) -> bool:
        if self.account in bank.balances:
            return False
        bank.balances[self.account] = START
        return True


@trioraft.command("transfer")
@attrs.frozen
class Transfer:
    """Move money; says what is left."""

    source: str
    target: str
    amount: int

    def apply(self, bank: Bank, applied: trioraft.Applied) -> int:
        if not {self.source, self.target} <= bank.balances.keys():
            raise ValueError("no such account")
        if bank.balances[self.source] < self.amount:
            raise ValueError(f"{self.source} has {bank.balances[self.source]}")
        bank.move(self.source, self.target, self.amount)
        return bank.balances[self.source]


@trioraft.command("reward")
@attrs.frozen
class Reward:
    """Move a coin from the richest customer to one of the poorest; says to whom."""

    def apply(self, bank: Bank, applied: trioraft.Applied) -> str:
        if not bank.balances:
            raise ValueError("no customer")
        least, most = min(bank.balances.values()), max(bank.balances.values())
        poorest = {name for name, balance in bank.balances.items() if balance == least}
        lucky = bank.choose(poorest)
        richest = min(name for name, balance in bank.balances.items() if balance == most)
        bank.move(richest, lucky, 1)
        return lucky


class Bank:
    """Who has how much."""

    commands: ClassVar = (Open, Transfer, Reward)

    def __init__(self) -> None:
        self.balances: dict[str, int] = {}

    def move(self, source: str, target: str, amount: int) -> None:
        self.balances[source] -= amount
        self.balances[target] += amount

    def choose(self, poorest: set[str]) -> str:
        return min(poorest)

    def save(self) -> bytes:
        return json.dumps(self.balances, sort_keys=True).encode()

    def recover(self, state: bytes) -> None:
        self.balances = json.loads(state)


def draw(chance: Random) -> Any:
    """What a customer might want."""
    match chance.randrange(4):
        case 0:
            return Open(chance.choice(NAMES))
        case 1:
            return Reward()
        case _:
            return Transfer(chance.choice(NAMES), chance.choice(NAMES), chance.randrange(1, 50))


def no_money_is_made(bank: Bank) -> None:
    """What must hold after each command."""
    assert sum(bank.balances.values()) == START * len(bank.balances), bank.balances
