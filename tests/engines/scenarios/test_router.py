"""An ordinary speaker between eBGP and iBGP neighbours, with announcements of its own (RFC 4271 5, 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

from routing.bgp.values import (
    Announcement,
    Attributes,
    ExportPolicy,
    Family,
    Mode,
    Network,
    PrefixRule,
)
from tests.support.lan import Lan
from tests.support.routers.common import Route, Router, sequence
from tests.support.scenario import (
    ACCEPT_ALL,
    CLASSES,
    EVERYTHING,
    SERVER,
    World,
    address,
    attributes,
    client,
    link,
    neighbors,
    only,
    prefix,
    running,
    speaker,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
OUTSIDE = ("bird", "other")
# FRR is given the speaker's own next hop, OpenBGPD the one that was learned.
INSIDE = ("frr", "openbgpd")
OWN: dict[Family, Network] = {Family.IPV4: ip_network("10.9.0.0/24"), Family.IPV6: ip_network("2001:db8:900::/48")}
DEFAULT_LOCAL_PREF = 100


@pytest.fixture(scope="module")
def world(engine_name: str) -> Iterator[World]:
    """Run a router with two eBGP and two iBGP neighbours; the second outside neighbour is not sent one prefix."""
    with Lan("rs", *OUTSIDE, *INSIDE) as lan:
        hidden = tuple(PrefixRule.exact(prefix("bird", 1, family)) for family in Family)
        wanted = [
            *neighbors(lan, "bird", only("bird")),
            *neighbors(lan, "other", only("other"), ExportPolicy(accept=EVERYTHING, never=hidden)),
            *neighbors(lan, "frr", ACCEPT_ALL, asn=SERVER, next_hop_self=True),
            *neighbors(lan, "openbgpd", ACCEPT_ALL, asn=SERVER),
        ]
        own = tuple(
            Announcement(OWN[f], communities=((SERVER, 1),), large_communities=((SERVER, 2, 3),), med=7) for f in Family
        )
        routers = {member: client(lan, member, _outside(lan, member)) for member in OUTSIDE}
        routers |= {member: _inside(lan, member) for member in INSIDE}
        with running(lan, engine_name, speaker(lan, Mode.ROUTER, wanted, announcements=own), routers) as world:
            world.engine.watch()
            yield world


def _outside(lan: Lan, member: str) -> list[Route]:
    sent = {f: attributes(lan, member, f, 64700, med=40, communities=((64700, 1),)) for f in Family}
    return [Route(prefix(member, n, f), sent[f]) for f in Family for n in (0, 1)]


def _inside(lan: Lan, member: str) -> Callable[[], Router]:
    routes = [Route(prefix(member, 0, f), attributes(lan, member, f, asn=0, local_pref=200, med=50)) for f in Family]
    links = [link(lan, member, family) for family in Family]
    return lambda: CLASSES[member](lan, member, SERVER, links, routes)


def _own(world: World, family: Family) -> Attributes:
    return Attributes(
        next_hop=address(world.lan, "rs", family),
        med=7,
        communities=((SERVER, 1),),
        large_communities=((SERVER, 2, 3),),
    )


def _learned_outside(world: World, family: Family, *members: str) -> dict[Network, Attributes]:
    return {p: a for member in members for p, a in world.announced(member, family).items()}


@pytest.mark.parametrize("receiver", INSIDE)
def test_inside_neighbours_receive_what_was_learned_outside(world: World, family: Family, receiver: str) -> None:
    """Own routes and eBGP routes with the default LOCAL_PREF; not the routes of the other iBGP neighbour.

    The next hop is the speaker's where `next_hop_self` says so, otherwise the one that was learned.
    """
    wanted = {
        found: replace(
            sent,
            local_pref=DEFAULT_LOCAL_PREF,
            next_hop=address(world.lan, "rs", family) if receiver == "frr" else sent.next_hop,
        )
        for found, sent in _learned_outside(world, family, *OUTSIDE).items()
    }
    wanted[OWN[family]] = replace(_own(world, family), local_pref=DEFAULT_LOCAL_PREF)
    world.expect(receiver, family, wanted)


@pytest.mark.parametrize("receiver", OUTSIDE)
def test_outside_neighbours_receive_everything_with_the_as_in_front(
    world: World, family: Family, receiver: str
) -> None:
    """A MED that came from another AS does not go to a third one (RFC 4271 5.1.4), the own one does.

    The export policy hides one prefix. The next hop may be the speaker's or stay the one on the common subnet.
    """
    sender = next(member for member in OUTSIDE if member != receiver)
    others = _learned_outside(world, family, sender, *INSIDE)
    if receiver == "other":
        others.pop(prefix("bird", 1, family))
    wanted = {OWN[family]: replace(_own(world, family), as_path=sequence(SERVER))}
    for found, sent in others.items():
        path = sequence(SERVER, *sent.path_asns)
        wanted[found] = replace(sent, as_path=path, local_pref=None, med=None)

    def same() -> bool:
        received = world.received(receiver, family)
        assert received.keys() == wanted.keys()
        hops = {found: {wanted[found].next_hop, address(world.lan, "rs", family)} for found in received}
        assert {f: a.next_hop for f, a in received.items() if a.next_hop not in hops[f]} == {}
        assert {f: replace(a, next_hop=wanted[f].next_hop) for f, a in received.items()} == wanted
        return True

    eventually(same, what=f"{receiver} has everything")


def test_the_best_paths_are_told(world: World, family: Family) -> None:
    """`watch` names every best path with its attributes and who taught it, the own ones by "local"."""
    eventually(lambda: world.engine.synced, what="the first round of events is over")
    wanted = {
        found: (f"{member}-{'v4' if family is Family.IPV4 else 'v6'}", sent.next_hop, sent.path_asns)
        for member in (*OUTSIDE, *INSIDE)
        for found, sent in world.announced(member, family).items()
    }

    def told() -> bool:
        found = {
            p: (best.neighbor, best.attributes.next_hop, best.attributes.path_asns)
            for p, best in world.engine.best.items()
            if best.attributes is not None and Family.of(p) is family and p != OWN[family]
        }
        assert found == wanted
        return True

    eventually(told, what="every best path was told")
    assert world.engine.best[OWN[family]].neighbor == "local"


def _everywhere(world: World, family: Family, there: Network, gone: Network) -> bool:
    tables = {receiver: set(world.received(receiver, family)) for receiver in (*OUTSIDE, *INSIDE)}
    tables["events"] = set(world.engine.best)
    wrong = {place: sorted(map(str, found)) for place, found in tables.items() if there not in found or gone in found}
    assert not wrong, f"{there} instead of {gone}: {wrong}"
    return True


def test_own_announcements_come_and_go(world: World, family: Family) -> None:
    """A second apply withdraws one and announces another; nobody's session notices."""
    before = world.speaker
    new = prefix("host", 0, family)
    third = Announcement(new, communities=((SERVER, 9),))
    kept = tuple(own for own in before.announcements if own.prefix != OWN[family])
    incarnation = world.routers["bird"].incarnation(world.link("bird", family))
    world.apply(replace(before, announcements=(*kept, third)))
    eventually(lambda: _everywhere(world, family, new, OWN[family]), what="the new one replaces the old one")
    world.apply(before)
    eventually(lambda: _everywhere(world, family, OWN[family], new), what="the old one is back")
    assert world.routers["bird"].incarnation(world.link("bird", family)) == incarnation


def test_a_lost_best_path_is_told(world: World, family: Family) -> None:
    """When its announcer takes it back, the prefix has no best path; and again one when it is back."""
    bird = world.routers["bird"]
    gone = prefix("bird", 0, family)
    eventually(lambda: gone in world.engine.best, what="the prefix has a best path")
    before = bird.routes
    bird.announce(*(route for route in before if route.prefix != gone))
    eventually(lambda: gone not in world.engine.best, what="the prefix has none")
    bird.announce(*before)
    eventually(lambda: gone in world.engine.best, what="the prefix has one again")
    assert world.engine.best[gone].neighbor == f"bird-{'v4' if family is Family.IPV4 else 'v6'}"
