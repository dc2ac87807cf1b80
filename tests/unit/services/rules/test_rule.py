from __future__ import annotations

from services.rules.rule import Match, Packet, evaluate, identity, merged
from tests.unit.services.rules.universes import rule


def test_spans_that_overlap_or_touch_are_one() -> None:
    """And come out sorted; empty ones go."""
    assert merged(((8, 9), (1, 3), (4, 5), (5, 6), (12, 11))) == ((1, 6), (8, 9))
    assert merged(()) == ()


def test_a_match_is_the_product_of_its_fields() -> None:
    """One of several spans in each."""
    several = Match(((0, 3), (8, 8)), ((1, 1),), ((6, 6), (17, 17)), ((80, 80),))
    assert several.covers(Packet(8, 1, 17, 80))
    assert not several.covers(Packet(8, 1, 17, 81))
    assert not several.covers(Packet(4, 1, 17, 80))


def test_a_field_without_spans_matches_nothing() -> None:
    """An empty group has no members."""
    assert not rule(source=()).covers(Packet(0, 0, 0, 0))


def test_the_first_rule_of_the_index_decides() -> None:
    """The same rules in another order decide otherwise, and rules that the index lacks do not count."""
    rules = {"all": rule(), "low": rule(source=(0, 7))}
    packet = Packet(3, 0, 0, 0)
    assert evaluate(rules, ("all", "low"), packet) == "all"
    assert evaluate(rules, ("low", "all"), packet) == "low"
    assert evaluate(rules, ("low",), Packet(9, 0, 0, 0)) is None
    assert evaluate(rules, (), packet) is None


def test_an_identity_is_the_content() -> None:
    """Not the order in which the fields are written."""
    one = identity({"source": ["web", "10.0.0.0/8"], "action": "allow"})
    assert one == identity({"action": "allow", "source": ["web", "10.0.0.0/8"]})
    assert one != identity({"action": "deny", "source": ["web", "10.0.0.0/8"]})
    assert len(one) == 32
