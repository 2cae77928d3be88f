"""What every storage asks of a batch before it touches anything."""

from __future__ import annotations

from trioraft._wire.frames import identity
from trioraft.abc import Batch


def check_follows(batch: Batch, base: tuple[int, int], last_index: int) -> None:
    """See that the batch fits a log that begins behind `base` and ends at `last_index`.

    Raises:
        ValueError: it cuts what is not there, moves the base back, or its entries leave a gap.
    """
    kept = last_index if batch.cut is None else batch.cut
    if not base[0] <= kept <= last_index:
        begin = f" begins behind {base[0]} and" if base[0] else ""
        raise ValueError(f"a cut behind {kept} in a log that{begin} ends at {last_index}")
    if batch.base is not None:
        check_base(batch.base, base)
        kept = max(kept, batch.base[0])
    if batch.entries:
        first, last = identity(batch.entries[0])[0], identity(batch.entries[-1])[0]
        if (first, last) != (kept + 1, kept + len(batch.entries)):
            raise ValueError(f"entries {first} to {last} do not follow entry {kept}")


def check_base(base: tuple[int, int], present: tuple[int, int]) -> None:
    """See that the base may move there.

    Raises:
        ValueError: it would fall, or have another term at the same index.
    """
    if base[0] < present[0] or (base[0] == present[0] and base != present):
        raise ValueError(f"a base at {base} in a log that begins behind {present}")
