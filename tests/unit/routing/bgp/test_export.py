from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from routing.bgp.attributes import encode
from routing.bgp.export import Exporter, Treatment
from routing.bgp.paths import Path
from routing.bgp.peers import Peer
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
    made = Peer(neighbor.address, neighbor, speaker(Mode.ROUTER))
    made.router_id = IPv4Address("10.0.0.0") + number
    return made


def taught(source: Peer | None, attributes: Attributes) -> Path:
    """Make an accepted path of IPv4; without a source it is ours."""
    return Path(source, encode(attributes, V4), attributes.next_hop.packed, avoid=frozenset(attributes.path_asns))


EXTERNAL = Treatment(True, LOCAL, (LOCAL, LOCAL6), frozenset(Family), next_hop_self=False, extended_next_hop=False)
INTERNAL = replace(EXTERNAL, external=False)
GIVEN = Attributes(
    next_hop=ip_address("192.0.2.1"), as_path=path(65001, 7), med=5, communities=((1, 2),), local_pref=None
)


def test_a_route_server_touches_nothing() -> None:
    """RFC 7947 2.2, whatever the communities say."""
    said = taught(peer(1), replace(GIVEN, communities=((65535, 65281), (65535, 65282))))
    assert Exporter(speaker(Mode.TRANSPARENT)).attributes(said, EXTERNAL, V4) is said.attributes


def test_a_route_server_has_any_path_for_its_clients_and_others_the_best_alone() -> None:
    """RFC 7947 2.3.1: no path is hidden behind one that a client may not have."""
    ranked = taught(peer(1), GIVEN), taught(peer(2), GIVEN)
    assert Exporter(speaker(Mode.TRANSPARENT)).candidates(ranked) == ranked
    assert Exporter(speaker(Mode.ROUTER)).candidates(ranked) == ranked[:1]


def test_a_route_server_withholds_a_path_from_its_source_and_from_those_in_it() -> None:
    """RFC 4271 9.1.2; a neighbour of our own AS passes on what it is sent."""
    exporter, source = Exporter(speaker(Mode.TRANSPARENT)), peer(1)
    said = taught(source, replace(GIVEN, as_path=path(65001, 65002, US)))
    assert [exporter.withheld(said, to) for to in (source, peer(2), peer(3), peer(4, US))] == [True, True, False, False]


def test_a_reflector_adds_its_marks_and_keeps_the_next_hop() -> None:
    """RFC 4456 8."""
    source = peer(1, US)
    exporter = Exporter(speaker(Mode.REFLECTOR))
    reflected = exporter.attributes(taught(source, GIVEN), INTERNAL, V4)
    mark = IPv4Address("10.0.0.1")
    assert reflected == replace(GIVEN, local_pref=100, originator_id=mark, cluster_list=(ROUTER_ID,))
    farther = replace(GIVEN, local_pref=7, originator_id=IPv4Address(9), cluster_list=(IPv4Address(8),))
    again = exporter.attributes(taught(source, farther), INTERNAL, V4)
    assert again == replace(farther, cluster_list=(ROUTER_ID, IPv4Address(8)))


def test_nothing_is_reflected_to_its_source_or_its_originator() -> None:
    """The originator may be reached on another session than the one it taught us on."""
    exporter = Exporter(speaker(Mode.REFLECTOR))
    source, originator, other = peer(1, US), peer(2, US), peer(3, US)
    said = taught(source, replace(GIVEN, originator_id=originator.router_id))
    assert [exporter.withheld(said, to) for to in (source, originator, other)] == [True, True, False]


def test_a_router_speaks_for_itself_to_other_ases() -> None:
    """RFC 4271 5.1: our AS in front, our next hop, no LOCAL_PREF, no MED of others."""
    source = peer(1, US)
    inside = replace(GIVEN, local_pref=200, originator_id=IPv4Address(9), cluster_list=(IPv4Address(8),))
    sent = Exporter(speaker(Mode.ROUTER)).attributes(taught(source, inside), EXTERNAL, V4)
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
    said = taught(peer(1), replace(GIVEN, communities=(community,)))
    assert (exporter.attributes(said, EXTERNAL, V4) is not None) is external
    assert (exporter.attributes(said, INTERNAL, V4) is not None) is internal


def test_a_router_passes_inside_only_what_came_from_outside() -> None:
    """RFC 4271 9.2; with its own next hop where it is asked to."""
    exporter = Exporter(speaker(Mode.ROUTER))
    outside, inside = taught(peer(1), GIVEN), taught(peer(2, US), GIVEN)
    assert exporter.attributes(outside, INTERNAL, V4) == replace(GIVEN, local_pref=100)
    assert exporter.attributes(inside, INTERNAL, V4) is None
    by_us = exporter.attributes(outside, replace(INTERNAL, next_hop_self=True), V4)
    assert by_us == replace(GIVEN, local_pref=100, next_hop=LOCAL)


@pytest.mark.parametrize("mode", Mode)
def test_own_routes_name_us_unless_told_otherwise(mode: Mode) -> None:
    """The unspecified next hop stands for our address on the session; MED is ours to give."""
    exporter = Exporter(speaker(mode))
    here = taught(None, Attributes(next_hop=IPv4Address(0), med=4))
    assert exporter.attributes(here, EXTERNAL, V4) == Attributes(next_hop=LOCAL, as_path=path(US), med=4)
    assert exporter.attributes(here, INTERNAL, V4) == Attributes(next_hop=LOCAL, med=4, local_pref=100)
    there = taught(None, Attributes(next_hop=ip_address("192.0.2.77")))
    sent = exporter.attributes(there, EXTERNAL, V4)
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
    """An IPv6 next hop of an IPv4 prefix only where it was agreed on (RFC 8950)."""
    exporter = Exporter(speaker(Mode.TRANSPARENT))
    six = taught(peer(1), replace(GIVEN, next_hop=IPv6Address("2001:db8::1")))
    assert exporter.attributes(six, EXTERNAL, V4) is None
    extended = replace(EXTERNAL, extended_next_hop=True)
    assert exporter.attributes(six, extended, V4) is six.attributes
    lengths = [how.next_hop_lengths(family) for how in (EXTERNAL, extended) for family in (V4, V6)]
    assert lengths == [{4}, {16}, {4, 16}, {16}]


def test_our_as_goes_in_front_of_whatever_the_path_begins_with() -> None:
    """RFC 4271 5.1.2 b: a set or a full sequence gets a new sequence before it."""
    exporter = Exporter(speaker(Mode.ROUTER))
    for begins in (Segment(SegmentType.SET, (1, 2)), Segment(SegmentType.SEQUENCE, tuple(range(1, 256)))):
        sent = exporter.attributes(taught(peer(1), replace(GIVEN, as_path=(begins,))), EXTERNAL, V4)
        assert sent is not None
        assert sent.as_path == (*path(US), begins)
