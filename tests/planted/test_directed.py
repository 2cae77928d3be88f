"""Tests for planted bugs that nothing else notices: no run by chance, and no test of the parts."""

from __future__ import annotations

import pytest
import trio

from tests.rules.worlds import B, append, fed, follower, hear, leader, progress_of, refusal
from tests.server.puppets import state_on
from tests.server.worlds import TIMEOUT, a_running_cluster, in_virtual_time
from tests.storage.course import DIRECTORY, Course
from trioraft import Config, Server, WebSocketTransport
from trioraft._errors import StorageCorrupt
from trioraft._rules.effects import ElectionBy
from trioraft._rules.messages import RequestVote
from trioraft._storage import layout
from trioraft.abc import Batch
from trioraft.testing._workload import Registers

SEGMENT = f"{DIRECTORY}/0000000000000001.log"


@in_virtual_time
async def test_the_longest_stickiness_is_on_disk() -> None:
    """A restart with shorter times does not end early what was promised by the longer ones."""
    async with a_running_cluster(3) as cluster:
        assert state_on(cluster.disks["n1"]).stickiness == TIMEOUT
        quick = Config(heartbeat_interval=TIMEOUT / 30, election_timeout=TIMEOUT / 10)
        await cluster.restart("n1", config=quick)
        assert state_on(cluster.disks["n1"]).stickiness == TIMEOUT
        now = trio.current_time()
        core = cluster["n1"]._core
        await cluster.until(lambda: core.takes_part)
        assert core.node.sticky_until >= now + TIMEOUT


def test_each_sign_of_the_leader_moves_the_election_deadline() -> None:
    """Else a follower waits for the rest of an old one as well, once its leader has fallen."""
    node, _ = hear(follower(1), B, append(2, 1, 1), now=5.0)
    _, effects = hear(node, B, append(2, 1, 1, number=2), now=7.0)
    assert ElectionBy(7.0) in effects


def test_a_term_that_the_leader_lacks_is_skipped() -> None:
    """The follower has 1 1 1 2, this leader 1 3 3 3: nothing behind entry 1 can agree."""
    node, _ = fed(leader(1, 3, 3, 3), B)
    node, _ = hear(node, B, refusal(node.term, 1, conflict_term=2, conflict_index=4))
    assert progress_of(node, B).next_index == 2


def test_a_batch_of_another_segment_is_none_of_this() -> None:
    """What an older file left where this one lies now: whole, and of another salt."""
    mine, other = b"12345678", b"87654321"
    for salt, found in ((mine, [layout.DATA]), (other, [])):
        data = bytes(layout.DATA) + layout.pack_batch(salt, 1, Batch(b"the state"))
        assert [start for start, _ in layout.find_batches(data, mine)] == found
        assert (layout.check_batch(data, layout.DATA, mine) is None) == (not found)


@pytest.mark.parametrize("known", ["by the mark", "beyond the mark"])
def test_a_batch_out_of_turn_is_damage(known: str) -> None:
    """The third write of four has gone to the second one's place as well as to its own.

    All that is there is whole, and makes sense; only the numbers tell.
    """
    course = Course()
    log, _ = course.open()
    for number in range(4):
        course.write(log, Batch(b"state %d" % number))
    course.files.kill()
    whole = bytearray(course.files.contents(SEGMENT))
    _, _, (start, end), (third, stop), _ = layout.find_batches(bytes(whole), _salt(whole))
    assert end - start == stop - third
    whole[start:end] = whole[third:stop]
    if known == "beyond the mark":
        whole[layout.PAGE : layout.DATA] = bytes(2 * layout.PAGE)
    course.files.damage(SEGMENT, bytes(whole))
    with pytest.raises(StorageCorrupt):
        course.open()


def _salt(segment: bytearray) -> bytes:
    return layout.parse_header(SEGMENT, 1, bytes(segment)).salt


def test_a_message_before_taking_part_is_lost() -> None:
    """Until a server knows its cluster it has no vote to give, and no log to answer for."""
    server = Server("n1", None, WebSocketTransport("ws://127.0.0.1:7001"), Registers())
    server._core.receive(B, RequestVote(5, 0, 0))
    assert server.term == 0
    assert server.voted_for is None
