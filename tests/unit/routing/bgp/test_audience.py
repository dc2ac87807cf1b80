from __future__ import annotations

import gc
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import pytest

from routing.bgp.attributes import decode, encode, marked
from routing.bgp.audience import Audience
from routing.bgp.export import NO_ADVERTISE, Exporter
from routing.bgp.filters import ExportFilter
from routing.bgp.paths import Choice, Path
from routing.bgp.peers import Peer
from routing.bgp.session import Established, treatment
from routing.bgp.update import Format
from routing.bgp.values import (
    Attributes,
    ExportPolicy,
    Family,
    Mode,
    Neighbor,
    PrefixRule,
    Reason,
    Segment,
    SegmentType,
    Speaker,
    UnknownAttribute,
)

US = 65000
ALL = ExportPolicy((PrefixRule(ip_network("0.0.0.0/0"), 0, 32),))
LOCAL = IPv4Address("192.0.2.254")
OURS = frozenset(range(US + 1, US + 10))


def peer(number: int, asn: int | None = None) -> Peer:
    """Make the n-th neighbour, with router id 10.9.9.n."""
    address = IPv4Address("192.0.2.0") + number
    speaker = Speaker("s", Mode.TRANSPARENT, US, LOCAL, ())
    made = Peer(address, Neighbor(f"n{number}", asn or US + number, address, exports=ALL), speaker)
    made.router_id = IPv4Address("10.9.9.0") + number
    return made


def audience(
    mode: Mode, *members: Peer, external: bool = True, extended: bool = False, client: bool = False
) -> Audience:
    """Make an audience of neighbours of IPv4."""
    speaker = Speaker("s", mode, US, LOCAL, (LOCAL,))
    families = frozenset({Family.IPV4})
    session = Established(IPv4Address("10.9.9.1"), LOCAL, families, extended)
    how = treatment(Neighbor("n", US + external, client=client), session, speaker)
    made = Audience(Exporter(speaker), ExportFilter(ALL), how, Format(families, not external))
    made.add(members)
    return made


def path(source: Peer | None, *beyond: int, reason: Reason | None = None, **more: Any) -> Path:
    """Make what a neighbour says of some IPv4 prefixes."""
    asns = (source.neighbor.asn if source else 7, *beyond)
    said = replace(Attributes(ip_address("192.0.2.9"), as_path=(Segment(SegmentType.SEQUENCE, asns),)), **more)
    return Path(source, encode(said, Family.IPV4), said.next_hop.packed, reason, OURS.intersection(asns))


ONE, TWO, THREE, FOUR = (peer(number) for number in (1, 2, 3, 4))


def test_the_roster_changes_only_with_the_members() -> None:
    """Whoever shares a buffer can tell by the object."""
    listeners = audience(Mode.TRANSPARENT, ONE, TWO)
    roster = listeners.roster
    listeners.discard(THREE)
    assert listeners.roster is roster
    listeners.discard(ONE)
    assert list(listeners.roster) == [TWO]
    listeners.add((THREE, ONE))
    assert list(listeners.roster) == [TWO, THREE, ONE]


def test_to_clients_of_a_route_server_a_path_reads_as_it_came() -> None:
    """RFC 7947 2.2: not even copied."""
    listeners, said = audience(Mode.TRANSPARENT, ONE, TWO), path(THREE, 7, med=3)
    assert listeners.said(said, Family.IPV4) is said.octets
    assert listeners.said_to(ONE, said, Family.IPV4) is said.octets
    assert listeners.said(None, Family.IPV4) is None
    assert listeners.said_to(ONE, None, Family.IPV4) is None


def test_a_client_with_a_role_is_told_what_is_for_its_customers_only() -> None:
    """RFC 9234 5: marked with our AS, once, whichever way it is told; a mark that is there stays."""
    listeners = audience(Mode.TRANSPARENT, ONE, TWO, client=True)
    said, other = path(THREE, 7), path(FOUR, 7, 7)
    wanted = marked(said.octets, US)
    assert decode(wanted).unknown == (UnknownAttribute(0xC0, 35, US.to_bytes(4, "big")),)
    assert listeners.said(said, Family.IPV4) == wanted
    assert listeners.said(said, Family.IPV4) is listeners.words(said)
    assert listeners.said(Choice((said, other)), Family.IPV4) == wanted
    assert listeners.said_to(ONE, Choice((said, other)), Family.IPV4) == wanted
    assert listeners.words(path(THREE, unknown=decode(wanted).unknown)) == marked(path(THREE).octets, US)
    ours = path(None, next_hop=IPv4Address("192.0.2.7"))
    assert decode(listeners.said(ours, Family.IPV4) or b"").unknown == decode(wanted).unknown
    assert audience(Mode.TRANSPARENT, ONE).said(said, Family.IPV4) is said.octets


def test_what_is_refused_is_not_said() -> None:
    """Alone or beside others."""
    listeners, bad, good = audience(Mode.TRANSPARENT, ONE), path(TWO, reason=Reason.BOGON), path(THREE, 7, 7)
    assert listeners.said(bad, Family.IPV4) is None
    assert listeners.said_to(ONE, bad, Family.IPV4) is None
    assert listeners.said(Choice((bad, good)), Family.IPV4) == good.octets


@pytest.mark.parametrize("extended", [False, True])
def test_a_next_hop_that_cannot_be_said_leaves_the_second_best(extended: bool) -> None:
    """RFC 8950 is agreed on or not; the path alone, among others, and to one member."""
    listeners = audience(Mode.TRANSPARENT, ONE, extended=extended)
    six, four = path(TWO, next_hop=ip_address("2001:db8::1")), path(THREE, 7, 7)
    assert listeners.said(six, Family.IPV4) == (six.octets if extended else None)
    assert listeners.said(Choice((six, four)), Family.IPV4) == (six if extended else four).octets
    assert listeners.said_to(ONE, Choice((six, four)), Family.IPV4) == (six if extended else four).octets


