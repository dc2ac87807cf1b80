"""Two reflectors, each another engine: the clients reach everything through either of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import pytest

from routing.bgp.values import Family, Mode, Neighbor, Speaker
from tests.support.engines import EngineOnLan, available
from tests.support.lan import Lan
from tests.support.routers.common import Link, Router, Table, difference
from tests.support.scenario import (
    ACCEPT_ALL,
    CLASSES,
    SEND_ALL,
    SERVER,
    routes_of,
    wait_until_listening,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
CLIENTS = ("bird", "frr", "openbgpd")
REFLECTORS = ("first", "second")


def _pairs() -> list[tuple[str, str]]:
    """Return each engine with the next one, so that each is once the one that dies; one alone is its own partner."""
    names = available()
    return [(name, names[(index + 1) % len(names)]) for index, name in enumerate(names)]


@dataclass
class Pair:
    """Two reflectors and the routers that have a session with each."""

    lan: Lan
    engines: dict[str, EngineOnLan]
    routers: dict[str, Router]

    def link(self, member: str, reflector: str) -> Link:
        """Return a client's session with a reflector."""
        return self.routers[member].links[REFLECTORS.index(reflector)]

    def expect(self, reflector: str) -> None:
        """Wait until every client has through this reflector what all others announce."""
        for member, router in self.routers.items():
            session = self.link(member, reflector)
            wanted = {
                route.prefix: router.as_seen(
                    replace(
                        route.attributes,
                        originator_id=self.lan.ipv4(other),
                        cluster_list=(self.lan.ipv4(reflector),),
                    ),
                    session,
                )
                for other in self.routers
                if other != member
                for route in self.routers[other].routes
            }
            eventually(partial(_equal, wanted, router, session), what=f"{member} by {reflector}")


def _equal(wanted: Table, router: Router, session: Link) -> bool:
    wrong = difference(wanted, router.received(session))
    assert not wrong, "\n".join(wrong)
    return True


@pytest.fixture(params=_pairs(), ids="-".join)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Run both reflectors and three real clients, one session each for both families."""
    with Lan(*REFLECTORS, *CLIENTS) as lan, ExitStack() as stack:
        engines = {}
        for member, engine_name in zip(REFLECTORS, request.param, strict=True):
            engines[member] = stack.enter_context(EngineOnLan(engine_name, lan, member))
            engines[member].apply(_speaker(lan, member))
            wait_until_listening(lan, member, _speaker(lan, member))
        routers = {member: stack.enter_context(_router(lan, member)()) for member in CLIENTS}
        eventually(lambda: all(r.established() for r in routers.values()), what="all six sessions are established")
        yield Pair(lan, engines, routers)


def _speaker(lan: Lan, reflector: str) -> Speaker:
    neighbors = [
        Neighbor(
            member,
            SERVER,
            address=lan.ipv4(member),
            local_address=lan.ipv4(reflector),
            families=tuple(Family),
            imports=ACCEPT_ALL,
            exports=SEND_ALL,
            passive=True,
            restart_time=0,
        )
        for member in CLIENTS
    ]
    listen = (lan.ipv4(reflector),)
    return Speaker(reflector, Mode.REFLECTOR, SERVER, lan.ipv4(reflector), listen, neighbors=tuple(neighbors))


def _router(lan: Lan, member: str) -> Callable[[], Router]:
    links = [Link(lan.ipv4(reflector), SERVER, lan.ipv4(member), tuple(Family)) for reflector in REFLECTORS]
    routes = routes_of(lan, member, 0, 1, asn=0, local_pref=100, med=0)
    return lambda: CLASSES[member](lan, member, SERVER, links, routes)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_one_reflector_may_die_and_nothing_becomes_unreachable(pair: Pair, how: str) -> None:
    """The tables by the other one stay as they are, its sessions stay up, and a later prefix still reaches everybody."""
    for reflector in REFLECTORS:
        pair.expect(reflector)
    before = {member: router.incarnation(pair.link(member, "second")) for member, router in pair.routers.items()}
    first = {member: router.incarnation(pair.link(member, "first")) for member, router in pair.routers.items()}
    if how == "stopped":
        pair.engines["first"].stop()
    else:
        pair.engines["first"].kill()
    eventually(
        lambda: all(r.incarnation(pair.link(m, "first")) != first[m] for m, r in pair.routers.items()),
        what="every client has noticed",
    )
    pair.expect("second")
    bird = pair.routers["bird"]
    bird.announce(*bird.routes, *routes_of(pair.lan, "bird", 7, asn=0, local_pref=100, med=0))
    pair.expect("second")
    after = {member: router.incarnation(pair.link(member, "second")) for member, router in pair.routers.items()}
    assert after == before
