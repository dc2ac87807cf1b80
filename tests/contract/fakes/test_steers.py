"""What the fake of steers adds to the contract, which tests/contract/test_steers.py holds it to."""

from __future__ import annotations

from ipaddress import IPv4Address

from appliance.kernel.fakes.steers import FakeSteers
from appliance.kernel.fakes.world import FakeWorld
from appliance.kernel.steers import nowhere
from appliance.model.facts import HOST, Hop, Steer
from tests.contract.boxes import reach

STEER = Steer(HOST, 1, Hop("n1", IPv4Address("10.9.0.1")))


def test_a_device_that_comes_back_brings_no_way_back() -> None:
    """As in the kernel: it has to be made again."""
    world = FakeWorld("n1")
    port = FakeSteers(world)
    assert reach(port, [STEER]) == ()
    world.outside.discard("n1")
    assert port.read() == {Steer(HOST, 1, nowhere(4))}
    world.outside.add("n1")
    assert FakeSteers(world).read() == {Steer(HOST, 1, nowhere(4))}
    assert reach(port, [STEER]) == ()
    assert port.read() == {STEER}
