"""Bugs of snapshots, in the services: what is captured, kept, sent, taken in and restored."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug, Change

_KEEPER: Final = "_snapshots/keeper.py"
_RECEIVING: Final = "_snapshots/receiving.py"
_KEPT: Final = "tests/snapshots/test_keeper.py"
_RECEIVED: Final = "tests/snapshots/test_receiving.py"
_SENT: Final = "tests/snapshots/test_sending.py"
_SCENARIOS: Final = "tests/scenarios/test_snapshots.py"
_COSTS: Final = "it costs time or space, and breaks no promise"

SNAPSHOTS: Final = (
    # -- what is taken -------------------------------------------------------------------------
    Bug(
        name="configuration left out of the snapshot",
        file=_KEEPER,
        old="captured.index, captured.term, captured.time, configuration\n",
        new="captured.index, captured.term, captured.time, None\n",
        story="whoever comes by snapshot does not know the members: goraft's lacked itself",
        directed=f"{_KEPT}::test_what_is_written_is_what_was_captured",
        unseen="members do not change yet",
    ),
    Bug(
        name="time left out of the snapshot",
        file=_KEEPER,
        old="captured.index, captured.term, captured.time, configuration\n",
        new="captured.index, captured.term, 0.0, configuration\n",
        story="sessions expire at other entries than elsewhere: logcabin/logcabin#116",
        directed=f"{_KEPT}::test_what_is_written_is_what_was_captured",
    ),
    Bug(
        name="sessions left out of the snapshot",
        file=_KEEPER,
        old="            pieces = saved_pieces(captured.sessions, PIECE_BYTES)\n",
        new="            pieces = saved_pieces([], PIECE_BYTES)\n",
        story="a retry is done once more after a snapshot: RedisLabs/redisraft, RR-185",
        directed=f"{_SCENARIOS}"
        "::test_u1_a_retry_after_a_snapshot_and_a_restart_of_all_is_applied_once",
    ),
    Bug(
        name="log compacted before the snapshot is durable",
        file=_KEEPER,
        old="                newest = await self._save(self._applier.capture())\n",
        new="                now = self._host.clock.now()\n"
        "                self._host.step(events.SnapshotTaken(now, self._applier.applied, 0))\n"
        "                newest = await self._save(self._applier.capture())\n",
        story="a failed or unfinished snapshot, and the log is gone all the same: goraft, "
        "hashicorp/raft#232",
        directed=f"{_KEPT}::test_g27_the_log_may_forget_nothing_before_the_snapshot_is_durable",
    ),
    Bug(
        name="index and state of different entries",
        file=_KEEPER,
        old="head, pieces, captured.state, compression",
        new="head, pieces, self._machine.save(), compression",
        story="the state is of later entries than the index says, and these are applied twice: "
        "goraft#238",
        directed="tests/server/test_seed.py"
        "::test_g14_what_is_said_while_a_snapshot_is_taken_is_applied_once",
    ),
    Bug(
        name="no snapshot after a failed one",
        file=_KEEPER,
        old='        """It is tried again when somebody asks, or the log has grown as much '
        '(seed G-28)."""\n        self._begin_anew()\n',
        new='        """It is tried again never more."""\n'
        "        self._enough_entries = self._enough_bytes = math.inf\n",
        story="the mark that one is under way stays: goraft#242",
        directed=f"{_KEPT}"
        "::test_g28_after_a_failure_it_is_tried_again_when_the_log_has_grown_as_much",
        unseen=_COSTS,
    ),
    Bug(
        name="failed snapshot tried again at once",
        file=_KEEPER,
        old='        """It is tried again when somebody asks, or the log has grown as much '
        '(seed G-28)."""\n        self._begin_anew()\n',
        new='        """It is tried again after the very next entry."""\n',
        story="a full disk makes the server write whole snapshots and nothing else",
        directed=f"{_KEPT}"
        "::test_g28_after_a_failure_it_is_tried_again_when_the_log_has_grown_as_much",
        unseen=_COSTS,
    ),
    Bug(
        name="growth unbounded",
        file=_KEEPER,
        old="        return is_much and self._bytes >= self._least_bytes\n",
        new="        return is_much\n",
        story="a large state is written again for each few entries",
        directed=f"{_KEPT}::test_not_before_the_log_has_grown_by_a_fourth_of_the_last_one",
        unseen=_COSTS,
    ),
    Bug(
        name="nothing comes in while one is to be taken",
        file=_KEEPER,
        old="        await self._applier.reached(1)\n        async with self._one_at_a_time:\n",
        new="        async with self._one_at_a_time:\n            await self._applier.reached(1)\n",
        story="who asks a new server for a snapshot keeps it from ever getting one",
        directed=f"{_KEPT}::test_one_can_come_in_while_somebody_waits_for_the_first_to_be_taken",
        unseen="nobody asks a server that has applied nothing",
    ),
    # -- what is kept --------------------------------------------------------------------------
    Bug(
        name="older snapshot removed while it is sent",
        file=_KEEPER,
        old="            if one != newest and not is_read:\n",
        new="            if one != newest:\n",
        story="each newer snapshot ends the transfer of the one before it",
        directed=f"{_KEPT}::test_one_that_is_lent_stays",
    ),
    Bug(
        name="older snapshot removed before the log gives way",
        file=_KEEPER,
        old="        if self.newest is None or self._applier.applied < self.newest.head.index:\n",
        new="        if self.newest is None:\n",
        story="a crash leaves a log without the snapshot that it goes on from",
        directed=f"{_KEPT}::test_an_older_one_stays_until_the_log_has_given_way",
    ),
    Bug(
        name="first failure ends the server",
        file=_KEEPER,
        old="        if self.newest is None or self._applier.applied < self.newest.head.index:\n",
        new="        assert self.newest is not None\n"
        "        if self._applier.applied < self.newest.head.index:\n",
        story="no snapshot yet, and none to be had: what is to be removed behind it?",
        directed=f"{_KEPT}::test_the_very_first_one_may_fail_while_entries_come_in",
    ),
    Bug(
        name="snapshot believed by its name",
        file=_KEEPER,
        old="partial(verify_as, one)",
        new="partial(verify)",
        story="a file of one entry under the name of another one",
        directed=f"{_KEPT}::test_one_that_is_another_than_its_name_says_is_damaged",
        unseen="nobody renames files there",
        also=(
            Change(
                _KEEPER,
                "from trioraft._snapshots.form import (\n",
                "from trioraft._snapshots.form import verify\n"
                "from trioraft._snapshots.form import (\n",
            ),
        ),
    ),
    Bug(
        name="older damaged snapshot than the log used",
        file=_KEEPER,
        old="if log.term_at(one.index) == one.term]\n",
        new="if one.index <= log.last_index]\n",
        story="a start takes any snapshot, whether the log goes on from it or not: goraft",
        directed=f"{_KEPT}::test_one_that_never_became_a_part_of_the_log_is_removed",
    ),
    # -- what comes ----------------------------------------------------------------------------
    Bug(
        name="stale snapshot taken in",
        file=_RECEIVING,
        old="        return offer.term >= node.term and not has\n",
        new="        return offer.term >= node.term\n",
        story="what the log has long had comes once more, and whole: goraft",
        directed=f"{_RECEIVED}::test_s1_what_the_log_has_already_is_not_asked_for",
    ),
    Bug(
        name="pieces of two snapshots in one",
        file=_RECEIVING,
        old="        if self._coming != offered:\n",
        new="        if self._coming is None:\n",
        story="a transfer goes on with another snapshot: databendlabs/openraft 2eccb9e1",
        directed=f"{_RECEIVED}::test_another_one_begins_anew_and_nothing_is_mixed",
        unseen="the digest finds it, and it begins anew",
    ),
    Bug(
        name="digest of what came unchecked",
        file=_KEEPER,
        old="            if offer_of(summary) != offered:\n",
        new="            if summary is None:\n",
        story="whatever came is installed as whatever was offered",
        directed=f"{_RECEIVED}::test_a_file_that_is_fine_but_another_one_is_refused",
        unseen="what is spoiled there is found by the checksums of its blocks",
    ),
    Bug(
        name="snapshot taken in before taking part",
        file=_RECEIVING,
        old="        if not self._host.takes_part:\n            return  # as good as lost",
        new="        if self._host is None:\n            return  # as good as lost",
        story="a leader's snapshot meets a start that is still reading its own",
        directed=f"{_RECEIVED}::test_a_server_that_takes_no_part_yet_takes_nothing_in",
    ),
    Bug(
        name="deposed leader ends the new one's stream",
        file=_RECEIVING,
        old="                if self._is_wanted(offer):  # else",
        new="                if self._host:  # else",
        story="two streams at once, and the stale one wins",
        directed=f"{_RECEIVED}::test_who_leads_no_more_ends_nothing_that_the_new_leader_sends",
        unseen=_COSTS,
    ),
    Bug(
        name="time of an installed snapshot forgotten",
        file=_RECEIVING,
        old="            self._saw(head.time)",
        new="            pass",
        story="who is elected before its machine is restored gives entries an older time",
        directed=f"{_RECEIVED}::test_its_time_counts_before_the_machine_is_restored",
        unseen="a restore takes no time there",
    ),
    Bug(
        name="time of a snapshot forgotten at the start",
        file="_core.py",
        old="            self.log.time.saw(head.time)\n",
        new="",
        story="a wall clock that was set back sets the cluster's time back",
        directed=f"{_SCENARIOS}::test_the_clusters_time_does_not_fall_where_the_log_is_all_snapshot",
        unseen="nothing follows from an entry's time there",
    ),
    # -- what is sent --------------------------------------------------------------------------
    Bug(
        name="snapshot offered in another one's term",
        file="_snapshots/sending.py",
        old="        if host.node.tenure != effect.tenure:\n"
        "            return  # dialling takes time: by now another one may lead\n",
        new="",
        story="a leader that was deposed while it dialled speaks for the term that it now follows",
        directed=f"{_SENT}::test_who_leads_no_more_when_the_stream_stands_offers_nothing",
    ),
    Bug(
        name="snapshot sent by who leads no more",
        file="_snapshots/sending.py",
        old="            if host.node.tenure != effect.tenure:\n                return\n",
        new="",
        story="a follower takes in what its new leader does not know of",
        directed=f"{_SENT}::test_who_leads_no_more_in_the_midst_of_it_sends_nothing_more",
        unseen="the follower looks at the term itself",
    ),
    # -- what the machine becomes --------------------------------------------------------------
    Bug(
        name="half a machine is asked",
        file="_applier.py",
        old="        yield\n        self._restoring = False\n        self._moved.unpark_all()\n",
        new="        try:\n            yield\n        finally:\n"
        "            self._restoring = False\n            self._moved.unpark_all()\n",
        story="recover raises in the middle, and readers get answers before the server has ended",
        directed="tests/services/test_applier.py"
        "::test_nobody_asks_a_machine_that_could_not_be_restored",
        unseen="no machine there fails to come back",
    ),
    Bug(
        name="readers served during a restore",
        file="_applier.py",
        old="        while self.applied < index or self._restoring:\n",
        new="        while self.applied < index:\n",
        story="a query sees half of one state and half of another one",
        directed="tests/services/test_applier.py"
        "::test_nobody_asks_a_machine_that_is_being_restored",
    ),
    Bug(
        name="applied not moved by a snapshot",
        file="_applier.py",
        old="        self.changes.skip(index)\n"
        "        self.applied, self._term, self._time = index, term, time\n",
        new="        self.changes.skip(index)\n        self._term, self._time = term, time\n",
        story="entries that the snapshot holds are asked for once more",
        directed="tests/services/test_applier.py"
        "::test_nobody_asks_a_machine_that_is_being_restored",
    ),
    Bug(
        name="looked for a snapshot before waiting",
        file="_applier.py",
        old="                if self._target - self.applied > _FEW or not self._is_quick:\n"
        "                    await self._calm()\n"
        "                if self.applied < self._installed <= self._target:\n"
        "                    await self._restore()\n"
        "                    continue\n",
        new="                if self.applied < self._installed <= self._target:\n"
        "                    await self._restore()\n"
        "                    continue\n"
        "                if self._target - self.applied > _FEW or not self._is_quick:\n"
        "                    await self._calm()\n",
        story="what an installed snapshot has replaced is read from the disk and applied",
        directed="tests/services/test_applier.py"
        "::test_one_that_is_installed_while_the_disk_goes_first_takes_their_place_too",
        unseen="the snapshot's write is soon done",
    ),
    Bug(
        name="changes not skipped by a snapshot",
        file="_applier.py",
        old="        self.changes.skip(index)\n",
        new="",
        story="a watcher is told that nothing has changed in between",
        directed="tests/services/test_applier.py"
        "::test_an_installed_snapshot_takes_the_place_of_what_was_due",
    ),
    Bug(
        name="read ahead of what is committed",
        file="_applier.py",
        old="            self._read_from, self._read = first, read[: target - first + 1]\n",
        new="            self._read_from, self._read = first, read[: self._target - first + 1]\n",
        story="what was read while it was being cut is applied behind what took its place",
        directed="tests/services/test_applier.py"
        "::test_what_was_read_before_the_log_gave_way_is_not_applied_behind_it",
        unseen="what is new is in memory there",
    ),
    Bug(
        name="callers within a snapshot forgotten",
        file="_core.py",
        old="        self.tickets.skipped(head.index, self._node.configuration.cluster)\n",
        new="",
        story="they wait for entries that are applied no more: databendlabs/openraft 43dd8b6f",
        directed=f"{_SCENARIOS}::test_callers_whose_entries_come_by_snapshot_are_answered",
    ),
    Bug(
        name="replaced entries stay in memory",
        file="_logbook.py",
        old="        self.recent.clear(effect.index)\n",
        new="",
        story="the cache of recent entries outlives the log: etcd-io/etcd#12881",
        directed="tests/services/test_logbook.py"
        "::test_a_snapshot_takes_the_place_of_all_that_is_here",
    ),
    Bug(
        name="cut lost when the log is replaced",
        file="_diskwriter.py",
        old="        self._cut = kept if self._cut is None else min(self._cut, kept)\n"
        "        self._base = base\n",
        new="        self._base = base\n",
        story="a conflicting tail stays on the disk behind the snapshot",
        directed="tests/services/test_diskwriter.py"
        "::test_with_snapshots_the_result_is_the_same_too",
    ),
    Bug(
        name="queued entries written behind a snapshot",
        file="_diskwriter.py",
        old="            self._entries.clear()\n",
        new="",
        story="what had yet to be written comes behind what took its place",
        directed="tests/services/test_diskwriter.py"
        "::test_what_queues_is_not_written_once_a_snapshot_takes_its_place",
    ),
)
