from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.attributes import decode, encode
from routing.bgp.hot import scan
from routing.bgp.nlri import pack, unpack
from routing.bgp.paths import NOBODY
from routing.bgp.peers import Judge, Peer, is_host, keep_named, named, path_asns
from routing.bgp.policy import ImportCheck
from routing.bgp.values import (
    Attributes,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Reason,
    Segment,
    SegmentType,
    Speaker,
)

US = 65000
SPEAKER = Speaker("s", Mode.TRANSPARENT, US, IPv4Address("192.0.2.254"), ())
ADDRESS = ip_address("192.0.2.1")
EVERY = (PrefixRule(ip_network("10.0.0.0/8"), 8, 32), PrefixRule(ip_network("2001:db8::/32"), 32, 64))
GOOD = Attributes(ADDRESS, as_path=(Segment(SegmentType.SEQUENCE, (65001, 7)),))
OURS = frozenset({65001, 65002, 65003})
HOPS = [ip_address(text) for text in ("192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1", "2001:db8:ffff::1")]


def neighbor(asn: int = 65001, **policy: Any) -> Neighbor:
    """Make a neighbour that may announce nearly everything."""
    return Neighbor("n", asn, ADDRESS, imports=replace(ImportPolicy(accept=EVERY), **policy))


def octets(attributes: Attributes) -> bytes:
    """Write attributes for IPv4."""
    return encode(attributes, Family.IPV4)


POLICIES = st.builds(
    ImportPolicy,
    accept=st.sampled_from([EVERY, EVERY[:1], ()]),
    never=st.sampled_from([(), (PrefixRule(ip_network("10.1.0.0/16"), 16, 24),)]),
    first_as=st.sampled_from([None, 65001]),
    forbidden_as=st.sampled_from([(), (8,)]),
    max_path_length=st.integers(1, 4),
    next_hops=st.sampled_from([(), (ip_network("192.0.2.0/31"), ip_network("2001:db8::/48"))]),
    refuse_as_set=st.booleans(),
)
SEGMENTS = st.builds(
    Segment,
    st.sampled_from([SegmentType.SEQUENCE, SegmentType.SEQUENCE, SegmentType.SET]),
    st.lists(st.sampled_from([65001, 65002, 7, 8, US]), min_size=1, max_size=3).map(tuple),
)
ATTRIBUTES = st.builds(
    Attributes,
    st.sampled_from(HOPS),
    as_path=st.lists(SEGMENTS, max_size=2).map(tuple),
    originator_id=st.sampled_from([None, SPEAKER.router_id]),
    cluster_list=st.sampled_from([(), (SPEAKER.router_id,)]),
)
PREFIXES = [
    ip_network(text) for text in ("10.0.0.0/7", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "11.0.0.0/8")
]


@given(POLICIES, ATTRIBUTES, st.booleans())
def test_attributes_are_judged_as_the_policy_says(
    policy: ImportPolicy,
    attributes: Attributes,
    internal: bool,
) -> None:
    """Whichever way they take: by their octets alone, or read closely."""
    if not internal:
        attributes = replace(attributes, originator_id=None, cluster_list=())
    one = Neighbor("n", US if internal else 65001, ADDRESS, imports=policy)
    peer = Peer(ADDRESS, one, SPEAKER)
    path = peer.path(octets(attributes), OURS)
    assert path.reason == ImportCheck(one, SPEAKER).attributes(attributes)
    assert path.next_hop == attributes.next_hop.packed
    assert path.avoid == OURS.intersection(attributes.path_asns)
    assert path_asns(path) == attributes.path_asns
    quick = Peer(ADDRESS, one, SPEAKER).ordinary(octets(attributes), OURS)
    if quick is not None:
        assert (quick.reason, quick.next_hop, quick.avoid) == (path.reason, path.next_hop, path.avoid)


@given(POLICIES, st.lists(st.sampled_from(PREFIXES), unique=True))
def test_prefixes_are_judged_as_the_policy_says(policy: ImportPolicy, prefixes: list[Network]) -> None:
    """Each in one part, and parts that are all or nothing are not copied."""
    one = Neighbor("n", 65001, ADDRESS, imports=policy)
    judge, check, nlri = Judge(one, SPEAKER), ImportCheck(one, SPEAKER), pack(prefixes)
    found = {
        prefix: reason for reason, part in judge.prefixes(Family.IPV4, nlri) for prefix in unpack(part, Family.IPV4)
    }
    assert found == {prefix: check.prefix(prefix) for prefix in prefixes}
    assert judge.accepts(Family.IPV4, nlri) == (not any(found.values()))


def test_the_first_reason_is_told() -> None:
    """In the order of `routing.bgp.policy`: the path before the next hop."""
    judge = Judge(neighbor(first_as=65001, next_hops=(ip_network("192.0.2.1/32"),), max_path_length=1), SPEAKER)
    elsewhere = ip_address("192.0.2.2").packed
    assert judge.ordinary((7, 0, US), elsewhere) is Reason.FIRST_AS
    assert judge.ordinary((), elsewhere) is Reason.FIRST_AS
    assert judge.ordinary((65001, 0, US), elsewhere) is Reason.FORBIDDEN_AS
    assert judge.ordinary((65001, US), elsewhere) is Reason.AS_LOOP
    assert judge.ordinary((65001, 7), elsewhere) is Reason.PATH_TOO_LONG
    assert judge.ordinary((65001,), elsewhere) is Reason.NEXT_HOP
    assert judge.ordinary((65001,), ADDRESS.packed) is None


