"""A route reflector passes routes between its iBGP clients and adds only ORIGINATOR_ID and CLUSTER_LIST (RFC 4456)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address

import pytest

from routing.bgp.values import Attributes, Family, Mode, Neighbor, Network, Origin, Reason
from tests.support.lan import Lan
from tests.support.routers.common import Link, Route, Router, extended
from tests.support.scenario import (
    ACCEPT_ALL,
    CLASSES,
    SEND_ALL,
    SERVER,
    World,
    attributes,
    prefix,
    running,
    speaker,
    third_party,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
CLIENTS = ("bird", "frr", "openbgpd")
BEYOND = (IPv4Address("203.0.113.1"), IPv4Address("203.0.113.2"))


@pytest.fixture(scope="module")
def world(engine_name: str) -> Iterator[World]:
    """Run a reflector with four clients, one session each for both families."""
    with Lan("rs", *CLIENTS, "exabgp") as lan:
        neighbors = [_neighbor(lan, member) for member in (*CLIENTS, "exabgp")]
        routers = {member: _router(lan, member) for member in (*CLIENTS, "exabgp")}
        with running(lan, engine_name, speaker(lan, Mode.REFLECTOR, neighbors), routers) as world:
            yield world


def _neighbor(lan: Lan, member: str) -> Neighbor:
    return Neighbor(
        member,
        SERVER,
        address=lan.ipv4(member),
        local_address=lan.ipv4("rs"),
        families=tuple(Family),
        imports=ACCEPT_ALL,
        exports=SEND_ALL,
        passive=True,
        restart_time=0,
    )


def _router(lan: Lan, member: str) -> Callable[[], Router]:
    session = Link(lan.ipv4("rs"), SERVER, lan.ipv4(member), tuple(Family))
    routes = [route for family in Family for route in _routes(lan, member, family)]
    return lambda: CLASSES[member](lan, member, SERVER, [session], routes)


def _routes(lan: Lan, member: str, family: Family) -> list[Route]:
    plain = attributes(lan, member, family, asn=0, local_pref=100, med=0)
    rich = replace(
        plain,
        local_pref=250,
        med=30,
        origin=Origin.INCOMPLETE,
        communities=((64700, 1),),
        large_communities=((SERVER, 1, 2),),
        extended_communities=(extended("rt", "64700", 3),),
    )
    both = [Route(prefix(member, 0, family), plain), Route(prefix(member, 1, family), rich)]
    if member == "bird":
        learned = attributes(lan, member, family, 64700, 64701, asn=0, local_pref=0, next_hop=third_party(family))
        both.append(Route(prefix(member, 2, family), learned))
    return both if member != "exabgp" else _reflected_before(plain, family)


def _reflected_before(plain: Attributes, family: Family) -> list[Route]:
    """What another reflector sends: it has its originator and its way already, and two of them lead in a circle."""
    server = Lan("rs").ipv4("rs")
    return [
        Route(prefix("exabgp", 0, family), replace(plain, originator_id=BEYOND[0], cluster_list=(BEYOND[1],))),
        Route(prefix("exabgp", 1, family), replace(plain, originator_id=server, cluster_list=(BEYOND[1],))),
        Route(prefix("exabgp", 2, family), replace(plain, originator_id=BEYOND[0], cluster_list=(BEYOND[1], server))),
    ]


def _reflected(world: World, family: Family, receiver: str) -> dict[Network, Attributes]:
    wanted = {}
    for member in world.routers:
        for found, sent in world.announced(member, family).items():
            looped = member == "exabgp" and found != prefix("exabgp", 0, family)
            if member != receiver and not looped:
                wanted[found] = replace(
                    sent,
                    originator_id=sent.originator_id or world.lan.ipv4(member),
                    cluster_list=(world.speaker.router_id, *sent.cluster_list),
                )
    return wanted


@pytest.mark.parametrize("receiver", CLIENTS)
def test_a_client_receives_the_routes_of_all_others_untouched(world: World, family: Family, receiver: str) -> None:
    """Next hop, LOCAL_PREF, MED and all else as sent; originator and cluster added; nothing of its own comes back."""
    world.expect(receiver, family, _reflected(world, family, receiver))


def test_a_route_that_comes_in_a_circle_is_refused(world: World, family: Family) -> None:
    """ORIGINATOR_ID or CLUSTER_LIST with the reflector's own id (RFC 4456 8) are refused with their reasons."""
    wanted = {
        prefix("exabgp", 0, family): None,
        prefix("exabgp", 1, family): Reason.ORIGINATOR_LOOP,
        prefix("exabgp", 2, family): Reason.CLUSTER_LOOP,
    }
    if world.engine.name == "bird":
        pytest.skip("the reference drops them before it keeps anything")

    def listed() -> bool:
        found = {p: reason for p, reason in world.reasons("exabgp").items() if Family.of(p) is family}
        assert found == wanted
        return True

    eventually(listed, what="the engine lists the looped routes")


def _advertised(world: World, receiver: str, wanted: int) -> bool:
    view = world.engine.session(receiver)
    assert view.advertised == wanted, str(view)
    return True


def test_nobody_is_sent_its_own_routes(world: World) -> None:
    """The number of routes advertised to a client is that of the others' routes."""
    for receiver in CLIENTS:
        wanted = sum(len(_reflected(world, family, receiver)) for family in Family)
        eventually(partial(_advertised, world, receiver, wanted), what=f"{receiver} is sent {wanted} routes")


def test_a_route_taken_back_leaves_the_other_clients(world: World, family: Family) -> None:
    """A withdrawal is reflected too, and the route comes again."""
    before = world.routers["bird"].routes
    world.routers["bird"].announce(*(r for r in before if r.prefix != prefix("bird", 1, family)))
    for receiver in ("frr", "openbgpd"):
        world.expect(receiver, family, _reflected(world, family, receiver))
    world.routers["bird"].announce(*before)
    for receiver in ("frr", "openbgpd"):
        world.expect(receiver, family, _reflected(world, family, receiver))
