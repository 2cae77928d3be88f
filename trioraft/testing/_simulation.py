"""One simulated run from beginning to end: a cluster, its callers, its faults, and the verdict."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Final

import trio
from attrs import define, field, frozen

from trioraft._config import Config, Leads
from trioraft.abc import Entry, StateMachine
from trioraft.testing._clients import Clients
from trioraft.testing._cluster import SimulatedCluster, simulated_cluster
from trioraft.testing._disks import broken
from trioraft.testing._linearizability import check
from trioraft.testing._member_kinds import MEMBERS
from trioraft.testing._mischief import Mischief
from trioraft.testing._model import Model
from trioraft.testing._plan import TIMING, Fault
from trioraft.testing._runs import seeded_run
from trioraft.testing._states import bring_back, state_of
from trioraft.testing._timeline import render_text

_LOG: Final = logging.getLogger("trioraft")

FORMING: Final = 20.0
"""Virtual seconds within which a cluster without faults forms and elects its first leader."""

RECOVERY: Final = 10
"""Election time-outs within which a cluster without further faults is one again: a leader, a
command committed, and all servers at the same entry."""

TAKING_IN: Final = 20.0
"""Virtual seconds within which whoever was removed is a voter again."""


@frozen
class Scenario:
    """All that makes a run what it is; equal scenarios make equal runs, to the last step."""

    machine: Callable[[], StateMachine]
    draw: Callable[[Random], Any]
    """Draws a caller's next command or query."""
    seed: int = 0
    servers: int = 3
    seconds: float = 10.0
    """Virtual seconds of faults; the forming before and the recovery after them are not in it."""
    plan: Sequence[Fault] = ()
    clients: int = 3
    pause: float = 0.05
    """Virtual seconds between two commands of a caller, on average."""
    commands: Sequence[int] | None = None
    """Which of the drawn commands are asked for, by number; None: all."""
    websockets: bool = False
    config: Config = Config()
    leads: Mapping[str, Leads] = field(factory=dict)
    """Which servers are to lead otherwise than `config` says."""
    model: Model | None = None
    """What the history is checked against; None: it is not."""
    check: Callable[[Any], None] | None = None
    """Looks at a state machine after each entry, and raises if something is wrong with it."""


@define
class Report:
    """What became of a run."""

    seed: int
    servers: int
    seconds: float
    failure: BaseException | None = None
    digest: str = ""
    """A fingerprint of all that has happened."""
    virtual_seconds: float = 0.0
    began_at: float = 0.0
    """When the faults began: the cluster had formed."""
    recovered_in: float = 0.0
    """Virtual seconds from the last fault's end until the cluster was one again."""
    faults: Counter[str] = field(factory=Counter)
    commands: Counter[str] = field(factory=Counter)
    """How many came to "done", "unknown" and "not done"."""
    drawn: list[int] = field(factory=list)
    """The numbers of the commands that were drawn."""
    counts: Counter[str] = field(factory=Counter)
    """What the judge has counted: steps, messages, elections, ..."""
    story: list[tuple[float, str, str]] = field(factory=list)
    """What happened: when, to whom, what."""
    history: list[Entry] = field(factory=list)
    """All entries that were applied, in order."""
    results: list[object] = field(factory=list)
    """What each of them came to, in plain form."""

    @property
    def failed_after(self) -> float | None:
        """Seconds of faults until the failure; None if it came after them, or there is none."""
        seconds = self.virtual_seconds - self.began_at
        in_time = self.failure is not None and seconds < self.seconds
        return seconds if in_time and self.began_at else None


def play(scenario: Scenario) -> Report:
    """Run a scenario; what goes wrong is in the report, and never raised.

    The servers log nothing meanwhile: a thousand lost links are no news here.
    """
    report = Report(scenario.seed, scenario.servers, scenario.seconds)
    level = _LOG.level
    _LOG.setLevel(logging.CRITICAL)
    try:
        seeded_run(scenario.seed, partial(_play, scenario, report))
    except Exception as error:  # noqa: BLE001  whatever it is, this run has found it
        report.failure = error
    finally:
        _LOG.setLevel(level)
    return report


