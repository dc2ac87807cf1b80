"""Speakers, sessions and policies: what a node announces is accepted from it and from nobody else."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from appliance.control.compile import Desired, compile_intent
from appliance.model.intent import Intent
from routing.advertise import KINDS, owns, speakers
from routing.bgp.policy import judge, may_export
from routing.bgp.values import (
    Attributes,
    Family,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Reason,
    Segment,
    SegmentType,
    Speaker,
)
from tests.support.intents import Tree, changed, intent, lab, node, one_vpc, pair, random_tree, two_vpcs
from tests.support.laws import clashes, compile_all, heard, stolen

LAB = lab()
DESIRED = compile_all(LAB)


def speaker(name: str, kind: str = "router", desired: dict[str, Desired] = DESIRED) -> Speaker:
    """Return one speaker of a node."""
    return next(speaker for speaker in desired[name].speakers if speaker.name == kind)


def session(server: Speaker, name: str) -> Neighbor:
    """Return one session of a speaker by its name."""
    return next(neighbor for neighbor in server.neighbors if neighbor.name == name)


def says(
    prefix: str, *path: int, next_hop: str = "192.0.2.101", who: str = "up1/ipv4", kind: str = "exchange"
) -> Reason | None:
    """Let a neighbour of rs1 announce something."""
    server = speaker("rs1", kind)
    segments = (Segment(SegmentType.SEQUENCE, path),) if path else ()
    return judge(ip_network(prefix), Attributes(ip_address(next_hop), as_path=segments), session(server, who), server)


def several(count: int, first: int = 0) -> list[Intent]:
    """Return random intents."""
    return [intent(random_tree(random.Random(seed))) for seed in range(first, first + count)]


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_every_announcement_is_accepted_by_every_route_server(first: int) -> None:
    """By both planes that it is sent to, with every block of ports taken."""
    for made in (LAB, intent(two_vpcs()), *several(10, first)):
        desired = compile_all(made)
        sent = list(heard(made, desired))
        assert [one for one in sent if one.reason is not None] == []
        if made.with_role("host"):
            assert {one.sender for one in sent} >= set(made.with_role("host"))
        assert all(clashes(state) == [] for state in desired.values())


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_no_announcement_is_accepted_from_anybody_else(first: int) -> None:
    """What belongs to one host no other host can draw to itself."""
    for made in (LAB, intent(two_vpcs()), *several(10, first)):
        assert list(stolen(made, compile_all(made))) == []


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_two_hosts_never_own_one_prefix(first: int) -> None:
    """But for VIPs, which every host with a backend serves."""
    for made in several(10, first):
        vips = {ip_network(vip.address) for vpc in made.vpcs.values() for vip in vpc.vips.values()}
        seen: dict[Network, str] = {}
        for name in made.with_role("host"):
            for rule in set(owns(made, name)) - {PrefixRule.exact(network) for network in (*vips, *made.zone.public)}:
                assert seen.setdefault(rule.network, name) == name
                assert (rule.min_length, rule.max_length) == (rule.network.prefixlen, rule.network.prefixlen)


def test_a_route_server_runs_a_reflector_and_a_transparent_server() -> None:
    """RFC 4456 in the zone, RFC 7947 on the exchange, each on its own plane's addresses."""
    zone, exchange = DESIRED["rs1"].speakers
    assert (zone.name, zone.mode, zone.asn) == ("zone", Mode.REFLECTOR, 64512)
    assert (exchange.name, exchange.mode, exchange.asn) == ("exchange", Mode.TRANSPARENT, 64500)
    assert [str(address) for address in zone.listen] == ["10.0.0.1", "fd00:fab::1"]
    assert [str(address) for address in exchange.listen] == ["192.0.2.1", "2001:db8:ff::1"]
    assert zone.router_id != exchange.router_id
    assert zone.announcements == exchange.announcements == ()


