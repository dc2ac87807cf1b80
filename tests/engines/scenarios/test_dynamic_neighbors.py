"""Hosts that nobody named come from a prefix and are served; others are not (dynamic neighbours)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from routing.bgp.values import Family, ImportPolicy, Mode, Neighbor, Network
from routing.engines.engine import SessionState
from tests.support.lan import Lan
from tests.support.routers.bird import Bird
from tests.support.routers.common import Route, Router
from tests.support.scenario import (
    ASNS,
    SEND_ALL,
    World,
    address,
    attributes,
    link,
    name_of,
    neighbors,
    only,
    owned,
    prefix,
    routes_of,
    running,
    speaker,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
RANGES: dict[Family, Network] = {
    Family.IPV4: ip_network("192.0.2.128/25"),
    Family.IPV6: ip_network("2001:db8::100/120"),
}
FOREIGN_AS = 64999
# Who comes: the host that is meant, one of the range with another AS, one of the right AS from outside the range.
COMERS = {"host": ASNS["host"], "foreign": FOREIGN_AS, "outside": ASNS["host"]}
ENOUGH = 3


@pytest.fixture(scope="module")
def world(engine_name: str) -> Iterator[World]:
    """Run a route server with one named client and a range; three routers try to come by the range."""
    with Lan("rs", "bird", "outside", host=130, foreign=131) as lan:
        anybody = ImportPolicy(accept=tuple(rule for comer in COMERS for rule in owned(comer)))
        ranges = [
            Neighbor(
                name_of("hosts", family),
                ASNS["host"],
                range=RANGES[family],
                local_address=address(lan, "rs", family),
                families=(family,),
                imports=anybody,
                exports=SEND_ALL,
                passive=True,
                restart_time=0,
            )
            for family in Family
        ]
        routers = {comer: _comer(lan, comer, asn) for comer, asn in COMERS.items()}
        routers["bird"] = lambda: Bird(
            lan, "bird", ASNS["bird"], [link(lan, "bird", f) for f in Family], routes_of(lan, "bird", 0)
        )
        wanted = speaker(lan, Mode.TRANSPARENT, [*neighbors(lan, "bird", only("bird")), *ranges])
        with running(lan, engine_name, wanted, routers) as world:
            yield world


def _comer(lan: Lan, comer: str, asn: int) -> Callable[[], Router]:
    routes = [Route(prefix(comer, 0, f), attributes(lan, comer, f, asn=asn)) for f in Family]
    return lambda: Bird(lan, comer, asn, [link(lan, comer, f) for f in Family], routes)


def test_a_host_of_the_range_is_served(world: World, family: Family) -> None:
    """Its routes reach the others, it receives theirs."""
    world.expect("host", family, world.announced("bird", family))
    world.expect("bird", family, world.announced("host", family))


def test_the_session_of_such_a_host_is_listed(world: World, family: Family) -> None:
    """`sessions` has a view with its address and AS, `routes` its routes."""
    came_from = address(world.lan, "host", family)
    world.expect("bird", family, world.announced("host", family))
    (view,) = [each for each in world.engine.sessions() if each.address == came_from]
    assert (view.asn, view.state) == (ASNS["host"], SessionState.ESTABLISHED)
    (route,) = world.engine.routes(prefix=prefix("host", 0, family))
    assert (route.address, route.reason) == (came_from, None) or world.engine.name == "bird"


@pytest.mark.parametrize("comer", ["foreign", "outside"])
def test_a_router_with_another_as_or_from_elsewhere_is_not_served(world: World, family: Family, comer: str) -> None:
    """It tries again and again and is never established; nothing of it is passed on."""
    router, session = world.routers[comer], world.link(comer, family)
    place = router.links.index(session)
    eventually(lambda: router.log().count(f"p{place}: Connecting to") >= ENOUGH, what=f"{comer} tried {ENOUGH} times")
    assert router.incarnation(session) is None
    assert f"p{place}: BGP session established" not in router.log()
    assert prefix(comer, 0, family) not in world.received("bird", family)


def test_a_host_that_leaves_takes_its_routes_with_it(world: World) -> None:
    """Killed, its routes are gone and no session of it is listed as established; it can come again."""
    host = world.routers["host"]
    host.kill()
    for family in Family:
        world.expect("bird", family, {})
    addresses = {address(world.lan, "host", family) for family in Family}
    left = [view for view in world.engine.sessions() if view.address in addresses]
    assert not [view for view in left if view.state is SessionState.ESTABLISHED]
    host.start()
    for family in Family:
        world.expect("bird", family, world.announced("host", family))
