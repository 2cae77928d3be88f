"""How fast simulated time passes: `python -m benchmarks.simulation`.

Seconds of CPU, not of the wall: other work on the machine counts less that way.  Each row is the
best and the median of some runs, each of ten virtual seconds of a cluster of five.
"""

from __future__ import annotations

import statistics
import time

from attrs import evolve

from trioraft.testing import CALM, HARSH, Profile
from trioraft.testing import _network as network
from trioraft.testing._experiment import Trial, library
from trioraft.testing._simulation import play

RUNS = 7
LOADS: tuple[tuple[str, Profile, int, float], ...] = (
    ("idle", CALM, 0, 1.0),
    ("calm, 30 commands a second", CALM, 3, 0.1),
    ("calm, 100 commands a second", CALM, 5, 0.05),
    ("harsh, 30 commands a second", HARSH, 3, 0.1),
)


def measure(profile: Profile, clients: int, pause: float, seed: int) -> tuple[float, float]:
    """Virtual seconds for each second of CPU, and messages for each virtual second."""
    sent = 0
    post = network._MemoryConnection.send

    async def counting(self: network._MemoryConnection, value: bytes) -> None:
        nonlocal sent
        sent += 1
        await post(self, value)

    network._MemoryConnection.send = counting  # type: ignore[method-assign]
    experiment = evolve(
        library(profile), servers=(5,), clients=clients, pause=pause, websockets=0.0, model=None
    )
    scenario = experiment.scenario(Trial(seed))
    began = time.process_time()
    report = play(scenario)
    spent = time.process_time() - began
    network._MemoryConnection.send = post  # type: ignore[method-assign]
    assert report.failure is None, report.failure
    return report.virtual_seconds / spent, sent / report.virtual_seconds


def main() -> None:
    """Print a table."""
    print(f"{'five servers':30} {'messages/s':>10} {'best':>7} {'median':>7}  virtual s per CPU s")
    for name, profile, clients, pause in LOADS:
        found = [measure(profile, clients, pause, seed) for seed in range(RUNS)]
        speeds = [speed for speed, _ in found]
        messages = statistics.mean(rate for _, rate in found)
        best, median = max(speeds), statistics.median(speeds)
        print(f"{name:30} {messages:10.0f} {best:7.1f} {median:7.1f}")


if __name__ == "__main__":
    main()