def test_a_route_server_without_a_port_on_the_exchange_serves_the_zone_alone() -> None:
    """As does one of a zone without an exchange."""
    made = intent(changed(pair(), "nodes.rs1.exchange", ...))
    assert [speaker.name for speaker in compile_intent(made, "rs1").speakers] == ["zone"]
    hosts = {"zone": changed(pair(), "zone.exchange-as", ...)["zone"], "nodes": {"h1": node(11, "host")}}
    assert [speaker.name for speaker in compile_intent(intent(hosts), "h1").speakers] == ["router"]


def test_the_clients_of_the_zone_are_its_nodes_and_peers_with_a_session_a_family() -> None:
    """A route server is no client of another one."""
    names = {neighbor.name for neighbor in speaker("rs1", "zone").neighbors}
    assert names == {f"{name}/{word}" for name in ("h1", "h2", "gw1", "gw2", "legacy") for word in ("ipv4", "ipv6")}
    for neighbor in speaker("rs1", "zone").neighbors:
        assert neighbor.address is not None
        assert neighbor.families == (Family.of(neighbor.address),)
        assert neighbor.asn == 64512


def test_the_clients_of_the_exchange_are_gateways_and_upstreams() -> None:
    """Each under its own AS."""
    found = {neighbor.name: neighbor.asn for neighbor in speaker("rs1", "exchange").neighbors}
    assert found == {
        f"{name}/{word}": asn
        for name, asn in (("gw1", 64512), ("gw2", 64512), ("up1", 65101), ("up2", 65102))
        for word in ("ipv4", "ipv6")
    }


def test_hosts_speak_on_the_fabric_and_gateways_on_both_planes() -> None:
    """To every route server."""
    assert {neighbor.name for neighbor in speaker("h1").neighbors} == {
        f"{server}/fabric/{word}" for server in ("rs1", "rs2") for word in ("ipv4", "ipv6")
    }
    planes = {neighbor.name.split("/")[1]: neighbor for neighbor in speaker("gw1").neighbors}
    assert set(planes) == {"fabric", "exchange"}
    assert (planes["fabric"].next_hop_self, planes["exchange"].next_hop_self) == (True, False)
    assert (planes["fabric"].asn, planes["exchange"].asn) == (64512, 64500)


@pytest.mark.parametrize(
    ("prefix", "path", "reason"),
    [
        ("198.51.100.0/24", (65101, 1299), None),
        ("0.0.0.0/0", (65101,), Reason.BOGON),
        ("198.51.100.0/25", (65101,), Reason.BOGON),
        ("10.9.0.0/16", (65101,), Reason.BOGON),
        ("203.0.113.0/24", (65101,), Reason.BOGON),
        ("192.0.2.0/24", (65101,), Reason.BOGON),
        ("198.51.100.0/24", (1299, 65101), Reason.FIRST_AS),
        ("198.51.100.0/24", (65101, 64512), Reason.FORBIDDEN_AS),
        ("198.51.100.0/24", (65101, 23456), Reason.FORBIDDEN_AS),
        ("198.51.100.0/24", (65101, 64500), Reason.AS_LOOP),
    ],
)
def test_an_upstream_may_announce_what_is_neither_special_nor_ours(
    prefix: str, path: tuple[int, ...], reason: Reason | None
) -> None:
    """RFC 7454, RFC 7948."""
    assert says(prefix, *path) is reason


def test_an_upstream_is_its_own_next_hop() -> None:
    """Nobody sends traffic to a third party (RFC 7948 4.8)."""
    assert says("198.51.100.0/24", 65101, next_hop="192.0.2.102") is Reason.NEXT_HOP


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("10.77.0.0/16", None),
        ("10.77.5.0/24", None),
        ("10.77.5.0/25", Reason.NOT_OWNED),
        ("10.78.0.0/16", Reason.NOT_OWNED),
        ("203.0.113.0/24", Reason.BOGON),
        ("10.255.0.11/32", Reason.BOGON),
    ],
)
def test_a_router_of_the_zone_may_announce_what_the_intent_gives_it(prefix: str, reason: Reason | None) -> None:
    """And nothing of the zone's own."""
    assert says(prefix, next_hop="10.0.0.41", who="legacy/ipv4", kind="zone") is reason


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("198.51.100.0/24", None),
        ("0.0.0.0/0", None),
        ("203.0.113.0/24", None),
        ("10.255.0.21/32", None),
        ("10.255.0.11/32", Reason.BOGON),
        ("10.0.0.0/24", Reason.BOGON),
    ],
)
def test_a_gateway_brings_what_it_learned_outside_and_nothing_of_other_nodes(
    prefix: str, reason: Reason | None
) -> None:
    """It is the only way out, and no way around the hosts."""
    assert says(prefix, next_hop="10.0.0.21", who="gw1/ipv4", kind="zone") is reason


