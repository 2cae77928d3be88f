"""Whatever bytes come: a message, or ProtocolError; nothing else, and little memory."""

from __future__ import annotations

import tracemalloc

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trioraft import ProtocolError
from trioraft._wire.codec import TAGS, WireMessage, decode, encode
from trioraft._wire.frames import FrameError, cut_frames

from .samples import ENCODED, FRAMES

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
THOROUGH = settings(PATIENT, max_examples=400)

FIELDS = sorted({key for data in ENCODED.values() for key in msgpack.unpackb(data)})

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=40)
    | st.sampled_from(list(FRAMES.values())),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)
    ),
    max_leaves=8,
)
SHAPES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8)


def decoded(data: bytes) -> WireMessage | None:
    """What `decode` makes of the bytes; everything but ProtocolError is passed on."""
    message, words = None, "fine"
    try:
        message = decode(data)
    except ProtocolError as error:
        words = str(error)
    assert message is None or type(message) in TAGS
    assert words, "an error without a word"
    assert len(words) < 500, "an error that repeats what the stranger said"
    return message


@given(st.binary(max_size=400))
@PATIENT
def test_random_bytes(data: bytes) -> None:
    decoded(data)


@given(st.data())
@THOROUGH
def test_mutated_messages(data: st.DataObject) -> None:
    mutant = bytearray(data.draw(st.sampled_from(list(ENCODED.values()))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutant)))
        match data.draw(st.integers(0, 3)):
            case 0:
                mutant[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case 1:
                mutant[place:place] = data.draw(st.binary(min_size=1, max_size=6))
            case 2:
                del mutant[place : place + data.draw(st.integers(1, 6))]
            case _:
                donor = data.draw(st.sampled_from(list(ENCODED.values())))
                start = data.draw(st.integers(0, len(donor)))
                mutant[place:] = donor[start:]
    message = decoded(bytes(mutant))
    if message is not None:
        again = decode(encode(message))
        assert again == message, "a message that was taken can't be sent on"


@given(st.sampled_from(sorted(TAGS.values())), SHAPES)
@THOROUGH
def test_well_formed_nonsense(tag: str, fields: dict[str, object]) -> None:
    message = decoded(msgpack.packb({**fields, "t": tag}))
    if message is not None:
        assert decode(encode(message)) == message


@given(st.sampled_from(list(ENCODED.values())), SHAPES)
@THOROUGH
def test_messages_with_some_fields_replaced(data: bytes, fields: dict[str, object]) -> None:
    whole = msgpack.unpackb(data)
    decoded(msgpack.packb({**whole, **{k: v for k, v in fields.items() if k in whole}}))


@given(st.binary(max_size=200), st.sampled_from([b"", *FRAMES.values()]))
@PATIENT
def test_random_frames(data: bytes, before: bytes) -> None:
    whole = before + data
    end = len(whole)
    try:
        frames = cut_frames(whole)
    except FrameError as error:
        end = error.offset
        frames = cut_frames(whole[:end])  # all before it was good
    assert b"".join(frames) == whole[:end]


@given(st.binary(max_size=60), st.sampled_from(list(ENCODED.values())), st.integers(0, 300))
@settings(PATIENT, max_examples=60)
def test_no_small_message_takes_much_memory(data: bytes, whole: bytes, place: int) -> None:
    """Lengths of four bytes are put in everywhere: the greatest that msgpack can claim."""
    mutants = [
        whole[:place] + code + b"\x7f\xff\xff\xff" + data
        for code in (b"\xc6", b"\xc9", b"\xdb", b"\xdd", b"\xdf")
    ]
    tracemalloc.start()
    try:
        for mutant in mutants:
            with pytest.raises(ProtocolError):
                decode(mutant if len(mutant) % 2 else mutant * 3)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
