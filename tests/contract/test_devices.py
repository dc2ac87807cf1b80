"""What the kernel says of devices, decoded."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from appliance.kernel.devices import Peers, devices, indexes
from appliance.kernel.exchanges import Netlink
from appliance.kernel.netlink import NETLINK_ROUTE
from appliance.model.facts import HOST, Namespace

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED, BLUE = Namespace("red"), Namespace("blue")


def _netlink(world: World) -> Netlink:
    """Speak rtnetlink there."""
    return Netlink(world.namespaces, NETLINK_ROUTE, "link")


def test_a_device_is_decoded_as_ip_shows_it(world: World) -> None:
    """Everything that a fact is made of."""
    world.make(RED)
    world.run(RED, "ip", "link", "add", "br0", "up", "address", "02:00:00:00:00:07", "type", "bridge")
    vxlan = ("type", "vxlan", "id", "7", "local", "2001:db8::1", "dstport", "4789", "nolearning")
    world.run(RED, "ip", "link", "add", "vx7", "master", "br0", *vxlan)
    world.run(RED, "ip", "link", "set", "br0", "mtu", "1400")
    world.run(RED, "ip", "link", "set", "vx7", "alias", "edgeway mtu")
    world.run(RED, "ip", "link", "set", "vx7", "type", "bridge_slave", "isolated", "on")
    found = devices(_netlink(world), RED)
    bridge, overlay = found["br0"], found["vx7"]
    assert (bridge.kind, bridge.mac, bridge.mtu, bridge.up, bridge.ours) == (
        "bridge",
        "02:00:00:00:00:07",
        1400,
        True,
        False,
    )
    assert (overlay.vni, overlay.local, overlay.port, overlay.learning) == (7, IPv6Address("2001:db8::1"), 4789, False)
    assert (overlay.master, overlay.up, overlay.isolated, overlay.marks) == (
        bridge.index,
        False,
        True,
        frozenset({"mtu"}),
    )
    assert indexes(_netlink(world), RED) == {"lo": 1, "br0": bridge.index, "vx7": overlay.index}


def test_a_port_that_does_not_learn_and_a_cable_that_is_pulled(world: World) -> None:
    """The port's learning is told apart from a carrier that is not there."""
    world.make(RED)
    world.run(RED, "ip", "link", "add", "br0", "up", "type", "bridge")
    world.run(RED, "ip", "link", "add", "v0", "up", "master", "br0", "type", "veth", "peer", "name", "w0")
    world.run(RED, "ip", "link", "set", "v0", "type", "bridge_slave", "learning", "off")
    found = devices(_netlink(world), RED)
    assert (found["v0"].learning, found["w0"].learning) == (False, True)
    assert (found["v0"].up, found["v0"].carrier, found["w0"].carrier) == (True, False, False)
    world.run(RED, "ip", "link", "set", "w0", "up")
    found = devices(_netlink(world), RED)
    assert found["v0"].carrier
    assert found["w0"].carrier


def test_lo_carries_our_mark_and_is_no_device_of_ours(world: World) -> None:
    """It marks the namespace."""
    world.make(RED)
    lo = devices(_netlink(world), RED)["lo"]
    assert lo.marks == frozenset()
    assert not lo.ours


def test_the_namespace_of_a_peer_is_found_by_its_number(world: World) -> None:
    """Also after that namespace was deleted and made anew; one that is not ours is nobody."""
    netlink = _netlink(world)
    peers = Peers(netlink)
    for _ in range(2):
        world.make(RED, BLUE)
        script = f"ip link add v0 type veth peer name w0; exec {{fd}}<{world.path(BLUE)}; ip link set w0 netns /proc/$$/fd/$fd"
        world.run(RED, "bash", "-c", script)
        device = devices(netlink, RED)["v0"]
        assert peers.namespace(RED, device.nsid) == BLUE
        assert peers.namespace(RED, None) == RED
        assert peers.namespace(HOST, 77) is None
        world.namespaces.delete(BLUE)
        world.namespaces.delete(RED)
