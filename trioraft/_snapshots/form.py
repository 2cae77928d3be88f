"""A snapshot as bytes: docs/storage-format.md draws it.

    magic, version     which form this is
    HEAD               what it is a snapshot of
    SESSIONS ...       the table of sessions, in pieces
    STATE ...          the machine's state, in pieces
    END                a digest of all that comes before

Each of these is a block with a checksum of its own.  The same bytes lie on the disk and travel.
Nothing is believed that is not verified, and nothing here grows with the state.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, BinaryIO, Final

from attrs import frozen

from trioraft._errors import ProtocolError
from trioraft._rules.membership import Configuration
from trioraft._snapshots.compression import Compression, compress, decompress
from trioraft._wire.strict import MALFORMED, counting_converter, pack, unpack
from trioraft.abc import SavedState

VERSION: Final = 1
MAGIC: Final = b"triosnap"
PIECE_BYTES: Final = 1 << 20
"""What a block is meant to hold, before it is compressed."""

MAX_BLOCK_BYTES: Final = 1 << 21
"""The most that one holds, before it is compressed and after."""

_START: Final = struct.Struct("<8sI")
_BLOCK: Final = struct.Struct("<BBI")  # kind, codec, length
_CRC: Final = struct.Struct("<I")
_DIGEST_BYTES: Final = hashlib.sha256().digest_size

START_BYTES: Final = _START.size
BLOCK_OVERHEAD: Final = _BLOCK.size + _CRC.size
END_BYTES: Final = BLOCK_OVERHEAD + _DIGEST_BYTES


class Part(IntEnum):
    """The kinds of block, in the order in which they come.  Never reuse a number."""

    HEAD = 1
    SESSIONS = 2
    STATE = 3
    END = 4


class Damaged(ProtocolError):
    """Bytes that are no whole snapshot.

    Attributes:
        offset: where the bad block begins.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"{reason} at byte {offset}")
        self.offset = offset
        self.reason = reason


@frozen
class Head:
    """What a snapshot is a snapshot of: everything up to one entry."""

    cluster: str | None
    """The cluster's id; None in one that a new cluster is to start from."""
    index: int
    term: int
    time: float
    """The cluster's time at that entry."""
    configuration: Configuration | None
    """The one in force there; None: that of the genesis."""


@frozen
class Summary:
    """What tells two snapshots apart."""

    head: Head
    size: int
    """In bytes."""
    holds: int
    """Bytes, before they were compressed: what it takes to make one like it."""
    digest: bytes
    """SHA-256 of all but the last block."""


# -- writing -----------------------------------------------------------------------------------


