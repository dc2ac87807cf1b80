"""The program of a VPC: groups of guests with one index, and which engines a change touches."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.model.errors import OperatorError
from appliance.model.facts import Engine, NftSet
from appliance.model.intent import Intent
from appliance.model.marks import ENGINES, Action
from services.feature import EdgeParts
from services.firewall import NOBODY, _stages, compile_firewall, groups
from services.flows.program import word
from services.place import Place
from services.policy import policy
from services.rules.compile import RulesMultiplyError
from tests.support.intents import Tree, changed, guest, intent, one_vpc


def vpc(guests: int = 4, *rules: dict[str, Any], **firewall: Any) -> Intent:
    """Return an intent with guests g0, g1... on h1 and one on h2, and these rules."""
    there: Tree = {f"g{n}": guest("h1", 20 + n) for n in range(guests)} | {"away": guest("h2", 12)}
    tree = changed(one_vpc(), "vpcs.red.guests", there)
    return intent(changed(changed(tree, "vpcs.red.vips", {}), "vpcs.red.firewall", {"rules": list(rules), **firewall}))


def compiled(made: Intent) -> EdgeParts:
    """Compile the firewall of h1."""
    return compile_firewall(Place.of(made, "h1", "red"), made.vpcs["red"])


def elements(parts: EdgeParts, name: str) -> frozenset[str]:
    """Return the elements of a set."""
    (found,) = (fact for fact in parts.sets if fact.name == name)
    assert isinstance(found, NftSet)
    return found.elements


def policies(made: Intent) -> dict[int, str]:
    """Return the digest of each engine."""
    return {fact.number: fact.policy for fact in compiled(made).facts if isinstance(fact, Engine)}


ALLOW_TCP = {"action": "allow", "protocol": "tcp"}


def for_port(*guests: str, **rule: Any) -> dict[str, Any]:
    """Return a rule at the ports of some guests."""
    return ALLOW_TCP | {"applies-to": list(guests)} | rule


def test_guests_with_one_index_are_one_group() -> None:
    """However they came to have it."""
    made = vpc(4, for_port("g0", "g2"), for_port("g3", ports=[80]))
    place = Place.of(made, "h1", "red")
    found = groups(place, made.vpcs["red"], policy(place, made.vpcs["red"], frozenset()))
    assert [[str(address)[-2:] for address in group.guests] for group in found] == [["20", "22"], ["21"], ["23"]]
    assert [group.engine for group in found] == [2, 3, 5]


def test_every_guest_here_has_a_port_and_an_engine() -> None:
    """Those of other hosts have theirs there."""
    parts = compiled(vpc(2, for_port("g0")))
    assert elements(parts, "ports") == {"172.16.1.20 : jump port0", "172.16.1.21 : jump port1"}
    assert elements(parts, "engines") == {"172.16.1.20 : goto engine2", "172.16.1.21 : goto engine3"}
    assert elements(parts, "local_guests") == {"172.16.1.20", "172.16.1.21"}


@pytest.mark.parametrize("side", ["internal", "inbound", "outbound"])
def test_a_default_is_an_element_so_that_the_table_stays(side: str) -> None:
    """And all engines are judged again."""
    allow, deny = vpc(2, **{side: "allow"}), vpc(2, **{side: "deny"})
    number = ("internal", "inbound", "outbound").index(side) + 1
    for made, action in ((allow, Action.ALLOW), (deny, Action.DENY)):
        assert f"{number:#010x} : {word(action):#010x}" in elements(compiled(made), "defaults")
    assert compiled(allow).chains == compiled(deny).chains
    assert not policies(allow).items() & policies(deny).items()


def test_a_changed_rule_changes_elements_and_leaves_the_table() -> None:
    """Chains and maps are the same; so they are when a guest gets an index of its own."""
    one, two = compiled(vpc(3, for_port("g0"))), compiled(vpc(3, for_port("g0", action="deny")))
    other = compiled(vpc(3, for_port("g0"), for_port("g1", action="deny")))
    assert one.chains == two.chains == other.chains
    assert one.declarations == two.declarations == other.declarations
    assert one.sets != two.sets


def changes(before: Intent, after: Intent) -> set[int]:
    """Return the engines that are judged again."""
    old, new = policies(before), policies(after)
    return {number for number in old | new if old.get(number) != new.get(number)}


#: g0, g1 and g2 have indexes of their own from the start: engines 2, 3 and 4.
OWN = [for_port(f"g{n}", source=[f"10.{n}.0.0/16"]) for n in range(3)]


@pytest.mark.parametrize(
    ("rule", "touched"),
    [
        (for_port("g1", source=["outside"]), {3}),
        (for_port("g1", source=["outside"], destination=["g1"]), {3}),
        (for_port("g1", source=["outside"], destination=[]), {3}),
        (for_port("g1", source=["g1"], destination=["g2"], action="deny"), {3, 4}),
        (for_port("g1", source=["g1"], destination=["outside"], action="deny"), {3}),
        (for_port("g1", destination=["g0", "g2"]), {2, 3, 4}),
        (for_port("g0", "g1", source=["outside"], destination=["g0", "g1"]), {2, 3}),
    ],
)
def test_a_rule_touches_the_engines_whose_flows_it_can_decide(rule: dict[str, Any], touched: set[int]) -> None:
    """Those of its ports, and those of the guests it reaches from there; an engine is named after the destination."""
    if "destination" not in rule:
        rule = rule | {"destination": ["g1"]}
    assert changes(vpc(3, *OWN), vpc(3, *OWN, rule)) == touched


def test_a_guest_that_leaves_its_group_leaves_the_engines_of_others_alone() -> None:
    """Only flows of the group, which has a member less, and of the guest are judged again."""
    own = for_port("g1", destination=["g1"])
    assert changes(vpc(4, for_port("g3")), vpc(4, for_port("g3"), own)) == {2, 3}


def test_nothing_changes_without_a_change() -> None:
    """Nor when a guest comes to another host."""
    made = vpc(3, *OWN)
    assert changes(made, vpc(3, *OWN)) == set()


def test_a_group_that_gets_a_member_changes_what_refers_to_it() -> None:
    """The rule is the same, what it amounts to is not."""
    rules = [*OWN, for_port("g1", source=["friends"], destination=["g1"])]
    tree: Tree = {"rules": rules}

    def with_group(*members: str) -> Intent:
        base = changed(one_vpc(), "vpcs.red.guests", {f"g{n}": guest("h1", 20 + n) for n in range(3)})
        base = changed(changed(base, "vpcs.red.vips", {}), "vpcs.red.groups", {"friends": list(members)})
        return intent(changed(base, "vpcs.red.firewall", tree))

    assert changes(with_group("198.51.100.0/24"), with_group("198.51.100.0/24", "192.0.2.0/24")) == {3}


def test_rules_that_cross_too_many_others_are_named_by_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operator can find in the file."""

    def refuse(rules: Any, _: Any) -> Any:
        raise RulesMultiplyError.among(tuple(dict(rules)), 5)

    monkeypatch.setattr("services.firewall._stages", refuse)
    with pytest.raises(OperatorError) as error:
        compiled(vpc(2, for_port("g0", ports=[1]), for_port("g1", ports=[2])))
    assert [finding.path for finding in error.value.findings] == [
        "vpcs.red.firewall.rules.0",
        "vpcs.red.firewall.rules.1",
    ]


