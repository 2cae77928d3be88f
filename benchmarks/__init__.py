"""Measurements of this library, and of others beside it."""
