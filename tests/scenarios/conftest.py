"""Every step of every server in these tests is checked against the invariants."""

from tests.server.conftest import every_step_is_checked as every_step_is_checked
