"""What a user may supply: a state machine, a storage, a transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn, Protocol

import trio
from attrs import frozen

from trioraft._wire.frames import Entry as Entry
from trioraft._wire.frames import Kind as Kind
from trioraft._wire.frames import parse_entry as parse_entry


class StateMachine(Protocol):
    """The state that the cluster replicates.

    Its commands are applied one at a time, in the same order on every server.  What they do must
    follow from the state and the command alone: no clock, no chance, no I/O.
    """

    @property
    def commands(self) -> Sequence[type[Any]]:
        """Every command and query class that the machine understands; a class attribute will do."""
        ...

    def save(self) -> bytes:
        """The whole state as bytes, for a snapshot."""
        ...

    def recover(self, state: bytes) -> None:
        """Replace the whole state by what `save` returned, perhaps on another server."""
        ...


@frozen
class Batch:
    """What one write makes durable, whole or not at all.

    In this order: entries behind index `cut` are dropped; `entries` are appended; `state` takes
    the place of the state before it.
    """

    state: bytes | None = None
    """The server's small state (term, vote, identity, ...), opaque; None leaves it as it is."""
    cut: int | None = None
    """The last index that is kept; None keeps all."""
    entries: Sequence[bytes] = ()
    """Frames (see `parse_entry`); the first one's index follows the last one kept."""


@frozen
class Recovered:
    """What a storage holds when it is opened; all of it is durable by then."""

    state: bytes | None = None
    """The newest state written; None in a new storage."""
    terms: tuple[tuple[int, int], ...] = ()
    """The log as runs, (first index, term) each; empty for an empty log."""
    last_index: int = 0
    """The index of the last entry; 0 for an empty log."""
    configurations: tuple[bytes, ...] = ()
    """The frames of kind `Kind.CONFIGURATION` in the log, oldest first."""


class Storage(Protocol):
    """Where a server keeps its log and state.  `trioraft.testing.check_storage` tests one.

    One server uses it, opens it once and closes it once.  `write` is called by one task at a time;
    `read` may run beside it.
    """

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

        Empty if the log ends before `first`.

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
