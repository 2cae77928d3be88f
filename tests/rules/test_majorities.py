"""What two overlapping configurations agree on, by tables and against brute force (section 6)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Half, Member


def server(name: str) -> ServerId:
    return ServerId(name, f"{name}-1")


def half(names: str) -> Half:
    return tuple(Member(server(name), f"mem://{name}") for name in sorted(names))


def joint(old: str, new: str) -> Configuration:
    return Configuration("c", half(new), half(old))


# -- tables ------------------------------------------------------------------------------------

COMMITS = [
    # old    new      how far each one is               agreed
    ("abc", "abd", {"a": 5, "b": 5, "c": 0, "d": 0}, 5),  # a and b are a majority of both
    ("abc", "abd", {"a": 5, "b": 0, "c": 5, "d": 0}, 0),  # of the old half alone
    ("abc", "abd", {"a": 5, "b": 0, "c": 0, "d": 5}, 0),  # of the new half alone
    ("abc", "abd", {"a": 5, "b": 0, "c": 4, "d": 3}, 3),  # two majorities: the one that is behind
    ("abc", "def", {"a": 9, "b": 9, "c": 9}, float("-inf")),  # nobody of the new has anything
    ("abc", "def", {"a": 9, "b": 8, "c": 0, "d": 7, "e": 6, "f": 0}, 6),
    ("a", "ab", {"a": 3, "b": 2}, 2),  # two of two
    ("ab", "a", {"a": 3, "b": 2}, 2),
    ("abc", "ab", {"a": 7, "b": 3, "c": 7}, 3),
    ("abcd", "abcde", {"a": 9, "b": 9, "c": 9, "d": 0, "e": 0}, 9),
    ("abcd", "abcde", {"a": 9, "b": 9, "c": 0, "d": 0, "e": 9}, 0),  # three of five, two of four
    ("abcde", "cde", {"a": 9, "b": 9, "c": 9, "d": 1, "e": 0}, 1),
    ("", "abc", {"a": 4, "b": 2, "c": 1}, 2),  # no change under way
    ("", "abcd", {"a": 4, "b": 3, "c": 2, "d": 1}, 2),
]


@pytest.mark.parametrize(("old", "new", "reached", "agreed"), COMMITS)
def test_how_far_both_halves_are(
    old: str, new: str, reached: Mapping[str, float], agreed: float
) -> None:
    values = {server(name): value for name, value in reached.items()}
    assert joint(old, new).agreed(values) == agreed


VOTES = [
    # old    new    votes   won
    ("abc", "abd", "ab", True),
    ("abc", "abd", "ac", False),
    ("abc", "abd", "ad", False),
    ("abc", "abd", "bcd", True),
    ("abc", "abd", "cd", False),
    ("abc", "def", "abc", False),
    ("abc", "def", "def", False),
    ("abc", "def", "abde", True),
    ("ab", "abc", "ab", True),
    ("ab", "abc", "ac", False),
    ("abcd", "ab", "ab", False),  # two of four are none
    ("abcd", "ab", "abc", True),
    ("", "abc", "ab", True),
    ("", "abcd", "ab", False),
    ("", "abc", "axyz", False),  # strangers count for nobody
]


@pytest.mark.parametrize(("old", "new", "votes", "won"), VOTES)
def test_who_has_both_majorities(old: str, new: str, votes: str, won: bool) -> None:
    assert joint(old, new).is_quorum({server(name) for name in votes}) is won


# -- against brute force -----------------------------------------------------------------------

NAMES = "abcdefg"
halves = st.sets(st.sampled_from(NAMES), min_size=1, max_size=5).map("".join)
configurations = st.builds(joint, st.one_of(st.just(""), halves), halves)
indexes = st.dictionaries(st.sampled_from(NAMES).map(server), st.integers(0, 6))


def subsets(servers: Collection[ServerId]) -> Iterator[frozenset[ServerId]]:
    for size in range(len(servers) + 1):
        yield from map(frozenset, combinations(sorted(servers), size))


def has_majority(part: Half, servers: Collection[ServerId]) -> bool:
    return len([m for m in part if m.id in servers]) >= len(part) // 2 + 1


@given(configurations)
def test_a_quorum_is_a_majority_of_each_half(configuration: Configuration) -> None:
    for chosen in subsets([server(name) for name in NAMES]):
        wanted = all(has_majority(part, chosen) for part in configuration.halves)
        assert configuration.is_quorum(chosen) is wanted


@given(configurations, indexes)
def test_what_is_agreed_is_what_some_quorum_has_reached_and_no_more(
    configuration: Configuration, values: dict[ServerId, int]
) -> None:
    everybody = [member.id for member in configuration.members]
    reached = [
        min((values.get(one, float("-inf")) for one in chosen), default=float("-inf"))
        for chosen in subsets(everybody)
        if configuration.is_quorum(chosen)
    ]
    assert configuration.agreed(values) == max(reached)


@given(halves, halves)
def test_majorities_of_neighbours_always_share_a_server(old: str, new: str) -> None:
    """Before, while and after the voters change: at no time can two of them decide apart."""
    before, during, after = (
        Configuration("c", half(old)),
        joint(old, new),
        Configuration("c", half(new)),
    )
    everybody = [server(name) for name in sorted({*old, *new})]
    for one, next_ in ((before, before), (before, during), (during, during), (during, after)):
        ours = [chosen for chosen in subsets(everybody) if one.is_quorum(chosen)]
        theirs = [chosen for chosen in subsets(everybody) if next_.is_quorum(chosen)]
        assert all(a & b for a in ours for b in theirs)


@given(configurations, indexes)
def test_learners_and_strangers_change_nothing(
    configuration: Configuration, values: dict[ServerId, int]
) -> None:
    learner = Member(server("z"), "mem://z")
    taught = Configuration("c", configuration.voters, configuration.outgoing, (learner,))
    more = {**values, learner.id: 99}
    assert taught.agreed(more) == configuration.agreed(values)
    for chosen in ({learner.id}, {*values, learner.id}):
        assert taught.is_quorum(chosen) == configuration.is_quorum(chosen - {learner.id})
    assert not taught.voter(learner.id)


def test_an_incarnation_is_not_another_one() -> None:
    wiped = ServerId("a", "a-2")
    configuration = Configuration("c", half("ab"))
    assert not configuration.is_quorum({wiped, server("b")})
    assert configuration.agreed({wiped: 9, server("b"): 9}) == float("-inf")
    assert not configuration.voter(wiped)


def test_a_voter_that_becomes_a_learner_votes_until_the_change_is_over() -> None:
    (member,) = half("c")
    during = Configuration("c", half("ab"), half("abc"), (member,))
    assert during.voter(member.id)
    assert during.is_quorum({server("a"), server("b")})
    assert not during.is_quorum({server("a"), member.id})
    assert [one.id.name for one in during.members] == ["a", "b", "c"]
    after = Configuration("c", half("ab"), (), (member,))
    assert not after.voter(member.id)
