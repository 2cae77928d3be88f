"""Bugs of the services: who may speak, what is applied, and what callers are told."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug, Change

_HANDSHAKE: Final = "_handshake.py"

SERVICES: Final = (
    Bug(
        name="entry applied twice",
        file="_applier.py",
        old="            value = command.apply(self._machine, applied)\n",
        new="            if not self._tickets.at(index, term) and index <= 4:\n"
        "                command.apply(self._machine, applied)\n"
        "            value = command.apply(self._machine, applied)\n",
        story="who has nobody to answer applies the first command once more: etcd-io/raft 8ecce32",
    ),
    Bug(
        name="entry applied again from the disk",
        file="_applier.py",
        old="            read = await self._storage.read(first, _READ_BYTES)\n",
        new="            read = await self._storage.read(max(first - 1, 1), _READ_BYTES)\n",
        story="where the backlog is read from the disk, the first entry comes twice: "
        "etcd-io/raft 2e0653d",
        also=(
            Change(
                "_applier.py",
                "        if index != self.applied + 1:\n",
                "        if index > self.applied + 1:\n",
            ),
        ),
    ),
    Bug(
        name="entry skipped",
        file="_applier.py",
        old="            read = await self._storage.read(first, _READ_BYTES)\n",
        new="            read = await self._storage.read(first, _READ_BYTES)\n"
        "            read = read[1:] or read\n",
        story="where the backlog is read from the disk, the first entry is left out: "
        "etcd-io/raft 2e0653d",
        also=(
            Change(
                "_applier.py",
                "        if index != self.applied + 1:\n",
                "        if index < self.applied + 1:\n",
            ),
        ),
    ),
    Bug(
        name="unreadable entry skipped",
        file="_applier.py",
        old="                    self._apply(frame, told)\n",
        new="                    try:\n"
        "                        self._apply(frame, told)\n"
        "                    except ProtocolError:\n"
        "                        self.applied += 1\n",
        story="a server that cannot read a command goes on behind it, and replicas differ: goraft, "
        "databendlabs/openraft dd29c2e9",
        directed="tests/server/test_commands.py"
        "::test_g12_an_entry_that_cannot_be_read_stops_that_server_and_is_never_skipped",
        unseen="all servers of a simulation run one program",
    ),
    Bug(
        name="cut entries stay in memory",
        file="_recent.py",
        old="            del self._frames[max(first - self._first, 0) :]\n        if first <",
        new="            pass\n        if first <",
        story="the cache of recent entries keeps what was cut: etcd-io/etcd#12881",
        profile="rivals",
    ),
    Bug(
        name="answered before it is applied",
        file="_applier.py",
        old="        ticket = self._tickets.at(index, term)\n",
        new="        ticket = self._tickets.at(index, term)\n"
        "        if ticket is not None:\n"
        "            self._tickets.applied(ticket, outcome.Value(None))\n",
        also=(
            Change(
                "_applier.py",
                "        if ticket is not None:\n"
                "            self._tickets.applied(ticket, outcome.Value(None) "
                "if result is None else result)\n",
                "",
            ),
        ),
        story="a caller is answered when its command is committed, and not applied yet: "
        "willemt/raft#90",
    ),
    Bug(
        name="answered when it is appended",
        file="_tickets.py",
        old="            ticket.index = index\n            ticket.term = term\n",
        new="            ticket.index = index\n            ticket.term = term\n"
        "            ticket.resolve(outcome.Value(None))\n",
        story="a caller hears that its command is done when one server has it: Redis, by Jepsen",
    ),
    Bug(
        name="ticket found by index alone",
        file="_tickets.py",
        old="ticket if ticket is not None and ticket.term == term else None",
        new="ticket",
        story="a caller gets the result of another one's command: Hoverbear/old-raft-rs#115",
        directed="tests/services/test_tickets.py::test_a_command_is_found_by_index_and_term",
        unseen="lost leadership gives up whatever could be mistaken",
    ),
    Bug(
        name="caller gets another one's result",
        file="_tickets.py",
        old="ticket if ticket is not None and ticket.term == term else None",
        new="ticket",
        story="who loses leadership keeps its callers, and answers them by index alone: "
        "Hoverbear/old-raft-rs#115",
        also=(
            Change(
                "_tickets.py",
                "[index for index in self._appended if index > commit]",
                "[index for index in self._appended if index < 0]",
            ),
        ),
        profile="rivals",
    ),
    Bug(
        name="callers of a lost leader forgotten",
        file="_tickets.py",
        old="[index for index in self._appended if index > commit]",
        new="[index for index in self._appended if index < 0]",
        story="nobody tells the callers that leadership was lost: Hoverbear/old-raft-rs#115, "
        "databendlabs/openraft 43dd8b6f",
        directed="tests/services/test_tickets.py"
        "::test_lost_leadership_answers_all_but_what_is_committed",
    ),
    Bug(
        name="lost leadership told as not done",
        file="_tickets.py",
        old='self._give_up(self._appended.pop(index), cluster, "leadership was lost")',
        new="self.refuse([self._appended.pop(index)], error)",
        story="what may still be committed is told as refused, and done twice by who tries again: "
        "Hoverbear/old-raft-rs#115, fluree/db#1839",
    ),
    Bug(
        name="stop told as not done",
        file="_tickets.py",
        old='            self._give_up(ticket, cluster, "the server stopped")\n',
        new="            self._leave(ticket)\n"
        '            ticket.resolve(outcome.Error(ServerStopped("nothing was done")))\n',
        story="what a stopping leader had appended is told as not done, and is done by the next: "
        "fluree/db#1839",
        profile="rivals",
        directed="tests/server/test_commands.py"
        "::test_what_a_stopping_server_held_is_unknown_and_what_queues_is_not_done",
    ),
    Bug(
        name="incarnations are one",
        file="_rules/ids.py",
        old="    incarnation: str\n",
        new="    incarnation: str = field(eq=False, order=False)\n",
        story="a wiped disk under an old name votes and acknowledges anew: eBay/NuRaft#185, "
        "cockroachdb/cockroach#756",
        also=(
            Change(
                "_rules/ids.py", "from attrs import frozen\n", "from attrs import field, frozen\n"
            ),
        ),
        directed="tests/server/test_forming.py::test_two_wiped_disks_cannot_elect_each_other",
    ),
    Bug(
        name="wiped disk taken back in",
        file="_gate.py",
        old="        if any(one.member(hello.id) is not None for one in known):\n",
        new="        if any(one.named(name) is not None for one in known):\n",
        story="the handshake lets another incarnation of a member in: databendlabs/openraft#1535",
        directed="tests/services/test_handshake.py"
        "::test_another_incarnation_of_a_member_is_refused",
        unseen="votes are counted by incarnation, too, so it can only listen",
    ),
    Bug(
        name="genesis of others taken",
        file=_HANDSHAKE,
        old="            if (newest or genesis).member(self._me.id) is None:\n",
        new="            if (newest or genesis).named(self._me.name) is None:\n",
        story="a server joins a cluster that knows its name and another disk: "
        "cockroachdb/cockroach#756",
        directed="tests/services/test_handshake.py"
        "::test_a_genesis_that_does_not_name_the_server_is_not_taken",
        unseen="the other side refuses it first",
    ),
    Bug(
        name="genesis spoken of before it is durable",
        file=_HANDSHAKE,
        old="        await self._form(genesis)  # durable before anything is said of it\n"
        "        self.genesis = genesis\n",
        new="        self.genesis = genesis\n        await self._form(genesis)\n",
        story="a crash takes back a genesis that others have heard of, and a second one follows",
        directed="tests/server/test_forming.py"
        "::test_the_genesis_is_durable_before_anybody_hears_of_it",
        unseen="faults begin when the cluster has formed",
    ),
    Bug(
        name="copied disk not noticed",
        file="_gate.py",
        old="        before = self.hello_of(hello.id) or hello\n",
        new="        before = hello\n",
        story="two servers run on copies of one disk, and both vote: virtual machines cloned",
        directed="tests/server/test_forming.py::test_a_server_on_a_copy_of_a_disk_is_found_out",
        unseen="no disk is copied here",
    ),
    Bug(
        name="unformed server votes",
        file=_HANDSHAKE,
        old="        if hello.cluster is not None and answer.cluster is not None:\n",
        new="        if hello.cluster is not None or answer.cluster is not None:\n",
        story="a server that knows no cluster yet takes part in one: ktoso/akka-raft#58",
        also=(
            Change(
                "_core.py",
                "        if not self.takes_part:\n            return\n        match message:\n",
                "        match message:\n",
            ),
        ),
        directed="tests/server/test_forming.py"
        "::test_an_unformed_server_neither_votes_nor_acknowledges",
    ),
    Bug(
        name="messages taken before taking part",
        file="_core.py",
        old="        if not self.takes_part:\n            return\n        match message:\n",
        new="        match message:\n",
        story="requests are answered before the server knows its cluster: ktoso/akka-raft#58",
        directed="tests/planted/test_directed.py::test_a_message_before_taking_part_is_lost",
        unseen="the moment is too short for a message",
    ),
)
