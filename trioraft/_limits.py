"""The sizes at which this library stops growing.  Bytes unless a name says otherwise."""

from __future__ import annotations

from typing import Final

DEFAULT_HEARTBEAT_INTERVAL: Final = 0.05
"""Seconds between two messages of an idle leader to each follower."""

DEFAULT_ELECTION_TIMEOUT: Final = 0.15
"""Seconds: a follower that hears no leader campaigns after one to two of these, drawn anew."""

DEFAULT_MAX_CLOCK_DRIFT: Final = 0.05
"""A fraction: how much faster another server's clock may run.  Real ones differ by 0.0002."""

MAX_LOG_ENTRIES_PER_REQUEST: Final = 2000
"""The most entries in one AppendEntries."""

NUMBER_OF_LOG_ENTRIES_AFTER_SNAPSHOT: Final = 200
"""The entries that stay in the log behind a snapshot."""

MAX_COMMAND_BYTES: Final = 1 << 20
"""The largest encoded command."""

MAX_APPEND_BYTES: Final = 1 << 19
"""An AppendEntries carries no more entries than fit in this, but always one."""

MAX_MESSAGE_BYTES: Final = 1 << 21
"""The largest message between servers; holds one entry of the largest command and its envelope."""

MAX_PENDING_COMMANDS: Final = 8192
"""The most commands that wait for their results at one server; others wait in front."""

MAX_PENDING_BYTES: Final = 1 << 26
"""The most encoded bytes of commands that wait for their results at one server."""

APPEND_WINDOW: Final = 4
"""The most AppendEntries with entries that are unanswered at one follower."""

LOG_CACHE_BYTES: Final = 1 << 26
"""How much of the log's end stays in memory beyond what is not applied yet."""

LINK_QUEUE_MESSAGES: Final = 64
"""The most messages that wait for one link; the oldest is dropped, as a network would."""

MAX_CONNECTIONS: Final = 1024
"""The most incoming connections at a time."""
