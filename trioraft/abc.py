"""What a user may supply: a state machine, a storage, a transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, BinaryIO, NoReturn, Protocol, TypeVar

import trio
from attrs import frozen

from trioraft._wire.frames import Entry as Entry
from trioraft._wire.frames import Kind as Kind
from trioraft._wire.frames import parse_entry as parse_entry

T = TypeVar("T")


class StateMachine(Protocol):
    """The state that the cluster replicates.

    Its commands are applied one at a time, in the same order on every server.  What they do must
    follow from the state and the command alone: no clock, no chance, no I/O.
    """

    @property
    def commands(self) -> Sequence[type[Any]]:
        """Every command and query class that the machine understands; a class attribute will do."""
        ...

    def save(self) -> bytes | SavedState:
        """The whole state, for a snapshot: as bytes, or as an object that writes them later.

        It is called in the event loop, and nothing else happens meanwhile, so a large state should
        be captured quickly (a copy that shares what does not change) and written later.
        """
        ...

    def recover(self, state: bytes) -> None:
        """Replace the whole state by what `save` gave, perhaps on another server.

        A machine whose state is large may have `recover_from(self, file)` instead, which reads the
        same bytes from a binary file, piece by piece.  It runs in a thread; nobody asks the machine
        anything meanwhile.
        """
        ...


class SavedState(Protocol):
    """A state that was captured, and that no later command changes."""

    def write(self, file: BinaryIO, /) -> None:
        """Write the state, piece by piece; in a thread, while commands go on."""
        ...


@frozen
class Batch:
    """What one write makes durable, whole or not at all.

    In this order: entries behind index `cut` are dropped; entries up to `base` are dropped;
    `entries` are appended; `state` takes the place of the state before it.
    """

    state: bytes | None = None
    """The server's small state (term, vote, identity, ...), opaque; None leaves it as it is."""
    cut: int | None = None
    """The last index that is kept; None keeps all."""
    entries: Sequence[bytes] = ()
    """Frames (see `parse_entry`); the first one's index follows the last one kept."""
    base: tuple[int, int] | None = None
    """Index and term of an entry that a snapshot holds: from now on the log begins behind it, and
    a log that ends before it goes on behind it.  It never falls; None leaves it where it is."""


@frozen
class Recovered:
    """What a storage holds when it is opened; all of it is durable by then."""

    state: bytes | None = None
    """The newest state written; None in a new storage."""
    terms: tuple[tuple[int, int], ...] = ()
    """The log as runs, (first index, term) each, from the entry behind `base` on; empty for an
    empty log."""
    last_index: int = 0
    """The index of the last entry; that of `base` for an empty log."""
    configurations: tuple[bytes, ...] = ()
    """The frames of kind `Kind.CONFIGURATION` in the log behind `base`, oldest first."""
    base: tuple[int, int] = (0, 0)
    """Index and term of the entry behind which the log begins; zeros if it holds all entries."""


@frozen(order=True)
class SnapshotId:
    """The last entry that a snapshot holds."""

    index: int
    term: int


Check = Callable[[BinaryIO], None]
"""Reads a whole snapshot, and raises if it is not what it should be."""


