"""Facts as lines of text: what `edgeway plan` shows."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network

import pytest

from appliance.model.describe import describe
from appliance.model.facts import (
    HOST,
    Compose,
    Decapsulate,
    Fact,
    FdbEntry,
    Hop,
    Link,
    LinkAddress,
    Namespace,
    Neighbour,
    Netns,
    NftSet,
    NftTable,
    Route,
    Sysctl,
)

RED = Namespace("vpc-red")
MAC = "02:00:00:00:00:01"
LINES: list[tuple[Fact, str]] = [
    (Netns(RED), "namespace vpc-red"),
    (Link(HOST, "eth1", "physical", mtu=1500), "link eth1 physical mtu 1500"),
    (Link(HOST, "ew-v1", "veth", peer=(RED, "ew-up")), "link ew-v1 veth peer ew-up in vpc-red"),
    (
        Link(RED, "eth2", "physical", master="ew-lan", isolated=True),
        "link eth2 physical master ew-lan isolated in vpc-red",
    ),
    (
        Link(RED, "ew-vx", "vxlan", mac=MAC, vni=101, local=IPv4Address("10.0.0.1"), port=4789),
        f"link ew-vx vxlan mac {MAC} vni 101 local 10.0.0.1 port 4789 in vpc-red",
    ),
    (LinkAddress(HOST, "lo", IPv4Interface("10.255.0.1")), "address 10.255.0.1/32 dev lo"),
    (
        Neighbour(RED, "ew-vx", IPv4Address("100.127.0.12"), MAC),
        f"neighbour 100.127.0.12 lladdr {MAC} dev ew-vx in vpc-red",
    ),
    (FdbEntry(RED, "ew-vx", MAC, IPv4Address("10.0.0.12")), f"fdb {MAC} dst 10.0.0.12 dev ew-vx in vpc-red"),
    (Sysctl(HOST, "net.ipv4.ip_forward", "1"), "sysctl net.ipv4.ip_forward = 1"),
    (
        Route(RED, IPv4Network("0.0.0.0/0"), (Hop("ew-up", IPv4Address("100.64.0.2")),), 217),
        "route 0.0.0.0/0 via 100.64.0.2 dev ew-up proto 217 in vpc-red",
    ),
    (
        Route(HOST, IPv4Network("10.0.0.0/8"), (Hop("eth1"), Hop("eth2")), 218, mtu=1400),
        "route 10.0.0.0/8 dev eth1 nexthop dev eth2 proto 218 mtu 1400",
    ),
    (
        Route(HOST, IPv6Network("fd00::/102"), (Hop("ew-v1", None, Decapsulate(IPv4Address("100.64.0.3"))),), 217),
        "route fd00::/102 decapsulate to 100.64.0.3 dev ew-v1 proto 217",
    ),
    (NftTable(RED, "chain a {\n}\n"), "nft table of 2 lines in vpc-red"),
    (NftSet(RED, "s", frozenset({"b", "a", "c"})), "nft set s { a, b, c } in vpc-red"),
    (
        Compose(
            HOST,
            "ew-comp1",
            IPv6Address("fd00::1"),
            IPv6Network("fd00:ed9e::/48"),
            ((IPv4Address("203.0.113.80"), (11, 12)),),
        ),
        "compose on ew-comp1 from fd00::1 to fd00:ed9e::/48 [203.0.113.80 at 11, 12]",
    ),
]


@pytest.mark.parametrize(("fact", "line"), LINES, ids=lambda value: type(value).__name__)
def test_a_fact_reads_as_a_network_engineer_writes_it(fact: Fact, line: str) -> None:
    """Every kind of fact; the node's own namespace is not named."""
    assert describe(fact) == line


def test_what_has_no_line_of_its_own_is_shown_as_it_is() -> None:
    """Better than nothing."""
    assert describe(IPv4Address("10.0.0.1")) == "IPv4Address('10.0.0.1')"
