from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from routing.bgp.attributes import encode
from routing.bgp.decision import Standing
from routing.bgp.paths import Choice, Choices, Label, Path, path_of
from routing.bgp.peers import Peer
from routing.bgp.values import Attributes, Family, Mode, Neighbor, Reason, Segment, SegmentType, Speaker

SPEAKER = Speaker("s", Mode.TRANSPARENT, 65000, IPv4Address("192.0.2.254"), ())


def peer(number: int, asn: int | None = None) -> Peer:
    """Make the n-th neighbour."""
    address = IPv4Address("192.0.2.0") + number
    made = Peer(address, Neighbor(f"n{number}", asn or 65000 + number, address), SPEAKER)
    made.router_id = address
    return made


ONE, TWO, THREE = (peer(number) for number in (1, 2, 3))


def said(source: Peer | None, *beyond: int, reason: Reason | None = None, **more: Any) -> Path:
    """Make what a neighbour says."""
    asns = (source.neighbor.asn if source else 65000, *beyond)
    path = Attributes(ip_address("192.0.2.9"), as_path=(Segment(SegmentType.SEQUENCE, asns),), **more)
    return Path(source, encode(path, Family.IPV4), path.next_hop.packed, reason)


def paths(label: Label | None) -> set[Path]:
    """Return what a label is made of."""
    assert label is not None
    return set(label.paths)


def test_a_path_reads_as_its_octets_say() -> None:
    """Its next hop needs not be known first: it is in there."""
    attributes = Attributes(ip_address("2001:db8::1"), med=7, communities=((1, 2),))
    path = Path(ONE, encode(attributes, Family.IPV6), b"")
    assert path.attributes == attributes
    assert path.attributes is path.attributes


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_path_without_octets_has_a_next_hop_alone(address: str) -> None:
    """What was malformed has no attributes that anybody should read."""
    path = Path(ONE, b"", ip_address(address).packed, Reason.MALFORMED)
    assert path.attributes == Attributes(ip_address(address))


def test_a_path_stands_as_its_source_does() -> None:
    """A route of ours stands before all."""
    attributes = Attributes(ip_address("192.0.2.9"), med=3)
    internal = peer(7, SPEAKER.asn)
    path = Path(internal, encode(attributes, Family.IPV4), attributes.next_hop.packed)
    assert path.standing == Standing.of(
        attributes, internal=True, router_id=internal.router_id, address=internal.address
    )
    assert path.internal
    assert said(None).standing == Standing.own()
    assert not said(None).internal


def test_a_path_alone_is_ranked_if_it_is_accepted() -> None:
    """A label has the same questions whether it is one path or several."""
    good, bad = said(ONE), said(ONE, reason=Reason.BOGON)
    assert (good.paths, good.ranked) == ((good,), (good,))
    assert (bad.paths, bad.ranked) == ((bad,), ())


def test_a_choice_is_decided_among_the_accepted() -> None:
    """All are remembered, the best stands first."""
    longer, shorter, bad = said(ONE, 7, 8), said(TWO, 7), said(THREE, reason=Reason.NEXT_HOP)
    choice = Choice((longer, shorter, bad))
    assert choice.paths == (longer, shorter, bad)
    assert choice.ranked == (shorter, longer)


def test_the_same_paths_are_one_choice_whatever_their_order() -> None:
    """So a choice is decided once, and nothing changes when nothing has."""
    choices, one, two = Choices(), said(ONE), said(TWO)
    found = choices.setting(two)(one)
    assert isinstance(found, Choice)
    assert choices.setting(one)(two) is found
    assert choices.setting(one)(found) is found
    assert list(one.choices) == list(two.choices) == [found]


def test_setting_a_path_takes_the_place_of_its_sources() -> None:
    """Of a neighbour there is one path at a time; of ourselves as well."""
    choices, old, new, other = Choices(), said(ONE), said(ONE, 9), said(TWO)
    assert choices.setting(new)(None) is new
    assert choices.setting(new)(old) is new
    assert paths(choices.setting(new)(choices.setting(other)(old))) == {new, other}
    own, again = said(None), said(None, med=1)
    assert choices.setting(again)(own) is again
    assert paths(choices.setting(again)(choices.setting(other)(own))) == {again, other}


def test_removing_leaves_what_others_say() -> None:
    """And a label untouched that has nothing of the source."""
    choices, one, two, three = Choices(), said(ONE), said(TWO), said(THREE)
    pair = choices.setting(two)(one)
    triple = choices.setting(three)(pair)
    removing = choices.removing(THREE)
    assert removing(triple) is pair
    assert removing(pair) is pair
    assert removing(one) is one
    assert removing(three) is None
    assert removing(None) is None
    assert choices.removing(ONE)(pair) is two
    assert choices.removing(None)(pair) is pair


def test_what_a_source_says_is_found_in_any_label() -> None:
    """Also what we say ourselves."""
    one, own = said(ONE), said(None)
    both = Choice((one, own))
    assert path_of(None, ONE) is None
    assert path_of(one, ONE) is one
    assert path_of(one, TWO) is None
    assert (path_of(both, ONE), path_of(both, None), path_of(both, TWO)) == (one, own, None)


def test_choices_that_no_prefix_has_are_forgotten() -> None:
    """By the paths, too; those in use stay the objects that they are."""
    choices, one, two, three = Choices(), said(ONE), said(TWO), said(THREE)
    used, unused = choices.setting(two)(one), choices.setting(three)(one)
    assert isinstance(used, Choice)
    choices.forget({one: None, two: None}, [used])
    assert list(one.choices) == [used]
    assert choices.setting(two)(one) is used
    assert choices.setting(three)(one) is not unused


def test_a_path_is_in_as_many_choices_as_it_likes() -> None:
    """In time that grows with them and no faster."""
    choices, one = Choices(), said(ONE)
    found = [choices.setting(said(TWO, number))(one) for number in range(1, 2000)]
    assert list(one.choices) == found
