"""For Hypothesis: plans of faults that it can draw, and shrink to what matters.

Needs Hypothesis, which `pip install trioraft[test]` brings.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from trioraft.testing._judge import MOMENTS
from trioraft.testing._kinds import FAULTS
from trioraft.testing._plan import LEADER, Fault


def faults(servers: Sequence[str], seconds: float = 10.0) -> st.SearchStrategy[Fault]:
    """One fault of any kind.

    Args:
        servers: the names of all servers.
        seconds: before which it begins.
    """
    return st.builds(
        Fault,
        at=st.floats(0, seconds),
        kind=st.sampled_from(sorted(FAULTS)),
        server=st.sampled_from([LEADER, *servers]),
        others=st.lists(st.sampled_from(servers), min_size=1, unique=True).map(tuple),
        seconds=st.floats(0.01, 2.0),
        amount=st.floats(0, 1),
        moment=st.sampled_from([None, *MOMENTS]),
    )


def fault_plans(
    servers: Sequence[str], seconds: float = 10.0, most: int = 20
) -> st.SearchStrategy[list[Fault]]:
    """What goes wrong in one run, for `raft_simulation(..., plan=...)`.

    Args:
        servers: the names of all servers: n1, n2, ...
        seconds: of faults.
        most: how many faults.
    """
    return st.lists(faults(servers, seconds), max_size=most)
