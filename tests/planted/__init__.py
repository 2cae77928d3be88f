"""Bugs that real Raft implementations had, planted in this one: does anything notice?

`python -m tests.planted` plants each in a copy of the package, in turn, and tells what kills it.
"""
