"""Ports for servers that are processes of their own."""

from __future__ import annotations

import socket
from contextlib import suppress
from random import SystemRandom

_BELOW = range(10_000, 30_000)
"""Below those that a system gives to whoever connects: nobody else takes one meanwhile."""


def free_ports(count: int) -> list[int]:
    """So many ports on which nobody listens."""
    found: list[int] = []
    while len(found) < count:
        port = SystemRandom().choice(_BELOW)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found
