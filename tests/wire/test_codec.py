"""Nothing that a stranger sends is believed: a message is exactly right, or it is refused."""

from __future__ import annotations

import math
import struct
import tracemalloc
import zlib
from typing import Any

import attrs
import msgpack  # type: ignore[import-untyped]
import pytest

from trioraft import ProtocolError
from trioraft._limits import MAX_MESSAGE_BYTES
from trioraft._rules.log import Entries
from trioraft._rules.membership import Configuration
from trioraft._wire.codec import configuration_data, decode, encode, entries_of
from trioraft._wire.frames import Kind, frame
from trioraft._wire.stamps import stamp
from trioraft._wire.strict import pack, unpack

from .samples import CHANGING, ENCODED, FRAMES, MESSAGES

NAUGHTY_INTS: list[Any] = [
    True,
    False,
    "12",
    "",
    b"1",
    1.0,
    1.9,
    -1,
    -(2**63),
    2**63,
    2**64 - 1,
    math.nan,
    None,
    [],
    [1],
    {},
]
NAUGHTY_BOOLS: list[Any] = ["no", "yes", "", 0, 1, 1.0, None, b"\x01", []]
NAUGHTY_STRINGS: list[Any] = [b"n1", 1, None, True, ["n1"], {}]
NAUGHTY_FLOATS: list[Any] = [math.nan, math.inf, -math.inf, -0.5, 1, "0.5", None, True, [0.5]]
NAUGHTY_LISTS: list[Any] = ["put", "", b"put", {"put": 1}, {}, None, 3, [b"put"], [1], [None]]


def tampered(name: str, /, **changes: Any) -> bytes:
    return pack({**unpack(ENCODED[name]), **changes})


def ints_of(name: str) -> list[str]:
    return [field for field, value in unpack(ENCODED[name]).items() if type(value) is int]


INT_FIELDS = [(name, field) for name in ENCODED for field in ints_of(name)]


OPTIONAL = {("read_index_reply", "index")}


@pytest.mark.parametrize(("name", "field"), INT_FIELDS)
def test_a_number_is_a_natural_number_below_2_to_the_63(name: str, field: str) -> None:
    for naughty in NAUGHTY_INTS:
        if naughty is None and (name, field) in OPTIONAL:
            continue
        with pytest.raises(ProtocolError, match="malformed"):
            decode(tampered(name, **{field: naughty}))


EXTENSIONS = [b"\xd6\xff\x00\x00\x00\x01", b"\xd4\x05\x01", b"\xc7\x01\x04x", b"\xc7\x00\x04"]


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("extension", EXTENSIONS, ids=bytes.hex)
def test_the_extensions_of_msgpack_are_nothing_here(name: str, extension: bytes) -> None:
    for field in unpack(ENCODED[name]):
        with pytest.raises(ProtocolError):
            decode(tampered(name, **{field: "MARK"}).replace(b"\xa4MARK", extension))


@pytest.mark.parametrize("field", ["term", "number", "match_index", "conflict_index"])
def test_the_greatest_number_is_fine(field: str) -> None:
    assert getattr(decode(tampered("append_reply", **{field: 2**63 - 1})), field) == 2**63 - 1


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("vote_reply", "vote_granted"),
        ("pre_vote_reply", "vote_granted"),
        ("append_reply", "success"),
    ],
)
@pytest.mark.parametrize("naughty", NAUGHTY_BOOLS, ids=repr)
def test_a_truth_value_is_one(name: str, field: str, naughty: object) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode(tampered(name, **{field: naughty}))


@pytest.mark.parametrize("field", ["name", "incarnation", "nonce", "address"])
@pytest.mark.parametrize("naughty", NAUGHTY_STRINGS, ids=repr)
def test_a_text_is_one(field: str, naughty: object) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode(tampered("hello", **{field: naughty}))


@pytest.mark.parametrize("naughty", [1, b"c1", True, ["c1"], {}], ids=repr)
def test_what_may_be_none_is_a_text_or_none(naughty: object) -> None:
    for field in ("cluster", "expected"):
        assert getattr(decode(tampered("hello", **{field: None})), field) is None
        with pytest.raises(ProtocolError, match="malformed"):
            decode(tampered("hello", **{field: naughty}))


@pytest.mark.parametrize("naughty", NAUGHTY_FLOATS, ids=repr)
def test_a_time_is_a_finite_number_of_seconds(naughty: object) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode(tampered("append_reply", stickiness=naughty))


@pytest.mark.parametrize("field", ["commands", "initial"])
@pytest.mark.parametrize("naughty", NAUGHTY_LISTS, ids=repr)
def test_a_list_is_a_list_and_no_text_taken_apart(field: str, naughty: object) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode(tampered("hello", **{field: naughty}))


