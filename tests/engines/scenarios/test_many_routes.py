"""Ten thousand routes as they occur in the wild arrive complete and equal at every neighbour."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from routing.bgp.values import Family, ImportPolicy, Mode
from tests.support import feed
from tests.support.lan import Lan
from tests.support.routers.bird import Bird
from tests.support.routers.common import Route, normal
from tests.support.scenario import (
    ACCEPT_ALL,
    ASNS,
    EVERYTHING,
    SEND_ALL,
    SERVER,
    World,
    address,
    client,
    link,
    name_of,
    neighbor,
    neighbors,
    only,
    running,
    speaker,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
COUNTS = {Family.IPV4: 10_000, Family.IPV6: 2_000}
RECEIVERS = ("frr", "openbgpd", "other")
PATIENCE = 90.0


def _feed(lan: Lan, *families: Family) -> list[Route]:
    return [r for f in families for r in feed.routes(COUNTS[f], f, ASNS["bird"], address(lan, "bird", f))]


@pytest.fixture(scope="module")
def world(engine_name: str) -> Iterator[World]:
    """Run a route server: BIRD announces the feed, three routers receive it."""
    with Lan("rs", "bird", *RECEIVERS) as lan:
        wanted = neighbors(lan, "bird", ImportPolicy(accept=EVERYTHING, first_as=ASNS["bird"]))
        wanted += [each for member in RECEIVERS for each in neighbors(lan, member, only(member))]
        routers = {"bird": client(lan, "bird", _feed(lan, *Family))}
        routers |= {member: client(lan, member) for member in RECEIVERS}
        with running(lan, engine_name, speaker(lan, Mode.TRANSPARENT, wanted), routers) as world:
            yield world


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_every_route_arrives_with_its_attributes(world: World, family: Family, receiver: str) -> None:
    """Not one is missing, foreign or changed."""
    world.expect(receiver, family, world.announced("bird", family), within=PATIENCE)


def test_the_engine_counts_and_lists_them_all(world: World, family: Family) -> None:
    """The session view and `routes` agree with what was announced."""
    name = name_of("bird", family)
    eventually(lambda: world.engine.session(name).received >= COUNTS[family], within=PATIENCE, what="all were received")
    view = world.engine.session(name)
    assert (view.received, view.accepted) == (COUNTS[family], COUNTS[family])
    assert {v.prefix for v in world.engine.routes(neighbor=name)} == world.announced("bird", family).keys()


def test_all_of_them_are_withdrawn_again(world: World) -> None:
    """When the announcer is gone, every table is empty."""
    for receiver in RECEIVERS:
        for family in Family:
            world.expect(receiver, family, world.announced("bird", family), within=PATIENCE)
    world.routers["bird"].kill()
    for receiver in RECEIVERS:
        for family in Family:
            world.expect(receiver, family, {}, within=PATIENCE)


@pytest.mark.parametrize(
    ("mode", "asn", "families"),
    [(Mode.ROUTER, ASNS["bird"], tuple(Family)), (Mode.REFLECTOR, SERVER, (Family.IPV6,))],
    ids=["router", "reflector"],
)
def test_every_best_path_is_told(engine_name: str, mode: Mode, asn: int, families: tuple[Family, ...]) -> None:
    """`watch` gives a Best event for each route, complete at `Synced`, with the attributes that came."""
    with Lan("rs", "bird") as lan:
        sessions = [neighbor(lan, "bird", f, ACCEPT_ALL, SEND_ALL, asn=asn) for f in families]
        links = [link(lan, "bird", f) for f in families]
        local_pref = None if mode is Mode.ROUTER else 100
        routes = [Route(r.prefix, replace(r.attributes, local_pref=local_pref)) for r in _feed(lan, *families)]
        routers = {"bird": lambda: Bird(lan, "bird", asn, links, routes)}
        with running(lan, engine_name, speaker(lan, mode, sessions), routers) as world:
            _wait_for_the_feed(world, families)
            world.engine.watch()
            eventually(lambda: world.engine.synced, within=PATIENCE, what="Synced")
            wanted = {route.prefix: normal(route.attributes) for route in routes}
            found = {p: b.attributes for p, b in world.engine.best.items() if b.attributes is not None}
            assert found.keys() == wanted.keys()
            differing = [
                p for p, a in found.items() if normal(replace(a, local_pref=wanted[p].local_pref)) != wanted[p]
            ]
            assert differing == []
            world.routers["bird"].kill()
            eventually(lambda: not world.engine.best, within=PATIENCE, what="no best path is left")


def _wait_for_the_feed(world: World, families: tuple[Family, ...]) -> None:
    def all_in() -> bool:
        with suppress(KeyError):
            counts = {view.name: view.received for view in world.engine.sessions()}
            return all(counts[name_of("bird", family)] == COUNTS[family] for family in families)
        return False

    eventually(all_in, within=PATIENCE, what="the engine has received the feed")
