r"""Tagged ports: a bridge that knows VLANs, and VLAN devices on a trunk.

::

    five (untagged, 5) ---\
                           bridge === trunk (tagged 5 and 6) === t: eth0.5 and eth0.6, both 10.0.0.9
    six  (untagged, 6) ---/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernel_lane.yard import ethertype, exchange, nothing

if TYPE_CHECKING:
    from tests.kernel_lane.yard import Yard

PLACES = {"five": 5, "six": 6}


@pytest.fixture(autouse=True)
def _bridge(yard: Yard) -> None:
    yard.make("sw", "five", "six", "t")
    yard.ip("sw", "link add lan0 type bridge vlan_filtering 1 vlan_default_pvid 0", "link set lan0 up")
    for name, place in (("trunk", "t"), ("five", "five"), ("six", "six")):
        yard.ip("sw", f"link add {name} type veth peer name eth0 netns {yard.names[place]}")
        yard.ip("sw", f"link set {name} master lan0", f"link set {name} up")
        yard.ip(place, "link set eth0 up")
    for name, vlan in PLACES.items():
        yard.run("sw", "bridge", "vlan", "add", "dev", name, "vid", str(vlan), "pvid", "untagged")
        yard.run("sw", "bridge", "vlan", "add", "dev", "trunk", "vid", str(vlan))
        yard.ip(name, f"address add 10.0.0.{vlan}/24 brd 10.0.0.255 dev eth0")
        add = f"link add link eth0 name eth0.{vlan} type vlan id {vlan}"
        yard.ip("t", add, f"address add 10.0.0.9/24 dev eth0.{vlan}", f"link set eth0.{vlan} up")


def test_each_port_reaches_the_device_of_its_vlan_on_the_trunk(yard: Yard) -> None:
    """And the frames of the trunk have its tag."""
    for name, vlan in PLACES.items():
        trunk = yard.ear("t", "eth0")
        exchange(yard.udp(name), yard.udp("t", 7, device=f"eth0.{vlan}"), ("10.0.0.9", 7), name.encode())
        tags = {tag for tag, frame in trunk.heard() if ethertype(frame) == 0x0800}
        assert tags == {vlan}


def test_a_broadcast_stays_in_its_vlan(yard: Yard) -> None:
    """The other port hears nothing."""
    other = yard.udp("six", 7)
    there = yard.udp("t", 7, device="eth0.5")
    yard.udp("five").sendto(b"who is there", ("10.0.0.255", 7))
    assert there.recv(100) == b"who is there"
    assert nothing(other)
