"""Who a server is, as its disk holds it."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioraft import StorageError
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Member
from trioraft._state import HardState
from trioraft._wire.strict import pack, unpack

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
IDS = st.builds(ServerId, NAMES, NAMES)
MEMBERS = st.builds(Member, IDS, NAMES, st.lists(NAMES, max_size=3).map(tuple))
CONFIGURATIONS = st.builds(Configuration, NAMES, st.lists(MEMBERS, max_size=3).map(tuple))
NATURAL = st.integers(0, 2**63 - 1)
SECONDS = st.floats(0, 1e9)
STATES = st.builds(
    HardState,
    NAMES,
    NAMES,
    starts=NATURAL,
    stickiness=SECONDS,
    genesis=st.none() | CONFIGURATIONS,
    term=NATURAL,
    voted_for=st.none() | IDS,
)

STATE = HardState(
    "n1",
    "i1",
    3,
    0.15,
    Configuration("c1", (Member(ServerId("n1", "i1"), "ws://n1", ("put",)),)),
    7,
    ServerId("n2", "i2"),
)


@given(STATES)
@settings(deadline=None)
def test_a_state_comes_back_whole(state: HardState) -> None:
    assert HardState.decode(state.encode()) == state


def test_a_server_is_its_name_and_its_incarnation() -> None:
    assert STATE.id == ServerId("n1", "i1")


@pytest.mark.parametrize("version", [0, 2, 99, None, "1", 1.5, [1]])
def test_the_format_of_another_version_is_refused(version: Any) -> None:
    data = pack({**unpack(STATE.encode()), "format": version, "new": "thing"})
    with pytest.raises(StorageError, match=r"is of format .*; this version reads 1"):
        HardState.decode(data)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x00", b"\x90", b"garbage", b"\x91" * 5000, pack(None), pack("n1")]
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(StorageError):
        HardState.decode(data)


def test_a_state_that_is_cut_short_anywhere_is_refused() -> None:
    whole = STATE.encode()
    for length in range(len(whole)):
        with pytest.raises(StorageError):
            HardState.decode(whole[:length])
    with pytest.raises(StorageError):
        HardState.decode(whole + b"\x00")


@pytest.mark.parametrize(
    "wrong",
    [
        {"term": -1},
        {"term": 2**63},
        {"term": True},
        {"term": 7.0},
        {"term": None},
        {"starts": "3"},
        {"stickiness": math.nan},
        {"stickiness": math.inf},
        {"stickiness": -0.1},
        {"stickiness": 1},
        {"name": None},
        {"incarnation": 5},
        {"voted_for": "n2"},
        {"voted_for": {"name": "n2"}},
        {"voted_for": ["n2", "i2"]},
        {"genesis": {}},
        {"genesis": {"cluster": "c1", "voters": "n1"}},
        {"genesis": {"cluster": "c1", "voters": [["n1", "i1"]]}},
        {"format": True},
        {"format": 1.0},
    ],
    ids=repr,
)
def test_a_field_of_a_wrong_type_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="the stored state can't be read"):
        HardState.decode(pack({**unpack(STATE.encode()), **wrong}))


@pytest.mark.parametrize("field", ["name", "incarnation"])
def test_a_state_without_an_identity_is_refused(field: str) -> None:
    fields = unpack(STATE.encode())
    del fields[field]
    with pytest.raises(StorageError, match="the stored state can't be read"):
        HardState.decode(pack(fields))


def test_what_is_missing_and_has_a_default_gets_it() -> None:
    fields = {"name": "n1", "incarnation": "i1", "format": 1}
    assert HardState.decode(pack(fields)) == HardState("n1", "i1")


def test_a_state_is_a_value() -> None:
    assert attrs.evolve(STATE, term=8) != STATE
    assert STATE.term == 7
