"""Checks of the storage suite: the snapshots beside the log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import BinaryIO, Final

import trio

from trioraft._errors import StorageError
from trioraft.abc import Batch, SnapshotId, SnapshotStore
from trioraft.testing._storage_model import ALL, Make, entries, opened, run

_LARGE: Final = 3 << 20


class _Refused(Exception):
    """What a check of these checks raises."""


def _some(one: SnapshotId, size: int = 1000) -> bytes:
    return (b"%d in %d " % (one.index, one.term)).ljust(size, b".")


def _writes(whole: bytes) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.writelines(whole[offset : offset + 99_999] for offset in range(0, len(whole), 99_999))

    return write


def _expects(whole: bytes) -> Callable[[BinaryIO], None]:
    def check(file: BinaryIO) -> None:
        assert file.read(5) == whole[:5], "this is not what was written"
        assert file.read() == whole[5:], "this is not what was written"

    return check


def _refuses(file: BinaryIO) -> None:
    raise _Refused(len(file.read()))


async def _save(store: SnapshotStore, one: SnapshotId, whole: bytes) -> None:
    await store.save(one, _writes(whole), _expects(whole))


async def _has(store: SnapshotStore, *ids: SnapshotId) -> None:
    assert list(await store.list()) == sorted(ids), "other snapshots are listed"


async def _clear(store: SnapshotStore) -> None:
    for one in await store.list():
        await store.remove(one)
    await _has(store)


async def _snapshots_are_there_after_an_open(make: Make) -> None:
    """What was saved is listed by index and term as numbers, and comes back as it was."""
    ids = [SnapshotId(*pair) for pair in ((10, 1), (9, 10), (9, 9), (100, 1), (2, 3))]
    async with opened(make) as (storage, recovered):
        assert storage.snapshots is storage.snapshots
        if not recovered.base[0]:
            await _has(storage.snapshots)
        for one in ids:
            await _save(storage.snapshots, one, _some(one))
        await _has(storage.snapshots, *ids)
    async with opened(make) as (storage, _):
        await _has(storage.snapshots, *ids)
        for one in ids:
            whole = await storage.snapshots.load(one, lambda file: file.read())
            assert whole == _some(one), "this is not what was saved"
        await storage.snapshots.remove(ids[0])
        await storage.snapshots.remove(ids[0])
        await _has(storage.snapshots, *ids[1:])
        await _clear(storage.snapshots)


async def _snapshots_are_read_in_pieces(make: Make) -> None:
    """Any piece of a large one can be read, and the last ones are shorter."""
    one = SnapshotId(7, 2)
    whole = bytes(range(256)) * (_LARGE // 256)
    async with opened(make) as (storage, _):
        await _save(storage.snapshots, one, whole)
        for offset, size in ((0, 10), (9999, 70_000), (_LARGE - 5, 5), (_LARGE - 5, 9)):
            piece = await storage.snapshots.read(one, offset, size)
            assert piece == whole[offset : offset + size]
        assert await storage.snapshots.read(one, _LARGE, 9) == b""
        assert await storage.snapshots.read(one, _LARGE + 9, 9) == b""
        await _clear(storage.snapshots)
        for call in (storage.snapshots.read(one, 0, 1), storage.snapshots.load(one, _refuses)):
            try:
                await call
            except StorageError:
                continue
            raise AssertionError("there is no such snapshot, and it was read")


async def _a_snapshot_is_replaced_by_one_of_the_same_name(make: Make) -> None:
    """The newer one counts; one that fails leaves the older one alone."""
    one = SnapshotId(3, 1)
    async with opened(make) as (storage, _):
        await _save(storage.snapshots, one, b"the older, longer one")
        await _save(storage.snapshots, one, b"the newer one")
        await _fails(storage.snapshots, one)
    async with opened(make) as (storage, _):
        await storage.snapshots.load(one, _expects(b"the newer one"))
        await _clear(storage.snapshots)


async def _fails(store: SnapshotStore, one: SnapshotId) -> None:
    """See that what `write` or `check` raises comes out."""

    def write(file: BinaryIO) -> None:
        file.write(b"some of it")
        raise _Refused

    for writes, check in ((write, _expects(b"")), (_writes(b"all of it"), _refuses)):
        try:
            await store.save(one, writes, check)
        except _Refused:
            continue
        raise AssertionError("a snapshot failed, and nobody said so")


async def _a_snapshot_that_fails_leaves_nothing(make: Make) -> None:
    """Neither in the list nor for the next one, which succeeds."""
    one, two = SnapshotId(1, 1), SnapshotId(2, 1)
    async with opened(make) as (storage, _):
        await _fails(storage.snapshots, one)
        await _has(storage.snapshots)
        await _save(storage.snapshots, two, b"two")
        await _fails(storage.snapshots, one)
        await _has(storage.snapshots, two)
    async with opened(make) as (storage, _):
        await _has(storage.snapshots, two)
        await _save(storage.snapshots, one, b"one")
        await _has(storage.snapshots, one, two)
        await _clear(storage.snapshots)


async def _a_snapshot_from_elsewhere(make: Make) -> None:
    """It comes in pieces, may be begun anew, and counts once it is accepted."""
    one, two = SnapshotId(4, 1), SnapshotId(5, 1)
    whole = _some(one, 10_000)
    async with opened(make) as (storage, _):
        store = storage.snapshots
        await store.take_in(0, b"of another one, and longer than the first piece" * 100)
        for offset in range(0, len(whole), 3000):
            await store.take_in(offset, whole[offset : offset + 3000])
        await store.take_in(5000, b"this comes once more")
        await store.take_in(5000, whole[5000:])
        await _has(store)
        await _refused(store.take_in(len(whole) + 1, b"a gap"))
        await store.accept(one, _expects(whole))
        await _has(store, one)
        await _refused(store.accept(two, _expects(whole)))
        await store.take_in(0, b"two")
        try:
            await store.accept(two, _refuses)
        except _Refused:
            await _has(store, one)
        else:
            raise AssertionError("a snapshot was refused, and accepted")
        await store.take_in(0, b"some")
    async with opened(make) as (storage, _):
        await _has(storage.snapshots, one)
        await storage.snapshots.load(one, _expects(whole))
        await _refused(storage.snapshots.take_in(4, b"more"))
        await _clear(storage.snapshots)


async def _refused(call: Awaitable[None]) -> None:
    try:
        await call
    except ValueError:
        return
    raise AssertionError("what was taken in does not allow that")


async def _snapshots_hold_up_nobody(make: Make) -> None:
    """The log is written and read while snapshots are, and what is cancelled leaves nothing."""
    one, two = SnapshotId(1, 1), SnapshotId(2, 1)
    first = (await run(make)).last + 1
    async with opened(make) as (storage, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_save, storage.snapshots, one, bytes(_LARGE))
            for index in range(first, first + 30):
                await storage.write(Batch(None, None, entries(index, 1)))
                assert len(await storage.read(first, ALL)) == index - first + 1
        with trio.CancelScope() as scope:
            scope.cancel()
            await _save(storage.snapshots, two, bytes(_LARGE))
        assert scope.cancelled_caught
        await _has(storage.snapshots, one)
        await _save(storage.snapshots, two, b"two")
        await _has(storage.snapshots, one, two)
        await _clear(storage.snapshots)


async def _snapshots_are_closed_with_their_storage(make: Make) -> None:
    """Before `open` and after `aclose` nothing can be done."""
    storage = make()
    for _ in range(2):
        try:
            await storage.snapshots.list()
        except StorageError:
            pass
        else:
            raise AssertionError("it is not open, and lists snapshots")
        await storage.open()
        await _has(storage.snapshots)
        await storage.aclose()


SNAPSHOT_CHECKS: Final[list[Callable[[Make], Awaitable[None]]]] = [
    _snapshots_are_there_after_an_open,
    _snapshots_are_read_in_pieces,
    _a_snapshot_is_replaced_by_one_of_the_same_name,
    _a_snapshot_that_fails_leaves_nothing,
    _a_snapshot_from_elsewhere,
    _snapshots_hold_up_nobody,
    _snapshots_are_closed_with_their_storage,
]
