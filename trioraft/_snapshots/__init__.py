"""Snapshots: their form, when they are taken, and how they travel."""
