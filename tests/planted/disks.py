"""Bugs of the disk: what is written when, what is told of it, and what is read back."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug, Change

_LOG: Final = "_storage/segments.py"
_LAYOUT: Final = "_storage/layout.py"
_SHELF: Final = "_storage/shelf.py"
_NAMES: Final = "_storage/names.py"
_CRASHES: Final = "tests/storage/test_crash_points.py::test_power_cut_at_every_call"
_BEGINS: Final = "tests/storage/test_bases.py::test_each_segment_begins_with_all_that_still_holds"

DISKS: Final = (
    Bug(
        name="outbox lets go at once",
        file="_outbox.py",
        old="        if message.after <= self._done:\n",
        new="        if message.after >= 0:\n",
        story="answers do not wait for the sync: etcd-io/etcd#14370, tikv/tikv#994",
    ),
    Bug(
        name="outbox lets go of all",
        file="_outbox.py",
        old="        while self._held and self._held[0].after <= done:\n",
        new="        while self._held:\n",
        story="the end of one write lets go of what waits for the next one: deventlab/d-engine#446",
    ),
    Bug(
        name="durable before it is written",
        file="_diskwriter.py",
        old="            await self._storage.write(batch)\n            self._on_persisted(write)\n",
        new="            self._on_persisted(write)\n            await self._storage.write(batch)\n",
        story="a write is reported when it begins: jepsen.io/analyses/nats-2.12.1",
    ),
    Bug(
        name="durable with the write before",
        file="_diskwriter.py",
        old="            self._on_persisted(write)\n",
        new="            self._on_persisted(self._write)\n",
        story="what queued during a write counts as durable with it: deventlab/d-engine#446",
    ),
    Bug(
        name="queued entries not cut",
        file="_diskwriter.py",
        old="            kept = max(len(self._entries) - (self._next - first), 0)\n"
        "            del self._entries[kept:]\n",
        new="",
        story="a cut does not reach what still waits for the disk: etcd-io/etcd#12881",
        profile="rivals",
        directed="tests/services/test_diskwriter.py"
        "::test_a_cut_within_what_queues_never_reaches_the_storage",
    ),
    Bug(
        name="no sync",
        file=_LOG,
        old="            self._files.fdatasync(segment.file)\n            segment.batch += 1\n",
        new="            segment.batch += 1\n",
        story="a batch is written and not synced: lni/dragonboat#201, nats-io/nats-server#7564",
        profile="crashes",
    ),
    Bug(
        name="new segment not synced",
        file=_LOG,
        old="self._files.fdatasync(file)\n            self._files.rename(spare, path)\n",
        new="self._files.rename(spare, path)\n",
        story="a segment gets its name before its contents are durable: Pillai et al., OSDI 2014",
        profile="crashes",
        directed=_CRASHES,
    ),
    Bug(
        name="directory not synced",
        file=_LOG,
        old="self._files.sync_directory(self._directory)\n        except BaseException:\n",
        new="pass\n        except BaseException:\n",
        story="a segment's name is lost in a power cut, and all in it: hashicorp/raft#232",
        profile="crashes",
        directed="tests/scenarios/test_storage.py"
        "::test_d10_a_new_segments_name_is_durable_before_anything_in_it_is_acknowledged",
    ),
    Bug(
        name="segment without its state",
        file=_LOG,
        old="        state = image.state if batch.state is None else batch.state\n",
        new="        state = batch.state\n",
        story="term and vote are only in a segment that may be deleted: etcd's WAL repeats its "
        "state in each file",
        directed="tests/storage/test_segments.py"
        "::test_a_segment_begins_with_the_state_however_long_ago_it_was_written",
    ),
    Bug(
        name="segment without its base",
        file=_LOG,
        old="        whole = Batch(state, batch.cut, batch.entries, batch.base or image.base)\n",
        new="        whole = Batch(state, batch.cut, batch.entries, batch.base)\n",
        story="where the log begins is only in a segment that is deleted: with it the log is lost",
        directed=_BEGINS,
    ),
    Bug(
        name="segment without its place",
        file=_LOG,
        old="layout.pack_batch(salt, 1, whole, image.behind(batch))\n",
        new="layout.pack_batch(salt, 1, whole)\n",
        story="a segment does not say which entry its first one follows, so it can't be read once "
        "the ones before it are deleted",
        directed=_BEGINS,
    ),
    Bug(
        name="segment dropped before the base is durable",
        file=_LOG,
        old="            write_all(self._files, segment.file, data, segment.offset)\n"
        "            self._files.fdatasync(segment.file)\n",
        new="            if batch.base is not None:\n"
        "                self._image.forget(batch.base)\n"
        "                self.drop_segments()\n"
        "            write_all(self._files, segment.file, data, segment.offset)\n"
        "            self._files.fdatasync(segment.file)\n",
        story="what a compaction removes is gone before the disk knows of the compaction",
        directed="tests/storage/test_bases.py"
        "::test_a_segment_is_dropped_only_once_the_base_is_durable",
    ),
    Bug(
        name="old segments dropped one by one",
        file=_LOG,
        old="        return oldest if oldest > self._bound else 0\n",
        new="        return oldest\n",
        story="a segment of the first version of the format, which does not say where it begins, "
        "is left behind as the first one: nothing can be read",
        directed="tests/storage/test_version1.py::test_its_segments_are_dropped_together",
        unseen="no simulated run begins with a disk of an older version",
    ),
    Bug(
        name="snapshot named before it is synced",
        file=_SHELF,
        old="            self._files.fdatasync(file)\n",
        new="            pass\n",
        story="a snapshot gets its name before its contents are durable: Pillai et al., OSDI 2014",
        directed="tests/storage/test_snapshots.py"
        "::test_nothing_has_a_name_before_it_is_durable_and_read_back",
    ),
    Bug(
        name="snapshot's name not synced",
        file=_SHELF,
        old="            self._files.rename(path, self._snapshot_path(snapshot))\n"
        "            self._files.sync_directory(self._directory)\n",
        new="            self._files.rename(path, self._snapshot_path(snapshot))\n",
        story="a snapshot's name is lost in a power cut, and the log behind it is gone already: "
        "hashicorp/raft#232",
        directed=_CRASHES,
    ),
    Bug(
        name="snapshot listed from the page cache",
        file=_SHELF,
        old="            with telling(self._directory):\n"
        "                self._files.sync_directory(self._directory)\n",
        new="            pass\n",
        story="a restarted process compacts its log for a snapshot whose name no disk holds: "
        "Rebello et al., ATC 2020",
        directed="tests/storage/test_snapshots.py"
        "::test_what_is_listed_is_durable_even_if_its_maker_died_before_that",
    ),
    Bug(
        name="snapshots in the order of strings",
        file=_SHELF,
        old="        found = sorted(filter(None, map(snapshot_id, self._names())))\n",
        new="        found = list(filter(None, map(snapshot_id, self._names())))\n",
        also=(
            Change(
                _NAMES,
                '{snapshot.index:020}-{snapshot.term:020}.snapshot"\n',
                '{snapshot.index}-{snapshot.term}.snapshot"\n',
            ),
            Change(_NAMES, 'r"([0-9]{20})-([0-9]{20})', 'r"([0-9]+)-([0-9]+)'),
        ),
        story="the newest snapshot is the last one by the order of strings, where 9 comes behind "
        "10: goraft's LoadSnapshot",
        directed="tests/storage/test_snapshots.py"
        "::test_they_are_ordered_by_number_and_other_names_are_left_alone",
    ),
    Bug(
        name="failed snapshot left in the way",
        file=_SHELF,
        old="                with suppress(OSError):\n"
        "                    self._files.unlink(path)\n",
        new="                pass\n",
        also=(
            Change(
                _SHELF,
                "            with suppress(FileNotFoundError):\n"
                "                self._files.unlink(path)\n",
                "",
            ),
        ),
        story="after one snapshot that failed no other one ever succeeds: goraft's TakeSnapshot",
        directed="tests/storage/test_snapshots.py::test_every_call_refused",
    ),
    Bug(
        name="snapshot named though it was given up",
        file=_SHELF,
        old="        permit.settle()\n",
        new="",
        story="work that was cancelled goes on in its thread, and has its effect later",
        directed="tests/storage/test_snapshots.py"
        "::test_work_that_was_given_up_gets_nowhere_and_leaves_nothing",
        unseen="in the simulation a snapshot is made at one instant, and can't be cancelled in it",
    ),
    Bug(
        name="segment without the tail",
        file=_LOG,
        old="        first = self._begin_segment(last, mark, tail)\n",
        new="        first = self._begin_segment(last, mark, Batch(tail.state))\n",
        story="what a crash left beyond the mark is recovered once, and gone at the next start: "
        "duckdb/duckdb#14785",
        profile="crashes",
        directed="tests/storage/test_crash_points.py"
        "::test_killed_again_at_every_call_of_the_start_that_follows",
    ),
    Bug(
        name="page cache trusted",
        file=_LOG,
        old="        mark = layout.read_mark(last.salt, data)\n",
        new="        mark = sum(1 for _ in layout.find_batches(data, last.salt)) or 1\n",
        story="what a restarted process reads it takes for durable: Rebello et al., ATC 2020",
        profile="crashes",
        directed="tests/storage/test_crash_points.py"
        "::test_killed_again_at_every_call_of_the_start_that_follows",
    ),
    Bug(
        name="mark before the sync",
        file=_LOG,
        old="            write_all(self._files, segment.file, data, segment.offset)\n"
        "            self._files.fdatasync(segment.file)\n",
        new="            write_all(self._files, segment.file, data, segment.offset)\n"
        "            early = layout.pack_mark(segment.header.salt, segment.batch + 1)\n"
        "            at = layout.mark_offset(segment.batch + 1)\n"
        "            write_all(self._files, segment.file, early, at)\n"
        "            self._files.fdatasync(segment.file)\n",
        story="a batch is marked as durable in the sync that makes it so, and a torn one refuses "
        "the start: asonnino/mysticeti#219",
        profile="crashes",
        directed=_CRASHES,
    ),
    Bug(
        name="checksum not checked",
        file=_LAYOUT,
        old="    if _batch_crc(memoryview(data)[offset:end]) != crc:\n",
        new="    if crc < 0:\n",
        story="a torn batch is taken for a whole one: valkey-io/valkey#3951, "
        "RedisLabs/redisraft#127",
        profile="crashes",
        directed="tests/storage/test_segments.py"
        "::test_a_torn_last_batch_of_every_length_is_cut_whole",
    ),
    Bug(
        name="salt not checked",
        file=_LAYOUT,
        old="    if found != salt or end > len(data):\n",
        new="    if end > len(data):\n",
        story="a batch that stood in another file at this place is taken for one of this file: "
        "WALs in recycled files",
        directed="tests/planted/test_directed.py::test_a_batch_of_another_segment_is_none_of_this",
        unseen="segments are made of zeros, never of what was there before",
    ),
    Bug(
        name="number not checked",
        file=_LAYOUT,
        old="        if found is None or found[0] != expected:\n",
        new="        if found is None:\n",
        story="a batch in the wrong place counts: a lost or repeated write goes unseen",
        directed="tests/planted/test_directed.py::test_a_batch_out_of_turn_is_damage",
        unseen="the simulated disk puts what it writes where it belongs",
    ),
    Bug(
        name="number not checked beyond the mark",
        file="_storage/replay.py",
        old="and found[0] == number + 1:\n",
        new="and found[0] > number:\n",
        story="a batch in the wrong place counts: a lost or repeated write goes unseen",
        directed="tests/planted/test_directed.py::test_a_batch_out_of_turn_is_damage",
        unseen="the simulated disk puts what it writes where it belongs",
    ),
    Bug(
        name="damage taken for a tear",
        file="_storage/replay.py",
        old="    if layout.has_later_batch(data, header.salt, offset, number + 1):\n",
        new="    if offset < 0:\n",
        story="the log is cut at a rotten batch that had been durable, whole ones behind it: "
        "cockroachdb/pebble#453, jepsen.io/analyses/nats-2.12.1",
        directed="tests/storage/test_damage.py"
        "::test_both_marks_gone_and_a_batch_damaged_between_whole_ones",
        unseen="it takes damage to a batch and to both marks",
    ),
    Bug(
        name="cut not recorded",
        file=_LAYOUT,
        old="    if batch.cut is not None:\n        parts.append",
        new="    if batch.cut is not None and batch.cut < 0:\n        parts.append",
        story="what was cut comes back with a restart: etcd-io/etcd#22442, formancehq/ledger#2076",
    ),
    Bug(
        name="written on after a failed sync",
        file=_LOG,
        old="            self._failure = refusal(path, error)\n"
        "            raise self._failure from error\n",
        new="            raise refusal(path, error) from error\n",
        story="a sync that failed is tried again, and succeeds with the pages dropped: "
        "Rebello et al., ATC 2020",
        directed="tests/storage/test_failures.py"
        "::test_the_error_of_later_writes_says_what_had_failed",
        unseen="the server ends with the first failure, so there is no second write",
    ),
    Bug(
        name="failed sync ignored",
        file=_LOG,
        old="            self._files.fdatasync(segment.file)\n            segment.batch += 1\n",
        new="            try:\n                self._files.fdatasync(segment.file)\n"
        "            except OSError:\n                pass\n            segment.batch += 1\n",
        story="the error of a sync is lost: goraft 8ca39ae",
        profile="crashes",
        directed="tests/storage/test_failures.py::test_power_cut_after_a_refused_sync",
    ),
)
