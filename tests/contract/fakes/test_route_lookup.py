"""What the fake of route look-ups adds to the contract, which tests/contract/test_route_lookup.py holds it to."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from appliance.kernel.fakes.route_lookup import FakeRouteLookup
from appliance.kernel.fakes.world import FakeWorld
from appliance.kernel.route_lookup import Found, Query
from appliance.model.facts import HOST, Hop, Route
from appliance.model.marks import PROTO_BGP


def test_of_equal_hops_the_first_is_taken() -> None:
    """The kernel hashes; a test wants one answer."""
    world = FakeWorld("eth1", "eth2")
    route = Route(HOST, ip_network("10.0.0.0/8"), (Hop("eth1"), Hop("eth2")), PROTO_BGP)
    world.routes[route.key] = route
    assert FakeRouteLookup(world).look_up(HOST, Query(ip_address("10.1.2.3"))) == Found("unicast", Hop("eth1"))