class SnapshotStore(Protocol):
    """Where a server keeps its snapshots: a few large files of bytes, each whole or not there.

    It is usable while its `Storage` is open.  No call waits for the log's, nor holds it up: these
    take long.  One task at a time saves, takes in, accepts and removes; others may list, load and
    read meanwhile.  What blocks happens in a thread.

    Every method raises `StorageError` if it is not open or the medium fails.  A failed call leaves
    nothing half done that anybody would take for whole, and a later call may succeed.
    """

    async def list(self) -> Sequence[SnapshotId]:
        """All that are whole, oldest first.  What a crash or a failure left behind is removed."""
        ...

    async def save(
        self, snapshot: SnapshotId, write: Callable[[BinaryIO], None], check: Check
    ) -> None:
        """Have `write` fill a new snapshot, read it back with `check`, and make it durable.

        Not before all of its bytes are durable does it have its name; on return the name is
        durable, too.  One of the same name is replaced.  What `write` or `check` raises comes out.

        A caller that is cancelled does not wait: `write`'s file then raises at its next call.
        """
        ...

    async def load(self, snapshot: SnapshotId, read: Callable[[BinaryIO], T]) -> T:
        """Call `read` in a thread with the snapshot as a file, and return what it returns.

        Cancelled like `save`.
        """
        ...

    async def read(self, snapshot: SnapshotId, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; fewer at its end."""
        ...

    async def take_in(self, offset: int, data: bytes) -> None:
        """Put a piece of a snapshot that comes from elsewhere behind the first `offset` bytes.

        There is at most one such; offset 0 begins it anew.
        """
        ...

    async def accept(self, snapshot: SnapshotId, check: Check) -> None:
        """What was taken in is complete: the rest is as with `save`."""
        ...

    async def remove(self, snapshot: SnapshotId) -> None:
        """Forget one; it need not be there.  Who reads it meanwhile may fail."""
        ...


class Storage(Protocol):
    """Where a server keeps its log and state.  `trioraft.testing.check_storage` tests one.

    One server uses it, opens it once and closes it once.  `write` is called by one task at a time;
    `read` may run beside it.
    """

    @property
    def snapshots(self) -> SnapshotStore:
        """Where the snapshots are, without which the log can't be compacted; always the same."""
        ...

    async def open(self) -> Recovered:
        """Recover what was written.

        Raises:
            StorageLocked: somebody else has it open.
            StorageCorrupt: what had been durable is damaged.
            StorageError: the medium failed.
        """
        ...

    async def write(self, batch: Batch) -> None:
        """Make the batch durable; on return no crash and no power cut undoes it.

        Not cut short by cancellation: whoever cancels waits for the write in flight, and a write
        that is cancelled before it begins does nothing.

        Raises:
            StorageError: the storage is not open, or the medium failed.  Whether the batch is
                there after the next `open` is open; every later write raises too.
        """
        ...

    async def read(self, first: int, max_bytes: int) -> Sequence[bytes]:
        """The frames from index `first` on that fit in `max_bytes`, but at least one.

        Empty if the log does not hold entry `first`: it ends before it, or begins behind it.

        Raises:
            StorageCorrupt: what is there is damaged.
            StorageError: the storage is not open, or the medium failed.
        """
        ...

    async def aclose(self) -> None:
        """Let go of everything; the next `open` may come at once, from another process too.

        Raises:
            StorageError: the medium failed at the end; everything was let go of all the same.
        """
        ...


Connection = trio.abc.Channel[bytes]
"""A persistent stream of whole messages, in order, both ways.

`send` and `receive` raise `trio.BrokenResourceError` when the other side is gone or broke the
transport's rules, `trio.ClosedResourceError` after an own `aclose`; `receive` raises
`trio.EndOfChannel` when the other side closed in good order.  A message that is too large is a
`ValueError`, and the connection lives on.  A cancelled `send` leaves the connection unusable.
`aclose` never waits for the other side; leaving by an exception or a cancellation need not look
like good order there.
"""


class Transport(Protocol):
    """How servers reach each other.  `trioraft.testing.check_transport` tests one."""

    @property
    def address(self) -> str:
        """Where this server listens, in the form that `connect` takes."""
        ...

    def check_address(self, address: str) -> None:
        """See that `connect` could take the address; reaches for nothing.

        Raises:
            ValueError: it can't; the message names the address.
        """
        ...

    async def listen(
        self,
        handler: Callable[[Connection], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Run `handler` for each connection that comes in, in a task of its own, until cancelled.

        Calls `task_status.started()` once the address can be reached.  The connection is closed
        when its handler returns.  What a stranger sends never raises out of here; what `handler`
        raises does, perhaps in a group.

        Raises:
            OSError: the address can't be listened on.
        """
        ...

    def connect(self, address: str) -> AbstractAsyncContextManager[Connection]:
        """Open a connection; it is closed when the context is left.

        What the body of the context raises comes out bare, in no group.

        Raises:
            OSError: nobody answers there.
            ProtocolError: somebody answers who is no trioraft server of this protocol version.
            ValueError: the address can't be read.
        """
        ...
