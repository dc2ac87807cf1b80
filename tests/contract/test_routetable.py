"""What a table does about what it did not expect: on this kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.model.facts import HOST, Route
from appliance.model.marks import PROTO_BGP
from appliance.state.diff import Change, Plan, diff
from tests.contract.boxes import reach
from tests.contract.roads import ONE, OTHER, SIX, TWO, RealRoads, many, route

if TYPE_CHECKING:
    from tests.contract.worlds import World

pytestmark = pytest.mark.kernel


@pytest.fixture
def real(world: World) -> RealRoads:
    """Give a node of this kernel."""
    return RealRoads(world)


def test_a_plan_that_moves_all_routes_of_a_group_moves_the_group(real: RealRoads) -> None:
    """The routes keep their next-hop id; a plan that moves some of them gives those another one."""
    port = real.port()
    reach(port, many(10, ONE))
    before = real.ip(HOST, "route", "show", "proto", str(PROTO_BGP))
    assert reach(port, many(10, TWO)) == ()
    assert real.ip(HOST, "route", "show", "proto", str(PROTO_BGP)) == before
    assert "via 10.255.0.3" in real.ip(HOST, "route", "get", "10.0.5.1")
    assert reach(port, [*many(9, TWO), *many(10, ONE)[9:]]) == ()
    assert real.ip(HOST, "route", "show", "proto", str(PROTO_BGP)) != before
    assert "via 10.255.0.2" in real.ip(HOST, "route", "get", "10.0.9.1")


@pytest.mark.parametrize(
    "words",
    [
        ("192.0.2.0/24", "via", "10.255.0.9"),
        ("192.0.2.0/24", "via", "10.255.0.9", "metric", "2048"),
        ("blackhole", "192.0.2.0/24", "metric", "7"),
        ("2001:db8::/32", "via", "fd00:255::9"),
        ("192.0.2.0/24", "nexthop", "via", "10.255.0.8", "nexthop", "via", "10.255.0.9"),
        ("192.0.2.0/24", "via", "10.255.0.9", "tos", "0x20", "metric", "2048"),
    ],
    ids=" ".join,
)
def test_a_route_with_our_protocol_that_we_would_not_make_goes(real: RealRoads, words: tuple[str, ...]) -> None:
    """It is read without hops, so it differs from whatever is desired, and gives way."""
    real.ip(HOST, "route", "add", "proto", str(PROTO_BGP), *words)
    port = real.port()
    (stray,) = port.read()
    assert stray.hops == ()
    hop = SIX if ":" in str(stray.destination) else ONE
    assert reach(port, [route(str(stray.destination), hop)]) == ()
    assert port.read() == {route(str(stray.destination), hop)}
    real.ip(HOST, "route", "replace", "proto", str(PROTO_BGP), *words)
    reach(port, [])
    reach(port, [])
    assert port.read() == frozenset()


def test_a_plan_works_although_somebody_flushed_our_routes(real: RealRoads) -> None:
    """Updates of routes that are gone make them again; creations of routes that are there change them."""
    port = real.port()
    reach(port, many(6, ONE))
    real.ip(HOST, "route", "flush", "proto", str(PROTO_BGP))
    plan = diff(many(6, ONE), [*many(3, TWO), *many(6, ONE)[3:], route("192.0.2.0/24", ONE)])
    assert port.apply(plan) == ()
    assert port.read() == {*many(3, TWO), route("192.0.2.0/24", ONE)}
    creations: Plan[Route] = Plan(tuple(Change("create", None, fact) for fact in many(6, OTHER)))
    assert port.apply(creations) == ()
    assert port.read() == {*many(6, OTHER), route("192.0.2.0/24", ONE)}
