"""Sorting changes of routes: nothing is lost, and what is together may share its messages."""

from __future__ import annotations

from collections import defaultdict
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.routebuckets import Places, sort
from appliance.kernel.routecolumns import number
from appliance.kernel.rtnetlink import SCOPE_LINK, SCOPE_NOWHERE, SCOPE_UNIVERSE
from appliance.model.facts import HOST, Hop, Route
from appliance.model.marks import PROTO_BGP, PROTO_BOX
from appliance.state.diff import Change

if TYPE_CHECKING:
    from appliance.kernel.routecolumns import Hops, RouteChange


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
        places[PROTO_BGP, 4][number(IPv4Network(((10 << 24) + (int(text[1:]) << 8), 24)))] = group
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
            places[proto, network.version][number(network)] = group
    found = []
    for bucket in sort(some, places):
        assert bucket.addresses == b"".join(fact.destination.network_address.packed for fact in bucket.facts)
        for change, fact, called in zip(bucket.changes, bucket.facts, bucket.numbers, strict=True):
            network, new, old = fact.destination, change.new, change.old
            assert (fact, called) == (change.fact, number(network))
            assert (bucket.version, bucket.length) == (network.version, network.prefixlen)
            assert places[fact.proto, network.version].get(called, 0) == bucket.group
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
