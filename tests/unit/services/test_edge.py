"""The edge of a VPC on a host: one namespace with all its parts."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from appliance.model.composed import Composed, Kind
from appliance.model.facts import (
    HOST,
    FdbEntry,
    Hop,
    Link,
    LinkAddress,
    Neighbour,
    Netns,
    NftSet,
    NftTable,
    Route,
    Sysctl,
)
from appliance.model.marks import PROTO_BOX
from services.edge import Edge, carried, carriers, compile_edge, table
from services.feature import Chain, EdgeParts, Runtime
from services.place import Place, overlay_mac
from tests.support.intents import changed, intent, one_vpc, two_vpcs

INTENT = intent(two_vpcs())
NS = Place.of(INTENT, "h1", "red").ns


def edge(node: str = "h1", vpc: str = "red") -> Edge:
    """Compile one edge with nothing known."""
    return compile_edge(INTENT, node, vpc, Runtime())


def test_a_host_carries_the_vpcs_of_its_guests() -> None:
    """In order of name, whatever the order of the file."""
    assert carried(INTENT, "h1") == ("blue", "red")
    assert carried(INTENT, "gw1") == ()
    assert carriers(INTENT.vpcs["red"]) == {"h1", "h2"}


def test_an_edge_is_a_namespace_with_an_uplink_a_bridge_and_an_overlay() -> None:
    """The devices, and who hangs on whom."""
    links = {fact.key: fact for fact in edge().facts if isinstance(fact, Link)}
    assert Netns(NS) in edge().facts
    assert {key: link.kind for key, link in links.items()} == {
        (HOST, "ew-v101"): "veth",
        (NS, "ew-up"): "veth",
        (NS, "ew-lan"): "bridge",
        (NS, "ew-vx"): "vxlan",
        (NS, "tap11"): "physical",
        (NS, "tap13"): "physical",
    }
    assert (links[HOST, "ew-v101"].peer, links[NS, "ew-up"].peer) == ((NS, "ew-up"), (HOST, "ew-v101"))
    assert (links[NS, "tap11"].master, links[NS, "tap11"].isolated) == ("ew-lan", True)
    assert (links[NS, "ew-vx"].vni, links[NS, "ew-vx"].learning) == (101, False)


def test_the_overlay_leaves_room_for_its_header() -> None:
    """VXLAN over IPv4 adds 50 octets."""
    made = compile_edge(intent(changed(one_vpc(), "nodes.h1.fabric.mtu", 9000)), "h1", "red", Runtime())
    mtus = {fact.name: fact.mtu for fact in made.facts if isinstance(fact, Link)}
    assert (mtus["ew-vx"], mtus["ew-lan"], mtus["ew-up"], mtus["tap11"]) == (8950, 9000, 9000, 9000)


def test_each_other_host_of_the_vpc_is_a_neighbour_on_the_overlay() -> None:
    """With the MAC that its own end has."""
    facts = edge().facts
    mac = overlay_mac("h2", "red")
    assert [f for f in facts if isinstance(f, Neighbour)] == [Neighbour(NS, "ew-vx", IPv4Address("100.127.0.12"), mac)]
    assert [f for f in facts if isinstance(f, FdbEntry)] == [FdbEntry(NS, "ew-vx", mac, IPv4Address("10.0.0.12"))]
    (there,) = (f for f in edge("h2").facts if isinstance(f, Link) and f.name == "ew-vx")
    assert there.mac == mac


def test_a_host_without_guests_of_the_vpc_is_no_neighbour() -> None:
    """It has no end there."""
    alone = intent(changed(one_vpc(), "vpcs.red.guests.r2.host", "h1"))
    facts = compile_edge(alone, "h1", "red", Runtime()).facts
    assert not [fact for fact in facts if isinstance(fact, Neighbour | FdbEntry)]


def test_the_edge_answers_for_the_whole_subnet_and_forwards() -> None:
    """Isolated ports cannot answer each other."""
    sysctls = {fact.name: fact.value for fact in edge().facts if isinstance(fact, Sysctl)}
    assert sysctls["net.ipv4.ip_forward"] == "1"
    assert sysctls["net.ipv4.conf.ew-lan.proxy_arp"] == sysctls["net.ipv4.conf.ew-lan.proxy_arp_pvlan"] == "1"
    assert LinkAddress(NS, "ew-lan", IPv4Interface("172.16.1.1/24")) in edge().facts


def test_no_device_of_an_edge_filters_by_the_way_back() -> None:
    """A device keeps what was the default when it was made, and the kernel takes the larger of that and `all`."""
    filters = {(f.ns, f.name.split(".")[3]) for f in edge().facts if isinstance(f, Sysctl) and "rp_filter" in f.name}
    made = {f.key for f in edge().facts if isinstance(f, Link) and f.kind != "physical"}
    assert filters == {(NS, "all"), (NS, "default"), *made}


def test_everything_else_leaves_by_the_uplink_and_what_is_taken_out_comes_in_by_it() -> None:
    """The default route, and the address behind the uplink."""
    routes = {(f.ns, f.destination): f for f in edge().facts if isinstance(f, Route)}
    everything = IPv4Network("0.0.0.0/0")
    assert routes[NS, everything] == Route(NS, everything, (Hop("ew-up", IPv4Address("100.64.0.202")),), PROTO_BOX)
    inward = IPv4Network("100.80.0.101/32")
    assert routes[HOST, inward].hops == (Hop("ew-v101", IPv4Address("100.64.0.203")),)


def test_guests_that_stand_here_are_announced_under_their_vpc() -> None:
    """Which makes equal subnets distinct."""
    prefixes = {vpc: {a.prefix for a in edge("h1", vpc).advertisements if a.kind == "guest"} for vpc in ("red", "blue")}
    composed = INTENT.zone.composed
    assert prefixes["red"] == {
        Composed(Kind.GUEST, IPv4Address(f"172.16.1.{n}"), 101).network(composed) for n in (11, 13)
    }
    assert prefixes["blue"] == {Composed(Kind.GUEST, IPv4Address("172.16.1.21"), 102).network(composed)}


@pytest.mark.parametrize("vpc", ["red", "blue"])
def test_the_facts_of_an_edge_have_one_value_a_key(vpc: str) -> None:
    """Two facts of one key would fight."""
    keys = [(type(fact), fact.key) for fact in edge("h1", vpc).facts]
    assert len(keys) == len(set(keys))


def test_the_edges_of_two_vpcs_with_one_subnet_do_not_meet() -> None:
    """Nothing of the one has a key of the other."""
    red, blue = ({(type(f), f.key) for f in edge("h1", vpc).facts} for vpc in ("red", "blue"))
    assert not red & blue


def test_a_table_declares_every_set_it_has_elements_for() -> None:
    """And refers to none that it does not declare."""
    body = next(fact.body for fact in edge().facts if isinstance(fact, NftTable))
    declared = set(re.findall(r"^(?:set|map) (\S+)", body, re.MULTILINE))
    filled_by_the_port = {"dispatch", "instructions4", "instructions6"}
    assert declared - filled_by_the_port == {fact.name for fact in edge().facts if isinstance(fact, NftSet)}
    assert set(re.findall(r"@(\w+)", body)) <= declared
    chains = re.findall(r"^chain (\w+)", body, re.MULTILINE)
    assert len(chains) == len(set(chains))
    assert set(re.findall(r"(?:goto|jump) (\w+)", body)) <= set(chains)


def test_what_services_add_stands_before_what_refers_to_it() -> None:
    """Declarations, chains without a hook, the conntrack zone, translation."""
    parts = EdgeParts(chains=(Chain("x", ("accept",)),), declarations=("set a { type mark; }",))
    body = table(Place.of(INTENT, "h1", "red"), parts)
    assert re.findall(r"^chain (\w+)", body, re.MULTILINE) == [
        "x",
        "tracked",
        "tracked_local",
        "prerouting",
        "postrouting",
    ]
    assert body.startswith(
        "set a { type mark; }\nchain x {\n  accept\n}\nchain tracked {\n  type filter hook prerouting"
    )
    assert body.count("ct zone set 1101") == 2


def test_what_may_pass_is_decided_in_one_base_chain_that_drops_the_rest() -> None:
    """After translation, before routing."""
    body = next(fact.body for fact in edge().facts if isinstance(fact, NftTable))
    assert "type filter hook prerouting priority dstnat + 10; policy drop;" in body
    assert body.count("policy drop") == 1
    assert "hook forward" not in body