def test_a_gateway_sends_outside_the_public_prefixes_alone() -> None:
    """Guests, loopbacks and blocks of ports stay inside."""
    exports = next(n.exports for n in speaker("gw1").neighbors if n.name == "rs1/exchange/ipv4")
    sent = [str(a.prefix) for a in speaker("gw1").announcements if may_export(a.prefix, exports)]
    assert sent == ["203.0.113.0/24"]
    assert not may_export(ip_network("10.255.0.21/32"), exports)
    assert not may_export(ip_network("203.0.113.11/32"), exports)


def test_a_gateway_takes_from_the_exchange_nothing_of_its_own_zone() -> None:
    """A route that went out and came back would loop."""
    made = speaker("gw1")
    neighbor = session(made, "rs1/exchange/ipv4")
    outside = Attributes(ip_address("192.0.2.101"), as_path=(Segment(SegmentType.SEQUENCE, (65101,)),))
    assert judge(ip_network("198.51.100.0/24"), outside, neighbor, made) is None
    assert judge(ip_network("203.0.113.0/24"), outside, neighbor, made) is Reason.BOGON
    looped = replace(outside, as_path=(Segment(SegmentType.SEQUENCE, (65101, 64512)),))
    assert judge(ip_network("198.51.100.0/24"), looped, neighbor, made) is Reason.AS_LOOP


def _both_roles() -> Tree:
    tree = one_vpc()
    tree["nodes"]["h1"] = node(11, "host", "gateway", exchange=True)
    tree["vpcs"]["red"]["guests"]["r2"]["host"] = "h2"
    return tree


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("fd00:ed9e:0:3:ac10:10b:65:0/112", None),  # its own guest
        ("fd00:ed9e:0:3:ac10:10c:65:0/112", Reason.NOT_OWNED),  # a guest of h2
        ("fd00:ed9e:0:1:cb00:7101:3000:0/102", Reason.NOT_OWNED),  # a block of h2
        ("fd00:ed9e::/48", Reason.NOT_OWNED),
        ("fd00:ed9e:0:3::/64", Reason.NOT_OWNED),
        ("fd00:ed9e::/32", None),
        ("fd00:ed9f::/48", None),
        ("2001:db8:5::/48", None),
        ("::/0", None),
        ("fd00:ff::12/128", Reason.BOGON),
        ("fd00:fab::/64", Reason.BOGON),
    ],
)
def test_a_host_that_is_a_gateway_too_brings_the_outside_and_of_the_composed_space_its_own(
    prefix: str, reason: Reason | None
) -> None:
    """Neither role takes from the other."""
    made = intent(_both_roles())
    server = speaker("rs1", "zone", compile_all(made))
    neighbor = session(server, "h1/ipv6")
    assert judge(ip_network(prefix), Attributes(ip_address("fd00:fab::11")), neighbor, server) is reason


def test_every_announcement_says_zone_kind_and_owner() -> None:
    """In a large community (RFC 8092)."""
    said = {a.prefix: a.large_communities for a in speaker("h1").announcements}
    kinds = {a.prefix: a for a in DESIRED["h1"].advertisements}
    assert {a.kind for a in kinds.values()} == set(KINDS) - {"public"}
    for prefix, advertisement in kinds.items():
        owner = 11 if advertisement.kind == "loopback" else LAB.vpcs[advertisement.owner].id
        assert said[prefix] == ((64512, KINDS[advertisement.kind], owner),)


