"""What a client and a server say to each other, and a follower to its leader on a reader's behalf.

Whatever queued while the last message was on its way leaves in one: calls, results, queries and
answers all come in batches.  A request's number is the client's, and its answer repeats it.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Caller:
    """The first message of a client."""

    version: int
    cluster: str | None = None
    """The cluster that it means; None: whichever the server belongs to."""
    forwards: bool = False
    """A server, on behalf of its own clients."""


@frozen
class Welcome:
    """The answer to a client's first message, and again whenever another server leads."""

    cluster: str
    name: str
    leader: str | None
    """The name of the leader, as far as this server knows."""
    address: str | None
    """Where it listens."""


@frozen
class Calls:
    """Commands, numbered from `first` on; each as `pack_call` has it."""

    first: int
    calls: tuple[bytes, ...]
    forwarded: bool = False
    """By a server: one that does not lead refuses them, and forwards them to nobody."""


@frozen
class ManageSession:
    """Open a session ("open"), or keep one alive ("keep"), or be done with it ("close")."""

    number: int
    verb: str
    session: int = 0
    forwarded: bool = False


@frozen
class Settle:
    """Was the entry committed, of which a server had to say that nobody knows?"""

    number: int
    index: int
    term: int
    forwarded: bool = False


Result = tuple[int, int, int, int, bytes]
"""What became of one command, or of a session's entry: its number, a `Code`, index, term, data."""


@frozen
class Results:
    """What became of commands, in the order in which it was known."""

    results: tuple[Result, ...]


@frozen
class Ask:
    """Queries that ask for the same consistency, numbered from `first` on."""

    first: int
    queries: tuple[bytes, ...]
    level: str
    cluster: str = ""
    index: int = 0
    """With `cluster`, the token of `at_least`."""
    seconds: float | None = None
    """Of `max_age`; None: any age."""


@frozen
class Told:
    """Answers to one `Ask`, in its order, perhaps not yet all; or why there are none."""

    first: int
    code: int
    """A `Code`: `VALUE`, or why all of them failed."""
    answers: tuple[tuple[int, bytes], ...] = ()
    """Each a `Code`, `VALUE`, `RAISED` or `REJECTED`, and the bytes that go with it."""
    level: str = ""
    """The level that the answers have."""
    index: int = 0
    age: float | None = None
    """Seconds; None: nobody knows."""
    data: bytes = b""


@frozen
class WatchFrom:
    """Tell what changes behind an index, as soon as anything does."""

    number: int
    index: int


@frozen
class Changes:
    """What has changed up to an index, entry by entry; perhaps nothing."""

    number: int
    code: int
    """A `Code`: `VALUE`; `FORGOTTEN` if the server does not have it any more; `STOPPED`."""
    index: int = 0
    changes: tuple[tuple[int, tuple[bytes, ...]], ...] = ()


@frozen
class ReadIndex:
    """A follower asks its leader from which entry on an answer is not old (thesis 6.4)."""

    number: int


@frozen
class ReadIndexReply:
    """The index; None from who does not lead."""

    number: int
    index: int | None
