"""The log as runs of terms, against a plain list; and the seed's tests of its log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.worlds import B, append, entries, follower, hear, log_of, sent, terms_of, these
from trioraft._errors import InternalError
from trioraft._rules import effects as do
from trioraft._rules.log import Entries, Log

TERMS = st.lists(st.integers(1, 5), max_size=12).map(sorted)


def listed(some: Entries) -> list[int]:
    """The entries' terms, one by one."""
    within = Log(some.runs, some.last)
    found = [within.term_at(index) for index in range(some.first, some.last + 1)]
    assert None not in found
    return found  # type: ignore[return-value]


# -- against a list ----------------------------------------------------------------------------


@given(TERMS)
def test_terms_are_those_of_the_list(terms: list[int]) -> None:
    log = log_of(*terms)
    assert terms_of(log) == terms
    assert log.last_index == len(terms)
    assert log.last_term == (terms[-1] if terms else 0)
    assert log.term_at(0) == 0
    assert log.term_at(-1) is None
    assert log.term_at(len(terms) + 1) is None
    assert len(log.runs) == len(set(terms)), "one run for each term"


@given(TERMS)
def test_equal_lists_are_equal_logs_however_they_came_about(terms: list[int]) -> None:
    one_by_one = Log()
    for index, term in enumerate(terms, 1):
        one_by_one = one_by_one.extended(entries(index, term))
    assert one_by_one == log_of(*terms)
    assert hash(one_by_one) == hash(log_of(*terms))


@given(TERMS, st.integers(0, 14))
def test_cut(terms: list[int], kept: int) -> None:
    assert log_of(*terms).cut(kept) == log_of(*terms[:kept])


@given(TERMS, TERMS)
def test_extended(terms: list[int], more: list[int]) -> None:
    more = [term + 4 for term in more]  # sometimes the term goes on, sometimes a new one begins
    terms = [term for term in terms if not more or term <= more[0]]
    assert terms_of(log_of(*terms).extended(entries(len(terms) + 1, *more))) == terms + more


@given(TERMS.filter(bool), st.data())
def test_first_of_term_at(terms: list[int], data: st.DataObject) -> None:
    index = data.draw(st.integers(1, len(terms)))
    assert log_of(*terms).first_of_term_at(index) == terms.index(terms[index - 1]) + 1


@given(TERMS, st.integers(0, 6))
def test_last_not_above(terms: list[int], term: int) -> None:
    assert log_of(*terms).last_not_above(term) == sum(found <= term for found in terms)


@given(TERMS.filter(bool), st.data())
def test_between(terms: list[int], data: st.DataObject) -> None:
    first = data.draw(st.integers(1, len(terms)))
    last = data.draw(st.integers(first - 1, len(terms)))
    some = log_of(*terms).between(first, last)
    assert (some.first, some.last, len(some)) == (first, last, last - first + 1)
    assert listed(some) == terms[first - 1 : last]


@given(TERMS, st.integers(1, 5), st.integers(1, 20))
def test_since(terms: list[int], first: int, index: int) -> None:
    some = entries(first, *terms)
    rest = some.since(index)
    left = terms[max(0, index - first) :]
    assert listed(rest) == left
    assert list(rest.frames) == list(some.frames[len(terms) - len(left) :])
    if left:
        assert rest == entries(max(first, index), *left)
    assert rest.first == max(first, min(index, some.last + 1))


@given(TERMS, TERMS, st.data())
def test_first_conflict(mine: list[int], theirs: list[int], data: st.DataObject) -> None:
    first = data.draw(st.integers(1, min(len(mine), len(theirs)) + 1))
    wanted = next(
        (
            index
            for index in range(first, min(len(mine), len(theirs)) + 1)
            if mine[index - 1] != theirs[index - 1]
        ),
        None,
    )
    some = log_of(*theirs).between(first, len(theirs))
    assert log_of(*mine).first_conflict(some) == wanted


# -- behind a base, against a list that has forgotten nothing ----------------------------------


@st.composite
def forgetful(draw: st.DrawFn) -> tuple[list[int], int]:
    """The terms of all entries there ever were, and how many of them are gone."""
    terms = draw(TERMS)
    return terms, draw(st.integers(0, len(terms)))


def behind(base: int, terms: list[int]) -> Log:
    """A log that never held its first entries: it begins behind a snapshot."""
    start = Log((), base, base, terms[base - 1] if base else 0)
    return start.extended(entries(base + 1, *terms[base:]))


@given(forgetful())
def test_a_compacted_log_is_as_if_it_had_begun_there(log: tuple[list[int], int]) -> None:
    terms, base = log
    compacted = log_of(*terms).compacted(base)
    assert compacted == behind(base, terms)
    assert hash(compacted) == hash(behind(base, terms))
    assert terms_of(compacted) == terms[base:]


@given(forgetful(), st.data())
def test_what_is_compacted_twice_is_compacted_once(
    log: tuple[list[int], int], data: st.DataObject
) -> None:
    terms, base = log
    before = data.draw(st.integers(0, base))
    assert log_of(*terms).compacted(before).compacted(base) == log_of(*terms).compacted(base)


