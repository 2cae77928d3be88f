"""One of each thing that has a form in bytes; `golden/` holds the bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshotReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
    TimeoutNowReply,
)
from trioraft._sessions import Code
from trioraft._state import HardState
from trioraft._wire.asking import (
    Ask,
    Caller,
    Calls,
    Changes,
    ManageSession,
    ReadIndex,
    ReadIndexReply,
    Results,
    Settle,
    Told,
    WatchFrom,
    Welcome,
)
from trioraft._wire.codec import (
    Genesis,
    Hello,
    Ping,
    Pong,
    Refusal,
    WireMessage,
    configuration_data,
    encode,
    entries_of,
)
from trioraft._wire.frames import Kind, frame
from trioraft._wire.installing import SnapshotOffer, SnapshotPiece, SnapshotWanted
from trioraft._wire.stamps import stamp

GOLDEN: Final = Path(__file__).parent / "golden"

CONFIGURATION: Final = Configuration(
    "c1",
    (
        Member(ServerId("n1", "i1"), "ws://127.0.0.1:7001", ("put",)),
        Member(ServerId("n2", "i2"), "ws://127.0.0.1:7002"),
    ),
)

CHANGING: Final = Configuration(
    "c1",
    voters=(CONFIGURATION.voters[0], Member(ServerId("n3", "i3"), "ws://127.0.0.1:7003")),
    outgoing=CONFIGURATION.voters,
    learners=(Member(ServerId("n2", "i2b"), "ws://127.0.0.1:7102", ("del", "put")),),
    index=6,
)

FRAMES: Final[dict[str, bytes]] = {
    "frame_noop": frame(4, 2, Kind.NOOP, b""),
    "frame_command": frame(5, 2, Kind.COMMAND, b"hello"),
    "frame_configuration": frame(
        6, 3, Kind.CONFIGURATION, stamp(1_700_000_000.25, configuration_data(CHANGING))
    ),
}

MESSAGES: Final[dict[str, WireMessage]] = {
    "vote": RequestVote(term=7, last_log_index=300, last_log_term=6),
    "vote_transfer": RequestVote(term=7, last_log_index=300, last_log_term=6, transfer=True),
    "vote_reply": RequestVoteReply(term=7, vote_granted=True),
    "pre_vote": PreVote(term=8, last_log_index=300, last_log_term=6),
    "pre_vote_reply": PreVoteReply(term=7, asked_term=8, vote_granted=False),
    "append": AppendEntries(
        term=3,
        number=9,
        prev_log_index=3,
        prev_log_term=1,
        leader_commit=4,
        entries=entries_of(list(FRAMES.values())),
    ),
    "append_heartbeat": AppendEntries(
        term=3,
        number=10,
        prev_log_index=70000,
        prev_log_term=3,
        leader_commit=2**40,
        entries=Entries(70001, 70000),
    ),
    "append_reply": AppendEntriesReply(
        term=3,
        number=9,
        success=False,
        match_index=2,
        stickiness=0.15,
        conflict_term=2,
        conflict_index=1,
        reluctance=2,
    ),
    "hello": Hello(
        cluster="c1",
        name="n1",
        incarnation="i1",
        starts=3,
        nonce="x",
        address="ws://127.0.0.1:7001",
        version=1,
        commands=("del", "put"),
        initial=("n1", "n2"),
        expected="n2",
    ),
    "hello_unformed": Hello(
        cluster=None,
        name="n1",
        incarnation="i1",
        starts=1,
        nonce="x",
        address="ws://127.0.0.1:7001",
        version=1,
        commands=(),
    ),
    "hello_that_probes": Hello(
        cluster="c1",
        name="n1",
        incarnation="i1",
        starts=3,
        nonce="x",
        address="ws://127.0.0.1:7001",
        version=1,
        commands=("put",),
        expected="n3",
        probes=True,
        configuration=CHANGING,
    ),
    "refusal": Refusal("two servers have the name n1"),
    "refusal_for_good": Refusal("a copy of the disk of n1", ServerId("n2", "i2")),
    "genesis": Genesis(CONFIGURATION),
    "genesis_of_a_newcomer": Genesis(CONFIGURATION, CHANGING),
    "timeout_now": TimeoutNow(term=7, number=2),
    "timeout_now_withdrawn": TimeoutNow(term=7, number=2, withdrawn=True),
    "timeout_now_reply": TimeoutNowReply(term=7, number=2),
    "ping": Ping(),
    "pong": Pong(),
    "read_index": ReadIndex(7),
    "read_index_reply": ReadIndexReply(7, 300),
    "read_index_refused": ReadIndexReply(8, None),
    "caller": Caller(version=1, cluster="c1", forwards=True),
    "welcome": Welcome("c1", "n1", "n2", "ws://127.0.0.1:7002"),
    "welcome_leaderless": Welcome("c1", "n1", None, None),
    "calls": Calls(5, (b"first", b"second"), forwarded=True),
    "session": ManageSession(6, "keep", 17),
    "settle": Settle(6, 300, 7),
    "results": Results(((5, Code.VALUE, 300, 7, b"\x01"), (6, Code.NOT_LEADER, 0, 8, b""))),
    "ask": Ask(7, (b"query",), "at_least", "c1", 300),
    "ask_max_age": Ask(8, (b"query", b"other"), "max_age", seconds=0.5),
    "told": Told(7, Code.VALUE, ((Code.VALUE, b"\x01"),), "max_age", 301, 0.25),
    "told_nothing": Told(8, Code.NOT_LEADER, data=b"\x92\xc0\xc0"),
    "watch": WatchFrom(9, 300),
    "hello_to_install": Hello(
        cluster="c1",
        name="n1",
        incarnation="i1",
        starts=3,
        nonce="x",
        address="ws://127.0.0.1:7001",
        version=1,
        commands=("put",),
        expected="n2",
        restored="ab12",
        installs=True,
    ),
    "install_reply": InstallSnapshotReply(9, 300),
    "snapshot": SnapshotOffer(9, "c1", 300, 7, 1 << 30, bytes(range(32))),
    "snapshot_of_no_cluster": SnapshotOffer(9, None, 300, 7, 12, b"d"),
    "snapshot_piece": SnapshotPiece(4096, b"piece"),
    "snapshot_wanted": SnapshotWanted(4101),
    "changes": Changes(9, Code.VALUE, 305, ((301, (b"a", b"b")), (304, (b"c",)))),
}

STATES: Final[dict[str, HardState]] = {
    "state_fresh": HardState("n1", "i1"),
    "state": HardState(
        "n1",
        "i1",
        starts=4,
        stickiness=0.15,
        genesis=CONFIGURATION,
        term=9,
        voted_for=ServerId("n2", "i2"),
        listens="ws://127.0.0.1:7001",
    ),
    "state_expelled": HardState("n1", "i1", starts=5, genesis=CONFIGURATION, expelled="a copy"),
    "state_restored": HardState("n1", "i1", starts=1, term=7, restored="ab12"),
}


def golden(name: str) -> bytes:
    """The bytes that were checked in under this name."""
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text())


ENCODED: Final[dict[str, bytes]] = {name: encode(message) for name, message in MESSAGES.items()}
