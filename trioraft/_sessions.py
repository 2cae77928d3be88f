"""Sessions: a client's commands happen once, however often they are sent (thesis 6.3).

The table of sessions is a part of the replicated state.  It changes with the entries of the log
alone, and their times, so it is the same on every server at the same entry.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any, Final

from attrs import frozen

from trioraft._errors import NotLeaderError, ProtocolError
from trioraft._frozen import checked_frozen
from trioraft._limits import MAX_SESSION_BYTES, MAX_SESSIONS, SESSION_WINDOW
from trioraft._wire.strict import pack, unpack

_CALL: Final = struct.Struct("<QQQ")
CALL_BYTES: Final = _CALL.size
"""What a call takes in front of its command."""


@checked_frozen
class Call:
    """Which command of which session."""

    session: int
    """The index of the entry that opened it; 0: none, nothing is remembered of the command."""
    sequence: int
    """Counted from 1 by the client."""
    lowest: int
    """The client wants to hear nothing more of the commands before this one."""


def pack_call(call: Call, data: bytes) -> bytes:
    """A client's command as it travels and, if it has a session, rests in the log."""
    return _CALL.pack(call.session, call.sequence, call.lowest) + data


def unpack_call(data: bytes) -> tuple[Call, bytes]:
    """The call, and the command behind it.

    Raises:
        ProtocolError: it is too short for one.
    """
    if len(data) < CALL_BYTES:
        raise ProtocolError("a call that is cut short")
    session, sequence, lowest = _CALL.unpack_from(data)
    return Call(session, sequence, lowest), data[CALL_BYTES:]


class Code(IntEnum):
    """What became of a command.  The numbers travel, and are kept: never reuse one."""

    VALUE = 0
    """It is done; this is its result."""
    RAISED = 1
    """It is done; its apply raised."""
    EXPIRED = 2
    """The session is over or was none: not applied by this entry."""
    FORGOTTEN = 3
    """It was done or given up long ago, and its result is not kept: not applied by this entry."""
    NOT_LEADER = 4
    REJECTED = 5
    BUSY = 6
    UNKNOWN = 7
    STOPPED = 8


_CODES: Final = {int(code): code for code in Code}


def code_of(number: int) -> Code:
    """What a server says has become of something.

    Raises:
        ProtocolError: there is no such code.
    """
    code = _CODES.get(number)
    if code is None:
        raise ProtocolError(f"there is no code {number}")
    return code


@checked_frozen
class Reply:
    """What became of a command of a session, the same on every server."""

    code: Code
    index: int
    """The entry that did it: a retry is told the first one's."""
    term: int
    data: bytes = b""
    """The result as bytes; of `RAISED`, the error's class and message."""


def refusal_of(error: NotLeaderError) -> Reply:
    """The error that sends a caller to the leader, for who asks by message."""
    return Reply(Code.NOT_LEADER, 0, error.term, pack([error.leader, error.address]))


@frozen
class Opened:
    """A session was opened; its id is the entry's index."""


@frozen
class Kept:
    """A session was kept alive or closed, if there was such a session; or all were closed."""

    was_open: bool


# -- what the log says of sessions -----------------------------------------------------------------


def open_session(seconds: float) -> bytes:
    """Opens a session that expires after so many seconds of cluster time without a sign of life."""
    return pack(["open", seconds])


def keep_session(session: int) -> bytes:
    """A sign of life."""
    return pack(["keep", session])


def close_session(session: int) -> bytes:
    """The client is done with it."""
    return pack(["close", session])


def close_all_sessions() -> bytes:
    """Their cluster is no more: another one has taken over its log."""
    return pack(["close all"])


# -- the table -------------------------------------------------------------------------------------

_REPLY_OVERHEAD: Final = 256
"""What a result of no bytes costs in memory."""


class _Session:
    """One client."""

    __slots__ = ("dropped", "kept", "lowest", "seconds", "used_at")

    def __init__(self, seconds: float, used_at: float) -> None:
        self.seconds = seconds
        self.used_at = used_at
        self.lowest = 1
        self.kept: OrderedDict[int, Reply] = OrderedDict()
        """By sequence, in the order in which they were applied."""
        self.dropped: dict[int, None] = {}
        """The sequences of commands that were applied, and whose results were too many bytes."""


@frozen
class SavedSession:
    """One session as it was when a snapshot was taken."""

    id: int
    seconds: float
    used_at: float
    lowest: int
    kept: Sequence[tuple[int, Reply]]
    dropped: Sequence[int]


