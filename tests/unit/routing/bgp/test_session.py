from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from routing.bgp.session import Established, treatment
from routing.bgp.values import Family, Mode, Neighbor, Speaker


def test_neighbours_that_agreed_on_the_same_are_treated_the_same() -> None:
    """Names, policies and restart times are no part of it, so that one message can serve many."""
    listen = (IPv4Address(0), IPv6Address("2001:db8::1"))
    speaker = Speaker("s", Mode.ROUTER, 65000, IPv4Address(1), listen)
    one = Established(IPv4Address(5), ip_address("192.0.2.1"), frozenset({Family.IPV4}))
    two = Established(IPv4Address(6), ip_address("192.0.2.1"), frozenset({Family.IPV4}), restart_time=9)
    first = treatment(Neighbor("a", 65001), one, speaker)
    assert first == treatment(Neighbor("b", 65002), two, speaker)
    assert first.external
    assert first.next_hops == (IPv6Address("2001:db8::1"),)
    assert not treatment(Neighbor("c", 65000), one, speaker).external
    assert first.only_to_customer is None
    assert treatment(Neighbor("a", 65001, client=True), one, speaker).only_to_customer == 65000
