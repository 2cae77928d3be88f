"""A server of PySyncObj that keeps a map: run by a Python that has PySyncObj, and nothing else.

Its only argument is a JSON object; it takes orders as JSON lines on stdin, as the other systems'
servers do.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated

WARM_UP = 0.5


class Values(SyncObj):  # type: ignore[misc,no-any-unimported]
    """A map of texts."""

    def __init__(self, own: str, others: list[str], **settings: Any) -> None:
        super().__init__(own, others, SyncObjConf(**settings))
        self._values: dict[str, str] = {}

    @replicated  # type: ignore[misc]
    def put(self, key: str, value: str) -> str | None:
        """Put a value under a key; comes to the one before."""
        before = self._values.get(key)
        self._values[key] = value
        return before


class Loop:
    """Callers that ask again in the callback of what they have asked before."""

    def __init__(self, values: Values, in_flight: int, seconds: float, size: int) -> None:
        self._values = values
        self._in_flight = in_flight
        self._seconds = seconds
        self._value = "v" * size
        self._latencies: list[float] = []
        self._counts = False
        self._goes_on = True
        self._errors = 0

    def run(self) -> dict[str, Any]:
        """Go on for so long, and say what came of it."""
        for _ in range(self._in_flight):
            self._ask()
        time.sleep(min(WARM_UP, self._seconds))
        began, used = time.perf_counter(), time.process_time()
        self._counts = True
        tell({"started": True})
        time.sleep(self._seconds)
        self._counts = self._goes_on = False
        lasted, cpu = time.perf_counter() - began, time.process_time() - used
        ordered = sorted(1000 * latency for latency in self._latencies) or [float("nan")]
        count = len(self._latencies)
        return {
            "count": count,
            "seconds": lasted,
            "p50": ordered[count * 50 // 100],
            "p99": ordered[count * 99 // 100],
            "longest": ordered[-1],
            "cpu": cpu,
            "errors": self._errors,
        }

    def _ask(self) -> None:
        began = time.perf_counter()

        def done(_: object, failure: int) -> None:
            if self._counts and failure:
                self._errors += 1
            elif self._counts:
                self._latencies.append(time.perf_counter() - began)
            if self._goes_on:
                self._ask()

        key = f"key-{random.randrange(10_000):012d}"
        self._values.put(key, self._value, callback=done)


def wait(values: Values) -> dict[str, Any]:
    """Come back once this server leads, and has done a command."""
    done = threading.Event()

    def heard(_: object, failure: int) -> None:
        if not failure:
            done.set()

    while not done.is_set():
        if values._isLeader():
            values.put("failover", "after", callback=heard)
            done.wait(0.05)
        time.sleep(0.001)
    return {"done": True}


def tell(what: dict[str, Any]) -> None:
    """Say something to whoever has started this process."""
    print(json.dumps(what), flush=True)


def main() -> None:
    """Take orders until they end."""
    given = json.loads(sys.argv[1])
    cluster = {n: a.removeprefix("ws://") for n, a in given["cluster"].items()}
    name = given["name"]
    others = [address for other, address in cluster.items() if other != name]
    journal = f"{given['directory']}.journal"
    values = Values(cluster[name], others, journalFile=journal, **given["config"])
    tell({"listens": cluster[name]})
    for line in sys.stdin:
        order = json.loads(line)
        if order["order"] == "load":
            tell(Loop(values, order["in_flight"], order["seconds"], order["value"]).run())
        elif order["order"] == "wait":
            tell(wait(values))
        else:
            address = str(values._getLeader() or "")
            leader = next((n for n, known in cluster.items() if known == address), None)
            status = {"leads": bool(values._isLeader() and values.isReady()), "leader": leader}
            tell({**status, "term": values.raftCurrentTerm, "applied": values.raftLastApplied})


if __name__ == "__main__":
    main()
