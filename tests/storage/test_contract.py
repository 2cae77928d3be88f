"""Every storage of ours passes the suite that anybody's has to pass."""

from __future__ import annotations

import random
from pathlib import Path

from trioraft._storage.disk import DiskStorage
from trioraft._storage.memory import MemoryStorage
from trioraft.testing import SimulatedFiles
from trioraft.testing._hop import SimulatedHop
from trioraft.testing._storage_suite import check_storage


async def test_memory() -> None:
    storage = MemoryStorage()
    await check_storage(lambda: storage)


async def test_disk(tmp_path: Path) -> None:
    await check_storage(lambda: DiskStorage(tmp_path / "a" / "b", segment_bytes=1 << 17))


async def test_disk_in_small_segments_of_a_simulated_disk(autojump_clock: object) -> None:
    files, chance = SimulatedFiles(), random.Random(1)

    def make() -> DiskStorage:
        return DiskStorage(
            "/data/n1",
            files=files,
            hop=lambda name: SimulatedHop(lambda: chance.random() / 1000),
            draw_salt=lambda: chance.randbytes(8),
            segment_bytes=1 << 14,
        )

    await check_storage(make)
