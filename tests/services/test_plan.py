"""What a change of the members would mean."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioraft._plan import Phase, Plan, plan
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Half, Member


def half(names: Iterable[str]) -> Half:
    return tuple(Member(ServerId(name, f"i{name}"), f"ws://{name}:1") for name in sorted(names))


def configuration(voters: str, outgoing: str = "", learners: str = "") -> Configuration:
    return Configuration("c0ffee", half(voters), half(outgoing), half(learners), 7)


def planned(
    old: str, voters: str, answering: str | None = None, *, learners: str = "", students: str = ""
) -> Plan:
    """From one voter per letter to others."""
    here = old if answering is None else answering
    return plan(configuration(old, learners=learners), voters, students, set(here))


def test_a_cluster_that_grows() -> None:
    found = planned("abc", "abcde")
    before, during, after = found.phases
    assert before == Phase("before", tuple("abc"), (), (), 2, 1, True, ())
    assert during == Phase("during", tuple("abcde"), tuple("abc"), (), 3, 1, True, ())
    assert after == Phase("after", tuple("abcde"), (), (), 3, 2, True, ())
    assert found.index == 7
    assert found.answering == tuple("abc")
    assert found.advice == ("2 may be lost after it, and 1 now.",)


def test_one_more_makes_an_even_number() -> None:
    found = planned("abc", "abcd")
    assert [phase.may_be_lost for phase in found.phases] == [1, 1, 1]
    assert found.advice == ("4 voters bear no more losses than 3.",)


def test_who_is_taken_in_answers_by_then() -> None:
    found = planned("abc", "abcd", "ab")
    before, during, after = found.phases
    assert (before.has_majority, during.has_majority, after.has_majority) == (True, True, True)
    assert before.critical == ("a", "b")
    assert during.critical == after.critical == ("a", "b", "d")
    assert "The loss of a or b alone would stop the cluster now." in found.advice


def test_one_that_is_lost_is_replaced() -> None:
    found = planned("abc", "abd", "ab")
    before, during, after = found.phases
    assert before.critical == ("a", "b")
    assert during.critical == ("a", "b")
    assert after.critical == ()


def test_the_removal_of_one_that_answers_while_another_does_not() -> None:
    found = planned("abcd", "abd", "abc")
    before, during, after = found.phases
    assert (before.has_majority, during.has_majority, after.has_majority) == (True, True, True)
    assert after.critical == ("a", "b")
    found = planned("abc", "ac", "ab")
    assert [phase.has_majority for phase in found.phases] == [True, False, False]
    assert found.phases[1].critical == ()
    assert any("this would be refused" in sentence for sentence in found.advice)


def test_one_voter_is_all_there_is() -> None:
    found = planned("a", "a")
    assert found.advice == (
        "The members would stay the same.",
        "The loss of any one voter would stop the cluster now.",
        "The loss of any one voter would stop the cluster during the change.",
        "The loss of any one voter would stop the cluster after it.",
    )


def test_learners_have_no_vote() -> None:
    found = planned("abc", "abc", "abcd", learners="d", students="de")
    before, during, after = found.phases
    assert (before.learners, during.learners, after.learners) == (("d",), ("d", "e"), ("d", "e"))
    assert during.outgoing == ()
    assert [phase.may_be_lost for phase in found.phases] == [1, 1, 1]
    assert found.answering == tuple("abcd")
    assert found.advice == ()


def test_a_cluster_that_stands_still() -> None:
    found = planned("abc", "ab", "a")
    assert [phase.has_majority for phase in found.phases] == [False, False, False]
    assert all(phase.critical == () for phase in found.phases)
    assert "Those that answer now are no majority" in found.advice[0]


def test_nobody_is_left() -> None:
    found = planned("a", "")
    assert found.advice == ("A cluster needs a voter: this would be refused.",)
    assert found.phases[2].may_be_lost == 0


def test_a_change_that_is_under_way() -> None:
    found = plan(configuration("abcd", "abc"), "abcd", "", set("ab"))
    before = found.phases[0]
    assert (before.voters, before.outgoing) == (tuple("abcd"), tuple("abc"))
    assert not before.has_majority
    assert found.advice[0] == "Another change is under way: this one is refused until that is over."


def of_size(names: str, count: int) -> Iterable[set[str]]:
    return map(set, combinations(names, count))


names = st.sets(st.sampled_from("abcdefg"), min_size=1)


@given(names, names, st.sets(st.sampled_from("abcdefg")))
def test_it_says_what_the_rules_would_do(old: set[str], new: set[str], answering: set[str]) -> None:
    before, during, after = plan(configuration("".join(old)), new, "", answering).phases
    here = {member.id for member in half("abcdefg")}

    def has_quorum(phase: Phase, servers: set[str]) -> bool:
        of_phase = Configuration("c", half(phase.voters), half(phase.outgoing))
        return of_phase.is_quorum({one for one in here if one.name in servers})

    for phase in (before, during, after):
        everybody = set(phase.voters) | set(phase.outgoing)
        alive = answering | (new - old if phase is not before else set())
        assert phase.has_majority == has_quorum(phase, alive)
        critical = {
            name for name in alive if phase.has_majority and not has_quorum(phase, alive - {name})
        }
        assert set(phase.critical) == critical
        lost = phase.may_be_lost
        text = "".join(everybody)
        assert all(has_quorum(phase, everybody - some) for some in of_size(text, lost))
        more = list(of_size(text, lost + 1))
        assert not all(has_quorum(phase, everybody - some) for some in more)
    assert set(chain(before.voters, before.outgoing)) == old
    assert during.outgoing == (() if old == new else tuple(sorted(old)))


@pytest.mark.parametrize("voters", ["abc", "cab"])
def test_names_are_sorted(voters: str) -> None:
    assert planned(voters, voters).phases[0].voters == tuple("abc")
