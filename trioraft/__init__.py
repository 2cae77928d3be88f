"""Raft consensus for Trio: typed commands, a durable log, structured concurrency."""

import logging as _logging

from trioraft._client.client import Client as Client
from trioraft._client.client import Pending as Pending
from trioraft._client.opening import open_client as open_client
from trioraft._client.watching import Change as Change
from trioraft._client.watching import Watch as Watch
from trioraft._commands import Applied as Applied
from trioraft._commands import Command as Command
from trioraft._commands import Query as Query
from trioraft._commands import command as command
from trioraft._commands import query as query
from trioraft._config import Config as Config
from trioraft._errors import Busy as Busy
from trioraft._errors import CommandError as CommandError
from trioraft._errors import CommandFailed as CommandFailed
from trioraft._errors import CommandRejected as CommandRejected
from trioraft._errors import Compacted as Compacted
from trioraft._errors import Expelled as Expelled
from trioraft._errors import InternalError as InternalError
from trioraft._errors import LeaseLost as LeaseLost
from trioraft._errors import MembershipError as MembershipError
from trioraft._errors import NotLeaderError as NotLeaderError
from trioraft._errors import Outcome as Outcome
from trioraft._errors import OutcomeUnknown as OutcomeUnknown
from trioraft._errors import ProtocolError as ProtocolError
from trioraft._errors import ResultLost as ResultLost
from trioraft._errors import ServerStopped as ServerStopped
from trioraft._errors import SessionExpired as SessionExpired
from trioraft._errors import StorageCorrupt as StorageCorrupt
from trioraft._errors import StorageError as StorageError
from trioraft._errors import StorageLocked as StorageLocked
from trioraft._errors import TransferFailed as TransferFailed
from trioraft._errors import TrioraftError as TrioraftError
from trioraft._events import Commit as Commit
from trioraft._events import ElectionTimeoutThreshold as ElectionTimeoutThreshold
from trioraft._events import EventsMissed as EventsMissed
from trioraft._events import Heartbeat as Heartbeat
from trioraft._events import HeartbeatMissed as HeartbeatMissed
from trioraft._events import LeaderChange as LeaderChange
from trioraft._events import PeerAdded as PeerAdded
from trioraft._events import PeerCatchingUp as PeerCatchingUp
from trioraft._events import PeerRemoved as PeerRemoved
from trioraft._events import ServerEvent as ServerEvent
from trioraft._events import StateChange as StateChange
from trioraft._events import TermChange as TermChange
from trioraft._leadership import Leadership as Leadership
from trioraft._limits import DEFAULT_ELECTION_TIMEOUT as DEFAULT_ELECTION_TIMEOUT
from trioraft._limits import DEFAULT_HEARTBEAT_INTERVAL as DEFAULT_HEARTBEAT_INTERVAL
from trioraft._limits import MAX_LOG_ENTRIES_PER_REQUEST as MAX_LOG_ENTRIES_PER_REQUEST
from trioraft._limits import (
    NUMBER_OF_LOG_ENTRIES_AFTER_SNAPSHOT as NUMBER_OF_LOG_ENTRIES_AFTER_SNAPSHOT,
)
from trioraft._reads import Answer as Answer
from trioraft._reads import Anything as Anything
from trioraft._reads import AtLeast as AtLeast
from trioraft._reads import Consistency as Consistency
from trioraft._reads import Lease as Lease
from trioraft._reads import Linearizable as Linearizable
from trioraft._reads import MaxAge as MaxAge
from trioraft._reads import Token as Token
from trioraft._server import Server as Server
from trioraft._status import PeerStatus as PeerStatus
from trioraft._status import Status as Status
from trioraft._storage.snapshots import SnapshotDirectory as SnapshotDirectory
from trioraft._transport.websocket import WebSocketTransport as WebSocketTransport
from trioraft._wire.frames import Entry as Entry

_logging.getLogger("trioraft").addHandler(_logging.NullHandler())
