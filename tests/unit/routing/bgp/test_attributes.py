from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from json import loads
from random import Random

import pytest
from exabgp.bgp.message import Update as ExaUpdate
from exabgp.bgp.message.direction import Direction
from exabgp.bgp.message.open.capability import Negotiated
from exabgp.logger import log
from exabgp.protocol.family import AFI, SAFI
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp import attributes as codec
from routing.bgp.attributes import Attribute, Code, known
from routing.bgp.hot import announce
from routing.bgp.values import Attributes, Family, Origin, Segment, SegmentType, UnknownAttribute
from routing.engines.exabgp_codec import attributes as from_exabgp
from tests.support import fuzzing

HOP = IPv4Address("192.0.2.1")
FULL = Attributes(
    next_hop=HOP,
    origin=Origin.EGP,
    as_path=(Segment(SegmentType.SEQUENCE, (65001, 4200000000)), Segment(SegmentType.SET, (7, 8))),
    med=5,
    local_pref=200,
    atomic_aggregate=True,
    aggregator=(4200000000, IPv4Address("192.0.2.9")),
    communities=((1, 2), (65535, 65281)),
    large_communities=((1, 2, 4294967295),),
    extended_communities=(bytes.fromhex("0002fde800000003"),),
    originator_id=IPv4Address("10.0.0.1"),
    cluster_list=(IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3")),
    unknown=(UnknownAttribute(0xE0, 99, b"\1\2"),),
)
BEFORE_HOP = "400101 01 400214 0202 0000fde9 fa56ea00 0102 00000007 00000008"
AFTER_HOP = (
    "800404 00000005 400504 000000c8 400600 c00708 fa56ea00 c0000209 c00808 00010002 ffffff01 800904 0a000001"
    "800a08 0a000002 0a000003 c01008 0002fde800000003 c0200c 00000001 00000002 ffffffff e06302 0102"
)

IPV4 = st.integers(0, 2**32 - 1).map(IPv4Address)
U16, U32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)


def several(element: st.SearchStrategy, least: int = 0) -> st.SearchStrategy:
    """Make a tuple, sometimes one that needs a length of two octets."""
    return st.one_of([st.lists(element, min_size=least, max_size=most) for most in (4, 70)]).map(tuple)


SEGMENTS = st.builds(Segment, st.sampled_from(list(SegmentType)), several(st.integers(1, 2**32 - 1), 1))
# Codes that neither we nor the witness knows.
UNKNOWN = st.lists(
    st.builds(UnknownAttribute, st.just(0xE0), st.integers(200, 250), st.binary(min_size=1, max_size=300)),
    unique_by=lambda item: item.code,
    max_size=2,
).map(lambda found: tuple(sorted(found, key=lambda item: item.code)))


def attribute_sets(next_hop: st.SearchStrategy, kind: bytes = b"") -> st.SearchStrategy[Attributes]:
    """Make any attribute set; its extended communities of one kind alone, if there is any."""
    extended = st.binary(min_size=8 - len(kind), max_size=8 - len(kind)).map(lambda rest: kind + rest)
    return st.builds(
        Attributes,
        next_hop=next_hop,
        origin=st.sampled_from(list(Origin)),
        as_path=st.lists(SEGMENTS, max_size=3).map(tuple),
        med=st.none() | U32,
        local_pref=st.none() | U32,
        atomic_aggregate=st.booleans(),
        aggregator=st.none() | st.tuples(st.integers(1, 2**32 - 1), IPV4),
        communities=several(st.tuples(U16, U16)),
        large_communities=several(st.tuples(U32, U32, U32)),
        extended_communities=several(extended),
        originator_id=st.none() | IPV4,
        cluster_list=several(IPV4),
        unknown=UNKNOWN,
    )


IPV6 = st.integers(0, 2**128 - 1).map(IPv6Address)
SETS = st.one_of(
    st.tuples(attribute_sets(IPV4), st.just(Family.IPV4)),
    st.tuples(attribute_sets(IPV6), st.sampled_from(list(Family))),
)


