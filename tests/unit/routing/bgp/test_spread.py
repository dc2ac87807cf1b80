from __future__ import annotations

from ipaddress import IPv4Address, ip_network

from routing.bgp.export import Exporter
from routing.bgp.policy import ImportCheck
from routing.bgp.rib import Peer, Rib
from routing.bgp.session import Established, treatment
from routing.bgp.spread import Send, Spread
from routing.bgp.values import (
    Attributes,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Segment,
    SegmentType,
    Speaker,
)

EVERY = (PrefixRule(ip_network("10.0.0.0/8"), 8, 32),)
SPEAKER = Speaker("s", Mode.TRANSPARENT, 65000, IPv4Address("192.0.2.254"), ())
PREFIXES = tuple(ip_network(f"10.0.{n}.0/24") for n in range(4))


class Bench:
    """A table and neighbours that are up."""

    def __init__(self, count: int) -> None:
        self.rib, self.spread = Rib(), Spread(Exporter(SPEAKER))
        self.peers = [self.add(number) for number in range(1, count + 1)]

    def add(self, number: int, accept: tuple[PrefixRule, ...] = EVERY) -> Peer:
        """Bring up a neighbour."""
        address = IPv4Address("192.0.2.0") + number
        imports, exports = ImportPolicy(accept=EVERY), ExportPolicy(accept=accept)
        neighbor = Neighbor(f"n{number}", 65000 + number, address, imports=imports, exports=exports)
        peer = Peer(address, neighbor, ImportCheck(neighbor, SPEAKER), internal=False, router_id=address)
        agreed = Established(address, IPv4Address("192.0.2.254"), frozenset(Family))
        self.spread.join(peer, treatment(neighbor, agreed, SPEAKER))
        return peer

    def said(self, number: int, *prefixes: Network) -> list[Send]:
        """Let a neighbour announce prefixes; return what others are told."""
        address = IPv4Address("192.0.2.0") + number
        path = (Segment(SegmentType.SEQUENCE, (65000 + number,)),)
        self.rib.announce(self.peers[number - 1], Attributes(next_hop=address, as_path=path), prefixes)
        return list(self.spread.changes(self.rib.take_changes()))


def test_messages_do_not_multiply_with_neighbours() -> None:
    """A hundred neighbours with one policy are told by one message."""
    bench = Bench(100)
    (send,) = bench.said(1, *PREFIXES)
    assert len(send.addresses) == 99
    assert send.prefixes == PREFIXES


def test_neighbours_with_another_policy_get_another_message() -> None:
    """Prefixes are filtered once per policy."""
    bench = Bench(2)
    bench.add(3, (PrefixRule.exact(PREFIXES[0]),))
    assert [(len(send.addresses), send.prefixes) for send in bench.said(1, *PREFIXES)] == [
        (1, PREFIXES),
        (1, PREFIXES[:1]),
    ]


def test_the_counts_follow_what_was_sent() -> None:
    """Announced, taken back, and gone with the session."""
    bench = Bench(3)
    first, second, third = bench.peers
    bench.said(1, *PREFIXES)
    bench.said(2, PREFIXES[0])
    assert bench.spread.advertised == {first: 1, second: 4, third: 4}
    bench.rib.withdraw(first, PREFIXES[:2])
    sends = list(bench.spread.changes(bench.rib.take_changes()))
    assert {send.attributes is None for send in sends} == {True, False}
    assert bench.spread.advertised == {first: 1, second: 2, third: 3}
    bench.spread.leave(third)
    assert third not in bench.spread.advertised
    assert bench.spread.treatment(third) is None


def test_a_neighbour_that_comes_again_starts_from_nothing() -> None:
    """Its table is sent whole, of one family if it asked for one."""
    bench = Bench(2)
    bench.said(1, *PREFIXES)
    again = bench.add(2)
    (send,) = bench.spread.table(again, bench.rib.destinations.values())
    assert send.addresses == (again.address,)
    assert send.prefixes == PREFIXES
    assert list(bench.spread.table(again, bench.rib.destinations.values(), Family.IPV6)) == []
    assert bench.spread.advertised[again] == 4
