"""Fakes of composing devices and of the handle of namespaces."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest

from appliance.kernel.fakes.tables import FakeCompose, FakeNamespaces
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.errors import KernelError
from appliance.model.facts import HOST, Compose, Namespace
from tests.contract.boxes import reach

RED = Namespace("red")
COMPOSE = Compose(HOST, "ew-comp0", IPv6Address("2001:db8::1"), IPv6Network("2001:db8:1::/48"))


def test_composing_needs_its_device() -> None:
    """It comes with the device, and goes with it."""
    world = FakeWorld()
    port = FakeCompose(world)
    (failure,) = reach(port, [COMPOSE])
    assert failure.error.retry
    world.outside.add("ew-comp0")
    assert reach(port, [COMPOSE]) == ()
    assert port.read() == {COMPOSE}
    assert reach(port, ()) == ()
    assert port.read() == frozenset()


def test_being_inside_is_being_here() -> None:
    """But not in a namespace that does not exist."""
    world = FakeWorld()
    namespaces = FakeNamespaces(world)
    with pytest.raises(KernelError), namespaces.in_namespace(RED):
        pass
    world.namespaces.add(RED)
    with namespaces.in_namespace(RED):
        assert namespaces.names() == {RED}
