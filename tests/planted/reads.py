"""Bugs of reads without the log: rounds, leases, ages, and what is done under a lease."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug, Change

_RULES: Final = "_rules/reads.py"
_READING: Final = "_reading.py"
_TESTS: Final = "tests/rules/test_reads.py"
_PARTS: Final = "tests/services/test_reading.py"
_BODIES: Final = "tests/server/test_leadership.py"

READS: Final = (
    Bug(
        name="read joins a round already sent",
        file=_RULES,
        old="    round_, index = role.round + 1, max(",
        new="    round_, index = role.round + (role.round == role.confirmed), max(",
        story="an answer to what had left before the read came confirms it",
        directed=f"{_TESTS}::test_a_reader_never_joins_a_round_that_has_been_sent",
        profile="rivals",
    ),
    Bug(
        name="read before the term's first commit",
        file=_RULES,
        old="max(node.commit, role.first_index)",
        new="node.commit",
        story="a new leader reads at a commit index of its time as a follower: etcd-io/etcd#7331, "
        "RedisLabs/redisraft#19",
        directed=f"{_TESTS}::test_before_the_first_commit_of_the_term_readers_wait_for_that_one",
        profile="rivals",
    ),
    Bug(
        name="lease read before the term's first commit",
        file="_answering.py",
        old="max(core.node.commit, role.first_index)",
        new="core.node.commit",
        story="a lease is held before it is known what is committed: etcd-io/etcd#7331",
        directed=f"{_PARTS}::test_a_new_leader_reads_nothing_before_its_first_commit",
        profile="rivals",
    ),
    Bug(
        name="round confirmed by an old answer",
        file="_rules/replication.py",
        old="        answered_round=round_,\n",
        new="        answered_round=progress.sent_round,\n",
        story="whatever a follower says is taken for an answer to the newest round",
        directed=f"{_TESTS}::test_an_answer_to_what_was_sent_before_confirms_nothing",
        profile="rivals",
    ),
    Bug(
        name="round confirmed by one answer",
        file=_RULES,
        old="node.agreed(math.inf, {p.peer: p.answered_round for p in role.progress})\n",
        new="max((p.answered_round for p in role.progress), default=role.round)\n",
        story="one follower's word is enough for a read",
        directed=f"{_TESTS}::test_a_round_is_confirmed_once_and_by_no_less_than_a_majority",
        profile="rivals",
    ),
    Bug(
        name="round confirmed by who has no vote",
        file=_RULES,
        old="node.agreed(math.inf, {p.peer: p.answered_round for p in role.progress})\n",
        new="sorted((math.inf, *(p.answered_round for p in role.progress)))[\n"
        "        -1 - (len(role.progress) + 1) // 2\n    ]\n",
        story="learners and removed servers confirm a read: hashicorp/raft 6e41709",
        directed=f"{_TESTS}::test_only_voters_of_the_newest_configuration_count",
        unseen="everybody in a simulation has a vote",
    ),
    Bug(
        name="read answered before its index is applied",
        file="_answering.py",
        old="            await self._core.applier.reached(await reading.index())\n",
        new="            await reading.index()\n",
        story="the leader is confirmed, and the machine lags",
        directed="tests/server/test_reads.py"
        "::test_a_follower_that_lags_answers_when_it_has_caught_up",
        profile="rivals",
    ),
    Bug(
        name="follower reads at its own commit index",
        file=_READING,
        old="                await self._ask_leader(batch)\n",
        new="                led = self._host.node.leader is not None\n"
        "                self._found(batch, self._host.node.commit if led else None)\n",
        story="who follows takes what it knows to be committed for all that is",
        directed=f"{_PARTS}::test_a_follower_asks_the_leader_once_for_all",
        profile="rivals",
    ),
    Bug(
        name="old reply answers a new question",
        file=_READING,
        old="        if batch is not None and reply.number >= self._first:\n",
        new="        if batch is not None:\n",
        story="a reply is taken for that of whatever is asked now",
        directed=f"{_PARTS}::test_who_comes_while_the_leader_is_asked_waits_for_the_next_question",
        profile="disorder",
    ),
    Bug(
        name="reply to an earlier life",
        file=_READING,
        old="life << 32",
        new="0",
        story="a restarted server begins to count anew, and is told what it had asked before",
        directed=f"{_PARTS}::test_an_answer_to_an_earlier_life_is_none",
        unseen="it takes a restart within a round trip",
    ),
    Bug(
        name="index waited for when its leader is gone",
        file=_READING,
        old="        for scope in (*self._led, *self.leases):\n",
        new="        for scope in self.leases:\n",
        story="a read at an uncommitted index hangs until somebody writes: tikv/raft-rs#169",
        directed=f"{_PARTS}::test_a_read_at_an_index_that_never_comes_fails_with_its_leader",
        unseen="somebody always writes",
    ),
    Bug(
        name="round of a lost tenure hangs",
        file=_READING,
        old="            self._rounds.popleft()[1].end(None)\n",
        new="            self._rounds.popleft()\n",
        story="a deposed leader's readers are told nothing: tikv/raft-rs#169",
        directed=f"{_PARTS}::test_when_leadership_is_lost_all_rounds_fail_at_once",
        unseen="callers give up by themselves",
    ),
    Bug(
        name="lease from the receipt",
        file="_rules/replication.py",
        old="    stands = sent_at + reply.stickiness",
        new="    stands = now + reply.stickiness",
        story="the lease counts from the answer's arrival; over there the time began before: "
        "etcd-io/etcd#741, hashicorp/consul#54",
        directed=f"{_TESTS}::test_it_lasts_from_the_sending_and_less_than_the_stickiness_by_the_drift",
        profile="rivals",
    ),
    Bug(
        name="lease without the bound on drift",
        file="_rules/replication.py",
        old="reply.stickiness * (1 - node.settings.max_clock_drift)",
        new="reply.stickiness",
        story="clocks are taken to run alike: tikv/tikv#964",
        directed=f"{_TESTS}::test_while_it_lasts_the_follower_votes_for_nobody_else",
        unseen="there are leases only where all clocks run alike",
    ),
    Bug(
        name="lease by one answer",
        file=_RULES,
        old="    return node.agreed(math.inf, stand)\n",
        new="    return max(stand.values(), default=math.inf)\n",
        story="one follower that stands by makes a lease",
        directed=f"{_TESTS}::test_a_majority_must_stand_by",
        profile="rivals",
    ),
    Bug(
        name="lease not looked at after the query",
        file="_answering.py",
        old=", 0.0, self._cluster) if self._holds() else None\n",
        new=", 0.0, self._cluster)\n",
        story="the query outlasts the lease: hashicorp/consul#54",
        directed=f"{_PARTS}::test_the_lease_is_looked_at_when_the_query_has_run",
        unseen="queries take no time in a simulation",
    ),
    Bug(
        name="lease survives a sleep",
        file=_READING,
        old="        if slept > self._slept + _JOLT:\n",
        new="        if slept < self._slept - _JOLT:\n",
        story="the clock stood still while the machine was suspended: etcd-io/etcd#20418",
        directed=f"{_PARTS}::test_a_machine_that_has_slept_holds_no_lease_before_it_is_answered_anew",
        unseen="no machine is suspended here",
    ),
    Bug(
        name="campaign while it stands by a leader",
        file="_rules/elections.py",
        old="    if event.now < node.sticky_until:\n        return node, [",
        new="    if False:\n        return node, [",
        story="a restart with shorter times: no vote for others, but one for itself",
        directed=f"{_TESTS}::test_who_stands_by_a_leader_does_not_campaign_either",
        unseen="nobody changes the times in a simulation",
    ),
    Bug(
        name="age from the answer's arrival",
        file=_READING,
        old="            self._known.append((index, batch.asked_at))\n",
        new="            self._known.append((index, self._instant()))\n",
        story="what travelled for long passes for new",
        directed=f"{_PARTS}::test_the_age_counts_from_the_asking_of_what_has_been_applied",
        profile="rivals",
    ),
    Bug(
        name="age of what is not applied",
        file=_READING,
        old="        while self._known and self._known[0][0] <= applied:\n",
        new="        while self._known and applied >= 0:\n",
        story="the leader has told how far it is, and the machine is not there yet",
        directed=f"{_PARTS}::test_the_age_counts_from_the_asking_of_what_has_been_applied",
        profile="rivals",
    ),
    Bug(
        name="token not waited for",
        file="_answering.py",
        old="                await applier.reached(max(token.index, 1))\n",
        new="                await applier.reached(1)\n",
        story="a client reads from another server, and its own write is not there",
        directed=f"{_PARTS}::test_at_least_waits_and_does_not_ask",
        profile="rivals",
    ),
    Bug(
        name="body outlives the lease",
        file=_READING,
        old="                self._host.clock.move(scope, until)\n",
        new="                pass\n",
        also=(
            Change(
                "_leadership.py",
                "    scope = clock.until(until)\n",
                "    scope = trio.CancelScope()\n",
            ),
        ),
        story="what was to run only while leading ends when the leader has noticed, and the next "
        "one leads already: hashicorp/consul#54",
        directed=f"{_BODIES}::test_the_body_is_cancelled_before_another_can_lead",
        unseen="nobody leads a body in a simulation",
    ),
    Bug(
        name="body outlives the tenure",
        file=_READING,
        old="        for scope in (*self._led, *self.leases):\n"
        "            scope.cancel()\n        self.renewed()\n",
        new="        for scope in self._led:\n"
        "            scope.cancel()\n        self._renewal.unpark_all()\n",
        story="a leader that steps down holds what it was promised for longer than it leads",
        directed=f"{_BODIES}::test_the_body_ends_with_the_tenure_though_the_lease_would_last",
        unseen="nobody leads a body in a simulation",
    ),
)
