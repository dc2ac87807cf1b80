"""What is taken back leaves every other client, and so does all that a lost session had taught (RFC 4271 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from routing.bgp.values import Attributes, Family, Mode, Network
from tests.support.lan import Lan
from tests.support.routers.bird import Bird
from tests.support.routers.common import Route
from tests.support.scenario import World, client, name_of, neighbors, only, routes_of, running, speaker
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
MEMBERS = ("bird", "frr", "openbgpd")


@pytest.fixture(scope="module")
def world(engine_name: str) -> Iterator[World]:
    """Run a route server with three clients of two routes per family, no graceful restart."""
    with Lan("rs", *MEMBERS) as lan:
        routers = {member: client(lan, member, routes_of(lan, member, 0, 1)) for member in MEMBERS}
        wanted = [each for member in MEMBERS for each in neighbors(lan, member, only(member))]
        with running(lan, engine_name, speaker(lan, Mode.TRANSPARENT, wanted), routers) as world:
            yield world


def _expect_all(world: World, family: Family, *, without: str = "") -> None:
    """Every client (but the absent one) has exactly what all others announce."""
    for member in world.routers:
        if member != without:
            wanted: dict[Network, Attributes] = {}
            for other in world.routers:
                if other not in (member, without):
                    wanted |= world.announced(other, family)
            world.expect(member, family, wanted)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_route_taken_back_leaves_the_others(world: World, family: Family, member: str) -> None:
    """One route of two goes, the other stays; announced again, it is back."""
    _expect_all(world, family)
    before = world.routers[member].routes
    gone = next(route for route in before if Family.of(route.prefix) is family)
    world.routers[member].announce(*(route for route in before if route != gone))
    _expect_all(world, family)
    world.routers[member].announce(*before)
    _expect_all(world, family)


def test_changed_attributes_replace_the_old_ones(world: World, family: Family) -> None:
    """An UPDATE for a known prefix replaces its attributes at every client."""
    before = world.routers["bird"].routes
    changed = [Route(r.prefix, replace(r.attributes, med=77, communities=((64501, 77),))) for r in before]
    world.routers["bird"].announce(*changed)
    _expect_all(world, family)
    world.routers["bird"].announce(*before)
    _expect_all(world, family)


def test_a_session_shut_down_takes_its_routes_with_it(world: World) -> None:
    """After a NOTIFICATION the IPv6 routes are gone everywhere; the session that carries IPv4 is not touched."""
    bird = world.routers["bird"]
    assert isinstance(bird, Bird)
    session, untouched = world.link("bird", Family.IPV6), world.link("bird", Family.IPV4)
    incarnation = bird.incarnation(untouched)
    bird.down(session)
    _expect_all(world, Family.IPV6, without="bird")
    _expect_all(world, Family.IPV4)
    bird.up(session)
    _expect_all(world, Family.IPV6)
    assert bird.incarnation(untouched) == incarnation


def test_a_killed_client_takes_its_routes_with_it(world: World) -> None:
    """Without graceful restart a lost connection withdraws at once, and the client is served again when it is back."""
    world.routers["bird"].kill()
    for family in Family:
        _expect_all(world, family, without="bird")
        assert world.reasons(name_of("bird", family)) == {}
    world.routers["bird"].start()
    eventually(world.routers["bird"].established, what="BIRD is back")
    for family in Family:
        _expect_all(world, family)
