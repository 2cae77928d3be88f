"""The end of the log in memory, against a model that could not be simpler."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trioraft import _recent as module
from trioraft._recent import Recent

CACHE = 400
MESSAGE = 100
PATIENT = settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_CACHE_BYTES", CACHE)
    monkeypatch.setattr(module, "_OVERHEAD", 0)
    monkeypatch.setattr(module, "MAX_LOG_ENTRIES_PER_REQUEST", 5)


class Model:
    """Every entry that memory should hold, by its index."""

    def __init__(self, last: int) -> None:
        self.entries: dict[int, bytes] = {}
        self.last = last

    def append(self, first: int, frames: list[bytes]) -> None:
        self.entries = {index: kept for index, kept in self.entries.items() if index < first}
        self.entries.update(enumerate(frames, first))
        self.last = first + len(frames) - 1

    def between(self, first: int, last: int) -> list[bytes] | None:
        wanted = [self.entries.get(index) for index in range(first, last + 1)]
        return None if None in wanted else wanted  # type: ignore[return-value]

    def reach(self, first: int) -> int | None:
        if first not in self.entries:
            return None
        size, last = 0, first - 1
        while last + 1 in self.entries and last + 1 - first < 5:
            size += len(self.entries[last + 1])
            if size > 100 and last >= first:
                break
            last += 1
        return last


@given(st.integers(0, 10), st.data())
@PATIENT
def test_it_holds_what_a_simple_model_holds(last: int, data: st.DataObject) -> None:
    recent, model = Recent(last), Model(last)
    assert recent.last == last
    number = 0
    for _ in range(data.draw(st.integers(1, 12))):
        if data.draw(st.booleans()):
            first = data.draw(st.integers(1, model.last + 1))
            sizes = data.draw(st.lists(st.integers(1, 150), min_size=1, max_size=6))
            frames = []
            for size in sizes:
                number += 1
                frames.append(bytes([number % 256]) * size)
            recent.append(first, frames)
            model.append(first, frames)
        else:
            durable = data.draw(st.integers(0, model.last))
            before = dict(model.entries)
            recent.trim(durable)
            model.entries = dict(
                list(before.items())[len(before) - len(recent.frames) :] if recent.frames else ()
            )
            gone = before.keys() - model.entries.keys()
            assert all(index <= durable for index in gone), "forgot what is on no disk"
            held = sum(map(len, before.values()))
            assert not gone or held > CACHE, "forgot without need"
            left = sum(map(len, model.entries.values()))
            assert left <= CACHE or not any(index <= durable for index in model.entries)
        assert list(recent.frames) == list(model.entries.values())
        assert recent.last == model.last
        assert recent._bytes == sum(map(len, recent.frames))
        for first in range(1, model.last + 3):
            assert recent.reach(first, MESSAGE) == model.reach(first)
            for end in range(first, min(first + 4, model.last + 3)):
                assert recent.between(first, end) == model.between(first, end)


def test_an_append_replaces_what_stood_there() -> None:
    recent = Recent(0)
    recent.append(1, [b"a", b"b", b"c"])
    recent.append(2, [b"B"])
    assert recent.between(1, 2) == [b"a", b"B"]
    assert recent.between(1, 3) is None
    assert recent.last == 2


def test_an_append_before_all_that_is_here_begins_anew() -> None:
    recent = Recent(10)
    recent.append(11, [b"k"])
    recent.append(7, [b"G", b"H"])
    assert list(recent.frames) == [b"G", b"H"]
    assert recent.between(7, 8) == [b"G", b"H"]
    assert recent.between(6, 7) is None
    assert recent.between(11, 11) is None


def test_what_is_on_disk_only_is_not_here() -> None:
    recent = Recent(10)
    assert recent.between(10, 10) is None
    assert recent.reach(10, MESSAGE) is None
    assert recent.reach(11, MESSAGE) is None


def test_a_message_reaches_as_far_as_count_and_bytes_allow_and_one_entry_at_least() -> None:
    recent = Recent(0)
    recent.append(1, [bytes(50), bytes(50), bytes(1), bytes(500), bytes(1)] + [b"x"] * 10)
    assert recent.reach(1, MESSAGE) == 2
    assert recent.reach(3, MESSAGE) == 3
    assert recent.reach(4, MESSAGE) == 4
    assert recent.reach(5, MESSAGE) == 9
    assert recent.reach(15, MESSAGE) == 15


def test_trimming_forgets_many_at_a_time_and_only_beyond_the_bound() -> None:
    recent = Recent(0)
    recent.append(1, [bytes(100)] * 4)
    recent.trim(4)
    assert len(recent.frames) == 4
    recent.append(5, [bytes(100)])
    recent.trim(0)
    assert len(recent.frames) == 5, "nothing is on disk"
    recent.trim(5)
    assert len(recent.frames) == 3, "down to three quarters"
    assert recent.between(3, 5) == [bytes(100)] * 3


def test_a_snapshot_in_the_logs_place_leaves_nothing_of_what_was_here() -> None:
    recent = Recent(3)
    recent.append(4, [b"d", b"e"])
    recent.clear(9)
    assert (recent.last, list(recent.frames), recent._bytes) == (9, [], 0)
    assert recent.between(4, 5) is None
    assert recent.reach(5, MESSAGE) is None
    recent.append(10, [b"j"])
    assert recent.between(10, 10) == [b"j"]
    recent.trim(10)
    assert recent._bytes == module._size([b"j"])


def test_entries_of_hardly_any_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OVERHEAD", 64)
    recent = Recent(0)
    recent.append(1, [b"x"] * 100)
    recent.trim(100)
    assert len(recent.frames) == CACHE * 3 // 4 // 65
    assert recent.between(100, 100) == [b"x"]
    assert recent._bytes == 65 * len(recent.frames)
