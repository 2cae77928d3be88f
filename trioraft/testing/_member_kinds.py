"""Members that come and go, and leadership that moves, as kinds of faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trioraft.testing._kinds import FAULTS, kind

if TYPE_CHECKING:
    from trioraft.testing._mischief import Mischief
    from trioraft.testing._plan import Fault

_MOST_SERVERS: Final = 8
"""No more join: a large cluster takes long to simulate."""

_OTHERS: Final = frozenset(FAULTS)


@kind()
def _transfer(mischief: Mischief, server: str, fault: Fault) -> None:
    """The leader is asked to hand over, to a server or to any."""
    target = None if fault.amount > 0.7 else server
    mischief.cluster.admin.ask(fault.seconds, lambda leader: leader.transfer_leadership(target))


@kind()
def _remove(mischief: Mischief, server: str, fault: Fault) -> None:
    """A member is removed; it comes back later, with its disk, and nobody has asked it to."""
    if mischief.has_all_disks:
        mischief.cluster.admin.ask(fault.seconds, lambda leader: leader.remove_peer(server))


@kind()
def _add(mischief: Mischief, server: str, fault: Fault) -> None:
    """A server that was removed is taken in again, perhaps as a learner; or a member is added."""
    admin, address = mischief.cluster.admin, mischief.cluster.hosts[server].address
    if fault.amount > 0.7:
        admin.ask(fault.seconds, lambda leader: leader.add_learner(server, address))
    else:
        admin.ask(fault.seconds, lambda leader: leader.add_peer(server, address))


@kind()
def _swap(mischief: Mischief, server: str, fault: Fault) -> None:
    """The voters are others all at once: all that there are, all but one, or one more than half."""
    cluster = mischief.cluster
    names = list(cluster.names)
    if fault.amount > 0.7:
        first = names.index(server)
        names = [*names, *names][first : first + len(names) // 2 + 1]
    elif fault.amount > 0.3 and len(names) > 1:
        names.remove(server)
    wanted = {name: cluster.hosts[name].address for name in names}
    if mischief.has_all_disks:
        cluster.admin.ask(fault.seconds, lambda leader: leader.change_membership(wanted))


@kind()
def _join(mischief: Mischief, server: str, fault: Fault) -> None:
    """A server that there was not is started, and taken in."""
    if len(mischief.cluster.hosts) < _MOST_SERVERS:
        mischief.cluster.admin.take_in(mischief.cluster.join())


@kind(pair=True)
def _rehouse(mischief: Mischief, server: str, fault: Fault) -> None:
    """A server is killed and started at another address, or two at each other's."""
    other = next(iter(fault.others), None) if fault.amount > 0.5 else None
    mischief.move(fault.seconds, server, other)


MEMBERS: Final = frozenset(FAULTS) - _OTHERS
"""Those that change who belongs to the cluster, or who leads it."""
