"""What addresses, neighbours and forwarding entries have in common, seen on addresses."""

from __future__ import annotations

import errno
from ipaddress import ip_interface
from typing import TYPE_CHECKING

from appliance.kernel.addresses import AddressesPort
from appliance.model.facts import LinkAddress, Namespace
from appliance.state.diff import Change, Plan

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED = Namespace("red")


def test_what_the_kernel_refuses_is_named_and_the_rest_applied(world: World) -> None:
    """An address that another set already."""
    world.make(RED)
    world.run(RED, "ip", "address", "add", "192.0.2.1/32", "dev", "lo")
    taken, free = (LinkAddress(RED, "lo", ip_interface(text)) for text in ("192.0.2.1/32", "192.0.2.2/32"))
    port = AddressesPort(world.namespaces)
    (failure,) = port.apply(Plan((Change("create", None, taken), Change("create", None, free))))
    assert failure.fact == taken
    assert failure.error.errno == errno.EEXIST
    assert "red/lo 192.0.2.1/32" in str(failure.error)
    assert port.read() == {free}


def test_a_missing_device_names_itself(world: World) -> None:
    """Errors say where."""
    world.make(RED)
    lost = LinkAddress(RED, "up9", ip_interface("192.0.2.1/32"))
    (failure,) = AddressesPort(world.namespaces).apply(Plan((Change("create", None, lost),)))
    assert failure.error.errno == errno.ENODEV
    assert "red/up9" in str(failure.error)