@pytest.mark.parametrize(
    "naughty",
    [
        None,
        {},
        "ab",
        [None],
        ["ab"],
        [[]],
        [[0]],
        [[0, b"", b""]],
        [[0, "a"]],
        [["0", b""]],
        [[True, b""]],
        [[0.0, b""]],
        [[-1, b""]],
        [[1 << 63, b""]],
    ],
    ids=repr,
)
def test_an_answer_is_a_code_and_bytes(naughty: object) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode(tampered("told", answers=naughty))


@pytest.mark.parametrize(
    "naughty",
    [
        None,
        [],
        "c1",
        {},
        {"cluster": "c1"},
        {"cluster": "c1", "voters": {}},
        {"cluster": "c1", "voters": [None]},
        {"cluster": "c1", "voters": [{"id": ["n1", "i1"], "address": "a"}]},
        {"cluster": "c1", "voters": [{"id": {"name": "n1"}, "address": "a"}]},
        {"cluster": 1, "voters": []},
    ],
    ids=repr,
)
def test_a_configuration_is_one(naughty: object) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode(tampered("genesis", configuration=naughty))


@pytest.mark.parametrize("name", ENCODED)
def test_a_field_without_a_default_may_not_be_missing(name: str) -> None:
    fields = unpack(ENCODED[name])
    cls = type(decode(ENCODED[name]))
    for field in [f.name for f in attrs.fields(cls) if f.default is attrs.NOTHING]:
        assert field in fields
        with pytest.raises(ProtocolError, match="malformed"):
            decode(pack({key: value for key, value in fields.items() if key != field}))


@pytest.mark.parametrize("tag", ["", "votes", "Ping", None, 1, b"ping", ["ping"], {"ping": 1}])
def test_an_unknown_tag_is_refused(tag: object) -> None:
    with pytest.raises(ProtocolError, match="unknown type"):
        decode(pack({"t": tag}))


@pytest.mark.parametrize("value", [None, [], ["ping"], "ping", 1, {}, {"tag": "ping"}], ids=repr)
def test_what_has_no_tag_is_refused(value: object) -> None:
    with pytest.raises(ProtocolError, match="unknown type"):
        decode(pack(value))


@pytest.mark.parametrize("value", [None, 1, b"t", [1], 2.5])
def test_keys_are_texts_or_ignored(value: object) -> None:
    data = msgpack.packb({b"term": value, "t": "ping"})
    assert decode(data) == MESSAGES["ping"]
    with pytest.raises(ProtocolError, match="no msgpack"):
        decode(msgpack.packb({1: value, "t": "ping"}))


def test_of_two_equal_keys_the_last_one_counts() -> None:
    twice = b"\x83\xa1t\xa4ping\xa6reason\xa1a\xa1t\xa7refusal"
    assert decode(twice).reason == "a"


def test_what_is_cut_short_anywhere_is_refused() -> None:
    for data in ENCODED.values():
        for length in range(len(data)):
            with pytest.raises(ProtocolError):
                decode(data[:length])


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("tail", [b"\x00", b"\xc0", b"\x80", b"junk"])
def test_trailing_bytes_are_refused(name: str, tail: bytes) -> None:
    with pytest.raises(ProtocolError, match="no msgpack"):
        decode(ENCODED[name] + tail)


def test_invalid_utf_8_is_refused() -> None:
    with pytest.raises(ProtocolError, match="no msgpack"):
        decode(b"\x81\xa1t\xa2\xff\xff")


@pytest.mark.parametrize("depth", [10, 500, 900, 950, 990, 1000, 1010, 1020, 1023, 1024, 10_000])
@pytest.mark.parametrize(
    "opening", [b"\x91", b"\x81\xa1t", b"\x81\xa1a"], ids=["list", "tags", "map"]
)
def test_no_nesting_is_too_deep_for_a_clean_refusal(depth: int, opening: bytes) -> None:
    nested = opening * depth + b"\xc0"
    fields = [b"\xa1t\xa4vote\xa4term" + nested, b"\xa1t" + nested]
    for number, data in enumerate(fields):
        with pytest.raises(ProtocolError):
            decode(bytes([0x82 - number]) + data)
    with pytest.raises(ProtocolError):
        decode(nested)


@pytest.mark.parametrize("depth", [950, 1000, 1020])
def test_deep_nesting_is_refused_wherever_it_stands(depth: int) -> None:
    nested = b"\x91" * depth + b"\x01"
    for name, data in ENCODED.items():
        fields = unpack(data)
        for field in fields:
            rest = {key: value for key, value in fields.items() if key != field}
            packed = bytes([0x80 + len(fields)]) + pack(rest)[1:] + pack(field) + nested
            with pytest.raises(ProtocolError):
                decode(packed)
        assert decode(data) == MESSAGES[name]


