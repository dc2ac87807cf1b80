"""What does not fit together in the groups, rules and service nodes of a VPC: each problem alone, at its path."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.model.marks import OBJECTS
from appliance.model.verify_policy import is_network
from tests.support.intents import Tree, changed, found, guest, two_vpcs

RULE = {"action": "allow", "destination": ["r1"], "protocol": "tcp", "ports": [8080]}
REDIRECT = {"action": "redirect", "to": "ids", "source": ["r1"], "destination": ["172.16.1.0/25"]}


def tree() -> Tree:
    """Return a VPC with every kind of rule, a group and service nodes on both hosts; it is valid."""
    made = two_vpcs()
    made["vpcs"]["red"] |= {
        "groups": {"web": ["r1", "r3"], "office": ["198.51.100.0/24", "r2"]},
        "service-nodes": {
            "ids": {"id": 1, "host": "h1", "interface": "tap7", "link": "10.9.0.0/31"},
            "waf": {"id": 2, "host": "h2", "interface": "tap8", "link": "10.9.0.2/31"},
        },
        "firewall": {
            "rules": [
                RULE,
                REDIRECT,
                {"action": "limit", "rate": 100, "source": ["outside"]},
                {"action": "sample", "rate": 10, "applies-to": ["web", "r2"]},
                {"action": "deny", "source": ["office"], "tier": "emergency"},
            ]
        },
    }
    return made


def test_a_policy_that_uses_everything_fits() -> None:
    """Each change below breaks just one thing."""
    assert found(tree()) == {}


@pytest.mark.parametrize(
    ("path", "value", "at", "words"),
    [
        # groups
        ("groups.r1", ["r2"], "", "is the name of a guest, or a word of the firewall"),
        ("groups.outside", ["r2"], "", "is the name of a guest, or a word of the firewall"),
        ("groups.web.1", "r9", "", "r9 is no guest or IPv4 prefix"),
        ("groups.web.1", "b1", "", "b1 is no guest or IPv4 prefix"),
        ("groups.web.1", "office", "", "office is no guest or IPv4 prefix"),
        ("groups.web.1", "outside", "", "outside is no guest or IPv4 prefix"),
        ("groups.web.1", "10.0.0.1/8", "", "10.0.0.1/8 is no guest or IPv4 prefix"),
        ("groups.web.1", "fd00::/8", "", "fd00::/8 is no guest or IPv4 prefix"),
        ("groups.web", [], "", None),
        ("groups.web.1", "0.0.0.0/0", "", None),
        # service nodes
        ("service-nodes.waf.id", 1, "", "id of a service node 1 is taken by vpcs.red.service-nodes.ids.id"),
        ("service-nodes.waf.link", "10.9.0.1/31", "", "link 10.9.0.0/31 is taken by vpcs.red.service-nodes.ids.link"),
        ("service-nodes.ids.host", "h9", "", "h9 is not a host"),
        ("service-nodes.ids.host", "gw1", "", "gw1 is not a host"),
        ("service-nodes.ids.link", "10.9.0.0/30", "", "must be a /31"),
        ("service-nodes.ids.link", "10.9.0.0/32", "", "must be a /31"),
        ("service-nodes.ids.link", "172.16.1.254/31", "", "overlaps the VPC's subnet 172.16.1.0/24"),
        ("service-nodes.ids.link", "10.9.0.1/31", "", None),
        ("service-nodes.ids.interface", "eth1", "", "device h1:eth1 is taken by nodes.h1.fabric.interface"),
        ("service-nodes.ids.interface", "tap11", "", "device h1:tap11 is taken by vpcs.red.guests.r1.interface"),
        ("service-nodes.waf.interface", "tap7", "", None),
        # both sides of a rule
        ("firewall.rules.0.source", ["r9"], "firewall.rules.0.source.0", "r9 is no guest, group, IPv4 prefix or"),
        ("firewall.rules.0.source", ["r1", "b1"], "firewall.rules.0.source.1", "b1 is no guest, group, IPv4 prefix"),
        ("firewall.rules.0.destination", ["10.0.0.1/8"], "firewall.rules.0.destination.0", "is no guest, group"),
        ("firewall.rules.0.destination", ["fd00::/8"], "firewall.rules.0.destination.0", "is no guest, group"),
        ("firewall.rules.0.source", ["ids"], "firewall.rules.0.source.0", "ids is no guest, group"),
        ("firewall.rules.0.source", ["outside", "web", "r2", "10.0.0.0/8", "10.1.1.1"], "", None),
        # protocol and ports
        ("firewall.rules.0.protocol", "icmp", "firewall.rules.0.ports", "protocol icmp has no ports"),
        ("firewall.rules.0.protocol", "any", "firewall.rules.0.ports", "protocol any has no ports"),
        ("firewall.rules.0.ports.0", "0", "", "0 is no port or range"),
        ("firewall.rules.0.ports.0", "65536", "", "65536 is no port or range"),
        ("firewall.rules.0.ports.0", "90-80", "", "90-80 is no port or range"),
        ("firewall.rules.0.ports.0", "0-80", "", "0-80 is no port or range"),
        ("firewall.rules.0.ports.0", "80-65536", "", "80-65536 is no port or range"),
        ("firewall.rules.0.ports", ["1-65535", 80, "080", "80-80"], "", None),
        ("firewall.rules.0.protocol", "udp", "", None),
        # who has a rule
        ("firewall.rules.0.applies-to", ["r9"], "firewall.rules.0.applies-to.0", "r9 is no guest or group"),
        ("firewall.rules.0.applies-to", ["web", "10.0.0.0/8"], "firewall.rules.0.applies-to.1", "is no guest or group"),
        ("firewall.rules.0.applies-to", ["outside"], "firewall.rules.0.applies-to.0", "outside is no guest or group"),
        # what an action needs
        ("firewall.rules.0.rate", 5, "", "stands with limit and sample, and only there"),
        ("firewall.rules.2.rate", ..., "", "stands with limit and sample, and only there"),
        ("firewall.rules.3.rate", ..., "", "stands with limit and sample, and only there"),
        ("firewall.rules.0.to", "ids", "", "stands with redirect, and only there"),
        ("firewall.rules.1.to", ..., "", "stands with redirect, and only there"),
        ("firewall.rules.1.to", "ips", "", "ips is no service node of the VPC"),
        # redirects stay inside
        ("firewall.rules.1.source", ..., "", "a redirect is for flows inside the VPC"),
        ("firewall.rules.1.destination", ..., "", "a redirect is for flows inside the VPC"),
        ("firewall.rules.1.source", ["outside"], "", "a redirect is for flows inside the VPC"),
        ("firewall.rules.1.source", ["r1", "outside"], "", "a redirect is for flows inside the VPC"),
        ("firewall.rules.1.source", ["office"], "", "a redirect is for flows inside the VPC"),
        ("firewall.rules.1.destination", ["172.16.0.0/16"], "", "a redirect is for flows inside the VPC"),
        ("firewall.rules.1.destination", ["web", "172.16.1.13"], "", None),
    ],
)
def test_what_does_not_fit_in_a_policy_is_found_at_its_path(path: str, value: Any, at: str, words: str | None) -> None:
    """Or fits, where no words are expected."""
    seen = found(changed(tree(), f"vpcs.red.{path}", value))
    if words is None:
        assert seen == {}
    else:
        assert words in seen.get(f"vpcs.red.{at or path}", f"nothing found there but {seen}")


def test_a_service_node_of_another_vpc_is_none_of_ours() -> None:
    """It has no link to our edge, and may have the same number, name and link."""
    made = tree()
    made["vpcs"]["blue"]["service-nodes"] = {
        "ids": made["vpcs"]["red"]["service-nodes"]["ids"] | {"interface": "tap17"},
        "ips": {"id": 3, "host": "h1", "interface": "tap9", "link": "10.9.0.6/31"},
    }
    assert found(made) == {}
    seen = found(changed(made, "vpcs.red.firewall.rules.1.to", "ips"))
    assert seen == {"vpcs.red.firewall.rules.1.to": "ips is no service node of the VPC"}


@pytest.mark.parametrize(("rates", "fits"), [(OBJECTS, True), (OBJECTS + 1, False)])
def test_a_vpc_has_as_many_different_rates_as_a_record_can_name(rates: int, fits: bool) -> None:
    """Limits and samples together; the same rate twice is one."""
    made = changed(tree(), "vpcs.red.firewall.rules", [{"action": "sample", "rate": 1}, {"action": "limit", "rate": 1}])
    rules = made["vpcs"]["red"]["firewall"]["rules"]
    rules += [{"action": "limit", "rate": rate} for rate in range(1, rates)] * 2
    seen = found(made)
    assert seen == ({} if fits else {"vpcs.red.firewall.rules": f"more than {OBJECTS} different rates"})


def test_all_problems_of_a_policy_are_told_at_once() -> None:
    """An operator mends them together."""
    made = changed(tree(), "vpcs.red.firewall.rules.1", {"action": "redirect"})
    made["vpcs"]["red"]["groups"]["web"] = ["r9"]
    assert set(found(made)) == {
        "vpcs.red.groups.web.0",
        "vpcs.red.firewall.rules.1.to",
        "vpcs.red.firewall.rules.1.source",
        "vpcs.red.firewall.rules.1.destination",
    }


def test_a_redirect_of_a_group_follows_its_members() -> None:
    """A guest that joins changes nothing, a prefix outside the subnet does."""
    made = changed(tree(), "vpcs.red.firewall.rules.1.source", ["web"])
    made["vpcs"]["red"]["guests"]["r4"] = guest("h1", 14)
    made["vpcs"]["red"]["groups"]["web"].append("r4")
    assert found(made) == {}
    made["vpcs"]["red"]["groups"]["web"].append("10.0.0.0/8")
    assert set(found(made)) == {"vpcs.red.firewall.rules.1.source"}


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("10.0.0.0/8", True),
        ("10.0.0.1", True),
        ("0.0.0.0/0", True),
        ("10.0.0.1/8", False),
        ("fd00::/8", False),
        ("r1", False),
        ("", False),
    ],
)
def test_a_prefix_has_no_bits_behind_it(text: str, is_one: bool) -> None:
    """An address is a prefix of one."""
    assert is_network(text) == is_one
