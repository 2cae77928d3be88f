"""Failures that other Raft implementations had, played against this one; see docs/scenarios.md."""
