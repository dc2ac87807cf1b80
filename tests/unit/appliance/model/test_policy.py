"""Sections of rules, service nodes and established flows: what may be written, and what stands there when nothing does."""

from __future__ import annotations

from ipaddress import IPv4Interface
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from appliance.model.marks import STEERS, Action
from appliance.model.policy import TIERS, Established, Firewall, Rule, ServiceNode, Tier

NODE: dict[str, Any] = {"id": 1, "host": "h1", "interface": "tap7", "link": "10.9.0.0/31"}


def test_a_rule_that_only_has_an_action_is_for_everything_and_everybody() -> None:
    """In the tier that comes last."""
    rule = Rule.model_validate({"action": "allow"})
    assert (rule.source, rule.destination, rule.ports, rule.applies_to) == ((), (), (), ())
    assert (rule.protocol, rule.tier, rule.to, rule.rate) == ("any", TIERS[-1], None, None)


def test_every_tier_has_its_place_in_the_order() -> None:
    """Emergencies first."""
    assert TIERS == get_args(Tier) == ("emergency", "infrastructure", "application")


@pytest.mark.parametrize("action", ["allow", "deny", "reject", "redirect", "sample", "limit"])
def test_what_a_rule_does_is_an_action_that_a_record_can_hold(action: str) -> None:
    """Four bits of a mark."""
    assert Rule.model_validate({"action": action}).action == action
    assert Action[action.upper()] in range(1, 16)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("action", "accept", "Input should be"),
        ("action", "chain", "Input should be"),
        ("protocol", "sctp", "Input should be"),
        ("protocol", 6, "Input should be"),
        ("tier", "first", "Input should be"),
        ("to", "Ids", "pattern"),
        ("ports", [80, "x"], "pattern"),
        ("rate", 0, "greater"),
        ("rate", 1_000_001, "less"),
        ("rate", 0.5, "valid integer"),
        ("source", "r1", "valid tuple"),
        ("comment", "x", "Extra inputs"),
    ],
)
def test_what_a_rule_cannot_have_is_refused(key: str, value: Any, words: str) -> None:
    """Before anything is compared with the rest of the intent."""
    with pytest.raises(ValidationError, match=words):
        Rule.model_validate({"action": "allow"} | {key: value})


def test_a_firewall_without_rules_lets_out_what_is_inside_and_nothing_in() -> None:
    """What nobody asked for does not come in."""
    made = Firewall.model_validate({})
    assert (made.rules, made.inbound, made.outbound, made.internal) == ((), "deny", "allow", "allow")


@pytest.mark.parametrize("key", ["inbound", "outbound", "internal"])
def test_a_default_allows_or_denies(key: str) -> None:
    """It can be nothing that needs a setting of its own."""
    assert getattr(Firewall.model_validate({key: "deny"}), key) == "deny"
    assert getattr(Firewall.model_validate({key: "allow"}), key) == "allow"
    with pytest.raises(ValidationError, match="Input should be"):
        Firewall.model_validate({key: "reject"})


def test_a_service_node_lets_flows_pass_while_it_does_not_answer_unless_told_otherwise() -> None:
    """Its link holds the edge's address and the other one."""
    made = ServiceNode.model_validate(NODE)
    assert made.on_failure == "allow"
    assert made.link == IPv4Interface("10.9.0.0/31")
    assert ServiceNode.model_validate(NODE | {"on-failure": "deny"}).on_failure == "deny"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("id", 0, "greater"),
        ("id", STEERS + 1, "less"),
        ("id", "1", "valid integer"),
        ("interface", "ew-lan", "reserved"),
        ("host", "H1", "pattern"),
        ("link", 10, "not a number"),
        ("link", "fd00::/127", "valid IPv4 interface"),
        ("on-failure", "reject", "Input should be"),
    ],
)
def test_what_a_service_node_cannot_have_is_refused(key: str, value: Any, words: str) -> None:
    """A number is a table and a mark, a device is one that others make."""
    with pytest.raises(ValidationError, match=words):
        ServiceNode.model_validate(NODE | {key: value})


@pytest.mark.parametrize("key", list(NODE))
def test_a_service_node_needs_all_of_its_place(key: str) -> None:
    """None of it can be guessed."""
    with pytest.raises(ValidationError, match="Field required"):
        ServiceNode.model_validate({k: v for k, v in NODE.items() if k != key})


@pytest.mark.parametrize("event", ["backend-gone", "vip-gone", "snat-moved", "floating-moved", "guest-gone"])
def test_what_becomes_of_established_flows_is_left_open_or_one_of_four(event: str) -> None:
    """Open means that the protocol of the flow decides."""
    field = event.replace("-", "_")
    assert getattr(Established.model_validate({}), field) is None
    for choice in ("keep", "re-judge", "reset", "drop"):
        assert getattr(Established.model_validate({event: choice}), field) == choice
    with pytest.raises(ValidationError, match="Input should be"):
        Established.model_validate({event: "ignore"})
