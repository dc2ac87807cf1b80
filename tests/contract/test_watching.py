"""Events of every namespace in one stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from appliance.kernel.watching import LINK, OVERRUN, watch_directory, watch_route
from appliance.model.facts import HOST, Namespace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pytest

    from tests.contract.worlds import World

RED, BLUE = Namespace("red"), Namespace("blue")


def _bridges(world: World, name: str, count: int) -> None:
    """Make devices in one go, so that there are many events at once."""
    world.run(name, "sh", "-c", f"for n in $(seq {count}); do echo link add b$n type bridge; done | ip -batch -")


async def test_events_of_all_namespaces_arrive_and_are_coalesced(world: World) -> None:
    """However many there are, a reason is given once."""
    world.make(RED)
    async with asyncio.timeout(5):
        reasons = cast("AsyncGenerator[str, None]", watch_route(world.namespaces, (LINK,), "link"))
        assert await anext(reasons) == "listening"
        _bridges(world, RED, 20)
        _bridges(world, HOST, 20)
        assert {await anext(reasons), await anext(reasons)} == {"link", "link red"}
        await reasons.aclose()


async def test_lost_events_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says ENOBUFS; the caller must look at everything."""
    monkeypatch.setattr("appliance.kernel.namespaces.RECEIVE_BUFFER", 4096)
    world.make(RED)
    async with asyncio.timeout(5):
        reasons = cast("AsyncGenerator[str, None]", watch_route(world.namespaces, (LINK,), "link"))
        assert await anext(reasons) == "listening"
        _bridges(world, RED, 50)
        assert await anext(reasons) == OVERRUN
        await reasons.aclose()


async def test_a_watch_that_ends_leaves_nothing_behind(world: World) -> None:
    """No socket, no registration: the namespace can go."""
    world.make(RED)
    reasons = cast("AsyncGenerator[str, None]", watch_route(world.namespaces, (LINK,), "link"))
    await anext(reasons)
    assert world.namespaces._gone
    await reasons.aclose()
    assert not world.namespaces._gone
    assert not world.namespaces._made


async def test_the_directory_of_names_is_made_and_watched(world: World) -> None:
    """It need not exist before the first namespace."""
    assert not world.namespaces.directory.exists()
    async with asyncio.timeout(5):
        reasons = cast("AsyncGenerator[str, None]", watch_directory(world.namespaces))
        assert await anext(reasons) == "listening"
        (world.namespaces.directory / "red").touch()
        assert await anext(reasons) == "namespaces"
        await reasons.aclose()
