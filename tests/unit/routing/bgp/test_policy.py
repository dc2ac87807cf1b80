"""The import and export decisions, reason by reason."""

from __future__ import annotations

import gc
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.policy import ImportCheck, PrefixRules, judge, may_export
from routing.bgp.values import (
    Attributes,
    ExportPolicy,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Reason,
    Segment,
    SegmentType,
    Speaker,
    UnknownAttribute,
)

OWNED = PrefixRule(ip_network("10.1.0.0/16"), 16, 24)
POLICY = ImportPolicy(
    accept=(OWNED, PrefixRule.exact(ip_network("2001:db8:1::/48"))),
    never=(PrefixRule(ip_network("10.1.99.0/24"), 24, 32),),
    first_as=65001,
    forbidden_as=(174,),
    max_path_length=3,
    next_hops=(ip_network("192.0.2.1/32"),),
)
SPEAKER = Speaker("rs", Mode.TRANSPARENT, 65000, IPv4Address("192.0.2.254"), ())
NEIGHBOR = Neighbor("a", 65001, ip_address("192.0.2.1"), imports=POLICY)
PREFIX = ip_network("10.1.2.0/24")


def path(*asns: int) -> tuple[Segment, ...]:
    """Make an AS_PATH of one sequence."""
    return (Segment(SegmentType.SEQUENCE, asns),)


GOOD = Attributes(next_hop=ip_address("192.0.2.1"), as_path=path(65001))


def test_a_route_that_breaks_no_rule_is_accepted() -> None:
    """None means accepted, in both families."""
    assert judge(PREFIX, GOOD, NEIGHBOR, SPEAKER) is None
    assert judge(ip_network("2001:db8:1::/48"), GOOD, NEIGHBOR, SPEAKER) is None


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("10.1.99.0/24", Reason.BOGON),
        ("10.2.0.0/24", Reason.NOT_OWNED),
        ("10.1.2.0/25", Reason.NOT_OWNED),
        ("10.0.0.0/8", Reason.NOT_OWNED),
        ("2001:db8:1:1::/64", Reason.NOT_OWNED),
    ],
)
def test_a_foreign_prefix_is_refused(prefix: str, reason: Reason) -> None:
    """Prefix rules are the first to be asked."""
    assert judge(ip_network(prefix), GOOD, NEIGHBOR, SPEAKER) is reason


def test_without_a_policy_nothing_is_accepted() -> None:
    """RFC 8212."""
    assert judge(PREFIX, GOOD, Neighbor("b", 65001), SPEAKER) is Reason.NO_POLICY


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (replace(GOOD, as_path=(*path(65001), Segment(SegmentType.SET, (1, 2)))), Reason.AS_SET),
        (replace(GOOD, as_path=path(65002, 65001)), Reason.FIRST_AS),
        (replace(GOOD, as_path=()), Reason.FIRST_AS),
        (replace(GOOD, as_path=path(65001, 174)), Reason.FORBIDDEN_AS),
        (replace(GOOD, as_path=path(65001, 0)), Reason.FORBIDDEN_AS),
        (replace(GOOD, as_path=path(65001, 65000)), Reason.AS_LOOP),
        (replace(GOOD, as_path=path(65001, 1, 2, 3)), Reason.PATH_TOO_LONG),
        (replace(GOOD, next_hop=ip_address("192.0.2.2")), Reason.NEXT_HOP),
        (replace(GOOD, next_hop=ip_address("2001:db8::1")), Reason.NEXT_HOP),
    ],
)
def test_bad_attributes_are_refused_with_their_reason(attributes: Attributes, reason: Reason) -> None:
    """Each rule of the policy gives its own number."""
    assert judge(PREFIX, attributes, NEIGHBOR, SPEAKER) is reason


def test_a_route_of_a_client_that_was_for_customers_only_is_a_leak() -> None:
    """RFC 9234 5, whoever marked it; of who is no client nothing is known that would make it one."""
    marked = replace(GOOD, unknown=(UnknownAttribute(0xC0, 35, bytes(4)),))
    assert judge(PREFIX, marked, replace(NEIGHBOR, client=True), SPEAKER) is Reason.ROUTE_LEAK
    assert judge(PREFIX, GOOD, replace(NEIGHBOR, client=True), SPEAKER) is None
    assert judge(PREFIX, marked, NEIGHBOR, SPEAKER) is None