class _Writer:
    def __init__(self, file: BinaryIO, compression: Compression) -> None:
        self._file = file
        self._compression = compression
        self._digest = hashlib.sha256()
        self.size = self.holds = 0

    def put(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def block(self, part: Part, data: bytes) -> None:
        codec, packed = compress(data, self._compression)
        self.put(_block(part, codec, packed))
        self.holds += len(data)

    def end(self) -> bytes:
        digest = self._digest.digest()
        self.put(_block(Part.END, 0, digest))
        self.holds += len(digest)
        return digest


def _block(part: Part, codec: int, packed: bytes) -> bytes:
    start = _BLOCK.pack(part, codec, len(packed))
    return start + _CRC.pack(zlib.crc32(packed, zlib.crc32(start))) + packed


class _StateWriter(io.RawIOBase):
    """The file that a machine's state is written to; a buffer before it makes the pieces."""

    def __init__(self, writer: _Writer) -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        for offset in range(0, len(view), PIECE_BYTES):
            self._writer.block(Part.STATE, bytes(view[offset : offset + PIECE_BYTES]))
        return len(view)


def write_snapshot(
    file: BinaryIO,
    head: Head,
    sessions: Iterable[bytes],
    state: bytes | SavedState,
    compression: Compression,
) -> Summary:
    """Write a whole snapshot.

    Args:
        file: where it goes.
        head: what it is a snapshot of.
        sessions: the table of sessions in pieces, of `MAX_BLOCK_BYTES` at most each.
        state: what the machine's `save` returned.
        compression: of the pieces.
    """
    writer = _Writer(file, compression)
    writer.put(_START.pack(MAGIC, VERSION))
    writer.block(Part.HEAD, pack(_CONVERTER.unstructure(head)))
    for piece in sessions:
        writer.block(Part.SESSIONS, piece)
    with io.BufferedWriter(_StateWriter(writer), PIECE_BYTES) as stream:
        if isinstance(state, bytes):
            stream.write(state)
        else:
            state.write(stream)
    digest = writer.end()
    return Summary(head, writer.size, writer.holds, digest)


# -- reading -----------------------------------------------------------------------------------


class Reader:
    """Reads a snapshot from its start to its end."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the head.

        Raises:
            Damaged: there is none.
        """
        self._file = file
        self._digest = hashlib.sha256()
        self.offset = 0
        """Where the next block begins."""
        self._holds = 0
        self._next: tuple[Part, bytes] | None = None
        self._before_next = b""
        """The digest of all that comes before that block."""
        self._part = Part.HEAD
        magic, version = _START.unpack(self._bytes(START_BYTES))
        if magic != MAGIC:
            raise Damaged(0, "this is no snapshot")
        if version != VERSION:
            raise Damaged(0, f"a snapshot of format version {version}; known is {VERSION}")
        self.head = self._read_head()

    def _read_head(self) -> Head:
        data = self._take(Part.HEAD)
        try:
            return _CONVERTER.structure(unpack(data or b""), Head)
        except (ProtocolError, *MALFORMED) as error:
            raise Damaged(START_BYTES, f"the head can't be read: {error}") from error

    def sessions(self) -> Iterator[bytes]:
        """The table of sessions, piece by piece."""
        while (piece := self._take(Part.SESSIONS)) is not None:
            yield piece

    def state(self) -> BinaryIO:
        """The machine's state as a file; the sessions must have been read."""
        return io.BufferedReader(_StateReader(self), PIECE_BYTES)

    def piece(self) -> bytes:
        """The next piece of the state; empty at its end."""
        while (piece := self._take(Part.STATE)) == b"":
            pass
        return b"" if piece is None else piece

    def end(self) -> Summary:
        """See that all is there; what comes before must have been read.

        Raises:
            Damaged: it is not.
        """
        told, digest = self._take(Part.END), self._before_next
        if told != digest:
            raise Damaged(self.offset - END_BYTES, "the digest does not match")
        if self._file.read(1):
            raise Damaged(self.offset, "there is more behind the end")
        return Summary(self.head, self.offset, self._holds, digest)

    def _take(self, part: Part) -> bytes | None:
        """The next block, if it is of this kind."""
        if self._next is None:
            self._before_next = self._digest.digest()
            self._next = self._read_block()
        found, data = self._next
        if found is not part:
            return None
        self._next = None
        return data

    def _read_block(self) -> tuple[Part, bytes]:
        offset = self.offset
        start = self._bytes(_BLOCK.size)
        kind, codec, length = _BLOCK.unpack(start)
        if length > MAX_BLOCK_BYTES:
            raise Damaged(offset, f"a block of {length} bytes")
        (crc,) = _CRC.unpack(self._bytes(_CRC.size))
        packed = self._bytes(length)
        if crc != zlib.crc32(packed, zlib.crc32(start)):
            raise Damaged(offset, "a block's checksum does not match")
        if kind not in (self._part, *_AFTER[self._part]):
            raise Damaged(offset, f"a block of kind {kind} is out of place")
        self._part = Part(kind)
        try:
            data = decompress(codec, packed, MAX_BLOCK_BYTES)
        except ValueError as error:
            raise Damaged(offset, str(error)) from error
        self._holds += len(data)
        return self._part, data

    def _bytes(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise Damaged(self.offset, "the snapshot is cut short")
        self.offset += size
        self._digest.update(data)
        return data


class _StateReader(io.RawIOBase):
    """The file that a machine's state is read from."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._rest:
            self._rest = memoryview(self._reader.piece())
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def verify(file: BinaryIO) -> Summary:
    """Read a whole snapshot, and see that nothing of it is damaged.

    Raises:
        Damaged: something is.
    """
    reader = Reader(file)
    for _ in reader.sessions():
        pass
    while reader.piece():
        pass
    return reader.end()


_AFTER: Final = {
    Part.HEAD: (Part.SESSIONS, Part.STATE, Part.END),
    Part.SESSIONS: (Part.STATE, Part.END),
    Part.STATE: (Part.END,),
    Part.END: (),
}
_CONVERTER: Final = counting_converter()
