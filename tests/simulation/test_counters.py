"""Counters that retrying clients drive are exact, whatever befalls the servers."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest
import trio

from trioraft import Linearizable
from trioraft.testing import seeded_run, simulated_cluster
from trioraft.testing._experiment import OFTEN
from trioraft.testing._mischief import Mischief
from trioraft.testing._plan import HARSH, Profile
from trioraft.testing._workload import Add, Look, Put, Registers

SECONDS = 6.0

STREAMS = Profile("streams", {kind: 1.0 for kind in HARSH.faults if kind not in ("lose", "chaos")})
"""Who never gives up relies on streams: what one loses it loses with all that follows."""


async def count(seed: int) -> None:
    async with simulated_cluster(Registers, servers=3, seed=seed, config=OFTEN) as cluster:
        cluster.start()
        await cluster.settled(20.0)
        plan = STREAMS.draw(Random(f"{seed} counters"), cluster.names, SECONDS)
        mischief = Mischief(cluster, plan, seed)
        done = dict.fromkeys(("c1", "c2", "c3", "c4"), 0)
        over = trio.Event()

        async def drive(name: str) -> None:
            """Never gives a command up, and never asks for another one before."""
            async with cluster.client(name) as client:
                chance = Random(f"{seed} {name}")
                while not over.is_set():
                    pending = client.prepare(Add("n", 1))
                    with trio.move_on_after(chance.uniform(0, 0.3)) as scope:
                        await pending.do()
                    if scope.cancelled_caught:
                        await client.resume(pending.handle)
                    done[name] += 1
                    await trio.sleep(chance.uniform(0, 0.02))

        async with cluster.client("first") as client:
            await client.do(Put("n", 0))
            async with trio.open_nursery() as nursery:
                for name in done:
                    nursery.start_soon(drive, name)
                await mischief.run(SECONDS)
                over.set()
            answer = await client.read(Look("n"), Linearizable())
        assert answer.value == sum(done.values())
        assert min(done.values()) > 10


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(6))
def test_counters_driven_by_retrying_clients_are_exact(seed: int) -> None:
    seeded_run(seed, partial(count, seed))
