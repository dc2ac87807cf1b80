"""Sorting changes of routes: nothing is lost, and what is together may share its messages."""

from __future__ import annotations

from collections import defaultdict
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.routebuckets import Places, numbered, sort
from appliance.kernel.rtnetlink import SCOPE_LINK, SCOPE_NOWHERE, SCOPE_UNIVERSE
from appliance.model.facts import HOST, Hop, Network, Route
from appliance.model.marks import PROTO_BGP, PROTO_BOX
from appliance.state.diff import Change

if TYPE_CHECKING:
    from appliance.kernel.routebuckets import Hops, RouteChange


def hop(text: str) -> Hops:
    """Make a tuple of one hop, a new one each time."""
    return (Hop("a0", IPv6Address(text) if ":" in text else IPv4Address(text)),)


def put(text: str, hops: Hops, proto: int = PROTO_BGP, mtu: int | None = None) -> RouteChange:
    """Create a route."""
    return Change("create", None, Route(HOST, ip_network(text), hops, proto, mtu))


def known(**groups: int) -> Places:
    """Have IPv4 routes of BGP: the last octet of 10.0.N.0/24 and its group."""
    places: Places = defaultdict(dict)
    for text, group in groups.items():
        places[PROTO_BGP, 4].update(dict.fromkeys(numbered(4, 24, [(10 << 24) + (int(text[1:]) << 8)]), group))
    return places


networks = st.one_of(
    st.builds(
        lambda number, length: IPv4Network((number, length), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    ),
    st.builds(
        lambda number, length: IPv6Network((number, length), strict=False),
        st.integers(0, 2**128 - 1),
        st.integers(0, 128),
    ),
)


@given(st.sets(networks))
def test_no_two_prefixes_of_a_family_have_one_number(some: set[Network]) -> None:
    """Not even if they begin alike and differ in their lengths."""
    numbers = [(n.version, *numbered(n.version, n.prefixlen, [int(n.network_address)])) for n in some]
    assert len(set(numbers)) == len(some)


def test_the_numbers_of_neighbours_follow_each_other() -> None:
    """A dictionary sees their last bits first."""
    first, second = numbered(6, 48, [int(IPv6Address(f"2001:db8:{n}::")) for n in (4, 5)])
    assert second == first + 1


hops = st.lists(st.sampled_from([Hop("a0"), *hop("10.0.0.2"), *hop("fe80::2")]), min_size=1, max_size=2).map(tuple)
routes = st.builds(
    Route, st.just(HOST), networks, hops, st.sampled_from([PROTO_BGP, PROTO_BOX]), st.sampled_from([None, 1400])
)
changes = st.one_of(
    st.builds(lambda route: Change("create", None, route), routes),
    st.builds(lambda route: Change("delete", route, None), routes),
    st.builds(
        lambda old, new: Change("update", Route(HOST, new.destination, old.hops, new.proto, old.mtu), new),
        routes,
        routes,
    ),
)


@given(st.lists(changes, unique_by=lambda change: change.fact.key), st.data())
def test_every_change_is_in_the_one_bucket_that_says_what_it_says(some: list[RouteChange], data: st.DataObject) -> None:
    """Deletions of what is not there are in none."""
    places: Places = defaultdict(dict)
    for change in some:
        network, proto = change.fact.destination, change.fact.proto
        if group := data.draw(st.integers(0, 2)):
            (number,) = numbered(network.version, network.prefixlen, [int(network.network_address)])
            places[proto, network.version][number] = group
    found = []
    for bucket in sort(some, places):
        for change, address, number in zip(bucket.changes, bucket.addresses, bucket.numbers, strict=True):
            network, new, old = change.fact.destination, change.new, change.old
            assert (bucket.version, bucket.length, address) == (
                network.version,
                network.prefixlen,
                int(network.network_address),
            )
            assert places[change.fact.proto, network.version].get(number, 0) == bucket.group
            assert (bucket.hops, bucket.mtu) == (((), None) if new is None else (new.hops, new.mtu))
            moves = new is not None and old is not None and old.mtu == new.mtu
            assert bucket.work == ("delete" if new is None else "move" if moves else "put")
            found.append(change)
    left_out = [change for change in some if change not in found]
    assert len(found) + len(left_out) == len(some)
    assert all(change.new is None for change in left_out)


def test_routes_with_equal_hops_share_their_messages() -> None:
    """Whoever makes facts makes a tuple for each."""
    (bucket,) = sort([put(f"10.0.{n}.0/24", hop("10.255.0.2")) for n in range(9)], known())
    assert (bucket.group, bucket.hops, len(bucket.changes)) == (0, hop("10.255.0.2"), 9)


def test_routes_that_use_several_groups_now_are_apart() -> None:
    """A group can be led another way only if all its routes go with it."""
    some = [put(f"10.0.{n}.0/24", hop("10.255.0.2")) for n in range(4)]
    found = {bucket.group: bucket.changes for bucket in sort(some, known(n0=7, n1=8, n2=7))}
    assert found == {7: [some[0], some[2]], 8: [some[1]], 0: [some[3]]}


def test_the_scope_says_what_the_kernel_must_know() -> None:
    """IPv4 routes on the link may lead to the gateways of others; what is deleted may be anywhere."""
    some = [
        put("10.0.1.0/24", hop("10.255.0.2")),
        put("10.0.2.0/24", (Hop("a0"),)),
        put("2001:db8::/32", (Hop("a0"),)),
        Change("delete", Route(HOST, IPv4Network("10.0.3.0/24"), (Hop("a0"),), PROTO_BGP), None),
    ]
    scopes = [bucket.shape(5).scope for bucket in sort(some, known(n3=7))]
    assert scopes == [SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_UNIVERSE, SCOPE_NOWHERE]
