"""Everything that can go wrong: each kind of fault begins at once, and may leave an undoing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio
from attrs import frozen

from trioraft.testing import _disk

if TYPE_CHECKING:
    from trioraft.testing._mischief import Mischief
    from trioraft.testing._plan import Fault

Undo = Callable[[], None]
Begin = Callable[["Mischief", str, "Fault"], "Undo | None"]


@frozen
class Kind:
    """How a fault begins, and whom it concerns."""

    begin: Begin
    is_of_links: bool = False
    """It befalls links from and to a server, to all others unless the plan says which."""
    is_of_a_pair: bool = False
    """It befalls two servers."""


FAULTS: dict[str, Kind] = {}
"""What can go wrong, by name."""


B = TypeVar("B", bound=Begin)


def kind(*, links: bool = False, pair: bool = False) -> Callable[[B], B]:
    """Let it be one of `FAULTS`, by the function's name."""

    def register(begin: B) -> B:
        FAULTS[begin.__name__.strip("_")] = Kind(begin, links, pair)
        return begin

    return register


@kind(links=True, pair=True)
def _reset(mischief: Mischief, server: str, fault: Fault) -> None:
    """The connections of two servers break once."""
    for other in fault.others:
        mischief.cluster.reset(server, other)


@kind(links=True, pair=True)
def _cut(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """Two servers are cut off each other, and are told."""
    for other in fault.others:
        mischief.cluster.cut(server, other)
    return mischief.healing(server, fault.others)


@kind(links=True)
def _isolate(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """One server is cut off all others, and all are told."""
    return _cut(mischief, server, fault)


@kind(links=True)
def _split(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """The cluster is split in two."""
    here = {server, *fault.others}
    there = [name for name in mischief.cluster.names if name not in here]
    mischief.cluster.split(sorted(here), there)
    return mischief.healing_all(sorted(here), there)


@kind(links=True)
def _chain(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """A partial partition: each server sees its two neighbours in a row, and nobody else."""
    row = [server, *fault.others]
    apart = [(row[a], row[b]) for a in range(len(row)) for b in range(a + 2, len(row))]
    for one, other in apart:
        mischief.cluster.cut(one, other)

    def undo() -> None:
        for one, other in apart:
            mischief.cluster.heal(one, other)

    return undo


@kind(links=True, pair=True)
def _silence(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """What one server sends to another is lost, and nobody is told: one way only."""
    for other in fault.others:
        mischief.cluster.silence(server, other)
    return mischief.healing(server, fault.others)


@kind(links=True)
def _mute(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """A server hears all and is heard by nobody."""
    return _silence(mischief, server, fault)


@kind(links=True)
def _deaf(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """A server is heard by all and hears nobody."""
    for other in fault.others:
        mischief.cluster.silence(other, server)
    return mischief.healing(server, fault.others)


@kind(links=True)
def _blackhole(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """A server is cut off all others, and nobody is told: half-open connections."""
    _deaf(mischief, server, fault)
    return _silence(mischief, server, fault)


@kind(links=True)
def _slow(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """Messages from and to a server take long, each another time."""
    for source, destination in mischief.links(server, fault.others):
        mischief.cluster.slow(source, destination, 0.0, 0.4 * fault.amount)
    return mischief.healing(server, fault.others)


@kind(links=True, pair=True)
def _clog(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """Nothing gets from one server to another for a while; then all of it, at once."""
    end = trio.current_time() + fault.seconds
    for other in fault.others:
        mischief.cluster.network.delay(
            mischief.cluster.hosts[server].address,
            mischief.cluster.hosts[other].address,
            lambda: max(0.001, end - trio.current_time()),
        )
    return mischief.healing(server, fault.others)


@kind(links=True)
def _throttle(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """The lines of a server carry little."""
    for source, destination in mischief.links(server, fault.others):
        mischief.cluster.throttle(source, destination, 2_000 + 20_000 * fault.amount)
    return mischief.healing(server, fault.others)


@kind(links=True)
def _lose(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """Single messages are lost, and the connections live on."""
    return mischief.disordering(server, fault, lose=0.5 * fault.amount)


@kind(links=True)
def _repeat(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """Messages arrive twice."""
    return mischief.disordering(server, fault, repeat=fault.amount)


@kind(links=True)
def _reorder(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """Messages overtake each other."""
    return mischief.disordering(server, fault, reorder=fault.amount)


@kind(links=True)
def _chaos(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """Messages are lost, arrive twice, and overtake each other."""
    some = fault.amount / 2
    return mischief.disordering(server, fault, lose=some / 2, repeat=some, reorder=some)


@kind(links=True, pair=True)
def _flap(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """A link comes and goes, every 60 ms."""

    def go() -> None:
        _cut(mischief, server, fault)
        mischief.later(0.03, mischief.healing(server, fault.others))

    for step in range(1 + int(fault.seconds / 0.06)):
        mischief.later(0.06 * step, go)
    return mischief.healing(server, fault.others)


@kind()
def _kill(mischief: Mischief, server: str, fault: Fault) -> None:
    """A process is killed and started again."""
    mischief.cluster.kill(server)
    mischief.start_after(server, fault.seconds)


@kind()
def _power(mischief: Mischief, server: str, fault: Fault) -> None:
    """A machine loses its power, and whatever it had not synced."""
    mischief.cluster.power_off(server)
    mischief.start_after(server, fault.seconds)


@kind()
def _blackout(mischief: Mischief, server: str, fault: Fault) -> None:
    """All machines lose their power at once."""
    mischief.cluster.power_off()
    for name in mischief.cluster.names:
        mischief.start_after(name, fault.seconds)


@kind()
def _stop(mischief: Mischief, server: str, fault: Fault) -> None:
    """A server is stopped in good order and started again."""
    mischief.cluster.stop(server)
    mischief.start_after(server, fault.seconds)


@kind()
def _rolling(mischief: Mischief, server: str, fault: Fault) -> None:
    """All servers are restarted in good order, one behind the other."""

    def restart(name: str) -> None:
        mischief.cluster.stop(name)
        mischief.start_after(name, 0.05)

    for number, name in enumerate(mischief.cluster.names):
        mischief.later(fault.seconds * number, partial(restart, name))


@kind()
def _crash_before_sync(mischief: Mischief, server: str, fault: Fault) -> None:
    """A process is killed when it is about to sync."""
    mischief.break_disk(server, "fdatasync", _disk.DiskFault.CRASH_BEFORE, loses=fault.amount > 0.5)


@kind()
def _crash_after_sync(mischief: Mischief, server: str, fault: Fault) -> None:
    """A process is killed when something is on its disk and nobody knows yet."""
    mischief.break_disk(server, "fdatasync", _disk.DiskFault.CRASH_AFTER, loses=fault.amount > 0.5)


@kind()
def _torn_write(mischief: Mischief, server: str, fault: Fault) -> None:
    """A process is killed in the middle of a write."""
    mischief.break_disk(server, "pwrite", _disk.DiskFault.TORN, loses=fault.amount > 0.5)


@kind()
def _short_write(mischief: Mischief, server: str, fault: Fault) -> None:
    """The disk takes only a part of what it is given."""
    mischief.break_disk(server, "pwrite", _disk.DiskFault.SHORT)


@kind()
def _broken_sync(mischief: Mischief, server: str, fault: Fault) -> None:
    """A sync fails, and what it was to write is lost though it can still be read."""
    mischief.break_disk(server, "fdatasync", _disk.DiskFault.BROKEN, loses=fault.amount > 0.5)


@kind()
def _broken_write(mischief: Mischief, server: str, fault: Fault) -> None:
    """A write fails."""
    mischief.break_disk(server, "pwrite", _disk.DiskFault.BROKEN)


@kind()
def _full_disk(mischief: Mischief, server: str, fault: Fault) -> None:
    """The disk is full for one write; when the server is started again there is room."""
    mischief.break_disk(server, "pwrite", _disk.DiskFault.FULL)


@kind()
def _slow_disk(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """Every call of a disk takes long."""
    host = mischief.cluster.hosts[server]
    host.disk_seconds = (0.0, 0.3 * fault.amount)

    def undo() -> None:
        host.disk_seconds = mischief.cluster.disk_seconds

    return undo


@kind()
def _snapshot(mischief: Mischief, server: str, fault: Fault) -> None:
    """A server is asked for a snapshot, and so forgets what others may still lack."""
    mischief.cluster.take_snapshot(server)


@kind()
def _spoil(mischief: Mischief, server: str, fault: Fault) -> None:
    """A bit turns in the next piece of a snapshot that comes to a server."""
    mischief.cluster.spoil(server)


@kind()
def _pause(mischief: Mischief, server: str, fault: Fault) -> None:
    """A process is stopped for a while, as by SIGSTOP."""
    mischief.cluster.pause(server, fault.seconds)


@kind()
def _clock_rate(mischief: Mischief, server: str, fault: Fault) -> Undo:
    """A clock runs at up to four times its speed, or down to a quarter of it."""
    clock = mischief.cluster.hosts[server].clock
    clock.set_rate(4.0 ** (2 * fault.amount - 1))
    return lambda: clock.set_rate(1.0)


@kind()
def _clock_jump(mischief: Mischief, server: str, fault: Fault) -> None:
    """A clock is later all at once."""
    mischief.cluster.hosts[server].clock.jump(5 * fault.amount)


@kind()
def _wall_clock(mischief: Mischief, server: str, fault: Fault) -> None:
    """Somebody sets the wall clock, an hour back or forth at most."""
    mischief.cluster.hosts[server].clock.set_wall(7200 * (fault.amount - 0.5))


@kind()
def _rot(mischief: Mischief, server: str, fault: Fault) -> None:
    """A bit turns on a disk while its server is down."""
    mischief.lose_disk(server, fault.seconds, mischief.cluster.rot)


@kind()
def _wipe(mischief: Mischief, server: str, fault: Fault) -> None:
    """A disk is replaced by an empty one, and its server is taken in anew."""
    if mischief.lose_disk(server, fault.seconds, mischief.cluster.wipe):
        mischief.later(fault.seconds + 0.1, lambda: mischief.cluster.admin.take_in(server))
