"""What wakes a watcher of routes, and what does not."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from appliance.control.tasks import Tasks
from appliance.model.facts import HOST
from appliance.model.marks import PROTO_BGP, PROTO_BOX
from tests.contract.boxes import reach
from tests.contract.roads import ONE, OTHER, RED, SIX, FakeRoads, RealRoads, Roads, many, route
from tests.support.waiting import eventually_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.contract.worlds import World


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kernel)])
def roads(request: pytest.FixtureRequest) -> Roads:
    """Give a node in memory, and one of this kernel."""
    return FakeRoads() if request.param == "fake" else RealRoads(request.getfixturevalue("world"))


@pytest.fixture
def real(world: World) -> RealRoads:
    """Give a node of this kernel."""
    return RealRoads(world)


async def heard(reasons: AsyncIterator[str]) -> str:
    """Return the next reason, soon."""
    return await asyncio.wait_for(anext(reasons), 10)


async def settle(reasons: AsyncIterator[str]) -> None:
    """Take the reasons that come with starting to listen."""
    assert await heard(reasons) == "listening"


async def test_a_lost_carrier_is_told(roads: Roads) -> None:
    """Down and up are both reasons to read again."""
    port = roads.port()
    reach(port, many(3, ONE))
    async with aclosing(port.watch()) as reasons:  # type: ignore[type-var]
        await settle(reasons)
        for up in (False, True):
            await asyncio.to_thread(roads.carrier, HOST, "a0", up=up)
            assert await heard(reasons)


async def test_whoever_follows_what_is_told_has_everything_back(roads: Roads) -> None:
    """Also what was never out of the kernel: a group that lost a way has both again."""
    port, tasks = roads.port(), Tasks()
    wanted = {
        *many(5, ONE),
        route("2001:db8::/32", SIX),
        route("203.0.113.0/24", OTHER),
        route("192.0.2.0/24", ONE, OTHER),
    }
    left = {route("203.0.113.0/24", OTHER), route("192.0.2.0/24", OTHER)}

    async def follow() -> None:
        async for _ in port.watch():
            reach(port, wanted)
            await asyncio.sleep(0.01)  # a pace, as the daemon has one: the port in memory hears itself

    tasks.start("follow", follow)
    try:
        for up, there in ((True, wanted), (False, left), (True, wanted)):
            await asyncio.to_thread(roads.carrier, HOST, "a0", up=up)
            await eventually_async(lambda there=there: roads.port().read() == there, what=f"it is so with {up=}")  # type: ignore[misc]
    finally:
        await tasks.stop()


@pytest.mark.kernel
async def test_only_what_others_do_to_our_routes_is_told(real: RealRoads) -> None:
    """Our own changes and routes of other protocols are filtered by the kernel; ours changed by others are told."""
    port = real.port()
    async with aclosing(port.watch()) as reasons:  # type: ignore[type-var]
        await settle(reasons)
        reach(port, [*many(2000, ONE), route("2001:db8::/32", SIX)])
        real.ip(HOST, "route", "add", "192.0.2.0/24", "via", "10.255.0.9", "proto", "bird")
        real.ip(HOST, "link", "set", "a0", "mtu", "1400")
        waiting = asyncio.ensure_future(anext(reasons))
        await asyncio.sleep(0)
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        first = waiting.result() if done else ""
        assert first in ("", "carrier"), "the first message about a device may be told, for we know nothing of it yet"
        if done:
            waiting = asyncio.ensure_future(anext(reasons))
        real.ip(HOST, "route", "del", "10.0.7.0/24", "proto", str(PROTO_BGP), "metric", "2048")
        assert await asyncio.wait_for(waiting, 10) == "route"
        real.ip(RED, "nexthop", "add", "id", "5", "dev", "a0", "protocol", str(PROTO_BOX))
        assert await heard(reasons) == "route red"


@pytest.mark.kernel
async def test_an_overrun_is_a_reason_of_its_own(real: RealRoads) -> None:
    """More changes by others than fit the buffer end as "overrun", and listening goes on."""
    port = real.port()
    reach(port, [route("192.0.2.0/24", ONE)])
    async with aclosing(port.watch()) as reasons:  # type: ignore[type-var]
        await settle(reasons)
        lines = "".join(f"route add 10.{n // 256}.{n % 256}.0/24 via 10.255.0.9 proto 218\n" for n in range(20000))
        path = real.world.host.parent / "batch"
        path.write_text(lines)
        real.ip(HOST, "-batch", str(path))
        while await heard(reasons) != "overrun":
            pass
        real.ip(HOST, "route", "del", "10.0.7.0/24", "proto", str(PROTO_BGP))
        while await heard(reasons) != "route":
            pass
