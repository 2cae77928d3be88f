"""A machine's whole state as bytes, however the machine likes to write and read it."""

from __future__ import annotations

import io
from typing import Any


def state_of(machine: Any) -> bytes:
    """What its `save` gives, written out."""
    saved = machine.save()
    if isinstance(saved, bytes):
        return saved
    file = io.BytesIO()
    saved.write(file)
    return file.getvalue()


def bring_back(machine: Any, state: bytes) -> None:
    """Let it be what the bytes say, in the way that a server would choose."""
    recover_from = getattr(machine, "recover_from", None)
    if recover_from is None:
        machine.recover(state)
    else:
        recover_from(io.BufferedReader(io.BytesIO(state)))
