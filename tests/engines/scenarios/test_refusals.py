"""What a client may not announce is passed to nobody and listed with the number of the reason (RFC 8212, RFC 7948)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from routing.bgp.values import (
    Attributes,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Network,
    PrefixRule,
    Reason,
    Segment,
    SegmentType,
)
from tests.support.lan import Lan
from tests.support.routers.common import Route, sequence
from tests.support.scenario import (
    ASNS,
    SEND_ALL,
    SERVER,
    World,
    address,
    attributes,
    client,
    name_of,
    neighbor,
    neighbors,
    only,
    owned,
    prefix,
    routes_of,
    running,
    speaker,
    third_party,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
FORBIDDEN = 64666
LONGEST = 6

# What BIRD announces: the n-th prefix of an owner, and the one thing that is wrong with it.
CASES: dict[Reason | None, tuple[str, int]] = {
    None: ("bird", 0),
    Reason.NOT_OWNED: ("other", 1),
    Reason.BOGON: ("bird", 2),
    Reason.FIRST_AS: ("bird", 3),
    Reason.FORBIDDEN_AS: ("bird", 4),
    Reason.PATH_TOO_LONG: ("bird", 5),
    Reason.NEXT_HOP: ("bird", 6),
    Reason.AS_LOOP: ("bird", 7),
}
AS_SET = 8


def _bad_routes(lan: Lan, family: Family) -> list[Route]:
    plain = attributes(lan, "bird", family)
    paths = {
        Reason.FIRST_AS: (64700, ASNS["bird"]),
        Reason.FORBIDDEN_AS: (ASNS["bird"], FORBIDDEN),
        Reason.PATH_TOO_LONG: (ASNS["bird"], *range(64700, 64700 + LONGEST)),
        Reason.AS_LOOP: (ASNS["bird"], SERVER, 64700),
    }
    made: dict[Reason | None, Attributes] = {
        reason: attributes(lan, "bird", family, *path, asn=0) for reason, path in paths.items()
    }
    made[Reason.NEXT_HOP] = attributes(lan, "bird", family, next_hop=third_party(family))
    return [Route(prefix(*place, family), made.get(reason, plain)) for reason, place in CASES.items()]


def _announcer_routes(lan: Lan, family: Family) -> list[Route]:
    path = (*sequence(ASNS["exabgp"]), Segment(SegmentType.SET, (64701, 64702)))
    return [
        Route(prefix("exabgp", 0, family), attributes(lan, "exabgp", family)),
        Route(prefix("exabgp", AS_SET, family), attributes(lan, "exabgp", family, as_path=path)),
    ]


@pytest.fixture(scope="module")
def world(engine_name: str) -> Iterator[World]:
    """Run a route server: BIRD misbehaves, FRR has no import policy, OpenBGPD no export policy."""
    with Lan("rs", "bird", "frr", "openbgpd", "exabgp") as lan:
        strict = [neighbor(lan, "bird", family, _strict(lan, family), SEND_ALL) for family in Family]
        others = [
            *neighbors(lan, "frr", ImportPolicy()),
            *neighbors(lan, "openbgpd", only("openbgpd"), ExportPolicy()),
            *neighbors(lan, "exabgp", only("exabgp")),
        ]
        bad = [route for family in Family for route in _bad_routes(lan, family)]
        routers = {
            "bird": client(lan, "bird", bad),
            "frr": client(lan, "frr", routes_of(lan, "frr", 0, 1)),
            "openbgpd": client(lan, "openbgpd", routes_of(lan, "openbgpd", 0)),
            "exabgp": client(lan, "exabgp", [r for family in Family for r in _announcer_routes(lan, family)]),
        }
        wanted = speaker(lan, Mode.TRANSPARENT, [*strict, *others])
        with running(lan, engine_name, wanted, routers) as world:
            eventually(lambda: all(_complete(world, family) for family in Family), what="every route was received")
            yield world


def _strict(lan: Lan, family: Family) -> ImportPolicy:
    return ImportPolicy(
        accept=owned("bird"),
        never=tuple(PrefixRule.exact(prefix(*CASES[Reason.BOGON], f)) for f in Family),
        first_as=ASNS["bird"],
        forbidden_as=(FORBIDDEN,),
        max_path_length=LONGEST,
        next_hops=(ip_network(address(lan, "bird", family)),),
    )


def _complete(world: World, family: Family) -> bool:
    listed = {member: world.reasons(name_of(member, family)) for member in world.routers}
    return all(listed[member].keys() >= world.announced(member, family).keys() for member in world.routers)


@pytest.mark.parametrize("reason", CASES, ids=lambda reason: reason.name if reason else "accepted")
def test_every_route_is_listed_with_its_reason(world: World, family: Family, reason: Reason | None) -> None:
    """`routes` shows what was received; the number says why it was refused, none that it was accepted."""
    found = prefix(*CASES[reason], family)
    assert world.reasons(name_of("bird", family))[found] == reason


def test_a_path_with_an_as_set_is_refused(world: World, family: Family) -> None:
    """RFC 9774: AS_SET has no place in a path any more."""
    listed = world.reasons(name_of("exabgp", family))
    assert listed == {prefix("exabgp", 0, family): None, prefix("exabgp", AS_SET, family): Reason.AS_SET}


def test_nothing_is_accepted_from_a_client_without_a_policy(world: World, family: Family) -> None:
    """RFC 8212: all its routes are refused as NO_POLICY."""
    listed = world.reasons(name_of("frr", family))
    assert listed == {prefix("frr", number, family): Reason.NO_POLICY for number in (0, 1)}


def test_the_others_receive_the_accepted_routes_only(world: World, family: Family) -> None:
    """Of all that was announced, only what is owned and right arrives."""
    good: dict[str, Network] = {member: prefix(member, 0, family) for member in ("bird", "exabgp", "openbgpd")}
    for receiver in ("bird", "frr"):
        wanted = {good[member]: world.announced(member, family)[good[member]] for member in good if member != receiver}
        world.expect(receiver, family, wanted)


def test_nothing_is_sent_to_a_client_without_an_export_policy(world: World, family: Family) -> None:
    """RFC 8212 again: the session is up, the table stays empty."""
    assert world.routers["openbgpd"].established(world.link("openbgpd", family))
    assert world.received("openbgpd", family) == {}


def test_counts_of_a_session_tell_received_from_accepted(world: World, family: Family) -> None:
    """The session view counts what came and what was accepted."""
    view = world.engine.session(name_of("bird", family))
    assert (view.received, view.accepted) == (len(CASES), 1)
    assert world.engine.session(name_of("openbgpd", family)).advertised == 0
