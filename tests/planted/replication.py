"""Bugs of replication and commitment: what is cut, acknowledged, counted and committed."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug, Change

_RULES: Final = "_rules/replication.py"
_TESTS: Final = "tests/rules/test_replication.py"

REPLICATION: Final = (
    Bug(
        name="cut without a conflict",
        file="_rules/following.py",
        old="    conflict = node.log.first_conflict(entries)\n",
        new="    conflict = entries.first if entries.first <= node.log.last_index else None\n"
        "    conflict = conflict if len(entries) else None\n",
        story="what is there is replaced even if it is the same: ktoso/akka-raft#66, willemt/raft",
        directed=f"{_TESTS}::test_r1_r2_g02_a_late_copy_cuts_nothing",
        profile="disorder",
    ),
    Bug(
        name="late copy cuts what came after it",
        file="_rules/following.py",
        old="    conflict = node.log.first_conflict(entries)\n",
        new="    conflict = node.log.first_conflict(entries)\n"
        "    if len(entries) and node.commit < entries.last < node.log.last_index:\n"
        "        conflict = max(entries.first, node.commit + 1)\n",
        story="a request that comes twice erases the entries of the one behind it: goraft, "
        "zhebrak/raftos#26",
        directed=f"{_TESTS}::test_r1_r2_g02_a_late_copy_cuts_nothing",
        profile="disorder",
    ),
    Bug(
        name="conflict not cut",
        file="_rules/following.py",
        old="    kept = node.log.last_index if conflict is None else conflict - 1\n",
        new="    kept = node.log.last_index\n",
        story="a wrong tail stays where it is: mofa-org/mofa#1151",
    ),
    Bug(
        name="term before the entries not compared",
        file="_rules/following.py",
        old="    if found == request.prev_log_term:\n",
        new="    if found is not None:\n",
        story="entries are put behind one of another term: goraft, at the start of the log",
    ),
    Bug(
        name="gap accepted",
        file="_rules/following.py",
        old="    if found == request.prev_log_term:\n",
        new="    if found in (None, request.prev_log_term):\n",
        story="entries are taken that do not follow what is there: goraft",
    ),
    Bug(
        name="commit to the last index",
        file="_rules/following.py",
        old="committing(node, min(request.leader_commit, verified))",
        new="committing(node, min(request.leader_commit, node.log.last_index))",
        story="a wrong tail is committed because it is long enough: atomix/copycat#265, "
        "scylladb/scylladb#9965",
        profile="returns",
        directed=f"{_TESTS}::test_r17_a_stale_tail_is_not_committed",
    ),
    Bug(
        name="commit beyond the log",
        file="_rules/following.py",
        old="committing(node, min(request.leader_commit, verified))",
        new="committing(node, request.leader_commit)",
        story="what the leader has committed is taken for committed here: tikv/tikv#994",
    ),
    Bug(
        name="verified kept in a new term",
        file="_rules/elections.py",
        old="evolve(node, role=Following(leader), tenure=node.tenure + changes)",
        new="evolve(\n            node,\n"
        '            role=Following(leader, getattr(node.role, "verified", 0)),\n'
        "            tenure=node.tenure + changes,\n        )",
        story="what agreed with the last leader's log is taken to agree with the next one's: "
        "scylladb/scylladb#9965",
        profile="rivals",
        directed=f"{_TESTS}::test_what_is_verified_is_verified_for_one_term",
    ),
    Bug(
        name="acknowledged beyond what is verified",
        file="_rules/following.py",
        old="match_index=min(node.disk.index, role.verified),",
        new="match_index=node.disk.index,",
        story="a follower acknowledges its whole log, a wrong tail included: zhebrak/raftos",
        profile="returns",
        directed=f"{_TESTS}::test_an_answer_names_the_newest_request_and_what_is_verified",
    ),
    Bug(
        name="acknowledged before it is durable",
        file="_rules/following.py",
        old="match_index=min(node.disk.index, role.verified),",
        new="match_index=role.verified,",
        story="what is in memory is acknowledged: etcd-io/etcd#14370, "
        "cloud-software-foundation/c5#263",
    ),
    Bug(
        name="answer states a term before the disk has it",
        file="_rules/following.py",
        old="    return [do.Send(role.leader, reply, after=node.disk.term_write)]",
        new="    return [do.Send(role.leader, reply)]",
        story="a follower speaks in a term that a crash takes back: databendlabs/openraft 4015cc38",
    ),
    Bug(
        name="earlier write counts after a cut",
        file="_rules/node.py",
        old="pending = tuple((write, min(last, kept)) for write, last in self.pending)",
        new="pending = self.pending",
        story="entry 5 was written, cut and is being written again, and the first write's end "
        "makes it durable: etcd-io/etcd#1809, rabbitmq/ra#637",
        profile="rivals",
        directed="tests/rules/test_disk.py::test_a_cut_voids_an_earlier_writes_completion",
    ),
    Bug(
        name="cut takes nothing back",
        file="_rules/node.py",
        old="            index=min(self.index, kept),\n",
        new="            index=self.index,\n",
        story="what was durable before a cut counts for what replaces it: rabbitmq/ra#637",
        directed="tests/rules/test_disk.py::test_a_cut_takes_back_what_was_durable",
    ),
    Bug(
        name="old-term entries counted",
        file="_rules/commitment.py",
        old="    if replicated < role.first_index or replicated <= node.commit:\n",
        new="    if replicated <= node.commit:\n",
        story="an entry of an old term is committed by counting (figure 8): bakwc/PySyncObj#169, "
        "canonical/raft#302, nats-io/nats-server#7955",
        directed=f"{_TESTS}::test_replicas_of_old_terms_are_not_counted",
        profile="returns",
    ),
    Bug(
        name="leader counts what it has not synced",
        file="_rules/commitment.py",
        old="    replicated = node.agreed(node.disk.index, {",
        new="    replicated = node.agreed(node.log.last_index, {",
        story="a leader counts itself before its disk has the entry: etcd-io/etcd#14370, "
        "deventlab/d-engine#446",
    ),
    Bug(
        name="commit falls",
        file="_rules/commitment.py",
        old="    node = evolve(node, commit=max(node.commit, commit))",
        new="    node = evolve(node, commit=commit)",
        story="a heartbeat takes back what was committed: bakwc/PySyncObj#166, willemt/raft#118",
    ),
    Bug(
        name="applied before it is durable here",
        file="_rules/node.py",
        old="        return min(self.commit, self.disk.index)",
        new="        return self.commit",
        story="a server applies what its own disk may still lose: etcd-io/etcd#14370",
        directed=f"{_TESTS}::test_c10_nothing_is_applied_before_it_is_durable",
    ),
    Bug(
        name="match falls",
        file=_RULES,
        old="    match = max(progress.match_index, reply.match_index)",
        new="    match = reply.match_index",
        story="a late answer takes back what the follower has: zhebrak/raftos#25, "
        "bakwc/PySyncObj#167, wenweihu86/raft-java#53",
        directed=f"{_TESTS}::test_r5_an_older_answer_never_lowers_a_match",
        profile="disorder",
    ),
    Bug(
        name="next falls below match",
        file=_RULES,
        old="        next_index=max(progress.match_index + 1, min(hint, progress.next_index)),",
        new="        next_index=max(1, min(hint, progress.next_index)),",
        story="a late refusal sends the leader back behind what the follower has: "
        "tikv/raft-rs#555, etcd-io/raft#149",
        directed=f"{_TESTS}::test_a_refusal_never_goes_below_the_match",
        profile="disorder",
    ),
    Bug(
        name="old refusals count",
        file=_RULES,
        old="    if reply.number <= progress.floor:\n        return node, []",
        new="    if reply.number <= 0:\n        return node, []",
        story="each refusal of what was on its way sends the leader back once more: "
        "tikv/raft-rs#555",
        directed=f"{_TESTS}::test_refusals_of_what_was_on_the_way_are_old_news",
        unseen="it costs messages, and breaks no promise",
    ),
    Bug(
        name="answers of other terms count",
        file=_RULES,
        old="    if not isinstance(role, Leading) or reply.term != node.term:",
        new="    if not isinstance(role, Leading):",
        story="what was acknowledged to this leader in an earlier term counts in this one: "
        "vesoft-inc/nebula#3415",
        directed=f"{_TESTS}::test_answers_of_an_earlier_term_are_void",
        profile="disorder",
    ),
    Bug(
        name="match beyond the log",
        file=_RULES,
        old="    if reply.number > progress.number or reply.match_index > node.log.last_index:",
        new="    if reply.number > progress.number:",
        story="a follower that claims more than there is brings the leader down: goraft",
        directed=f"{_TESTS}::test_g47_a_follower_that_claims_too_much_is_ignored",
        unseen="no server of the simulation says what none says",
    ),
    Bug(
        name="hint an entry at a time",
        file="_rules/following.py",
        old="            node.log.last_index + 1 if found is None else "
        "node.log.first_of_term_at(prev)\n",
        new="            node.log.last_index + 1 if found is None else prev\n",
        story="a long wrong tail takes a round trip an entry: goraft, etcd-io/etcd#2021",
        directed=f"{_TESTS}::test_r8_g46_a_follower_agrees_within_a_round_a_term",
        also=(
            Change(
                "_rules/following.py",
                "        conflict_term=found or 0,\n",
                "",
            ),
        ),
        unseen="tails are short here, and a round trip takes little",
    ),
    Bug(
        name="hint does not go back",
        file="_rules/following.py",
        old="            node.log.last_index + 1 if found is None else "
        "node.log.first_of_term_at(prev)\n",
        new="            node.log.last_index + 1 if found is None else prev + 1\n",
        story="the leader asks for ever at the place that was refused: cubefs/cubefs#2428",
        also=(Change("_rules/following.py", "        conflict_term=found or 0,\n", ""),),
    ),
    Bug(
        name="leader skips what it may not",
        file=_RULES,
        old="        hint = agreed + 1 if has_term else min(agreed + 1, hint)\n",
        new="        hint = agreed + 1 if has_term else hint\n",
        story="the hint's term is not in the leader's log, and what is of later terms there is "
        "tried in vain: adjoint-io/raft#81",
        directed="tests/planted/test_directed.py::test_a_term_that_the_leader_lacks_is_skipped",
        unseen="it costs a round trip, and breaks no promise",
    ),
    Bug(
        name="window not emptied on a new link",
        file=_RULES,
        old="        probing=True,\n        floor=progress.number,\n        in_flight=(),\n"
        "        sent_at=-math.inf,",
        new="        floor=progress.number,\n        sent_at=-math.inf,",
        story="what was lost with the old stream is waited for in the new one: "
        "camunda/camunda#7339, matrixarkai/TemporalStore#114",
        directed=f"{_TESTS}::test_on_a_new_stream_what_was_on_the_way_is_sent_again",
    ),
    Bug(
        name="window not emptied after a refusal",
        file=_RULES,
        old="        probing=True,\n        floor=progress.number,\n        in_flight=(),\n    )",
        new="        probing=True,\n        floor=progress.number,\n    )",
        story="what was refused is waited for as if it could still be acknowledged: "
        "matrixarkai/TemporalStore#322",
        directed=f"{_TESTS}::test_a_refusal_is_tried_again_at_once_without_raising_next",
    ),
    Bug(
        name="fetched for nothing and sent",
        file=_RULES,
        old="    if event.entries.first != progress.next_index or not len(event.entries):",
        new="    if not len(event.entries):",
        story="what was read for a follower is sent although that has moved on meanwhile",
        directed=f"{_TESTS}::test_what_was_fetched_for_nothing_is_not_sent",
        unseen="all that followers lack is in memory here",
    ),
    Bug(
        name="owed answer forgotten",
        file="_rules/following.py",
        old="    if node.role.owes:\n        return node, []\n",
        new="    if node.disk.pending:\n        return node, []\n",
        story="a follower never says that its disk has an entry, and only heartbeats bring it out",
        directed=f"{_TESTS}::test_entries_are_answered_when_they_are_durable",
        unseen="the next heartbeat's answer says it all the same",
    ),
)
