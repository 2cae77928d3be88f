"""Bugs of sessions and clients: what is done twice, told wrongly, or not told at all."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug, Change

_TABLE: Final = "_sessions.py"
_CLIENT: Final = "_client/client.py"
_TESTS: Final = "tests/client/test_outcomes.py::"
_CLUSTERS: Final = "tests/client/test_clusters.py::"
_SESSIONS: Final = "tests/services/test_sessions.py::"

SESSIONS: Final = (
    Bug(
        name="duplicate applied again",
        file="_applier.py",
        old="        if found is not None:\n            return found\n",
        new="        if found is not None and found.code is not Code.VALUE:\n"
        "            return found\n",
        story="a retry is done once more: etcd has no sessions, and says so; LogCabin has them",
    ),
    Bug(
        name="command below the lowest applied",
        file=_TABLE,
        old="        if sequence < session.lowest or sequence in session.dropped:\n",
        new="        if sequence in session.dropped:\n",
        story="a late copy of a command whose result was dropped is done again",
        directed=_SESSIONS + "test_a_command_below_the_lowest_unanswered_one_is_never_applied",
        profile="disorder",
        unseen="a client asks for nothing again that it has heard of",
    ),
    Bug(
        name="command with a dropped result applied",
        file=_TABLE,
        old="        if sequence < session.lowest or sequence in session.dropped:\n",
        new="        if sequence < session.lowest:\n",
        story="a retry of a command whose result took too many bytes is done again",
        directed=_SESSIONS + "test_results_are_dropped_from_who_was_silent_for_longest",
        unseen="no run has so many results",
    ),
    Bug(
        name="sessions expire by the server's own clock",
        file="_applier.py",
        old="        self.sessions.expire(time)\n",
        new="        self.sessions.expire(time + trio.current_time() % 7 * 1000)\n",
        story="servers disagree on which sessions there are, and so on what they apply: "
        "the thesis, 6.3, warns of it",
    ),
    Bug(
        name="sessions never expire",
        file=_TABLE,
        old="session.used_at + session.seconds >= time:",
        new="session.used_at + session.seconds >= 0:",
        story="who has gone is remembered for ever",
        directed=_SESSIONS + "test_a_session_expires_by_the_time_of_entries_and_only_behind_it",
        unseen="no run lasts an hour",
    ),
    Bug(
        name="unknown session created",
        file=_TABLE,
        old="        if session is None:\n            return Reply(Code.EXPIRED, index, term)\n",
        new="        if session is None:\n"
        "            session = self._sessions[call.session] = _Session(3600.0, time)\n",
        story="a command of an expired session is done again by a session that knows nothing of "
        "it: the thesis, 6.3",
        directed=_SESSIONS + "test_an_unknown_session_is_expired_and_never_created",
        unseen="no session expires within a run",
    ),
    Bug(
        name="result of another command of the session",
        file=_TABLE,
        old="        return session.kept.get(sequence)\n",
        new="        known = sequence in session.kept\n"
        "        return next(reversed(session.kept.values())) if known else None\n",
        story="only the newest result is remembered, and told to every retry: pipelined commands "
        "against a table of `<= last`",
        directed=_SESSIONS
        + "test_pipelined_commands_may_arrive_in_any_order_and_each_is_applied_once",
    ),
    Bug(
        name="commands below the newest taken for duplicates",
        file=_TABLE,
        old="        if lowest <= sequence - SESSION_WINDOW:\n",
        new="        lowest = sequence\n        if lowest <= sequence - SESSION_WINDOW:\n",
        story="duplicates are found by `<= last`, so that a pipelined command that comes late is "
        "never done",
        directed=_SESSIONS
        + "test_pipelined_commands_may_arrive_in_any_order_and_each_is_applied_once",
    ),
    Bug(
        name="lowest beyond an unanswered command",
        file="_client/session.py",
        old="        return next(iter(self.unanswered), self.newest + 1)\n",
        new="        return self.newest\n",
        story="a client gives up what it still waits for, and never hears of it",
        directed=_TESTS + "test_an_unanswered_command_holds_the_lowest_back",
    ),
    Bug(
        name="retry under a new sequence",
        file=_CLIENT,
        old="                    surely_not = False\n",
        new="                    if fresh:\n                        raise _NeverSent\n",
        story="a client that has lost its leader asks for the same thing as for another one",
        directed=_TESTS + "test_it_asks_again_under_the_same_sequence",
    ),
    Bug(
        name="busy after an attempt told as not done",
        file=_CLIENT,
        old="                case Code.BUSY if surely_not:\n",
        new="                case Code.BUSY:\n",
        story="the second server is busy, the first one has appended it: told as not done",
        directed=_TESTS + "test_what_may_have_been_done_is_never_told_as_not_done",
        unseen="no run brings so many commands that a server is busy",
    ),
    Bug(
        name="rejected after an attempt told as not done",
        file=_CLIENT,
        old="        if reply.code is Code.REJECTED and not surely_not:\n",
        new="        if reply.code is Code.VALUE and not surely_not:\n",
        story="the second server knows no such command, the first one has appended it",
        directed=_TESTS + "test_what_may_have_been_done_is_never_told_as_not_done",
        unseen="all servers of a simulation know the same commands",
    ),
    Bug(
        name="expired after an attempt sent anew",
        file=_CLIENT,
        old="                case Code.EXPIRED | Code.FORGOTTEN if surely_not:\n",
        new="                case Code.EXPIRED | Code.FORGOTTEN if fresh:\n",
        story="what an expired session may have done is done again in the next one",
        directed=_TESTS + "test_an_expired_session_is_unknown_for_what_may_have_been_done",
        unseen="no session expires within a run",
    ),
    Bug(
        name="what was on its way forgotten",
        file="_client/line.py",
        old="        for asked in sent:\n            asked.answer(_LOST)\n",
        new="",
        story="the line breaks, and nobody tells those who wait for an answer: they wait for ever",
        directed=_TESTS + "test_it_asks_again_under_the_same_sequence",
        unseen="callers there give up after a second, as if that were the network's fault",
    ),
    Bug(
        name="what was on its way told as not sent",
        file="_client/line.py",
        old="            asked.answer(_LOST)\n",
        new="            asked.answer(_UNSENT)\n",
        story="the line breaks, and what has left is told as if it had not",
        directed=_TESTS + "test_what_may_have_been_done_is_never_told_as_not_done",
        unseen="clients ask again, under the same sequence, whatever they are told",
    ),
    Bug(
        name="forwarded on and on",
        file="_front.py",
        old="        if forwarded or self.core.node.leader is None:\n",
        new="        if self.core.node.leader is None:\n",
        story="two servers that take each other for the leader forward to and fro",
        directed="tests/client/test_hostile_clients.py"
        "::test_what_was_forwarded_is_forwarded_no_further",
        unseen="a client hears in the end, and asks again",
    ),
    Bug(
        name="forwarder asks again by itself",
        file="_forwarding.py",
        old="            self._bytes -= len(data)\n            tell(reply)\n",
        new="            self._bytes -= len(data)\n"
        "            if reply.code is Code.UNKNOWN:\n"
        "                return self.forward(ask, data, tell)\n"
        "            tell(reply)\n",
        story="a server retries for its callers, whose commands may have no session: done twice",
        directed=_CLUSTERS + "test_a_command_without_a_session_is_forwarded_once",
        unseen="callers from outside have sessions there",
    ),
    Bug(
        name="watch skips an entry",
        file="_client/watching.py",
        old="        self._fetched = max(index, before)\n",
        new="        self._fetched = max(index, before) + 1\n",
        story="the page behind the last one begins an entry too late",
        directed=_TESTS + "test_a_watch_goes_on_where_it_was_whatever_comes_between",
        unseen="nobody watches there",
    ),
    Bug(
        name="watch tells an entry twice",
        file="_changes.py",
        old="            if change[0] <= index:\n",
        new="            if change[0] < index:\n",
        story="the page behind the last one begins an entry too early",
        directed="tests/services/test_changes.py"
        "::test_all_changes_of_an_entry_come_together_and_entries_without_changes_are_none",
        unseen="nobody watches there",
    ),
    Bug(
        name="watch skips what had no room",
        file="_desk.py",
        old="            upto = seen if all_told else changes[-1][0]\n",
        new="            upto = seen\n",
        story="a watcher is sent on to the end of the log though its page did not get so far",
        directed=_CLUSTERS + "test_a_long_way_is_told_page_by_page",
        unseen="nobody watches there",
    ),
    Bug(
        name="changes of a duplicate announced",
        file="_applier.py",
        old="        if found is not None:\n            return found\n",
        new="        if found is not None:\n"
        "            self.changes.append(entry.index, (data,))\n            return found\n",
        story="watchers are told of what has not been done again",
        directed=_CLUSTERS + "test_a_retried_command_announces_once",
        unseen="nobody watches there",
    ),
    Bug(
        name="errors not remembered for the retry",
        file="_applier.py",
        old="        self.sessions.keep(call, reply)\n",
        new="        if reply.code is Code.VALUE:\n            self.sessions.keep(call, reply)\n",
        story="what has raised is done again by each retry",
        directed=_CLUSTERS + "test_what_a_command_came_to_is_told_again_to_whoever_has_its_handle",
    ),
    Bug(
        name="retry told another entry",
        file=_TABLE,
        old="        return session.kept.get(sequence)\n",
        new="        kept = session.kept.get(sequence)\n"
        "        return kept and Reply(kept.code, index, term, kept.data)\n",
        story="a retry is told that it was done where it only stood again",
        directed=_SESSIONS
        + "test_a_retry_is_told_what_the_first_one_came_to_with_its_index_and_term",
    ),
    Bug(
        name="token moved by what may never be",
        file=_CLIENT,
        old="            if reply.code in _APPLIED:\n",
        new="            if reply.index:\n",
        story="the token names an entry that another leader may cut",
        directed=_TESTS + "test_an_unknown_outcome_moves_no_token",
        unseen="a run reads at least what was seen, and others go on writing",
    ),
    Bug(
        name="idle client not kept alive",
        file=_CLIENT,
        old='                self._took_part(session.id, await self._manage("keep", session.id))\n',
        new="                self._active_at = self._clock.now()\n",
        story="a client that only reads finds that its handles are worth nothing",
        directed=_CLUSTERS + "test_a_session_lives_as_long_as_its_client",
        unseen="no session expires within a run",
    ),
    Bug(
        name="endless error text",
        file="_applier.py",
        old="    cut = [part[:MAX_ERROR_CHARACTERS] for part in (name, message)]\n",
        new="    cut = [name, message]\n",
        story="a result that fits in no message ends every server that has to send it",
        directed="tests/client/test_hostile_clients.py"
        "::test_errors_with_odd_texts_are_results_like_others",
        unseen="no machine there says so much",
        also=(Change("_applier.py", "from trioraft._limits import MAX_ERROR_CHARACTERS\n", ""),),
    ),
)
"""What the sessions, the clients and those who stand between them may get wrong."""