def test_a_set_for_ipv4_is_written_as_in_an_update() -> None:
    """By type code, NEXT_HOP among them."""
    octets = bytes.fromhex(f"{BEFORE_HOP} 400304 c0000201 {AFTER_HOP}")
    assert codec.encode(FULL, Family.IPV4) == octets
    assert codec.decode(octets) == FULL


@pytest.mark.parametrize(("family", "name"), [(Family.IPV4, "0001 01"), (Family.IPV6, "0002 01")])
def test_a_set_with_an_ipv6_next_hop_begins_with_it(family: Family, name: str) -> None:
    """MP_REACH_NLRI of family and next hop alone, and no NEXT_HOP."""
    found = replace(FULL, next_hop=IPv6Address("2001:db8::1"))
    octets = bytes.fromhex(f"800e15 {name} 10 20010db8 00000000 00000000 00000001 00 {BEFORE_HOP} {AFTER_HOP}")
    assert codec.encode(found, family) == octets
    assert codec.decode(octets) == found


def test_an_ipv4_next_hop_of_an_ipv6_prefix_is_mapped() -> None:
    """RFC 4291 2.5.5.2: there are sixteen octets to fill."""
    octets = codec.encode(Attributes(HOP), Family.IPV6)
    assert codec.decode(octets).next_hop == IPv6Address("::ffff:192.0.2.1")


@given(SETS)
def test_a_set_is_read_as_it_was_written(made: tuple[Attributes, Family]) -> None:
    """Any set, for either family."""
    found, family = made
    assert codec.decode(codec.encode(found, family)) == found


def test_what_is_long_has_a_length_of_two_octets() -> None:
    """256 octets and more, and not one less."""
    short, long = (replace(FULL, communities=((1, 2),) * number) for number in (63, 64))
    assert bytes.fromhex("c008fc") in codec.encode(short, Family.IPV4)
    assert bytes.fromhex("d0080100") in codec.encode(long, Family.IPV4)
    assert codec.decode(codec.encode(long, Family.IPV4)) == long


def test_a_long_length_stays_where_it_came() -> None:
    """Octets are passed on as they are, though a shorter form were possible."""
    octets = bytes.fromhex("500100 0100 4002 00 400304 c0000201 f063 0001 ff")
    found, rest = codec.split(octets)
    assert not rest
    assert codec.join(found) == octets
    # Of the set itself the form is no part.
    assert codec.decode(octets).unknown == (UnknownAttribute(0xE0, 99, b"\xff"),)


