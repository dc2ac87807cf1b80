"""The firewall's chain: rules in order between what always holds and the defaults."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.model.facts import NftSet
from services.feature import EdgeParts
from services.firewall import compile_firewall
from services.place import Place
from tests.support.intents import changed, intent, one_vpc


def compiled(*rules: dict[str, Any], **defaults: str) -> EdgeParts:
    """Compile the firewall of h1 with these rules."""
    made = intent(changed(one_vpc(), "vpcs.red.firewall", {"rules": list(rules), **defaults}))
    return compile_firewall(Place.of(made, "h1", "red"), made.vpcs["red"])


@pytest.mark.parametrize(
    ("rule", "statement"),
    [
        ({"action": "allow"}, "accept"),
        ({"action": "deny"}, "drop"),
        ({"action": "reject"}, "reject with icmpx admin-prohibited"),
        ({"action": "allow", "protocol": "icmp"}, "meta l4proto icmp accept"),
        ({"action": "allow", "protocol": "tcp"}, "meta l4proto tcp accept"),
        ({"action": "allow", "protocol": "udp", "ports": [53]}, "udp dport { 53 } accept"),
        ({"action": "deny", "protocol": "tcp", "ports": [80, "90-99"]}, "tcp dport { 80, 90-99 } drop"),
        ({"action": "allow", "source": ["outside"]}, 'iifname "ew-up" accept'),
        ({"action": "allow", "destination": ["outside"]}, 'oifname "ew-up" accept'),
        ({"action": "allow", "source": ["r2"]}, "ip saddr { 172.16.1.12/32 } accept"),
        ({"action": "allow", "destination": ["10.0.0.0/8", "r1"]}, "ip daddr { 10.0.0.0/8, 172.16.1.11/32 } accept"),
        (
            {"action": "deny", "source": ["r1"], "destination": ["outside"], "protocol": "tcp", "ports": [25]},
            'ip saddr { 172.16.1.11/32 } oifname "ew-up" tcp dport { 25 } drop',
        ),
    ],
)
def test_a_rule_is_one_statement(rule: dict[str, Any], statement: str) -> None:
    """Every term of it, in nft's words."""
    assert compiled(rule).forward[3] == statement


@pytest.mark.parametrize(("written", "meant"), [("010", "10"), ("0080", "80"), ("08000-08099", "8000-8099")])
def test_a_port_with_leading_zeros_is_no_octal_number(written: str, meant: str) -> None:
    """The tool reads 010 as 8."""
    rule = {"action": "allow", "protocol": "tcp", "ports": [written]}
    assert compiled(rule).forward[3] == f"tcp dport {{ {meant} }} accept"


def test_prefixes_inside_each_other_are_written_once() -> None:
    """Overlapping intervals say nothing more."""
    rule = {"action": "allow", "source": ["10.0.0.0/8", "10.1.0.0/16", "r1", "172.16.1.10/32"]}
    assert compiled(rule).forward[3] == "ip saddr { 10.0.0.0/8, 172.16.1.10/31 } accept"


def test_rules_stand_in_the_order_of_the_intent_between_frame_and_defaults() -> None:
    """The first that matches decides; replies pass before any rule; strangers' addresses never do."""
    forward = compiled({"action": "deny", "protocol": "icmp"}, {"action": "allow"}).forward
    assert forward == (
        'iifname "ew-lan" ip saddr != @local_guests drop',
        "ct state established,related accept",
        "ct state invalid drop",
        "meta l4proto icmp drop",
        "accept",
        'iifname { "ew-lan", "ew-vx" } oifname { "ew-lan", "ew-vx" } accept',
        'iifname "ew-up" drop',
        'oifname "ew-up" accept',
    )


@pytest.mark.parametrize(
    ("side", "statement"),
    [
        ("internal", 'iifname { "ew-lan", "ew-vx" } oifname { "ew-lan", "ew-vx" } '),
        ("inbound", 'iifname "ew-up" '),
        ("outbound", 'oifname "ew-up" '),
    ],
)
def test_each_direction_has_its_default(side: str, statement: str) -> None:
    """Allow accepts, deny drops."""
    assert statement + "accept" in compiled(**{side: "allow"}).forward
    assert statement + "drop" in compiled(**{side: "deny"}).forward


def test_only_guests_that_stand_here_may_send_from_here() -> None:
    """A guest of h2 that sends from h1 lies about its address."""
    assert compiled().sets == (
        NftSet(Place.of(intent(one_vpc()), "h1", "red").ns, "local_guests", frozenset({"172.16.1.11", "172.16.1.13"})),
    )
