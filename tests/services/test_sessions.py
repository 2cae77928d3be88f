"""The table of sessions: what is applied, what is answered from memory, and who is forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trioraft._sessions as module
from trioraft._errors import ProtocolError
from trioraft._limits import SESSION_WINDOW
from trioraft._sessions import (
    CALL_BYTES,
    Call,
    Code,
    Kept,
    Opened,
    Reply,
    Sessions,
    close_all_sessions,
    close_session,
    code_of,
    keep_session,
    open_session,
    pack_call,
    saved_pieces,
    unpack_call,
)
from trioraft._wire.strict import pack

HOUR = 3600.0


def opened(*ids: int, at: float = 0.0, seconds: float = HOUR) -> Sessions:
    table = Sessions()
    for index in ids:
        assert table.manage(index, at, open_session(seconds)) == Opened()
    return table


def applied(table: Sessions, call: Call, index: int, *, at: float = 0.0, size: int = 0) -> Reply:
    """A command that must be applied by this entry."""
    assert table.find(call, index, 1, at) is None, "it is applied"
    reply = Reply(Code.VALUE, index, 1, bytes(size))
    table.keep(call, reply)
    return reply


def code(table: Sessions, call: Call, *, at: float = 0.0) -> Code | None:
    found = table.find(call, 999, 9, at)
    return None if found is None else found.code


# -- once ----------------------------------------------------------------------------------------


def test_a_retry_is_told_what_the_first_one_came_to_with_its_index_and_term() -> None:
    table = opened(1)
    reply = applied(table, Call(1, 1, 1), 7)
    assert table.find(Call(1, 1, 1), 8, 2, 0.0) == reply
    assert table.find(Call(1, 1, 1), 9, 3, 0.0) == reply


def test_pipelined_commands_may_arrive_in_any_order_and_each_is_applied_once() -> None:
    table = opened(1)
    replies = {
        sequence: applied(table, Call(1, sequence, 1), 10 + sequence) for sequence in (3, 1, 2)
    }
    for sequence in (1, 2, 3):
        assert table.find(Call(1, sequence, 1), 99, 9, 0.0) == replies[sequence]


def test_sessions_do_not_know_each_others_sequences() -> None:
    table = opened(1, 2)
    applied(table, Call(1, 1, 1), 5)
    applied(table, Call(2, 1, 1), 6)


@pytest.mark.parametrize("session", [0, 2, (1 << 64) - 1])
def test_an_unknown_session_is_expired_and_never_created(session: int) -> None:
    table = opened(1)
    for _ in range(2):
        assert table.find(Call(session, 1, 1), 5, 3, 0.0) == Reply(Code.EXPIRED, 5, 3)
    assert len(table) == 1


# -- lowest and the window -------------------------------------------------------------------------


def test_a_command_below_the_lowest_unanswered_one_is_never_applied() -> None:
    """It may have been applied and its result dropped; it may be an old copy that was late."""
    table = opened(1)
    applied(table, Call(1, 1, 1), 5)
    applied(table, Call(1, 3, 3), 6)
    for sequence in (1, 2):
        assert table.find(Call(1, sequence, 1), 7, 4, 0.0) == Reply(Code.FORGOTTEN, 7, 4)
    assert code(table, Call(1, 3, 3)) is Code.VALUE


def test_the_lowest_never_falls() -> None:
    table = opened(1)
    applied(table, Call(1, 9, 9), 5)
    applied(table, Call(1, 10, 2), 6)
    assert code(table, Call(1, 5, 2)) is Code.FORGOTTEN


def test_a_client_that_contradicts_itself_has_nothing_applied() -> None:
    table = opened(1)
    assert code(table, Call(1, 2, 3)) is Code.FORGOTTEN
    assert code(table, Call(1, 0, 0)) is Code.FORGOTTEN


def test_the_window_ends_so_many_commands_back() -> None:
    table = opened(1)
    applied(table, Call(1, 1, 1), 5)
    applied(table, Call(1, 2, 1), 6)
    applied(table, Call(1, SESSION_WINDOW + 1, 1), 7)
    assert code(table, Call(1, 1, 1)) is Code.FORGOTTEN
    assert code(table, Call(1, 2, 1)) is Code.VALUE


def test_a_leap_to_a_huge_sequence_is_one_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SESSION_WINDOW", 4)
    table = opened(1)
    applied(table, Call(1, 1, 1), 5)
    applied(table, Call(1, 1 << 62, 1), 6)
    assert code(table, Call(1, 2, 1)) is Code.FORGOTTEN
    assert len(table._sessions[1].kept) == 1


# -- bytes ----------------------------------------------------------------------------------------


def test_results_are_dropped_from_who_was_silent_for_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = opened(1, 2)
    old = [applied(table, Call(1, n, 1), n, size=1000) for n in (1, 2)]
    new = applied(table, Call(2, 1, 1), 3, size=1000)
    monkeypatch.setattr(module, "MAX_SESSION_BYTES", table._bytes)
    applied(table, Call(2, 2, 1), 4, size=10)
    assert code(table, Call(1, 1, 1)) is Code.FORGOTTEN, "and never applied again"
    assert table.find(Call(1, 2, 1), 9, 9, 0.0) == old[1]
    assert table.find(Call(2, 1, 1), 9, 9, 0.0) == new


def test_what_was_dropped_for_its_bytes_stays_known_until_the_client_is_done_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_SESSION_BYTES", 0)
    table = opened(1)
    for n in (1, 2, 3):
        applied(table, Call(1, n, 1), n)
    assert [code(table, Call(1, n, 1)) for n in (1, 2, 3)] == [Code.FORGOTTEN] * 3
    assert list(table._sessions[1].dropped) == [1, 2, 3]
    applied(table, Call(1, 4, 4), 4)
    assert list(table._sessions[1].dropped) == [4]
    assert table._bytes == 0


def test_who_is_gone_takes_no_bytes() -> None:
    for end in ("close", "expire", "forget"):
        table = opened(1)
        for n in range(1, 6):
            applied(table, Call(1, n, 1), n, size=100 * n)
        assert table._bytes == sum(100 * n for n in range(1, 6)) + 5 * module._REPLY_OVERHEAD
        match end:
            case "close":
                assert table.manage(9, 0.0, close_session(1)) == Kept(was_open=True)
            case "expire":
                table.expire(2 * HOUR)
            case _:
                assert code(table, Call(1, 6, 6)) is None
        assert table._bytes == 0


# -- life ---------------------------------------------------------------------------------------


def test_a_session_expires_by_the_time_of_entries_and_only_behind_it() -> None:
    table = opened(1, at=100.0, seconds=10.0)
    assert table.due == 110.0
    table.expire(110.0)
    assert len(table) == 1
    table.expire(110.001)
    assert (len(table), table.due) == (0, None)
    assert code(table, Call(1, 1, 1), at=111.0) is Code.EXPIRED


@pytest.mark.parametrize("sign", ["command", "duplicate", "forgotten", "keep"])
def test_every_sign_of_life_counts(sign: str) -> None:
    table = opened(1, at=0.0, seconds=10.0)
    applied(table, Call(1, 5, 5), 2)
    match sign:
        case "command":
            applied(table, Call(1, 6, 5), 3, at=8.0)
        case "duplicate":
            assert code(table, Call(1, 5, 5), at=8.0) is Code.VALUE
        case "forgotten":
            assert code(table, Call(1, 1, 1), at=8.0) is Code.FORGOTTEN
        case _:
            assert table.manage(3, 8.0, keep_session(1)) == Kept(was_open=True)
    assert table.due == 18.0


def test_the_most_silent_makes_way_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SESSIONS", 2)
    table = opened(1, 2)
    assert table.manage(3, 1.0, keep_session(1)) == Kept(was_open=True)
    assert table.manage(4, 2.0, open_session(HOUR)) == Opened()
    assert [code(table, Call(n, 1, 1)) for n in (1, 2, 4)] == [None, Code.EXPIRED, None]


def test_what_is_no_session_can_be_neither_kept_nor_closed() -> None:
    table = opened(1)
    for data in (keep_session(2), close_session(2)):
        assert table.manage(3, 0.0, data) == Kept(was_open=False)
    assert table.manage(4, 0.0, close_session(1)) == Kept(was_open=True)
    assert table.manage(5, 0.0, close_session(1)) == Kept(was_open=False)


@pytest.mark.parametrize(
    "entry",
    [["open", 0.0], ["open", -1.0], ["open", 1], ["open", float("nan")], ["shut", 1], 7, []],
)
def test_an_entry_that_says_something_else_is_an_error(entry: Any) -> None:
    with pytest.raises(ProtocolError):
        Sessions().manage(1, 0.0, pack(entry))


# -- bytes on the wire ---------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3), st.binary(max_size=20))
def test_a_call_is_read_back(numbers: list[int], data: bytes) -> None:
    assert unpack_call(pack_call(Call(*numbers), data)) == (Call(*numbers), data)


@pytest.mark.parametrize("length", range(CALL_BYTES))
def test_a_call_that_is_cut_short_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match="cut short"):
        unpack_call(bytes(length))


def test_numbers_that_are_no_codes_are_refused() -> None:
    assert [code_of(code) for code in Code] == list(Code)
    for number in (-1, 9, 1 << 62):
        with pytest.raises(ProtocolError, match="no code"):
            code_of(number)


# -- against a table that remembers everything ----------------------------------------------------


class Naive:
    """Sessions as a list, in the order of their last sign of life; forgets nothing but sessions."""

    def __init__(self, window: int, most: int, seconds: float) -> None:
        self.window, self.most, self.seconds = window, most, seconds
        self.order: list[int] = []
        self.used: dict[int, float] = {}
        self.lowest: dict[int, int] = {}
        self.done: dict[tuple[int, int], Reply] = {}

    def expire(self, time: float) -> None:
        self.order = [s for s in self.order if not self.used[s] + self.seconds < time]

    def touch(self, session: int, time: float) -> bool:
        if session not in self.order:
            return False
        self.order.remove(session)
        self.order.append(session)
        self.used[session] = time
        return True

    def open(self, index: int, time: float) -> None:
        self.order = [*self.order[-(self.most - 1) :], index]
        self.used[index], self.lowest[index] = time, 1

    def find(self, call: Call, index: int, term: int, time: float) -> Reply | None:
        if not self.touch(call.session, time):
            return Reply(Code.EXPIRED, index, term)
        bound = max(self.lowest[call.session], call.lowest, call.sequence - self.window + 1)
        self.lowest[call.session] = bound
        if call.sequence < bound:
            return Reply(Code.FORGOTTEN, index, term)
        return self.done.get((call.session, call.sequence))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "keep", "close", "call", "call", "call", "call"]),
        st.floats(0, 4),  # time passes
        st.integers(0, 12),  # a session
        st.integers(1, 30),  # a sequence
        st.integers(0, 30),  # the lowest
        st.integers(0, 600),  # bytes of the result
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([700, 3000, 1 << 26]))
@settings(max_examples=300, deadline=None)
def test_it_is_what_a_table_that_forgets_nothing_would_be(steps: list[Any], most: int) -> None:
    """Bytes may cost an answer; they never bring a second application, nor prevent a first one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SESSION_WINDOW", 8)
        patch.setattr(module, "MAX_SESSIONS", 3)
        patch.setattr(module, "MAX_SESSION_BYTES", most)
        table, naive, time = Sessions(), Naive(8, 3, 10.0), 0.0
        for index, (what, passes, session, sequence, lowest, size) in enumerate(steps, 1):
            time += passes
            table.expire(time)
            naive.expire(time)
            match what:
                case "open":
                    table.manage(index, time, open_session(10.0))
                    naive.open(index, time)
                case "keep":
                    was_open = naive.touch(session, time)
                    assert table.manage(index, time, keep_session(session)) == Kept(was_open)
                case "close":
                    was_open = session in naive.order
                    assert table.manage(index, time, close_session(session)) == Kept(was_open)
                    naive.order = [s for s in naive.order if s != session]
                case _:
                    call = Call(session, sequence, min(lowest, sequence))
                    found = table.find(call, index, 1, time)
                    expected = naive.find(call, index, 1, time)
                    if expected is None:
                        assert found is None
                        reply = Reply(Code.VALUE, index, 1, bytes(size))
                        table.keep(call, reply)
                        naive.done[session, sequence] = reply
                    elif found != expected:
                        assert most < 1 << 26
                        assert found == Reply(Code.FORGOTTEN, index, 1)
            assert list(table._sessions) == naive.order
            kept = [r for s in table._sessions.values() for r in s.kept.values()]
            assert table._bytes == sum(map(module._size, kept)) <= most
            if naive.order:
                assert table.due == naive.used[naive.order[0]] + 10.0


