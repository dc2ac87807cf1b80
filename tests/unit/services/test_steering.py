"""Links of service nodes, and what is steered to them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface

import pytest

from appliance.model.facts import Hop, Link, LinkAddress, Namespace, NftSet, Steer, Sysctl
from services.feature import EdgeParts
from services.place import Place
from services.steering import ServiceLink, compile_service_nodes, service_links
from tests.support.intents import Tree, intent, two_vpcs

RED = Namespace("vpc-red")


def tree() -> Tree:
    """Return a VPC with service nodes on both hosts."""
    made = two_vpcs()
    made["vpcs"]["red"]["service-nodes"] = {
        "ids": {"id": 7, "host": "h1", "interface": "tap.7", "link": "10.9.0.0/31", "on-failure": "deny"},
        "cache": {"id": 1, "host": "h1", "interface": "tap1", "link": "10.9.0.3/31"},
        "far": {"id": 2, "host": "h2", "interface": "tap2", "link": "10.9.0.4/31"},
    }
    return made


LINKS = (
    ServiceLink("red", "cache", 1, "tap1", IPv4Interface("10.9.0.3/31"), IPv4Address("10.9.0.2")),
    ServiceLink("red", "ids", 7, "tap.7", IPv4Interface("10.9.0.0/31"), IPv4Address("10.9.0.1")),
)


def test_a_host_has_the_links_of_its_own_service_nodes() -> None:
    """Whichever of the two addresses is the edge's."""
    found = intent(tree())
    assert service_links(found, "h1") == LINKS
    assert [link.name for link in service_links(found, "h2")] == ["far"]
    assert service_links(found, "gw1") == ()
    assert {link.ns for link in LINKS} == {RED}


def test_a_service_node_where_no_guest_of_its_vpc_is_has_no_edge_to_hang_on() -> None:
    """There is no namespace of that VPC."""
    made = tree()
    del made["vpcs"]["red"]["guests"]["r2"]
    made["vpcs"]["red"]["vips"]["web"]["backends"] = ["r1"]
    assert service_links(intent(made), "h2") == ()


def test_a_link_is_a_device_of_the_edge_and_no_port_of_its_bridge() -> None:
    """With its address, its steer, and no opinion about where packets should come from."""
    found = intent(tree())
    parts = compile_service_nodes(Place.of(found, "h1", "red"), found.vpcs["red"], 1400)
    assert [fact for fact in parts.facts if isinstance(fact, Link)] == [
        Link(RED, "tap1", "physical", mtu=1400),
        Link(RED, "tap.7", "physical", mtu=1400),
    ]
    assert {fact for fact in parts.facts if not isinstance(fact, Link)} == {
        LinkAddress(RED, "tap1", IPv4Interface("10.9.0.3/31")),
        LinkAddress(RED, "tap.7", IPv4Interface("10.9.0.0/31")),
        Steer(RED, 1, Hop("tap1", IPv4Address("10.9.0.2"))),
        Steer(RED, 7, Hop("tap.7", IPv4Address("10.9.0.1"))),
        Sysctl(RED, "net.ipv4.conf.tap1.rp_filter", "0"),
        Sysctl(RED, "net.ipv4.conf.tap1.send_redirects", "0"),
        Sysctl(RED, "net.ipv4.conf.tap/7.rp_filter", "0"),
        Sysctl(RED, "net.ipv4.conf.tap/7.send_redirects", "0"),
    }


def test_a_vpc_without_service_nodes_has_nothing_more() -> None:
    """Not a single fact."""
    found = intent(tree())
    assert compile_service_nodes(Place.of(found, "h1", "blue"), found.vpcs["blue"], 1400) == EdgeParts()


@pytest.mark.parametrize(("host", "devices"), [("h1", {'"tap1"', '"tap.7"'}), ("h2", {'"tap2"'})])
def test_the_program_of_flow_records_is_told_what_comes_from_a_service_node(host: str, devices: set[str]) -> None:
    """By the device: it has been at the node already."""
    found = intent(tree())
    parts = compile_service_nodes(Place.of(found, host, "red"), found.vpcs["red"], 1400)
    assert parts.sets == (NftSet(RED, "service_links", frozenset(devices)),)
