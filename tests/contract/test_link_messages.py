"""The requests that make and change devices."""

from __future__ import annotations

import struct
from dataclasses import replace

from appliance.kernel.devices import (
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_IFALIAS,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_NET_NS_FD,
    Device,
)
from appliance.kernel.link_messages import alias, configure
from appliance.kernel.netlink import parse
from appliance.model.facts import Link, Namespace

RED = Namespace("red")
LINK = Link(RED, "v0", "veth", peer=(RED, "v1"), mtu=1400, mac="02:00:00:00:00:07", master="br0")
DEVICE = Device(5, "v0", "veth", frozenset({"mtu", "mac"}), up=True, mtu=1400, mac="02:00:00:00:00:07", master=3)


def test_the_alias_says_what_the_fact_sets() -> None:
    """What is read back then is what was asked for, and no more."""
    assert alias(LINK) == "edgeway mtu mac"
    assert alias(Link(RED, "br0", "bridge")) == "edgeway"
    assert alias(Link(RED, "card", "physical", mtu=1400)) == "edgeway physical mtu"


def test_only_what_differs_is_set() -> None:
    """A device that is right keeps everything but gets its mark."""
    (message,) = configure(LINK, DEVICE, 3)
    assert set(parse(memoryview(message.payload)[16:])) == {IFLA_IFALIAS}
    (message,) = configure(replace(LINK, mtu=1300, mac="02:00:00:00:00:08", master=None), DEVICE, 0)
    found = parse(memoryview(message.payload)[16:])
    assert set(found) == {IFLA_IFALIAS, IFLA_MTU, IFLA_ADDRESS, IFLA_MASTER}
    assert IFLA_NET_NS_FD not in found


def test_isolation_is_set_after_the_master() -> None:
    """A port of another bridge starts without it."""
    isolated = replace(LINK, isolated=True)
    assert len(configure(isolated, replace(DEVICE, isolated=True), 3)) == 1
    assert len(configure(isolated, replace(DEVICE, isolated=True), 4)) == 2
    assert len(configure(replace(LINK, master=None, isolated=False), replace(DEVICE, isolated=True), 0)) == 1


def test_what_a_port_learns_is_set_where_it_differs() -> None:
    """A vxlan device's learning is its own, and not that of its port."""
    cable = replace(LINK, learning=False)
    assert len(configure(cable, DEVICE, 3)) == 2
    assert len(configure(cable, replace(DEVICE, learning=False), 3)) == 1
    assert len(configure(cable, replace(DEVICE, learning=False), 4)) == 2, "a port of another bridge starts anew"
    assert len(configure(LINK, replace(DEVICE, learning=False), 3)) == 2
    assert len(configure(replace(cable, kind="vxlan"), DEVICE, 3)) == 1


def test_a_device_is_raised_or_lowered() -> None:
    """IFF_UP is the flag that is asked for, and the only one that changes."""
    for up in (True, False):
        (message,) = configure(replace(LINK, up=up), DEVICE, 3)
        _, _, _, flags, change = struct.unpack_from("=BxHiII", message.payload)
        assert (flags, change) == (IFF_UP if up else 0, IFF_UP)