# -- in a snapshot -------------------------------------------------------------------------------


def saved(table: Sessions, most: int = 1 << 20) -> list[bytes]:
    return list(saved_pieces(table.capture(), most))


def test_what_is_restored_from_a_snapshot_answers_as_the_table_did() -> None:
    table = opened(1, 2)
    replies = [applied(table, Call(1, sequence, 1), 10 + sequence) for sequence in (1, 3, 2)]
    applied(table, Call(2, 5, 5), 20, at=7.0)
    again = Sessions.restored(saved(table))
    assert [again.find(Call(1, sequence, 1), 99, 9, 0.0) for sequence in (1, 3, 2)] == replies
    assert code(again, Call(2, 4, 4)) is Code.FORGOTTEN
    assert code(again, Call(3, 1, 1)) is Code.EXPIRED
    assert saved(Sessions.restored(saved(table))) == saved(table), "order and all"


def test_a_captured_table_does_not_change_with_later_commands() -> None:
    table = opened(1)
    applied(table, Call(1, 1, 1), 5)
    captured = table.capture()
    before = list(saved_pieces(captured, 1000))
    applied(table, Call(1, 2, 2), 6)
    table.manage(7, 0.0, close_session(1))
    assert list(saved_pieces(captured, 1000)) == before


def test_a_large_session_is_many_pieces_and_each_is_bounded() -> None:
    table = opened(1)
    for sequence in range(1, 2000):
        applied(table, Call(1, sequence, 1), sequence, size=100)
    pieces = saved(table, most=10_000)
    assert len(pieces) > 15
    assert max(map(len, pieces)) < 13_000
    assert saved(Sessions.restored(pieces), most=10_000) == pieces


