"""The rules explored by the hundred thousand worlds, and proof that the search would find a bug.

Each search says in its test how many worlds it visits; where the bound is a number of worlds the
search is the nearest part of a much larger space, where it is not the space is exhausted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from tests.rules import exploration as exploring
from tests.rules.exploration import (
    Bounds,
    Committed,
    Exploration,
    Led,
    Letter,
    Violation,
    World,
    prefix,
)
from tests.rules.worlds import B, C, terms_of
from trioraft._errors import InternalError
from trioraft._rules import (
    commitment,
    elections,
    following,
    reconfiguration,
    replication,
    snapshots,
    step,
    transfer,
)
from trioraft._rules import effects as do
from trioraft._rules.effects import Effect
from trioraft._rules.events import ChangeDue
from trioraft._rules.log import Log
from trioraft._rules.membership import Configuration
from trioraft._rules.messages import (
    InstallSnapshot,
    InstallSnapshotReply,
    RequestVote,
    TimeoutNow,
    TimeoutNowReply,
)
from trioraft._rules.node import Disk, Leading, Node
from trioraft._rules.reads import lease_until

pytestmark = pytest.mark.unmeasured

WIDE = Bounds(
    term=40, log=40, requests=200, proposals=12, restarts=8, links=6, fetches=True, servers=3
)

CHANGING = evolve(
    WIDE,
    servers=4,
    voters="abc",
    learners="d",
    memberships=(
        ("abd", ""),
        ("abc", "d"),
        ("bc", "d"),
        ("bcd", ""),
        ("ab", "cd"),
        ("abcd", ""),
        ("d", "abc"),
        ("a", ""),
    ),
    changes=12,
    transfers=4,
    proposals=8,
    pre_votes=False,
)
"""From three voters and a learner to whatever a leader is asked for."""

LEASING = evolve(CHANGING, pre_votes=True, clock=60, election_timeout=2.0, restarts=0)
"""The same where leases hold.  No restarts: here an old TimeoutNow would outlive its target."""

FORGETFUL = evolve(WIDE, pre_votes=False, clock=60, snapshots=12, slow_snapshots=True)


def leaders(exploration: Exploration) -> int:
    return sum(isinstance(token, Led) for token in exploration.tokens)


def most_committed(exploration: Exploration) -> int:
    return max(
        (token.log.last_index for token in exploration.tokens if isinstance(token, Committed)),
        default=0,
    )


def in_force(exploration: Exploration) -> set[tuple[str, str, str]]:
    """All that was ever in force anywhere: voters, those that go, learners."""
    found = set()
    for configuration in {host.node.configuration for host in exploration.hosts}:
        halves = configuration.voters, configuration.outgoing, configuration.learners
        voters, outgoing, learners = ("".join(m.id.name for m in half) for half in halves)
        found.add((voters, outgoing, learners))
    return found


def installed(exploration: Exploration) -> int:
    """How many different answers there were to snapshots that were installed."""
    return sum(
        isinstance(token, Letter)
        and isinstance(token.message, InstallSnapshotReply)
        and token.message.match_index > 0
        for token in exploration.tokens
    )


# -- everything near the start -----------------------------------------------------------------


def test_two_servers_in_their_first_term() -> None:
    """One election, commands, a crash at any moment, disks as late as they like."""
    exploration = Exploration(Bounds(servers=2, term=1, log=2, requests=1))
    start = exploration.start()
    assert exploration.breadth_first(start, most=80_000) == 80_000
    assert leaders(exploration) > 1
    assert most_committed(exploration) >= 1


def test_two_servers_with_fast_disks_in_two_terms() -> None:
    """All that there is within the bounds: 51,077 worlds without a crash, 18,169 with one."""
    for requests, restarts in ((2, 0), (1, 1)):
        bounds = Bounds(
            servers=2,
            term=2,
            log=2,
            requests=requests,
            restarts=restarts,
            slow_disks=False,
            pre_votes=False,
        )
        exploration = Exploration(bounds)
        worlds = exploration.breadth_first(exploration.start(), most=100_000)
        assert worlds < 100_000, "exhausted"
        assert most_committed(exploration) == 2


def test_three_servers_around_an_election() -> None:
    """Pre-votes, votes and their writes, crashes between a write and its report."""
    exploration = Exploration(Bounds(term=2, log=2, requests=2))
    assert exploration.breadth_first(exploration.start(), most=60_000) == 60_000
    assert leaders(exploration) > 0


def test_three_servers_with_fast_disks() -> None:
    bounds = Bounds(term=3, log=3, restarts=0, slow_disks=False, pre_votes=False)
    exploration = Exploration(bounds)
    assert exploration.breadth_first(exploration.start(), most=80_000) == 80_000
    assert most_committed(exploration) >= 2


def test_three_servers_whose_logs_differ() -> None:
    """From the state in the middle of figure 8, shrunk to three servers."""
    bounds = Bounds(term=5, log=4, restarts=0, proposals=0, slow_disks=False, pre_votes=False)
    exploration = Exploration(bounds)
    start = exploration.start((1, 2), (1,), (1, 3))
    assert exploration.breadth_first(start, most=80_000) == 80_000
    assert most_committed(exploration) >= 3


def test_three_servers_that_stand_by_their_leader() -> None:
    """With stickiness, and a clock that moves."""
    bounds = Bounds(term=2, log=2, requests=2, clock=2, election_timeout=1.0)
    exploration = Exploration(bounds)
    assert exploration.breadth_first(exploration.start(), most=60_000) == 60_000
    assert leaders(exploration) > 0


def test_three_servers_of_which_one_is_sent_a_snapshot() -> None:
    """One has the snapshot, one the entries, one neither; disks and snapshots take their time."""
    exploration, start = where_one_needs_a_snapshot()
    assert exploration.breadth_first(start, most=60_000) == 60_000
    assert installed(exploration) > 0


def test_three_servers_of_which_one_has_what_a_snapshot_replaces() -> None:
    """Two have the snapshot only, and one has another entry there."""
    exploration, start = where_one_conflicts_with_a_snapshot()
    assert exploration.breadth_first(start, most=60_000) == 60_000
    assert installed(exploration) > 1


@pytest.mark.parametrize(
    ("members", "membership"),
    [("ab c", "ac"), ("ab", "b"), ("abc", "bc"), ("a b", "ab"), ("abc", "a")],
    ids=["one for another", "itself of two", "itself of three", "one more", "all others"],
)
def test_servers_of_which_one_has_just_come_to_lead_and_changes_them(
    members: str, membership: str
) -> None:
    """Another one may campaign meanwhile, and may have any part of the change."""
    exploration, start = where_one_leads(members, memberships=((membership, ""),), changes=1)
    assert exploration.breadth_first(start, most=60_000) == 60_000
    voters, _, learners = members.partition(" ")
    joint = (membership, voters, "")
    assert in_force(exploration) == {(voters, "", learners), joint, (membership, "", "")}
    assert any(host.node.term == 2 for host in exploration.hosts), "somebody has campaigned"


def test_three_servers_of_which_one_hands_over() -> None:
    exploration, start = where_one_leads("abc", transfers=1, proposals=1)
    assert exploration.breadth_first(start, most=60_000) == 60_000
    assert any(
        isinstance(token, Letter) and token.message == RequestVote(2, 1, 1, transfer=True)
        for token in exploration.tokens
    )


def test_three_servers_of_which_one_gives_up_to_hand_over() -> None:
    """What it has asked for may be obeyed yet, and its lease comes back: never both."""
    exploration, start = where_one_hands_over()
    assert exploration.breadth_first(start, most=60_000) == 60_000
    leases = {lease_until(host.node) for host in exploration.hosts}
    assert 1 <= max(leases) <= 3
    assert leaders(exploration) > 1
    assert any(
        isinstance(token, Letter) and token.message == TimeoutNowReply(1, 1)
        for token in exploration.tokens
    )


# -- far from the start ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bounds",
    [
        WIDE,
        evolve(WIDE, pre_votes=False, slow_disks=False),
        evolve(WIDE, servers=5, pre_votes=False),
        evolve(WIDE, clock=60, election_timeout=2.0),
    ],
    ids=["three", "three-fast", "five", "sticky"],
)
def test_long_walks(bounds: Bounds) -> None:
    """Chance reaches what breadth does not: many terms, long logs, several crashes."""
    exploration = Exploration(bounds)
    start = exploration.start()
    for seed in range(80):
        exploration.walk(start, seed, length=300)
    assert leaders(exploration) > 10
    assert most_committed(exploration) >= 2


@pytest.mark.parametrize(
    "bounds", [FORGETFUL, evolve(FORGETFUL, slow_disks=False)], ids=["slow", "fast"]
)
def test_long_walks_with_snapshots(bounds: Bounds) -> None:
    """Servers take them all the time, and some of those that are sent come late, or twice."""
    exploration = Exploration(bounds)
    start = exploration.start((1, 2, 2), (1, 2, 2), (1, 1), bases=(2, 3, 0))
    for seed in range(50):
        exploration.walk(start, seed, length=300)
    assert leaders(exploration) > 10
    assert most_committed(exploration) > 4
    assert installed(exploration) > 10


@pytest.mark.parametrize(
    "bounds",
    [CHANGING, evolve(CHANGING, slow_disks=False), LEASING, evolve(LEASING, slow_disks=False)],
    ids=["slow", "fast", "leases", "leases-fast"],
)
def test_long_walks_with_changes(bounds: Bounds) -> None:
    """Change upon change, by whoever leads, with transfers, crashes and elections between."""
    exploration = Exploration(bounds)
    start = exploration.start((1,), (1,), (1,), ())
    for seed in range(80):
        exploration.walk(start, seed, length=300)
    assert leaders(exploration) > 20
    assert most_committed(exploration) > 6
    assert len(in_force(exploration)) > 10
    assert any(
        isinstance(token, Letter) and isinstance(token.message, TimeoutNow)
        for token in exploration.tokens
    )


# -- figure 8 ----------------------------------------------------------------------------------


def deliver_all(exploration: Exploration, world: World, *group: int) -> World:
    """Deliver every message between the servers of the group until nothing changes."""
    names = {exploration.servers[index] for index in group}
    before = None
    while world != before:
        before = world
        for what, index, token in list(exploration.moves(world)):
            letter = exploration.tokens[token] if what == "deliver" else None
            if isinstance(letter, Letter) and index in group and letter.sender in names:
                world = exploration.go(world, (what, index, token)) or world
    return world


def elect(exploration: Exploration, world: World, who: int, *voters: int) -> World:
    """The server campaigns, each time in a higher term, until it leads with these votes."""
    for _ in range(3):
        world = exploration.go(world, ("campaign", who, None)) or world
        world = deliver_all(exploration, world, who, *voters)
        if isinstance(exploration.host(world, who).node.role, Leading):
            return world
    raise AssertionError("not elected")


def replicate(exploration: Exploration, world: World, who: int, to: int, last: int) -> World:
    """The leader brings one follower's log to `last`."""
    peer = exploration.servers[to]
    goal = exploration.host(world, who).node.log.cut(last)
    for _ in range(4):
        world = exploration.go(world, ("append", who, (peer, last))) or world
        world = deliver_all(exploration, world, who, to)
        if prefix(exploration.host(world, to).node.log, goal):
            return world
    raise AssertionError("not replicated")


