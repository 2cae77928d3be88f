"""Bugs of changing members and of handing over, planted in the rules."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug

_CHANGES: Final = "_rules/reconfiguration.py"
_TRANSFER: Final = "_rules/transfer.py"
_MEMBERS: Final = "_rules/membership.py"
_TESTS: Final = "tests/rules/test_reconfiguration.py"
_MOVES: Final = "tests/rules/test_transfer.py"
_TABLES: Final = "tests/rules/test_majorities.py"

MEMBERSHIP_RULES: Final = (
    Bug(
        name="only the new half counted",
        file=_MEMBERS,
        old="        return (self.voters, self.outgoing) if self.outgoing else (self.voters,)\n",
        new="        return (self.voters,)\n",
        story="the new voters decide alone while the old ones still may: two majorities",
        directed=f"{_TABLES}::test_who_has_both_majorities",
    ),
    Bug(
        name="only the new half commits",
        file=_MEMBERS,
        old="        if not self.outgoing:  # nearly always, and often\n",
        new="        if True:\n",
        story="a commit that the old voters know nothing of",
        directed=f"{_TABLES}::test_how_far_both_halves_are",
    ),
    Bug(
        name="own-term guard missing",
        file=_CHANGES,
        old="    if node.commit < role.first_index:\n",
        new="    if False:\n",
        story="Ongaro's own correction of single-server changes: raft-dev, 2015",
        directed=f"{_TESTS}::test_g13_none_before_an_entry_of_the_leaders_own_term_is_committed",
    ),
    Bug(
        name="two changes at once",
        file=_CHANGES,
        old="    if configuration.outgoing or configuration.index > node.commit:\n",
        new="    if False:\n",
        story="goraft/raft#220: several changes in flight",
        directed=f"{_TESTS}::test_g13_one_at_a_time",
    ),
    Bug(
        name="no roll-back of members",
        file=_CHANGES,
        old="(*(one for one in node.configurations if one.index <= kept), *new)\n",
        new="(*node.configurations, *new)\n",
        story="a configuration that was cut stays in force",
        directed=f"{_TESTS}::test_g03_what_is_cut_is_in_force_no_more",
    ),
    Bug(
        name="change that nobody could commit",
        file=_CHANGES,
        old="    return _flaw(change) or _no_majority(node, role, change)\n",
        new="    return _flaw(change)\n",
        story="a dead server joins a small cluster, and blocks it: goraft",
        directed=f"{_TESTS}::test_g45_what_those_who_answer_could_not_commit_is_refused",
    ),
    Bug(
        name="joint change never finished",
        file=_CHANGES,
        old="    if configuration.outgoing:\n        return _append(",
        new="    if False:\n        return _append(",
        story="the second entry waits for who asked for the first, and he is gone",
        directed=f"{_TESTS}::test_a_new_leader_finishes_the_change_that_it_inherits",
    ),
    Bug(
        name="leader that removed itself leads on",
        file=_CHANGES,
        old="    node, effects = retire(node, now)  # seed G-06: it went on leading\n",
        new="    effects: list[Effect] = []\n",
        story="goraft: a leave of oneself changes nothing",
        directed=f"{_TESTS}::test_g06_a_leader_that_removes_itself_and_reaches_nobody_ends_at_once",
    ),
    Bug(
        name="leaver forgotten at once",
        file=_CHANGES,
        old="    if not progress.leaves_after:\n        return False\n",
        new="    if not progress.leaves_after:\n        return False\n    return True\n",
        story="who is removed never learns of it, and campaigns for ever: influxdata/influxdb#872",
        directed=f"{_TESTS}::test_who_can_not_be_told_is_let_go_in_the_end",
    ),
    Bug(
        name="leaver kept for ever",
        file=_CHANGES,
        old="    return now >= progress.leaves_at or (",
        new="    return False and (",
        story="a leader talks to the dead for as long as it leads",
        directed=f"{_TESTS}::test_who_can_not_be_told_is_let_go_in_the_end",
    ),
    Bug(
        name="numbers begin anew",
        file=_CHANGES,
        old="answered_at=now, number=number, floor=number)\n",
        new="answered_at=now)\n",
        story="who is taken in again answers what was never asked, for hours",
        directed=f"{_TESTS}::test_requests_to_who_comes_back_are_numbered_on",
    ),
    Bug(
        name="removed server campaigns",
        file="_rules/elections.py",
        old="    return any(one.voter(node.me) for one in node.possible)\n",
        new="    return True\n",
        story="goraft: a removed server was leader three seconds later",
        directed=f"{_TESTS}::test_g05_a_removed_server_does_not_campaign_once_it_knows",
    ),
    Bug(
        name="company unwatched",
        file=_CHANGES,
        old="    return node, [append, do.QuorumBy(wake_up_at(node, role)), *confirmed, *wakes]\n",
        new="    return node, [append, *confirmed, *wakes]\n",
        story="a sole voter that gets company leads on when nobody answers",
        directed=f"{_TESTS}::test_a_sole_voter_that_gets_company_is_watched_from_then_on",
    ),
    Bug(
        name="lease while handing over",
        file="_rules/reads.py",
        old="    if not isinstance(role, Leading) or role.transfer is not None:\n",
        new="    if not isinstance(role, Leading):\n",
        story="the old leader answers reads by its lease while the new one commits",
        directed=f"{_MOVES}::test_commands_are_refused_from_the_start_and_no_lease_stands",
    ),
    Bug(
        name="asked before it has everything",
        file=_TRANSFER,
        old="    if transfer.sent or not has_all or not event.free:\n",
        new="    if transfer.sent or not event.free:\n",
        story="the target can't win, and the cluster has no leader meanwhile",
        directed=f"{_MOVES}::test_nobody_is_asked_before_it_has_everything",
    ),
    Bug(
        name="asked while work goes on under the lease",
        file=_TRANSFER,
        old="    if transfer.sent or not has_all or not event.free:\n",
        new="    if transfer.sent or not has_all:\n",
        story="two leaders' work at once",
        directed=f"{_MOVES}::test_nobody_is_asked_before_what_rests_on_the_lease_has_ended",
    ),
    Bug(
        name="withdrawn and obeyed all the same",
        file=_TRANSFER,
        old="    if not request.withdrawn and can and attempt > node.withdrawn:\n",
        new="    if not request.withdrawn and can:\n",
        story="the leader has its lease again, and a late message ends its term",
        directed=f"{_MOVES}"
        "::test_given_up_after_it_was_asked_there_is_no_lease_before_the_target_says_so",
    ),
    Bug(
        name="transfer given up without a word",
        file=_TRANSFER,
        old="    if not transfer.sent:\n        return _end(node, role, now)\n",
        new="    return _end(node, role, now)\n",
        story="a lease stands while the target may campaign yet",
        directed=f"{_MOVES}"
        "::test_given_up_after_it_was_asked_there_is_no_lease_before_the_target_says_so",
    ),
    Bug(
        name="transfer's vote held by stickiness",
        file="_rules/elections.py",
        old="    is_held = is_sticky(node, now) and not request.transfer\n",
        new="    is_held = is_sticky(node, now)\n",
        story="nobody votes for who was asked to lead: a transfer never works",
        directed=f"{_MOVES}::test_the_target_leads_at_once_and_in_the_next_term",
    ),
    Bug(
        name="anybody's TimeoutNow obeyed",
        file=_TRANSFER,
        old="    if request.term > node.term or not is_theirs:\n",
        new="    if request.term > node.term:\n",
        story="whoever speaks the protocol deposes the leader",
        directed=f"{_MOVES}::test_who_is_not_the_leader_of_this_term_is_not_obeyed",
    ),
    Bug(
        name="reluctance forgotten",
        file="_rules/elections.py",
        old="    if node.silences < _SILENCES[node.settings.reluctance]:\n",
        new="    if False:\n",
        story="the server on the slow machine leads as often as any",
        directed=f"{_MOVES}::test_who_had_better_not_lead_lets_others_go_first",
    ),
    Bug(
        name="lost entries not noticed",
        file="_rules/replication.py",
        old="    if _has_lost(progress, reply):\n",
        new="    if False:\n",
        story="a disk restored from an old backup goes on voting",
        directed=f"{_MOVES}"
        "::test_who_lacks_what_it_has_acknowledged_is_expelled_once_and_counts_no_more",
    ),
    Bug(
        name="late refusal expels",
        file="_rules/replication.py",
        old="    if reply.success or reply.number <= max(progress.matched_by, progress.floor):\n",
        new="    if reply.success:\n",
        story="an honest follower is thrown out for an answer that took its time",
        directed=f"{_MOVES}::test_nobody_is_expelled_for_less",
    ),
)
"""All of them."""
