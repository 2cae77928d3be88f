"""Bugs of elections: terms, votes, pre-votes, and how a leader loses its place."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug, Change

_RULES: Final = "_rules/elections.py"
_TESTS: Final = "tests/rules/test_elections.py"

ELECTIONS: Final = (
    Bug(
        name="vote forgotten",
        file=_RULES,
        old="do.SaveTerm(disk.asked, term, voted_for)",
        new="do.SaveTerm(disk.asked, term, None)",
        story="votedFor lives in memory only: goraft, bakwc/PySyncObj, wenweihu86/raft-java#57",
    ),
    Bug(
        name="term forgotten",
        file="_core.py",
        old="self.state = evolve(self.state, term=term, voted_for=voted_for)",
        new="self.state = evolve(self.state, voted_for=voted_for)",
        story="a campaign raises the term in memory only: wenweihu86/raft-java#57",
    ),
    Bug(
        name="vote forgotten when stepping down",
        file=_RULES,
        old="    if term > node.term:\n        node = save_term(node, term, None, effects)",
        new="    if term >= node.term:\n        node = save_term(node, term, None, effects)",
        story="who steps down within a term drops its vote and may cast another one: "
        "ktoso/akka-raft#56, hazelcast/hazelcast#16643, microsoft/CCF#5891, willemt/raft bdabd1d",
    ),
    Bug(
        name="vote cast twice",
        file=_RULES,
        old="granted = node.voted_for in (None, sender) and _is_up_to_date(node, request)",
        new="granted = _is_up_to_date(node, request)",
        story="whom it voted for in this term is not looked at: djjonno/kerala#18",
    ),
    Bug(
        name="vote by length before term",
        file=_RULES,
        old="    theirs = (request.last_log_term, request.last_log_index)\n"
        "    return theirs >= (node.log.last_term, node.log.last_index)",
        new="    theirs = (request.last_log_index, request.last_log_term)\n"
        "    return theirs >= (node.log.last_index, node.log.last_term)",
        story="the longer log wins, however old its last term is: goraft, hashicorp/raft 441bd09",
        directed=f"{_TESTS}::test_e3_g40_terms_of_the_last_entries_are_compared_before_lengths",
        profile="rivals",
    ),
    Bug(
        name="vote for any log",
        file=_RULES,
        old="    return theirs >= (node.log.last_term, node.log.last_index)",
        new="    return theirs >= (0, 0)",
        story="the candidate's log is not looked at (5.4.1): ktoso/akka-raft#30",
        profile="rivals",
    ),
    Bug(
        name="vote before the disk has it",
        file=_RULES,
        old='must be durable first."""\n    return do.Send(to, reply, after=node.disk.term_write)',
        new='must be durable first."""\n    return do.Send(to, reply)',
        story="the answer leaves while the vote is still on its way to the disk: "
        "etcd-io/etcd#14370, RedisLabs/redisraft 46a6ad0",
    ),
    Bug(
        name="campaign before the disk has it",
        file=_RULES,
        old="return node, [do.Send(event.peer, request, after=node.disk.term_write)]",
        new="return node, [do.Send(event.peer, request)]",
        story="a candidate asks for votes before its own is durable: vesoft-inc/nebula#3415",
    ),
    Bug(
        name="own vote counted at once",
        file=_RULES,
        old="votes = role.votes | {node.me} if node.disk.knows_term else role.votes",
        new="votes = role.votes | {node.me}",
        story="a candidate counts itself before its vote is durable: vesoft-inc/nebula#3415",
        directed=f"{_TESTS}::test_requests_leave_and_the_own_vote_counts_once_it_is_durable",
        unseen="no vote can come before the requests have left, and they wait for the same write",
    ),
    Bug(
        name="votes counted, not collected",
        file=_RULES,
        old="    role = evolve(node.role, votes=node.role.votes | {voter})",
        new="    others = [peer for peer in node.peers if peer not in node.role.votes]\n"
        "    role = evolve(node.role, votes=node.role.votes | {*others[:1]})",
        story="one voter that answers twice counts twice: ktoso/akka-raft#45, xnnyygn/xraft#27",
        directed=f"{_TESTS}::test_a_majority_of_pre_votes_begins_the_campaign",
        profile="disorder",
    ),
    Bug(
        name="votes of other terms",
        file=_RULES,
        old="not role.pre and reply.term == node.term\n",
        new="not role.pre\n",
        story="a candidate counts votes that were given to it in an earlier term: "
        "ktoso/akka-raft#46, andreev-io/little-raft#44",
        directed=f"{_TESTS}::test_votes_of_another_term_or_after_the_election_do_not_count",
        profile="disorder",
    ),
    Bug(
        name="pre-votes taken for votes",
        file=_RULES,
        old="counts = isinstance(role, Campaigning) and role.pre and "
        "reply.asked_term == node.term + 1",
        new="counts = isinstance(role, Campaigning)",
        story="an answer to a pre-vote counts as a vote: canonical/raft#196",
        directed=f"{_TESTS}::test_pre_votes_do_not_count_as_votes_nor_votes_as_pre_votes",
        profile="disorder",
    ),
    Bug(
        name="no stickiness",
        file=_RULES,
        old="    is_held = is_sticky(node, now) and not request.transfer\n",
        new="    is_held = False\n",
        story="whoever asks in a higher term deposes a leader that all others hear: "
        "hashicorp/raft#411",
        directed=f"{_TESTS}::test_who_heard_a_leader_lately_refuses_and_keeps_its_term",
    ),
    Bug(
        name="stickiness over with a restart",
        file="_core.py",
        old="sticky_until=now if alone else now + self.state.stickiness,",
        new="sticky_until=now,",
        story="a server forgets in a restart whom it promised to stand by, and a lease is broken: "
        "tikv/tikv#15035",
        directed="tests/server/test_elections.py"
        "::test_a_server_that_has_just_started_refuses_votes_for_its_stickiness",
        profile="leases",
    ),
    Bug(
        name="stickiness not kept",
        file="_server.py",
        old="starts=state.starts + 1, stickiness=stickiness, listens=listens)",
        new="starts=state.starts + 1, listens=listens)",
        story="how long a server stands by a leader is not on its disk: tikv/tikv#15035",
        directed="tests/planted/test_directed.py::test_the_longest_stickiness_is_on_disk",
        unseen="all lives of a server have the same times here",
    ),
    Bug(
        name="refusal resets the time-out",
        file=_RULES,
        old="    granted = node.voted_for in (None, sender) and _is_up_to_date(node, request)\n",
        new="    granted = node.voted_for in (None, sender) and _is_up_to_date(node, request)\n"
        "    effects.append(do.ElectionBy(now))\n",
        story="a candidate that cannot win keeps those waiting that could: "
        "hashicorp/raft 30f065a, lni/dragonboat 0045aa2",
        directed=f"{_TESTS}::test_e5_only_a_granted_vote_restarts_the_time_out",
        unseen="it delays an election, and pre-votes keep that short",
    ),
    Bug(
        name="higher term resets the time-out",
        file=_RULES,
        old="    effects: list[Effect] = [do.ElectionBy(now)] if changes else []\n",
        new="    effects: list[Effect] = [do.ElectionBy(now)]\n",
        story="who raises its term waits anew, though whoever asked in it cannot win: "
        "hashicorp/raft 30f065a, lni/dragonboat 0045aa2",
        directed="tests/scenarios/test_elections.py"
        "::test_e5_a_refusal_in_a_higher_term_does_not_restart_the_time_out",
        unseen="it delays an election, and pre-votes keep that short",
    ),
    Bug(
        name="heartbeats move no deadline",
        file="_rules/following.py",
        old="    effects: list[Effect] = [do.ElectionBy(now)]\n    if term > node.term or",
        new="    effects: list[Effect] = []\n    if term > node.term or",
        story="followers time out under a leader that they hear: redpanda-data/redpanda#31547",
        directed="tests/planted/test_directed.py::test_each_sign_of_the_leader_moves_the_election_deadline",
    ),
    Bug(
        name="no pre-vote",
        file=_RULES,
        old="    return become_pre_candidate(node, event.now)\n",
        new="    return become_candidate(node, event.now)\n",
        story="a server that comes back from a partition brings a high term: goraft, "
        "hashicorp/raft#524",
        directed=f"{_TESTS}::test_e11_g41_who_was_alone_for_long_comes_back_without_a_higher_term",
        unseen="it costs elections, and breaks no promise",
    ),
    Bug(
        name="pre-vote raises the term",
        file=_RULES,
        old="    granted = (\n        request.term > node.term and not is_sticky(node, now)",
        new="    node, _ = become_follower(node, now, max(node.term, request.term))\n"
        "    granted = (\n        request.term >= node.term and not is_sticky(node, now)",
        story="a pre-vote changes its receiver, in memory alone: canonical/raft#196",
    ),
    Bug(
        name="no back-off",
        file=_RULES,
        old="    return do.ElectionBy(now, 1 << node.fruitless)",
        new="    return do.ElectionBy(now)",
        story="rivals whose disks or lines are slower than their time-outs split votes for ever: "
        "goraft/raft#13, fluree/db#1845",
        directed=f"{_TESTS}::test_time_outs_double_with_each_fruitless_campaign_up_to_eight_times",
        unseen="it takes lines that stay slow, and the simulation's are good in the end",
    ),
    Bug(
        name="terms burnt by a slow disk",
        file=_RULES,
        old="        if not node.disk.knows_term:\n",
        new="        if node.disk.asked < 0:\n",
        story="a candidate goes on to the next term before anybody was asked in this one",
        directed=f"{_TESTS}::test_no_second_campaign_before_the_first_ones_requests_have_left",
        unseen="it takes disks that stay slow, and the simulation's are good in the end",
    ),
    Bug(
        name="quorum off by one for even sizes",
        file="_rules/membership.py",
        old="return len(self.voters) // 2 + 1",
        new="return (len(self.voters) + 1) // 2",
        story="two of four are a majority: hashicorp/raft 163a55f",
    ),
    Bug(
        name="half is a quorum",
        file="_rules/membership.py",
        old="return len(self.voters) // 2 + 1",
        new="return max(len(self.voters) // 2, 1)",
        story="half, rounded down, is a majority: ktoso/akka-raft#42, goraft 38d588f",
    ),
    Bug(
        name="candidate refuses the winner",
        file="_rules/following.py",
        old="    if request.term < node.term:\n        # It tells this term,",
        new="    is_rival = request.term == node.term and not isinstance(node.role, Following)\n"
        "    if request.term < node.term or is_rival:\n        # It tells this term,",
        story="a candidate does not follow the leader of its own term (5.2): goraft/raft#53, "
        "deventlab/d-engine#340, adjoint-io/raft#121",
    ),
    Bug(
        name="leader ignores a higher term",
        file="_rules/step.py",
        old="isinstance(message, Reply) and message.term > node.term:",
        new="isinstance(message, Reply) and message.term > node.term and (\n"
        "        not isinstance(node.role, Leading)\n    ):",
        story="an answer of a later term does not depose the leader: redpanda-data/redpanda#31547, "
        "cloudwalk/stratus#1048",
        directed=f"{_TESTS}::test_e13_a_higher_term_in_any_answer_is_written_and_ends_the_role",
        unseen="the leader steps down all the same, when no majority answers in its term",
    ),
    Bug(
        name="answers raise no term",
        file="_rules/step.py",
        old="    if isinstance(message, Reply) and message.term > node.term:",
        new="    if isinstance(message, Reply) and message.term < 0:",
        story="a server with an old term goes on asking in it: vesoft-inc/nebula#3415",
        directed=f"{_TESTS}::test_e13_a_higher_term_in_any_answer_is_written_and_ends_the_role",
    ),
    Bug(
        name="no check-quorum",
        file="_rules/transfer.py",
        old="    if event.now >= quorum_deadline(node, role):\n"
        "        return become_follower(node, event.now, node.term)",
        new="    if event.now >= quorum_deadline(node, role):\n"
        "        return node, [do.QuorumBy(event.now + node.settings.election_timeout)]",
        story="a leader that nobody answers stays leader for ever, and so do its callers: goraft",
        directed=f"{_TESTS}::test_g42_a_leader_that_no_majority_answers_steps_down",
        unseen="callers give up on their own",
    ),
    Bug(
        name="quorum counted from the receipt",
        file="_rules/replication.py",
        old="answered_at=sent_at,",
        new="answered_at=now,",
        story="an answer that was long on its way prolongs the leader's place by all of that",
        directed=f"{_TESTS}::test_the_quorum_deadline_counts_from_the_sending_of_what_was_answered",
        unseen="nothing rests on a leader's place; leases count for themselves",
    ),
    Bug(
        name="tenure not checked",
        file="_rules/step.py",
        old="    if isinstance(event, _OF_A_TENURE) and event.tenure != node.tenure:",
        new="    if isinstance(event, _OF_A_TENURE) and event.tenure > node.tenure:",
        story="a task of a role that is over takes one more turn in the next one: "
        "vesoft-inc/nebula#3415, canonical/raft#367",
        directed=f"{_TESTS}::test_g48_what_comes_from_an_earlier_tenure_is_void",
        profile="rivals",
    ),
    Bug(
        name="no no-op",
        file=_RULES,
        old="        log=node.log.extended(Entries(first, first, ((first, node.term),))),\n"
        "        disk=disk,\n        fruitless=0,",
        new="        fruitless=0,",
        story="a new leader cannot commit what it found in its log until somebody asks: "
        "ktoso/akka-raft#63, canonical/raft#336, openmessaging/dledger#305",
        also=(
            Change(
                _RULES,
                "    return node, [\n        do.AppendOwn(disk.asked, first, node.term, 1),\n"
                "        do.QuorumBy(quorum_by),\n    ]",
                "    return node, [do.QuorumBy(quorum_by)]",
            ),
        ),
    ),
    Bug(
        name="slow leader never makes way",
        file="_rules/tenure.py",
        old="    if lagging is not None and now >= lagging[1] + patience:",
        new="    if lagging is not None and now < 0:",
        story="a leader whose disk hangs keeps its place: hashicorp/raft#513",
        directed="tests/rules/test_disk.py"
        "::test_a_leader_whose_own_disk_lags_four_time_outs_steps_down",
        unseen="it costs time, and breaks no promise",
    ),
)
