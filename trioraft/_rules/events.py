"""What can happen to a server.  Each event carries the instant `now` at which it happened."""

from __future__ import annotations

from attrs import field, frozen

from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.membership import Member
from trioraft._rules.messages import Message


@frozen
class Received:
    """A message came from a server whose name and incarnation its stream has proved."""

    now: float
    sender: ServerId
    message: Message


@frozen
class Persisted:
    """The disk has everything up to write number `write`.  Belongs to no tenure."""

    now: float
    write: int


@frozen
class ElectionTimeout:
    """No leader was heard, or no election was won, in time."""

    now: float
    tenure: int


@frozen
class AnswerDue:
    """A leader waits for an answer that the disk holds up."""

    now: float
    tenure: int


@frozen
class SolicitDue:
    """It is time to ask a peer for its vote, perhaps again."""

    now: float
    tenure: int
    peer: ServerId


@frozen
class QuorumTimeout:
    """The instant has come by which a majority should have answered."""

    now: float
    tenure: int


@frozen
class AppendDue:
    """There is news for a follower, or it is time for a heartbeat.

    `reach` is the last index that a message from the follower's next index on may hold, in count
    and bytes.  None: the entries there are not in memory.  `free` says that nothing is being done
    here that rests on this server's lease.
    """

    now: float
    tenure: int
    peer: ServerId
    reach: int | None
    free: bool = True


@frozen
class Fetched:
    """Entries for a follower came from the disk."""

    now: float
    tenure: int
    peer: ServerId
    entries: Entries


@frozen
class SnapshotTaken:
    """This server's machine up to `index` is in a snapshot that is durable and was read back.

    The log behind `floor` is not so large that it could not be kept for who is late.
    """

    now: float
    index: int
    floor: int


@frozen
class SnapshotSent:
    """The stream that carried a snapshot to a follower has ended, well or badly."""

    now: float
    tenure: int
    peer: ServerId


@frozen
class LinkUp:
    """A new stream to a peer stands; what was on the way in the old one is lost."""

    now: float
    peer: ServerId


@frozen
class Proposed:
    """Commands of this server's own callers; `batch` is theirs, and no rule looks at it."""

    now: float
    count: int
    batch: object = field(default=None, eq=False, repr=False)


@frozen
class ReadIndexDue:
    """Readers at a leader wait for the index from which on answers are not old (thesis 6.4).

    `batch` is theirs, and no rule looks at it.
    """

    now: float
    batch: object = field(default=None, eq=False, repr=False)


@frozen
class ChangeDue:
    """The members are to be these, once the change is committed (section 6)."""

    now: float
    voters: tuple[Member, ...]
    learners: tuple[Member, ...]


@frozen
class TransferDue:
    """Another server is to lead; None: whichever is fit for it (thesis 3.10)."""

    now: float
    target: ServerId | None


Event = (
    Received
    | Persisted
    | ElectionTimeout
    | AnswerDue
    | SolicitDue
    | QuorumTimeout
    | AppendDue
    | Fetched
    | SnapshotTaken
    | SnapshotSent
    | LinkUp
    | Proposed
    | ReadIndexDue
    | ChangeDue
    | TransferDue
)
