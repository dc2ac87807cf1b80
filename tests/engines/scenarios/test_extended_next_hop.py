"""IPv4 routes with IPv6 next hops, between those who negotiated it and nobody else (RFC 8950)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from routing.bgp.values import Attributes, Family, Mode, Network
from tests.support.lan import Lan
from tests.support.routers.common import Link, Route, Router
from tests.support.scenario import (
    ASNS,
    CLASSES,
    SEND_ALL,
    SERVER,
    World,
    attributes,
    client,
    neighbor,
    neighbors,
    only,
    prefix,
    routes_of,
    running,
    speaker,
    third_party,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
EXTENDED = ("bird", "frr", "other")


@pytest.fixture(scope="module")
def world(engine_name: str) -> Iterator[World]:
    """Run a route server: two BIRDs and FRR carry IPv4 over IPv6, OpenBGPD has never heard of it."""
    with Lan("rs", *EXTENDED, "openbgpd") as lan:
        wanted = [
            neighbor(
                lan,
                member,
                Family.IPV6,
                only(member, next_hops=(ip_network("2001:db8::/64"), ip_network("192.0.2.0/24"))),
                SEND_ALL,
                families=(Family.IPV4,),
                extended_next_hop=True,
            )
            for member in EXTENDED
        ]
        wanted += neighbors(lan, "openbgpd", only("openbgpd"))
        routers = {member: _extended(lan, member) for member in EXTENDED}
        routers["openbgpd"] = client(lan, "openbgpd", routes_of(lan, "openbgpd", 0))
        with running(lan, engine_name, speaker(lan, Mode.TRANSPARENT, wanted), routers, up=EXTENDED) as world:
            yield world


def _extended(lan: Lan, member: str) -> Callable[[], Router]:
    session = Link(lan.ipv6("rs"), SERVER, lan.ipv6(member), (Family.IPV4,), extended_next_hop=True)
    med = 0 if member == "frr" else None
    routes = [Route(prefix(member, 0, Family.IPV4), attributes(lan, member, Family.IPV6, med=med))]
    if member == "bird":
        far = attributes(lan, member, Family.IPV6, next_hop=third_party(Family.IPV6))
        classic = attributes(lan, member, Family.IPV4)
        routes += [Route(prefix(member, 1, Family.IPV4), far), Route(prefix(member, 2, Family.IPV4), classic)]

    def make() -> Router:
        return CLASSES[member](lan, member, ASNS[member], [session], routes)

    return make


def _announced(world: World, *members: str) -> dict[Network, Attributes]:
    return {p: a for member in members for p, a in world.announced(member, Family.IPV4).items()}


@pytest.mark.parametrize("receiver", EXTENDED)
def test_an_ipv4_route_keeps_its_ipv6_next_hop(world: World, receiver: str) -> None:
    """The next hop is the announcer's (or a third party's) IPv6 address; IPv4 next hops come over the same session."""
    senders = [member for member in world.routers if member != receiver]
    world.expect(receiver, Family.IPV4, _announced(world, *senders))


def test_a_client_that_did_not_negotiate_it_receives_ipv4_next_hops_only(world: World) -> None:
    """The route with an IPv4 next hop arrives, those with an IPv6 one do not, and the session stays up."""
    openbgpd = world.routers["openbgpd"]
    eventually(openbgpd.established, what="OpenBGPD is established")
    incarnation = openbgpd.incarnation(world.link("openbgpd", Family.IPV4))
    classic = prefix("bird", 2, Family.IPV4)
    world.expect("openbgpd", Family.IPV4, {classic: _announced(world, "bird")[classic]})
    assert openbgpd.incarnation(world.link("openbgpd", Family.IPV4)) == incarnation is not None


def test_the_engine_lists_the_ipv6_next_hop(world: World) -> None:
    """`routes` gives the next hop as it was received."""
    found = prefix("bird", 0, Family.IPV4)
    eventually(lambda: world.engine.routes(prefix=found), what="the route is listed")
    assert {view.attributes.next_hop for view in world.engine.routes(prefix=found)} == {world.lan.ipv6("bird")}
