"""Rules of a VPC as values: what they match, what they decide, who has them in which order."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from appliance.model.marks import Action
from services.flows.program import word
from services.place import Place
from services.policy import Policy, policy
from services.rules.rule import ANY_ADDRESS, ANY_PORT, ANY_PROTOCOL
from tests.support.intents import changed, intent, one_vpc

R1, R2, R3 = (int(IPv4Address(f"172.16.1.{n}")) for n in (11, 12, 13))
EVERYTHING = (ANY_ADDRESS[4],)


def of(*rules: dict[str, Any], node: str = "h1", down: frozenset[tuple[str, str]] = frozenset(), **more: Any) -> Policy:
    """Read a firewall of VPC red with these rules."""
    tree = changed(one_vpc(), "vpcs.red.firewall", {"rules": list(rules)})
    for key, value in more.items():
        tree = changed(tree, f"vpcs.red.{key.replace('_', '-')}", value)
    made = intent(tree)
    return policy(Place.of(made, node, "red"), made.vpcs["red"], down)


def only(rules: Policy) -> str:
    """Return the identity of the one rule."""
    (name,) = rules.rules
    return name


@pytest.mark.parametrize(
    ("terms", "spans"),
    [
        ([], EVERYTHING),
        (["r1"], ((R1, R1),)),
        (["r1", "r2", "r3"], ((R1, R3),)),
        (["10.0.0.0/8", "10.1.0.0/16"], ((0x0A000000, 0x0AFFFFFF),)),
        (["outside"], ((0, 0xAC1000FF), (0xAC100200, 0xFFFFFFFF))),
        (["outside", "r1"], ((0, 0xAC1000FF), (R1, R1), (0xAC100200, 0xFFFFFFFF))),
        (["web"], ((R1, R1), (R3, R3))),
        (["nobody"], ()),
    ],
)
def test_a_side_is_spans_of_addresses(terms: list[str], spans: Any) -> None:
    """Guests, groups, prefixes and the outside; what overlaps is one, and an empty group is nobody."""
    groups = {"web": ["r1", "r3"], "nobody": []}
    rules = of({"action": "allow", "source": terms, "destination": ["r2"]}, groups=groups)
    assert rules.matches[only(rules)].source == spans
    assert rules.matches[only(rules)].destination == ((R2, R2),)


@pytest.mark.parametrize(
    ("protocol", "ports", "expected"),
    [
        ("any", [], (ANY_PROTOCOL, (ANY_PORT,))),
        ("icmp", [], ((1, 1), (ANY_PORT,))),
        ("udp", [53], ((17, 17), ((53, 53),))),
        ("tcp", ["080", "8000-8099"], ((6, 6), ((80, 80), (8000, 8099)))),
    ],
)
def test_protocol_and_ports_are_spans_of_numbers(protocol: str, ports: list[Any], expected: Any) -> None:
    """A leading zero makes no octal number."""
    rules = of({"action": "allow", "protocol": protocol, "ports": ports})
    found = rules.matches[only(rules)]
    assert (found.protocol[0], found.port) == expected


def test_a_rule_is_stored_once_whoever_has_it() -> None:
    """Its tier and its ports belong to the indexes."""
    rule = {"action": "deny", "protocol": "icmp"}
    rules = of(rule | {"applies-to": ["r1"]}, rule | {"applies-to": ["r3"], "tier": "emergency"})
    assert len(rules.rules) == 1
    assert rules.order("r1") == rules.order("r3") == (only(rules),)
    assert rules.order("r2") == ()


def test_tiers_come_in_their_order_and_rules_in_theirs() -> None:
    """Whatever the order of the file among tiers."""
    rules = of(
        {"action": "allow", "protocol": "tcp"},
        {"action": "allow", "protocol": "udp", "tier": "infrastructure"},
        {"action": "deny", "protocol": "icmp"},
        {"action": "deny", "tier": "emergency"},
    )
    assert [rules.rules[name].protocol for name in rules.order("r1")] == ["any", "udp", "tcp", "icmp"]


def test_two_guests_may_have_two_rules_in_opposite_order() -> None:
    """The order is the index's, the rules are the same."""
    one, two = {"action": "allow", "protocol": "tcp"}, {"action": "deny"}
    rules = of(one | {"applies-to": ["r1"]}, two, one | {"applies-to": ["r3"]})
    assert rules.order("r1") == rules.order("r3")[::-1]
    assert len(rules.rules) == 2


def test_members_of_a_group_change_without_the_rule_changing() -> None:
    """Its identity names the group; what it amounts to is another matter."""
    rule = {"action": "allow", "source": ["web"]}
    before, after = of(rule, groups={"web": ["r1"]}), of(rule, groups={"web": ["r1", "r3"]})
    assert only(before) == only(after)
    assert before.digest != after.digest


def redirect(**more: Any) -> Policy:
    """Read a firewall that redirects to a service node of h1."""
    node = {"id": 7, "host": "h1", "interface": "eth9", "link": "192.168.254.0/31"}
    rule = {"action": "redirect", "source": ["r1"], "destination": ["r3"], "to": "ids"}
    return of(rule, service_nodes={"ids": node | more.pop("service", {})}, **more)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, word(Action.REDIRECT, 7)),
        ({"node": "h2"}, word(Action.ALLOW)),
        ({"down": frozenset({("red", "ids")})}, word(Action.ALLOW)),
        ({"down": frozenset({("red", "ids")}), "service": {"on-failure": "deny"}}, word(Action.DENY)),
        ({"down": frozenset({("blue", "ids")})}, word(Action.REDIRECT, 7)),
    ],
)
def test_a_redirect_goes_to_a_node_that_stands_here_and_answers(more: dict[str, Any], expected: int) -> None:
    """Else it is what the node says about its failure."""
    rules = redirect(**more)
    assert rules.words[only(rules)] == expected
    assert rules.special


def test_each_rate_has_a_number() -> None:
    """Which the mark of a flow can hold."""
    limit, sample = {"action": "limit", "rate": 10}, {"action": "sample", "rate": 10, "protocol": "tcp"}
    rules = of(limit, sample, limit | {"protocol": "udp"})
    assert sorted(rules.words.values()) == sorted(
        [word(Action.SAMPLE, 1), word(Action.LIMIT, 2), word(Action.LIMIT, 2)]
    )
