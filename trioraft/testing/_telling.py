"""A failed run in words: what broke, the shortest way there, and how to see it again."""

from __future__ import annotations

import subprocess
from itertools import groupby
from typing import Final

from trioraft.testing._simulation import Report, Scenario

_LINES: Final = 60


def told(scenario: Scenario, report: Report, replay: str, remark: str | None = None) -> str:
    """The report that a person reads.

    Args:
        scenario: the shortest one that was found to fail.
        report: what became of it.
        replay: the command that runs it again.
        remark: what else was found.
    """
    lines = [
        f"seed {scenario.seed} fails, at commit {_commit()}; to replay: {replay}",
        "",
        f"{type(report.failure).__name__}: {report.failure}",
        *([] if remark is None else ["", remark]),
        "",
        f"The shortest history found: {scenario.servers} servers, {scenario.clients} callers, "
        f"{scenario.seconds:.3g} s, {len(scenario.plan)} faults" + (":" if scenario.plan else "."),
        *[f"  {fault}" for fault in scenario.plan],
        "",
        *story(report, _LINES),
    ]
    return "\n".join(lines)


def story(report: Report, most: int) -> list[str]:
    """What happened, a line each: seconds since the cluster had formed, who, what; the last lines.

    Args:
        report: the run's.
        most: how many lines.
    """
    lines = [f"{at - report.began_at:9.4f}  {who:<6} {what}" for at, who, what in report.story]
    if len(lines) > most:
        return [f"({len(lines) - most} lines before these)", *lines[-most:]]
    return lines


def summary(reports: list[Report]) -> str:
    """Many runs in a few lines."""
    seconds = sum(report.virtual_seconds for report in reports)
    counts = sum((report.counts for report in reports), start=type(reports[0].counts)())
    commands = sum((report.commands for report in reports), start=type(counts)())
    faults = sum((report.faults for report in reports), start=type(counts)())
    by_kind = ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items()))
    slowest = max(report.recovered_in for report in reports)
    sizes = sorted(report.servers for report in reports)
    of_sizes = ", ".join(f"{len(list(runs))} of {size}" for size, runs in groupby(sizes))
    hours = seconds / 3600
    return "\n".join(
        [
            f"{len(reports)} seeds ({of_sizes} servers), {hours:.2f} virtual cluster-hours",
            f"faults: {sum(faults.values())} ({by_kind or 'none'})",
            f"commands: {commands['done']} done, {commands['unknown']} unknown, "
            f"{commands['not done']} refused",
            f"elections won: {counts['elections']} in {counts['campaigns']} campaigns; "
            f"conflicts cut: {counts['cuts']}; messages: {counts['messages']}; "
            f"steps checked: {counts['steps']}",
            f"changes of members committed: {counts['configurations']}",
            f"histories that could not be decided: {counts['undecided']}",
            f"slowest recovery: {slowest:.2f} s",
        ]
    )


def _commit() -> str:
    """What is checked out here, as far as git knows."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"
