"""Faults that are aimed at one kind of bug each; the simulation's own come first all the same."""

from __future__ import annotations

from typing import Final

from attrs import evolve

from trioraft.testing._experiment import Experiment, library
from trioraft.testing._plan import PROFILES, Profile

CRASHES: Final = Profile(
    "crashes",
    {
        "power": 1.0,
        "blackout": 1.0,
        "kill": 1.0,
        "crash_before_sync": 2.0,
        "crash_after_sync": 2.0,
        "torn_write": 1.0,
        "broken_sync": 1.0,
    },
    every=(0.05, 0.3),
    lasts=(0.01, 0.1),
    aimed=0.3,
)
"""Processes and machines die and come back at once, often in the middle of a write."""

RIVALS: Final = Profile(
    "rivals",
    {
        "split": 2.0,
        "isolate": 1.0,
        "silence": 1.0,
        "mute": 1.0,
        "kill": 1.0,
        "power": 1.0,
        "chaos": 1.0,
        "slow_disk": 1.0,
    },
    every=(0.05, 0.25),
    lasts=(0.1, 0.6),
    aimed=0.5,
)
"""Leaders are lost in the middle of their work, and others found: many terms, many conflicts."""

DISORDER: Final = Profile(
    "disorder",
    {"chaos": 3.0, "repeat": 2.0, "reorder": 2.0, "lose": 1.0, "slow": 1.0, "reset": 1.0},
    every=(0.02, 0.2),
    lasts=(0.2, 1.0),
    aimed=0.0,
)
"""Messages come twice, late, and in another order."""

RETURNS: Final = Profile(
    "returns",
    {"isolate": 2.0, "crash_after_sync": 2.0, "slow_disk": 4.0, "reset": 1.0},
    every=(0.05, 0.3),
    lasts=(0.5, 1.5),
    aimed=0.0,
)
"""A leader is cut off with what it could not commit; the next one starts again and remembers only
what its disk holds; they meet."""

LEASES: Final = Profile(
    "leases",
    {"cut": 2.0, "crash_after_sync": 3.0},
    every=(0.05, 0.2),
    lasts=(0.5, 1.5),
    aimed=0.0,
)
"""A server cannot hear the leader and asks all others, and these start again and again."""

ALL: Final = {
    **{name: library(profile) for name, profile in PROFILES.items()},
    "crashes": evolve(library(CRASHES), servers=(3, 1, 2)),
    "rivals": evolve(library(RIVALS), servers=(3, 5, 4, 2)),
    "disorder": evolve(library(DISORDER), servers=(3, 5)),
    "returns": evolve(library(RETURNS), servers=(3,)),
    # With many commands, who cannot hear the leader soon lacks some, and gets no vote anyway.
    "leases": evolve(library(LEASES), servers=(3,), pause=1.0),
}
"""What may be tried, by the name of the faults."""


def experiment(name: str) -> Experiment:
    """What is tried under these faults."""
    return ALL[name]
