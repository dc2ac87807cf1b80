"""Fakes of single ports, where a contract test cannot look: the rest is in the contract tests, which run on them too."""

from __future__ import annotations

from ipaddress import ip_interface

from appliance.kernel.fakes.ports import FakeEntries, FakeLinks
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.facts import HOST, Link, LinkAddress
from tests.contract.boxes import reach


def test_a_device_that_is_made_anew_loses_its_addresses() -> None:
    """As in the kernel: a VNI cannot change in place, an MTU can."""
    world = FakeWorld()
    links, addresses = FakeLinks(world), FakeEntries(world, LinkAddress, "address")
    address = LinkAddress(HOST, "vx7", ip_interface("192.0.2.1/24"))
    reach(links, [Link(HOST, "vx7", "vxlan", vni=7)])
    reach(addresses, [address])
    reach(links, [Link(HOST, "vx7", "vxlan", vni=7, mtu=1450)])
    assert addresses.read() == {address}
    reach(links, [Link(HOST, "vx7", "vxlan", vni=8)])
    assert addresses.read() == frozenset()
