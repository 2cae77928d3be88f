"""The map on clusters on which everything goes wrong."""

from __future__ import annotations

from random import Random
from typing import Any

from trioraft import Anything
from trioraft.recipes.kv import (
    Add,
    CompareAndSet,
    Condition,
    Delete,
    Found,
    Get,
    KeyValues,
    Page,
    Put,
    Scan,
    Step,
    Transaction,
)
from trioraft.testing import RaftSimulation, seeded_run, simulated_cluster

KEYS = ("a", "a/b", "c")


def draw(chance: Random) -> Any:
    """Any command on few keys, with few values, so that expectations are often met."""
    key, other = chance.choice(KEYS), chance.choice(KEYS)
    value = str(chance.randrange(4))
    expected = chance.choice((None, *"0123"))
    match chance.randrange(7):
        case 0:
            return Delete(key)
        case 1:
            return Add(key, chance.choice((-1, 1, 2**63 - 1)))
        case 2:
            return CompareAndSet(key, expected=expected, value=value)
        case 3:
            return CompareAndSet(key, version=chance.randrange(1, 50), value=value)
        case 4:
            return Transaction([Get(key), Put(other, "no number"), Add(key, 1)])
        case 5:
            steps: list[Step] = [Put(key, value), Delete(other), Get(key)]
            return Transaction(steps, [Condition(other, expected=expected)])
        case _:
            return Put(key, value)


def pages_agree(machine: KeyValues) -> None:
    """What must hold after each command."""
    whole = machine.scan("", 100)
    assert whole.after is None
    assert all(0 < found.version <= machine.version for found in whole.items)
    assert all(machine.get(found.key) == found for found in whole.items)


def test_the_map_survives_whatever_befalls_its_servers(raft_simulation: RaftSimulation) -> None:
    """And what callers are told is linearizable, versions too."""
    raft_simulation(KeyValues, draw, check=pages_agree, runs=3, seconds=5.0)


def test_queries_are_answered() -> None:
    async def scenario() -> None:
        async with simulated_cluster(KeyValues, servers=3, seed=1) as cluster:
            cluster.start()
            leader = await cluster.settled(10)
            assert await leader.do(Put("a/x", "1")) is None
            assert await leader.do(Put("a/y", "2")) is None
            assert (await leader.read(Get("a/x"), Anything())).value == Found("a/x", "1", 1)
            page = Page((Found("a/x", "1", 1), Found("a/y", "2", 2)), None)
            await cluster.settled(1)
            for server in cluster.servers:
                assert (await server.read(Scan("a/"), Anything())).value == page

    seeded_run(1, scenario)
