"""What the fake of routes adds to the contract, which tests/contract/test_routes.py holds it to."""

from __future__ import annotations

from appliance.kernel.fakes.routes import FakeRoutes
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.facts import HOST
from appliance.state.diff import diff
from tests.contract.roads import ONE, OTHER, route


def test_fakes_of_one_world_see_the_same_routes() -> None:
    """They stand for processes of one kernel; another world is another machine."""
    world = FakeWorld("a0", "b0")
    want = frozenset({route("192.0.2.0/24", ONE, OTHER)})
    assert FakeRoutes(world).apply(diff([], want)) == ()
    assert FakeRoutes(world).read() == want
    assert FakeRoutes(FakeWorld("a0", "b0")).read() == frozenset()


def test_a_device_that_goes_takes_its_hops() -> None:
    """As in the kernel, the routes without hops go with it."""
    world = FakeWorld("a0", "b0")
    port = FakeRoutes(world)
    port.apply(diff([], [route("192.0.2.0/24", ONE, OTHER), route("203.0.113.0/24", ONE)]))
    world.outside.discard("a0")
    assert port.read() == {route("192.0.2.0/24", OTHER)}
    port.set_carrier(HOST, "b0", up=False)
    assert port.read() == frozenset()