def test_dropped_results_and_expiry_are_in_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SESSION_BYTES", 3000)
    table = opened(1, seconds=50.0)
    for sequence in range(1, 1000):
        applied(table, Call(1, sequence, 1), sequence, size=10)
    again = Sessions.restored(saved(table))
    assert code(again, Call(1, 1, 1)) is Code.FORGOTTEN
    assert code(again, Call(1, 999, 1)) is Code.VALUE
    assert again.due == table.due == 50.0
    applied(again, Call(1, 1000, 1), 1000, size=10)
    applied(table, Call(1, 1000, 1), 1000, size=10)
    assert saved(again) == saved(table), "the bytes are counted on from where they were"


@pytest.mark.parametrize(
    "piece",
    [
        b"",
        b"\xc0",
        pack([1, 1.0, 1.0, 1, []]),
        pack(["1", 1.0, 1.0, 1, [], []]),
        pack([1, 1.0, 1.0, 1, [[1, 0, 1, 1]], []]),
        pack([1, 1.0, 1.0, 1, [[1, 77, 1, 1, b""]], []]),
    ],
)
def test_a_piece_that_makes_no_sense_is_refused(piece: bytes) -> None:
    with pytest.raises(ProtocolError):
        Sessions.restored([piece])


# -- all at once -----------------------------------------------------------------------------------


def test_all_sessions_are_closed_at_once_and_new_ones_opened_after_that() -> None:
    table = opened(1, 2)
    applied(table, Call(1, 1, 1), 5, size=100)
    assert table.manage(6, 0.0, close_all_sessions()) == Kept(True)
    assert (len(table), table.due, table.capture()) == (0, None, [])
    assert code(table, Call(1, 1, 1)) is Code.EXPIRED
    assert table.manage(7, 0.0, close_all_sessions()) == Kept(False)
    assert table.manage(8, 0.0, open_session(HOUR)) == Opened()
    applied(table, Call(8, 1, 1), 9)


def test_closing_all_gives_all_bytes_back() -> None:
    table = opened(1)
    applied(table, Call(1, 1, 1), 5, size=100)
    table.manage(6, 0.0, close_all_sessions())
    assert table._bytes == 0
