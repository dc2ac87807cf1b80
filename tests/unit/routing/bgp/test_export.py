from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from routing.bgp.decision import Standing, rank
from routing.bgp.export import Exporter, Treatment
from routing.bgp.policy import ImportCheck
from routing.bgp.rib import Path, Peer
from routing.bgp.values import Attributes, Family, Mode, Neighbor, Segment, SegmentType, Speaker

US = 65000
ROUTER_ID = IPv4Address("192.0.2.254")
LOCAL, LOCAL6 = ip_address("192.0.2.254"), ip_address("2001:db8::fe")
V4, V6 = Family.IPV4, Family.IPV6


def path(*asns: int) -> tuple[Segment, ...]:
    """Make an AS_PATH of one sequence."""
    return (Segment(SegmentType.SEQUENCE, asns),)


def speaker(mode: Mode) -> Speaker:
    """Make a speaker of AS 65000."""
    return Speaker("s", mode, US, ROUTER_ID, (LOCAL, LOCAL6))


def peer(number: int, asn: int | None = None) -> Peer:
    """Make the n-th neighbour: AS 65000 + n, router id 10.0.0.n."""
    neighbor = Neighbor(f"n{number}", US + number if asn is None else asn, IPv4Address("192.0.2.0") + number)
    assert neighbor.address is not None
    check = ImportCheck(neighbor, speaker(Mode.ROUTER))
    return Peer(neighbor.address, neighbor, check, neighbor.asn == US, IPv4Address("10.0.0.0") + number)


def taught(source: Peer, attributes: Attributes) -> Path:
    """Make an accepted path."""
    return source.path(attributes, None)


def own(attributes: Attributes) -> Path:
    """Make a path of our own."""
    return Path(None, attributes, None, internal=False, standing=Standing.own())


EXTERNAL = Treatment(True, LOCAL, (LOCAL, LOCAL6), frozenset(Family), next_hop_self=False, extended_next_hop=False)
INTERNAL = replace(EXTERNAL, external=False)
GIVEN = Attributes(
    next_hop=ip_address("192.0.2.1"), as_path=path(65001, 7), med=5, communities=((1, 2),), local_pref=None
)


def test_a_route_server_touches_nothing() -> None:
    """RFC 7947 2.2, whatever the communities say."""
    marked = replace(GIVEN, communities=((65535, 65281), (65535, 65282)))
    exporter = Exporter(speaker(Mode.TRANSPARENT))
    assert exporter.ordinary((taught(peer(1), marked),), EXTERNAL, V4) is marked


def test_what_is_left_for_a_client_is_ranked_again() -> None:
    """A withheld path may have kept another one of its AS behind by MED."""
    first, second, third = peer(9), peer(1), peer(5)
    a = taught(first, replace(GIVEN, as_path=path(70), med=1))
    b = taught(second, replace(GIVEN, as_path=path(70), med=2))
    c = taught(third, replace(GIVEN, as_path=path(71)))
    ranked = rank([a, b, c])
    assert ranked == (c, a, b)
    exporter = Exporter(speaker(Mode.TRANSPARENT))
    assert exporter.special(ranked, first, EXTERNAL, V4) == b.attributes
    assert exporter.special(ranked, second, EXTERNAL, V4) == c.attributes


def test_a_reflector_adds_its_marks_and_keeps_the_next_hop() -> None:
    """RFC 4456 8."""
    source = peer(1, US)
    exporter = Exporter(speaker(Mode.REFLECTOR))
    reflected = exporter.ordinary((taught(source, GIVEN),), INTERNAL, V4)
    mark = IPv4Address("10.0.0.1")
    assert reflected == replace(GIVEN, local_pref=100, originator_id=mark, cluster_list=(ROUTER_ID,))
    farther = replace(GIVEN, local_pref=7, originator_id=IPv4Address(9), cluster_list=(IPv4Address(8),))
    again = exporter.ordinary((taught(source, farther),), INTERNAL, V4)
    assert again == replace(farther, cluster_list=(ROUTER_ID, IPv4Address(8)))


def test_nothing_is_reflected_to_its_source_or_its_originator() -> None:
    """The originator may be reached on another session than the one it taught us on."""
    exporter = Exporter(speaker(Mode.REFLECTOR))
    source, originator, other = peer(1, US), peer(2, US), peer(3, US)
    ranked = (taught(source, replace(GIVEN, originator_id=originator.router_id)),)
    assert exporter.special(ranked, source, INTERNAL, V4) is None
    assert exporter.special(ranked, originator, INTERNAL, V4) is None
    assert exporter.special(ranked, other, INTERNAL, V4) is not None


def test_a_router_speaks_for_itself_to_other_ases() -> None:
    """RFC 4271 5.1: our AS in front, our next hop, no LOCAL_PREF, no MED of others."""
    source = peer(1, US)
    inside = replace(GIVEN, local_pref=200, originator_id=IPv4Address(9), cluster_list=(IPv4Address(8),))
    sent = Exporter(speaker(Mode.ROUTER)).ordinary((taught(source, inside),), EXTERNAL, V4)
    assert sent == replace(GIVEN, as_path=path(US, 65001, 7), next_hop=LOCAL, med=None)


