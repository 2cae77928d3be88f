"""What must be done.  Effects are carried out in order, and none of them waits.

An effect that writes is numbered by its place: the first write ever asked for is number 1.
"""

from __future__ import annotations

from attrs import field, frozen

from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.membership import Configuration
from trioraft._rules.messages import Message


@frozen
class SaveTerm:
    """Write term and vote."""

    write: int
    term: int
    voted_for: ServerId | None


@frozen
class WriteEntries:
    """Write entries behind index `entries.first - 1`; what the log holds from there on is cut."""

    write: int
    entries: Entries
    cuts: bool = False


@frozen
class AppendOwn:
    """Write a leader's own entries: `batch` from `first` on, or a no-op if there is none."""

    write: int
    first: int
    term: int
    count: int
    batch: object = field(default=None, eq=False, repr=False)


@frozen
class AppendConfiguration:
    """Write a leader's own entry that changes the members: it is in force from now on."""

    write: int
    term: int
    configuration: Configuration


@frozen
class Refuse:
    """Tell the callers of `batch` that this server does not lead: nothing was written."""

    batch: object = field(default=None, eq=False, repr=False)


@frozen
class ReadAt:
    """The readers of `batch` may be answered once `round` is confirmed and `index` is applied."""

    round: int
    index: int
    batch: object = field(default=None, eq=False, repr=False)


@frozen
class RoundConfirmed:
    """This server led when `round` began: a majority has answered what was sent since."""

    round: int


@frozen
class Send:
    """Send a message, but not before write number `after` is durable; 0: at once."""

    to: ServerId
    message: Message
    after: int = 0


@frozen
class Fetch:
    """Read entries for a follower from the disk, from `first` on, and bring `Fetched`."""

    tenure: int
    peer: ServerId
    first: int


@frozen
class Compact:
    """Write that the log begins behind entry `index`: a snapshot holds all up to there."""

    write: int
    index: int
    term: int


@frozen
class ReplaceLog:
    """Write that an installed snapshot takes the log's place, which goes on behind it.

    What the log holds behind `kept` is cut: it conflicts with the snapshot.
    """

    write: int
    kept: int
    index: int
    term: int


@frozen
class SendSnapshot:
    """Send a follower the newest snapshot, and bring `SnapshotSent`."""

    tenure: int
    peer: ServerId


@frozen
class Commit:
    """Everything up to `index` is committed, and durable here: apply it."""

    index: int


@frozen
class ElectionBy:
    """Draw a new election time-out from `now` on, `times` as long as usual."""

    now: float
    times: int = 1


@frozen
class AnswerBy:
    """Bring `AnswerDue` at this instant; infinity: no more."""

    instant: float


@frozen
class QuorumBy:
    """Bring `QuorumTimeout` at this instant; infinity: never."""

    instant: float


@frozen
class Wake:
    """Let the task that replicates to a peer take a turn now."""

    peer: ServerId


@frozen
class Answered:
    """A follower answered request `number`, `seconds` after it was sent."""

    peer: ServerId
    number: int
    seconds: float


@frozen
class Missed:
    """A heartbeat is due, and the follower has not answered the one before."""

    peer: ServerId


@frozen
class Complain:
    """A peer said what no correct peer says; it was ignored."""

    peer: ServerId
    reason: str


@frozen
class Dismiss:
    """A server that was removed gets nothing more from this one."""

    peer: ServerId


@frozen
class Expel:
    """A follower has lost what it had acknowledged: tell it that it must never vote again."""

    peer: ServerId
    reason: str


Effect = (
    SaveTerm
    | WriteEntries
    | AppendOwn
    | AppendConfiguration
    | Refuse
    | ReadAt
    | RoundConfirmed
    | Send
    | Fetch
    | Compact
    | ReplaceLog
    | SendSnapshot
    | Commit
    | ElectionBy
    | AnswerBy
    | QuorumBy
    | Wake
    | Answered
    | Missed
    | Complain
    | Dismiss
    | Expel
)
