"""Which neighbour an address belongs to."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from routing.bgp.values import Neighbor
from routing.engines.gobgp_names import Names, key_of

A = Neighbor("a", 65001, ip_address("192.0.2.2"))


def test_an_address_belongs_to_its_neighbour_or_to_the_longest_range() -> None:
    """A neighbour that was removed is named by its address."""
    wide, narrow = (Neighbor(n, 1, range=ip_network(r)) for n, r in (("wide", "10.0.0.0/8"), ("narrow", "10.1.0.0/16")))
    names = Names((wide, A, narrow))
    addresses = ("192.0.2.2", "10.1.2.3", "10.2.0.1", "192.0.2.99", "2001:db8::1")
    assert [names.name(ip_address(a)) for a in addresses] == ["a", "narrow", "wide", "192.0.2.99", "2001:db8::1"]


def test_gobgpd_knows_neighbours_by_address_and_ranges_by_name() -> None:
    """The keys are its own."""
    assert key_of(A) == "192.0.2.2"
    assert key_of(Neighbor("many", 1, range=ip_network("10.0.0.0/8"))) == "many"


def test_ranges_have_no_address_to_wait_for() -> None:
    """Who will come is not known."""
    assert list(Names((A, Neighbor("many", 1, range=ip_network("10.0.0.0/8")))).addresses) == [A.address]
