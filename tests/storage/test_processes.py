"""Real processes: one is killed while it writes, one finds the directory in use."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.storage.course import ALL
from trioraft._errors import StorageLocked
from trioraft._storage.disk import DiskStorage
from trioraft.abc import parse_entry

pytestmark = pytest.mark.processes

WRITER = """
import sys, trio
from trioraft._storage.disk import DiskStorage
from trioraft._wire.frames import Kind, frame
from trioraft.abc import Batch

async def main():
    storage = DiskStorage(sys.argv[1], segment_bytes=1 << 16)
    index = (await storage.open()).last_index
    print(index, flush=True)
    while True:
        count = index % 7 + 1
        numbers = range(index + 1, index + count + 1)
        frames = [frame(n, 1, Kind.COMMAND, b"%d" % n * (n % 300)) for n in numbers]
        await storage.write(Batch(b"%d" % (index + count), None, frames))
        index += count
        print(index, flush=True)

trio.run(main)
"""


@contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


async def test_killed_while_writing(tmp_path: Path) -> None:
    acked = 0
    for life in range(4):
        with writer(tmp_path / "data") as process:
            assert process.stdout is not None
            began = int(process.stdout.readline())
            assert began >= acked
            for _ in range(40 + 13 * life):
                acked = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            for line in process.stdout:  # what it had said before it died
                acked = int(line) if line.endswith(b"\n") else acked
    storage = DiskStorage(tmp_path / "data")
    recovered = await storage.open()
    assert recovered.last_index >= acked > 300
    assert recovered.state == b"%d" % recovered.last_index
    frames = await storage.read(1, ALL)
    assert len(frames) == recovered.last_index
    for number, entry in enumerate(map(parse_entry, frames), start=1):
        assert entry.payload == b"%d" % number * (number % 300)
    await storage.aclose()


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        storage = DiskStorage(tmp_path)
        with pytest.raises(StorageLocked):
            await storage.open()
    await storage.open()
    await storage.aclose()