@pytest.mark.parametrize("octets", ["40", "4001", "400101", "500100", "50010001", "c00805 01020304"])
def test_what_ends_within_an_attribute_is_left_over(octets: str) -> None:
    """RFC 7606 4: both of its cases."""
    whole = bytes.fromhex("400600")
    assert codec.split(whole + bytes.fromhex(octets)) == ([known(Code.ATOMIC_AGGREGATE, b"")], bytes.fromhex(octets))


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "400101 00 400200",
        "400101 00 400304 c0000201",
        "400200 400304 c0000201",
        "400101 03 400200 400304 c0000201",
        "400101 00 400201 02 400304 c0000201",
        "400101 00 400200 400303 c00002",
        "400101 00 400200 400304 c0000201 800403 000000",
        "400101 00 400200 400304 c0000201 c00803 000000",
        "400101 00 400200 400304 c0000201 c00704 00000000",
        "400101 00 400200 400304 c0000201 4001",
        "800e03 000201 400101 00 400200",
        "800e05 000201 02 00 400101 00 400200",
    ],
)
def test_octets_that_nobody_read_before_are_refused(octets: str) -> None:
    """Whatever is wrong is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        codec.decode(bytes.fromhex(octets))


def test_an_old_speaker_is_told_what_it_understands() -> None:
    """RFC 6793 4.2.2: AS_TRANS, and AS4_PATH and AS4_AGGREGATOR beside."""
    octets = codec.downgrade(codec.encode(replace(FULL, unknown=()), Family.IPV4))
    assert octets == bytes.fromhex(
        "400101 01 40020c 0202 fde9 5ba0 0102 0007 0008 400304 c0000201 800404 00000005 400504 000000c8 400600"
        "c00706 5ba0 c0000209 c00808 00010002 ffffff01 800904 0a000001 800a08 0a000002 0a000003"
        "c01008 0002fde800000003 c01114 0202 0000fde9 fa56ea00 0102 00000007 00000008 c01208 fa56ea00 c0000209"
        "c0200c 00000001 00000002 ffffffff"
    )


def test_an_old_speaker_needs_nothing_beside_what_fits() -> None:
    """No AS4_PATH where no number is above 65535; the next hop stays as it was."""
    found = Attributes(IPv6Address("2001:db8::1"), as_path=(Segment(SegmentType.SEQUENCE, (65001, 23456)),))
    octets = codec.encode(replace(found, aggregator=(65001, HOP)), Family.IPV6)
    assert codec.downgrade(octets) == octets.replace(
        bytes.fromhex("40020a 0202 0000fde9 00005ba0 c00708 0000fde9"),
        bytes.fromhex("400206 0202 fde9 5ba0 c00706 fde9"),
    )


def test_an_old_speaker_is_told_of_partial_aggregators() -> None:
    """RFC 4271 5: Partial "MUST NOT be set to 0"."""
    octets = bytes.fromhex("400101 00 400200 400304 c0000201 e00708 0000fde9 c0000209")
    assert bytes.fromhex("e00706 fde9 c0000209") in codec.downgrade(octets)


@pytest.mark.parametrize("octets", ["40", "400201 02", "c00704 00000000"])
def test_nothing_malformed_is_told_to_an_old_speaker(octets: str) -> None:
    """It is no set of ours."""
    with pytest.raises(ValueError, match=r"."):
        codec.downgrade(bytes.fromhex(octets))


def test_attributes_have_the_flags_of_their_rfcs() -> None:
    """And are known by name."""
    assert known(Code.MULTI_EXIT_DISC, bytes(4)) == Attribute(0x80, 4, bytes(4))
    assert set(codec.FLAGS) == set(Code)


def session() -> Negotiated:
    """Make what ExaBGP wants to know before it reads an UPDATE: internal, four-octet AS numbers, both families."""
    log.silence()
    words = ("asn4", "nexthop", "extended-message", "aigp", "multi-session", "operational", "route-refresh")
    capability: Mapping[str, object] = {"add-path": 0, **dict.fromkeys(words, True)}
    negotiated = Negotiated({"peer-as": 65001, "local-as": 65001, "capability": capability})
    negotiated.families = [(AFI.ipv4, SAFI.unicast), (AFI.ipv6, SAFI.unicast)]
    negotiated.asn4 = True
    return negotiated


def in_order(found: Attributes) -> Attributes:
    """Sort communities, as ExaBGP does; each once."""
    return replace(
        found,
        communities=tuple(sorted(set(found.communities))),
        large_communities=tuple(sorted(set(found.large_communities))),
        extended_communities=tuple(sorted(set(found.extended_communities))),
    )


# ExaBGP takes what it knows apart, and forgets what it has no name for; a route target has a name for everything.
ROUTE_TARGET = b"\0\2"


@given(attribute_sets(st.sampled_from([HOP, IPv6Address("2001:db8::1")]), ROUTE_TARGET))
def test_another_implementation_reads_the_same_set(found: Attributes) -> None:
    """ExaBGP is the witness, for any set; what it makes of it is read as our ExaBGP engine does."""
    family = Family.of(found.next_hop)
    nlri = {Family.IPV4: b"\x18\x0a\0\0", Family.IPV6: b"\x20\x20\x01\x0d\xb8"}[family]
    message = announce(codec.encode(found, family), nlri, 65535)
    update = ExaUpdate.unpack_message(message[19:], Direction.IN, session())
    read = from_exabgp(loads(f"{{{update.attributes.json()}}}"), ip_address(str(update.nlris[0].nexthop)))
    assert in_order(read) == in_order(found)


@given(st.integers(0, 2**32))
def test_spoiled_sets_are_read_or_refused(seed: int) -> None:
    """With nothing but ValueError; the target asserts the rest."""
    fuzzing.fuzz_attributes(Random(seed))


@given(st.binary(max_size=60))
def test_any_octets_are_read_or_refused_as_a_set(octets: bytes) -> None:
    """What is left over and what is found are together what there was."""
    found, rest = codec.split(octets)
    assert codec.join(found) + rest == octets
