"""Messages as bytes, and back.

A message is a msgpack map with its tag under `t`.  Tags and field names are the wire: they never
change their meaning.  New fields get defaults; unknown fields are ignored.
"""

from __future__ import annotations

from typing import Any, Final, get_args

from attrs import frozen

from trioraft._errors import ProtocolError
from trioraft._limits import MAX_CALLS_PER_MESSAGE, MAX_MESSAGE_BYTES
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.membership import Configuration
from trioraft._rules.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshotReply,
    Message,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
    TimeoutNowReply,
)
from trioraft._wire.asking import (
    Ask,
    Caller,
    Calls,
    Changes,
    ManageSession,
    ReadIndex,
    ReadIndexReply,
    Result,
    Results,
    Settle,
    Told,
    WatchFrom,
    Welcome,
)
from trioraft._wire.frames import Kind, cut_frames, identity, kind_of, payload_of
from trioraft._wire.installing import SnapshotOffer, SnapshotPiece, SnapshotWanted
from trioraft._wire.stamps import stamped_data
from trioraft._wire.strict import MALFORMED, counting_converter, pack, unpack

PROTOCOL_VERSION: Final = 1


@frozen
class Hello:
    """The first message of either side: who speaks."""

    cluster: str | None
    """The cluster's id; None from a server that belongs to none yet."""
    name: str
    incarnation: str
    starts: int
    """How often this data directory has been opened."""
    nonce: str
    """Drawn at this start."""
    address: str
    version: int
    commands: tuple[str, ...]
    """The names of the commands that the server understands, sorted."""
    initial: tuple[str, ...] = ()
    """The names in its `initial_cluster`, sorted."""
    expected: str | None = None
    """Whom the dialler means to reach."""
    restored: str = ""
    """The digest of the snapshot that a server without a cluster starts from; empty: none."""
    installs: bool = False
    """The stream is to carry a snapshot."""
    probes: bool = False
    """The dialler asks who is here, and nothing else."""
    configuration: Configuration | None = None
    """The newest one that a dialler knows, which says whether it is a member."""

    @property
    def id(self) -> ServerId:
        """Who that is."""
        return ServerId(self.name, self.incarnation)


@frozen
class Refusal:
    """The answer to a Hello that is not welcome, in words; the stream closes behind it."""

    reason: str
    expelled_by: ServerId | None = None
    """The member that has found that the other side runs on a copy of its disk, or on an old state
    of it, and must never take part again.  Sent at any time; None: it is not that."""


@frozen
class Genesis:
    """A formed server tells an unformed one the cluster that it belongs to."""

    configuration: Configuration
    """The cluster's first one."""
    newest: Configuration | None = None
    """The one that names the unformed server, if that came later."""


@frozen
class Ping:
    """Asks for a sign of life."""


@frozen
class Pong:
    """The sign of life."""


PeerMessage = Message | ReadIndex | ReadIndexReply
Asked = Calls | ManageSession | Settle | Ask | WatchFrom
Answered = Welcome | Results | Told | Changes
Installing = SnapshotOffer | SnapshotPiece | SnapshotWanted
WireMessage = (
    PeerMessage | Hello | Refusal | Genesis | Ping | Pong | Caller | Asked | Answered | Installing
)

TAGS: Final[dict[type[Any], str]] = {
    RequestVote: "vote",
    RequestVoteReply: "vote_reply",
    PreVote: "pre_vote",
    PreVoteReply: "pre_vote_reply",
    AppendEntries: "append",
    AppendEntriesReply: "append_reply",
    InstallSnapshotReply: "install_reply",
    TimeoutNow: "timeout_now",
    TimeoutNowReply: "timeout_now_reply",
    Hello: "hello",
    Refusal: "refusal",
    Genesis: "genesis",
    Ping: "ping",
    Pong: "pong",
    ReadIndex: "read_index",
    ReadIndexReply: "read_index_reply",
    Caller: "caller",
    Welcome: "welcome",
    Calls: "calls",
    ManageSession: "session",
    Settle: "settle",
    Results: "results",
    Ask: "ask",
    Told: "told",
    WatchFrom: "watch",
    Changes: "changes",
    SnapshotOffer: "snapshot",
    SnapshotPiece: "snapshot_piece",
    SnapshotWanted: "snapshot_wanted",
}
_MOST: Final = 1 << 63


