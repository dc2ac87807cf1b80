from __future__ import annotations

import pytest

from appliance.model.errors import InternalError
from services.rules.table import RuleTable, identity
from tests.unit.services.rules.universes import rule

RULES = {"a": rule(source=(0, 1)), "b": rule(port=(1, 1)), "c": rule(), "d": rule(protocol=(6, 6))}


def table(**indexes: str) -> RuleTable:
    """Make a table of ports whose rules are letters."""
    return RuleTable.of({port: tuple(index) for port, index in indexes.items()}, RULES)


def test_a_rule_is_stored_once_whoever_refers_to_it() -> None:
    """And it is known who does."""
    made = table(one="ab", two="ab", three="bc")
    assert sorted(made.rules) == ["a", "b", "c"]
    assert made.referrers["b"] == {"one", "two", "three"}
    assert [made.references(name) for name in "abcd"] == [2, 3, 1, 0]


def test_a_rule_goes_with_its_last_reference() -> None:
    """It stays while another port refers to it."""
    assert "a" in table(one="ab", two="b", three="a").rules
    assert "a" not in table(one="b", two="b").rules


def test_ports_with_equal_indexes_are_one_group() -> None:
    """Another order is another group; a port without rules has a group too."""
    made = table(one="ab", two="ba", three="ab", four="")
    assert {(group.index, group.ports) for group in made.groups} == {
        (("a", "b"), ("one", "three")),
        (("b", "a"), ("two",)),
        ((), ("four",)),
    }
    assert made.group_of("three") is made.group_of("one")
    assert made.indexes == tuple(group.index for group in made.groups)


def test_groups_keep_their_numbers_when_another_port_comes() -> None:
    """The number comes from the content of the index, and the order of ports is nothing to it."""
    before = table(one="ab", two="bc")
    after = table(zero="cd", two="bc", one="ab")
    assert {group.index: group.number for group in before.groups}.items() <= {
        group.index: group.number for group in after.groups
    }.items()


def test_numbers_are_distinct_and_go_past_the_slots_only_when_those_are_full() -> None:
    """Who asks for too many refuses them by the number."""
    rules = {f"{number:03}": rule() for number in range(300)}
    full = RuleTable.of({name: (name,) for name in list(rules)[:254]}, rules)
    assert sorted(group.number for group in full.groups) == list(range(1, 255))
    more = RuleTable.of({name: (name,) for name in rules}, rules)
    assert sorted(group.number for group in more.groups) == list(range(1, 301))
    assert [group.number for group in more.groups] == list(range(1, 301))


def test_what_cannot_be_is_refused() -> None:
    """A rule that there is not, a rule twice, a port that there is not."""
    with pytest.raises(InternalError, match="rules that there are not: x"):
        table(one="ax")
    with pytest.raises(InternalError, match="twice"):
        table(one="aba")
    with pytest.raises(InternalError, match="port nine"):
        table(one="a").group_of("nine")


def test_an_identity_is_the_content() -> None:
    """Not the order in which the fields are written."""
    one = identity({"source": ["web", "10.0.0.0/8"], "action": "allow"})
    assert one == identity({"action": "allow", "source": ["web", "10.0.0.0/8"]})
    assert one != identity({"action": "deny", "source": ["web", "10.0.0.0/8"]})
    assert len(one) == 32