@pytest.mark.parametrize("own_entry_reaches_a_majority", [False, True])
def test_c1_figure_8(own_entry_reaches_a_majority: bool) -> None:
    """An entry of an old term on a majority is not committed, and may yet be overwritten (5.4.2).

    Once an entry of the leader's own term is on a majority, all before it is committed with it, and
    who lacks it is not elected.
    """
    bounds = Bounds(
        servers=5, term=9, log=9, requests=9, restarts=9, slow_disks=False, pre_votes=False
    )
    exploration = Exploration(bounds)

    def terms(world: World, index: int) -> list[int]:
        return terms_of(exploration.host(world, index).node.log)

    world = exploration.start((1,), (1,), (1,), (1,), (1,))
    # (a) S1 leads in term 2 and brings its entry to S2 only.
    world = replicate(exploration, elect(exploration, world, 0, 1, 2), 0, 1, last=2)
    assert [terms(world, index) for index in range(5)] == [[1, 2], [1, 2], [1], [1], [1]]
    # (b) S1 crashes; S5 leads in term 3 and has another entry there.
    world = exploration.go(world, ("restart", 0, 0)) or world
    world = elect(exploration, world, 4, 2, 3)
    assert terms(world, 4) == [1, 3]
    # (c) S5 crashes; S1 leads in term 4 and goes on with its old entry: it is on a majority now.
    world = exploration.go(world, ("restart", 4, 0)) or world
    world = elect(exploration, world, 0, 1, 2)
    assert exploration.host(world, 0).node.term == 4
    world = replicate(exploration, world, 0, 2, last=2)
    assert [terms(world, index) for index in range(3)] == [[1, 2, 4], [1, 2], [1, 2]]
    assert exploration.host(world, 0).node.commit == 0
    if own_entry_reaches_a_majority:
        # (e) Its own entry, too: now both are committed, and S5 cannot win.
        for to in (1, 2):
            world = replicate(exploration, world, 0, to, last=3)
        assert exploration.host(world, 0).node.commit == 3
        with pytest.raises(AssertionError, match="not elected"):
            elect(exploration, world, 4, 1, 2, 3)
    else:
        # (d) S1 crashes again; S5 wins and overwrites what was on a majority.
        world = exploration.go(world, ("restart", 0, 0)) or world
        world = elect(exploration, world, 4, 1, 2, 3)
        for to in (0, 1, 2, 3):
            world = replicate(exploration, world, 4, to, last=3)
        own = exploration.host(world, 4).node.term
        assert all(terms(world, index) == [1, 3, own] for index in range(5))
        assert exploration.host(world, 4).node.commit == 3


