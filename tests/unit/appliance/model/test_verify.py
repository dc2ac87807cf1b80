"""What does not fit together in a zone, its nodes and its peers: each problem alone, at its path."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.support.intents import NAMED, Tree, changed, found, node, one_vpc, pair, random_tree

ROUTER = {"as": 65101, "addresses": ["192.0.2.101"]}


def with_peers(**peers: Tree) -> Tree:
    """Return `pair` with some peers."""
    return pair() | {"peers": peers}


@pytest.mark.parametrize("name", NAMED)
def test_the_named_intents_are_valid(name: str) -> None:
    """Every other test changes one thing of them."""
    assert found(NAMED[name]()) == {}


@pytest.mark.parametrize("seed", range(40))
def test_random_intents_are_valid(seed: int) -> None:
    """They are the ground of the property tests."""
    assert found(random_tree(random.Random(seed))) == {}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("zone.composed", "fd00:ed9e::/47", "must be a /48"),
        ("zone.composed", "fd00:ed9e::/64", "must be a /48"),
        ("zone.exchange-as", 64512, "must differ"),
        ("nodes.h2.id", 11, "node id 11 is taken by nodes.h1.id"),
        ("nodes.h2.id", 27, "id modulo nat-slots (16): 11 is taken by nodes.h1.id"),
        ("nodes.h2.loopback.ipv4", "10.255.0.11", "taken by nodes.h1.loopback.ipv4"),
        ("nodes.h2.loopback.ipv6", "fd00:ff::11", "taken by nodes.h1.loopback.ipv6"),
        ("nodes.h2.fabric.ipv4", "10.0.0.11/24", "taken by nodes.h1.fabric.ipv4"),
        ("nodes.gw1.exchange.ipv6", "2001:db8:ff::1/64", "taken by nodes.rs1.exchange.ipv6"),
        ("nodes.rs1.roles", ["route-server", "host"], "a route server has no other role"),
        ("nodes.h1.roles", ["host", "host"], "a role is given twice"),
        ("nodes.gw1.exchange.interface", "eth1", "device gw1:eth1 is taken by nodes.gw1.fabric.interface"),
        ("nodes.h2.fabric.ipv4", "10.0.1.12/24", "is not the fabric's subnet 10.0.0.0/24"),
        ("nodes.h2.fabric.ipv6", "fd00:fab::12/65", "is not the fabric's subnet"),
        ("nodes.gw1.exchange.ipv4", "192.0.3.21/24", "is not the exchange's subnet"),
        ("nodes.h1.loopback.ipv4", "0.0.0.0", "is unspecified"),
        ("nodes.h1.loopback.ipv4", "127.0.0.1", "is loopback"),
        ("nodes.h1.loopback.ipv4", "224.0.0.5", "is multicast"),
        ("nodes.h1.loopback.ipv4", "169.254.0.1", "is link-local"),
        ("nodes.h1.loopback.ipv4", "255.255.255.255", "is reserved"),
        ("nodes.h1.loopback.ipv6", "::", "is unspecified"),
        ("nodes.h1.loopback.ipv6", "fe80::1", "is link-local"),
        ("nodes.h1.loopback.ipv6", "fd00:ed9e::1", "lies in zone.composed"),
        ("nodes.h1.loopback.ipv4", "100.64.0.1", "used inside every node"),
        ("nodes.h1.fabric.ipv4", "10.0.0.0/24", "is no host address"),
        ("nodes.h1.fabric.ipv4", "10.0.0.255/24", "is no host address"),
        ("nodes.h1.fabric.ipv6", "fd00:fab::/64", "is no host address"),
        ("nodes.h1.loopback.ipv4", "10.0.0.99", "overlaps the subnet 10.0.0.0/24"),
        ("nodes.h1.loopback.ipv6", "2001:db8:ff::99", "overlaps the subnet 2001:db8:ff::/64"),
        ("zone.public.0", "192.0.2.128/25", "overlaps the subnet 192.0.2.0/24"),
        ("zone.public.0", "127.0.0.0/24", "nobody's public prefix"),
        ("zone.public.0", "192.0.0.0/2", "overlaps the subnet 192.0.2.0/24"),
        ("zone.public.0", "203.0.113.7/32", "is one address"),
    ],
)
def test_what_does_not_fit_is_found_at_its_path(path: str, value: Any, words: str) -> None:
    """And nothing else is found at that path."""
    assert words in found(changed(pair(), path, value)).get(path, "nothing found there")


@pytest.mark.parametrize("plane", ["gw1", "h1"])
def test_a_pair_of_addresses_is_a_subnet_too(plane: str) -> None:
    """RFC 3021: both addresses of a /31 are hosts."""
    tree = {"zone": pair()["zone"], "nodes": {"h1": node(11, "host"), "h2": node(12, "host")}}
    tree["nodes"]["h1"]["fabric"] |= {"ipv4": "10.0.0.0/31", "ipv6": "fd00:fab::/127"}
    tree["nodes"]["h2"]["fabric"] |= {"ipv4": "10.0.0.1/31", "ipv6": "fd00:fab::1/127"}
    assert found(tree) == {}


def test_the_planes_cannot_share_a_subnet() -> None:
    """A next hop could be on either."""
    tree = pair()
    for name in ("rs1", "gw1"):
        number = tree["nodes"][name]["id"]
        tree["nodes"][name]["exchange"] |= {"ipv4": f"10.0.0.{100 + number}/24"}
    assert found(tree) == {"nodes.rs1.exchange.ipv4": "the exchange's subnet overlaps the fabric's, 10.0.0.0/24"}


def test_a_subnet_that_holds_the_composed_prefix_is_found() -> None:
    """Destinations would be neighbours."""
    tree = {"zone": pair()["zone"], "nodes": {"h1": node(11, "host")}}
    tree["nodes"]["h1"]["fabric"]["ipv6"] = "fd00:ed9f::1/32"
    assert found(tree) == {}
    tree["nodes"]["h1"]["fabric"]["ipv6"] = "fd00:ed9f::1/16"
    assert "overlaps the subnet fd00::/16" in found(tree)["zone.composed"]


@pytest.mark.parametrize("who", ["node", "peer"])
def test_an_exchange_needs_an_as(who: str) -> None:
    """Nodes on it and peers on it alike."""
    tree = changed(pair(), "zone.exchange-as", ...)
    if who == "peer":
        tree["nodes"] = {"h1": node(11, "host")}
        tree["peers"] = {"x": ROUTER}
    assert found(tree) == {"zone": "nodes or peers are on the exchange, but exchange-as is absent"}
    assert found({"zone": tree["zone"], "nodes": {"h1": node(11, "host")}}) == {}


def test_a_gateway_needs_a_port_on_the_exchange() -> None:
    """Or it leads nowhere."""
    assert found(changed(pair(), "nodes.gw1.exchange", ...)) == {"nodes.gw1": "a gateway needs a port on the exchange"}


def test_hosts_in_different_slots_are_welcome_and_other_roles_need_none() -> None:
    """Only hosts own blocks of ports."""
    assert found(changed(pair(), "nodes.gw1.id", 27)) == {}


@pytest.mark.parametrize(
    ("peers", "path", "words"),
    [
        ({"h1": ROUTER}, "peers.h1", "is the name of a node"),
        ({"x": {"as": 65101}}, "peers.x", "either addresses or a range"),
        ({"x": {**ROUTER, "range": "192.0.2.0/25"}}, "peers.x", "either addresses or a range"),
        ({"x": {**ROUTER, "plane": "zone"}}, "peers.x.as", "plane zone is iBGP"),
        ({"x": {**ROUTER, "plane": "zone", "as": 64512, "role": "rs-client"}}, "peers.x.role", "roles are for eBGP"),
        ({"x": {**ROUTER, "role": "rs-client"}}, "peers.x.role", "the engine of rs1 knows no roles"),
        ({"x": {**ROUTER, "as": 64512}}, "peers.x.as", "is an AS of this zone"),
        ({"x": {**ROUTER, "as": 64500}}, "peers.x.as", "is an AS of this zone"),
        ({"x": {**ROUTER, "addresses": ["192.0.2.21"]}}, "peers.x.addresses.0", "belongs to a node"),
        ({"x": {**ROUTER, "addresses": ["::1"]}}, "peers.x.addresses.0", "is loopback"),
        ({"x": {**ROUTER, "addresses": ["192.0.2.9", "192.0.2.9"]}}, "peers.x.addresses.1", "taken by"),
        ({"x": ROUTER, "y": ROUTER}, "peers.y.addresses.0", "taken by peers.x.addresses.0"),
        (
            {"x": {"as": 65101, "range": "192.0.2.0/25"}, "y": {"as": 65102, "range": "192.0.2.64/26"}},
            "peers.y.range",
            "overlaps 192.0.2.0/25 of x",
        ),
    ],
)
def test_a_peer_that_does_not_fit_is_found_at_its_path(peers: Tree, path: str, words: str) -> None:
    """Sessions are known by address and name."""
    assert words in found(with_peers(**peers)).get(path, "nothing found there")


def test_peers_of_both_planes_and_ranges_apart_are_welcome() -> None:
    """The other side of the checks."""
    legacy = {"plane": "zone", "as": 64512, "addresses": ["10.0.0.41", "fd00:fab::41"]}
    dynamic = {"as": 65102, "range": "192.0.2.128/25"}
    assert found(with_peers(a=ROUTER, b=legacy, c=dynamic, d={**dynamic, "range": "2001:db8:ff::/65"})) == {}


@pytest.mark.parametrize(
    ("path", "value", "at", "words"),
    [
        ("vpcs.red.snat.address", "198.51.100.1", "vpcs.red.snat.address", "in none of the zone's public prefixes"),
        ("vpcs.red.snat.address", "203.0.113.11", "vpcs.red.guests.r1.public", "taken by vpcs.red.snat.address"),
        ("vpcs.red.vips.web.address", "203.0.113.1", "vpcs.red.vips.web.address", "taken by vpcs.red.snat.address"),
        ("nodes.h1.loopback.ipv4", "203.0.113.80", "vpcs.red.vips.web.address", "belongs to a node or a peer"),
        ("zone.public", ["203.0.113.0/24", "203.0.113.0/25"], "zone.public.1", "overlaps 203.0.113.0/24"),
    ],
)
def test_a_public_address_is_used_once_and_lies_in_a_public_prefix(path: str, value: Any, at: str, words: str) -> None:
    """Two owners of one address would take each other's flows."""
    assert words in found(changed(one_vpc(), path, value)).get(at, "nothing found there")


def test_vips_of_one_vpc_share_an_address_on_different_ports() -> None:
    """But those of two VPCs do not."""
    tree = one_vpc()
    tree["vpcs"]["red"]["vips"]["tls"] = tree["vpcs"]["red"]["vips"]["web"] | {"port": 443}
    assert found(tree) == {}
    tree["vpcs"]["blue"] = {
        "id": 5,
        "subnet": "10.9.0.0/24",
        "guests": {"b": {"host": "h1", "interface": "b", "address": "10.9.0.2"}},
    }
    tree["vpcs"]["blue"]["vips"] = {"tls": {"address": "203.0.113.80", "port": 8443, "backends": ["b"]}}
    assert "taken by vpcs.red.vips.web.address" in found(tree)["vpcs.blue.vips.tls.address"]
