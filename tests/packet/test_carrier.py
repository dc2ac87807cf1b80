"""A cable is pulled and put back: the kernel has deleted next hops and routes by then, and the daemon brings them back.

Nobody gives an order: all that may help is what runs in production. BGP engines are in memory and say nothing meanwhile,
as where a cable is back before a session has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from appliance.control.daemon import Daemon
from appliance.control.tasks import Tasks
from appliance.kernel.kernel import Kernel
from appliance.kernel.routes import RoutesPort
from appliance.model.facts import HOST, Hop, Route
from appliance.model.marks import PROTO_BGP
from appliance.state.diff import diff
from appliance.state.store import MemoryStore
from routing.engines.engine import Synced
from tests.contract.roads import net
from tests.packet.yard import ANYWHERE, FAR, NEAR, Yard, going_on, yard_of
from tests.support.fake_engine import FakeRoom
from tests.support.intents import pair, to_yaml
from tests.support.waiting import eventually_async

if TYPE_CHECKING:
    from tests.contract.worlds import World
    from tests.support.namespaces import Namespaces as Factory

pytestmark = pytest.mark.kernel


@pytest.fixture
async def yard(world: World, netns_factory: Factory) -> AsyncIterator[Yard]:
    """Give a yard."""
    async with yard_of(world, netns_factory) as made:
        yield made


@pytest.fixture
async def daemon(yard: Yard) -> AsyncIterator[Daemon]:
    """Give a running daemon of the gateway that knows paths to what is behind its neighbours."""
    with yard.world.namespaces.in_namespace(HOST):
        kernel = Kernel.real(yard.world.namespaces.directory)
    room, tasks = FakeRoom(), Tasks()
    made = Daemon("gw1", kernel, MemoryStore(), room)
    tasks.start("daemon", made.run)
    try:
        async with asyncio.timeout(60):
            outcome = await made.load(to_yaml(pair()), "intent.yaml")
        assert outcome.pending == ()
        room.engines["gobgp", "router"].push(*NEAR.paths(), *FAR.paths(), Synced())
        there = [(beside, beside.destinations) for beside in (NEAR, FAR)]
        await eventually_async(lambda: [(beside, yard.routes(beside)) for beside, _ in there] == there)
        await eventually_async(lambda: made.converged, what="the daemon has converged")
        yield made
    finally:
        await tasks.stop()
        kernel.close()


async def test_what_a_lost_carrier_took_comes_back_with_it(yard: Yard, daemon: Daemon) -> None:
    """Routes by the hundred, in both families; those of the other cable carry every packet all the while."""
    for line in (
        "route add 192.0.2.0/25 via 192.0.2.77 proto static",
        "route add 10.9.0.0/16 via 10.0.0.77 proto static",
    ):
        yard.ip(line)
    yard.ip("nexthop add id 5 via 10.0.0.77 dev eth1 protocol static")
    others = yard.foreign()
    assert len(others) == 3
    through = [yard.flow(address, NEAR) for address in FAR.behind]
    assert [await flow.ask() for flow in through] == ["far", "far"]
    kept = [yard.flow(address) for address in NEAR.behind]
    async with going_on(*kept):
        yard.cable(FAR, up=False)
        await eventually_async(lambda: not yard.routes(FAR), what="the kernel takes the routes")
        await eventually_async(lambda: daemon.outcome.pending, what="the daemon has noticed")
        answered = [flow.answered for flow in kept]
        await eventually_async(lambda: all(f.answered > n + 50 for f, n in zip(kept, answered, strict=True)))
        assert yard.routes(NEAR) == NEAR.destinations
        yard.cable(FAR, up=True)
        await eventually_async(lambda: yard.routes(FAR) == FAR.destinations, what="the routes are back")
        for flow in through:
            await eventually_async(lambda flow=flow: flow.ask(1), what="packets go through again")  # type: ignore[misc]
        await eventually_async(lambda: daemon.converged, what="the daemon has converged")
    assert yard.routes(NEAR) == NEAR.destinations
    assert yard.foreign() == others


async def test_a_cable_that_is_out_for_a_moment_only(yard: Yard, daemon: Daemon) -> None:
    """Whatever the kernel makes of it, again and again: in the end all routes are there."""
    for _ in range(10):
        for up in (False, True):
            yard.cable(FAR, up=up)
    await eventually_async(
        lambda: yard.routes(FAR) == FAR.destinations and daemon.converged, what="the routes are there"
    )
    assert [await yard.flow(address).ask() for address in FAR.behind] == ["far", "far"]


# -- two ways ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def two_ways(yard: Yard) -> AsyncIterator[Yard]:
    """Give a yard whose gateway has two ways to one address, and does on a reason what the daemon does."""
    ways = [Hop(beside.device, IPv4Address(beside.address[0])) for beside in (NEAR, FAR)]
    wanted = Route(HOST, net(f"{ANYWHERE}/32"), tuple(ways), PROTO_BGP)
    for beside in (NEAR, FAR):
        yard.ip(f"address add {beside.own[0]}/24 dev {beside.device}")
    yard.world.run(HOST, "sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1")
    port, tasks = RoutesPort(yard.world.namespaces), Tasks()

    async def follow() -> None:
        async for _ in port.watch():
            port.apply(diff(port.read(), [wanted]))

    tasks.start("follow", follow)
    try:
        yield yard
    finally:
        await tasks.stop()


async def test_a_group_of_two_ways_shrinks_and_grows_with_their_carriers(two_ways: Yard) -> None:
    """A flow that has the other way keeps it and loses nothing; what had the lost one finds the other."""

    async def answer(*names: str) -> bool:
        """Tell whether flows are answered by all of these, and nobody else."""
        return {await two_ways.flow(ANYWHERE).ask(1) for _ in range(16)} == set(names)

    await eventually_async(lambda: answer("near", "far"), what="there are two ways")
    for stays, goes in ((NEAR, FAR), (FAR, NEAR)):
        flows = [two_ways.flow(ANYWHERE) for _ in range(16)]
        kept = [flow for flow in flows if await flow.ask() == stays.name]
        assert kept
        async with going_on(*kept):
            two_ways.cable(goes, up=False)
            await eventually_async(lambda name=stays.name: answer(name), what="there is one way")  # type: ignore[misc]
            two_ways.cable(goes, up=True)
            await eventually_async(lambda: answer("near", "far"), what="there are two ways again")
        assert all(flow.by.keys() == {stays.name} for flow in kept)
