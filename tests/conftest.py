"""What all tests share."""

from __future__ import annotations

import os


def pytest_runtest_setup() -> None:
    """Coverage is measured here; what tests start runs unmeasured, as fast as elsewhere."""
    os.environ.pop("COVERAGE_PROCESS_START", None)
