"""A plan of what goes wrong in a simulated cluster, and how it is drawn from a seed.

A plan is data: it can be printed, edited, and shortened until nothing in it is superfluous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from attrs import field, frozen

from trioraft.testing._judge import MOMENTS
from trioraft.testing._kinds import FAULTS
from trioraft.testing._member_kinds import MEMBERS

LEADER: Final = "leader"
"""In place of a server's name: whoever leads when the fault begins."""


@frozen
class Fault:
    """One thing that goes wrong, for a while."""

    at: float
    """When it begins: virtual seconds after the cluster has formed."""
    kind: str
    """One of `FAULTS`."""
    server: str
    """Whom it befalls: a name, or "leader"."""
    others: tuple[str, ...] = ()
    """Whom else it concerns: the other ends of the links."""
    seconds: float = 0.5
    """How long it lasts; a server that died is started again after so long."""
    amount: float = 0.0
    """How bad it is, from 0 to 1."""
    moment: str | None = None
    """Begin not at `at`, but at the first such moment from then on, at the server where it comes:
    one of `MOMENTS`."""

    def __str__(self) -> str:
        when = f"from {self.at:.3f} s on" if self.moment is None else f"after {self.at:.3f} s"
        whom = self.server if self.moment is None else f"whoever comes to a {self.moment!r}"
        links = f" with {', '.join(self.others)}" if self.others else ""
        return f"{self.kind}: {whom}{links}, {when}, for {self.seconds:.3f} s"


Plan = Sequence[Fault]


@frozen
class Profile:
    """How a cluster fares: what the plan of its faults is drawn from."""

    name: str
    faults: Mapping[str, float] = field(factory=dict)
    """How often each kind comes, in proportion; none: nothing ever goes wrong."""
    every: tuple[float, float] = (0.05, 0.8)
    """Seconds from the beginning of one fault to that of the next, at least and at most."""
    lasts: tuple[float, float] = (0.05, 1.5)
    """Seconds that a fault lasts, at least and at most."""
    aimed: float = 0.3
    """The part of the faults that wait for a moment at which they hurt."""

    def draw(self, chance: Random, servers: Sequence[str], seconds: float) -> list[Fault]:
        """A plan for so many seconds."""
        plan: list[Fault] = []
        kinds, weights = list(self.faults), list(self.faults.values())
        at = chance.uniform(*self.every)
        while at < seconds and kinds:
            kind = chance.choices(kinds, weights)[0]
            plan.append(self._draw_one(chance, servers, at, kind))
            at += chance.uniform(*self.every)
        return plan

    def _draw_one(self, chance: Random, servers: Sequence[str], at: float, kind: str) -> Fault:
        shuffled = chance.sample(servers, len(servers))
        first, others = shuffled[0], tuple(shuffled[1:])
        if kind == "split":
            others = others[: chance.randrange(max(len(others), 1))]
        elif FAULTS[kind].is_of_a_pair:
            others = others[:1]
        elif not FAULTS[kind].is_of_links:
            others = ()
        return Fault(
            at=at,
            kind=kind,
            server=LEADER if chance.random() < 0.4 else first,
            others=others,
            seconds=chance.uniform(*self.lasts),
            amount=chance.random(),
            moment=chance.choice(MOMENTS) if chance.random() < self.aimed else None,
        )


CALM: Final = Profile("calm")
"""Nothing goes wrong."""

_RARE: Final = frozenset({"rot", "join"})

HARSH: Final = Profile("harsh", {kind: 0.3 if kind in _RARE else 1.0 for kind in FAULTS})
"""Everything goes wrong, several things at a time."""

_BESIDE: Final = (
    *("cut", "isolate", "split", "blackhole", "chaos", "slow", "slow_disk", "pause", "snapshot"),
    *("kill", "power", "stop", "crash_after_sync", "torn_write"),
)

COMING_AND_GOING: Final = Profile(
    "members",
    {
        **dict.fromkeys(_BESIDE, 0.6),
        **dict.fromkeys(sorted(MEMBERS), 2.0),
        "join": 1.0,
        "wipe": 2.0,
    },
    every=(0.05, 0.6),
    lasts=(0.1, 1.5),
    aimed=0.3,
)
"""Members come and go and leadership moves, while servers die and lines break."""

PROFILES: Final = {profile.name: profile for profile in (CALM, HARSH, COMING_AND_GOING)}

TIMING: Final = frozenset({"clock_rate", "clock_jump"})
"""Faults after which clocks differ by more than leases may rest on."""
