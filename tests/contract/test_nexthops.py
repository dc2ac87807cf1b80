"""Next-hop objects on this kernel: shared, found again, gone with their last route."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.model.facts import HOST
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
