"""Bugs of snapshots, in the rules: what is installed, forgotten, counted and sent."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug, Change

_RULES: Final = "_rules/snapshots.py"
_TESTS: Final = "tests/rules/test_snapshots.py"
_UNSEEN: Final = "it costs messages, and breaks no promise"

SNAPSHOT_RULES: Final = (
    # -- what comes ----------------------------------------------------------------------------
    Bug(
        name="stale snapshot accepted",
        file=_RULES,
        old="    if index > node.commit and found != term:\n",
        new="    if found != term:\n",
        story="a snapshot that comes late takes the log back: goraft, etcd-io/raft guards it",
        directed=f"{_TESTS}::test_s1_of_two_snapshots_the_older_one_comes_late",
    ),
    Bug(
        name="snapshot of an old term accepted",
        file=_RULES,
        old="    if request.term < node.term:\n",
        new="    if request.term < 0:\n",
        story="a leader that was deposed long ago still installs what it likes: goraft",
        directed=f"{_TESTS}::test_a_snapshot_of_an_old_term_is_refused_at_once",
    ),
    Bug(
        name="snapshot lowers the term",
        file=_RULES,
        old="            snapshot_index=index,\n            configuration",
        new="            snapshot_index=index,\n            term=term,\n            configuration",
        story="a server takes over the term of the snapshot's last entry: goraft, willemt/raft#118",
        directed=f"{_TESTS}::test_s5_g08_a_snapshots_last_term_is_no_servers_term",
    ),
    Bug(
        name="suffix dropped although it agrees",
        file=_RULES,
        old="    if index > node.commit and found != term:\n",
        new="    if index > node.commit:\n",
        story="entries that were acknowledged go with those that the snapshot holds: "
        "the paper says to keep them, etcd-io/raft does",
        directed=f"{_TESTS}::test_s2_what_goes_on_behind_a_snapshot_is_kept",
    ),
    Bug(
        name="suffix kept although it conflicts",
        file=_RULES,
        old="            log=Log((), index, index, term),\n",
        new="            log=node.log.compacted(index)\n"
        "            if node.log.last_index >= index\n"
        "            else Log((), index, index, term),\n",
        story="a conflicting tail outlives the snapshot: databendlabs/openraft 674e78aa",
        directed=f"{_TESTS}::test_so_does_one_that_conflicts_with_it",
    ),
    Bug(
        name="only lengths compared with a snapshot",
        file=_RULES,
        old="    if index > node.commit and found != term:\n",
        new="    if index > node.commit and found is None:\n",
        story="a log that is long enough is taken to hold the snapshot's entries, and commits its "
        "own: databendlabs/openraft 674e78aa",
        directed=f"{_TESTS}::test_so_does_one_that_conflicts_with_it",
    ),
    Bug(
        name="commit not moved by a snapshot",
        file=_RULES,
        old="    node, applied = committing(node, index)\n",
        new="    node, applied = committing(node, node.commit)\n",
        story="the log begins behind what is said to be committed",
        directed=f"{_TESTS}::test_the_whole_log_gives_way_to_what_is_new",
    ),
    Bug(
        name="newest request of an old leader named to a new one",
        file=_RULES,
        old="    node, effects = follow(node, now, leader, request.term, number=0)\n",
        new='    number = getattr(node.role, "number", 0)\n'
        "    node, effects = follow(node, now, leader, request.term, number)\n",
        story="a follower answers requests that its new leader has yet to send, and so prolongs "
        "its lease",
        directed=f"{_TESTS}::test_answers_to_a_new_leader_do_not_name_an_old_ones_requests",
    ),
    Bug(
        name="configuration of a snapshot forgotten",
        file=_RULES,
        old="            configuration=request.configuration or node.configurations[0],\n",
        new="",
        story="whoever comes by snapshot goes on with the members of long ago",
        directed=f"{_TESTS}::test_the_configuration_is_the_snapshots",
        unseen=_UNSEEN,
    ),
    # -- what is durable -----------------------------------------------------------------------
    Bug(
        name="disk counts entries that a snapshot replaced",
        file=_RULES,
        old="        disk = node.disk.asking(index, node.commit)\n",
        new="        disk = node.disk.asking(index, index)\n",
        story="an index is taken for an identity: entries that conflicted make the snapshot's "
        "durable: rabbitmq/ra#637",
        directed=f"{_TESTS}::test_what_was_durable_is_no_part_of_what_replaces_it",
    ),
    Bug(
        name="snapshot acknowledged before it is durable",
        file=_RULES,
        old="    after = node.disk.term_write if index <= node.disk.index else node.disk.asked\n",
        new="    after = node.disk.term_write\n",
        story="a crash takes back what the leader has counted",
        directed=f"{_TESTS}::test_a_snapshot_is_acknowledged_when_the_log_has_given_way_on_disk",
    ),
    Bug(
        name="snapshot's suffix acknowledged with it",
        file=_RULES,
        old="verified=max(node.role.verified, index)))",
        new="verified=max(node.role.verified, node.log.last_index)))",
        story="a tail that the leader may not have is acknowledged to it",
        directed=f"{_TESTS}::test_s2_what_is_behind_it_is_not_acknowledged",
    ),
    Bug(
        name="log given way in part",
        file=_RULES,
        old="        effects.append(do.ReplaceLog(disk.asked, node.commit, index, term))\n",
        new="        effects.append(do.ReplaceLog(disk.asked, node.log.last_index, index, term))\n",
        story="a conflicting tail stays on the disk behind a snapshot: databendlabs/openraft "
        "674e78aa",
        directed=f"{_TESTS}::test_so_does_one_that_conflicts_with_it",
    ),
    # -- what is forgotten ---------------------------------------------------------------------
    Bug(
        name="compaction beyond the snapshot",
        file=_RULES,
        old="    last = event.index - node.settings.trailing_entries\n",
        new="    last = node.applicable - node.settings.trailing_entries\n",
        story="what was applied since the snapshot began is gone with it",
        directed=f"{_TESTS}::test_the_log_up_to_a_snapshot_is_discarded",
    ),
    Bug(
        name="base falls",
        file=_RULES,
        old="    if index <= node.log.base_index:\n        return node, []\n",
        new="    if index < 1:\n        return node, []\n",
        story="there is nothing to compact, or less than nothing: hashicorp/raft 7b09f38, #358",
        directed=f"{_TESTS}::test_s13_what_is_gone_is_not_compacted_again",
    ),
    Bug(
        name="nothing to compact is compacted",
        file=_RULES,
        old="    if index <= node.log.base_index:\n        return node, []\n",
        new="    if index == node.log.base_index:\n        return node, []\n",
        story="fewer entries than stay in any case make a range that ends before it begins: "
        "hashicorp/raft 7b09f38, RedisLabs/redisraft d8e8630",
        directed=f"{_TESTS}::test_s13_where_there_is_nothing_to_compact_nothing_is",
    ),
    Bug(
        name="live follower's entries compacted",
        file=_RULES,
        old="        last = min([last, *(max(_has(progress), event.floor) for progress in live)])"
        "\n",
        new="",
        story="a follower that is a little behind is sent the whole state again and again: "
        "hashicorp/raft, TrailingLogs",
        directed=f"{_TESTS}::test_a_follower_that_keeps_up_is_sent_none",
        unseen=_UNSEEN,
    ),
    Bug(
        name="dead follower's entries kept",
        file=_RULES,
        old=" if node.is_live(p, event.now)]",
        new="]",
        story="one server that is gone keeps the log of all the others long",
        directed=f"{_TESTS}::test_who_has_not_answered_for_long_holds_up_nothing",
        unseen="it costs space, and breaks no promise",
    ),
    Bug(
        name="log not bounded by snapshots",
        file=_RULES,
        old="*(max(_has(progress), event.floor) for progress in live)",
        new="*map(_has, live)",
        story="a follower that lives and takes nothing keeps the log long",
        directed=f"{_TESTS}::test_but_nothing_is_kept_from_before_the_snapshot_before",
        unseen="it costs space, and breaks no promise",
    ),
    Bug(
        name="what follows a travelling snapshot compacted",
        file=_RULES,
        old="    return max(progress.match_index, progress.installing)\n",
        new="    return progress.match_index or 1 << 62\n",
        story="each snapshot is in vain, because the log has moved on: databendlabs/openraft "
        "cf4badd0",
        directed=f"{_TESTS}::test_s8_compacted_again_while_a_snapshot_travels",
        unseen=_UNSEEN,
    ),
    # -- what is sent --------------------------------------------------------------------------
    Bug(
        name="snapshot's last entry asked of the log",
        file="_rules/replication.py",
        old="    if progress.next_index <= node.log.base_index:\n"
        "        return _send_snapshot(node, role, progress, event)\n",
        new="    if progress.next_index < node.log.base_index:\n"
        "        return _send_snapshot(node, role, progress, event)\n",
        story="a follower that needs the very entry that the snapshot ends with gets empty "
        "requests for ever: willemt/raft#118, RedisLabs/raft#47",
        directed=f"{_TESTS}::test_s6_who_needs_the_very_entry_that_a_snapshot_ends_with_is_sent_it",
    ),
    Bug(
        name="snapshot for who needs none",
        file="_rules/replication.py",
        old="    if progress.next_index <= node.log.base_index:\n"
        "        return _send_snapshot(node, role, progress, event)\n",
        new="    if progress.next_index <= node.snapshot_index:\n"
        "        return _send_snapshot(node, role, progress, event)\n",
        story="the entries that stay behind a snapshot help nobody",
        directed=f"{_TESTS}::test_who_needs_what_stays_behind_a_snapshot_is_sent_entries",
        unseen=_UNSEEN,
        also=(
            Change(
                "_rules/replication.py",
                "progress.next_index if progress.next_index > node.log.base_index else 1",
                "progress.next_index if progress.next_index > node.snapshot_index else 1",
            ),
        ),
    ),
    Bug(
        name="heartbeat with a made-up term",
        file="_rules/replication.py",
        old="    next_index = progress.next_index if progress.next_index > node.log.base_index "
        "else 1\n",
        new="    next_index = progress.next_index\n",
        story="a request for who needs a snapshot matches by a term of 0: etcd-io/raft 76f1249",
        directed=f"{_TESTS}::test_r11_what_is_gone_is_never_asked_about",
        also=(
            Change(
                "_rules/replication.py",
                '    assert prev_term is not None, "the log reaches back to what the follower '
                'needs"\n',
                "    prev_term = prev_term or 0\n",
            ),
        ),
    ),
    Bug(
        name="next moved by such a heartbeat",
        file="_rules/replication.py",
        old="        next_index=next_index,\n",
        new="        next_index=entries.last + 1,\n",
        story="the leader forgets what the follower needs, and starts with its first entry",
        directed=f"{_TESTS}::test_r11_what_is_gone_is_never_asked_about",
        unseen=_UNSEEN,
    ),
    Bug(
        name="two snapshots at a time",
        file="_rules/replication.py",
        old="    waits = progress.installing or event.now < progress.install_at\n",
        new="    waits = event.now < progress.install_at\n",
        story="each heartbeat begins another one",
        directed=f"{_TESTS}::test_r11_what_is_gone_is_never_asked_about",
        unseen=_UNSEEN,
    ),
    Bug(
        name="snapshot tried without a pause",
        file="_rules/replication.py",
        old="    waits = progress.installing or event.now < progress.install_at\n",
        new="    waits = progress.installing\n",
        story="a stream that fails at once is all that the leader does",
        directed=f"{_TESTS}::test_a_stream_that_ends_in_vain_is_tried_again_but_not_at_once",
        unseen=_UNSEEN,
    ),
    Bug(
        name="snapshot begun for who is gone",
        file="_rules/replication.py",
        old="    if waits or not node.is_live(progress, event.now):\n",
        new="    if waits:\n",
        story="a machine that is down is dialled for a snapshot, again and again",
        directed=f"{_TESTS}::test_what_was_on_its_way_and_is_gone_since_comes_by_snapshot",
        unseen=_UNSEEN,
    ),
    Bug(
        name="snapshot tried once",
        file=_RULES,
        old="evolve(progress, installing=0, install_at=install_at)",
        new="evolve(progress, install_at=install_at)",
        story="a stream that breaks leaves its follower behind for good",
        directed=f"{_TESTS}::test_a_stream_that_ends_in_vain_is_tried_again_but_not_at_once",
    ),
    Bug(
        name="fetched, gone and sent",
        file="_rules/replication.py",
        old="    if progress.next_index <= node.log.base_index:\n"
        "        return node, [do.Wake(event.peer)]",
        new="    if progress.next_index < node.log.base_index:\n"
        "        return node, [do.Wake(event.peer)]",
        story="what was compacted while it was read is sent with no term before it",
        directed=f"{_TESTS}::test_what_was_fetched_and_is_gone_since_is_not_sent",
    ),
    # -- what is checked -----------------------------------------------------------------------
    Bug(
        name="request from before the base refused",
        file="_rules/following.py",
        old="    if prev < node.log.base_index:\n        return None",
        new="    if prev < 0:\n        return None",
        story="what is compacted is taken for a conflict: databendlabs/openraft 71a290cd, 44381b0c",
        directed=f"{_TESTS}::test_r13_a_request_that_begins_within_what_is_gone_is_no_conflict",
    ),
    Bug(
        name="base's term not compared",
        file="_rules/following.py",
        old="    if prev < node.log.base_index:\n        return None",
        new="    if prev <= node.log.base_index:\n        return None",
        story="where the snapshot ends any entry may follow: goraft",
        directed=f"{_TESTS}::test_g09_the_term_is_compared_where_the_snapshot_ends",
        unseen="no leader has another entry there",
    ),
    Bug(
        name="what is gone conflicts",
        file="_rules/log.py",
        old="        begin = max(entries.first, self.base_index + 1)\n",
        new="        begin = entries.first\n",
        story="entries that the follower has compacted are cut, and all behind them: "
        "databendlabs/openraft 44381b0c",
        directed=f"{_TESTS}::test_r13_a_request_that_begins_within_what_is_gone_is_no_conflict",
    ),
    Bug(
        name="last term of an empty log",
        file="_rules/log.py",
        old="        return self.runs[-1][1] if self.runs else self.base_term\n",
        new="        return self.runs[-1][1] if self.runs else 0\n",
        story="who has compacted everything votes for anybody",
        directed=f"{_TESTS}::test_a_log_that_is_all_snapshot_votes_by_its_last_term",
    ),
    # -- what is answered ----------------------------------------------------------------------
    Bug(
        name="snapshot's answer lowers the match",
        file=_RULES,
        old="    match = max(progress.match_index, reply.match_index)\n",
        new="    match = reply.match_index\n",
        story="a late answer takes back what the follower has",
        directed=f"{_TESTS}::test_answers_that_overtake_each_other_never_lower_a_match",
    ),
    Bug(
        name="snapshot's answer of another term counts",
        file=_RULES,
        old="progress is None or reply.term != node.term:",
        new="progress is None:",
        story="what was installed for an earlier term counts in this one",
        directed=f"{_TESTS}::test_answers_that_are_for_nobody_are_void",
    ),
    Bug(
        name="snapshot's answer beyond the log",
        file=_RULES,
        old="    if reply.match_index > node.log.last_index:\n",
        new="    if reply.match_index < 0:\n",
        story="a follower that claims more than there is brings the leader down: goraft",
        directed=f"{_TESTS}::test_who_claims_too_much_is_ignored",
        unseen="no server of the simulation says what none says",
    ),
    Bug(
        name="installed and not counted",
        file=_RULES,
        old="    node, effects = advance_commit(evolve(node, role=role), role, now)\n"
        "    return node, [*effects, do.Wake(sender)]",
        new="    return evolve(node, role=role), [do.Wake(sender)]",
        story="what a majority has by snapshot waits for the next entry",
        directed=f"{_TESTS}::test_a_snapshot_counts_for_what_is_committed",
        unseen="the next heartbeat's answer says it all the same",
    ),
    Bug(
        name="committed entry overwritten by a snapshot unseen",
        file=_RULES,
        old="    if index <= node.commit and found not in (term, None):\n",
        new="    if index < 0:\n",
        story="a leader that has lost what was committed is believed",
        directed=f"{_TESTS}::test_another_snapshot_of_what_is_committed_stops_the_server",
        unseen="no leader has another entry there",
    ),
)