class Sessions:
    """Which sessions there are, and what their commands came to.

    Bounded in number and bytes: who was silent for longest makes way for a new one, and loses
    its results first.  Bytes decide what is answered alone, and never what is applied: texts of
    errors may have other lengths elsewhere.
    """

    def __init__(self) -> None:
        self._sessions: OrderedDict[int, _Session] = OrderedDict()
        """By id; who was silent for longest comes first."""
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def due(self) -> float | None:
        """The cluster time after which the next session expires; None: there is none."""
        for session in self._sessions.values():
            return session.used_at + session.seconds
        return None

    def expire(self, time: float) -> None:
        """An entry of this cluster time is applied: whoever was silent for too long is gone."""
        while self._sessions:
            oldest, session = next(iter(self._sessions.items()))
            if session.used_at + session.seconds >= time:
                break
            self._end(oldest)

    def manage(self, index: int, time: float, data: bytes) -> Opened | Kept:
        """Take an entry that is about sessions themselves.

        Raises:
            ProtocolError: it says nothing that this version knows.
        """
        match unpack(data):
            case ["open", float(seconds)] if seconds > 0:
                while len(self._sessions) >= MAX_SESSIONS:
                    self._end(next(iter(self._sessions)))
                self._sessions[index] = _Session(seconds, time)
                return Opened()
            case ["keep", int(session)]:
                return Kept(self._touch(session, time) is not None)
            case ["close", int(session)]:
                was_open = session in self._sessions
                if was_open:
                    self._end(session)
                return Kept(was_open)
            case ["close all"]:
                was_open = len(self) > 0
                for session in list(self._sessions):
                    self._end(session)
                return Kept(was_open)
            case _:
                raise ProtocolError("an entry about sessions that this version does not know")

    def find(self, call: Call, index: int, term: int, time: float) -> Reply | None:
        """What the command came to, or why it must not be applied; None: apply it, then `keep`."""
        session = self._touch(call.session, time)
        if session is None:
            return Reply(Code.EXPIRED, index, term)
        sequence, lowest = call.sequence, call.lowest
        if lowest <= sequence - SESSION_WINDOW:
            lowest = sequence - SESSION_WINDOW + 1
        if lowest > session.lowest:
            self._forget(session, lowest)
        if sequence < session.lowest or sequence in session.dropped:
            return Reply(Code.FORGOTTEN, index, term)
        return session.kept.get(sequence)

    def keep(self, call: Call, reply: Reply) -> None:
        """The command has been applied: remember what it came to."""
        self._sessions[call.session].kept[call.sequence] = reply
        self._bytes += _size(reply)
        while self._bytes > MAX_SESSION_BYTES:
            self._drop_oldest()

    # -- snapshots -----------------------------------------------------------------------------

    def capture(self) -> list[SavedSession]:
        """The table as it is now; no later entry changes what is returned."""
        return [
            SavedSession(id_, s.seconds, s.used_at, s.lowest, list(s.kept.items()), list(s.dropped))
            for id_, s in self._sessions.items()
        ]

    @classmethod
    def restored(cls, pieces: Iterable[bytes]) -> Sessions:
        """The table that `saved_pieces` has made pieces of.

        Raises:
            ProtocolError: they make no sense.
        """
        table = cls()
        for piece in pieces:
            match unpack(piece):
                case [int(id_), float(period), float(used_at), int(lowest), list(kept), list(lost)]:
                    session = table._sessions.setdefault(id_, _Session(period, used_at))
                    session.lowest = lowest
                    replies = dict(map(_read_reply, kept))
                    session.kept.update(replies)
                    session.dropped.update(dict.fromkeys(lost))
                    table._bytes += sum(map(_size, replies.values()))
                case _:
                    raise ProtocolError("no piece of a table of sessions")
        return table

    def _touch(self, session: int, time: float) -> _Session | None:
        found = self._sessions.get(session)
        if found is not None:
            found.used_at = time
            self._sessions.move_to_end(session)
        return found

    def _forget(self, session: _Session, lowest: int) -> None:
        """The client has heard of, or given up, all commands before `lowest`."""
        session.lowest = lowest
        # They were applied nearly in order: what stays here for a while behind a later one is
        # below the bound, and so it is found no more.
        while session.kept and next(iter(session.kept)) < lowest:
            self._bytes -= _size(session.kept.popitem(last=False)[1])
        while session.dropped and (oldest := next(iter(session.dropped))) < lowest:
            del session.dropped[oldest]

    def _end(self, session: int) -> None:
        self._bytes -= sum(map(_size, self._sessions.pop(session).kept.values()))

    def _drop_oldest(self) -> None:
        session = next(session for session in self._sessions.values() if session.kept)
        sequence, reply = session.kept.popitem(last=False)
        session.dropped[sequence] = None
        self._bytes -= _size(reply)


def _size(reply: Reply) -> int:
    return _REPLY_OVERHEAD + len(reply.data)


_PIECE_ITEMS: Final = 512


def saved_pieces(table: Iterable[SavedSession], most: int) -> Iterator[bytes]:
    """A captured table as pieces, each of about `most` bytes, or of one result that has more."""
    for session in table:
        kept: list[Any] = []
        room = most
        for sequence, reply in session.kept:
            if kept and (room < len(reply.data) or len(kept) == _PIECE_ITEMS):
                yield _piece(session, kept, [])
                kept, room = [], most
            kept.append([sequence, reply.code, reply.index, reply.term, reply.data])
            room -= len(reply.data)
        yield _piece(session, kept, [])
        for first in range(0, len(session.dropped), _PIECE_ITEMS):
            yield _piece(session, [], session.dropped[first : first + _PIECE_ITEMS])


def _piece(session: SavedSession, kept: Sequence[Any], dropped: Sequence[int]) -> bytes:
    return pack(
        [session.id, session.seconds, session.used_at, session.lowest, kept, dropped],
    )


def _read_reply(value: Any) -> tuple[int, Reply]:
    match value:
        case [int(sequence), int(code), int(index), int(term), bytes(data)]:
            return sequence, Reply(code_of(code), index, term, data)
    raise ProtocolError("no result of a session")
