"""One class of error per boundary, named by whose fault it is and what is known of the command."""

from __future__ import annotations

from typing import Literal

Outcome = Literal["done", "not done", "unknown"]


class TrioraftError(Exception):
    """Every error of this library.

    `outcome` says what is known of the command that was asked for; None: it is about none.
    """

    outcome: Outcome | None = None


class CommandError(TrioraftError):
    """A command has no result.  `outcome` says what its caller may conclude.

    `"not done"`: it surely did not and will not happen.  `"unknown"`: it may have happened, or
    may yet happen.  `"done"`: it happened, and its apply raised.
    """

    outcome: Outcome


class NotLeaderError(CommandError):
    """The server asked does not lead.  Nothing was written: try the server that is named.

    Attributes:
        leader: the leader's name, or None while there is none that this server knows.
        address: where the leader listens, or None.
        term: the term of the server asked.
    """

    outcome: Outcome = "not done"

    def __init__(self, leader: str | None, address: str | None, term: int) -> None:
        where = f"{leader} at {address} leads" if leader is not None else "no leader is known"
        super().__init__(f"not the leader: {where} in term {term}")
        self.leader = leader
        self.address = address
        self.term = term


class CommandRejected(CommandError):
    """The command was refused before it was appended: malformed, unknown, or too large."""

    outcome: Outcome = "not done"


class Busy(CommandRejected):
    """The server has as many commands waiting as it takes."""


class OutcomeUnknown(CommandError):
    """The command was appended, and nobody here can say whether it will be committed.

    Attributes:
        handle: bytes that name the command for good, and may be stored.
    """

    outcome: Outcome = "unknown"

    def __init__(self, message: str, handle: bytes) -> None:
        super().__init__(message)
        self.handle = handle


class SessionExpired(OutcomeUnknown):
    """The client's session is over, so nobody knows whether a command sent in it was done before.

    It is not done by any later attempt.
    """


class ResultLost(CommandError):
    """The command is done, once, and what it came to was kept nowhere."""

    outcome: Outcome = "done"


class CommandFailed(CommandError):
    """The command was committed, and its apply raised, alike on every server.

    Attributes:
        error: the name of the exception's class.
        message: its text.
    """

    outcome: Outcome = "done"

    def __init__(self, error: str, message: str) -> None:
        super().__init__(f"{error}: {message}")
        self.error = error
        self.message = message


class ServerStopped(TrioraftError):
    """The server does not run, or stopped before the call was taken up: nothing was done."""

    outcome: Outcome = "not done"


class StorageError(TrioraftError):
    """The disk refused a write, a sync or a read.  The server has stopped; nothing is retried."""


class StorageCorrupt(StorageError):
    """What the disk holds is damaged where it had been durable.

    Attributes:
        file: the path of the damaged file.
        offset: the first bad byte, counted from the start of the file.
    """

    def __init__(self, file: str, offset: int, reason: str) -> None:
        super().__init__(f"{file}, offset {offset}: {reason}")
        self.file = file
        self.offset = offset


class StorageLocked(StorageError):
    """Another process (or another server of this one) has the data directory open."""


class Expelled(StorageError):
    """This data directory is an old state of itself, or a copy: it must never take part again.

    Another server has found that out.  Start with an empty directory, and have it taken in anew.
    """


class ProtocolError(TrioraftError):
    """Another program spoke nonsense, or another version, cluster or server than was expected."""


class MembershipError(TrioraftError):
    """A change of the cluster's members was refused."""


class TransferFailed(TrioraftError):
    """Leadership was not handed over to the server that was to have it."""


class LeaseLost(TrioraftError):
    """Leadership was lost, so what was to run only while leading has been cancelled."""


class Compacted(TrioraftError):
    """What was asked for has been compacted away on every server that could be reached."""


class InternalError(TrioraftError):
    """An invariant of Raft is broken here.  The server stops; please report it with its trace."""
