"""A bank, the test that its author wrote, and the bugs that the test finds."""
