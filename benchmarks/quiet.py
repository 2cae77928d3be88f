"""Whether this machine has something else to do."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Final

import trio

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_QUIET: Final = 0.15
"""Cores that are busy on a machine that has nothing to do."""
_LOOK: Final = 0.5
"""Seconds."""


def busy_seconds() -> float:
    """CPU time that this machine has spent on anything since it was started."""
    first = Path("/proc/stat").read_text().split("\n", 1)[0]
    user, nice, system, idle, waiting, *others = map(int, first.split()[1:9])
    del idle, waiting
    return (user + nice + system + sum(others)) / _TICKS


def own_seconds() -> float:
    """What this process has used, and all of its children that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


async def quiet() -> None:
    """Come back once this machine has nothing to do; bound it from outside."""
    while True:
        began, busy = time.perf_counter(), busy_seconds()
        await trio.sleep(_LOOK)
        if (busy_seconds() - busy) / (time.perf_counter() - began) < _QUIET:
            return


class Others:
    """How busy others have kept this machine, while children were started and have ended."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._busy, self._own = busy_seconds(), own_seconds()

    def cores(self) -> float:
        """So many cores on average, from the beginning on."""
        others = busy_seconds() - self._busy - (own_seconds() - self._own)
        return max(0.0, others / (time.perf_counter() - self._began))
