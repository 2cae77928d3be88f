"""Speak after disk."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from trioraft._outbox import Outbox
from trioraft._rules.effects import Send
from trioraft._rules.ids import ServerId
from trioraft._rules.messages import RequestVote

N2 = ServerId("n2", "i2")


def send(number: int, after: int = 0) -> Send:
    return Send(N2, RequestVote(number, 0, 0), after)


def test_what_rests_on_no_write_leaves_at_once() -> None:
    posted: list[Send] = []
    outbox = Outbox(posted.append)
    outbox.send(send(1))
    assert posted == [send(1)]


def test_what_rests_on_a_write_leaves_when_it_is_durable() -> None:
    posted: list[Send] = []
    outbox = Outbox(posted.append)
    outbox.send(send(1, after=3))
    outbox.release(2)
    assert posted == []
    outbox.release(3)
    assert posted == [send(1, after=3)]
    outbox.release(4)
    assert len(posted) == 1


def test_what_the_disk_already_has_passes_what_waits() -> None:
    posted: list[Send] = []
    outbox = Outbox(posted.append)
    outbox.release(2)
    outbox.send(send(1, after=3))
    outbox.send(send(2, after=2))
    assert posted == [send(2, after=2)]


def test_what_waits_leaves_in_the_order_in_which_it_was_said() -> None:
    posted: list[Send] = []
    outbox = Outbox(posted.append)
    for number, after in enumerate([1, 2, 2, 5, 3]):
        outbox.send(send(number, after))
    outbox.release(2)
    assert [message.message.term for message in posted] == [0, 1, 2]
    outbox.release(3)
    assert len(posted) == 3, "the last one was said behind one that still waits"
    outbox.release(9)
    assert [message.message.term for message in posted] == [0, 1, 2, 3, 4]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=40))
@settings(deadline=None)
def test_nothing_leaves_early_nothing_is_lost_and_nothing_is_said_twice(
    turns: list[tuple[bool, int]],
) -> None:
    done, asked, said, posted = 0, 0, [], []

    def post(message: Send) -> None:
        assert message.after <= done
        posted.append(message)

    outbox = Outbox(post)
    for number, (releases, more) in enumerate(turns):
        if releases:
            done = min(asked, done + more)
            outbox.release(done)
        else:
            asked += more
            said.append(send(number, asked if more % 2 else done))
            outbox.send(said[-1])
    done = asked
    outbox.release(done)
    assert sorted(posted, key=lambda m: m.message.term) == said
    held = [message for message in posted if message.after]
    assert held == sorted(held, key=lambda m: m.after)
