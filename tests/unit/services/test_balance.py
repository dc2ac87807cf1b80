"""VIPs on one host: local healthy backends, a composed prefix of its own, and silence when none is left."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Network
from typing import Any

import pytest

from appliance.model.composed import Composed, Kind
from appliance.model.facts import HOST
from appliance.model.intent import Intent
from services.balance import BUCKETS, compile_vips, healthy_backends
from services.feature import EdgeParts
from services.place import Place
from tests.support.intents import changed, guest, intent, one_vpc

WEB: dict[str, Any] = one_vpc()["vpcs"]["red"]["vips"]["web"]


def with_vips(**vips: dict[str, Any]) -> Intent:
    """Return the intent with these VIPs."""
    return intent(changed(one_vpc(), "vpcs.red.vips", vips))


def compiled(made: Intent, node: str = "h1", *down: str) -> EdgeParts:
    """Compile on a node while some guests' port 8080 is down."""
    return compile_vips(Place.of(made, node, "red"), made.vpcs["red"], frozenset(("red", name, 8080) for name in down))


def shares(parts: EdgeParts) -> Counter[str]:
    """Return how many buckets each backend has."""
    (found,) = parts.sets
    return Counter(element.split(" : ")[1] for element in found.elements)


def test_local_backends_share_the_flows_by_a_hash() -> None:
    """Of source address and port: one flow, one backend, no state; every bucket has one."""
    parts = compiled(with_vips(web=WEB))
    assert parts.prerouting[0].endswith("meta mark set jhash ip saddr . th sport mod 64")
    found = shares(parts)
    assert found.keys() == {"172.16.1.11 . 8080", "172.16.1.13 . 8080"}
    assert found.total() == BUCKETS
    assert min(found.values()) > BUCKETS / 4


def test_one_local_backend_gets_all() -> None:
    """Also when it is the last that is up."""
    assert shares(compiled(with_vips(web=WEB), "h2")) == {"172.16.1.12 . 8080": BUCKETS}
    assert shares(compiled(with_vips(web=WEB), "h1", "r1")) == {"172.16.1.13 . 8080": BUCKETS}


def test_a_backend_that_goes_moves_its_own_flows_alone() -> None:
    """The buckets of the others stay."""
    there = {f"r{n}": guest("h1", 10 + n) for n in range(5)}
    tree = changed(changed(one_vpc(), "vpcs.red.guests", there), "vpcs.red.firewall", {})
    made = intent(changed(tree, "vpcs.red.vips", {"web": WEB | {"backends": list(there)}}))
    (before,), (after,) = compiled(made).sets, compiled(made, "h1", "r3").sets
    assert {element.split(" : ")[1] for element in before.elements - after.elements} == {"172.16.1.13 . 8080"}
    assert "172.16.1.13" not in str(after.elements)


def test_the_table_is_the_same_whatever_the_backends() -> None:
    """Only elements change."""
    one, two, none = (compiled(with_vips(web=WEB), "h1", *down) for down in ((), ("r1",), ("r1", "r3")))
    assert one.prerouting == two.prerouting == none.prerouting
    assert one.declarations == two.declarations == none.declarations
    assert one.postrouting == two.postrouting == none.postrouting


@pytest.mark.parametrize(("node", "down"), [("h1", ("r1", "r3")), ("h2", ("r2",))])
def test_a_host_without_a_healthy_backend_is_silent(node: str, down: tuple[str, ...]) -> None:
    """No translation, no route, no announcement: the gateways turn to the others."""
    parts = compiled(with_vips(web=WEB), node, *down)
    assert (parts.routes, parts.advertisements, [fact.elements for fact in parts.sets]) == ((), (), [frozenset()])


def test_a_vpc_without_vips_has_nothing_of_them() -> None:
    """No map, no statement."""
    assert compiled(with_vips()) == EdgeParts()


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
    assert shares(both).total() == 3 * BUCKETS
    assert shares(one) == {"172.16.1.11 . 8443": shares(both)["172.16.1.11 . 8443"]} | {
        "172.16.1.13 . 8443": shares(both)["172.16.1.13 . 8443"]
    }
    assert one.advertisements == both.advertisements
    assert one.routes == both.routes


def test_a_udp_vip_is_one_of_its_protocol() -> None:
    """TCP to the same port is not translated."""
    (found,) = compiled(with_vips(dns=WEB | {"protocol": "udp"})).sets
    assert {element.split(" . ")[1] for element in found.elements} == {"udp"}


def test_a_guest_that_calls_a_vip_of_its_own_vpc_gets_the_answer_through_the_edge() -> None:
    """Its packet seems to come from the gateway, so the answer comes back and is translated."""
    assert compiled(with_vips(web=WEB)).postrouting == (
        'iifname "ew-lan" oifname "ew-lan" ct status dnat snat ip to 172.16.1.1',
    )


def test_the_target_port_is_the_vips_own_when_absent() -> None:
    """Health is then known by that port too."""
    made = with_vips(web={key: value for key, value in WEB.items() if key != "target-port"})
    place, vpc = Place.of(made, "h1", "red"), made.vpcs["red"]
    assert shares(compiled(made)).keys() == {"172.16.1.11 . 80", "172.16.1.13 . 80"}
    assert healthy_backends(place, vpc, vpc.vips["web"], frozenset({("red", "r1", 80)})) == ("r3",)
    assert healthy_backends(place, vpc, vpc.vips["web"], frozenset({("blue", "r1", 80)})) == ("r1", "r3")
