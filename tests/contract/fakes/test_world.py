"""The kernel in memory: what goes with what."""

from __future__ import annotations

import asyncio
from ipaddress import ip_interface
from typing import TYPE_CHECKING, cast

from appliance.kernel.fakes.world import FakeWorld
from appliance.model.facts import HOST, Link, LinkAddress, Namespace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

RED = Namespace("red")


def _world() -> FakeWorld:
    """One namespace, a card of another in it, and a pair to HOST with an address."""
    world = FakeWorld()
    world.namespaces.add(RED)
    for link in (
        Link(RED, "card", "physical"),
        Link(RED, "v0", "veth", peer=(HOST, "w0")),
        Link(HOST, "w0", "veth", peer=(RED, "v0")),
    ):
        world.links[link.key] = link
    address = LinkAddress(HOST, "w0", ip_interface("192.0.2.1/24"))
    world.entries[LinkAddress, address.key] = address
    return world


def test_a_namespace_takes_its_devices_and_the_other_ends_with_all_on_them() -> None:
    """But a card of another comes home."""
    world = _world()
    world.remove_namespace(RED)
    assert (world.links, world.entries, world.outside) == ({}, {}, {"card"})


def test_devices_are_where_they_are() -> None:
    """`lo` is in every namespace."""
    world = _world()
    assert world.has_device(RED, "lo")
    assert world.has_device(RED, "card")
    assert not world.has_device(HOST, "card")
    assert not world.has_device(Namespace("none"), "lo")


async def test_a_change_wakes_every_watcher() -> None:
    """Each with its own reason."""
    world = _world()
    one, two = (cast("AsyncGenerator[str, None]", world.watch(reason)) for reason in ("one", "two"))
    async with asyncio.timeout(5):
        assert [await anext(one), await anext(two)] == ["listening", "listening"]
        world.changed()
        assert [await anext(one), await anext(two)] == ["one", "two"]
    await one.aclose()
    await two.aclose()
    assert not world._changed
