"""A client that restarts gracefully keeps its routes meanwhile, and no longer than it asked for (RFC 4724)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from routing.bgp.values import Attributes, Family, Mode, Network
from tests.support.lan import Lan
from tests.support.routers.common import Route
from tests.support.scenario import World, client, name_of, neighbors, only, prefix, routes_of, running, speaker
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
SHORT = 3


@pytest.fixture(scope="module")
def world(engine_name: str) -> Iterator[World]:
    """Run a route server: BIRD may restart for two minutes, another BIRD for three seconds, FRR looks on."""
    with Lan("rs", "bird", "frr", "other") as lan:
        routers = {
            "bird": client(lan, "bird", routes_of(lan, "bird", 0, 1), restart_time=120),
            "other": client(lan, "other", routes_of(lan, "other", 0), restart_time=SHORT),
            "frr": client(lan, "frr", routes_of(lan, "frr", 0)),
        }
        wanted = [
            *neighbors(lan, "bird", only("bird"), restart_time=120),
            *neighbors(lan, "other", only("other"), restart_time=120),
            *neighbors(lan, "frr", only("frr")),
        ]
        with running(lan, engine_name, speaker(lan, Mode.TRANSPARENT, wanted), routers) as world:
            for family in Family:
                world.expect("frr", family, _announced(world, family, "bird", "other"))
            yield world


def _announced(world: World, family: Family, *members: str) -> dict[Network, Attributes]:
    return {p: a for member in members for p, a in world.announced(member, family).items()}


def _down(world: World, member: str) -> None:
    names = [name_of(member, family) for family in Family]
    eventually(lambda: not any(world.engine.established(name) for name in names), what=f"{member} is seen to be gone")


def _stale(world: World, family: Family) -> dict[Network, bool]:
    return {view.prefix: view.stale for view in world.engine.routes(neighbor=name_of("bird", family))}


def test_routes_of_a_restarting_client_are_kept_as_stale_and_then_refreshed(world: World) -> None:
    """Killed, it loses nothing at the others; back with one route less, that one goes and the rest is fresh."""
    bird = world.routers["bird"]
    bird.kill()
    _down(world, "bird")
    for family in Family:
        world.expect("frr", family, _announced(world, family, "bird", "other"))
        if world.engine.name != "bird":  # the reference cannot say
            assert _stale(world, family) == {prefix("bird", number, family): True for number in (0, 1)}
    bird.routes = tuple(
        Route(route.prefix, replace(route.attributes, med=5))
        for route in bird.routes
        if route.prefix in {prefix("bird", 1, family) for family in Family}
    )
    bird.start()
    for family in Family:
        world.expect("frr", family, _announced(world, family, "bird", "other"))
        assert _stale(world, family) == {prefix("bird", 1, family): False}


def test_routes_of_a_client_that_does_not_come_back_are_withdrawn(world: World) -> None:
    """When the restart time that it announced is over, its routes are gone."""
    world.routers["other"].kill()
    _down(world, "other")
    for family in Family:
        world.expect("frr", family, _announced(world, family, "bird"), within=SHORT + 15)
