"""The parsers of the foreign routers' views, on what those routers really print."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from routing.bgp.values import Attributes, Origin, Segment, SegmentType, UnknownAttribute
from tests.support.routers import bird, frr, openbgpd
from tests.support.routers.common import (
    Route,
    difference,
    extended,
    normal,
    parse_community,
    parse_path,
    sequence,
)

BIRD = """Table master4:
198.51.100.0/24      unicast [a 13:48:03.777 from 192.0.2.2] * (100) [e]
\tvia 192.0.2.9 on eth0
\tType: BGP univ
\tBGP.origin: EGP
\tBGP.as_path: 65540 65001 {3 4}
\tBGP.next_hop: 192.0.2.9
\tBGP.med: 7
\tBGP.local_pref: 100
\tBGP.atomic_aggr:\x20
\tBGP.aggregator: 10.0.0.1 AS65540
\tBGP.community: (65001,7) (65535,65281)
\tBGP.ext_community: (rt, 65001, 9) (generic, 0x43000000, 0x1)
\tBGP.large_community: (1, 2, 3)
\tBGP.63 [t]: 01 02 03 04
                     unicast [f6 13:44:24.749] (100) [AS65010?]
\tvia 192.0.2.3 on eth0
\tBGP.origin: Incomplete
\tBGP.as_path: 65002
\tBGP.next_hop: 192.0.2.3

Table master6:
2001:db8:100::/48    unreachable [a6 13:45:23.878 from 2001:db8::2] * (100) [AS65010?]
\tBGP.origin: IGP
\tBGP.as_path:\x20
\tBGP.next_hop: 2001:db8::3 fe80::6423:fdff:fece:585d
\tBGP.originator_id: 192.0.2.4
\tBGP.cluster_list: 192.0.2.1 203.0.113.2
"""

FRR = """{"routes": {"198.51.100.0/24": [{"prefix": "198.51.100.0/24", "version": 8},
{"aspath": {"string": "65540 65001 {3,4}", "segments": [{"type": "as-sequence", "list": [65540, 65001]},
{"type": "as-set", "list": [4, 3]}], "length": 3}, "aggregatorAs": 65540, "aggregatorId": "10.0.0.1",
"origin": "EGP", "metric": 7, "valid": true, "version": 8, "atomicAggregate": true,
"community": {"string": "65001:7 no-export", "list": ["65001:7", "noExport"]},
"extendedCommunity": {"string": "RT:65001:9"}, "largeCommunity": {"string": "1:2:3", "list": ["1:2:3"]},
"originatorId": "192.0.2.4", "clusterList": {"list": ["192.0.2.1"]}, "locPrf": 100,
"nexthops": [{"ip": "192.0.2.9", "afi": "ipv4", "metric": 0, "accessible": true, "used": true}],
"peer": {"peerId": "192.0.2.1", "routerId": "192.0.2.1", "type": "external"}}],
"203.0.113.0/24": [{"prefix": "203.0.113.0/24", "version": 3}, {"aspath": {"segments": []}, "origin": "IGP",
"nexthops": [{"ip": "192.0.2.66"}], "peer": {"peerId": "0.0.0.0", "routerId": "192.0.2.3"}}]}}"""

OPENBGPD = """{"prefix": "198.51.100.0/24", "aspath": "65540 65001 { 3 4 }", "exit_nexthop": "192.0.2.9",
"neighbor": {"remote_addr": "192.0.2.1", "bgp_id": "192.0.2.1"}, "source": "external", "origin": "EGP", "metric": 7,
"localpref": 100, "communities": ["65001:7", "NO_EXPORT"], "extended_communities": ["rt 65001:9"],
"large_communities": ["1:2:3"], "attributes": [
{"type": "Atomic Aggregate", "length": 0, "flags": {"partial": false, "transitive": true, "optional": false}},
{"type": "Aggregator", "flags": {"partial": false, "transitive": true, "optional": true},
"AS": 65540, "router_id": "10.0.0.1"},
{"type": "Unknown Attribute #99", "length": 4, "flags": {"partial": true, "transitive": true, "optional": true},
"data": "01020304"}]}"""

SAME = Attributes(
    next_hop=IPv4Address("192.0.2.9"),
    origin=Origin.EGP,
    as_path=(*sequence(65540, 65001), Segment(SegmentType.SET, (3, 4))),
    med=7,
    atomic_aggregate=True,
    aggregator=(65540, IPv4Address("10.0.0.1")),
    communities=((65001, 7), (65535, 65281)),
    large_communities=((1, 2, 3),),
    extended_communities=(extended("rt", "65001", 9),),
)
UNKNOWN = (UnknownAttribute(0xC0, 99, bytes((1, 2, 3, 4))),)


def test_bird_shows_everything() -> None:
    """Each field is found; the first route of a prefix belongs to the first protocol."""
    first, second, third = bird.parse_entries(BIRD)
    generic = bytes.fromhex("4300000000000001")
    wanted = {"local_pref": 100, "unknown": UNKNOWN, "extended_communities": (*SAME.extended_communities, generic)}
    assert first.attributes == normal(_with(SAME, **wanted))
    assert (first.prefix, first.protocol, first.best) == (IPv4Network("198.51.100.0/24"), "a", True)
    assert (second.prefix, second.protocol, second.best) == (IPv4Network("198.51.100.0/24"), "f6", False)
    assert third.attributes == Attributes(
        next_hop=IPv6Address("2001:db8::3"),
        originator_id=IPv4Address("192.0.2.4"),
        cluster_list=(IPv4Address("192.0.2.1"), IPv4Address("203.0.113.2")),
    )
    assert third.prefix == IPv6Network("2001:db8:100::/48")


def test_frr_shows_all_but_unknown_attributes() -> None:
    """The path of the peer asked for is found, the own one is not."""
    found = frr.parse_table(json.loads(FRR), IPv4Address("192.0.2.1"))
    reflected = {"originator_id": IPv4Address("192.0.2.4"), "cluster_list": (IPv4Address("192.0.2.1"),)}
    assert found == {IPv4Network("198.51.100.0/24"): _with(SAME, local_pref=100, **reflected)}


def test_openbgpd_shows_all() -> None:
    """LOCAL_PREF of an external route is OpenBGPD's own and left out."""
    assert openbgpd.parse_entry(json.loads(OPENBGPD)) == _with(SAME, unknown=UNKNOWN)


