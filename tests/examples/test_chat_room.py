"""The room as a state machine."""

import math

import attrs
import pytest

import trioraft
from examples.chat import room as chat
from examples.chat.room import Lines, Room, Say


def applied(index: int) -> trioraft.Applied:
    return trioraft.Applied(index=index, term=1, time=1e9 + index, context=None)


def say(room: Room, text: str, id: str) -> int:
    return Say("ann", text, id).apply(room, applied(len(room.lines) + 1))


def test_lines_are_numbered_in_the_order_of_the_log() -> None:
    room = Room()
    assert [say(room, "one", "a"), say(room, "two", "b")] == [1, 2]
    assert [(line.number, line.text) for line in Lines().answer(room)] == [(1, "one"), (2, "two")]
    assert [line.number for line in Lines(after=1).answer(room)] == [2]
    assert Lines(after=2).answer(room) == Lines(after=7).answer(room) == []
    assert [line.number for line in Lines(limit=1).answer(room)] == [1]


def test_a_message_that_the_room_has_is_ignored_and_gets_its_old_number() -> None:
    room = Room()
    say(room, "one", "a")
    say(room, "two", "b")
    before = room.save()
    assert say(room, "one", "a") == 1
    assert room.save() == before


def test_what_is_saved_is_recovered_with_its_ids() -> None:
    room, other = Room(), Room()
    say(room, "<b>one</b>", "a")
    say(room, "zwei \N{PILE OF POO}", "b")
    say(other, "something else", "z")
    other.recover(room.save())
    assert other.lines == room.lines
    assert other.save() == room.save()
    assert say(other, "again", "b") == 2
    assert say(other, "three", "c") == 3


def test_an_empty_room_is_saved_too() -> None:
    room, other = Room(), Room()
    say(other, "something", "z")
    other.recover(room.save())
    assert Lines().answer(other) == []
    assert say(other, "one", "a") == 1


def test_the_oldest_lines_are_forgotten_and_their_numbers_are_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chat, "KEPT", 2)
    room = Room()
    for number, id in enumerate("abcde", 1):
        assert say(room, id, id) == number
    assert [line.number for line in Lines().answer(room)] == [4, 5]
    assert [line.number for line in Lines(after=4).answer(room)] == [5]


@pytest.mark.parametrize(
    "change",
    [
        {"text": ""},
        {"text": "x" * 2001},
        {"text": "half a pair: \ud800"},
        {"text": 5},
        {"author": ""},
        {"author": "x" * 41},
        {"id": ""},
        {"id": "x" * 65},
        {"id": None},
        {"id": math.nan},
    ],
)
def test_what_is_no_message_can_not_be_said(change: dict[str, object]) -> None:
    good = Say("ann", "one", "a")
    with pytest.raises(ValueError):
        attrs.evolve(good, **change)
