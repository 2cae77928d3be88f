"""What every storage asks of a batch before it touches anything."""

from __future__ import annotations

from trioraft._wire.frames import identity
from trioraft.abc import Batch


def check_follows(batch: Batch, last_index: int) -> None:
    """See that the batch fits a log that ends at `last_index`.

    Raises:
        ValueError: it cuts what is not there, or its entries leave a gap.
    """
    kept = last_index if batch.cut is None else batch.cut
    if not 0 <= kept <= last_index:
        raise ValueError(f"a cut behind {kept} in a log that ends at {last_index}")
    if batch.entries:
        first, last = identity(batch.entries[0])[0], identity(batch.entries[-1])[0]
        if (first, last) != (kept + 1, kept + len(batch.entries)):
            raise ValueError(f"entries {first} to {last} do not follow entry {kept}")
