"""GENEVE (RFC 8926) between two hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kernel_lane.yard import ethertype, exchange

if TYPE_CHECKING:
    from tests.kernel_lane.yard import Yard

VNI = 0xABCDE


def test_packets_of_an_overlay_travel_in_geneve(yard: Yard) -> None:
    """With the network's number, on UDP port 6081."""
    yard.make("a", "b")
    yard.cable("a/eth0 192.0.2.1/24", "b/eth0 192.0.2.2/24")
    for number, place in ((1, "a"), (2, "b")):
        add = f"link add gen0 type geneve id {VNI} remote 192.0.2.{3 - number}"
        yard.ip(place, add, f"address add 10.1.0.{number}/24 dev gen0", "link set gen0 up")
    wire = yard.ear("a", "eth0")
    exchange(yard.udp("a"), yard.udp("b", 7), ("10.1.0.2", 7), b"inside")
    (frame,) = (frame for _, frame in wire.heard() if ethertype(frame) == 0x0800 and frame.endswith(b"inside"))
    udp = frame[14 + 20 :]
    assert int.from_bytes(udp[2:4], "big") == 6081
    assert int.from_bytes(udp[12:15], "big") == VNI
