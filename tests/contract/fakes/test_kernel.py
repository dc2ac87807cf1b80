from __future__ import annotations

from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.facts import HOST, Link
from appliance.state.diff import diff

LINK = Link(HOST, "up7", "veth", peer=(HOST, "down7"))


def test_what_is_there_already_is_seen_through_its_ports() -> None:
    """A world outlives its kernel, as a machine outlives the daemon."""
    world, conntrack = FakeWorld(), FakeConntrack()
    first, second = fake_kernel(world, conntrack), fake_kernel(world)
    first.ports["links"].apply(diff([], [LINK]))
    assert LINK in second.ports["links"].read()
    assert first.conntrack is conntrack


def test_two_that_were_given_nothing_share_nothing() -> None:
    """Each has a world and a conntrack of its own."""
    one, other = fake_kernel(), fake_kernel()
    one.ports["links"].apply(diff([], [LINK]))
    assert LINK in one.ports["links"].read()
    assert LINK not in other.ports["links"].read()
    assert one.conntrack is not other.conntrack
