from __future__ import annotations

import pytest

from services.rules.regions import Cutter, TooManyError, field_order
from services.rules.rule import ANY_PORT, Box, Match
from tests.unit.services.rules.universes import rule

NATURAL = (0, 1, 2, 3)


def cut(matches: list[Match], ahead: list[int] | None = None, order: tuple[int, ...] = NATURAL) -> dict[Box, int]:
    """Cut all rules."""
    cutter = Cutter(matches, ahead or [0] * len(matches), order, 10_000)
    root = cutter.cut((1 << len(matches)) - 1)
    boxes = list(cutter.boxes(root))
    assert len(dict(boxes)) == len(boxes) == cutter.sizes[root]
    return dict(boxes)


def test_one_rule_is_its_own_region() -> None:
    """A region for each combination of its spans."""
    assert len(cut([rule(source=((0, 1), (4, 5)), port=((1, 1), (3, 3), (5, 5)))])) == 6
    assert cut([rule(source=(2, 3))]) == {Box((2, 3), (0, 15), (0, 7), (0, 15)): 1}


def test_a_rule_inside_another_cuts_it() -> None:
    """What is left of the outer one is joined where neighbours are equal."""
    assert cut([rule(source=(0, 7)), rule(source=(2, 3))]) == {
        Box((0, 1), (0, 15), (0, 7), (0, 15)): 0b01,
        Box((2, 3), (0, 15), (0, 7), (0, 15)): 0b11,
        Box((4, 7), (0, 15), (0, 7), (0, 15)): 0b01,
    }


def test_a_rule_beside_which_another_never_decides_hides_it() -> None:
    """And the regions that differed by it are one."""
    assert cut([rule(source=(0, 7)), rule(source=(2, 3))], ahead=[0, 0b01]) == {
        Box((0, 7), (0, 15), (0, 7), (0, 15)): 0b01
    }
    inner = cut([rule(source=(0, 7)), rule(source=(2, 3))], ahead=[0b10, 0])
    assert sorted(inner.values()) == [0b01, 0b01, 0b10]


def test_the_order_of_fields_changes_the_cuts_and_not_what_is_covered() -> None:
    """Boxes are given in the usual order of fields."""
    matches = [rule(), rule(source=(1, 1), destination=(3, 3))]
    one, other = cut(matches), cut(matches, order=(1, 0, 3, 2))
    assert one != other
    for source in range(16):
        for destination in range(5):
            point = (source, destination, 0, 0)
            found = [
                [m for b, m in boxes.items() if all(low <= p <= high for (low, high), p in zip(b, point, strict=True))]
                for boxes in (one, other)
            ]
            assert found[0] == found[1]


def test_too_many_regions_are_refused() -> None:
    """Before they are written out."""
    matches = [rule(source=(n, n)) for n in range(8)] + [rule(destination=(n, n)) for n in range(8)]
    with pytest.raises(TooManyError):
        Cutter(matches, [0] * 16, NATURAL, 60).cut(0xFFFF)


def test_the_field_that_tells_most_rules_apart_comes_first() -> None:
    """A look-up pays for every element that matches the first field."""
    wide = [Match(((0, 2**32 - 1),), ((n, n),), ((6, 6),), (ANY_PORT,)) for n in range(0, 4000, 2)]
    assert field_order(wide)[0] == 1
    ports = [Match(((0, 2**32 - 1),), ((0, 2**32 - 1),), ((6, 6),), ((n, n),)) for n in range(0, 4000, 2)]
    assert field_order(ports)[0] == 3


def test_few_rules_have_the_usual_order() -> None:
    """So that the next rule does not turn it round."""
    assert field_order([rule(destination=(n, n)) for n in range(10)]) == (0, 1, 3, 2)
