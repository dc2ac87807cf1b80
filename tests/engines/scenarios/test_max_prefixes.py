"""A client may not announce more than it is allowed: what is above the limit is refused, the rest is served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from routing.bgp.values import Family, Mode, Network, Reason
from tests.support.lan import Lan
from tests.support.scenario import World, client, name_of, neighbors, only, prefix, routes_of, running, speaker
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
LIMIT = 5
ANNOUNCED = 8


@pytest.fixture(scope="module")
def world(engine_name: str) -> Iterator[World]:
    """Run a route server: BIRD announces eight routes and may announce five, FRR exactly its five."""
    with Lan("rs", "bird", "frr", "openbgpd") as lan:
        wanted = [
            *neighbors(lan, "bird", only("bird", max_prefixes=LIMIT)),
            *neighbors(lan, "frr", only("frr", max_prefixes=LIMIT)),
            *neighbors(lan, "openbgpd", only("openbgpd")),
        ]
        routers = {
            "bird": client(lan, "bird", routes_of(lan, "bird", *range(ANNOUNCED))),
            "frr": client(lan, "frr", routes_of(lan, "frr", *range(LIMIT))),
            "openbgpd": client(lan, "openbgpd", routes_of(lan, "openbgpd", 0)),
        }
        with running(
            lan, engine_name, speaker(lan, Mode.TRANSPARENT, wanted), routers, up=("frr", "openbgpd")
        ) as world:
            yield world


def _from_bird(world: World, family: Family, receiver: str) -> set[Network]:
    return world.received(receiver, family).keys() & world.announced("bird", family).keys()


def test_the_others_receive_as_many_as_allowed_and_no_more(world: World, family: Family) -> None:
    """Every other client has the same five, the session stays up, and the other one at its limit lacks nothing."""

    def five() -> bool:
        first, second = (_from_bird(world, family, receiver) for receiver in ("frr", "openbgpd"))
        assert len(first) == LIMIT, first
        assert first == second
        return True

    eventually(five, what="the same five are at both")
    assert world.routers["bird"].incarnation(world.link("bird", family)) == "1"
    eventually(
        lambda: world.announced("frr", family).keys() <= world.received("openbgpd", family).keys(),
        what="all of FRR's are at OpenBGPD",
    )


def test_routes_above_the_limit_are_listed_as_such(world: World, family: Family) -> None:
    """As many as allowed are accepted, the others refused as MAX_PREFIXES."""

    def settled() -> bool:
        listed = list(world.reasons(name_of("bird", family)).values())
        assert (listed.count(None), listed.count(Reason.MAX_PREFIXES)) == (LIMIT, ANNOUNCED - LIMIT)
        return True

    eventually(settled, what="five are accepted, three refused")


def test_a_place_that_becomes_free_is_used(world: World, family: Family) -> None:
    """When accepted routes are taken back, the limit has room again for new ones."""
    if world.engine.name == "bird":
        pytest.skip("a limit of the reference stays reached until the session is new")
    bird = world.routers["bird"]
    before = bird.routes
    bird.announce()
    eventually(lambda: not _from_bird(world, family, "openbgpd"), what="all are gone")
    fresh = [r for r in routes_of(world.lan, "bird", 20, 21) if Family.of(r.prefix) is family]
    bird.announce(*fresh)
    eventually(
        lambda: _from_bird(world, family, "openbgpd") == {prefix("bird", n, family) for n in (20, 21)},
        what="two new ones are served",
    )
    bird.announce(*before)
    eventually(lambda: len(_from_bird(world, family, "openbgpd")) == LIMIT, what="five are served again")
