"""A route server is invisible: what a client announces arrives at the others as it was sent (RFC 7947 2.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import pytest

from routing.bgp.values import (
    Attributes,
    ExportPolicy,
    Family,
    Mode,
    Network,
    Origin,
    PrefixRule,
    Segment,
    SegmentType,
    UnknownAttribute,
)
from tests.support.lan import Lan
from tests.support.routers.common import Route, difference, extended, normal, sequence
from tests.support.scenario import (
    ASNS,
    EVERYTHING,
    SERVER,
    World,
    attributes,
    client,
    name_of,
    neighbor,
    only,
    prefix,
    running,
    speaker,
    third_party,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
CLIENTS = ("bird", "frr", "openbgpd")
MEMBERS = (*CLIENTS, "exabgp")


@dataclass(frozen=True)
class Case:
    """One attribute set: who announces it, the path beyond the announcer, and what else is special."""

    owner: str
    beyond: tuple[int, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)
    third_party: bool = False

    def attributes(self, lan: Lan, family: Family) -> Attributes:
        """Return the attributes as announced."""
        more = dict(self.more)
        if self.third_party:
            more["next_hop"] = third_party(family)
        return attributes(lan, self.owner, family, *self.beyond, **more)


_SET = Segment(SegmentType.SET, (64701, 64702, 4200000001))
_UNKNOWN = UnknownAttribute(0xC0, 99, bytes(range(40)))
CASES = {
    "nothing special": Case("bird"),
    "a path of 60": Case("bird", tuple(range(4200000001, 4200000060))),
    "a path of 270": Case("bird", tuple(range(4200000001, 4200000270))),
    "a prepended path": Case("bird", (64501, 64501, 64700)),
    "a third party's next hop": Case("bird", third_party=True),
    "origin EGP": Case("bird", more={"origin": Origin.EGP}),
    "origin incomplete": Case("bird", more={"origin": Origin.INCOMPLETE}),
    "MED 0": Case("bird", more={"med": 0}),
    "the highest MED": Case("bird", more={"med": 0xFFFFFFFF}),
    "communities": Case("bird", more={"communities": ((64501, 1), (0, 64500), (65534, 65535), (1, 65535))}),
    "NO_EXPORT": Case("bird", more={"communities": ((65535, 65281),)}),
    "large communities": Case("bird", more={"large_communities": ((4200000001, 0, 4294967295), (64501, 2, 3))}),
    "extended communities": Case(
        "bird",
        more={
            "extended_communities": (
                extended("rt", "64501", 4294967295),
                extended("ro", "64501", 1),
                extended("rt", "203.0.113.7", 65535),
                extended("rt", "4200000001", 5),
            )
        },
    ),
    "thirty communities": Case("bird", more={"communities": tuple((64501, n) for n in range(100, 130))}),
    "an aggregate": Case(
        "frr", (64700,), {"aggregator": (64502, IPv4Address("203.0.113.1")), "atomic_aggregate": True}
    ),
    "all of FRR": Case(
        "frr",
        (64700, 4200000007),
        {
            "med": 17,
            "origin": Origin.EGP,
            "communities": ((64502, 5),),
            "large_communities": ((64502, 1, 2),),
            "extended_communities": (extended("rt", "64502", 9),),
        },
    ),
    "all of OpenBGPD": Case(
        "openbgpd",
        (),
        {
            "med": 18,
            "origin": Origin.INCOMPLETE,
            "communities": ((64503, 5),),
            "large_communities": ((64503, 1, 2),),
            "extended_communities": (extended("rt", "64503", 9),),
        },
        third_party=True,
    ),
    "a four-octet AS": Case("exabgp", (64700,)),
    "an AS_SET": Case("exabgp", more={"as_path": (*sequence(65540, 64700), _SET)}),
    "a four-octet aggregator": Case("exabgp", more={"aggregator": (65540, IPv4Address("203.0.113.2"))}),
    "an unknown transitive attribute": Case("exabgp", more={"unknown": (_UNKNOWN,)}),
}
NUMBERS = {name: number for number, name in enumerate(CASES)}
# FRR is not sent the first route, OpenBGPD nothing of FRR.
HIDDEN = {"bird": (), "frr": ("nothing special",), "openbgpd": ("an aggregate", "all of FRR")}


def case_prefix(name: str, family: Family) -> Network:
    """Return the prefix that carries a case."""
    return prefix(CASES[name].owner, NUMBERS[name], family)


@pytest.fixture(scope="module")
def world(engine_name: str) -> Iterator[World]:
    """Run one route server with three real clients and an announcer, each with an IPv4 and an IPv6 session."""
    with Lan("rs", *MEMBERS) as lan:
        neighbors = [
            neighbor(
                lan,
                member,
                family,
                only(member, max_path_length=300, refuse_as_set=False, first_as=ASNS[member]),
                _exports(member, family),
            )
            for member in MEMBERS
            for family in Family
        ]
        routers = {member: client(lan, member, _announced(lan, member)) for member in MEMBERS}
        with running(lan, engine_name, speaker(lan, Mode.TRANSPARENT, neighbors), routers) as world:
            yield world


def _exports(member: str, family: Family) -> ExportPolicy:
    hidden = [PrefixRule.exact(case_prefix(name, family)) for name in HIDDEN.get(member, ())]
    return ExportPolicy(accept=EVERYTHING, never=tuple(hidden))


def _announced(lan: Lan, member: str) -> list[Route]:
    return [
        Route(case_prefix(name, family), case.attributes(lan, family))
        for family in Family
        for name, case in CASES.items()
        if case.owner == member
    ]


RECEIVED = [
    (receiver, name)
    for receiver in CLIENTS
    for name in CASES
    if CASES[name].owner != receiver and name not in HIDDEN[receiver]
]


@pytest.mark.parametrize(("receiver", "name"), RECEIVED)
def test_every_attribute_arrives_as_it_was_sent(world: World, family: Family, receiver: str, name: str) -> None:
    """Each field of the attribute set is at the client what the announcer sent; the server's AS is not in the path."""
    case = CASES[name]
    router = world.routers[receiver]
    sent = case.attributes(world.lan, family)
    found = case_prefix(name, family)
    wanted = {found: router.as_seen(sent, world.link(receiver, family))}

    def arrived() -> bool:
        received = {p: a for p, a in world.received(receiver, family).items() if p == found}
        wrong = difference(wanted, received)
        assert not wrong, "\n".join(wrong)
        assert SERVER not in received[found].path_asns
        return True

    eventually(arrived, what=f"{name} arrives at {receiver}")


@pytest.mark.parametrize("receiver", CLIENTS)
def test_a_client_receives_exactly_what_policy_gives_it(world: World, family: Family, receiver: str) -> None:
    """The prefixes of all others minus those its export policy hides, and none of its own."""
    wanted = {case_prefix(name, family) for client_name, name in RECEIVED if client_name == receiver}
    eventually(lambda: set(world.received(receiver, family)) >= wanted, what="all that policy gives is there")
    assert set(world.received(receiver, family)) == wanted


def test_the_engine_lists_what_it_received_as_it_was_sent(world: World, family: Family) -> None:
    """`routes` gives the attributes of every path, field by field, and refuses none of them."""
    for member in MEMBERS:
        views = world.engine.routes(neighbor=name_of(member, family))
        wanted = {
            case_prefix(name, family): normal(case.attributes(world.lan, family))
            for name, case in CASES.items()
            # BIRD's client, through which the reference sees, cuts long paths.
            if case.owner == member and not (world.engine.name == "bird" and case.beyond[40:])
        }
        views = tuple(view for view in views if view.prefix in wanted or world.engine.name != "bird")
        assert difference(wanted, {view.prefix: normal(view.attributes) for view in views}) == []
        assert {view.reason for view in views} == {None}
