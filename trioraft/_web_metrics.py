"""A server's figures for Prometheus, and whether it is well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from trioraft._status import Status

_STATES: Final = ("stopped", "follower", "candidate", "leader")
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

_Sample = tuple[Mapping[str, str], float]


def metrics(status: Status) -> str:
    """The page that Prometheus reads, in its text format 0.0.4."""
    one: Mapping[str, str] = {}
    peers = status.peers
    matches = [({"peer": p.name}, p.match_index) for p in peers if p.match_index is not None]
    sent = [({"peer": p.name}, p.snapshot) for p in peers if p.snapshot is not None]
    installing = [(one, status.installing)] if status.installing is not None else []
    return "".join(
        [
            _metric("term", "counter", "The current term.", [(one, status.term)]),
            _metric("commit_index", "counter", "The last entry known to be committed, in this "
                    "life of the process.", [(one, status.commit_index)]),
            _metric("last_applied", "counter", "The last entry that the machine has seen, in this "
                    "life of the process.", [(one, status.last_applied)]),
            _metric("last_index", "gauge", "The end of the log.", [(one, status.last_index)]),
            _metric("snapshot_index", "gauge", "The last entry in the newest snapshot.",
                    [(one, status.snapshot_index)]),
            _metric("installing", "gauge", "How much of a snapshot has come from the leader, from "
                    "0 to 1; nothing if none is under way.", installing),
            _metric("members", "gauge", "How many members the cluster has.",
                    [(one, status.member_count)]),
            _metric("quorum", "gauge", "How many members are a majority.",
                    [(one, status.quorum_size)]),
            _metric("leader_known", "gauge", "Whether this server knows a leader.",
                    [(one, status.leader is not None)]),
            _metric("state", "gauge", "1 for the state that this server is in.",
                    [({"state": state}, status.state == state) for state in _STATES]),
            _metric("peer_connected", "gauge", "Whether there is a connection to a server.",
                    [({"peer": p.name}, p.connected) for p in peers]),
            _metric("peer_match_index", "gauge", "How far a follower's log is known to agree; "
                    "the leader alone knows.", matches),
            _metric("peer_snapshot", "gauge", "How much of a snapshot has been sent to a follower, "
                    "from 0 to 1; nothing if none is under way.", sent),
        ]
    )  # fmt: skip


def _metric(name: str, kind: str, about: str, samples: Iterable[_Sample]) -> str:
    lines = [f"# HELP trioraft_{name} {about}", f"# TYPE trioraft_{name} {kind}"]
    for labels, value in samples:
        told = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels.items())
        lines.append(f"trioraft_{name}{f'{{{told}}}' if told else ''} {float(value):.15g}")
    return "\n".join(lines) + "\n"


def sickness(status: Status) -> str | None:
    """Why a server is of no use now; None: it runs, and knows a leader."""
    if status.state == "stopped":
        return "the server does not run"
    if status.cluster is None:
        missing = f": it waits for {', '.join(status.missing)}" if status.missing else ""
        return f"the cluster has not formed{missing}"
    if status.leader is not None:
        return None
    lost = [f"{p.name} ({p.error or 'no reason known'})" for p in status.peers if not p.connected]
    unheard = f"; not connected: {', '.join(lost)}" if lost else ""
    return f"no leader is known: {status.state} in term {status.term}{unheard}"
