"""The node's own place: addresses for all, forwarding and composing for those that move packets of others."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface

import pytest

from appliance.model.facts import HOST, Compose, Fact, Link, LinkAddress, Neighbour, Route, Sysctl
from appliance.model.marks import COMPOSE_IN, COMPOSE_OUT
from routing.attach import COMPOSE_FAR, COMPOSE_NEAR, compile_node, forwards
from tests.support.intents import changed, intent, one_vpc, two_vpcs

INTENT = intent(two_vpcs())
VIP = IPv4Address("203.0.113.80")


def facts(name: str, members: dict[IPv4Address, tuple[int, ...]] | None = None) -> list[Fact]:
    """Compile one node."""
    return list(compile_node(INTENT, name, members or {}))


@pytest.mark.parametrize(("name", "does"), [("rs1", False), ("h1", True), ("gw1", True)])
def test_hosts_and_gateways_forward_and_a_route_server_does_not(name: str, does: bool) -> None:
    """It moves no packet of others, whoever asks it to."""
    assert forwards(INTENT.nodes[name]) is does
    assert (Sysctl(HOST, "net.ipv4.ip_forward", "1") in facts(name)) is does
    assert any(isinstance(fact, Compose) for fact in facts(name)) is does


@pytest.mark.parametrize(("name", "devices"), [("h1", ["eth1"]), ("gw1", ["eth1", "eth2"]), ("rs1", ["eth1", "eth2"])])
def test_a_node_has_its_ports_and_loopbacks(name: str, devices: list[str]) -> None:
    """With both addresses each."""
    made, node = facts(name), INTENT.nodes[name]
    assert [fact.name for fact in made if isinstance(fact, Link) and fact.kind == "physical"] == devices
    for port in filter(None, (node.fabric, node.exchange)):
        assert LinkAddress(HOST, port.interface, port.ipv4) in made
        assert LinkAddress(HOST, port.interface, port.ipv6) in made
    assert LinkAddress(HOST, "lo", IPv4Interface(f"{node.loopback.ipv4}/32")) in made
    assert LinkAddress(HOST, "lo", IPv6Interface(f"{node.loopback.ipv6}/128")) in made


def test_no_device_of_a_node_that_forwards_filters_by_the_way_back() -> None:
    """Nor sends redirects; a dot in a device's name is a slash in a sysctl's."""
    made = intent(changed(one_vpc(), "nodes.h1.fabric.interface", "eth1.5"))
    names = {fact.name for fact in compile_node(made, "h1", {}) if isinstance(fact, Sysctl)}
    for device in ("all", "eth1/5", COMPOSE_IN, COMPOSE_OUT):
        assert {f"net.ipv4.conf.{device}.rp_filter", f"net.ipv4.conf.{device}.send_redirects"} <= names


def test_the_near_end_of_the_composing_pair_leaves_room_for_the_outer_header() -> None:
    """40 octets, so that the kernel itself answers what is too big (RFC 1191)."""
    made = intent(changed(one_vpc(), "nodes.h1.fabric.mtu", 9000))
    links = {fact.name: fact for fact in compile_node(made, "h1", {}) if isinstance(fact, Link)}
    assert (links[COMPOSE_IN].mtu, links[COMPOSE_OUT].mtu, links["eth1"].mtu) == (8960, 9000, 9000)
    assert (links[COMPOSE_IN].peer, links[COMPOSE_OUT].peer) == ((HOST, COMPOSE_OUT), (HOST, COMPOSE_IN))


def test_the_far_end_is_a_neighbour_with_the_mac_that_it_has() -> None:
    """Nobody answers ARP there."""
    made = facts("h1")
    (far,) = (fact for fact in made if isinstance(fact, Neighbour))
    (link,) = (fact for fact in made if isinstance(fact, Link) and fact.name == COMPOSE_OUT)
    assert (far.link, far.address, far.mac) == (COMPOSE_IN, COMPOSE_FAR, link.mac)
    assert COMPOSE_FAR in COMPOSE_NEAR.network


def test_shared_addresses_go_into_the_pair() -> None:
    """Those of source NAT always, a VIP's while somebody serves it."""
    sources = {IPv4Network("203.0.113.1"), IPv4Network("203.0.113.2")}
    assert {fact.destination for fact in facts("gw1") if isinstance(fact, Route)} == sources
    served = facts("gw1", {VIP: (12, 11)})
    assert {fact.destination for fact in served if isinstance(fact, Route)} == {*sources, IPv4Network(VIP)}
    (compose,) = (fact for fact in served if isinstance(fact, Compose))
    assert compose.members == ((VIP, (11, 12)),)
    assert (compose.source, compose.prefix) == (INTENT.nodes["gw1"].loopback.ipv6, INTENT.zone.composed)


def test_members_of_an_address_that_is_no_vip_any_more_are_not_believed() -> None:
    """BGP forgets later than the intent; the address may be a guest's own by now."""
    made = facts("h1", {IPv4Address("203.0.113.11"): (12,), VIP: (12,)})
    assert IPv4Network("203.0.113.11") not in {fact.destination for fact in made if isinstance(fact, Route)}
    (compose,) = (fact for fact in made if isinstance(fact, Compose))
    assert compose.members == ((VIP, (12,)),)


@pytest.mark.parametrize("name", ["rs1", "h1", "gw1"])
def test_the_facts_of_a_node_have_one_value_a_key(name: str) -> None:
    """Two facts of one key would fight."""
    keys = [(type(fact), fact.key) for fact in facts(name, {VIP: (11,)})]
    assert len(keys) == len(set(keys))
