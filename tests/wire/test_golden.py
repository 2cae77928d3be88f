"""The bytes are a promise: to servers of other versions, and to what is on disk already."""

from __future__ import annotations

import attrs
import pytest

from trioraft import command
from trioraft._commands import Vocabulary
from trioraft._state import HardState
from trioraft._wire.codec import TAGS, configuration_of, decode, encode
from trioraft._wire.frames import Entry, Kind, parse_entry
from trioraft._wire.stamps import stamp, stamped_data, stamped_time
from trioraft._wire.strict import pack, unpack

from .samples import CHANGING, FRAMES, GOLDEN, MESSAGES, STATES, golden


@command("put")
@attrs.frozen
class Put:
    key: str
    value: bytes
    times: int = 1

    def apply(self, machine: object, applied: object) -> None:
        raise NotImplementedError


VOCABULARY = Vocabulary([Put])
PUT = Put("k", b"\x00v", -2)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_exactly_these_bytes(name: str) -> None:
    assert encode(MESSAGES[name]).hex() == golden(name).hex()


@pytest.mark.parametrize("name", MESSAGES)
def test_the_bytes_are_this_message(name: str) -> None:
    message = decode(golden(name))
    assert message == MESSAGES[name]
    if name == "append":
        assert message.entries.frames == list(FRAMES.values())


def test_every_type_of_message_has_golden_bytes() -> None:
    assert {type(message) for message in MESSAGES.values()} == set(TAGS)
    assert len(set(TAGS.values())) == len(TAGS)


def test_every_golden_file_is_used() -> None:
    names = {*MESSAGES, *FRAMES, *STATES, "command", "command_payload"}
    assert {path.stem for path in GOLDEN.glob("*.hex")} == names


@pytest.mark.parametrize("name", MESSAGES)
def test_fields_that_a_newer_version_adds_are_ignored(name: str) -> None:
    fields = unpack(golden(name))
    assert decode(pack({**fields, "new": [1, {"a": None}]})) == MESSAGES[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_the_order_of_fields_does_not_matter(name: str) -> None:
    fields = unpack(golden(name))
    assert decode(pack(dict(reversed(fields.items())))) == MESSAGES[name]


def test_a_field_with_a_default_may_be_missing() -> None:
    hello = unpack(golden("hello_unformed"))
    for field in ("initial", "expected", "installs", "probes", "configuration"):
        del hello[field]
    assert decode(pack(hello)) == MESSAGES["hello_unformed"]
    reply = unpack(golden("append_reply"))
    del reply["conflict_term"], reply["conflict_index"], reply["reluctance"]
    expected = attrs.evolve(
        MESSAGES["append_reply"], conflict_term=0, conflict_index=0, reluctance=0
    )
    assert decode(pack(reply)) == expected
    for name, field in (
        ("vote", "transfer"),
        ("refusal", "expelled_by"),
        ("genesis", "newest"),
        ("timeout_now", "withdrawn"),
    ):
        fields = unpack(golden(name))
        del fields[field]
        assert decode(pack(fields)) == MESSAGES[name], "what an older version sends"


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_exactly_these_bytes(name: str) -> None:
    assert FRAMES[name].hex() == golden(name).hex()


def test_the_bytes_are_these_entries() -> None:
    assert parse_entry(golden("frame_noop")) == Entry(4, 2, Kind.NOOP, b"")
    assert parse_entry(golden("frame_command")) == Entry(5, 2, Kind.COMMAND, b"hello")
    entry = parse_entry(golden("frame_configuration"))
    assert (entry.index, entry.term, entry.kind) == (6, 3, Kind.CONFIGURATION)
    assert stamped_time(entry.payload) == 1_700_000_000.25
    assert configuration_of(golden("frame_configuration")) == CHANGING


def test_a_frame_is_laid_out_as_documented() -> None:
    data = golden("frame_command")
    assert data[:4] == (5).to_bytes(4, "little")
    assert data[8:16] == (5).to_bytes(8, "little")
    assert data[16:24] == (2).to_bytes(8, "little")
    assert data[24:] == b"\x01hello"


@pytest.mark.parametrize("name", STATES)
def test_the_hard_state_is_exactly_these_bytes(name: str) -> None:
    assert STATES[name].encode().hex() == golden(name).hex()
    assert HardState.decode(golden(name)) == STATES[name]


def test_a_command_is_exactly_these_bytes() -> None:
    data, fresh = VOCABULARY.encode(PUT)
    assert data.hex() == golden("command").hex()
    assert fresh == PUT
    assert VOCABULARY.decode(golden("command")) == PUT


def test_an_entry_carries_the_time_in_microseconds_and_then_the_command() -> None:
    payload = stamp(1_700_000_000.25, golden("command"))
    assert payload.hex() == golden("command_payload").hex()
    assert payload[:8] == (1_700_000_000_250_000).to_bytes(8, "little")
    assert stamped_time(payload) == 1_700_000_000.25
    assert stamped_data(payload) == golden("command")
