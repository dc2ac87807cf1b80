"""Each kind of fact as one line."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from typing import get_args

import pytest

from appliance.model.describe import describe
from appliance.model.facts import (
    HOST,
    Compose,
    Decapsulate,
    Engine,
    Fact,
    FdbEntry,
    FlowKey,
    Hop,
    Instruction,
    Link,
    LinkAddress,
    Namespace,
    Neighbour,
    Netns,
    NftSet,
    NftTable,
    Route,
    Steer,
    Sysctl,
    Wire,
)
from appliance.model.marks import Action

RED = Namespace("vpc-red")
MAC = "02:00:00:00:00:01"
ONE, TWO = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")

LINES: list[tuple[Fact, str]] = [
    (Netns(RED), "namespace vpc-red"),
    (Link(HOST, "eth1", "physical", mtu=1500), "link eth1 physical mtu 1500"),
    (
        Link(RED, "tap11", "physical", mtu=1500, master="ew-lan", isolated=True),
        "link tap11 physical mtu 1500 master ew-lan isolated in vpc-red",
    ),
    (
        Link(RED, "ew-up", "veth", mac=MAC, peer=(HOST, "ew-v101")),
        f"link ew-up veth mac {MAC} peer ew-v101 in vpc-red",
    ),
    (Link(HOST, "ew-v101", "veth", peer=(RED, "ew-up")), "link ew-v101 veth peer ew-up in vpc-red"),
    (
        Link(RED, "ew-vx", "vxlan", vni=101, local=ONE, port=4789, learning=False),
        "link ew-vx vxlan vni 101 local 10.0.0.1 port 4789 in vpc-red",
    ),
    (LinkAddress(HOST, "eth1", IPv4Interface("10.0.0.1/24")), "address 10.0.0.1/24 dev eth1"),
    (Neighbour(RED, "ew-vx", ONE, MAC), f"neighbour 10.0.0.1 lladdr {MAC} dev ew-vx in vpc-red"),
    (FdbEntry(RED, "ew-vx", MAC, ONE), f"fdb {MAC} dst 10.0.0.1 dev ew-vx in vpc-red"),
    (Link(RED, "eth6", "physical", up=False), "link eth6 physical down in vpc-red"),
    (Engine(RED, 3, "5f2c"), "engine 3 judges by policy 5f2c in vpc-red"),
    (
        Instruction(RED, FlowKey(ONE, 40000, TWO, 80, 6, 1101), Action.DENY),
        "instruction deny for tcp 10.0.0.1:40000 > 10.0.0.2:80 zone 1101 in vpc-red",
    ),
    (
        Instruction(RED, FlowKey(IPv6Address("fd00::1"), 7, IPv6Address("fd00::2"), 32768, 58), Action.REDIRECT, 2),
        "instruction redirect 2 for ipv6-icmp [fd00::1]:7 > [fd00::2]:32768 zone 0 in vpc-red",
    ),
    (Steer(RED, 2, Hop("eth4", TWO)), "steer 2 via 10.0.0.2 dev eth4 in vpc-red"),
    (Wire(RED, "eth5", 0x1F102), "wire from eth5 mark 0x1f102 in vpc-red"),
    (Wire(RED, "eth5", 5, "ew-n0", peer=True), "wire from eth5 mark 0x5 to peer of ew-n0 in vpc-red"),
    (Sysctl(HOST, "net.ipv4.ip_forward", "1"), "sysctl net.ipv4.ip_forward = 1"),
    (
        Route(HOST, IPv4Network("10.1.0.0/16"), (Hop("eth1", ONE), Hop("eth2", TWO)), 218, mtu=1400),
        "route 10.1.0.0/16 via 10.0.0.1 dev eth1 nexthop via 10.0.0.2 dev eth2 proto 218 mtu 1400",
    ),
    (
        Route(HOST, IPv6Network("fd00::/112"), (Hop("ew-v101", None, Decapsulate(ONE)),), 217),
        "route fd00::/112 decapsulate to 10.0.0.1 dev ew-v101 proto 217",
    ),
    (NftTable(RED, "chain a {\n}\nchain b {\n}"), "nft table of 4 lines in vpc-red"),
    (NftSet(RED, "floating_in", frozenset({"b : d", "a : c"})), "nft set floating_in { a : c, b : d } in vpc-red"),
    (
        Compose(
            HOST, "ew-comp1", IPv6Address("fd00:ff::1"), IPv6Network("fd00:ed9e::/48"), ((ONE, (11, 12)), (TWO, (3,)))
        ),
        "compose on ew-comp1 from fd00:ff::1 to fd00:ed9e::/48 [10.0.0.1 at 11, 12; 10.0.0.2 at 3]",
    ),
]


@pytest.mark.parametrize(("fact", "line"), LINES, ids=lambda value: type(value).__name__)
def test_a_fact_is_one_line_that_an_engineer_reads(fact: Fact, line: str) -> None:
    """In the words of `ip` and `nft`; where it is stands last."""
    assert describe(fact) == line


def test_every_kind_of_fact_has_a_line_of_its_own() -> None:
    """What Python shows is for us."""
    assert {type(fact) for fact, _ in LINES} == set(get_args(Fact))
    assert describe(("else", 1)) == "('else', 1)"
