"""The sizes at which this library stops growing.  Bytes unless a name says otherwise."""

from __future__ import annotations

from typing import Final

DEFAULT_HEARTBEAT_INTERVAL: Final = 0.05
"""Seconds between two messages of an idle leader to each follower."""

DEFAULT_ELECTION_TIMEOUT: Final = 0.15
"""Seconds: a follower that hears no leader campaigns after one to two of these, drawn anew."""

LAST_TERM: Final = 1 << 48
"""A later term is nobody's: a thousand elections a second reach it in nine thousand years."""

DEFAULT_MAX_CLOCK_DRIFT: Final = 0.05
"""A fraction: how much faster another server's clock may run.  Real ones differ by 0.0002."""

MAX_LOG_ENTRIES_PER_REQUEST: Final = 2000
"""The most entries in one AppendEntries."""

NUMBER_OF_LOG_ENTRIES_AFTER_SNAPSHOT: Final = 200
"""The entries that stay in the log behind a snapshot."""

DEFAULT_SNAPSHOT_ENTRIES: Final = 100_000
"""A snapshot is taken after so many entries: they are applied again in some seconds."""

DEFAULT_SNAPSHOT_BYTES: Final = 1 << 26
"""A snapshot is taken after so many bytes of entries."""

MAX_COMMAND_BYTES: Final = 1 << 20
"""The largest encoded command."""

MAX_NESTING: Final = 64
"""How deep lists and maps may be nested in a command or a query."""

MAX_APPEND_BYTES: Final = 1 << 19
"""An AppendEntries carries no more entries than fit in this, but always one; nor is a piece of a
snapshot larger."""

MAX_MESSAGE_BYTES: Final = 1 << 21
"""The largest message between servers; holds one entry of the largest command and its envelope."""

MAX_PENDING_COMMANDS: Final = 8192
"""The most commands that wait for their results at one server; others wait in front."""

MAX_PENDING_BYTES: Final = 1 << 26
"""The most encoded bytes of commands that wait for their results at one server."""

MAX_CALLS_PER_MESSAGE: Final = 2000
"""The most commands or queries in one message of a client."""

MAX_PENDING_QUERIES: Final = 8192
"""The most queries of one client that wait for their answers at one server."""

MAX_CLIENT_COMMANDS: Final = 4096
"""The most commands of one client that are under way; others wait in front."""

MAX_CLIENT_BYTES: Final = 1 << 25
"""The most encoded bytes of one client's commands that are under way."""

MAX_WATCHES: Final = 256
"""The most watches of one client at one server."""

MAX_ANSWERS_BYTES: Final = 1 << 24
"""The most that the queries of one message may be answered with; the rest is told to come again."""

APPEND_WINDOW: Final = 4
"""The most AppendEntries with entries that are unanswered at one follower."""

LOG_CACHE_BYTES: Final = 1 << 23
"""How much of the log's end stays in memory beyond what is not durable yet."""

LATE_LOG_BYTES: Final = 1 << 28
"""How much log is kept for live followers that are late, or a snapshot's size if that is more."""

SNAPSHOT_BYTES_PER_SECOND: Final = 1 << 26
"""How fast a snapshot is sent at most, so that the followers that are up to date notice nothing."""

LINK_QUEUE_MESSAGES: Final = 64
"""The most messages that wait for one link; the oldest is dropped, as a network would."""

MAX_CHANGES_BYTES: Final = 1 << 23
"""How much of what changed last a server keeps for those who watch."""

MAX_WATCH_BYTES: Final = 1 << 18
"""The changes in one message to a watcher; more come with the next one, but always one entry's."""

MAX_CALLERS: Final = {False: 512, True: 64}
"""The most clients of one server, and the most servers that forward what theirs ask; the other
connections are left to servers and to HTTP."""

MAX_CONNECTIONS: Final = 1024
"""The most incoming connections at a time."""

# What follows is part of the replicated state: it must be the same on every server.

SESSION_SECONDS: Final = 3600.0
"""Cluster time without a sign of life after which a client's session expires."""

MAX_SESSIONS: Final = 4096
"""The most sessions; who was silent for longest makes way for a new one."""

MAX_SESSION_BYTES: Final = 1 << 26
"""The most bytes of results that are remembered for retries, all sessions together."""

SESSION_WINDOW: Final = 8192
"""How many commands back a retry is still known by its session."""

MAX_RESULT_BYTES: Final = 1 << 20
"""The largest encoded result of a session's command."""

MAX_ERROR_CHARACTERS: Final = 4000
"""How much of an error's text is kept and sent."""

MAX_ENTRY_CHANGES_BYTES: Final = 1 << 20
"""The most that one entry may announce: it leaves in one message to each watcher."""

MAX_CONFIGURATION_BYTES: Final = 128 << 10
"""The largest description of all members, while they change: each Hello carries it."""
