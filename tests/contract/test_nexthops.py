"""Next-hop objects on this kernel: shared, found again, gone with their last route."""

from __future__ import annotations

from errno import EINVAL
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import pytest

from appliance.model.facts import HOST, Decapsulate, Hop
from appliance.model.marks import BGP_NH, PROTO_BGP, PROTO_BOX
from tests.contract.boxes import reach
from tests.contract.roads import ONE, TWO, RealRoads, many, route

if TYPE_CHECKING:
    from tests.contract.worlds import World

pytestmark = pytest.mark.kernel


@pytest.fixture
def real(world: World) -> RealRoads:
    """Give a node of this kernel."""
    return RealRoads(world)


def test_objects_go_with_their_last_route(real: RealRoads) -> None:
    """No next-hop object of ours is left without routes, and each hop has one object for each protocol."""
    port = real.port()
    reach(port, [*many(10, ONE), *many(20, ONE, TWO)[10:], route("192.0.2.0/24", ONE, proto=PROTO_BOX)])
    assert len(real.objects()) == 2 + 2 + 2, "two hops and two groups of BGP, a hop and a group of the box"
    reach(port, many(10, ONE))
    assert len(real.objects()) == 2
    reach(port, many(10, TWO))
    assert len(real.objects()) == 2
    reach(port, [])
    assert real.objects() == []


def test_objects_that_a_killed_process_left_are_found_and_used(real: RealRoads) -> None:
    """A restarted process makes no second object, and removes what nothing uses."""
    reach(real.port(), many(10, ONE))
    reach(real.port(), [*many(10, ONE), route("192.0.2.0/24", TWO)])
    used = [line for line in real.objects() if int(line.split()[1]) < BGP_NH + 2]
    real.ip(HOST, "route", "del", "192.0.2.0/24", "proto", str(PROTO_BGP), "metric", "2048")
    reach(real.port(), many(20, ONE))
    assert real.objects() == used


def test_ways_that_differ_little_are_different(real: RealRoads) -> None:
    """Same device, same number of an address, yet another version or another treatment at the end."""
    some = [
        Hop("a0", IPv6Address("fd00:255::2")),
        Hop("a0", IPv6Address("fd00:255::2"), Decapsulate(IPv4Address("10.255.0.9"))),
        Hop("a0", IPv6Address("fd00:255::2"), Decapsulate(IPv4Address("10.255.0.8"))),
        Hop("a0", IPv6Address("fe80::2")),
        Hop("b0", IPv6Address("fe80::2")),
    ]
    want = frozenset(route(f"2001:db8:{number}::/48", hop) for number, hop in enumerate(some))
    assert reach(real.port(), want) == ()
    assert real.port().read() == want
    assert len(real.objects()) == 2 * len(some)


def test_a_route_without_hops_is_refused(real: RealRoads) -> None:
    """It would go nowhere, and silence would hide it."""
    (failure,) = reach(real.port(), [route("192.0.2.0/24")])
    assert failure.error.errno == EINVAL
    assert not failure.error.retry
