"""Commands: how they are declared, and what is refused before it can poison the log."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from trioraft import Applied, CommandRejected, ProtocolError, command, query
from trioraft._commands import Vocabulary, name_of
from trioraft._limits import MAX_COMMAND_BYTES
from trioraft._payloads import command_name
from trioraft._wire.frames import Entry, Kind
from trioraft._wire.stamps import stamp, stamped_data, stamped_time
from trioraft._wire.strict import pack

from .fakes import Count, Fail, Note


class Does:
    def apply(self, machine: Any, applied: Applied) -> None:
        raise NotImplementedError


@attrs.frozen
class Point:
    x: int
    y: int = 0


def shown(value: object) -> str:
    """The name of a test by its value: no address, which differs in each process."""
    return re.sub(r" at 0x\w+", "", repr(value))


@command("every")
@attrs.frozen
class Everything(Does):
    number: int = 0
    text: str = ""
    data: bytes = b""
    flag: bool = False
    fraction: float = 0.0
    maybe: str | None = None
    names: list[str] = attrs.field(factory=list)
    pair: tuple[int, str] = (0, "")
    table: dict[str, int] = attrs.field(factory=dict)
    point: Point = Point(0)
    points: tuple[Point, ...] = ()
    at: dt.datetime | None = None


VOCABULARY = Vocabulary([Everything, Note, Fail, Count])


# -- declaring ---------------------------------------------------------------------------------


def test_the_name_is_the_wire_and_the_class_name_is_not() -> None:
    data, _ = VOCABULARY.encode(Note(5))
    assert data == pack(["note", {"value": 5}])
    assert name_of(Note(5)) == "note"
    assert command_name(Entry(1, 1, Kind.COMMAND, stamp(0.0, data))) == "note"


def test_a_vocabulary_tells_its_commands_sorted_and_without_queries() -> None:
    assert VOCABULARY.commands == ("every", "fail", "note")
    assert Vocabulary([]).commands == ()


@pytest.mark.parametrize("declare", [command, query])
def test_a_name_is_a_text_that_is_not_empty(declare: Any) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        declare("")
    for name in (None, 1, b"say", Note):
        with pytest.raises(TypeError, match="must be a string"):
            declare(name)


def test_a_command_is_an_attrs_class() -> None:
    with pytest.raises(TypeError, match="Does must be an attrs class"):
        command("does")(Does)


def test_the_decorator_stands_above_attrs() -> None:
    with pytest.raises(TypeError, match=r"put @attrs\.frozen below"):

        @attrs.frozen
        @command("early")
        class Early(Does):
            value: int


def test_a_command_has_a_plain_method_apply() -> None:
    @attrs.frozen
    class Nothing:
        value: int

    @attrs.frozen
    class Waits:
        async def apply(self, machine: Any, applied: Applied) -> None:
            raise NotImplementedError

    @attrs.frozen
    class Holds:
        apply: int

    for cls in (Nothing, Waits):
        with pytest.raises(TypeError, match=r"must have a plain method apply\(\)"):
            command("x")(cls)
    with pytest.raises(TypeError, match="must have a plain method"):
        command("x")(Holds)


def test_a_query_has_a_plain_method_answer() -> None:
    with pytest.raises(TypeError, match=r"must have a plain method answer\(\)"):
        query("x")(Note)


def test_the_class_is_left_as_it_is() -> None:
    @attrs.frozen
    class Plain(Does):
        value: int

    assert command("plain")(Plain) is Plain


@pytest.mark.parametrize("odd", [Does, Point, Note(1), "note", None, 5])
def test_a_vocabulary_takes_declared_classes_only(odd: Any) -> None:
    with pytest.raises(TypeError, match="is no command"):
        Vocabulary([odd])


def test_two_classes_of_one_name_are_refused() -> None:
    @query("note")
    @attrs.frozen
    class Other:
        def answer(self, machine: Any) -> None:
            raise NotImplementedError

    for classes in ([Note, Other], [Note, Note]):
        with pytest.raises(ValueError, match="two commands have the name 'note'"):
            Vocabulary(classes)


def test_a_name_is_not_inherited() -> None:
    @attrs.frozen
    class Child(Note):
        more: int = 0

    assert name_of(Child(1)) is None
    with pytest.raises(TypeError, match="is no command"):
        Vocabulary([Child])
    with pytest.raises(CommandRejected, match="no command 'Child'"):
        VOCABULARY.encode(Child(1))


def test_no_table_is_global() -> None:
    """Seed G-75: two machines of one process may mean different things by one name."""

    @command("note")
    @attrs.frozen
    class Note2:
        text: str

        def apply(self, machine: Any, applied: Applied) -> None:
            raise NotImplementedError

    first, second = Vocabulary([Note]), Vocabulary([Note2])
    assert first.decode(first.encode(Note(1))[0]) == Note(1)
    assert second.decode(second.encode(Note2("x"))[0]) == Note2("x")
    with pytest.raises(CommandRejected, match="the machine has no command 'note'"):
        first.encode(Note2("x"))
    with pytest.raises(ProtocolError, match="can't be read"):
        second.decode(first.encode(Note(1))[0])


# -- encoding ----------------------------------------------------------------------------------


def test_what_is_applied_is_what_every_other_server_reads() -> None:
    now = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    given = Everything(
        -5, "é", b"\xff", True, 1.5, "m", ["a"], (1, "b"), {"k": 2}, Point(1), (Point(2, 3),), now
    )
    data, fresh = VOCABULARY.encode(given)
    assert fresh == given
    assert fresh is not given
    assert VOCABULARY.decode(data) == given


def test_what_the_caller_changes_later_changes_nothing() -> None:
    names = ["a"]
    _, fresh = VOCABULARY.encode(Everything(names=names))
    names.append("b")
    assert fresh.names == ["a"]


def test_the_order_of_fields_makes_no_difference_to_the_reader() -> None:
    data = pack(["every", {"text": "a", "number": 1}])
    assert VOCABULARY.decode(data) == Everything(1, "a")


@pytest.mark.parametrize(
    "unknown", [Point(1), Does(), 5, None, "note", ["note", {"value": 1}], Note], ids=shown
)
def test_an_unknown_command_is_rejected(unknown: Any) -> None:
    with pytest.raises(CommandRejected, match="the machine has no command"):
        VOCABULARY.encode(unknown)


def test_a_command_of_another_machine_is_rejected() -> None:
    with pytest.raises(CommandRejected, match="no command 'note'") as caught:
        Vocabulary([Fail]).encode(Note(1))
    assert caught.value.outcome == "not done"


def test_a_query_is_no_command_and_a_command_no_query() -> None:
    with pytest.raises(CommandRejected, match="no command 'count'"):
        VOCABULARY.encode(Count())
    with pytest.raises(ProtocolError, match="'count' is unknown here"):
        VOCABULARY.decode(pack(["count", {}]))
    VOCABULARY.check_query(Count())
    for odd in (Note(1), Point(1), None):
        with pytest.raises(CommandRejected, match="the machine has no query"):
            VOCABULARY.check_query(odd)
    with pytest.raises(CommandRejected, match="no query 'count'"):
        Vocabulary([Note]).check_query(Count())


@pytest.mark.parametrize(
    "fields",
    [
        {"number": "12"},
        {"number": True},
        {"number": 1.0},
        {"number": None},
        {"number": 2**64},
        {"number": -(2**63) - 1},
        {"number": 10**30},
        {"text": 5},
        {"text": b"a"},
        {"text": "\ud800"},
        {"text": None},
        {"data": "a"},
        {"data": 5},
        {"flag": 1},
        {"flag": "no"},
        {"fraction": 1},
        {"fraction": "1.5"},
        {"maybe": 5},
        {"names": [1]},
        {"names": None},
        {"pair": (1,)},
        {"pair": ("a", 1)},
        {"table": {1: 1}},
        {"table": {"a": "1"}},
        {"table": 7},
        {"point": "x"},
        {"point": None},
        {"point": Point("1")},  # type: ignore[arg-type]
        {"points": (Point(1), 5)},
        {"at": 5.0},
        {"at": object()},
        {"data": {1, 2}},
    ],
    ids=shown,
)
def test_fields_of_a_wrong_type_are_rejected(fields: Any) -> None:
    with pytest.raises(CommandRejected, match="a malformed command 'every'") as caught:
        VOCABULARY.encode(Everything(**fields))
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("number", [0, -1, 2**63, 2**64 - 1, -(2**63)])
def test_numbers_of_64_bits_are_fine(number: int) -> None:
    assert VOCABULARY.encode(Everything(number))[1].number == number


@pytest.mark.parametrize("fraction", [math.inf, -math.inf, -0.0, 5e-324])
def test_any_float_comes_back(fraction: float) -> None:
    assert VOCABULARY.encode(Everything(fraction=fraction))[1].fraction == fraction


def test_a_command_that_is_too_large_is_rejected() -> None:
    overhead = len(VOCABULARY.encode(Everything(data=bytes(1 << 16)))[0]) - (1 << 16)
    most = MAX_COMMAND_BYTES - overhead
    assert len(VOCABULARY.encode(Everything(data=bytes(most)))[0]) == MAX_COMMAND_BYTES
    with pytest.raises(CommandRejected, match=f"has {MAX_COMMAND_BYTES + 1} bytes; the most is"):
        VOCABULARY.encode(Everything(data=bytes(most + 1)))


def test_a_validator_of_the_user_rejects_too() -> None:
    @command("checked")
    @attrs.define
    class Checked(Does):
        value: int = attrs.field(validator=attrs.validators.ge(0))

    vocabulary = Vocabulary([Checked])
    bad = Checked(1)
    object.__setattr__(bad, "value", -1)
    with pytest.raises(CommandRejected, match="must be >= 0"):
        vocabulary.encode(bad)


# -- decoding ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "note",
        {"note": {"value": 1}},
        ["note"],
        ["note", None],
        ["note", [1]],
        ["note", {"value": 1}, 1],
        [b"note", {"value": 1}],
        [None, {}],
    ],
    ids=shown,
)
def test_what_is_no_name_with_fields_is_refused(value: Any) -> None:
    with pytest.raises(ProtocolError, match="no command: expected a name and its fields"):
        VOCABULARY.decode(pack(value))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ProtocolError, match="the command 'later' is unknown here"):
        VOCABULARY.decode(pack(["later", {}]))


@pytest.mark.parametrize(
    "fields",
    [{}, {"value": 1, "more": 2}, {"more": 2}, {"value": "1"}, {"value": None}, {"value": True}],
    ids=shown,
)
def test_a_field_too_many_or_too_few_is_refused(fields: Any) -> None:
    """A server that ignored a field would diverge from one that knows it."""
    with pytest.raises(ProtocolError, match="the command 'note' can't be read"):
        VOCABULARY.decode(pack(["note", fields]))


@pytest.mark.parametrize("nested", [{"x": 1, "z": 2}, {"y": 1}, 5, [1], None])
def test_fields_within_fields_are_as_strict(nested: Any) -> None:
    with pytest.raises(ProtocolError, match="can't be read"):
        VOCABULARY.decode(pack(["every", {"point": nested}]))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\xa4note\x80\x00", b"\x91" * 3000])
def test_what_is_no_msgpack_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        VOCABULARY.decode(data)


# -- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", [0.0, 0.000001, 1_790_000_000.123456, 253_402_300_799.0])
def test_an_entry_carries_its_time_to_the_microsecond(time: float) -> None:
    payload = stamp(time, b"command")
    assert stamped_time(payload) == time
    assert stamped_data(payload) == b"command"


@pytest.mark.parametrize("payload", [b"", b"1234567"])
def test_an_entry_without_a_time_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="an entry without a time"):
        stamped_time(payload)


def test_a_time_that_could_not_be_counted_on_from_is_refused() -> None:
    with pytest.raises(ProtocolError, match="end of time"):
        stamped_time(b"\xff" * 8)


def test_a_text_is_no_sequence_of_texts() -> None:
    """Left to itself the converter takes a string for a list of its letters."""

    @command("tag")
    @attrs.frozen
    class Tag(Does):
        names: Sequence[str]

    vocabulary = Vocabulary([Tag])
    assert vocabulary.decode(vocabulary.encode(Tag(["a", "bc"]))[0]) == Tag(("a", "bc"))
    with pytest.raises(ProtocolError, match="expected a list, got str"):
        vocabulary.decode(pack(["tag", {"names": "abc"}]))