@pytest.mark.parametrize(
    ("community", "external", "internal"),
    [
        ((65535, 65281), False, True),
        ((65535, 65283), False, True),
        ((65535, 65282), False, False),
        ((1, 1), True, True),
    ],
)
def test_a_router_honours_the_well_known_communities(
    community: tuple[int, int], external: bool, internal: bool
) -> None:
    """RFC 1997."""
    exporter = Exporter(speaker(Mode.ROUTER))
    ranked = (taught(peer(1), replace(GIVEN, communities=(community,))),)
    assert (exporter.ordinary(ranked, EXTERNAL, V4) is not None) is external
    assert (exporter.ordinary(ranked, INTERNAL, V4) is not None) is internal


def test_a_router_passes_inside_only_what_came_from_outside() -> None:
    """RFC 4271 9.2; with its own next hop where it is asked to."""
    exporter = Exporter(speaker(Mode.ROUTER))
    outside, inside = (taught(peer(1), GIVEN),), (taught(peer(2, US), GIVEN),)
    assert exporter.ordinary(outside, INTERNAL, V4) == replace(GIVEN, local_pref=100)
    assert exporter.ordinary(inside, INTERNAL, V4) is None
    by_us = exporter.ordinary(outside, replace(INTERNAL, next_hop_self=True), V4)
    assert by_us == replace(GIVEN, local_pref=100, next_hop=LOCAL)


def test_a_router_sends_the_best_path_or_nothing() -> None:
    """The source of the best path does not get the second best: only a route server's clients do."""
    source, other = peer(1), peer(2)
    ranked = rank([taught(source, replace(GIVEN, as_path=path(65001))), taught(other, GIVEN)])
    exporter = Exporter(speaker(Mode.ROUTER))
    assert exporter.special(ranked, source, EXTERNAL, V4) is None
    assert exporter.special(ranked, other, EXTERNAL, V4) is not None


@pytest.mark.parametrize("mode", Mode)
def test_own_routes_name_us_unless_told_otherwise(mode: Mode) -> None:
    """The unspecified next hop stands for our address on the session; MED is ours to give."""
    exporter = Exporter(speaker(mode))
    here = (own(Attributes(next_hop=IPv4Address(0), med=4)),)
    assert exporter.ordinary(here, EXTERNAL, V4) == Attributes(next_hop=LOCAL, as_path=path(US), med=4)
    assert exporter.ordinary(here, INTERNAL, V4) == Attributes(next_hop=LOCAL, med=4, local_pref=100)
    there = (own(Attributes(next_hop=ip_address("192.0.2.77"))),)
    sent = exporter.ordinary(there, EXTERNAL, V4)
    assert sent is not None
    assert sent.next_hop == ip_address("192.0.2.77")


def test_the_own_next_hop_is_of_the_family_of_the_prefix() -> None:
    """On a session over IPv4, IPv6 prefixes get an IPv6 address that we listen on; with RFC 8950, IPv4 ones may too."""
    assert EXTERNAL.own_next_hop(V6) == LOCAL6
    over6 = replace(EXTERNAL, local_address=LOCAL6)
    assert over6.own_next_hop(V4) == LOCAL
    assert replace(over6, extended_next_hop=True).own_next_hop(V4) == LOCAL6
    assert replace(over6, next_hops=()).own_next_hop(V4) is None
    assert replace(EXTERNAL, next_hops=()).own_next_hop(V6) is None


def test_only_what_the_session_can_say_is_sent() -> None:
    """Families, and an IPv6 next hop of an IPv4 prefix only where it was negotiated; the next best is taken then."""
    exporter = Exporter(speaker(Mode.TRANSPARENT))
    six = taught(peer(1), replace(GIVEN, next_hop=IPv6Address("2001:db8::1"), as_path=path(65001)))
    four = taught(peer(2), GIVEN)
    ranked = rank([six, four])
    assert exporter.ordinary(ranked, EXTERNAL, V4) == four.attributes
    assert exporter.ordinary(ranked, replace(EXTERNAL, extended_next_hop=True), V4) == six.attributes
    assert exporter.ordinary(ranked, replace(EXTERNAL, families=frozenset({V6})), V4) is None


def test_our_as_goes_in_front_of_whatever_the_path_begins_with() -> None:
    """RFC 4271 5.1.2 b: a set or a full sequence gets a new sequence before it."""
    exporter = Exporter(speaker(Mode.ROUTER))
    for begins in (Segment(SegmentType.SET, (1, 2)), Segment(SegmentType.SEQUENCE, tuple(range(1, 256)))):
        sent = exporter.ordinary((taught(peer(1), replace(GIVEN, as_path=(begins,))),), EXTERNAL, V4)
        assert sent is not None
        assert sent.as_path == (*path(US), begins)