def test_a_vpc_with_the_name_of_a_node_does_not_own_the_nodes_loopback() -> None:
    """The community names the node."""
    tree = pair() | {"vpcs": {"h1": {"id": 500, "subnet": "10.9.0.0/24"}}}
    (router,) = compile_intent(intent(tree), "h1").speakers
    assert {a.large_communities[0][2] for a in router.announcements} == {11}


def test_announcements_have_the_fabric_as_next_hop_but_public_prefixes_each_sessions_own() -> None:
    """They go to both planes."""
    hops = {str(a.prefix): a.next_hop for a in speaker("gw1").announcements}
    assert hops == {
        "10.255.0.21/32": ip_address("10.0.0.21"),
        "fd00:ff::21/128": ip_address("fd00:fab::21"),
        "203.0.113.0/24": None,
    }


def test_a_peer_with_several_addresses_of_one_version_has_a_name_for_each_session() -> None:
    """Engines know sessions by name."""
    peers = {"x": {"as": 65101, "addresses": ["192.0.2.101", "192.0.2.102", "2001:db8:ff::101"]}}
    server = speaker("rs1", "exchange", compile_all(intent(pair() | {"peers": peers})))
    assert {n.name for n in server.neighbors if n.name.startswith("x/")} == {"x/192.0.2.101", "x/192.0.2.102", "x/ipv6"}


def test_a_range_of_peers_is_one_dynamic_neighbour() -> None:
    """Which waits to be called, and whose next hops are not known before."""
    peers = {"x": {"as": 65101, "range": "2001:db8:ff::/65", "announces": {"prefixes": ["2001:db8:5::/48"]}}}
    neighbor = session(speaker("rs1", "exchange", compile_all(intent(pair() | {"peers": peers}))), "x/ipv6")
    assert (neighbor.address, neighbor.range, neighbor.passive) == (None, ip_network("2001:db8:ff::/65"), True)
    assert (neighbor.families, neighbor.imports.next_hops) == ((Family.IPV6,), ())


@pytest.mark.parametrize("role", [None, "rs-client"])
def test_a_peer_with_a_role_is_a_client(role: str | None) -> None:
    """RFC 9234: of nobody else is it assumed."""
    zone = changed(pair(), "nodes.rs1.engine", "native") | {
        "peers": {"x": {"as": 65101, "addresses": ["192.0.2.101"], "role": role}}
    }
    neighbor = session(speaker("rs1", "exchange", compile_all(intent(zone))), "x/ipv4")
    assert neighbor.client == (role is not None)


def test_a_peer_is_sent_what_it_asks_for_or_everything() -> None:
    """By family."""
    peer = {"as": 65101, "addresses": ["192.0.2.101"]}
    peers = {"x": peer, "y": peer | {"addresses": ["192.0.2.102"], "receives": ["203.0.113.0/24 le 32", "fd00::/8"]}}
    server = speaker("rs1", "exchange", compile_all(intent(pair() | {"peers": peers})))
    everything, some = (session(server, f"{name}/ipv4").exports for name in ("x", "y"))
    assert may_export(ip_network("8.8.8.0/24"), everything)
    assert [str(rule.network) for rule in some.accept] == ["203.0.113.0/24"]


def test_a_peer_without_announces_may_announce_nothing() -> None:
    """RFC 8212."""
    peers = {"x": {"as": 65101, "addresses": ["192.0.2.101"]}}
    server = speaker("rs1", "exchange", compile_all(intent(pair() | {"peers": peers})))
    route = Attributes(ip_address("192.0.2.101"), as_path=(Segment(SegmentType.SEQUENCE, (65101,)),))
    assert judge(ip_network("198.51.100.0/24"), route, session(server, "x/ipv4"), server) is Reason.NO_POLICY


def test_the_order_of_advertisements_does_not_matter() -> None:
    """Equal speakers are left alone."""
    advertisements = DESIRED["h1"].advertisements
    assert speakers(LAB, "h1", advertisements) == speakers(LAB, "h1", reversed(advertisements))
