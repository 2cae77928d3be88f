"""How the pieces of a snapshot are made smaller, and how much one may become again."""

from __future__ import annotations

import zlib
from enum import IntEnum
from types import ModuleType
from typing import Final, Literal

try:
    import zstandard
except ImportError:  # it comes with trioraft[zstd]
    _zstandard: ModuleType | None = None
else:
    _zstandard = zstandard

Compression = Literal["zlib", "zstd"]

_ZLIB_LEVEL: Final = 1
_ZSTD_LEVEL: Final = 3


class Codec(IntEnum):
    """What a piece was made smaller by.  The numbers are in files: never reuse one."""

    NONE = 0
    ZLIB = 1
    ZSTD = 2


def check_compression(name: str) -> None:
    """See that snapshots can be written so here.

    Raises:
        ValueError: there is no such compression, or it is not installed.
    """
    if name not in ("zlib", "zstd"):
        raise ValueError(f"snapshots are compressed by 'zlib' or 'zstd', not {name!r}")
    if name == "zstd" and _zstandard is None:
        raise ValueError("snapshots can be compressed by zstd with trioraft[zstd] only")


def compress(data: bytes, compression: Compression) -> tuple[Codec, bytes]:
    """The smaller form of the bytes, if there is one."""
    if compression == "zlib":
        codec, smaller = Codec.ZLIB, zlib.compress(data, _ZLIB_LEVEL)
    else:
        assert _zstandard is not None, "the configuration was checked"
        codec = Codec.ZSTD
        smaller = _zstandard.ZstdCompressor(_ZSTD_LEVEL).compress(data)
    return (codec, smaller) if len(smaller) < len(data) else (Codec.NONE, data)


def decompress(codec: int, data: bytes, most: int) -> bytes:
    """The bytes that `compress` was given.

    Raises:
        ValueError: there are none, or more than `most` of them, or this server can't know.
    """
    match codec:
        case Codec.NONE:
            whole = data
        case Codec.ZLIB:
            whole = _inflate(data, most)
        case Codec.ZSTD:
            whole = _unzstd(data, most)
        case _:
            raise ValueError(f"compressed by the unknown codec {codec}")
    if len(whole) > most:
        raise ValueError(f"more than {most} bytes in one piece")
    return whole


def _inflate(data: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        whole = inflater.decompress(data, most + 1)
    except zlib.error as error:
        raise ValueError(f"no zlib: {error}") from error
    if len(whole) <= most and not inflater.eof:
        raise ValueError("a piece that is cut short")
    return whole


def _unzstd(data: bytes, most: int) -> bytes:
    if _zstandard is None:
        raise ValueError("compressed by zstd: this server lacks trioraft[zstd]")
    try:
        # What the frame says of its own size is believed only up to the bound.
        if _zstandard.frame_content_size(data) > most:
            raise ValueError(f"more than {most} bytes in one piece")
        whole: bytes = _zstandard.ZstdDecompressor().decompress(data, max_output_size=most)
    except _zstandard.ZstdError as error:
        raise ValueError(f"no zstd: {error}") from error
    return whole