def test_octets_are_judged_once() -> None:
    """Prefixes said together and one after another share one path."""
    peer = Peer(ADDRESS, neighbor(), SPEAKER)
    found = peer.ordinary(octets(GOOD), OURS)
    assert found is not None
    assert peer.ordinary(octets(replace(GOOD)), OURS) is found
    assert peer.path(octets(GOOD), OURS) is found
    assert found.source is peer
    assert found.avoid == {65001}


@pytest.mark.parametrize(
    "attributes",
    [
        replace(GOOD, as_path=(Segment(SegmentType.SET, (7,)),)),
        replace(GOOD, as_path=(Segment(SegmentType.SEQUENCE, (65001, 0)),)),
        replace(GOOD, next_hop=ip_address("0.0.0.0")),
        replace(GOOD, next_hop=ip_address("127.0.0.1")),
        replace(GOOD, next_hop=ip_address("224.0.0.1")),
        replace(GOOD, next_hop=ip_address("::")),
        replace(GOOD, next_hop=ip_address("ff02::1")),
        replace(GOOD, local_pref=100),
    ],
    ids=[
        "set",
        "AS 0",
        "unspecified",
        "loopback",
        "multicast",
        "unspecified of IPv6",
        "multicast of IPv6",
        "of an AS within",
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_others(attributes: Attributes) -> None:
    """Nothing is remembered of it."""
    peer = Peer(ADDRESS, neighbor(), SPEAKER)
    assert peer.ordinary(octets(attributes), OURS) is None
    assert peer.all_paths() == []


def test_a_path_of_our_own_as_is_judged_by_all_its_attributes() -> None:
    """RFC 4456 8, though its octets are ordinary."""
    peer = Peer(ADDRESS, neighbor(US), SPEAKER)
    looping = octets(Attributes(ADDRESS, originator_id=SPEAKER.router_id))
    assert scan(looping, True) is not None
    found = peer.ordinary(looping, OURS)
    assert found is not None
    assert found.reason is Reason.ORIGINATOR_LOOP


def test_a_variant_is_one_object_and_says_the_same() -> None:
    """A verdict about a prefix, a limit or a restart changes nothing of what is said."""
    peer = Peer(ADDRESS, neighbor(), SPEAKER)
    path = peer.path(octets(GOOD), OURS)
    over = peer.variant(path, Reason.MAX_PREFIXES)
    assert (over.reason, over.stale, over.octets, over.avoid) == (Reason.MAX_PREFIXES, False, path.octets, path.avoid)
    assert peer.variant(peer.path(octets(GOOD), OURS), Reason.MAX_PREFIXES) is over
    assert peer.variant(path, None) is path
    stale = peer.variant(over, over.reason, stale=True)
    assert stale is not over
    assert stale.stale
    assert set(peer.all_paths()) == {path, over, stale}


def test_a_path_is_weighed_again_once_for_all_its_prefixes() -> None:
    """By whoever the neighbour says now that it is."""
    peer = Peer(ADDRESS, neighbor(), SPEAKER)
    path = peer.path(octets(GOOD), OURS)
    before = path.standing
    peer.router_id = IPv4Address("10.0.0.1")
    peer.forget({})
    again = peer.again(path)
    assert peer.again(path) is again
    assert again.standing != before
    assert decode(again.octets) == GOOD


def test_what_was_malformed_is_one_path() -> None:
    """However often, until it is stale."""
    peer = Peer(ADDRESS, neighbor(), SPEAKER)
    found = peer.malformed()
    assert found is peer.malformed()
    assert found.reason is Reason.MALFORMED
    assert path_asns(found) == ()
    assert peer.malformed(stale=True).stale


def test_paths_that_nobody_has_are_forgotten() -> None:
    """Memory follows the tables."""
    peer = Peer(ADDRESS, neighbor(), SPEAKER)
    kept, gone = peer.path(octets(GOOD), OURS), peer.path(octets(replace(GOOD, med=1)), OURS)
    over = peer.variant(gone, Reason.MAX_PREFIXES)
    peer.forget({kept: None})
    assert peer.all_paths() == [kept]
    assert peer.variant(gone, Reason.MAX_PREFIXES) is not over


def test_another_policy_forgets_what_was_judged_by_the_old_one() -> None:
    """What was said is judged again, by whoever knows what it is."""
    peer = Peer(ADDRESS, neighbor(), SPEAKER)
    before = peer.path(octets(GOOD), OURS)
    peer.follow(neighbor(forbidden_as=(7,), max_prefixes=5), SPEAKER)
    after = peer.path(octets(GOOD), OURS)
    assert (before.reason, after.reason, peer.limit) == (None, Reason.FORBIDDEN_AS, 5)


def test_equal_sets_of_as_numbers_are_one_object_while_a_path_has_them() -> None:
    """A neighbour can think of any number of sets."""
    peer = Peer(ADDRESS, neighbor(), SPEAKER)
    assert named(OURS, (7, 65002, 65001)) is named(OURS, (65001, 65002, 8))
    assert named(OURS, (7,)) is NOBODY
    path = peer.path(octets(GOOD), OURS)
    gone = ref(named(OURS, (65002, 65003)))
    keep_named((path,))
    assert named(OURS, path.attributes.path_asns) is path.avoid
    assert named(OURS, (7,)) is NOBODY
    assert gone() is None


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("192.0.2.1", True),
        ("223.255.255.255", True),
        ("224.0.0.1", False),
        ("127.1.2.3", False),
        ("0.1.2.3", False),
        ("240.0.0.1", False),
        ("2001:db8::1", True),
        ("fe80::1", True),
        ("ff02::1", False),
        ("::", False),
    ],
)
def test_a_next_hop_is_the_address_of_a_host(address: str, is_one: bool) -> None:
    """Of both families."""
    assert is_host(ip_address(address).packed) is is_one