def test_a_member_is_told_the_best_of_what_is_not_withheld_from_it() -> None:
    """Its own path and those that name its AS are (RFC 7947 2.3.1)."""
    listeners = audience(Mode.TRANSPARENT, ONE, TWO, THREE)
    best, second, third = path(ONE, US + 2), path(TWO, 7, 8), path(peer(4), 7, 8, 9)
    label = Choice((third, second, best))
    assert listeners.concerned(None, label) == (ONE, TWO)
    assert listeners.said(label, Family.IPV4) == best.octets
    assert listeners.said_to(ONE, label, Family.IPV4) == second.octets
    assert listeners.said_to(TWO, label, Family.IPV4) == third.octets
    assert listeners.said_to(THREE, label, Family.IPV4) == best.octets


def test_what_is_left_for_a_member_is_ranked_again() -> None:
    """A withheld path may have kept another one of its AS behind by MED."""
    first, second, third = peer(9), peer(1), peer(5)
    ways = [(Segment(SegmentType.SEQUENCE, (asn,)),) for asn in (70, 71)]
    a, b, c = path(first, as_path=ways[0], med=1), path(second, as_path=ways[0], med=2), path(third, as_path=ways[1])
    listeners, label = audience(Mode.TRANSPARENT, first, second), Choice((a, b, c))
    assert label.ranked == (c, a, b)
    assert listeners.said_to(first, label, Family.IPV4) == b.octets
    assert listeners.said_to(second, label, Family.IPV4) == c.octets


def test_those_are_concerned_whom_either_label_names() -> None:
    """As the source of an accepted path or in its AS_PATH; each once, members alone."""
    listeners = audience(Mode.TRANSPARENT, ONE, TWO, THREE)
    assert listeners.concerned(None, path(ONE)) == (ONE,)
    assert listeners.concerned(path(ONE, US + 3), path(TWO, US + 3)) == (ONE, THREE, TWO)
    assert listeners.concerned(path(ONE), path(ONE, 7)) == (ONE,)
    assert listeners.concerned(None, path(ONE, reason=Reason.BOGON)) == ()
    assert listeners.concerned(path(peer(4), US + 5), None) == ()
    assert listeners.concerned(None, path(None)) == ()


def test_who_is_concerned_follows_who_is_there() -> None:
    """Of equal AS numbers all."""
    listeners, twin, said = audience(Mode.TRANSPARENT, ONE, TWO), peer(9, US + 2), path(ONE, US + 2)
    assert listeners.concerned(None, said) == (ONE, TWO)
    listeners.add((twin,))
    listeners.discard(ONE)
    assert listeners.concerned(None, said) == (TWO, twin)


def held() -> int:
    """Count the objects that the collector knows of."""
    gc.collect()
    return len(gc.get_objects())


def test_nothing_is_remembered_of_the_paths_that_concerned_somebody() -> None:
    """A neighbour can think of any number of them."""
    listeners = audience(Mode.TRANSPARENT, ONE, TWO, THREE)
    before = held()
    for beyond in range(1000):
        assert listeners.concerned(None, path(ONE, US + 2, US + 10000 + beyond))[0] is ONE
    assert held() < before + 100


def test_nothing_is_remembered_of_members_that_left() -> None:
    """One may come with another router id every time."""
    listeners = audience(Mode.TRANSPARENT, ONE)
    before = held()
    for number in range(1000):
        guest = peer(9, US + 2 + number)
        guest.router_id = IPv4Address(number)
        listeners.add((guest,))
        listeners.discard(guest)
    assert held() < before + 100


def test_a_router_tells_its_best_path_with_its_own_attributes() -> None:
    """RFC 4271 5.1; made once for all who are treated alike."""
    listeners, best = audience(Mode.ROUTER, ONE, TWO), path(ONE, med=3)
    label = Choice((best, path(TWO, 7)))
    octets = listeners.said(label, Family.IPV4)
    assert octets is not None
    assert decode(octets) == replace(
        best.attributes, next_hop=LOCAL, med=None, as_path=(Segment(SegmentType.SEQUENCE, (US, US + 1)),)
    )
    assert audience(Mode.ROUTER, THREE).said(best, Family.IPV4) is octets
    assert listeners.said_to(ONE, label, Family.IPV4) is None
    assert listeners.said(path(ONE, communities=(NO_ADVERTISE,)), Family.IPV4) is None


def test_a_reflector_is_careful_with_the_origin_of_a_path() -> None:
    """RFC 4456 8."""
    first, second = peer(1, US), peer(2, US)
    listeners = audience(Mode.REFLECTOR, first, second, external=False)
    said = path(THREE, originator_id=second.router_id)
    assert listeners.concerned(None, said) == (second,)
    assert listeners.said_to(second, said, Family.IPV4) is None
    assert listeners.said_to(first, said, Family.IPV4) is not None


def test_our_own_routes_are_ours_in_every_mode() -> None:
    """With our AS in front and ourselves as the next hop."""
    own = Path(None, encode(Attributes(IPv4Address(0)), Family.IPV4), bytes(4))
    octets = audience(Mode.TRANSPARENT, ONE).said(own, Family.IPV4)
    assert octets is not None
    assert decode(octets) == Attributes(LOCAL, as_path=(Segment(SegmentType.SEQUENCE, (US,)),))
