"""VIPs on one host: local healthy backends, a composed prefix of its own, and silence when none is left."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from appliance.model.composed import Composed, Kind
from appliance.model.facts import HOST
from appliance.model.intent import Intent
from services.balance import compile_vips, healthy_backends
from services.feature import EdgeParts
from services.place import Place
from tests.support.intents import changed, intent, one_vpc

WEB: dict[str, Any] = one_vpc()["vpcs"]["red"]["vips"]["web"]


def with_vips(**vips: dict[str, Any]) -> Intent:
    """Return the intent with these VIPs."""
    return intent(changed(one_vpc(), "vpcs.red.vips", vips))


def compiled(made: Intent, node: str = "h1", *down: str) -> EdgeParts:
    """Compile on a node while some guests' port 8080 is down."""
    return compile_vips(Place.of(made, node, "red"), made.vpcs["red"], frozenset(("red", name, 8080) for name in down))


def test_local_backends_share_the_flows_by_a_hash() -> None:
    """Of source address and port: one flow, one backend, no state."""
    (statement,) = compiled(with_vips(web=WEB)).prerouting
    match, _, target = statement.partition(" dnat ip to ")
    assert match == "ip daddr 203.0.113.80 tcp dport 80"
    assert target == "jhash ip saddr . tcp sport mod 2 map { 0 : 172.16.1.11, 1 : 172.16.1.13 }:8080"


def test_one_local_backend_gets_all() -> None:
    """Also when it is the last that is up."""
    statement = "ip daddr 203.0.113.80 tcp dport 80 dnat ip to"
    assert compiled(with_vips(web=WEB), "h2").prerouting == (f"{statement} 172.16.1.12:8080",)
    assert compiled(with_vips(web=WEB), "h1", "r1").prerouting == (f"{statement} 172.16.1.13:8080",)


@pytest.mark.parametrize(("node", "down"), [("h1", ("r1", "r3")), ("h2", ("r2",))])
def test_a_host_without_a_healthy_backend_is_silent(node: str, down: tuple[str, ...]) -> None:
    """No translation, no route, no announcement: the gateways turn to the others."""
    assert compiled(with_vips(web=WEB), node, *down) == EdgeParts()


def test_a_vip_is_announced_by_its_address_and_by_a_member_of_each_host() -> None:
    """The address draws packets to the composing devices; the member leads to this host."""
    made = with_vips(web=WEB)
    for node, number in (("h1", 11), ("h2", 12)):
        parts = compiled(made, node)
        address = IPv4Network("203.0.113.80/32")
        member = Composed(Kind.VIP, address.network_address, number).network(made.zone.composed)
        assert [(a.kind, a.prefix) for a in parts.advertisements] == [("vip-member", member), ("vip", address)]
        (route,) = parts.routes
        assert (route.ns, route.destination, route.hops[0].decapsulate is not None) == (HOST, member, True)


def test_vips_that_share_an_address_are_announced_once_while_one_is_served() -> None:
    """The address stays as long as any of its ports has a backend."""
    made = with_vips(web=WEB, tls=WEB | {"port": 443, "target-port": 8443}, dns=WEB | {"port": 53, "protocol": "udp"})
    both, one = compiled(made), compiled(made, "h1", "r1", "r3")
    assert len(both.prerouting) == 3
    assert ["tcp dport 443" in statement for statement in one.prerouting] == [True]
    assert one.advertisements == both.advertisements
    assert one.routes == both.routes


def test_a_udp_vip_hashes_the_udp_port() -> None:
    """The port of another protocol would not match."""
    (statement,) = compiled(with_vips(dns=WEB | {"protocol": "udp"})).prerouting
    assert "udp dport 80" in statement
    assert "ip saddr . udp sport" in statement


def test_a_guest_that_calls_a_vip_of_its_own_vpc_gets_the_answer_through_the_edge() -> None:
    """Its packet seems to come from the gateway, so the answer comes back and is translated."""
    assert compiled(with_vips(web=WEB)).postrouting == (
        'iifname "ew-lan" oifname "ew-lan" ct status dnat snat ip to 172.16.1.1',
    )


def test_the_target_port_is_the_vips_own_when_absent() -> None:
    """Health is then known by that port too."""
    made = with_vips(web={key: value for key, value in WEB.items() if key != "target-port"})
    place, vpc = Place.of(made, "h1", "red"), made.vpcs["red"]
    assert compiled(made).prerouting[0].endswith("}:80")
    assert healthy_backends(place, vpc, vpc.vips["web"], frozenset({("red", "r1", 80)})) == ("r3",)
    assert healthy_backends(place, vpc, vpc.vips["web"], frozenset({("blue", "r1", 80)})) == ("r1", "r3")
