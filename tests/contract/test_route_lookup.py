"""Look-ups of routes: the fake answers as the kernel does."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.fakes.route_lookup import FakeRouteLookup
from appliance.kernel.fakes.routes import FakeRoutes
from appliance.kernel.route_lookup import Found, KernelRouteLookup, Query, RouteLookup
from appliance.kernel.routes import RoutesPort
from appliance.model.errors import KernelError
from appliance.model.facts import Hop, Link, LinkAddress, Namespace, Route, Steer, Sysctl
from appliance.model.marks import PROTO_BOX, STEER
from tests.contract.boxes import FakeBox, RealBox, prepare, reach

if TYPE_CHECKING:
    from tests.contract.boxes import Box

RED = Namespace("red")
LINKS = (Link(RED, "lan", "bridge"), Link(RED, "up", "bridge"))
ADDRESSES = tuple(
    LinkAddress(RED, link, ip_interface(text))
    for link, text in (("lan", "172.16.1.1/24"), ("up", "100.64.0.1/31"), ("lan", "fd00:1::1/64"))
)
SYSCTLS = (
    *(Sysctl(RED, f"net.ipv4.conf.{name}.rp_filter", "0") for name in ("all", "default", "lan", "up")),
    Sysctl(RED, "net.ipv4.ip_forward", "1"),
)
ROUTES = (
    Route(RED, ip_network("0.0.0.0/0"), (Hop("up", ip_address("100.64.0.0")),), PROTO_BOX),
    Route(RED, ip_network("172.16.1.77/32"), (Hop("up", ip_address("100.64.0.0")),), PROTO_BOX),
)


@pytest.fixture
def lookup(box: Box) -> RouteLookup:
    """Give a node with a namespace like that of a VPC: a LAN, an uplink, a guest elsewhere, a service node."""
    prepare(box, RED)
    for name, facts in (("links", LINKS), ("sysctls", SYSCTLS), ("addresses", ADDRESSES)):
        assert reach(box.port(name), facts) == ()
    assert reach(box.port("steers"), [Steer(RED, 3, Hop("lan", ip_address("172.16.1.9")))]) == ()
    if isinstance(box, FakeBox):
        assert reach(FakeRoutes(box.world), ROUTES) == ()
        return FakeRouteLookup(box.world)
    assert isinstance(box, RealBox)
    assert reach(RoutesPort(box.world.namespaces), ROUTES) == ()
    return KernelRouteLookup(box.world.namespaces)


def query(destination: str, source: str = "", device: str = "", mark: int = 0) -> Query:
    """Write a query short."""
    return Query(ip_address(destination), ip_address(source) if source else None, device, mark)


UP = Found("unicast", Hop("up", ip_address("100.64.0.0")))
LAN = Found("unicast", Hop("lan"))
ANSWERS = {
    "the default route": (query("198.51.100.1"), UP),
    "a neighbour": (query("172.16.1.11"), LAN),
    "a longer prefix": (query("172.16.1.77"), UP),
    "an own address": (query("172.16.1.1"), Found("local")),
    "multicast": (query("224.0.0.5"), Found("multicast")),
    "one that came in": (query("198.51.100.1", "172.16.1.11", "lan"), UP),
    "one that came in for us": (query("100.64.0.1", "172.16.1.11", "lan"), Found("local")),
    "one that turns round": (query("172.16.1.12", "172.16.1.11", "lan"), LAN),
    "a steered one": (
        query("198.51.100.1", "172.16.1.11", "lan", STEER + 3),
        Found("unicast", Hop("lan", ip_address("172.16.1.9"))),
    ),
    "one with the mark of nobody": (query("198.51.100.1", mark=STEER + 4), UP),
    "IPv6 on a link": (query("fd00:1::9"), LAN),
    "IPv6 without a route": (query("2001:db8::1"), Found("unreachable")),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", ANSWERS)
def test_a_packet_goes_where_the_kernel_says(lookup: RouteLookup, name: str) -> None:
    """The fake knows it too."""
    asked, answer = ANSWERS[name]
    assert lookup.look_up(RED, asked) == answer


@pytest.mark.kernel
def test_nobody_knows_a_way_out_of_what_is_not_there(lookup: RouteLookup) -> None:
    """Neither device nor namespace; it may come later."""
    for ns, device in ((RED, "gone"), (Namespace("blue"), "")):
        with pytest.raises(KernelError) as error:
            lookup.look_up(ns, query("198.51.100.1", device=device))
        assert error.value.retry


@pytest.mark.kernel
def test_without_a_route_a_packet_cannot_be_reached(lookup: RouteLookup, box: Box) -> None:
    """The kernel's refusal is an answer."""
    if isinstance(box, FakeBox):
        assert reach(FakeRoutes(box.world), ()) == ()
    else:
        assert isinstance(box, RealBox)
        assert reach(RoutesPort(box.world.namespaces), ()) == ()
    assert lookup.look_up(RED, query("198.51.100.1")) == Found("unreachable")
    assert lookup.look_up(RED, query("198.51.100.1", "172.16.1.11", "lan")) == Found("unreachable")


@pytest.mark.kernel
def test_a_steer_whose_way_is_gone_drops(lookup: RouteLookup, box: Box) -> None:
    """It must not go past the service node."""
    assert reach(box.port("steers"), [Steer(RED, 3, Hop("gone", ip_address("172.16.1.9")))]) != ()
    assert lookup.look_up(RED, query("198.51.100.1", "172.16.1.11", "lan", STEER + 3)) == Found("blackhole")