def test_bird_text_of_routes_shares_attribute_sets() -> None:
    """Two prefixes with equal attributes name one function, which sets the path from its end."""
    sent = Attributes(next_hop=IPv4Address("192.0.2.2"), as_path=sequence(64501, 64700), med=3)
    text = bird.statics([Route(IPv4Network("10.1.0.0/24"), sent), Route(IPv4Network("10.1.1.0/24"), sent)])
    assert text.count("function") == 1
    assert "bgp_path.prepend(64700); bgp_path.prepend(64501); bgp_med = 3;" in text
    assert " route 10.1.1.0/24 blackhole { set0(); };" in text


def test_what_bird_cannot_originate_is_refused() -> None:
    """An AS_SET would silently be lost."""
    sent = Attributes(next_hop=IPv4Address("192.0.2.2"), as_path=(Segment(SegmentType.SET, (1,)),))
    with pytest.raises(ValueError, match="cannot originate"):
        bird.statics([Route(IPv4Network("10.1.0.0/24"), sent)])


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()),
        ("64501", sequence(64501)),
        ("64501 {3,4} 5", (*sequence(64501), Segment(SegmentType.SET, (3, 4)), *sequence(5))),
        ("64501 { 4 3 }", (*sequence(64501), Segment(SegmentType.SET, (3, 4)))),
    ],
)
def test_a_path_is_parsed_in_any_punctuation(text: str, path: tuple[Segment, ...]) -> None:
    """Sequences and sets, however a daemon writes them."""
    assert parse_path(text) == path


@pytest.mark.parametrize("word", ["noExport", "NO_EXPORT", "no-export", "65535:65281"])
def test_a_well_known_community_has_one_value(word: str) -> None:
    """Every daemon has another spelling."""
    assert parse_community(word) == (65535, 65281)


@pytest.mark.parametrize(
    ("administrator", "value", "octets"),
    [
        ("65001", 9, "0002fde900000009"),
        ("4200000001", 5, "0202fa56ea010005"),
        ("203.0.113.7", 65535, "0102cb007107ffff"),
    ],
)
def test_a_route_target_has_three_encodings(administrator: str, value: int, octets: str) -> None:
    """RFC 4360 3.1, 3.2 and RFC 5668."""
    assert extended("rt", administrator, value).hex() == octets


def test_normal_attributes_do_not_depend_on_order_or_splitting() -> None:
    """Communities are sets, neighbouring sequences are one, PARTIAL may be set by anybody."""
    first = _with(
        SAME,
        as_path=(*sequence(1, 2), *sequence(3)),
        communities=((2, 2), (1, 1)),
        unknown=(UnknownAttribute(0xE0, 99, b"x"),),
    )
    second = _with(
        SAME, as_path=sequence(1, 2, 3), communities=((1, 1), (2, 2)), unknown=(UnknownAttribute(0xC0, 99, b"x"),)
    )
    assert normal(first) == normal(second)


def test_a_difference_names_prefix_and_field() -> None:
    """Missing, foreign and changed routes are told apart."""
    here, there, gone = (IPv4Network((f"10.0.{n}.0", 24)) for n in range(3))
    wrong = difference({here: SAME, gone: SAME}, {here: _with(SAME, med=8), there: SAME})
    assert wrong[0] == f"{here}: med: expected 7, got 8"
    assert wrong[1].startswith(f"{there}: not expected")
    assert wrong[2] == f"{gone}: missing"


def _with(attributes: Attributes, **fields: object) -> Attributes:
    return replace(attributes, **fields)  # type: ignore[arg-type] # names and types are those of the test
