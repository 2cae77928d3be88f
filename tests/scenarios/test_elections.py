"""Elections, terms and votes."""

from __future__ import annotations

import itertools
from random import Random

import attrs
import pytest
import trio

from tests.rules.worlds import B, follower, hear, these, vote
from tests.scenarios.worlds import (
    befall,
    lose,
    nobody_voted_twice,
    running_machines,
    said_by,
)
from tests.server.puppets import Puppet, append, state_on
from tests.server.worlds import (
    TIMEOUT,
    Cluster,
    Say,
    a_running_cluster,
    in_virtual_time,
    run_seeded,
)
from trioraft import OutcomeUnknown, Server
from trioraft._rules import effects as do
from trioraft._rules.messages import (
    AppendEntries,
    AppendEntriesReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
)
from trioraft._wire.codec import WireMessage, encode
from trioraft._wire.strict import pack, unpack
from trioraft.testing import DiskFault

KILLS = (DiskFault.CRASH_BEFORE, DiskFault.TORN, DiskFault.CRASH_AFTER)
FAR = (10**6, 10**6)
"""The end of a log that is better than any other."""
HUNG_UP = (trio.EndOfChannel, trio.BrokenResourceError)


async def alone(cluster: Cluster, name: str) -> Server:
    """One server of a formed cluster, the others down, beyond its stickiness."""
    await cluster.crash(*[other for other in cluster.names if cluster.is_up(other)])
    await cluster.start(name)
    await trio.sleep(2 * TIMEOUT)
    return cluster[name]


async def asked(puppet: Puppet, to: str, question: WireMessage) -> RequestVoteReply | None:
    """The answer to a question, if one comes before the server is dead."""
    with trio.move_on_after(0.05):
        try:
            async with puppet.dial(to) as line:
                answer = await line.ask(question)
                assert isinstance(answer, RequestVoteReply)
                return answer
        except (OSError, *HUNG_UP):
            pass
    return None


# -- E1: a vote is remembered ------------------------------------------------------------------


@pytest.mark.parametrize("loses_power", [False, True])
@in_virtual_time
async def test_e1_whenever_the_voter_is_killed_it_votes_once_a_term(loses_power: bool) -> None:
    """A voter dies before, in and after each call of its disk that a vote takes, twice over.

    Whoever asks next in that term gets no vote if the first candidate's had been said.  Raft 5.2;
    RedisLabs/redisraft 46a6ad0 and 4c4d8b1 lost votes, bakwc/PySyncObj keeps them in memory.
    """
    chance = Random(1)
    async with running_machines(3) as machines:
        await alone(machines, "n2")
        one, other = Puppet(machines, "n1"), Puppet(machines, "n3")

        async def dies() -> None:
            if loses_power:
                await machines.lose_power(chance, "n2")
            else:
                await machines.kill("n2")
            await machines.start("n2")
            await trio.sleep(2 * TIMEOUT)

        term, call, outcomes = 10, 1, set()
        while True:
            died = False
            for kill in KILLS:
                machines.files("n2").fail(call, kill)
                first = await asked(one, "n2", RequestVote(term, *FAR))
                await trio.sleep(0.01)
                died |= not machines.is_up("n2")
                await dies()
                await dies()
                second = await asked(other, "n2", RequestVote(term, *FAR))
                assert second is not None
                assert second.term == term
                assert first is None or not second.vote_granted
                outcomes.add((first is not None, second.vote_granted))
                term += 1
            if not died:
                break
            call += 1
        assert call > 3
        # Said and kept, not said and free, and not said but on disk all the same.
        assert outcomes >= {(True, False), (False, True), (False, False)}


# -- E5: who refuses may have to campaign itself -----------------------------------------------


def test_e5_a_refusal_in_a_higher_term_does_not_restart_the_time_out() -> None:
    """The candidate's log is behind: its term is taken, its campaign is no reason to wait.

    hashicorp/raft 30f065a, lni/dragonboat 0045aa2.
    """
    node, effects = hear(follower(1, 2), B, vote(7, 9, 1), now=3.0)
    assert node.term == 7
    assert these(effects, do.SaveTerm)
    assert these(effects, do.ElectionBy) == []


@in_virtual_time
async def test_e5_a_candidate_that_cannot_win_keeps_nobody_from_winning() -> None:
    """A server with an old log and no pre-vote asks again and again, each time in a higher term.

    hashicorp/raft 30f065a, lni/dragonboat 0045aa2.
    """
    async with a_running_cluster(3) as cluster:
        await cluster.say("what the candidate lacks")
        await cluster.settled()
        await cluster.crash(*cluster.names)
        await cluster.start("n2", "n3")
        puppet, term = Puppet(cluster, "n1"), cluster["n2"].term
        async with puppet.dial("n2") as two, puppet.dial("n3") as three:
            for turn in range(60):
                term = max(term, cluster["n2"].term, cluster["n3"].term) + 1
                for line in (two, three):
                    await line.send(RequestVote(term, 0, 0))
                await trio.sleep((0.05 if turn < 30 else 0.7) * TIMEOUT)
            assert [server for server in cluster.up if server.state == "leader"]


