"""docs/scenarios.md names tests that exist, and every test of a scenario is named there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT / "docs" / "scenarios.md"
HERE = Path(__file__).parent.relative_to(ROOT)

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
IDS = re.compile(r"test_((?:[a-z][0-9]+_)+)")
NOT_YET = "does not hold yet: "
WAITS = "waits for: "

Test = tuple[str, str]
"""A file, from the root on, and a function in it."""


@frozen
class Row:
    """One scenario."""

    id: str
    scenario: str
    source: str
    told: str

    def tests(self) -> list[Test]:
        return NAMED.findall(self.told)

    def not_yet(self) -> list[Test]:
        _, _, after = self.told.partition(NOT_YET)
        return NAMED.findall(after.partition(WAITS)[0])


def rows() -> Iterator[Row]:
    for line in CATALOGUE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"[A-Z][0-9]+", cells[0]):
            yield Row(*cells)


ROWS = list(rows())


@cache
def functions(path: Path) -> dict[str, bool]:
    """The test functions of a file, each with whether it is expected to fail."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case (
                ast.FunctionDef(name=name, decorator_list=decorators)
                | ast.AsyncFunctionDef(name=name, decorator_list=decorators)
            ) if name.startswith("test_"):
                found[name] = any("xfail" in ast.unparse(mark) for mark in decorators)
    return found


def scenario_tests() -> list[tuple[Test, list[str], bool]]:
    """Each test of this directory that bears ids: itself, its ids, whether it does not hold yet."""
    found = []
    for path in sorted((ROOT / HERE).glob("test_*.py")):
        for name, fails in functions(path).items():
            ids = IDS.match(name)
            if ids is not None:
                test = str(path.relative_to(ROOT)), name
                found.append((test, ids[1].upper().rstrip("_").split("_"), fails))
    return found


def test_the_catalogue_can_be_read() -> None:
    assert len(ROWS) >= 100
    assert len({row.id for row in ROWS}) == len(ROWS), "every id once"
    for before, row in pairwise(ROWS):
        if before.id[0] == row.id[0]:
            assert int(before.id[1:]) < int(row.id[1:]), "in order"
    for row in ROWS:
        assert row.scenario, row.id
        assert row.source, row.id


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_names_tests_that_exist_or_what_it_waits_for(row: Row) -> None:
    assert row.tests() or WAITS in row.told
    assert len(set(row.tests())) == len(row.tests())
    for file, name in row.tests():
        path = ROOT / file
        assert path.is_file(), file
        assert name in functions(path), f"{file} has no {name}"


def test_every_test_of_a_scenario_is_in_the_row_of_each_of_its_ids() -> None:
    named = {row.id: set(row.tests()) for row in ROWS}
    for test, ids, _ in scenario_tests():
        for id_ in ids:
            assert test in named.get(id_, ()), f"{test[1]} is missing in row {id_}"


def test_what_does_not_hold_yet_is_told_and_nothing_else_is() -> None:
    told = {test for row in ROWS for test in row.not_yet()}
    assert told == {test for test, _, fails in scenario_tests() if fails}
