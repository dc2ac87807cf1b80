"""Attributes of gobgpd's API as our values."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from routing.bgp.values import Attributes, Origin, Segment, SegmentType, UnknownAttribute
from routing.engines.gobgp_api import attribute_pb2 as attr
from routing.engines.gobgp_attributes import attributes


def packed(*messages: Any) -> list[AnyMessage]:
    """Return messages as gobgpd sends them."""
    made = []
    for message in messages:
        made.append(AnyMessage())
        made[-1].Pack(message)
    return made


def decoded(*messages: Any) -> Attributes:
    """Return the attributes beside a next hop."""
    return attributes(packed(attr.NextHopAttribute(next_hop="192.0.2.2"), *messages))


def test_every_attribute_has_its_field() -> None:
    """Nothing of what a neighbour says is lost on the way to our tables."""
    path = attr.AsPathAttribute(
        segments=[
            attr.AsSegment(type=attr.AsSegment.AS_SEQUENCE, numbers=[65001, 4200000000]),
            attr.AsSegment(type=attr.AsSegment.AS_SET, numbers=[1, 2]),
        ]
    )
    large = attr.LargeCommunity(global_admin=1, local_data1=2, local_data2=3)
    got = decoded(
        attr.OriginAttribute(origin=2),
        path,
        attr.MultiExitDiscAttribute(med=7),
        attr.LocalPrefAttribute(local_pref=200),
        attr.AtomicAggregateAttribute(),
        attr.AggregatorAttribute(asn=65001, address="192.0.2.9"),
        attr.CommunitiesAttribute(communities=[(65001 << 16) | 5]),
        attr.LargeCommunitiesAttribute(communities=[large]),
        attr.OriginatorIdAttribute(id="192.0.2.7"),
        attr.ClusterListAttribute(ids=["192.0.2.8", "192.0.2.9"]),
        attr.UnknownAttribute(flags=0xC0, type=99, value=b"xyz"),
    )
    assert got == Attributes(
        IPv4Address("192.0.2.2"),
        Origin.INCOMPLETE,
        (Segment(SegmentType.SEQUENCE, (65001, 4200000000)), Segment(SegmentType.SET, (1, 2))),
        med=7,
        local_pref=200,
        atomic_aggregate=True,
        aggregator=(65001, IPv4Address("192.0.2.9")),
        communities=((65001, 5),),
        large_communities=((1, 2, 3),),
        originator_id=IPv4Address("192.0.2.7"),
        cluster_list=(IPv4Address("192.0.2.8"), IPv4Address("192.0.2.9")),
        unknown=(UnknownAttribute(0xC0, 99, b"xyz"),),
    )


def test_zero_is_not_absent() -> None:
    """MED 0 and no MED are two things; so are their octets empty in both cases."""
    assert decoded(attr.MultiExitDiscAttribute(med=0)).med == 0
    assert decoded().med is None


def test_the_next_hop_of_other_families_is_in_mp_reach() -> None:
    """With a link-local one behind it, the global one counts; a zone is the kernel's business."""
    reach = attr.MpReachNLRIAttribute(next_hops=["2001:db8::2", "fe80::2"])
    assert attributes(packed(reach)).next_hop == ip_address("2001:db8::2")
    assert attributes(packed(attr.MpReachNLRIAttribute(next_hops=["fe80::2%eth0"]))).next_hop == ip_address("fe80::2")


def test_equal_attributes_are_one_object() -> None:
    """A table has few attribute sets and many prefixes."""
    prefixes = (
        attr.IPAddressPrefix(prefix="2001:db8:1::", prefix_len=48),
        attr.IPAddressPrefix(prefix="::", prefix_len=0),
    )
    one, two = (
        attributes(
            packed(attr.OriginAttribute(), attr.MpReachNLRIAttribute(next_hops=["2001:db8::2"], nlris=packed(p)))
        )
        for p in prefixes
    )
    assert one is two


@pytest.mark.parametrize(
    ("message", "octets"),
    [
        (attr.TwoOctetAsSpecificExtended(is_transitive=True, sub_type=2, asn=65001, local_admin=9), "0002fde900000009"),
        (attr.TwoOctetAsSpecificExtended(sub_type=2, asn=65001, local_admin=9), "4002fde900000009"),
        (
            attr.IPv4AddressSpecificExtended(is_transitive=True, sub_type=3, address="192.0.2.1", local_admin=7),
            "0103c00002010007",
        ),
        (
            attr.FourOctetAsSpecificExtended(is_transitive=True, sub_type=2, asn=70000, local_admin=1),
            "0202000111700001",
        ),
        (attr.OpaqueExtended(is_transitive=True, value=bytes(7)), "0300000000000000"),
        (attr.LinkBandwidthExtended(asn=65001, bandwidth=1.0), "4004fde93f800000"),
        (attr.UnknownExtended(type=0x99, value=b"abcdefg"), "9961626364656667"),
    ],
)
def test_extended_communities_are_eight_octets_again(message: Any, octets: str) -> None:
    """RFC 4360, RFC 5668."""
    got = decoded(attr.ExtendedCommunitiesAttribute(communities=packed(message)))
    assert [item.hex() for item in got.extended_communities] == [octets]


def test_what_belongs_to_other_families_is_left_out() -> None:
    """We carry IPv4 and IPv6 unicast only."""
    foreign = attr.ExtendedCommunitiesAttribute(communities=packed(attr.MacMobilityExtended(sequence_num=1)))
    assert decoded(foreign, attr.PmsiTunnelAttribute()) == Attributes(IPv4Address("192.0.2.2"))