# -- E6: hearing the leader is not voting ------------------------------------------------------


@in_virtual_time
async def test_e6_a_vote_outlives_the_other_candidates_victory() -> None:
    """It voted for one, follows the other, dies, and is asked once more in that term.

    willemt/raft bdabd1d.
    """
    async with a_running_cluster(3) as cluster:
        server = await alone(cluster, "n2")
        prev = server.status().last_index, server.status().last_term
        term = server.term + 3
        answer = await asked(Puppet(cluster, "n1"), "n2", RequestVote(term, *FAR))
        assert answer == RequestVoteReply(term, vote_granted=True)
        winner = Puppet(cluster, "n3")
        async with winner.dial("n2") as line:
            assert (await line.ask(append(term, prev, (term, "by the winner")))).success
        assert (server.leader, server.voted_for) == ("n3", "n1")
        for _ in range(2):
            await cluster.restart("n2")
            await trio.sleep(2 * TIMEOUT)
            assert cluster["n2"].voted_for == "n1"
            answer = await asked(winner, "n2", RequestVote(term, *FAR))
            assert answer == RequestVoteReply(term, vote_granted=False)


# -- E9: an old leader may come back -----------------------------------------------------------


@pytest.mark.parametrize("who", ["leader", "follower", "both"])
@pytest.mark.parametrize("seed", range(2))
def test_e9_the_followers_of_a_leader_elect_that_leader_again(who: str, seed: int) -> None:
    """Nobody else can win, and the voters still remember whom they followed.

    hashicorp/raft 497108f and 42d3446.
    """

    async def main() -> None:
        async with a_running_cluster(2, seed=seed) as cluster:
            leader = await cluster.settled()
            (other,) = cluster.followers()
            term = leader.term
            lose(cluster, lambda sender, _, m: isinstance(m, AppendEntries) and bool(m.entries))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outcome_unknown, leader, "on the leader's disk alone")
                await cluster.until(lambda: len(cluster.disks[leader.name].frames) == 2)
                names = {"leader": [leader.name], "follower": [other], "both": cluster.names}[who]
                cluster.heal()
                began = trio.current_time()
                await cluster.crash(*names)
                await trio.sleep(0.02 if who != "follower" else TIMEOUT)
                await cluster.start(*names)
                again = await cluster.leader()
            assert again.name == leader.name
            assert again.term > term
            assert trio.current_time() - began <= 6 * TIMEOUT
            await cluster.settled()

    run_seeded(seed, main)


async def outcome_unknown(server: Server, text: str) -> None:
    with pytest.raises(OutcomeUnknown):
        await server.do(Say(text))


# -- E11: who was away comes back quietly ------------------------------------------------------


@in_virtual_time
async def test_e11_no_client_notices_a_server_that_returns_from_a_partition() -> None:
    """Fifty election time-outs alone; meanwhile and afterwards every command goes through, fast.

    hashicorp/raft#411 and #524, Raft thesis 9.6.
    """
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        term, lost = leader.term, cluster.followers()[0]
        for turn in range(120):
            if turn == 10:
                cluster.isolate(lost)
            elif turn == 85:
                assert cluster[lost].term <= term + 1
                cluster.heal()
            began = trio.current_time()
            await leader.do(Say(f"{turn}"))
            assert trio.current_time() - began <= 0.01
            await trio.sleep(0.1)
        assert (await cluster.settled()) is leader
        assert {server.term for server in cluster.up} == {term}


# -- E13: a higher term ends everything --------------------------------------------------------


