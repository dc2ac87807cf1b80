"""What does not fit together in a VPC: each problem alone, at its path."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.model.marks import NODE_IDS, VPC_IDS
from appliance.model.verify import NODE_INSIDE
from appliance.model.verify_vpcs import NOT_PRIVATE
from services.place import INWARD, OVERLAY, UPLINKS
from tests.support.intents import changed, found, guest, node, one_vpc, two_vpcs


@pytest.mark.parametrize(
    ("path", "value", "at", "words"),
    [
        ("id", 102, "vpcs.blue.id", "VPC id 102 is taken by vpcs.red.id"),
        ("guests.r1.interface", "eth1", "", "device h1:eth1 is taken by nodes.h1.fabric.interface"),
        ("guests.r1.interface", "tap21", "vpcs.blue.guests.b1.interface", "taken by vpcs.red.guests.r1.interface"),
        ("guests.r1.interface", "tap13", "vpcs.red.guests.r3.interface", "taken by vpcs.red.guests.r1.interface"),
        ("guests.r1.host", "h9", "", "h9 is not a host"),
        ("guests.r1.host", "gw1", "", "gw1 is not a host"),
        ("guests.r1.host", "rs1", "", "rs1 is not a host"),
        ("guests.r1.address", "172.16.1.12", "vpcs.red.guests.r2.address", "taken by vpcs.red.guests.r1.address"),
        ("guests.r1.address", "172.16.2.11", "", "is no guest address of 172.16.1.0/24"),
        ("guests.r1.address", "172.16.1.0", "", "is no guest address"),
        ("guests.r1.address", "172.16.1.255", "", "is no guest address"),
        ("guests.r1.address", "172.16.1.1", "", "is the gateway's"),
        ("gateway", "172.16.1.11", "vpcs.red.guests.r1.address", "is the gateway's"),
        ("gateway", "172.16.2.1", "", "is no host address of 172.16.1.0/24"),
        ("gateway", "172.16.1.0", "", "is no host address"),
        ("gateway", "172.16.1.255", "", "is no host address"),
        ("subnet", "172.16.1.0/31", "", "no room"),
        ("subnet", "255.255.255.255/32", "", "no room"),
        ("subnet", "0.0.0.0/0", "", "which no guest can have"),
        ("subnet", "100.127.0.0/24", "", "which no guest can have"),
        ("subnet", "224.0.0.0/24", "", "which no guest can have"),
        ("subnet", "203.0.113.128/25", "", "overlaps the public prefix"),
        ("snat.block", 4096, "", None),
        ("vips.web.backends.0", "r9", "", "r9 is no guest of red"),
        ("vips.web.backends.0", "b1", "", "b1 is no guest of red"),
        ("vips.web.backends.1", "r1", "", "r1 stands twice"),
    ],
)
def test_what_does_not_fit_in_a_vpc_is_found_at_its_path(path: str, value: Any, at: str, words: str | None) -> None:
    """Or fits, where no words are expected."""
    seen = found(changed(two_vpcs(), f"vpcs.red.{path}", value))
    if words is None:
        assert seen == {}
    else:
        assert words in seen.get(at or f"vpcs.red.{path}", f"nothing found there but {seen}")


def test_a_guest_cannot_have_the_name_of_the_outside() -> None:
    """A rule that names it would mean something else."""
    tree = one_vpc()
    tree["vpcs"]["red"]["guests"]["outside"] = guest("h1", 40)
    assert found(tree) == {"vpcs.red.guests.outside": "is a word of the firewall"}


def test_two_vips_cannot_have_one_endpoint() -> None:
    """Address, protocol and port together."""
    tree = one_vpc()
    web = tree["vpcs"]["red"]["vips"]["web"]
    tree["vpcs"]["red"]["vips"] |= {"udp": web | {"protocol": "udp"}, "again": web | {"backends": ["r2"]}}
    assert found(tree) == {"vpcs.red.vips.again": "endpoint tcp 203.0.113.80:80 is taken by vpcs.red.vips.web"}


@pytest.mark.parametrize(
    ("number", "slots", "block", "fits"), [(16, 16, 4096, False), (40, 32, 2048, True), (32, 32, 2048, False)]
)
def test_a_host_that_carries_a_vpc_must_own_a_block_of_its_ports(
    number: int, slots: int, block: int, fits: bool
) -> None:
    """With large blocks and many slots some have none."""
    tree = changed(one_vpc(), "vpcs.red.snat.block", block)
    tree["zone"]["nat-slots"] = slots
    tree["nodes"]["h1"] = node(number, "host")
    seen = found(tree)
    assert seen == ({} if fits else {"vpcs.red.snat.block": f"no block of {block} ports is left for h1"})


def test_a_host_without_guests_of_the_vpc_needs_no_block() -> None:
    """It translates nothing."""
    tree = changed(one_vpc(), "vpcs.red.snat.block", 4096)
    tree["nodes"]["h3"] = node(16, "host")
    assert found(tree) == {}


def test_the_addresses_inside_an_edge_lie_in_space_that_nobody_else_can_have() -> None:
    """The services choose them; the checks keep others away."""
    of_node = (UPLINKS, UPLINKS + 2 * VPC_IDS + 1, INWARD, INWARD + VPC_IDS)
    for address in (*of_node, OVERLAY, OVERLAY + NODE_IDS):
        assert any(address in network for network in NOT_PRIVATE)
    assert all(any(address in network for network in NODE_INSIDE) for address in of_node)