def test_the_same_rules_are_cut_once() -> None:
    """A backend that changes does not compile them again."""
    made = vpc(2, for_port("g0", ports=[4711]))
    first = compiled(made)
    before = _stages.cache_info().misses
    assert compiled(made) == first
    assert _stages.cache_info().misses == before


def test_more_groups_than_engines_share_engines() -> None:
    """Each keeps its own index; what is judged again is more than need be, never less."""
    rules = [for_port(f"g{n}", ports=[1000 + n]) for n in range(100)]
    tree = changed(one_vpc(), "vpcs.red.subnet", "172.16.0.0/16")
    there = {f"g{n}": {"host": "h1", "interface": f"t{n}", "address": f"172.16.2.{n}"} for n in range(1, 255)}
    more = {f"h{n}": {"host": "h1", "interface": f"u{n}", "address": f"172.16.3.{n}"} for n in range(1, 50)}
    rules = [ALLOW_TCP | {"applies-to": [name], "ports": [n]} for n, name in enumerate(there | more, 1)]
    tree = changed(changed(tree, "vpcs.red.guests", there | more), "vpcs.red.vips", {})
    made = intent(changed(tree, "vpcs.red.firewall", {"rules": rules}))
    found = policies(made)
    assert sorted(found) == list(range(NOBODY, ENGINES + 1))
    assert len({element.split(" : ")[1] for element in elements(compiled(made), "ports")}) == 303
