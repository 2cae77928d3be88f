"""A snapshot as bytes: what was written is what is read, and nothing that is damaged passes."""

from __future__ import annotations

import io
import itertools
import zlib
from random import Random
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Member
from trioraft._snapshots import compression as compression_module
from trioraft._snapshots.compression import Codec, check_compression, compress, decompress
from trioraft._snapshots.form import (
    BLOCK_OVERHEAD,
    END_BYTES,
    MAX_BLOCK_BYTES,
    PIECE_BYTES,
    START_BYTES,
    Damaged,
    Head,
    Part,
    Reader,
    Summary,
    _block,
    verify,
    write_snapshot,
)

MEMBERS = Configuration("c1", (Member(ServerId("n1", "aa"), "ws://n1:1", ("put",)),))
HEAD = Head("c1", 7, 3, 1.5, MEMBERS)


class Later:
    """A captured state that writes itself in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def write(self, file: BinaryIO, /) -> None:
        file.writelines(self.pieces)


def made(state: Any = b"state", sessions: tuple[bytes, ...] = (), **options: Any) -> bytes:
    file = io.BytesIO()
    summary = write_snapshot(file, HEAD, sessions, state, options.get("compression", "zlib"))
    data = file.getvalue()
    assert summary.size == len(data)
    assert verify(io.BytesIO(data)) == summary
    return data


def read(data: bytes) -> tuple[Head, list[bytes], bytes]:
    reader = Reader(io.BytesIO(data))
    sessions = list(reader.sessions())
    state = reader.state().read()
    reader.end()
    return reader.head, sessions, state


@given(
    state=st.binary(max_size=300),
    sessions=st.lists(st.binary(max_size=50), max_size=4),
    compression=st.sampled_from(["zlib", "zstd"]),
    cuts=st.lists(st.integers(0, 300), max_size=5),
)
def test_what_was_written_is_what_is_read(
    state: bytes, sessions: list[bytes], compression: str, cuts: list[int]
) -> None:
    edges = [0, *sorted(cuts), len(state)]
    later = Later(*(state[a:b] for a, b in itertools.pairwise(edges)))
    data = made(later, tuple(sessions), compression=compression)
    assert data == made(state, tuple(sessions), compression=compression), "however it comes"
    assert read(data) == (HEAD, sessions, state)


def test_g52_a_large_state_is_many_pieces_and_is_read_as_one_file() -> None:
    state = Random(1).randbytes(3 * PIECE_BYTES + 5) + bytes(2 * PIECE_BYTES)
    data = made(state, (b"s",))
    assert len(state) - PIECE_BYTES > len(data) > 3 * PIECE_BYTES, "zeros are small, chance is not"
    reader = Reader(io.BytesIO(data))
    assert list(reader.sessions()) == [b"s"]
    file = reader.state()
    assert file.read(10) + file.read() == state
    assert reader.end() == verify(io.BytesIO(data))


def test_no_configuration_and_no_cluster_are_said_as_such() -> None:
    file = io.BytesIO()
    head = Head(None, 1, 1, 0.0, None)
    write_snapshot(file, head, [], b"", "zlib")
    assert Reader(io.BytesIO(file.getvalue())).head == head


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_every_bit_that_turns_is_found(place: int, bit: int) -> None:
    data = bytearray(made(b"a state of some length" * 20, (b"sessions", b"more")))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(Damaged):
        verify(io.BytesIO(bytes(data)))


@pytest.mark.parametrize("where", ["start", "head", "sessions", "state", "end"])
def test_a_snapshot_that_is_cut_short_is_found(where: str) -> None:
    data = made(b"state", (b"sessions",))
    lengths = {
        "start": START_BYTES - 1,
        "head": START_BYTES + 5,
        "sessions": len(data) - END_BYTES - BLOCK_OVERHEAD - 10,
        "state": len(data) - END_BYTES,
        "end": len(data) - 1,
    }
    with pytest.raises(Damaged, match="cut short"):
        verify(io.BytesIO(data[: lengths[where]]))


def test_what_follows_the_end_is_found() -> None:
    with pytest.raises(Damaged, match="more behind the end"):
        verify(io.BytesIO(made() + b"x"))


def test_two_whole_snapshots_mixed_are_found_by_the_digest() -> None:
    one, other = made(b"one"), made(b"two")
    assert len(one) == len(other)
    mixed = one[:-END_BYTES] + other[-END_BYTES:]
    with pytest.raises(Damaged, match="digest") as caught:
        verify(io.BytesIO(mixed))
    assert caught.value.offset == len(one) - END_BYTES


def start(version: int = 1, magic: bytes = b"triosnap") -> bytes:
    return magic + version.to_bytes(4, "little")


HEAD_BLOCK = made()[START_BYTES : -END_BYTES - BLOCK_OVERHEAD - len(b"state")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cut short"),
        (start(magic=b"whatever"), "no snapshot"),
        (start(version=2), "version 2"),
        (start() + _block(Part.STATE, 0, b"x"), "head can't be read"),
        (start() + _block(Part.HEAD, 0, b"\xc1"), "head can't be read"),
        (start() + _block(Part.HEAD, 0, b"\x80"), "head can't be read"),
        (start() + HEAD_BLOCK + _block(9, 0, b""), "kind 9 is out of place"),  # type: ignore[arg-type]
        (
            start() + HEAD_BLOCK + _block(Part.STATE, 0, b"") + _block(Part.SESSIONS, 0, b""),
            "out of place",
        ),
        (start() + HEAD_BLOCK + HEAD_BLOCK, "digest"),
        (start() + HEAD_BLOCK + _block(Part.STATE, 7, b"x"), "unknown codec 7"),
        (start() + HEAD_BLOCK + _block(Part.STATE, 1, b"nonsense"), "no zlib"),
        (start() + HEAD_BLOCK + _block(Part.STATE, 2, b"x"), "no zstd"),
        (start() + HEAD_BLOCK + _block(Part.STATE, 1, zlib.compress(b"x")[:-2]), "cut short"),
        (start() + HEAD_BLOCK + b"\3\0\xff\xff\xff\xff" + bytes(40), "a block of 4294967295 bytes"),
    ],
)
def test_nonsense_is_told_by_place_and_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Damaged, match=reason):
        verify(io.BytesIO(data))


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_a_small_piece_may_not_become_a_large_one(compression: Any) -> None:
    codec, small = compress(bytes(MAX_BLOCK_BYTES + 1), compression)
    assert len(small) < 10_000
    with pytest.raises(ValueError, match="more than"):
        decompress(codec, small, MAX_BLOCK_BYTES)
    assert len(decompress(codec, small, MAX_BLOCK_BYTES + 1)) == MAX_BLOCK_BYTES + 1


def test_a_zstd_frame_that_hides_its_size_is_refused() -> None:
    import zstandard

    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 24))
    with pytest.raises(ValueError, match=r"zstd|more than"):
        decompress(Codec.ZSTD, hidden, MAX_BLOCK_BYTES)


def test_without_the_extra_zstd_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    _, small = compress(bytes(1000), "zstd")
    monkeypatch.setattr(compression_module, "_zstandard", None)
    with pytest.raises(ValueError, match=r"trioraft\[zstd\] only"):
        check_compression("zstd")
    with pytest.raises(ValueError, match=r"lacks trioraft\[zstd\]"):
        decompress(Codec.ZSTD, small, 1000)
    check_compression("zlib")
    with pytest.raises(ValueError, match="'zlib' or 'zstd', not 'lz4'"):
        check_compression("lz4")


def test_what_does_not_get_smaller_is_left_as_it_is() -> None:
    data = Random(1).randbytes(1000)
    assert compress(data, "zlib") == (Codec.NONE, data)


def test_a_state_that_can_not_be_written_says_so() -> None:
    class Fails:
        def write(self, file: BinaryIO, /) -> None:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        write_snapshot(io.BytesIO(), HEAD, [], Fails(), "zlib")


def test_equal_summaries_are_equal_bytes_only() -> None:
    one, other = verify(io.BytesIO(made(b"1"))), verify(io.BytesIO(made(b"2")))
    assert isinstance(one, Summary)
    assert one.digest != other.digest
