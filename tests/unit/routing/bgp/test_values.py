"""The values of BGP: what they derive."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from routing.bgp.values import Attributes, Family, PrefixRule, Reason, Segment, SegmentType

PATH = (Segment(SegmentType.SEQUENCE, (65001, 65002)), Segment(SegmentType.SET, (65003, 65004)))


def test_the_family_of_a_prefix_and_of_an_address_follows_their_version() -> None:
    """Prefixes and addresses of one version are of one family."""
    assert Family.of(ip_network("192.0.2.0/24")) is Family.of(IPv4Address("192.0.2.1")) is Family.IPV4
    assert Family.of(ip_network("2001:db8::/32")) is Family.of(IPv6Address("2001:db8::1")) is Family.IPV6


def test_a_set_counts_one_for_the_length_and_all_for_the_numbers() -> None:
    """RFC 4271 9.1.2.2 a: an AS_SET counts as one, whatever it holds."""
    attributes = Attributes(IPv4Address("192.0.2.1"), as_path=PATH)
    assert attributes.path_length == 3
    assert attributes.path_asns == (65001, 65002, 65003, 65004)


@pytest.mark.parametrize(
    ("prefix", "covered"),
    [
        ("10.0.0.0/8", False),
        ("10.1.0.0/16", True),
        ("10.1.2.0/24", True),
        ("10.1.2.0/25", False),
        ("11.1.0.0/16", False),
        ("2001:db8::/32", False),
    ],
)
def test_a_rule_covers_more_specifics_of_its_lengths(prefix: str, covered: bool) -> None:
    """`10.0.0.0/8 ge 16 le 24` covers nothing shorter, longer, beside it or of the other version."""
    rule = PrefixRule(ip_network("10.0.0.0/8"), 16, 24)
    assert rule.matches(ip_network(prefix)) is covered


def test_an_exact_rule_covers_its_network_alone() -> None:
    """Nothing above and nothing below."""
    rule = PrefixRule.exact(ip_network("192.0.2.0/24"))
    assert rule.matches(ip_network("192.0.2.0/24"))
    assert not rule.matches(ip_network("192.0.2.0/25"))


def test_the_numbers_of_reasons_never_change() -> None:
    """Operators script on them."""
    assert {reason.name: int(reason) for reason in Reason} == {
        "NO_POLICY": 1,
        "NOT_OWNED": 2,
        "BOGON": 3,
        "FIRST_AS": 4,
        "FORBIDDEN_AS": 5,
        "PATH_TOO_LONG": 6,
        "NEXT_HOP": 7,
        "MAX_PREFIXES": 8,
        "AS_LOOP": 9,
        "ORIGINATOR_LOOP": 10,
        "CLUSTER_LOOP": 11,
        "MALFORMED": 12,
        "AS_SET": 13,
        "NEXT_HOP_UNREACHABLE": 14,
        "ROUTE_LEAK": 15,
    }
