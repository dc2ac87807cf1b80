"""Addresses on devices."""

from __future__ import annotations

import asyncio
from ipaddress import ip_interface
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from appliance.model.facts import HOST, Link, LinkAddress, Namespace
from appliance.state.diff import Change, Plan, diff
from tests.contract.boxes import RealBox, prepare, reach, watching

if TYPE_CHECKING:
    from tests.contract.boxes import Box
    from tests.contract.worlds import World

RED = Namespace("red")


def on(link: str, *texts: str, ns: Namespace = RED) -> frozenset[LinkAddress]:
    """Write addresses short."""
    return frozenset(LinkAddress(ns, link, ip_interface(text)) for text in texts)


STATES: dict[str, frozenset[LinkAddress]] = {
    "nothing": frozenset(),
    "one subnet": on("br0", "192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24"),
    "primary gone": on("br0", "192.0.2.2/24", "192.0.2.3/24", "192.0.2.2/32"),
    "both families": on("br0", "192.0.2.9/31", "2001:db8::1/64", "fe80::1/64")
    | on("lo", "198.51.100.1/32", "fd00::1/128"),
    "host": on("lo", "203.0.113.1/32", "2001:db8::2/128", ns=HOST),
}


@pytest.mark.parametrize("path", list(permutations(STATES, 2)), ids=" -> ".join)
def test_the_kernel_depends_on_the_state_and_not_on_the_path(box: Box, path: tuple[str, str]) -> None:
    """Deleting a primary address does not take those that are still wanted."""
    prepare(box, RED)
    reach(box.port("links"), [Link(RED, "br0", "bridge")])
    port = box.port("addresses")
    for name in path:
        desired = STATES[name]
        assert reach(port, desired) == ()
        assert port.read() == desired
        assert box.port("addresses").read() == desired
        assert not diff(port.read(), desired)


def test_a_missing_device_is_a_failure_that_may_pass(box: Box) -> None:
    """What could be applied is; a missing namespace is the same."""
    prepare(box, RED)
    good, bad, lost = on("lo", "192.0.2.1/32"), on("br0", "192.0.2.2/24"), on("lo", "::5/128", ns=Namespace("none"))
    failures = reach(box.port("addresses"), good | bad | lost)
    assert {failure.fact for failure in failures} == bad | lost
    assert all(failure.error.retry for failure in failures)
    assert box.port("addresses").read() == good


def test_deleting_what_is_absent_succeeds(box: Box) -> None:
    """Address, device or namespace."""
    prepare(box, RED)
    absent = on("lo", "192.0.2.1/32") | on("br9", "192.0.2.1/32") | on("lo", "192.0.2.1/32", ns=Namespace("none"))
    assert box.port("addresses").apply(Plan(tuple(Change("delete", fact, None) for fact in absent))) == ()


def test_addresses_of_others_are_left_alone(world: World) -> None:
    """They have another protocol number, or none."""
    world.make(RED)
    world.run(RED, "ip", "address", "add", "192.0.2.77/32", "dev", "lo")
    port = RealBox(world).port("addresses")
    reach(port, on("lo", "192.0.2.1/32"))
    reach(port, ())
    assert port.read() == frozenset()
    assert "192.0.2.77/32" in world.run(RED, "ip", "address", "show", "lo")


def test_an_ipv6_address_can_be_used_at_once(world: World) -> None:
    """There is no duplicate address detection to wait for."""
    world.make(RED)
    box = RealBox(world)
    reach(box.port("links"), [Link(RED, "br0", "bridge")])
    reach(box.port("addresses"), on("br0", "2001:db8::1/64"))
    shown = world.run(RED, "ip", "-6", "address", "show", "dev", "br0", "to", "2001:db8::1")
    assert "2001:db8::1/64" in shown
    assert "tentative" not in shown


async def test_a_change_by_another_is_told(world: World) -> None:
    """Also in a namespace that was made after the watch began; and none is kept alive by watching."""
    box = RealBox(world)
    async with asyncio.timeout(5), watching(box.port("addresses")) as reasons:
        prepare(box, RED)
        assert await anext(reasons) == "namespace red"
        world.run(RED, "ip", "address", "add", "192.0.2.1/32", "dev", "lo")
        assert await anext(reasons) == "address red"
        prepare(box)
        assert await anext(reasons) == "namespace red"
