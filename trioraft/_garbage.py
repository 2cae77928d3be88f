"""The garbage collector of a process that is a server's own."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Let the garbage collector leave alone what stays for good, and look at the rest less often.

    For programs only: a library has no say in it.  With Python's own settings a busy server spends
    a quarter of its time on looking for cycles among entries, of which there are none.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
