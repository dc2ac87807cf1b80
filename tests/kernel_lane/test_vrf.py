"""Tenants with the same addresses in one namespace, a VRF for each.

::

client 10.0.0.2 --- vrf red  (table 10) --- server 10.0.1.2
                      one router
client 10.0.0.2 --- vrf blue (table 20) --- server 10.0.1.2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernel_lane.yard import exchange, nothing

if TYPE_CHECKING:
    from tests.kernel_lane.yard import Yard

SERVER = ("10.0.1.2", 7)


@pytest.fixture(autouse=True)
def _tenants(yard: Yard) -> None:
    yard.make("r")
    yard.forwarding("r")
    for number, tenant in ((10, "red"), (20, "blue")):
        yard.make(f"{tenant}-c", f"{tenant}-s")
        yard.ip("r", f"link add {tenant} type vrf table {number}", f"link set {tenant} up")
        for side, net in (("c", 0), ("s", 1)):
            yard.ip("r", f"link add {tenant}{side} type veth peer name eth0 netns {yard.names[f'{tenant}-{side}']}")
            # The address after the master: its route goes where the device is at that moment.
            yard.ip("r", *(f"link set {tenant}{side} {what}" for what in (f"master {tenant}", "up")))
            yard.ip("r", f"address add 10.0.{net}.1/24 dev {tenant}{side}")
            lines = (f"address add 10.0.{net}.2/24 dev eth0", "link set eth0 up", f"route add default via 10.0.{net}.1")
            yard.ip(f"{tenant}-{side}", *lines)


def test_each_tenant_reaches_its_own_server_at_the_same_address(yard: Yard) -> None:
    """And the other's hears nothing of it."""
    servers = {tenant: yard.udp(f"{tenant}-s", 7) for tenant in ("red", "blue")}
    for tenant, other in (("red", "blue"), ("blue", "red")):
        exchange(yard.udp(f"{tenant}-c"), servers[tenant], SERVER, tenant.encode())
        assert nothing(servers[other])


def test_a_tenant_without_a_route_does_not_take_the_others(yard: Yard) -> None:
    """The tables are separate, and nothing of them is in the main one."""
    red = yard.udp("red-s", 7)
    yard.ip("r", "link set blues down")
    yard.udp("blue-c").sendto(b"to nobody", SERVER)
    exchange(yard.udp("red-c"), red, SERVER)
    assert nothing(red)
