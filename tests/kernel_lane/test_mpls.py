"""Label switching (RFC 3032): pushed at one end, swapped in the middle, taken off at the other."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.kernel_lane.yard import ethertype, exchange

if TYPE_CHECKING:
    from tests.kernel_lane.yard import Yard

MPLS = 0x8847


def test_packets_follow_labels(yard: Yard) -> None:
    """The middle has no route to where they go."""
    subprocess.run(["modprobe", "-a", "mpls_router", "mpls_iptunnel"], check=True)
    yard.make("a", "r", "b")
    yard.cable("a/eth0 10.0.0.2/24", "r/e0 10.0.0.1/24")
    yard.cable("b/eth0 10.0.1.2/24", "r/e1 10.0.1.1/24")
    yard.forwarding("r")
    for place, device in (("r", "e0"), ("b", "eth0")):
        yard.write(place, "net/mpls/platform_labels", "1000")
        yard.write(place, f"net/mpls/conf/{device}/input", "1")
    yard.ip("a", "route add 10.9.0.1/32 encap mpls 100 via inet 10.0.0.1")
    yard.run("r", "ip", "-f", "mpls", *["route", "add", "100", "as", "200", "via", "inet", "10.0.1.2"])
    yard.run("b", "ip", "-f", "mpls", *["route", "add", "200", "dev", "lo"])
    yard.ip("b", "address add 10.9.0.1/32 dev lo", "route add default via 10.0.1.1")
    wire = yard.ear("r", "e1")
    exchange(yard.udp("a"), yard.udp("b", 7), ("10.9.0.1", 7))
    labels = [int.from_bytes(frame[14:18], "big") >> 12 for _, frame in wire.heard() if ethertype(frame) == MPLS]
    assert labels == [200]