def test_a_message_has_a_greatest_size() -> None:
    padding = MAX_MESSAGE_BYTES - len(tampered("ping", padding=b"")) - 3
    whole = tampered("ping", padding=bytes(padding))
    assert len(whole) == MAX_MESSAGE_BYTES
    assert decode(whole) == MESSAGES["ping"]
    with pytest.raises(ProtocolError, match="the most is"):
        decode(whole + b"\x00")


def test_an_error_says_what_is_wrong_in_few_words() -> None:
    with pytest.raises(ProtocolError, match="malformed RequestVote: expected a number") as caught:
        decode(tampered("vote", term="x" * 100_000))
    assert len(str(caught.value)) < 300
    with pytest.raises(ProtocolError) as caught:
        decode(tampered("vote", t="x" * 100_000))
    assert len(str(caught.value)) < 300
    with pytest.raises(ProtocolError, match="StackError"):
        decode(b"\x91" * 5000 + b"\xc0")


# -- entries -----------------------------------------------------------------------------------


def append(entries: object, **changes: object) -> bytes:
    return tampered("append", entries=entries, **changes)


def log_of(*pairs: tuple[int, int]) -> bytes:
    return b"".join(frame(index, term, Kind.NOOP, b"") for index, term in pairs)


def raw_frame(index: int, term: int, kind: int, payload: bytes = b"") -> bytes:
    rest = struct.pack("<QQB", index, term, kind) + payload
    return struct.pack("<II", len(payload), zlib.crc32(rest)) + rest


def test_entries_come_back_as_runs_of_terms_with_their_frames() -> None:
    data = log_of((4, 1), (5, 1), (6, 3), (7, 3), (8, 3))
    entries = decode(append([4, data])).entries
    assert (entries.first, entries.last, entries.runs) == (4, 8, ((4, 1), (6, 3)))
    assert b"".join(entries.frames) == data
    assert len(entries) == 5


def test_what_is_sent_on_is_what_was_received_to_the_byte() -> None:
    message = decode(ENCODED["append"])
    assert encode(message) == ENCODED["append"]
    later = attrs.evolve(message, entries=message.entries.since(5), prev_log_index=4)
    assert decode(encode(later)).entries.frames == list(FRAMES.values())[1:]


def configuration_entry(index: int, configuration: Configuration | bytes) -> bytes:
    raw = isinstance(configuration, bytes)
    data = configuration if raw else configuration_data(configuration)
    return frame(index, 3, Kind.CONFIGURATION, stamp(0.0, data))


