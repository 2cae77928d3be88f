"""Killed at every call of the file system, then robbed of whatever was not synced."""

from __future__ import annotations

import random

import pytest

from tests.storage.course import SCENARIOS, Course, Everything, Nothing, Scenario, power_cuts
from trioraft.testing._disk import Crash, DiskFault

pytestmark = pytest.mark.unmeasured

KILLS = [DiskFault.CRASH_BEFORE, DiskFault.CRASH_AFTER]
by_name = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)


def count_calls(scenario: Scenario) -> int:
    course = Course()
    scenario(course)
    return len(course.files.calls)


def crashed(scenario: Scenario, call: int, kill: DiskFault) -> Course:
    course = Course()
    course.files.fail(call, kill)
    with pytest.raises(Crash):
        scenario(course)
    return course


@by_name
def test_killed_at_every_call(scenario: Scenario) -> None:
    for call in range(1, count_calls(scenario) + 1):
        for kill in KILLS:
            course = crashed(scenario, call, kill)
            course.files.kill()
            course.recovers_and_goes_on()


@by_name
def test_power_cut_at_every_call(scenario: Scenario) -> None:
    for call in range(1, count_calls(scenario) + 1):
        for kill in KILLS:
            dead = crashed(scenario, call, kill)
            for chance in power_cuts(12):
                course = dead.copy()
                course.files.crash(chance)
                course.recovers_and_goes_on()


@by_name
def test_killed_again_at_every_call_of_the_start_that_follows(scenario: Scenario) -> None:
    chance = random.Random(3)
    cuts = [None, Nothing(), chance, Everything()]
    for call in range(1, count_calls(scenario) + 1):
        course = crashed(scenario, call, DiskFault.CRASH_AFTER)
        cut = cuts[call % len(cuts)]
        if cut is None:
            course.files.kill()
        else:
            course.files.crash(cut)
        trial = course.copy()
        trial.files.calls.clear()
        trial.recovers()
        for again in range(1, len(trial.files.calls) + 1):
            once_more = course.copy()
            once_more.files.fail(again, KILLS[(call + again) % 2])
            with pytest.raises(Crash):
                once_more.recovers()
            once_more.files.crash(chance)
            once_more.recovers()
