"""A client may not announce more than it is allowed: what is above the limit is refused, the rest is served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from routing.bgp.values import Family, Mode, Network, Reason
from routing.engines.engine import SessionState
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


def _keeps_the_session(world: World, family: Family) -> bool:
    """Wait until the engine has acted on the excess and tell how: refuse the routes, or close the session.

    Refusing is the better answer; an engine whose process counts by itself may only be able to close.
    """

    def acted() -> str:
        view = world.engine.session(name_of("bird", family))
        refused = list(world.reasons(view.name).values()).count(Reason.MAX_PREFIXES)
        if view.state is SessionState.ESTABLISHED:
            assert refused == ANNOUNCED - LIMIT, view
            return "refused"
        assert "prefix" in view.detail, view
        return "closed"

    return eventually(acted, what="the engine refuses the excess or closes the session and says why") == "refused"


def test_the_others_receive_as_many_as_allowed_and_no_more(world: World, family: Family) -> None:
    """Every other client has the same five (none, if the session was closed); one at its limit lacks nothing."""
    allowed = LIMIT if _keeps_the_session(world, family) else 0

    def settled() -> bool:
        first, second = (_from_bird(world, family, receiver) for receiver in ("frr", "openbgpd"))
        assert first == second
        assert len(first) == allowed, first
        assert world.announced("frr", family).keys() <= world.received("openbgpd", family).keys()
        return True

    eventually(settled, what="both have the same")


def test_the_engine_says_who_announced_too_much(world: World, family: Family) -> None:
    """Five are accepted and three refused as MAX_PREFIXES, or the session's detail says why it is closed."""
    if _keeps_the_session(world, family):
        listed = list(world.reasons(name_of("bird", family)).values())
        assert (listed.count(None), listed.count(Reason.MAX_PREFIXES)) == (LIMIT, ANNOUNCED - LIMIT)
    else:
        assert "more prefixes" in world.engine.session(name_of("bird", family)).detail


def test_a_place_that_becomes_free_is_used(world: World, family: Family) -> None:
    """When accepted routes are taken back, the limit has room again for new ones."""
    if world.engine.name == "bird":
        pytest.skip("a limit of the reference stays reached until the session is new")
    if not _keeps_the_session(world, family):
        pytest.skip("this engine closes the session, for a while")
    bird = world.routers["bird"]
    before = bird.routes
    bird.announce()
    eventually(lambda: not _from_bird(world, family, "openbgpd"), what="all are gone")
    fresh = [r for r in routes_of(world.lan, "bird", 20, 21) if Family.of(r.prefix) is family]
    bird.announce(*fresh)
    wanted = {prefix("bird", number, family) for number in (20, 21)}
    eventually(lambda: _from_bird(world, family, "openbgpd") == wanted, what="two new ones are served")
    bird.announce(*before)
    eventually(lambda: len(_from_bird(world, family, "openbgpd")) == LIMIT, what="five are served again")


def test_a_higher_limit_serves_the_client_wholly(world: World) -> None:
    """Applied, it lets in what was refused; a session that was closed comes again without being asked."""
    if world.engine.name == "bird":
        pytest.skip("a limit of the reference stays reached until the session is new")
    for family in Family:
        _keeps_the_session(world, family)
    names = {name_of("bird", family) for family in Family}
    raised = only("bird", max_prefixes=ANNOUNCED)
    world.apply(
        replace(
            world.speaker,
            neighbors=tuple(replace(n, imports=raised) if n.name in names else n for n in world.speaker.neighbors),
        )
    )
    for family in Family:
        for receiver in ("frr", "openbgpd"):
            eventually(partial(_serves_all, world, family, receiver), what=f"all eight are at {receiver}")


def _serves_all(world: World, family: Family, receiver: str) -> bool:
    return len(_from_bird(world, family, receiver)) == ANNOUNCED
