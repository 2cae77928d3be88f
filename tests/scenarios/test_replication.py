"""Replication and conflicts."""

from __future__ import annotations

import itertools
from random import Random

import pytest
import trio

from tests.rules.worlds import (
    B,
    append,
    fed,
    follower,
    hear,
    leader,
    progress_of,
    propose,
    reply_in,
    settled,
    success,
    terms_of,
    with_progress,
)
from tests.scenarios.worlds import Heard
from tests.server.worlds import Say, a_running_cluster, in_virtual_time, run_seeded
from trioraft import Server
from trioraft._limits import MAX_APPEND_BYTES, MAX_COMMAND_BYTES
from trioraft._rules.messages import AppendEntries
from trioraft.testing import MemoryTransport

# -- R1, R2: late copies -----------------------------------------------------------------------


def test_r1_r2_every_request_of_a_term_may_come_again_in_any_order() -> None:
    """Whatever of a leader's requests is repeated, and when: the log only grows.

    hashicorp/raft 0f31a01, zhebrak/raftos#26, databendlabs/openraft 9540c904.
    """
    requests = [
        append(1, 0, 0, number=1),
        append(1, 0, 0, 1, 1, number=2),
        append(1, 2, 1, number=3),
        append(1, 2, 1, 1, commit=1, number=4),
        append(1, 3, 1, 1, 1, commit=2, number=5),
        append(1, 5, 1, commit=5, number=6),
    ]
    for order in itertools.permutations(range(len(requests)), 3):
        node = follower()
        for request in requests:
            node, _ = hear(node, B, request)
        for repeated in order:
            node, effects = hear(settled(node), B, requests[repeated])
            assert terms_of(node.log) == [1] * 5
            assert node.commit == 5
            assert reply_in(effects) == success(1, 6, 5)


# -- R5, R6: late answers ----------------------------------------------------------------------


def test_r5_r6_answers_in_every_order_leave_one_match_and_the_next_behind_it() -> None:
    """The greatest match of all that were answered; the same whatever came last.

    zhebrak/raftos#25, bakwc/PySyncObj#167, willemt/raft#118, etcd-io/etcd#149.
    """
    node, _ = propose(leader(1), 3)
    for reach in (2, 3, 4):
        node, _ = fed(with_progress(node, B, probing=False), B, reach=reach)
    answers = [success(2, number, number + 1) for number in (1, 2, 3)]
    for order in itertools.permutations(answers):
        after = node
        for known in range(1, len(order) + 1):
            after, _ = hear(after, B, order[known - 1])
            best = max(answer.match_index for answer in order[:known])
            assert progress_of(after, B).match_index == best
            assert progress_of(after, B).next_index > best
        assert fed(propose(after)[0], B)[1].entries.first == best + 1, "next = match + 1"


# -- R9: pieces of a log -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_r9_however_entries_are_packed_each_message_goes_on_where_one_before_ended(
    seed: int,
) -> None:
    """Entries of all sizes, over streams that break again and again.  logcabin/logcabin#160."""
    chance = Random(f"packing {seed}")

    async def main() -> None:
        async with a_running_cluster(3, seed=seed) as cluster:
            leader = await cluster.settled()
            one = cluster.followers()[0]
            heard = cluster.overhear()
            async with trio.open_nursery() as nursery:
                for number in range(60):
                    size = chance.choice([1, 100, 10_000, 300_000, MAX_COMMAND_BYTES - 50])
                    nursery.start_soon(leader.do, Say(f"{number} ".ljust(size, "x")))
                    if chance.random() < 0.3:
                        cluster.network.reset(
                            cluster.addresses[leader.name], cluster.addresses[one]
                        )
                    await trio.sleep(chance.choice([0, 0, 0.003]))
            await cluster.settled()
            for name in cluster.followers():
                check_pieces(heard, leader, name)

    run_seeded(seed, main)


def check_pieces(heard: Heard, leader: Server, to: str) -> None:
    """Every message holds what fits, and none leaves a gap to all that was sent before."""
    sent = leader.status().last_index
    reached = min(
        message.entries.first
        for _, _, receiver, message in heard
        if receiver == to and isinstance(message, AppendEntries)
    )
    for _, sender, receiver, message in heard:
        if (sender, receiver) == (leader.name, to) and isinstance(message, AppendEntries):
            assert message.entries.first <= reached
            reached = max(reached, message.entries.last + 1)
            size = sum(map(len, message.entries.frames))
            assert size <= MAX_APPEND_BYTES or len(message.entries) == 1
    assert reached == sent + 1


# -- R16, R17: how much is committed -----------------------------------------------------------


@pytest.mark.parametrize("tail", [(), (2,), (2, 2, 2, 2)])
@pytest.mark.parametrize("commit", range(8))
def test_r16_r17_a_follower_commits_no_further_than_its_log_is_known_to_be_the_leaders(
    tail: tuple[int, ...], commit: int
) -> None:
    """Its log ends in a tail that no leader has vouched for; the leader has committed far more.

    Raft figure 2; bakwc/PySyncObj#166, willemt/raft#118.
    """
    node = follower(1, 1, *tail, term=2)
    node, _ = hear(node, B, append(3, 1, 1, 1, commit=commit))
    assert node.commit == min(commit, 2)
    before = node.commit
    node, _ = hear(node, B, append(3, 0, 0, commit=commit, number=2))
    assert node.commit == before, "what was verified stays verified"
    node, _ = hear(node, B, append(3, 2, 1, 3, 3, commit=commit, number=3))
    assert node.commit == min(commit, 4)
    assert terms_of(node.log) == [1, 1, 3, 3]
    node, _ = hear(node, B, append(3, 4, 3, commit=0, number=4))
    assert node.commit == min(commit, 4), "it never falls"


# -- R18: a server is no peer of its own -------------------------------------------------------


@in_virtual_time
async def test_r18_a_hint_at_a_servers_own_name_makes_it_no_peer_of_itself() -> None:
    """Nor does it ever send anything to itself.  etcd-io/raft f215eff, bakwc/PySyncObj#122."""
    async with a_running_cluster(3) as cluster:
        heard = cluster.overhear()
        await cluster.restart("n1", peers=cluster.addresses)
        leader = await cluster.settled()
        await leader.do(Say("x"))
        assert sorted(cluster["n1"].peers) == ["n2", "n3"]
        assert not [1 for _, sender, receiver, _ in heard if sender == receiver]


@in_virtual_time
async def test_r18_a_server_that_finds_itself_in_a_peers_place_elects_nobody() -> None:
    """Both addresses of a cluster of two lead to one server, which must not be its own majority."""
    async with a_running_cluster(2) as cluster:
        await cluster.crash("n2")
        loop = {"n1": "mem://n1", "n2": "mem://n2"}

        class Mirror(MemoryTransport):
            """Whatever it dials, it reaches itself."""

            def connect(self, address: str):  # type: ignore[no-untyped-def]
                return super().connect("mem://n1")

        mirror = Mirror(cluster.network, "mem://n1")
        await cluster.restart("n1", transport=mirror, initial_cluster=loop)
        term = cluster["n1"].term
        await trio.sleep(5)
        assert cluster["n1"].state != "leader"
        assert cluster["n1"].term == term
        assert "n1, not n2" in str(cluster["n1"].peers["n2"].error)
        await cluster.restart(*cluster.names)
        await cluster.settled()
