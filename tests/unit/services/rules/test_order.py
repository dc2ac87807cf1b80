from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from services.rules.order import Precedence, bits, numbered, sequence

ALL = [0b1110, 0b1101, 0b1011, 0b0111]
NUMBERS = {"a": 0, "b": 1, "c": 2, "d": 3}


def circles(*indexes: str, overlaps: list[int] = ALL) -> set[frozenset[int]]:
    """Return what must share a stage."""
    return {frozenset(bits(mask)) for mask in Precedence([tuple(one) for one in indexes], NUMBERS, overlaps).circles()}


def test_bits_are_the_numbers_of_a_mask() -> None:
    """The highest first."""
    assert list(bits(0b101001)) == [5, 3, 0]
    assert list(bits(0)) == []


def test_rules_are_numbered_as_they_stand_in_the_indexes() -> None:
    """On average; those of no index have no number."""
    assert numbered([("b", "a", "c"), ("b", "c")]) == ["b", "a", "c"]
    assert numbered([]) == []


def test_an_order_that_all_agree_on_ties_nothing_together() -> None:
    """Gaps do not matter."""
    assert circles("abcd", "bd", "ac") == {frozenset({n}) for n in range(4)}


def test_rules_that_indexes_disagree_about_share_a_stage() -> None:
    """Only they."""
    assert circles("abcd", "ba") == {frozenset({0, 1}), frozenset({2}), frozenset({3})}


def test_a_circle_of_three_indexes_shares_a_stage() -> None:
    """No two of them disagree about two rules."""
    assert circles("ab", "bc", "ca") == {frozenset({0, 1, 2}), frozenset({3})}


def test_rules_that_do_not_overlap_may_stand_in_any_order() -> None:
    """No packet can tell."""
    assert circles("abcd", "dcba", overlaps=[0, 0, 0b1000, 0b0100]) == {
        frozenset({0}),
        frozenset({1}),
        frozenset({2, 3}),
    }


def test_a_rule_is_ahead_if_every_index_of_the_other_has_it_before() -> None:
    """An index that has the other alone is enough to deny it."""
    assert Precedence([("a", "b"), ("a", "c")], NUMBERS, ALL).ahead[1:3] == [0b0001, 0b0001]
    assert Precedence([("a", "b"), ("b",)], NUMBERS, ALL).ahead[1] == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_sequence_keeps_every_demand(seed: int) -> None:
    """Rules come behind those that precede them, and by their keys where they are free."""
    random = Random(seed)
    names = [f"{number:02}" for number in range(30)]
    numbers = {name: place for place, name in enumerate(names)}
    overlaps = [0] * 30
    for one, other in ((random.randrange(30), random.randrange(30)) for _ in range(60)):
        if one != other:
            overlaps[one] |= 1 << other
            overlaps[other] |= 1 << one
    indexes = [tuple(random.sample(names, 15)) for _ in range(3)]
    precedence = Precedence(indexes, numbers, overlaps)
    found = precedence.circles()
    order = [found[place] for place in sequence(found, precedence.before, [random.random() for _ in found])]
    assert sum(order) == (1 << 30) - 1
    place = {number: position for position, circle in enumerate(order) for number in bits(circle)}
    for index in indexes:
        for later, name in enumerate(index):
            for earlier in index[:later]:
                if overlaps[numbers[name]] >> numbers[earlier] & 1:
                    assert place[numbers[earlier]] <= place[numbers[name]]


def test_free_rules_come_by_their_keys() -> None:
    """So that rules of one kind come together."""
    order = list(sequence([1, 2, 4, 8], [0, 0, 0, 0b0100], ["d", "b", "c", "a"]))
    assert order == [1, 2, 3, 0]
    assert all(one != other for one, other in pairwise(order))