def encode(message: WireMessage) -> bytes:
    """The message as bytes."""
    cls = type(message)
    fields = _UNSTRUCTURE[cls](message)
    fields["t"] = TAGS[cls]
    return pack(fields)


FROM_OFFERING: Final[frozenset[type]] = frozenset((SnapshotOffer, SnapshotPiece, Ping, Pong))
FROM_INSTALLING: Final[frozenset[type]] = frozenset((SnapshotWanted, Ping, Pong))
"""What the two sides of a stream that carries a snapshot may say."""

FROM_CLIENTS: Final[frozenset[type]] = frozenset((*get_args(Asked), Ping, Pong))
FROM_SERVERS: Final[frozenset[type]] = frozenset((*get_args(Answered), Ping, Pong))
"""What the two sides of a client's stream may say, once they know each other."""

_COUNTED: Final = {Calls: "calls", Results: "results", Ask: "queries", Told: "answers"}
"""Messages that carry many things in a field: not more of them than one message may."""


def decode(data: bytes, only: frozenset[type] | None = None) -> WireMessage:
    """The message that the bytes hold; of these classes only, unless it is None.

    Raises:
        ProtocolError: they hold none that this version knows.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message of {len(data)} bytes; the most is {MAX_MESSAGE_BYTES}")
    fields = unpack(data)
    tag = fields.get("t") if isinstance(fields, dict) else None
    known = _STRUCTURE.get(tag) if isinstance(tag, str) else None
    if known is None:
        shown = tag if isinstance(tag, str) else type(tag).__name__
        raise ProtocolError(f"a message of the unknown type {shown:.40}")
    cls, structure = known
    if only is not None and cls not in only:
        raise ProtocolError(f"{cls.__name__} is out of place here")
    counted = fields.get(_COUNTED.get(cls))
    if isinstance(counted, list) and len(counted) > MAX_CALLS_PER_MESSAGE:
        raise ProtocolError(f"a {cls.__name__} of {len(counted)}: too many for one message")
    try:
        message: WireMessage = structure(fields, cls)
    except MALFORMED as error:
        raise ProtocolError(f"a malformed {cls.__name__}: {error}") from error
    if isinstance(message, AppendEntries):
        _check_order(message)
    return message


def _check_order(request: AppendEntries) -> None:
    """See that indexes and terms run on from what comes before the entries to the leader's term.

    Raises:
        ProtocolError: they don't; the rules rely on it.
    """
    prev_index, prev_term = request.prev_log_index, request.prev_log_term
    if request.entries.first != prev_index + 1:
        raise ProtocolError("the entries do not follow prev_log_index")
    if (prev_index == 0) != (prev_term == 0):
        raise ProtocolError(f"no log has term {prev_term} at index {prev_index}")
    terms = [prev_term, *(term for _, term in request.entries.runs), request.term]
    if terms != sorted(terms):
        raise ProtocolError("the entries' terms fall, or one is of a later term than its leader")


def entries_of(frames: list[bytes]) -> Entries:
    """Frames that follow each other, at least one, as the rules see them.

    Raises:
        ProtocolError: a configuration among them can't be read.
    """
    first, newest = identity(frames[0])
    last, last_term = identity(frames[-1])
    runs = [(first, newest)]
    if last_term != newest:  # terms never fall, and most messages hold entries of one alone
        for index, term in map(identity, frames):
            if term != newest:
                runs.append((index, term))
                newest = term
    kind = int(Kind.CONFIGURATION)
    configurations = [configuration_of(one) for one in frames if kind_of(one) == kind]
    return Entries(first, last, tuple(runs), frames, tuple(configurations))


def configuration_data(configuration: Configuration) -> bytes:
    """What the entry of a configuration holds, behind the time."""
    return pack(_CONVERTER.unstructure(configuration))


def configuration_of(frame: bytes) -> Configuration:
    """The configuration in a frame of that kind.

    Raises:
        ProtocolError: there is none, or one of another entry.
    """
    index, _ = identity(frame)
    try:
        fields = unpack(stamped_data(payload_of(frame)))
        configuration = _CONVERTER.structure(fields, Configuration)
    except MALFORMED as error:
        raise ProtocolError(f"entry {index} is no configuration: {error}") from error
    if configuration.index != index or not configuration.voters:
        raise ProtocolError(f"entry {index} holds the configuration {configuration.index}")
    return configuration


def _entries_to_wire(entries: Entries) -> list[Any]:
    return [entries.first, b"".join(entries.frames)]


def _entries_from_wire(value: Any, _: Any) -> Entries:
    match value:
        case [first, bytes(data)] if type(value) is list and type(first) is int:
            if not 0 < first < _MOST:
                raise ValueError(f"there is no entry {first}")
            if not data:
                return Entries(first, first - 1)
            entries = entries_of(cut_frames(data))
            if entries.first == first:
                return entries
    raise ValueError("expected an index and the frames of entries from there on")


def _bytes_from_wire(value: Any, _: Any) -> tuple[bytes, ...]:
    if type(value) is not list or any(type(one) is not bytes for one in value):
        raise TypeError("expected a list of bytes")
    return tuple(value)


def _results_from_wire(value: Any, _: Any) -> tuple[Result, ...]:
    # These three by hand: there is one for each command, and this takes a quarter of the time.
    if type(value) is not list:
        raise TypeError("expected a list of results")
    for result in value:
        if type(result) is not list or len(result) != 5 or type(result[4]) is not bytes:
            raise TypeError("expected four numbers and the result's bytes")
        number, code, index, term, _data = result
        if not type(number) is type(code) is type(index) is type(term) is int:
            raise TypeError("expected four numbers and the result's bytes")
        if number < 0 or code < 0 or index < 0 or term < 0:
            raise ValueError("expected numbers from 0 on")
        if number >= _MOST or code >= _MOST or index >= _MOST or term >= _MOST:
            raise ValueError("expected numbers below 2**63")
    return tuple(map(tuple, value))


def _answers_from_wire(value: Any, _: Any) -> tuple[tuple[int, bytes], ...]:
    if type(value) is not list:
        raise TypeError("expected a list of answers")
    for answer in value:
        if type(answer) is not list or len(answer) != 2 or type(answer[1]) is not bytes:
            raise TypeError("expected a code and the answer's bytes")
        if type(answer[0]) is not int or not 0 <= answer[0] < _MOST:
            raise ValueError("expected a code from 0 on")
    return tuple(map(tuple, value))


_CONVERTER = counting_converter()
_CONVERTER.register_unstructure_hook(Entries, _entries_to_wire)
_CONVERTER.register_structure_hook(Entries, _entries_from_wire)
_CONVERTER.register_structure_hook_func(
    lambda cls: bool(cls == tuple[Result, ...]), _results_from_wire
)
_CONVERTER.register_structure_hook_func(
    lambda cls: bool(cls == tuple[bytes, ...]), _bytes_from_wire
)
_CONVERTER.register_structure_hook_func(
    lambda cls: bool(cls == tuple[tuple[int, bytes], ...]), _answers_from_wire
)

# Looked up once, not for each message.
_UNSTRUCTURE: Final = {cls: _CONVERTER.get_unstructure_hook(cls) for cls in TAGS}
_STRUCTURE: Final = {tag: (cls, _CONVERTER.get_structure_hook(cls)) for cls, tag in TAGS.items()}