@given(forgetful())
def test_terms_behind_a_base(log: tuple[list[int], int]) -> None:
    terms, base = log
    compacted = behind(base, terms)
    assert compacted.last_index == len(terms)
    assert compacted.last_term == (terms[-1] if terms else 0)
    for index in range(-1, len(terms) + 2):
        known = base <= index <= len(terms)
        wanted = ([0, *terms][index] if known else None) if index else 0
        assert compacted.term_at(index) == wanted
    for index in range(base + 1, len(terms) + 1):
        begins = terms.index(terms[index - 1]) + 1
        assert compacted.first_of_term_at(index) == max(begins, base + 1)
    for term in range(7):
        assert compacted.last_not_above(term) == max(base, sum(one <= term for one in terms))


@given(forgetful(), TERMS, st.data())
def test_cut_and_extended_behind_a_base(
    log: tuple[list[int], int], more: list[int], data: st.DataObject
) -> None:
    terms, base = log
    kept = data.draw(st.integers(base, len(terms) + 2))
    rest = terms[:kept]
    compacted = behind(base, terms).cut(kept)
    assert compacted == behind(base, rest)
    more = [term for term in more if not rest or term >= rest[-1]]
    longer = compacted.extended(entries(len(rest) + 1, *more))
    assert longer == behind(base, rest + more)
    some = longer.between(base + 1, longer.last_index)
    assert listed(some) == (rest + more)[base:]


@given(forgetful(), forgetful(), st.integers(0, 14))
def test_logs_agree_as_far_as_both_still_hold_them(
    one: tuple[list[int], int], other: tuple[list[int], int], last: int
) -> None:
    (mine, my_base), (theirs, their_base) = one, other
    known = range(max(my_base, their_base, 1), last + 1)
    held = last < max(my_base, their_base) or last <= min(len(mine), len(theirs))
    wanted = held and all(mine[index - 1] == theirs[index - 1] for index in known)
    assert behind(my_base, mine).agrees(behind(their_base, theirs), last) is wanted
    assert behind(their_base, theirs).agrees(behind(my_base, mine), last) is wanted


@given(forgetful(), TERMS, st.data())
def test_first_conflict_behind_a_base(
    log: tuple[list[int], int], theirs: list[int], data: st.DataObject
) -> None:
    """What is gone is committed: what a leader has there is the same, or nobody leads."""
    mine, base = log
    theirs = mine[:base] + theirs[base:]
    first = data.draw(st.integers(1, len(theirs) + 1))
    end = min(len(mine), len(theirs))
    differ = (i for i in range(max(first, base + 1), end + 1) if mine[i - 1] != theirs[i - 1])
    some = entries(first, *theirs[first - 1 :])
    assert behind(base, mine).first_conflict(some) == next(differ, None)


@pytest.mark.parametrize("index", [1, 5])
def test_a_log_is_compacted_up_to_an_entry_that_it_holds(index: int) -> None:
    with pytest.raises(AssertionError, match="an entry that it holds"):
        behind(2, [1, 1, 1, 1]).compacted(index)


def test_what_the_frames_hold_is_no_part_of_the_entries_identity() -> None:
    assert entries(1, 1) == Entries(1, 1, ((1, 1),), (b"something else",))


# -- the seed's tests --------------------------------------------------------------------------


def test_log_new_log() -> None:
    """Seed TestLogNewLog: entries 1/1, 2/1, 3/2, committed up to 2 and then up to 3."""
    node = follower()
    node, _ = hear(node, B, append(2, 0, 0, 1, 1, 2, commit=2))
    assert terms_of(node.log) == [1, 1, 2]
    assert (node.commit, node.log.term_at(node.commit)) == (2, 1)
    node, _ = hear(node, B, append(2, 3, 2, commit=3, number=2))
    assert (node.commit, node.log.term_at(node.commit)) == (3, 2)


def test_log_existing_log() -> None:
    """Seed TestLogExistingLog: what was written is found again, by index and term."""
    node = follower(1, 1, 2)
    assert [(index, node.log.term_at(index)) for index in (1, 2, 3)] == [(1, 1), (2, 1), (3, 2)]


@pytest.mark.parametrize(
    ("index", "term", "contained"),
    [(0, 0, True), (1, 0, False), (4, 0, False), (2, 1, True), (3, 2, True)],
)
def test_log_contains_entries(index: int, term: int, contained: bool) -> None:
    """Seed TestLogContainsEntries; but index 0 with term 0 is in every log, as in the paper."""
    _, effects = hear(follower(1, 1, 2), B, append(3, index, term))
    (reply,) = sent(effects)
    assert reply.success is contained  # type: ignore[union-attr]


def test_log_truncate() -> None:
    """Seed TestLogTruncate: never what is committed, never beyond the end; else as asked."""
    node, _ = hear(follower(1, 1, 2), B, append(2, 2, 1, commit=2))
    with pytest.raises(InternalError, match="entry 2 is committed"):
        hear(node, B, append(3, 1, 1, 3))
    assert terms_of(node.log.cut(4)) == [1, 1, 2]
    after, effects = hear(node, B, append(3, 3, 2))
    assert terms_of(after.log) == [1, 1, 2]
    assert not these(effects, do.WriteEntries)
    after, effects = hear(node, B, append(3, 2, 1, 3))
    assert terms_of(after.log) == [1, 1, 3]
    (write,) = these(effects, do.WriteEntries)
    assert (write.entries.first, write.cuts) == (3, True)
