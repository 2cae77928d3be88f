"""What a server keeps of the newest changes: none is lost unnoticed, none comes twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trioraft._changes as module
from trioraft._changes import ChangeLog


def test_an_empty_one_has_everything() -> None:
    log = ChangeLog()
    assert (log.first, log.last) == (1, 0)
    assert log.since(0) == []
    assert log.since(7) == []


def test_all_changes_of_an_entry_come_together_and_entries_without_changes_are_none() -> None:
    log = ChangeLog()
    log.append(3, [b"a", b"b"])
    log.append(4, [])
    log.append(6, (b"c",))
    assert log.last == 6
    assert log.since(0) == log.since(2) == [(3, (b"a", b"b")), (6, (b"c",))]
    assert log.since(3) == log.since(4) == log.since(5) == [(6, (b"c",))]
    assert log.since(6) == log.since(9) == []


def test_what_is_too_old_is_told_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHANGES_BYTES", 2 * (module._OVERHEAD + 10))
    log = ChangeLog()
    for index in (2, 4, 6):
        log.append(index, [bytes(10)])
    assert log.first == 3
    assert [log.since(index) for index in (0, 1)] == [None, None]
    assert [change[0] for change in log.since(2) or []] == [4, 6]


def test_one_entry_stays_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHANGES_BYTES", 100)
    log = ChangeLog()
    log.append(1, [bytes(1000), bytes(1000)])
    assert log.since(0) == [(1, (bytes(1000), bytes(1000)))]
    log.append(2, [b""])
    assert log.since(0) is None
    assert log.since(1) == [(2, (b"",))]


def test_a_page_is_bounded_but_holds_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WATCH_BYTES", 2 * (module._OVERHEAD + 10))
    log = ChangeLog()
    log.append(1, [bytes(1000)])
    for index in (2, 3, 4):
        log.append(index, [bytes(10)])
    assert [change[0] for change in log.since(0) or []] == [1]
    assert [change[0] for change in log.since(1) or []] == [2, 3]
    assert [change[0] for change in log.since(3) or []] == [4]


@given(
    st.lists(st.lists(st.binary(max_size=40), max_size=3), max_size=30),
    st.integers(1, 3000),
    st.integers(1, 1000),
    st.integers(0, 31),
)
@settings(deadline=None)
def test_page_by_page_everything_behind_an_index_is_told_once(
    entries: list[list[bytes]], most: int, page: int, start: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_CHANGES_BYTES", most)
        patch.setattr(module, "MAX_WATCH_BYTES", page)
        log = ChangeLog()
        for index, changes in enumerate(entries, 1):
            log.append(index, changes)
        told: list[tuple[int, tuple[bytes, ...]]] = []
        at = start
        while found := log.since(at):
            told += found
            at = found[-1][0]
        everything = [(i, tuple(c)) for i, c in enumerate(entries, 1) if c and i > start]
        if found is None:
            assert told == []
            assert start + 1 < log.first
        else:
            assert told == everything
        assert log._bytes == sum(module._size(change[1]) for change in log._changes)
        assert log._bytes <= most or len(log._changes) == 1


def test_what_came_in_a_snapshot_is_told_as_lost() -> None:
    log = ChangeLog()
    log.append(3, [b"a"])
    log.skip(9)
    assert (log.first, log.last, log._bytes) == (10, 0, 0)
    assert [log.since(index) for index in (0, 3, 8)] == [None] * 3
    assert log.since(9) == []
    log.append(11, [b"b"])
    assert log.since(9) == log.since(10) == [(11, (b"b",))]
