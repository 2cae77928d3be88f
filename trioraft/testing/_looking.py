"""How the servers of a simulated cluster are, as its tests look at them."""

from __future__ import annotations

from collections.abc import Iterable

from trioraft._server import Server
from trioraft.testing._host import SimulatedHost


def agree(hosts: Iterable[SimulatedHost], leader: Server | None) -> bool:
    """Whether all whose disks are whole follow this leader, and have applied all of its log."""
    if leader is None:
        return False
    end = leader.status().last_index
    return all(
        host.runs
        and host.server is not None
        and host.server.leader == leader.name
        and host.server.last_applied == end
        for host in hosts
        if not host.lost
    )


def described(hosts: Iterable[SimulatedHost]) -> str:
    """Every server in a line."""
    lines = []
    for host in hosts:
        how = host.lost or ("paused" if host.up and not host.runs else "up")
        state = "down" if host.server is None or not host.up else str(host.server.status())
        lines.append(f"{host.name}: {how if host.up or host.lost else ''} {state}")
    return "\n".join(lines)