@pytest.mark.parametrize("kind", ["append", "vote"])
@in_virtual_time
async def test_e13_who_hears_of_a_higher_term_says_nothing_before_it_is_on_disk(kind: str) -> None:
    """A leader, or a candidate, with a slow disk is answered from the future.

    It steps down in that instant and answers its callers; what it says afterwards is said once
    the new term is durable.  databendlabs/openraft 4015cc38.
    """
    async with a_running_cluster(3) as cluster:
        leader = await cluster.settled()
        gone, other = cluster.followers()
        await cluster.crash(gone)
        subject, future = leader.name, leader.term + 20
        if kind == "vote":
            await cluster.crash(leader.name)
            subject = other
        server, answered_at = cluster[subject], 0.0
        cluster.disks[subject].seconds = 0.0

        def from_the_future(message: object) -> list[AppendEntriesReply | RequestVoteReply]:
            nonlocal answered_at
            answer: AppendEntriesReply | RequestVoteReply
            match message:
                case AppendEntries(number=number) if kind == "append":
                    answer = AppendEntriesReply(future, number, False, 0, 0.15)
                case RequestVote() if kind == "vote":
                    answer = RequestVoteReply(future, vote_granted=False)
                case PreVote(term) if kind == "vote" and term < future:
                    return [PreVoteReply(term - 1, term, vote_granted=True)]  # type: ignore[list-item]
                case _:
                    return []
            if not answered_at:
                cluster.disks[subject].seconds = 0.4
                answered_at = trio.current_time()
            return [answer]

        heard = cluster.overhear()
        async with trio.open_nursery() as nursery:
            if kind == "append":
                await cluster.crash(other)
                nursery.start_soon(outcome_unknown, server, "pending")
            await nursery.start(Puppet(cluster, gone).answer, from_the_future)
            await cluster.until(lambda: server.term == future, within=3)
            assert trio.current_time() - answered_at <= 0.005
            assert server.state == "follower"
            async with Puppet(cluster, gone).dial(subject) as line:
                for question in (PreVote(1, 0, 0), RequestVote(1, 0, 0), append(1, (0, 0))):
                    await line.send(question)
                await trio.sleep_until(answered_at + 0.39)
                assert state_on(cluster.disks[subject]).term < future
                promises = (RequestVote, RequestVoteReply, PreVoteReply, AppendEntriesReply)
                assert [m for m in said_by(heard, subject, *promises) if m.term >= future] == []
                await trio.sleep(0.05)
                said = [m for m in said_by(heard, subject, *promises) if m.term >= future]
                assert len(said) >= 3, "all three were answered, in the end"
            assert state_on(cluster.disks[subject]).term >= future
            nursery.cancel_scope.cancel()
        cluster.disks[subject].seconds = 0.0
        await cluster.start()
        await cluster.settled()


# -- E17: terms that are none ------------------------------------------------------------------

NO_TERMS = [2**63, 2**64 - 1, -1, float("nan"), float("inf"), 1e300, "7", b"7", True, None, [7]]
HUGE = b"\xc7\x40\x01" + b"\xff" * 64
"""A number of 10^154 or so, as far as msgpack has a form for one."""


@in_virtual_time
async def test_e17_a_term_that_is_none_ends_the_stream_and_changes_nothing() -> None:
    """Whatever kind of request it stands in.  hashicorp/raft#586."""
    async with a_running_cluster(3) as cluster:
        server = await alone(cluster, "n2")
        before, writes = server.status(), cluster.disks["n2"].writes
        questions: list[WireMessage] = [
            RequestVote(7, *FAR),
            PreVote(7, *FAR),
            append(7, (before.last_index, before.last_term), (7, "from nowhere")),
        ]
        puppet = Puppet(cluster, "n1")
        for question, term in itertools.product(questions, [*NO_TERMS, HUGE]):
            whole = unpack(encode(question))
            if term is HUGE:
                data = pack({**whole, "term": "HERE"}).replace(b"\xa4HERE", HUGE)
            else:
                data = pack({**whole, "term": term})
            async with puppet.dial("n2") as line:
                await line._connection.send(data)
                with trio.fail_after(1), pytest.raises(HUNG_UP):
                    await line.receive()
            after = attrs.evolve(server.status(), state=before.state, peers=before.peers)
            assert after == before, f"{term!r} in {question}"
            assert cluster.disks["n2"].writes == writes


# -- the worst of it together ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_e1_machines_that_lose_power_in_the_midst_of_elections_never_vote_twice(seed: int) -> None:
    """Whoever votes or campaigns is robbed of its power again and again, at any call of its disk.

    etcd-io/etcd#14143 and #14370; Raft 5.2.
    """

    async def main() -> None:
        chance = Random(f"elections {seed}")
        async with running_machines(3, seed=seed) as machines:
            heard = befall(machines, lambda *_: () if chance.random() < 0.2 else (0.0,))
            for _ in range(25):
                victim = chance.choice(machines.names)
                if machines.is_up(victim):
                    machines.files(victim).fail(chance.randint(1, 6), chance.choice(KILLS))
                leaders = [s.name for s in machines.up if s.state == "leader"]
                if leaders:
                    await machines.lose_power(chance, chance.choice(leaders))
                await trio.sleep(chance.uniform(0, 3 * TIMEOUT))
                for name in machines.names:
                    if not machines.is_up(name):
                        await machines.lose_power(chance, name)
                        await machines.start(name)
            machines.heal()
            for name in machines.names:
                machines.files(name).mend()
            await machines.settled()
            nobody_voted_twice(heard)
            assert len(machines.leaders) >= 3

    run_seeded(seed, main)
