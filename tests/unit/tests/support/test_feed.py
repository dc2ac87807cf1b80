"""The feed is the same at every run and looks like what it stands for."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise

import pytest

from routing.bgp.values import Address, Family
from tests.support import feed

HOPS: dict[Family, Address] = {Family.IPV4: IPv4Address("192.0.2.2"), Family.IPV6: IPv6Address("2001:db8::2")}


@pytest.fixture(params=list(Family), ids=["v4", "v6"])
def family(request: pytest.FixtureRequest) -> Family:
    """Name a family."""
    found: Family = request.param
    return found


def test_the_same_feed_comes_again(family: Family) -> None:
    """Equal arguments, equal routes; another seed, other attributes."""
    first = feed.routes(500, family, 64501, HOPS[family])
    assert first == feed.routes(500, family, 64501, HOPS[family])
    assert first != feed.routes(500, family, 64501, HOPS[family], seed=2)


def test_prefixes_are_distinct_and_of_many_lengths(family: Family) -> None:
    """None is inside another one; more than five lengths occur, the commonest is that of the wild."""
    prefixes = [route.prefix for route in feed.routes(2000, family, 64501, HOPS[family])]
    ordered = sorted(prefixes, key=lambda prefix: int(prefix.network_address))
    assert not [one for one, after in pairwise(ordered) if int(one.broadcast_address) >= int(after.network_address)]
    lengths = Counter(prefix.prefixlen for prefix in prefixes)
    assert len(lengths) > 5
    assert lengths.most_common(1)[0][0] == (24 if family is Family.IPV4 else 48)


def test_attribute_sets_are_shared_by_about_five_prefixes(family: Family) -> None:
    """Paths have two to six ASes and begin with the neighbour's."""
    routes = feed.routes(5000, family, 64501, HOPS[family])
    sets = {route.attributes for route in routes}
    assert 3 < len(routes) / len(sets) < 8
    assert {len(found.path_asns) for found in sets} == {2, 3, 4, 5, 6}
    assert {found.path_asns[0] for found in sets} == {64501}


def test_a_lab_gets_it_as_bird_configuration() -> None:
    """One line per prefix, one function per attribute set, in the order of the routes."""
    text = feed.bird_include(100, Family.IPV4, 64501, HOPS[Family.IPV4])
    routes = feed.routes(100, Family.IPV4, 64501, HOPS[Family.IPV4])
    assert text.count(" blackhole {") == len(routes)
    assert text.count("function ") == len({route.attributes for route in routes})
