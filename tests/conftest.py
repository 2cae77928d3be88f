"""What all tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator

import coverage
import pytest


def pytest_collection_finish() -> None:
    """Each simulated run begins with a collection; it need not look at modules and test items."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup() -> None:
    """Coverage is measured here; what tests start runs unmeasured, as fast as elsewhere."""
    os.environ.pop("COVERAGE_PROCESS_START", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Measure no test that is marked so: it takes lines that others take, and takes minutes."""
    measuring = coverage.Coverage.current()
    if measuring is None or item.get_closest_marker("unmeasured") is None:
        return (yield)
    measuring.stop()
    try:
        return (yield)
    finally:
        measuring.start()
