"""Bugs of changing members and of handing over, planted in what carries out the rules."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug, Change

_VERBS: Final = "_administration.py"
_FOLLOWS: Final = "_membership.py"
_GATE: Final = "_gate.py"
_HANDSHAKE: Final = "_handshake.py"
_PEERS: Final = "_transport/peers.py"
_CHANGES: Final = "tests/server/test_membership.py"
_CATCHES_UP: Final = "tests/server/test_catching_up.py"
_IDENTITY: Final = "tests/server/test_identity.py"
_LINKS: Final = "tests/services/test_peers.py"
_WELCOME: Final = "tests/services/test_gate.py"
_ENDS: Final = "tests/services/test_membership.py"

MEMBERSHIP_SERVICES: Final = (
    Bug(
        name="newcomer votes at once",
        file=_VERBS,
        old="            if progress.match_index >= target:\n",
        new="            if progress.match_index >= 0:\n",
        story="an empty server is made a voter, and the cluster waits for it: goraft; thesis 4.2.1",
        directed=f"{_CATCHES_UP}"
        "::test_g45_until_it_has_caught_up_it_is_a_learner_and_costs_nothing",
    ),
    Bug(
        name="silent newcomer waited for",
        file=_VERBS,
        old="            if now >= progress.answered_at + _SILENCE * self._patience:\n",
        new="            if now < began:\n",
        story="adding a server that has died never ends, and keeps the log for it: goraft",
        directed=f"{_CATCHES_UP}"
        "::test_one_that_stops_answering_while_it_catches_up_is_taken_out_again",
    ),
    Bug(
        name="all newcomers taken out for one",
        file="_changing.py",
        old="tuple(member for member in old.learners if member.id != learner)",
        new="()",
        story="one of several does not answer, and those that do are thrown out as well",
        directed=f"{_CATCHES_UP}::test_of_several_only_the_silent_one_is_taken_out_again",
    ),
    Bug(
        name="change told before it is committed",
        file=_VERBS,
        old="            is_over = not configuration.outgoing and index <= configuration.index"
        " <= node.commit\n",
        new="            is_over = not configuration.outgoing and index <= configuration.index\n",
        story="the caller hears of success when one server has it, and another one cuts it",
        directed=f"{_CHANGES}::test_a_change_that_no_majority_has_is_not_told_as_done",
    ),
    Bug(
        name="change of another term told as one's own",
        file=_VERBS,
        old="            is_ours = found == term or node.tenure == tenure\n",
        new="            is_ours = True\n",
        story="the change was cut, another leader's stands in its place, and the caller hears of "
        "success: etcd-io/etcd, the answer by index alone",
        directed=f"{_CHANGES}::test_a_change_that_was_cut_is_not_told_as_done",
    ),
    Bug(
        name="expected configuration not looked at",
        file=_VERBS,
        old="        if expected not in (None, configuration.index):\n",
        new="        if expected is None and configuration.index < 0:\n",
        story="two administrators overwrite each other's change: no compare and set",
        directed=f"{_CHANGES}::test_a_change_of_another_configuration_than_expected_is_refused",
    ),
    Bug(
        name="address taken unseen",
        file=_VERBS,
        old="            if found.id != member.id:\n",
        new="            if found.id.name != member.id.name:\n",
        story="an address counts though another server answers there, by the name alone",
        directed=f"{_CHANGES}::test_an_address_counts_only_once_its_member_was_reached_there",
    ),
    Bug(
        name="claimed address written down",
        file=_VERBS,
        old="        is_there = link.address == hello.address\n",
        new="        is_there = True\n",
        story="what a server says of its own address is believed before anybody has been there",
        directed=f"{_CHANGES}::test_an_address_that_a_member_only_claims_is_not_written_down",
    ),
    Bug(
        name="living member replaced by its namesake",
        file=_VERBS,
        old="        if present is not None and link is not None and link.peer == present.id:\n",
        new="        if present is not None and link is not None and link.peer == new.id:\n",
        story="a second server of one name throws out the first one, which is well",
        directed=f"{_IDENTITY}::test_who_answers_is_not_replaced_by_another_one_of_its_name",
    ),
    Bug(
        name="removed by what may yet be cut",
        file=_FOLLOWS,
        old="            and max(node.configuration.index, self.invited) <= node.commit\n",
        new="            and self.invited <= max(node.commit, node.configuration.index)\n",
        story="a server ends itself for an entry that was never committed: hashicorp/raft#524",
        directed=f"{_ENDS}::test_who_is_left_out_ends_once_that_is_committed",
    ),
    Bug(
        name="removed by what was long ago",
        file=_FOLLOWS,
        old="        self.invited = max(self.invited, index)\n",
        new="        self.invited = max(self.invited, 0)\n",
        story="who is taken in again reads of its earlier removal, and ends: goraft",
        directed=f"{_ENDS}::test_who_catches_up_is_not_removed_by_what_was_long_ago",
    ),
    Bug(
        name="leaver cut off before it knows",
        file=_FOLLOWS,
        old="(name in newest.names or member.id in node.followers)",
        new="name in newest.names",
        story="the stream to who is removed ends before it has the entry that says so, and it "
        "campaigns for ever: influxdata/influxdb#872",
        directed=f"{_ENDS}::test_a_leader_keeps_one_to_who_leaves_until_that_one_knows_it",
    ),
    Bug(
        name="removed server told by nobody",
        file=_FOLLOWS,
        old="            if self._was_out and not was_out:\n",
        new="            if self._was_out and not was_out and after.configuration is"
        " before.configuration:\n",
        story="who hears of its removal and of the commitment at once hangs about for ever",
        directed=f"{_ENDS}::test_another_incarnation_under_its_name_leaves_it_out",
    ),
    Bug(
        name="stream kept to who has left",
        file=_PEERS,
        old="            self.links.pop(name).scope.cancel()\n",
        new="            self.links.pop(name)\n",
        story="a removed server is dialled for ever: RedisLabs/redisraft bec180f",
        directed=f"{_LINKS}::test_a_stream_comes_with_a_member_and_goes_with_it",
    ),
    Bug(
        name="one address for ever",
        file=_PEERS,
        old="        return usable[failures % len(usable)] if usable else link.address\n",
        new="        return usable[0] if usable else link.address\n",
        story="a hint that leads astray hides the address that the cluster knows: goraft",
        directed=f"{_LINKS}::test_where_one_address_fails_the_next_one_is_tried",
    ),
    Bug(
        name="stranger's word expels",
        file=_PEERS,
        old="            if self._handshake.gate.knows(message.expelled_by):\n",
        new="            if message.expelled_by is not None:\n",
        story="whoever answers at a member's address ends a server for good",
        directed=f"{_LINKS}::test_only_a_members_word_expels",
        also=(
            Change(
                _HANDSHAKE,
                "                if self.gate.knows(expelled_by):\n",
                "                if expelled_by is not None:\n",
            ),
        ),
    ),
    Bug(
        name="expelled server listened to",
        file=_PEERS,
        old="        if self._handshake.gate.is_banned(peer):\n",
        new="        if self._handshake.gate.is_banned(None):\n",
        story="who has lost what it had promised goes on asking for votes over its old stream",
        directed=f"{_LINKS}::test_nothing_that_an_expelled_one_says_is_believed",
    ),
    Bug(
        name="two processes of one disk",
        file=_PEERS,
        old="        if link.conversation is not None and await link.conversation.answers():\n",
        new="        if link.conversation is None:\n",
        story="a copy of a disk takes the place of the server that answers, and both vote",
        directed=f"{_LINKS}::test_who_lives_twice_is_refused_while_the_first_one_answers",
    ),
    Bug(
        name="old configuration proves membership",
        file=_GATE,
        old="        and shown.index > committed.index\n",
        new="        and shown.index > 0\n",
        story="a server that was removed comes back by showing what was in force before",
        directed=f"{_WELCOME}::test_an_older_one_proves_nothing",
    ),
    Bug(
        name="members shown by anybody are believed",
        file=_GATE,
        old="            and any(self.knows(member.id) for member in shown.members)\n",
        new="",
        story="a stranger learns the incarnation of a member, and passes for it from then on",
        directed="tests/server/test_forming.py"
        "::test_no_incarnation_is_told_to_who_shows_members_that_are_none",
    ),
    Bug(
        name="what was never committed makes others old",
        file=_GATE,
        old="        shown = _newer(hello, known[0])\n",
        new="        shown = _newer(hello, known[-1])\n",
        also=(
            Change(
                _GATE,
                "hello.name, _newer(hello, known[0]), known[-1].cluster\n",
                "hello.name, _newer(hello, known[-1]), known[-1].cluster\n",
            ),
        ),
        story="a leader that was cut off and has appended much hears of no newer leader",
        directed=f"{_WELCOME}::test_what_was_never_committed_does_not_make_a_newer_one_look_old",
    ),
    Bug(
        name="who is being removed waits already",
        file=_FOLLOWS,
        old="        is_named = any(one.member(me) is not None for one in known)\n",
        new="        is_named = known[-1].member(me) is not None\n",
        story="a stranger learns the incarnation of a member whose removal is cut then",
        directed=f"{_ENDS}::test_a_member_whose_removal_may_yet_be_cut_does_not_wait",
    ),
    Bug(
        name="lagging member deaf to a newer one",
        file=_GATE,
        old="            self._invited(shown.index)\n            return None\n",
        new="            self._invited(shown.index)\n",
        story="who lags refuses a leader that was taken in meanwhile, and never catches up: "
        "etcd-io/etcd#10998",
        directed=f"{_WELCOME}"
        "::test_who_is_named_by_a_newer_configuration_is_heard_by_those_it_names",
    ),
    Bug(
        name="genesis taken by who was left out",
        file=_HANDSHAKE,
        old="            if (newest or genesis).member(self._me.id) is None:\n",
        new="            if genesis.member(self._me.id) is None and newest is None:\n",
        story="whoever is handed a genesis counts itself in, though no configuration names it",
        directed=f"{_WELCOME}"
        "::test_a_genesis_with_a_newest_that_leaves_the_newcomer_out_is_not_taken",
    ),
    Bug(
        name="foreign snapshot taken in",
        file=_HANDSHAKE,
        old="            if self._me.restored and genesis.member(self._me.id) is None:\n",
        new="            if self._me.restored and genesis.member(self._me.id) is not None:\n",
        story="a newcomer brings a state of its own, and the replicas differ from then on",
        directed=f"{_WELCOME}::test_who_starts_from_a_snapshot_of_its_own_is_not_taken_in",
        also=(
            Change(
                _HANDSHAKE,
                "        if answer.cluster is None and answer.restored:\n",
                "        if answer.cluster is not None and answer.restored:\n",
            ),
        ),
    ),
    Bug(
        name="expulsion forgotten",
        file="_server.py",
        old="        if state.expelled:\n",
        new="        if state.expelled and state.genesis is None:\n",
        story="a disk that has lost what it had acknowledged votes again after the next start",
        directed=f"{_IDENTITY}::test_a_disk_that_has_lost_what_it_acknowledged_is_found_out",
    ),
)
