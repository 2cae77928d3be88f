"""Entries as bytes."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trioraft import ProtocolError
from trioraft._wire.frames import (
    FRAME_OVERHEAD,
    Entry,
    FrameError,
    Kind,
    cut_frames,
    frame,
    identity,
    parse_entry,
)

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
U64 = st.integers(1, 2**64 - 1)
KIND = st.sampled_from(Kind)


@given(U64, U64, KIND, st.binary(max_size=300))
@PATIENT
def test_an_entry_comes_back_whole(index: int, term: int, kind: Kind, payload: bytes) -> None:
    whole = frame(index, term, kind, payload)
    assert len(whole) == FRAME_OVERHEAD + len(payload)
    assert parse_entry(whole) == Entry(index, term, kind, payload)
    assert identity(whole) == (index, term)
    assert cut_frames(whole) == [whole]


@given(
    st.integers(1, 2**40),
    st.lists(st.tuples(st.integers(0, 3), KIND, st.binary(max_size=20)), max_size=20),
)
@PATIENT
def test_a_run_of_entries_is_cut_where_they_meet(
    first: int, entries: list[tuple[int, Kind, bytes]]
) -> None:
    frames, term = [], 1
    for index, (more, kind, payload) in enumerate(entries, first):
        term += more
        frames.append(frame(index, term, kind, payload))
    assert cut_frames(b"".join(frames)) == frames


def test_nothing_is_no_frames() -> None:
    assert cut_frames(b"") == []


@given(st.data())
@PATIENT
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    whole = frame(7, 3, Kind.COMMAND, b"some payload")
    place = data.draw(st.integers(0, len(whole) - 1))
    change = data.draw(st.integers(1, 255))
    damaged = bytearray(whole)
    damaged[place] ^= change
    with pytest.raises(FrameError):
        cut_frames(bytes(damaged))


@pytest.mark.parametrize("length", range(1, FRAME_OVERHEAD + 3))
def test_a_frame_that_is_cut_short_is_refused(length: int) -> None:
    whole = frame(7, 3, Kind.COMMAND, b"abc")
    with pytest.raises(FrameError, match="cut short"):
        cut_frames(whole[:length])


def test_the_error_says_where_the_bad_frame_begins() -> None:
    good = frame(1, 1, Kind.NOOP, b"xy")
    with pytest.raises(FrameError, match=f"byte {len(good)}") as caught:
        cut_frames(good + frame(2, 1, Kind.NOOP, b"")[:-1] + b"\x07")
    assert caught.value.offset == len(good)
    assert caught.value.reason == "a frame's checksum does not match"
    assert isinstance(caught.value, ProtocolError)


@pytest.mark.parametrize(
    "pairs",
    [
        [(0, 1)],
        [(1, 0)],
        [(1, 1), (3, 1)],
        [(1, 1), (1, 1)],
        [(2, 1), (1, 1)],
        [(1, 2), (2, 1)],
        [(2**64 - 1, 1), (0, 1)],
    ],
)
def test_a_gap_or_a_falling_term_is_refused(pairs: list[tuple[int, int]]) -> None:
    """Seed G-10: arithmetic over a log with a gap goes wrong everywhere."""
    data = b"".join(frame(index, term, Kind.NOOP, b"") for index, term in pairs)
    with pytest.raises(FrameError, match="does not follow"):
        cut_frames(data)


@pytest.mark.parametrize("kind", [5, 6, 127, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    rest = struct.pack("<QQB", 1, 1, kind)
    with pytest.raises(FrameError, match=f"unknown kind {kind}"):
        cut_frames(struct.pack("<II", 0, zlib.crc32(rest)) + rest)


@pytest.mark.parametrize("count", [0, 2])
def test_one_entry_is_parsed_and_no_other_number(count: int) -> None:
    data = b"".join(frame(index, 1, Kind.NOOP, b"") for index in range(1, count + 1))
    with pytest.raises(FrameError, match=f"expected one frame, got {count}"):
        parse_entry(data)


def test_the_numbers_of_the_kinds_are_on_disk_and_never_change() -> None:
    assert {kind.name: kind.value for kind in Kind} == {
        "NOOP": 0,
        "COMMAND": 1,
        "CONFIGURATION": 2,
        "SESSION": 3,
        "CALL": 4,
    }