def test_the_first_broken_rule_gives_the_reason() -> None:
    """Operators see one reason, always the same one."""
    worst = Attributes(next_hop=ip_address("192.0.2.2"), as_path=(Segment(SegmentType.SET, (174, 0)),))
    assert judge(ip_network("10.1.99.0/24"), worst, NEIGHBOR, SPEAKER) is Reason.BOGON
    assert judge(ip_network("10.2.0.0/24"), worst, NEIGHBOR, SPEAKER) is Reason.NOT_OWNED
    assert judge(PREFIX, worst, NEIGHBOR, SPEAKER) is Reason.AS_SET


def test_an_as_set_may_be_allowed() -> None:
    """The first AS must still be in a sequence."""
    loose = replace(NEIGHBOR, imports=replace(POLICY, refuse_as_set=False))
    attributes = replace(GOOD, as_path=(*path(65001), Segment(SegmentType.SET, (1, 2))))
    assert judge(PREFIX, attributes, loose, SPEAKER) is None
    assert judge(PREFIX, replace(attributes, as_path=attributes.as_path[1:]), loose, SPEAKER) is Reason.FIRST_AS


def test_a_reflector_refuses_what_it_reflected_before() -> None:
    """RFC 4456 8: our router id as originator or in the cluster list."""
    inside = Neighbor("i", 65000, imports=ImportPolicy(accept=(OWNED,)))
    attributes = Attributes(next_hop=ip_address("192.0.2.1"))
    own = SPEAKER.router_id
    assert judge(PREFIX, attributes, inside, SPEAKER) is None
    assert judge(PREFIX, replace(attributes, originator_id=own), inside, SPEAKER) is Reason.ORIGINATOR_LOOP
    assert judge(PREFIX, replace(attributes, cluster_list=(own,)), inside, SPEAKER) is Reason.CLUSTER_LOOP
    assert judge(PREFIX, replace(GOOD, cluster_list=(own,)), NEIGHBOR, SPEAKER) is None


def test_the_export_policy_defaults_to_nothing() -> None:
    """RFC 8212 for the way out."""
    assert not may_export(PREFIX, ExportPolicy())
    policy = ExportPolicy(accept=(OWNED,), never=(PrefixRule.exact(PREFIX),))
    assert may_export(ip_network("10.1.3.0/24"), policy)
    assert not may_export(PREFIX, policy)


def networks() -> st.SearchStrategy[Network]:
    """Draw networks that often contain one another."""
    v4 = st.builds(lambda a, n: IPv4Network((a << 24, n), strict=False), st.integers(0, 7), st.integers(0, 32))
    v6 = st.builds(lambda a, n: IPv6Network((a << 120, n), strict=False), st.integers(0, 7), st.integers(0, 128))
    return st.one_of(v4, v6)


def rules() -> st.SearchStrategy[PrefixRule]:
    """Draw rules, some of which match nothing."""
    return st.builds(PrefixRule, networks(), st.integers(0, 40), st.integers(0, 128))


@given(st.lists(rules(), max_size=20), networks())
def test_the_index_says_what_asking_every_rule_says(given_rules: list[PrefixRule], prefix: Network) -> None:
    """The index is an optimisation only."""
    assert PrefixRules(tuple(given_rules)).match(prefix) == any(rule.matches(prefix) for rule in given_rules)


def test_rules_that_nobody_has_are_let_go() -> None:
    """A check has its own, and shares the index with others that have the same."""
    gone = []
    for number in range(50):
        policy = ImportPolicy((PrefixRule(ip_network(f"10.{number}.0.0/16"), 16, 24),))
        checks = [ImportCheck(replace(NEIGHBOR, name=name, imports=policy), SPEAKER) for name in ("a", "b")]
        other = ip_network(f"10.{number + 1}.0.0/16")
        assert [check.prefix(policy.accept[0].network) for check in checks] == [None, None]
        assert [check.prefix(other) for check in checks] == [Reason.NOT_OWNED] * 2
        gone.append(ref(policy.accept[0].network))
        del policy, checks
    gc.collect()
    assert [network for reference in gone if (network := reference()) is not None] == []