def test_what_entries_say_of_the_members_comes_with_them() -> None:
    second = attrs.evolve(CHANGING, index=8, outgoing=(), learners=())
    frames = [
        configuration_entry(6, CHANGING),
        frame(7, 3, Kind.NOOP, b""),
        configuration_entry(8, second),
    ]
    entries = entries_of(frames)
    assert entries.configurations == (CHANGING, second)
    request = attrs.evolve(MESSAGES["append"], prev_log_index=5, prev_log_term=2, entries=entries)
    assert decode(encode(request)).entries.configurations == (CHANGING, second)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (configuration_entry(7, CHANGING), "entry 7 holds the configuration 6"),
        (configuration_entry(6, attrs.evolve(CHANGING, voters=())), "entry 6 holds"),
        (configuration_entry(6, b""), "no msgpack"),
        (configuration_entry(6, b"\xc0"), "entry 6 is no configuration"),
        (configuration_entry(6, pack({"cluster": "c1"})), "entry 6 is no configuration"),
        (configuration_entry(6, pack([1, 2])), "entry 6 is no configuration"),
        (frame(6, 3, Kind.CONFIGURATION, b""), "no msgpack"),
    ],
    ids=["another entry's", "no voters", "nothing", "none", "incomplete", "a list", "no time"],
)
def test_an_entry_that_is_to_change_the_members_makes_sense(entry: bytes, reason: str) -> None:
    """It is in force as soon as it is in the log: nonsense must not get there."""
    with pytest.raises(ProtocolError, match=reason):
        entries_of([entry])
    with pytest.raises(ProtocolError, match=reason):
        decode(tampered("append", prev_log_index=5, prev_log_term=3, entries=[6, entry]))


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (log_of((4, 1), (6, 1)), "does not follow"),
        (log_of((4, 1), (4, 1)), "does not follow"),
        (log_of((4, 1), (3, 1)), "does not follow"),
        (log_of((4, 2), (5, 1)), "does not follow"),
        (log_of((4, 0)), "does not follow"),
        (log_of((4, 1))[:-1], "cut short"),
        (log_of((4, 1)) + b"\x00", "cut short"),
        (log_of((4, 1)) + log_of((5, 1))[:24], "cut short"),
        (bytes([0xFF, 0xFF, 0xFF, 0xFF]) + log_of((4, 1))[4:], "cut short"),
        (log_of((4, 1))[:-1] + b"\x01", "checksum"),
        (raw_frame(4, 1, 5), "unknown kind"),
        (raw_frame(4, 1, 255), "unknown kind"),
    ],
)
def test_entries_that_do_not_make_a_log_are_refused(entries: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        decode(append([4, entries]))


@pytest.mark.parametrize(
    "entries",
    [
        None,
        4,
        b"",
        "",
        [],
        [4],
        [4, None],
        [4, "x"],
        [4, []],
        [4, b"", 0],
        [True, b""],
        [0, b""],
        [-1, b""],
        ["4", b""],
        [4.0, b""],
        [2**63, b""],
        {"first": 4},
        [5, log_of((4, 1))],
        [3, log_of((4, 1))],
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_entries_are_an_index_and_their_frames(entries: object) -> None:
    for before in (0, 3):
        with pytest.raises(ProtocolError):
            decode(append(entries, prev_log_index=before))


def test_an_index_and_its_frames_are_no_extension_either() -> None:
    data = log_of((4, 1))
    extension = b"\xc7" + bytes([len(data), 4]) + data
    with pytest.raises(ProtocolError):
        decode(append("MARK").replace(b"\xa4MARK", extension))


def test_entries_follow_what_the_message_says_is_before_them() -> None:
    for wrong in (0, 2, 4, 5):
        with pytest.raises(ProtocolError, match="follow prev_log_index"):
            decode(append([4, log_of((4, 1))], prev_log_index=wrong))
        with pytest.raises(ProtocolError, match="follow prev_log_index"):
            decode(append([4, b""], prev_log_index=wrong))


def test_no_entry_is_of_a_later_term_than_its_leader() -> None:
    assert decode(append([4, log_of((4, 1), (5, 3))], term=3)).entries.last == 5
    for entries in (log_of((4, 4)), log_of((4, 1), (5, 4)), log_of((4, 2**64 - 1))):
        with pytest.raises(ProtocolError, match="later term"):
            decode(append([4, entries], term=3))


def test_terms_rise_from_what_comes_before_the_entries() -> None:
    assert decode(append([4, log_of((4, 2))], term=3, prev_log_term=2)).entries.last == 4
    with pytest.raises(ProtocolError, match="terms fall"):
        decode(append([4, log_of((4, 1))], term=3, prev_log_term=2))
    with pytest.raises(ProtocolError, match="later term"):
        decode(append([4, b""], term=3, prev_log_term=4))


def test_only_the_beginning_of_the_log_has_no_term() -> None:
    """A peer that claims otherwise must not look like a broken invariant of this server."""
    for index, term in ((0, 1), (3, 0)):
        with pytest.raises(ProtocolError, match="no log has term"):
            decode(append([index + 1, b""], prev_log_index=index, prev_log_term=term))


def test_a_heartbeat_has_no_entries_and_still_a_place() -> None:
    entries = decode(append([4, b""])).entries
    assert entries == Entries(4, 3)
    assert len(entries) == 0


def test_entries_of_frames() -> None:
    frames = [frame(9, 2, Kind.NOOP, b""), frame(10, 2, Kind.NOOP, b"")]
    assert entries_of(frames) == Entries(9, 10, ((9, 2),))


# -- memory ------------------------------------------------------------------------------------

MIB = 1 << 20


def peak_of(data: bytes) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decode(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("code", [0xC6, 0xC9, 0xDB, 0xDD, 0xDF])
def test_a_length_that_is_only_claimed_allocates_nothing(code: int) -> None:
    claim = bytes([code]) + b"\xff\xff\xff\xff"
    assert peak_of(claim + b"junk") < MIB
    assert peak_of(b"\x81\xa1t" + claim + b"junk") < MIB
    assert peak_of(b"\x82\xa1t\xa6append\xa7entries\x92\x04" + claim) < MIB


def test_a_frame_that_claims_to_be_large_allocates_nothing() -> None:
    assert peak_of(append([4, b"\xff\xff\xff\xff" + log_of((4, 1))[4:]])) < MIB


def test_lists_within_lists_that_claim_to_be_long_stay_bounded() -> None:
    header = b"\xdd" + (1 << 20).to_bytes(4, "big")
    data = header * 1000 + b"\xc0" * (1 << 20)
    assert peak_of(data) < 128 * MIB