def where_one_leads(members: str, **bounds: Any) -> tuple[Exploration, World]:
    """All is quiet: the first server leads, its entry is committed, and everybody has it."""
    voters, _, learners = members.partition(" ")
    limits: dict[str, Any] = {
        "servers": len(voters) + len(learners),
        "voters": voters,
        "learners": learners,
        "term": 2,
        "log": 4,
        "requests": 4,
        "proposals": 0,
        "restarts": 0,
    }
    fast = Bounds(**{"pre_votes": False} | limits | bounds, slow_disks=False)
    exploration = Exploration(fast)
    everybody = range(fast.servers)
    world = elect(exploration, exploration.start(), 0, *everybody[1:])
    for other in everybody[1:]:
        world = replicate(exploration, world, 0, other, last=1)
    world = deliver_all(exploration, world, *everybody)
    assert exploration.host(world, 0).node.commit == 1
    return exploration, exploration.without_letters(world)


# -- the search finds bugs ---------------------------------------------------------------------

Plant = Callable[[pytest.MonkeyPatch], None]
Place = Callable[[], tuple[Exploration, World]]


def everybody_is_up_to_date(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(elections, "_is_up_to_date", lambda node, request: True)


def lengths_are_compared_first(patch: pytest.MonkeyPatch) -> None:
    def compare(node: Node, request: Any) -> bool:
        return bool(request.last_log_index >= node.log.last_index)

    patch.setattr(elections, "_is_up_to_date", compare)


def half_is_a_quorum(patch: pytest.MonkeyPatch) -> None:
    def is_quorum(self: Configuration, servers: Any) -> bool:
        return 2 * sum(member.id in servers for member in self.voters) >= len(self.voters) - 1

    patch.setattr(Configuration, "is_quorum", is_quorum)


def replicas_of_old_terms_are_counted(patch: pytest.MonkeyPatch) -> None:
    real = commitment.advance_commit

    def advance(node: Node, role: Leading, now: float) -> Any:
        return real(node, evolve(role, first_index=0), now)

    for module in (commitment, replication, snapshots):
        patch.setattr(module, "advance_commit", advance)


def votes_do_not_wait_for_the_disk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(elections, "_reply", lambda node, to, reply: do.Send(to, reply))


def votes_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    real = elections.on_request_vote

    def vote(node: Node, now: float, sender: Any, request: Any) -> Any:
        return real(evolve(node, voted_for=None), now, sender, request)

    patch.setitem(step._MESSAGE_RULES, RequestVote, vote)  # type: ignore[index]


def acknowledged_before_durable(patch: pytest.MonkeyPatch) -> None:
    real = following._success

    def success(node: Node) -> Any:
        return real(evolve(node, disk=evolve(node.disk, index=node.log.last_index)))

    patch.setattr(following, "_success", success)


def acknowledged_beyond_what_is_verified(patch: pytest.MonkeyPatch) -> None:
    real = following._success

    def success(node: Node) -> Any:
        return real(evolve(node, role=evolve(node.role, verified=node.log.last_index)))

    patch.setattr(following, "_success", success)


def the_leader_counts_itself_at_once(patch: pytest.MonkeyPatch) -> None:
    real = commitment.advance_commit

    def advance(node: Node, role: Leading, now: float) -> Any:
        early = evolve(node, disk=evolve(node.disk, index=node.log.last_index))
        return real(early, role, now)

    for module in (commitment, replication, snapshots):
        patch.setattr(module, "advance_commit", advance)


def an_earlier_write_counts_after_a_cut(patch: pytest.MonkeyPatch) -> None:
    def asking(self: Disk, last_index: int, kept: int) -> Disk:
        pending = (*self.pending, (self.asked + 1, last_index))
        index = min(self.index, kept)
        return evolve(self, asked=self.asked + 1, index=index, pending=pending)

    patch.setattr(Disk, "asking", asking)


def a_late_copy_cuts_what_matches(patch: pytest.MonkeyPatch) -> None:
    def first_conflict(self: Log, entries: Any) -> int | None:
        return entries.first if self.last_index >= entries.first and len(entries) else None

    patch.setattr(Log, "first_conflict", first_conflict)


def commit_reaches_beyond_what_is_verified(patch: pytest.MonkeyPatch) -> None:
    real = following.committing

    def committing(node: Node, commit: int) -> Any:
        return real(node, node.log.last_index if commit else 0)

    patch.setattr(following, "committing", committing)


def nothing_is_checked_before_appending(patch: pytest.MonkeyPatch) -> None:
    real = following._consistency_check

    def check(node: Node, request: Any) -> Any:
        refusal = real(node, request)
        return refusal if request.prev_log_index > node.log.last_index else None

    patch.setattr(following, "_consistency_check", check)


def snapshots_are_acknowledged_before_durable(patch: pytest.MonkeyPatch) -> None:
    def install(before: Node, after: Node, effects: list[Effect]) -> Any:
        return after, [evolve(e, after=0) if isinstance(e, do.Send) else e for e in effects]

    change_installing(patch, install)


def what_a_snapshot_replaced_counts_as_durable(patch: pytest.MonkeyPatch) -> None:
    def install(before: Node, after: Node, effects: list[Effect]) -> Any:
        if after.log is not before.log:
            after = evolve(after, disk=evolve(after.disk, index=before.disk.index))
        return after, effects

    change_installing(patch, install)


def late_snapshots_are_taken(patch: pytest.MonkeyPatch) -> None:
    real = snapshots.on_install_snapshot

    def install(node: Node, now: float, leader: Any, request: Any) -> Any:
        return real(evolve(node, commit=0), now, leader, request)

    patch.setitem(step._MESSAGE_RULES, InstallSnapshot, install)  # type: ignore[index]


def change_installing(patch: pytest.MonkeyPatch, change: Callable[..., Any]) -> None:
    real = snapshots.on_install_snapshot

    def install(node: Node, now: float, leader: Any, request: Any) -> Any:
        return change(node, *real(node, now, leader, request))

    patch.setitem(step._MESSAGE_RULES, InstallSnapshot, install)  # type: ignore[index]


def a_log_that_is_all_snapshot_has_no_last_term(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Log, "last_term", property(lambda self: self.runs[-1][1] if self.runs else 0))


def only_the_new_half_is_counted(patch: pytest.MonkeyPatch) -> None:
    count_in(patch, lambda node: evolve(node.configuration, outgoing=()))


def only_the_old_half_is_counted(patch: pytest.MonkeyPatch) -> None:
    def old(node: Node) -> Configuration:
        one = node.configuration
        return evolve(one, voters=one.outgoing or one.voters, outgoing=())

    count_in(patch, old)


def a_change_is_in_force_once_committed(patch: pytest.MonkeyPatch) -> None:
    count_in(patch, lambda node: node.configuration_at(node.commit))


def learners_are_counted(patch: pytest.MonkeyPatch) -> None:
    def all_of(node: Node) -> Configuration:
        one = node.configuration
        return evolve(one, voters=(*one.voters, *one.learners))

    count_in(patch, all_of)


def count_in(patch: pytest.MonkeyPatch, change: Callable[[Node], Configuration]) -> None:
    """Have votes and replicas counted by another configuration."""
    count_votes = elections._count_votes

    def agreed(self: Node, mine: float, others: Any) -> float:
        return change(self).agreed({**others, self.me: mine})

    def votes(node: Node, now: float, effects: Any) -> Any:
        after, effects = count_votes(evolve(node, configuration=change(node)), now, effects)
        return evolve(after, configuration=node.configuration), effects

    patch.setattr(Node, "agreed", agreed)
    patch.setattr(elections, "_count_votes", votes)


def changes_go_straight_to_the_new_half(patch: pytest.MonkeyPatch) -> None:
    real = reconfiguration._append

    def append(node: Node, now: float, voters: Any, outgoing: Any, learners: Any) -> Any:
        return real(node, now, voters, (), learners)

    patch.setattr(reconfiguration, "_append", append)


def changes_do_not_wait_for_an_own_entry(patch: pytest.MonkeyPatch) -> None:
    change_only_if(patch, "its first entry is not committed yet")


def changes_do_not_wait_for_each_other(patch: pytest.MonkeyPatch) -> None:
    change_only_if(patch, "another change is under way")


def change_only_if(patch: pytest.MonkeyPatch, ignored: str) -> None:
    """Have one reason ignored for which a change may not be."""
    real = reconfiguration.why_no_change

    def why_no_change(node: Node, change: Any) -> str | None:
        why = real(node, change)
        return None if why == ignored else why

    patch.setattr(reconfiguration, "why_no_change", why_no_change)


def what_is_cut_stays_in_force(patch: pytest.MonkeyPatch) -> None:
    def reconfigured(node: Node, kept: int, new: Any) -> Node:
        return reconfiguration.reconfigured(node, node.log.last_index, new)

    patch.setattr(following, "reconfigured", reconfigured)


def changes_are_finished_before_they_are_committed(patch: pytest.MonkeyPatch) -> None:
    real = reconfiguration.on_change_due

    def change(node: Node, event: Any) -> Any:
        node, effects = real(node, event)
        if node.configuration.outgoing and effects:
            new = node.configuration
            node, more = reconfiguration._append(node, event.now, new.voters, (), new.learners)
            effects = [*effects, *more]
        return node, effects

    patch.setitem(step._RULES, ChangeDue, change)  # type: ignore[index]


def a_lease_stands_while_it_is_handed_over(patch: pytest.MonkeyPatch) -> None:
    def lease(node: Node) -> float:
        if isinstance(node.role, Leading):
            node = evolve(node, role=evolve(node.role, transfer=None))
        return lease_until(node)

    patch.setattr(exploring, "lease_until", lease)


def handing_over_is_not_taken_back(patch: pytest.MonkeyPatch) -> None:
    real = transfer._give_up

    def give_up(node: Node, role: Leading, now: float) -> Any:
        if role.transfer is not None and now >= role.transfer.until:
            return transfer._end(node, role, now)
        return real(node, role, now)

    patch.setattr(transfer, "_give_up", give_up)


def first_term() -> tuple[Exploration, World]:
    exploration = Exploration(Bounds(servers=2, term=1, log=2, requests=1))
    return exploration, exploration.start()


def an_election() -> tuple[Exploration, World]:
    exploration = Exploration(Bounds(term=2, log=2, requests=1, restarts=1, pre_votes=False))
    return exploration, exploration.start()


def figure_8() -> tuple[Exploration, World]:
    exploration = Exploration(
        Bounds(term=9, log=8, requests=8, restarts=0, slow_disks=False, pre_votes=False)
    )
    return exploration, exploration.start((1, 2), (1,), (1, 3))


def a_wrong_tail() -> tuple[Exploration, World]:
    exploration = Exploration(
        Bounds(term=5, restarts=0, slow_disks=False, pre_votes=False, fetches=True)
    )
    return exploration, exploration.start((1,), (1,), (1, 3))


def where_one_needs_a_snapshot() -> tuple[Exploration, World]:
    bounds = Bounds(
        term=2, log=3, requests=2, proposals=0, snapshots=1, slow_snapshots=True, pre_votes=False
    )
    exploration = Exploration(bounds)
    return exploration, exploration.start((1, 1), (1, 1), (1,), bases=(2, 0, 0))


def where_one_conflicts_with_a_snapshot() -> tuple[Exploration, World]:
    bounds = Bounds(log=3, proposals=0, snapshots=1, slow_disks=False, pre_votes=False)
    exploration = Exploration(bounds)
    return exploration, exploration.start((1, 2), (1, 2), (1, 1), bases=(2, 2, 0))


def where_all_forget() -> tuple[Exploration, World]:
    exploration = Exploration(FORGETFUL)
    return exploration, exploration.start((1, 2, 2), (1, 2, 2), (1, 1), bases=(2, 3, 0))


def where_one_takes_anothers_place() -> tuple[Exploration, World]:
    return where_one_leads("ab c", memberships=(("ac", ""),), changes=1)


def where_a_learner_has_the_log() -> tuple[Exploration, World]:
    return where_one_leads("ab c", proposals=1)


def where_one_follows_another_change() -> tuple[Exploration, World]:
    return where_one_leads("abc", memberships=(("ab", ""), ("ac", "")), changes=2)


def where_one_remains_alone() -> tuple[Exploration, World]:
    return where_one_leads("abc", memberships=(("a", ""),), changes=1)


def where_members_change() -> tuple[Exploration, World]:
    exploration = Exploration(CHANGING)
    return exploration, exploration.start((1,), (1,), (1,), ())


def where_leases_hold() -> tuple[Exploration, World]:
    exploration = Exploration(LEASING)
    return exploration, exploration.start((1,), (1,), (1,), ())


def where_one_hands_over() -> tuple[Exploration, World]:
    """B was asked to campaign, and has not heard it; C has answered since, and time is up."""
    exploration, world = where_one_leads(
        "abc", log=2, clock=2, election_timeout=1.0, pre_votes=True, transfers=1
    )
    last = exploration.host(world, 0).node.log.last_index
    for move in (
        ("transfer", 0, B),
        ("append", 0, (B, last)),
        ("tick", 0, None),
        ("append", 0, (C, last)),
    ):
        world = exploration.go(world, move) or world
    return exploration, deliver_all(exploration, world, 0, 2)


def anywhere() -> tuple[Exploration, World]:
    exploration = Exploration(evolve(WIDE, pre_votes=False))
    return exploration, exploration.start()


NEAR: list[tuple[Plant, Place]] = [
    (half_is_a_quorum, an_election),
    (votes_do_not_wait_for_the_disk, an_election),
    (votes_are_forgotten, an_election),
    (acknowledged_before_durable, first_term),
    (acknowledged_beyond_what_is_verified, a_wrong_tail),
    (the_leader_counts_itself_at_once, first_term),
    (nothing_is_checked_before_appending, a_wrong_tail),
    (commit_reaches_beyond_what_is_verified, a_wrong_tail),
    (snapshots_are_acknowledged_before_durable, where_one_needs_a_snapshot),
    (a_log_that_is_all_snapshot_has_no_last_term, where_one_needs_a_snapshot),
    (only_the_new_half_is_counted, where_one_takes_anothers_place),
    (only_the_old_half_is_counted, where_one_takes_anothers_place),
    (a_change_is_in_force_once_committed, where_one_takes_anothers_place),
    (learners_are_counted, where_a_learner_has_the_log),
    (changes_go_straight_to_the_new_half, where_one_remains_alone),
    (changes_do_not_wait_for_each_other, where_one_follows_another_change),
    (changes_are_finished_before_they_are_committed, where_one_remains_alone),
    (what_is_cut_stays_in_force, where_one_remains_alone),
    (handing_over_is_not_taken_back, where_one_hands_over),
    (a_lease_stands_while_it_is_handed_over, where_one_hands_over),
]

FAR: list[tuple[Plant, Place]] = [
    (everybody_is_up_to_date, figure_8),
    (lengths_are_compared_first, figure_8),
    (replicas_of_old_terms_are_counted, figure_8),
    (an_earlier_write_counts_after_a_cut, anywhere),
    (a_late_copy_cuts_what_matches, anywhere),
    (late_snapshots_are_taken, where_all_forget),
    (what_a_snapshot_replaced_counts_as_durable, where_all_forget),
    (only_the_new_half_is_counted, where_members_change),
    (a_change_is_in_force_once_committed, where_members_change),
    (changes_do_not_wait_for_an_own_entry, where_members_change),
    (a_lease_stands_while_it_is_handed_over, where_leases_hold),
]


@pytest.mark.parametrize(("plant", "place"), NEAR)
def test_breadth_finds_a_planted_bug(
    monkeypatch: pytest.MonkeyPatch, plant: Plant, place: Place
) -> None:
    plant(monkeypatch)
    exploration, start = place()
    with pytest.raises((Violation, InternalError)) as caught:
        exploration.breadth_first(start, most=60_000)
    assert caught.value.__notes__[0].startswith("after:"), "the way to it is told"


@pytest.mark.parametrize(("plant", "place"), FAR)
def test_chance_finds_a_planted_bug(
    monkeypatch: pytest.MonkeyPatch, plant: Plant, place: Place
) -> None:
    plant(monkeypatch)
    exploration, start = place()
    with pytest.raises((Violation, InternalError)) as caught:
        for seed in range(1000):
            exploration.walk(start, seed, length=150)
    assert caught.value.__notes__[0].startswith("seed "), "the seed and the way are told"