async def _play(scenario: Scenario, report: Report) -> None:
    async with simulated_cluster(
        scenario.machine,
        servers=scenario.servers,
        seed=scenario.seed,
        config=scenario.config,
        websockets=scenario.websockets,
        leads=scenario.leads,
    ) as cluster:
        cluster.check = scenario.check
        try:
            await _acts(scenario, report, cluster)
        finally:
            report.digest = cluster.judge.digest
            report.counts = cluster.judge.counts
            report.history, report.results = cluster.judge.history, cluster.judge.results
            report.virtual_seconds = trio.current_time()


async def _acts(scenario: Scenario, report: Report, cluster: SimulatedCluster) -> None:
    def tell(who: str, what: str) -> None:
        report.story.append((trio.current_time(), who, what))

    cluster.judge.tell = tell
    clocks_agree = not any(fault.kind in TIMING for fault in scenario.plan)
    cluster.holders.watches = clocks_agree
    commands = tuple(scenario.machine().commands)
    clients = Clients(
        cluster,
        scenario.draw,
        commands,
        pause=scenario.pause,
        kept=scenario.commands,
        clocks_agree=clocks_agree,
    )
    clients.tell = tell
    report.commands, report.drawn = clients.counts, clients.drawn
    mischief = Mischief(cluster, scenario.plan, scenario.seed)
    mischief.on_begin = lambda server, fault: tell(server, str(fault))
    report.faults = mischief.counts
    cluster.start()
    await cluster.settled(FORMING)
    report.began_at = trio.current_time()
    await _faulty_phase(scenario, report, cluster, clients, mischief)
    for server in cluster.servers:
        if server._core.tickets.count:
            broken(f"callers of {server.name} wait for an answer that will never come")
    _agree(scenario, cluster)
    clients.check(scenario.machine())
    if scenario.model is not None:
        verdict = check(clients.history, scenario.model)
        cluster.judge.counts["undecided"] += len(verdict.undecided)
        if verdict.counterexample is not None:
            broken(f"the history is not linearizable\n{render_text(verdict.counterexample)}")


async def _faulty_phase(
    scenario: Scenario,
    report: Report,
    cluster: SimulatedCluster,
    clients: Clients,
    mischief: Mischief,
) -> None:
    """Faults and callers, all at once; then none of them, and the cluster must recover."""
    async with trio.open_nursery() as callers:
        for number in range(scenario.clients):
            callers.start_soon(clients.run, scenario.seed, number, scenario.clients)
        await mischief.run(scenario.seconds)
        callers.cancel_scope.cancel()
    began = trio.current_time()
    report.story.append((began, "all", "no more faults; nobody asks any more"))
    await _recovers(scenario, cluster, clients)
    report.recovered_in = trio.current_time() - began


async def _recovers(scenario: Scenario, cluster: SimulatedCluster, clients: Clients) -> None:
    """Liveness: once faults end, a leader is found, a command commits, and all servers agree."""
    within = RECOVERY * scenario.config.election_timeout
    end = trio.current_time() + within
    await cluster.until(lambda: cluster.leader, within)
    chance = Random(f"{scenario.seed} last")
    done = clients.counts["done"]
    while clients.counts["done"] == done:
        await clients.ask("last", scenario.draw(chance), chance)
        if trio.current_time() > end:
            broken(f"no command was done within {within:g} s after the faults")
        await trio.sleep(0.005)
    left = end - trio.current_time()
    if MEMBERS & {fault.kind for fault in scenario.plan} and chance.random() < 0.3:
        await cluster.admin.remove_one(chance, TAKING_IN)
    given = trio.current_time() + TAKING_IN
    while await cluster.admin.take_one_in():
        if trio.current_time() > given:
            broken(f"{cluster.admin.strangers} did not get in again\n{cluster.describe()}")
        await trio.sleep(0.005)
    await cluster.settled(left)


def _agree(scenario: Scenario, cluster: SimulatedCluster) -> None:
    """State machine safety, by the machines themselves: all have come to the same state."""
    saved = {
        host.name: state_of(cluster[host.name].state_machine)
        for host in cluster.hosts.values()
        if not host.lost
    }
    if len(set(saved.values())) > 1:
        states = "\n".join(f"{name}: {state!r:.500}" for name, state in saved.items())
        broken(f"all servers have applied the same entries, and their states differ\n{states}")
    for state in saved.values():
        machine = scenario.machine()
        bring_back(machine, state)
        if (again := state_of(machine)) != state:
            broken(
                "`recover` brings back another state than `save` gave: "
                f"{state!r:.500} became {again!r:.500}"
            )
