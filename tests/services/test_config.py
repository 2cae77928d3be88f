"""Nonsense is refused before anything runs."""

from __future__ import annotations

import math
import pathlib
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioraft import DEFAULT_ELECTION_TIMEOUT, DEFAULT_HEARTBEAT_INTERVAL, Config

TIMES = ["heartbeat_interval", "election_timeout"]


def test_the_defaults_make_sense() -> None:
    config = Config()
    assert config.heartbeat_interval == DEFAULT_HEARTBEAT_INTERVAL
    assert config.election_timeout == DEFAULT_ELECTION_TIMEOUT
    assert config.trace is None


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [0, 0.0, -0.0, -1, -0.05, math.inf, -math.inf, math.nan])
def test_a_time_is_positive_and_finite(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be positive and finite, not"):
        Config(**{name: value})


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [True, False, "0.05", b"1", None, [1], 1j])
def test_a_time_is_a_number(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a number of seconds, not"):
        Config(**{name: value})


def test_the_message_names_the_relation_that_is_broken() -> None:
    with pytest.raises(
        ValueError,
        match=r"election_timeout must be at least three heartbeat intervals: 0\.14 < 3 \* 0\.05",
    ):
        Config(heartbeat_interval=0.05, election_timeout=0.14)
    with pytest.raises(ValueError, match="three heartbeat intervals"):
        Config(heartbeat_interval=1.0)


@given(st.floats(1e-6, 1e6))
@settings(deadline=None)
def test_exactly_three_heartbeats_are_enough(heartbeat: float) -> None:
    Config(heartbeat_interval=heartbeat, election_timeout=3 * heartbeat)
    Config(heartbeat_interval=heartbeat, election_timeout=heartbeat + heartbeat + heartbeat)
    Config(heartbeat_interval=3 * heartbeat / 3 / 3, election_timeout=heartbeat)


@given(st.integers(1, 100_000))
@settings(deadline=None)
def test_exactly_three_heartbeats_in_milliseconds_are_enough(milliseconds: int) -> None:
    Config(heartbeat_interval=milliseconds / 1000, election_timeout=3 * milliseconds / 1000)


@given(st.floats(1e-6, 1e6), st.floats(0.001, 2.999))
@settings(deadline=None)
def test_fewer_are_not(heartbeat: float, times: float) -> None:
    with pytest.raises(ValueError, match="three heartbeat intervals"):
        Config(heartbeat_interval=heartbeat, election_timeout=times * heartbeat)


def test_whole_seconds_are_times_like_any_other() -> None:
    """They go to disk and to other servers, which take nothing but floats for a time."""
    config = Config(heartbeat_interval=1, election_timeout=5)
    assert type(config.heartbeat_interval) is float
    assert type(config.election_timeout) is float


def test_a_config_is_a_value() -> None:
    config = Config(trace=pathlib.Path("t.jsonl"))
    assert config == Config(trace=pathlib.Path("t.jsonl"))
    assert hash(config) == hash(Config(trace=pathlib.Path("t.jsonl")))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.trace = None  # type: ignore[misc]
    with pytest.raises(ValueError, match="three heartbeat intervals"):
        attrs.evolve(config, heartbeat_interval=1.0)
    with pytest.raises(TypeError):
        Config(0.05)  # type: ignore[misc]
