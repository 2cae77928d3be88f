"""Bugs of what begins and ends with a membership, or with the time of a leader."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug, Change

_SERVER: Final = "tests/server/test_"
_SERVICES: Final = "tests/services/test_"
_BY_HAND: Final = "nothing in a simulated run waits for it"

MEMBERSHIP_LIVES: Final = (
    Bug(
        name="removed server stays",
        file="_server.py",
        old="            if membership.is_out(self._core.node):\n",
        new="            if self._expelled:\n",
        story="who has been removed runs on for ever: goraft, influxdata/influxdb#872",
        directed=f"{_SERVER}membership.py::test_a_removed_server_ends_in_good_order",
        unseen=_BY_HAND,
    ),
    Bug(
        name="removed server goes on dialling",
        file="_membership.py",
        old="    if not takes_part and not isinstance(node.role, Leading):\n        return {}\n",
        new="",
        story="who was removed, and knows it, dials the others for ever",
        directed=f"{_SERVICES}membership.py::test_who_was_removed_and_knows_it_disturbs_nobody",
        unseen="they refuse it",
    ),
    Bug(
        name="new member gets no log",
        file="_membership.py",
        old="        self.reconfigured.ring()\n        self._follow()\n",
        new="        self._follow()\n",
        story="the leader starts no replicator for a member that comes in its own term: goraft",
        directed=f"{_SERVER}membership.py::test_a_server_is_added_and_catches_up_before_it_votes",
        unseen="the next leader serves it",
    ),
    Bug(
        name="streams do not follow the members",
        file="_membership.py",
        old="        self.reconfigured.ring()\n        self._follow()\n",
        new="        self.reconfigured.ring()\n",
        story="nobody dials a member that the configuration has brought: goraft, hashicorp/raft",
        directed=f"{_SERVER}membership.py::test_a_server_is_added_and_catches_up_before_it_votes",
        unseen="the next leader dials it",
    ),
    Bug(
        name="who has left is served for ever",
        file="_roles/leader.py",
        old="        while peer in host.node.followers:\n",
        new="        while True:\n",
        story="each member that ever was costs a task and a timer",
        directed="tests/roles/test_leader.py::test_who_has_left_gets_nothing_more_and_its_task_ends",
        unseen=_BY_HAND,
    ),
    Bug(
        name="wiped disk is its old self",
        file="_gate.py",
        old="        if any(one.member(hello.id) is not None for one in known):\n",
        new="        if any(one.named(hello.name) is not None for one in known):\n",
        also=(
            Change(
                "_handshake.py",
                "            if (newest or genesis).member(self._me.id) is None:\n",
                "            if (newest or genesis).named(self._me.name) is None:\n",
            ),
        ),
        story="a server is who its name says: it votes again, with amnesia",
        directed=f"{_SERVICES}handshake.py::test_a_wiped_disk_is_a_stranger_under_an_old_name",
        unseen="votes count by incarnation, too",
    ),
    Bug(
        name="newer configuration proves anything",
        file="_gate.py",
        old="        if shown is not None and shown.member(self._me.id) is not None:\n",
        new="        if shown is not None:\n",
        story="who shows a high index is let in, whether or not it knows this incarnation",
        directed=f"{_SERVICES}gate.py::test_one_that_does_not_name_this_server_proves_nothing",
        unseen="nobody there lies",
    ),
    Bug(
        name="probe taken for a conversation",
        file="_handshake.py",
        old="        if hello.probes:\n            return None\n",
        new="",
        story="who only asks who is there takes the place of a stream that answers go to",
        directed=f"{_SERVICES}gate.py::test_a_probe_brings_who_is_there_and_leaves_it_as_it_was",
        unseen="the stream ends at once",
    ),
    Bug(
        name="snapshot holds the newest members",
        file="_snapshots/keeper.py",
        old="self._host.node.configuration_at(captured.index)",
        new="self._host.node.configuration",
        story="members that were never committed come with a snapshot, and no cut takes them back: "
        "hashicorp/raft, RedisLabs/redisraft",
        directed="tests/snapshots/test_keeper.py"
        "::test_the_members_in_it_are_those_at_its_last_entry",
        unseen="what was not committed yet nearly always is, later",
    ),
    Bug(
        name="silent learner stays",
        file="_administration.py",
        old="                await self._change(partial(taken_out, learner.id))\n",
        new="",
        story="who never answers is a member for ever: the log is kept, and streams are dialled",
        directed=f"{_SERVER}catching_up.py"
        "::test_one_that_stops_answering_while_it_catches_up_is_taken_out_again",
        unseen=_BY_HAND,
    ),
    Bug(
        name="stop is a crash",
        file="_server.py",
        old="            await self._hand_over_to_any()\n            self._life.cancel()\n",
        new="            self._life.cancel()\n",
        story="each orderly stop of a leader costs an election time-out",
        directed=f"{_SERVER}transfer.py"
        "::test_a_leader_that_stops_hands_over_and_the_pause_is_short",
        unseen="it is slow, and not wrong",
    ),
    Bug(
        name="leadership goes before its bodies have ended",
        file="_core.py",
        old="events.AppendDue(self.clock.now(), tenure, peer, reach, not self.reading.leases)",
        new="events.AppendDue(self.clock.now(), tenure, peer, reach, True)",
        story="the next one leads while what was to run under this one's lease still runs",
        directed=f"{_SERVER}transfer.py"
        "::test_what_runs_while_leading_has_ended_before_another_one_leads",
        unseen="no simulated body takes its time to end",
    ),
    Bug(
        name="refused one dials as often as ever",
        file="_transport/peers.py",
        old="                    if isinstance(error, Refused):\n",
        new="                    if link.address is None:\n",
        story="who has been removed and does not know it keeps everybody busy",
        directed=f"{_SERVICES}links.py::test_who_is_refused_dials_less_often",
        unseen="it is a nuisance, and not wrong",
    ),
)
