from __future__ import annotations

from random import Random

import pytest

from services.rules.order import bits
from services.rules.relations import FieldMasks, Relations
from tests.unit.services.rules.universes import match, rule, spans


def overlap(one: tuple[tuple[int, int], ...], other: tuple[tuple[int, int], ...]) -> bool:
    """Tell whether two fields share a value."""
    return any(low <= top and bottom <= high for low, high in one for bottom, top in other)


@pytest.mark.parametrize("seed", range(20))
def test_overlaps_are_those_that_comparing_every_pair_finds(seed: int) -> None:
    """Several spans in a field, ranges and prefixes."""
    random = Random(seed)
    matches = [match(random).merged() for _ in range(random.randint(1, 40))]
    expected = [
        {place for place, other in enumerate(matches) if other is not one and all(map(overlap, one, other))}
        for one in matches
    ]
    assert [set(bits(mask)) for mask in Relations(matches).overlaps] == expected


@pytest.mark.parametrize("seed", range(10))
def test_a_field_knows_who_has_a_value(seed: int) -> None:
    """Everywhere, also beside all spans."""
    random = Random(seed)
    values = [match(random).merged().source for _ in range(10)]
    masks = FieldMasks(values)
    for point in range(-1, 17):
        assert set(bits(masks.at(point))) == {n for n, value in enumerate(values) if overlap(value, ((point, point),))}


@pytest.mark.parametrize("seed", range(10))
def test_who_sticks_out_of_a_value_is_exact(seed: int) -> None:
    """Asked by what is not in the value."""
    random = Random(seed)
    values = [match(random, (4,) * 4).merged().source for _ in range(10)]
    masks = FieldMasks(values)
    for value in values:
        points = {point for low, high in value for point in range(low, high + 1)}
        wider = {
            n for n, one in enumerate(values) if not {p for low, high in one for p in range(low, high + 1)} <= points
        }
        assert set(bits(masks.relations(value)[0])) == wider


def test_rules_cross_if_each_is_wider_in_a_field_of_its_own() -> None:
    """Nested ones do not cross, nor do those that overlap in one field only in part, nor disjoint ones."""
    matches = [
        rule(source=(1, 1)),
        rule(destination=(1, 1)),
        rule(source=(1, 1), port=(2, 2)),
        rule(source=(0, 7)),
        rule(source=(2, 9)),
        rule(),
    ]
    relations = Relations(matches)
    crossing = [set(bits(relations.crossing(number))) for number in range(len(matches))]
    assert crossing == [{1}, {0, 2, 3, 4}, {1}, {1}, {1}, set()]


def test_no_rules_are_no_relations() -> None:
    """There is nothing to sweep."""
    assert Relations([]).overlaps == []
    assert spans(Random(1), 4)
