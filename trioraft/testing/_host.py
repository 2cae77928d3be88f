"""One machine of the simulation, on which one server process runs after the other."""

from __future__ import annotations

from random import Random
from typing import Final

import trio

from trioraft._server import Server
from trioraft._storage.disk import DiskStorage
from trioraft.testing._clock import SimulatedClock
from trioraft.testing._disk import SimulatedFiles
from trioraft.testing._hop import SimulatedHop

SEGMENT_BYTES: Final = 1 << 16
"""How large segments are here: so small that a run sees many of them."""


class SimulatedHost:
    """One machine: its disk and its clock outlive the server processes that run on it."""

    def __init__(self, name: str, address: str, seed: int) -> None:
        self.name = name
        self.address = address
        self.chance = Random(f"{seed} host {name}")
        self.clock = SimulatedClock(offset=self.chance.uniform(0, 1e5))
        self.files = SimulatedFiles()
        self.disk_seconds = (0.0002, 0.001)
        """What a call of the disk takes, at least and at most."""
        self.server: Server | None = None
        self.lost: str | None = None
        """Why nothing may be expected of this machine: its disk was wiped or is rotten."""
        self.is_wiped = False
        """Whether it was wiped, and is yet to be taken in anew; until then it is lost."""
        self.excused = False
        """Whether the disk was told to fail, so that the server may end with a `StorageError`."""
        self.paused_until = 0.0
        self.moves = 0
        """How many addresses it has had besides its first one."""
        self.lives = 0
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.ended.set()
        self.loses_power = False
        self.falls_with_power = False
        """Whether a fault of the disk that ends the server is a power cut."""
        self.dies = False
        self._hops: list[SimulatedHop] = []

    @property
    def up(self) -> bool:
        """Whether a server process is there, be it paused."""
        return not self.ended.is_set()

    @property
    def runs(self) -> bool:
        """Whether the server is there, not paused, and not being killed."""
        return self.up and not self.dies and trio.current_time() >= self.paused_until

    @property
    def is_given_up(self) -> bool:
        """Whether nothing will be expected of this machine ever again."""
        return self.lost is not None and not self.is_wiped

    def storage(self) -> DiskStorage:
        """The real segment log on this machine's simulated disk."""
        self._hops.clear()
        return DiskStorage(
            f"/{self.name}",
            files=self.files,
            hop=self._new_hop,
            draw_salt=lambda: self.chance.randbytes(8),
            segment_bytes=SEGMENT_BYTES,
        )

    def _new_hop(self, _: str) -> SimulatedHop:
        hop = SimulatedHop(lambda: self.chance.uniform(*self.disk_seconds))
        self._hops.append(hop)
        return hop

    def move(self, other: SimulatedHost | None) -> None:
        """Have another address, or that of another machine, which gets this one's."""
        assert not self.up, "a server moves while it is down"
        if other is None:
            self.moves += 1
            self.address = f"ws://{self.name}:{7000 + self.moves}"
        else:
            assert not other.up, "a server moves while it is down"
            self.address, other.address = other.address, self.address

    def freeze(self, until: float) -> None:
        """Stop the process until that instant."""
        self.paused_until = until
        self.clock.freeze(until)
        for hop in self._hops:
            hop.freeze(until)

    def die(self) -> None:
        """Kill the process, in the middle of whatever it does."""
        self.dies = True
        self.files.go_down()
        self.scope.cancel()
        for hop in self._hops:
            hop.hurry()

    def fell_to_a_fault(self) -> None:
        """The process has ended by a fault of its disk, unless it was being killed anyway."""
        if not self.dies:
            self.loses_power = self.falls_with_power

    def buried(self) -> None:
        """The process is gone: what has it left on the disk?"""
        if self.loses_power:
            self.files.crash(self.chance)
        else:
            self.files.kill()
        self.files.mend()
        self.loses_power = self.falls_with_power = self.dies = False
        self.excused = self.lost is not None
        self.freeze(0.0)
        self.ended.set()
