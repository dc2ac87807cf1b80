"""Devices: whatever the path, the kernel ends with the devices that are desired, and nothing else is touched."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.fakes.ports import FakeLinks
from appliance.kernel.links import LinksPort
from appliance.model.facts import HOST, Link, Namespace
from appliance.state.diff import Change, Plan, diff
from tests.contract.boxes import Box, RealBox, prepare, reach
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED, BLUE = Namespace("red"), Namespace("blue")
BRIDGE = Link(RED, "br0", "bridge", mac="02:00:00:00:00:05")
PAIR = (
    Link(RED, "v0", "veth", peer=(BLUE, "w0"), mtu=1400, master="br0", isolated=True),
    Link(BLUE, "w0", "veth", peer=(RED, "v0"), mac="02:00:00:00:00:06"),
)
OVERLAY = Link(RED, "vx7", "vxlan", vni=7, local=IPv4Address("192.0.2.1"), port=4789, learning=False, master="br0")
CARD = Link(RED, "card", "physical", mtu=1480, master="br0")
CABLE = replace(CARD, learning=False, mtu=None)

STATES: dict[str, tuple[Link, ...]] = {
    "nothing": (),
    "bridge": (BRIDGE,),
    "bridge with ports": (BRIDGE, *PAIR, OVERLAY, CARD),
    "ports without bridge": (
        replace(PAIR[0], master=None, isolated=False, mtu=None),
        PAIR[1],
        replace(OVERLAY, master=None, vni=8, mtu=1450),
    ),
    "other ends": (
        Link(RED, "v0", "veth", peer=(HOST, "h0")),
        Link(HOST, "h0", "veth", peer=(RED, "v0")),
        Link(BLUE, "w0", "bridge"),
        replace(CARD, ns=BLUE, master="w0"),
        replace(OVERLAY, ns=BLUE, master=None, local=IPv6Address("2001:db8::1")),
    ),
    "end of a wire": (BRIDGE, CABLE, replace(PAIR[0], learning=False), PAIR[1]),
    "held down": (BRIDGE, replace(CABLE, up=False), replace(PAIR[0], up=False), replace(PAIR[1], up=False)),
    "bridge down": (replace(BRIDGE, up=False), CARD),
    "card at home": (Link(HOST, "card", "physical", mtu=1400),),
}


@pytest.mark.parametrize("path", list(permutations(STATES, 2)), ids=" -> ".join)
def test_the_kernel_depends_on_the_state_and_not_on_the_path(box: Box, path: tuple[str, str]) -> None:
    """After each state the kernel holds it, for another process too, and once more is an empty plan."""
    prepare(box, RED, BLUE)
    box.plug("card")
    port = box.port("links")
    for name in path:
        desired = frozenset(STATES[name])
        assert reach(port, desired) == ()
        assert port.read() == desired
        assert box.port("links").read() == desired
        assert not diff(port.read(), desired)


def test_what_can_change_in_place_does(world: World) -> None:
    """Changing MTU, MAC, master and isolation makes no new device."""
    box = RealBox(world)
    prepare(box, RED, BLUE)
    box.plug("card")
    port = box.port("links")
    reach(port, STATES["bridge with ports"])
    before = _indexes(world, RED)
    changed = {
        replace(link, mtu=1300, mac=f"02:00:00:00:01:{number:02x}", master=None, isolated=False)
        for number, link in enumerate(STATES["bridge with ports"])
    }
    assert reach(port, changed) == ()
    assert port.read() == changed
    assert _indexes(world, RED) == before


def _indexes(world: World, name: str) -> set[str]:
    """Return index and name of the devices in a namespace."""
    return {" ".join(re.split("[:@]", line)[:2]) for line in world.run(name, "ip", "-o", "link").splitlines()}


def test_a_card_goes_home_when_it_is_not_wanted_any_more(box: Box) -> None:
    """It was never ours to delete."""
    prepare(box, RED, BLUE)
    box.plug("card")
    port = box.port("links")
    reach(port, STATES["bridge with ports"])
    assert "card" not in box.outside()
    reach(port, ())
    assert box.outside() == {"card"}


def test_a_card_goes_home_before_its_namespace_is_deleted(box: Box) -> None:
    """The kernel would destroy it."""
    prepare(box, RED, BLUE)
    box.plug("card")
    reach(box.port("links"), STATES["bridge with ports"])
    prepare(box, BLUE)
    assert box.outside() == {"card"}
    assert box.port("links").read() == frozenset()


def test_a_card_that_is_missing_is_a_failure_that_may_pass(box: Box) -> None:
    """The others are applied; when it comes, the same plan succeeds."""
    prepare(box, RED)
    port = box.port("links")
    desired = {BRIDGE, CARD}
    (failure,) = reach(port, desired)
    assert failure.fact == CARD
    assert failure.error.retry
    assert port.read() == {BRIDGE}
    box.plug("card")
    assert reach(port, desired) == ()
    assert port.read() == desired


def test_a_missing_master_or_namespace_is_a_failure_that_may_pass(box: Box) -> None:
    """What it needs may come later."""
    prepare(box, RED)
    orphan = Link(RED, "vx1", "vxlan", vni=1, port=4789, master="br9")
    lost = Link(Namespace("none"), "br1", "bridge")
    halfway = Link(RED, "v0", "veth", peer=(Namespace("none"), "w0"))
    failures = reach(box.port("links"), [orphan, lost, halfway])
    assert {failure.fact for failure in failures} == {orphan, lost, halfway}
    assert all(failure.error.retry for failure in failures)


def test_deleting_what_is_absent_succeeds(box: Box) -> None:
    """Also in a namespace that is not there."""
    prepare(box, RED)
    links = (BRIDGE, *PAIR, CARD, Link(Namespace("none"), "br1", "bridge"))
    assert box.port("links").apply(Plan(tuple(Change("delete", link, None) for link in links))) == ()


def test_devices_of_others_are_not_ours(box: Box) -> None:
    """They are neither read nor deleted."""
    box.plug("card")
    port = box.port("links")
    assert port.read() == frozenset()
    port.apply(Plan((Change("delete", Link(HOST, "card", "veth"), None),)))
    assert box.outside() == {"card"}


def test_a_device_of_another_with_our_name_is_a_failure(world: World) -> None:
    """It is not taken over, for it is up and not ours."""
    world.make(RED)
    world.run(RED, "ip", "link", "add", "br0", "up", "type", "bridge")
    (failure,) = reach(RealBox(world).port("links"), [BRIDGE])
    assert failure.fact == BRIDGE
    assert "another's" in str(failure.error)


def test_what_a_crash_left_half_made_is_taken_over(world: World) -> None:
    """A pair that is there, but neither marked nor up."""
    world.make(RED, BLUE)
    port = RealBox(world).port("links")
    pair = {replace(PAIR[0], master=None, isolated=False), PAIR[1]}
    reach(port, pair)
    before = _indexes(world, RED)
    for name, device in ((RED, "v0"), (BLUE, "w0")):
        world.run(name, "ip", "link", "set", device, "down", "alias", "")
    assert port.read() == frozenset()
    assert reach(port, pair) == ()
    assert port.read() == pair
    assert _indexes(world, RED) == before


def test_the_underlay_of_a_vxlan_device_stays_in_host(world: World) -> None:
    """Its socket listens in HOST."""
    world.make(RED)
    reach(RealBox(world).port("links"), [replace(OVERLAY, master=None)])
    assert ":4789" in world.run(HOST, "ss", "-lun")
    assert ":4789" not in world.run(RED, "ss", "-lun")


def test_a_device_that_somebody_lowers_is_raised_again(world: World) -> None:
    """And one that is held down and somebody raises is lowered."""
    box = RealBox(world)
    prepare(box, RED)
    port, held = box.port("links"), Link(RED, "br1", "bridge", up=False)
    reach(port, [BRIDGE, held])
    world.run(RED, "ip", "link", "set", "br0", "down")
    world.run(RED, "ip", "link", "set", "br1", "up")
    assert port.read() == {replace(BRIDGE, up=False), replace(held, up=True)}
    assert reach(port, [BRIDGE, held]) == ()
    assert port.read() == {BRIDGE, held}


def test_carriers_are_told_by_namespace(box: Box) -> None:
    """A device that is held down has none, whatever its cable; nor has the other end."""
    prepare(box, RED, BLUE)
    box.plug("card")
    port = box.port("links")
    assert isinstance(port, LinksPort | FakeLinks)
    pair = (replace(PAIR[0], master=None, isolated=False), PAIR[1])
    reach(port, [*pair, replace(CABLE, master=None, learning=True, up=False)])
    eventually(lambda: port.carriers([RED]).get((RED, "v0")))
    assert {key: up for key, up in port.carriers([RED]).items() if key[1] != "lo"} == {
        (RED, "v0"): True,
        (RED, "card"): False,
    }
    assert (BLUE, "w0") in port.carriers([BLUE, Namespace("none")])
    reach(port, [replace(pair[0], up=False), pair[1]])
    assert port.carriers([RED])[RED, "v0"] is False


def test_a_port_that_does_not_learn_passes_what_a_cable_passes(world: World) -> None:
    """Link-local groups too, and it is an ordinary port again when it learns."""
    box = RealBox(world)
    prepare(box, RED, BLUE)
    port = box.port("links")
    pair = (replace(PAIR[0], isolated=False, learning=False), PAIR[1])
    reach(port, [BRIDGE, *pair])
    shown = world.run(RED, "bridge", "-d", "link", "show", "dev", "v0")
    assert "learning off" in shown
    assert "flood on" in shown
    look = "mount -t sysfs none /sys && cat /sys/class/net/v0/brport/group_fwd_mask"
    assert int(world.run(RED, "unshare", "--mount", "sh", "-c", look), 16) == 0xFFFD
    reach(port, [BRIDGE, replace(pair[0], learning=True), pair[1]])
    assert "learning on" in world.run(RED, "bridge", "-d", "link", "show", "dev", "v0")
