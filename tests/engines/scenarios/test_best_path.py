"""Two clients announce one prefix: everybody else gets the better path, its announcer the other (RFC 7947 2.3.1)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from routing.bgp.values import Family, ImportPolicy, Mode, Network, Origin
from tests.support.lan import Lan
from tests.support.routers.common import Route
from tests.support.scenario import (
    World,
    attributes,
    client,
    name_of,
    neighbors,
    owned,
    prefix,
    routes_of,
    running,
    speaker,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
SHARED = 9


def shared(family: Family) -> Network:
    """Return the prefix that two clients announce; it is of BIRD's block."""
    return prefix("bird", SHARED, family)


@pytest.fixture(scope="module")
def world(engine_name: str) -> Iterator[World]:
    """Run a route server where BIRD's path is shorter than FRR's, and OpenBGPD looks on."""
    with Lan("rs", "bird", "frr", "openbgpd") as lan:
        both = ImportPolicy(accept=(*owned("bird"), *owned("frr")))
        wanted = [each for member in ("bird", "frr", "openbgpd") for each in neighbors(lan, member, both)]
        routers = {
            "bird": client(lan, "bird", [Route(shared(f), attributes(lan, "bird", f, 64700)) for f in Family]),
            "frr": client(lan, "frr", [Route(shared(f), attributes(lan, "frr", f, 64700, 64701)) for f in Family]),
            "openbgpd": client(lan, "openbgpd"),
        }
        with running(lan, engine_name, speaker(lan, Mode.TRANSPARENT, wanted), routers) as world:
            yield world


def test_everybody_else_receives_the_better_path(world: World, family: Family) -> None:
    """The shorter AS path wins (RFC 4271 9.1.2.2 a)."""
    world.expect("openbgpd", family, world.announced("bird", family))
    world.expect("frr", family, world.announced("bird", family))


def test_the_client_whose_path_won_receives_the_other(world: World, family: Family) -> None:
    """No path is hidden from the one client that must not get its own back."""
    world.expect("bird", family, world.announced("frr", family))


def test_the_engine_says_which_path_is_best_and_why(world: World, family: Family) -> None:
    """Both paths are listed, one is best, and each has words about the deciding step."""
    world.expect("openbgpd", family, world.announced("bird", family))
    views = world.engine.routes(prefix=shared(family))
    assert {view.neighbor: view.best for view in views} == {
        name_of("bird", family): True,
        name_of("frr", family): False,
    }
    if world.engine.name != "bird":  # the reference has no words
        assert all(view.why for view in views)


def test_when_the_better_path_goes_the_other_one_takes_over(world: World, family: Family) -> None:
    """Everybody gets the remaining path, its announcer gets nothing; and back again."""
    bird = world.routers["bird"]
    before = bird.routes
    bird.announce()
    world.expect("openbgpd", family, world.announced("frr", family))
    world.expect("bird", family, world.announced("frr", family))
    world.expect("frr", family, {})
    bird.announce(*before)
    world.expect("openbgpd", family, world.announced("bird", family))
    world.expect("frr", family, world.announced("bird", family))


def test_a_change_of_attributes_changes_who_wins(world: World, family: Family) -> None:
    """With paths of equal length the lower ORIGIN wins; the roles swap for all three clients."""
    bird = world.routers["bird"]
    before = bird.routes
    worse = [Route(shared(f), attributes(world.lan, "bird", f, 64700, 64701, origin=Origin.INCOMPLETE)) for f in Family]
    bird.announce(*worse)
    world.expect("openbgpd", family, world.announced("frr", family))
    world.expect("frr", family, world.announced("bird", family))
    world.expect("bird", family, world.announced("frr", family))
    bird.announce(*before)
    world.expect("openbgpd", family, world.announced("bird", family))


def test_an_unrelated_route_does_not_disturb_the_choice(world: World, family: Family) -> None:
    """A prefix added beside the contested one arrives, and the contested one stays as it was."""
    frr = world.routers["frr"]
    before = frr.routes
    added = routes_of(world.lan, "frr", 3)
    frr.announce(*before, *added)
    wanted = world.announced("bird", family) | {r.prefix: r.attributes for r in added if Family.of(r.prefix) is family}
    world.expect("openbgpd", family, wanted)
    frr.announce(*before)
    eventually(lambda: len(world.received("openbgpd", family)) == 1, what="only the contested prefix is left")
